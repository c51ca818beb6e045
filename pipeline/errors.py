"""Everything that can go wrong, as one tree.

::

    PipelineError
    ├── UsageError                 flags or inputs that cannot be used         exit status 2
    ├── NotFinite                  a network or a flow gave NaN: no fact about the data
    ├── WorkersLost                workers die before they begin, or cannot be reached
    ├── StoreError                 a store that cannot be read or written
    │   ├── DamagedShard           a shard that is truncated, foreign or inconsistent
    │   └── DiskFull               no room: the batch is handed back, nothing is lost
    └── SegmentFailure             a fact about the data: recorded, and the run goes on
        ├── VideoMissing  Ambiguous  NotInMirror            the source does not have it
        ├── Gone  Private  Removed  AgeRestricted  MembersOnly  GeoBlocked  Forbidden
        │   RateLimited  BotCheck  NetworkError  CutShort    the server does not give it
        │   Blocked  Unexplained
        ├── NotVideo  NoVideoStream  DecodeError  Truncated (OutsideVideo)  TooShort  TooLarge
        │   Unsupported                                      the file cannot be used
        └── Timeout  Poison                                  it hangs or kills its worker

Errors of the other packages, ``manifests.ManifestError`` and ``extractors.ExtractorError`` with
``WeightsError``, are re-exported here. Anything not in this tree is a bug and stops the run.

An exception that crosses processes hands all its fields to ``super().__init__`` and formats in
``__str__``; otherwise it cannot be unpickled.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from extractors._errors import ExtractorError, WeightsError
from manifests._errors import ManifestError, RowError

__all__ = [
    "FAILURES",
    "DamagedShard",
    "DiskFull",
    "ExtractorError",
    "ManifestError",
    "NotFinite",
    "PipelineError",
    "RowError",
    "SegmentFailure",
    "StoreError",
    "UsageError",
    "WeightsError",
    "WorkersLost",
    "segment_context",
]

NEVER_RETRIED = 1
A_FEW_ATTEMPTS = 3
ALWAYS_RETRIED = 1_000_000


class PipelineError(Exception):
    """Root of the pipeline's own errors."""


class UsageError(PipelineError):
    """Flags or inputs that cannot be used; the message says which to change."""


class NotFinite(PipelineError):
    """A network or a flow gave NaN or infinity: no fact about the data, so the run stops."""


class WorkersLost(PipelineError):
    """Workers die before they begin, or cannot be reached: no fact about the data."""


class StoreError(PipelineError):
    """A store that cannot be read or written."""


class DamagedShard(StoreError):
    """A shard that is truncated, foreign, or does not match its own checksums."""


class DiskFull(StoreError):
    """No room for a shard; the work is handed back and nothing is lost."""


class SegmentFailure(PipelineError):
    """A fact about one segment's data; recorded in the store, and the run goes on.

    Parameters
    ----------
    detail : str
        What was found, what was expected, and what to do.
    segment : str, optional
        Key of the segment, added by `segment_context` where it is known.

    Attributes
    ----------
    code : str
        Stable name in ``failures.csv`` and in the store.
    max_attempts : int
        After how many runs it is given up; 1 means never tried again (until the file changes).
    """

    code: ClassVar[str] = "failed"
    max_attempts: ClassVar[int] = NEVER_RETRIED

    def __init__(self, detail: str, segment: str = "") -> None:
        super().__init__(detail, segment)
        self.detail = detail
        self.segment = segment

    def __reduce__(self) -> tuple[type[SegmentFailure], tuple[str, str]]:
        return type(self), (self.detail, self.segment)

    def __str__(self) -> str:
        return f"segment {self.segment}: {self.detail}" if self.segment else self.detail


class VideoMissing(SegmentFailure):
    """No source has the video; taken up again whenever it appears."""

    code = "video_missing"
    max_attempts = ALWAYS_RETRIED


class Ambiguous(SegmentFailure):
    """Several files answer to one video id, or one trimmed file to several segments."""

    code = "ambiguous"
    max_attempts = ALWAYS_RETRIED


class NotInMirror(SegmentFailure):
    """A mirror that should have the video does not."""

    code = "not_in_mirror"


class Gone(SegmentFailure):
    """The server says that the video no longer exists (404, 410, unavailable)."""

    code = "gone"


class Private(SegmentFailure):
    """The uploader made the video private."""

    code = "private"


class Removed(SegmentFailure):
    """The video was removed by its uploader or for a policy or copyright reason."""

    code = "removed"


class AgeRestricted(SegmentFailure):
    """The video needs a signed-in adult."""

    code = "age"


class MembersOnly(SegmentFailure):
    """The video is for paying members."""

    code = "members"


class GeoBlocked(SegmentFailure):
    """The video is not available in this country."""

    code = "geo"


class Forbidden(SegmentFailure):
    """The server refuses (403)."""

    code = "forbidden"
    max_attempts = A_FEW_ATTEMPTS


class RateLimited(SegmentFailure):
    """The server asks for a pause (429)."""

    code = "rate_limited"
    max_attempts = ALWAYS_RETRIED


class BotCheck(SegmentFailure):
    """The server wants proof of a person; every video of this address is concerned."""

    code = "bot_check"
    max_attempts = ALWAYS_RETRIED


class NetworkError(SegmentFailure):
    """Name look-up, connection or server error that may pass."""

    code = "network"
    max_attempts = A_FEW_ATTEMPTS


class CutShort(SegmentFailure):
    """The transfer ended before the whole file had come."""

    code = "cut_short"
    max_attempts = A_FEW_ATTEMPTS


class Unexplained(SegmentFailure):
    """A refusal whose words are in no table; may pass, so tried a few times."""

    code = "unexplained"
    max_attempts = A_FEW_ATTEMPTS


class Blocked(SegmentFailure):
    """An address or scheme that the security rules refuse; asked again, as the rules may change."""

    code = "blocked"
    max_attempts = ALWAYS_RETRIED


class NotVideo(SegmentFailure):
    """The file is no video (HTML with status 200, an empty or foreign file)."""

    code = "not_video"


class NoVideoStream(SegmentFailure):
    """The container holds no video stream."""

    code = "no_video_stream"


class DecodeError(SegmentFailure):
    """The decoder gave up before it gave enough frames."""

    code = "decode_error"


class Truncated(SegmentFailure):
    """Less of the segment is there than ``--min-coverage`` asks for."""

    code = "truncated"


class OutsideVideo(Truncated):
    """The segment lies beyond the end of a whole file: another cut, or a mistaken declaration."""

    code = "outside_video"
    max_attempts = ALWAYS_RETRIED


class TooShort(SegmentFailure):
    """Fewer frames than one window, and ``--short fail`` was given; or no frame at all."""

    code = "too_short"


class TooLarge(SegmentFailure):
    """Pixels, duration, frame rate or size beyond the limits."""

    code = "too_large"


class Unsupported(SegmentFailure):
    """A file that the chosen decoder is known to get wrong, or a format not on the list."""

    code = "unsupported"


class Timeout(SegmentFailure):
    """Longer than the deadline."""

    code = "timeout"
    max_attempts = A_FEW_ATTEMPTS


class Poison(SegmentFailure):
    """Ended its worker twice while it ran alone."""

    code = "poison"


def _below(root: type[SegmentFailure]) -> Iterator[type[SegmentFailure]]:
    for child in root.__subclasses__():
        yield child
        yield from _below(child)


FAILURES: dict[str, type[SegmentFailure]] = {cls.code: cls for cls in _below(SegmentFailure)}


@contextmanager
def segment_context(key: str) -> Iterator[None]:
    """Put the segment's key on any `SegmentFailure` raised inside the block."""
    try:
        yield
    except SegmentFailure as failure:
        if failure.segment:
            raise
        raise type(failure)(failure.detail, key) from failure
