"""The nouns of a manifest: what was annotated, in seconds, and what was refused.

A `Segment` is one annotated stretch of one video (what Kinetics calls a clip). Its identity is
the video id with its times in integer milliseconds; label and split are opinions about it, so
mending a label never makes a new segment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

MILLISECONDS_PER_SECOND = 1000
LONGEST_FIELD = 4096  # characters of an id, label, split, group or address


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One manifest row: the half-open stretch ``[start_ms, end_ms)`` of one video.

    Attributes
    ----------
    video : str
        What a source looks up: a YouTube id, a file stem, or a path relative to a folder.
    start_ms : int
        Start in milliseconds from the start of the source video, at least 0.
    end_ms : int or None
        End in milliseconds, greater than `start_ms`; None means to the end of the video.
    labels : tuple of str
        Class names, none for an unlabelled test list, several for a multi-label dataset.
        No label contains ``|`` (it joins labels in text files and in the store).
    split : str
        ``train``, ``val``, ``test``, empty, or a name of the list's own (``fold 3``).
    group : str
        Segments of one group must stay on one side of a split (same people, same source).
    url : str
        Where the manifest says the video is; empty when it does not say.
    line : int
        Line of the manifest file, 1-based; 0 where there is no file.

    Raises
    ------
    ValueError
        On an empty or overlong id, control characters in it, negative times, or an end not after
        the start.
    """

    video: str
    start_ms: int = 0
    end_ms: int | None = None
    labels: tuple[str, ...] = ()
    split: str = ""
    group: str = ""
    url: str = ""
    line: int = 0

    def __post_init__(self) -> None:
        if not self.video or not self.video.isprintable():
            raise ValueError(f"video id is {self.video!r}, expected printable text")
        if len(self.video) > LONGEST_FIELD:
            raise ValueError(
                f"video id has {len(self.video)} characters, expected at most {LONGEST_FIELD}"
            )
        if self.start_ms < 0:
            raise ValueError(f"start {self.start_ms} ms is negative")
        if self.end_ms is not None and self.end_ms <= self.start_ms:
            raise ValueError(
                f"time_end {self.end_ms / MILLISECONDS_PER_SECOND} is not after "
                f"time_start {self.start_ms / MILLISECONDS_PER_SECOND}"
            )

    @property
    def key(self) -> str:
        """Identity as text: ``ID_000010_000020``, ``ID_10500ms_20000ms`` or ``ID_000000_end``."""
        times = [self.start_ms] + ([] if self.end_ms is None else [self.end_ms])
        if all(ms % MILLISECONDS_PER_SECOND == 0 for ms in times):
            written = [f"{ms // MILLISECONDS_PER_SECOND:06d}" for ms in times]
        else:
            written = [f"{ms}ms" for ms in times]
        if self.end_ms is None:
            written.append("end")
        return "_".join([self.video, *written])

    @property
    def seconds(self) -> float | None:
        """Length in seconds, None when the segment runs to the end of its video."""
        if self.end_ms is None:
            return None
        return (self.end_ms - self.start_ms) / MILLISECONDS_PER_SECOND


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that was refused: where, what was found there, and what to do."""

    where: str
    found: str
    remedy: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A whole list, read and checked.

    Attributes
    ----------
    dataset : str
        Name of the reader that understood it, e.g. ``kinetics``.
    path : Path
        The file or folder it came from.
    sha256 : str
        Digest of the file's bytes (of the sorted relative paths for a folder).
    segments : tuple of Segment
        In file order, keys unique.
    rejects : tuple of Reject
        Refused rows, in file order.
    classes : tuple of str
        Every class name in its stable index order.
    """

    dataset: str
    path: Path
    sha256: str
    segments: tuple[Segment, ...]
    rejects: tuple[Reject, ...] = ()
    classes: tuple[str, ...] = field(default=())

    def __iter__(self) -> Iterator[Segment]:
        return iter(self.segments)

    def __len__(self) -> int:
        return len(self.segments)
