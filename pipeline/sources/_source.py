"""What a source is: one question, "where is the video of this segment?", and its answer.

A source either has its videos on disk (`local`, so that the driver can ask at plan time, without
the network and before any task is made) or brings them when asked, on a worker, into scratch
space. A public module of this package declares::

    SCHEMES: tuple[str, ...]                          what its ``--videos`` values begin with
    SYNTAX: str                                       one line for the help, with an example
    make(text: str, options: SourceOptions) -> Source

and is found by its presence; there is no list to edit. A module that needs an extra says so in
`make`, as a `UsageError` with the command that installs it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from manifests._segment import Segment
from pipeline.errors import Ambiguous

VIDEO_EXTENSIONS = frozenset(
    {".3gp", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"}
    | {".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"}
)

GIBIBYTE = 1 << 30


@dataclass(frozen=True, slots=True)
class Located:
    """A video on disk, ready to be opened.

    Attributes
    ----------
    path : Path
        Absolute path of a regular file.
    trimmed : bool
        True when the file is the segment itself, its first frame at the segment's start; False
        when it is the full video, to be cut by time.
    size : int
        Size in bytes.
    mtime_ns : int
        Time of the last change in nanoseconds; with the size it tells whether a file was replaced.
        For what was downloaded to scratch it is 0: a download has no age.
    scratch : bool
        True when the file is to be given back (`Sources.release`) after use.
    bare : bool
        True when the file is trimmed by declaration (``trimmed:``) and named by its video alone:
        it is one segment of the video, and nothing says which (see `check_is_one`).
    """

    path: Path
    trimmed: bool
    size: int
    mtime_ns: int
    scratch: bool = False
    bare: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """How sources may behave; the same for all of one run.

    Attributes
    ----------
    scratch : Path or None
        Folder for downloads, on the disk of the machine that downloads; None takes a folder of
        this user's under the system's temporary one.
    scratch_bytes : int
        Most bytes that downloads may take there, over all processes of the machine.
    max_bytes : int
        Largest video that is accepted.
    deadline_seconds, stall_seconds : float
        Longest time for one download, and for one silence of the server.
    max_redirects : int
        Redirects that are followed, each address checked anew.
    allow_private : bool
        Allow addresses of the own machine and of private networks.
    requests_per_second : float
        Mean rate of requests to one server from one address of this machine.
    requests_at_a_time : int
        Most requests to one server at a time from this machine.
    attempts : int
        Tries of one download within one run, for failures that may pass.
    backoff_seconds : float
        First pause between two tries, doubled for each further one.
    accounts, parts : Path or None
        Folders of the accounts with servers (pauses, rates) and of unfinished downloads; None
        keeps the accounts for the whole machine, and the downloads no longer than the process.
    cookies, proxy : Path or None
        Files that hold a cookie jar (Netscape format) and a proxy's address. Their contents are
        read where they are used and never shown.
    """

    scratch: Path | None = None
    scratch_bytes: int = 20 * GIBIBYTE
    max_bytes: int = 4 * GIBIBYTE
    deadline_seconds: float = 1800.0
    stall_seconds: float = 30.0
    max_redirects: int = 5
    allow_private: bool = False
    requests_per_second: float = 10.0
    requests_at_a_time: int = 8
    attempts: int = 4
    backoff_seconds: float = 1.0
    accounts: Path | None = None
    parts: Path | None = None
    cookies: Path | None = None
    proxy: Path | None = None

    def __post_init__(self) -> None:
        for name in ("scratch_bytes", "max_bytes", "deadline_seconds", "stall_seconds",
                     "requests_per_second", "requests_at_a_time", "attempts"):  # fmt: skip
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected more than 0")

    @property
    def largest_bytes(self) -> int:
        """Largest download that is accepted and has room."""
        return min(self.max_bytes, self.scratch_bytes)


class Source(Protocol):
    """Where videos come from.

    Attributes
    ----------
    local : bool
        True when `locate` is a cheap look-up without the network.
    """

    @property
    def local(self) -> bool:
        """Whether `locate` is a cheap look-up without the network."""
        ...

    def locate(self, segment: Segment) -> Located:
        """Return the segment's video on disk, downloading it first where the source is remote.

        Raises
        ------
        SegmentFailure
            `VideoMissing`, `NotInMirror` or `Gone` when the source does not have it, and any
            other class of ``pipeline.errors`` that says why it cannot be had.
        """
        ...


@runtime_checkable
class Sequential(Protocol):
    """A source that is read best from front to back: archives. ``pipeline fetch`` does so."""

    def parts(self) -> tuple[tuple[str, ...], ...]:
        """Return its parts; what an earlier group holds overrides the later groups."""
        ...

    def members(self, part: str, names: Mapping[str, bool]) -> Iterator[tuple[str, Located]]:
        """Read one part once and yield the wanted members, in scratch, each to be released.

        `names` says of each name whether it is a segment's own (`trimmed_name`).
        """
        ...


def check_is_one(located: Located, segment: Segment) -> None:
    """Refuse a file that could be any of several wanted segments of its video.

    To be called for a segment whose video has others in the list.

    Raises
    ------
    Ambiguous
        When the file is trimmed and has a bare name.
    """
    if located.bare:
        own = trimmed_name(segment)
        named = f"name the file of this one {own!r}" if own else "give the full video"
        raise Ambiguous(
            f"the list has several segments of {segment.video!r}, and the trimmed file under its "
            f"bare name could be any of them; {named}"
        )


def extension_of(name: str) -> str:
    """Return a video's extension in lower case, or nothing.

    Examples
    --------
    >>> extension_of("a/b.WebM"), extension_of("a.b/c.txt")
    ('.webm', '')
    """
    bare = without_extension(name)
    return name[len(bare) :].lower()


def without_extension(name: str) -> str:
    """Return `name` without its extension, if that is a video's.

    Examples
    --------
    >>> without_extension("yoga/a.b.MP4"), without_extension("a.b")
    ('yoga/a.b', 'a.b')
    """
    stem, dot, extension = name.rpartition(".")
    return stem if stem and dot + extension.lower() in VIDEO_EXTENSIONS else name


def trimmed_name(segment: Segment) -> str | None:
    """Return the name, without extension, of a file that holds just this segment.

    None for a segment that runs to the end of its video: a trimmed file has two times.

    Examples
    --------
    >>> trimmed_name(Segment(video="-abc", start_ms=10_000, end_ms=20_000))
    '-abc_000010_000020'
    >>> trimmed_name(Segment(video="yoga/x.avi", start_ms=500, end_ms=2_000))
    'yoga/x_500ms_2000ms'
    """
    if segment.end_ms is None:
        return None
    bare = without_extension(segment.video)
    if bare == segment.video:
        return segment.key
    return Segment(video=bare, start_ms=segment.start_ms, end_ms=segment.end_ms).key
