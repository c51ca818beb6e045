"""Decoding: which frames a video holds, and the wanted ones as pixels. Frame-exact, streaming.

What: `probe` reads a header, `frames` makes one pass for all requests of a segment and yields the
wanted frames in presentation order, `count_samples` does the same without converting any.

Why this way. Frames are chosen by timestamp, never by index, so variable rates, edit lists and
seeks cannot shift them; nothing is trimmed or re-encoded on disk, because stream copies cut at
keyframes and re-encoding changes pixels. Times count from the container's start time. Files are
data from strangers: only local regular files of known formats are opened, and limits are checked
before the first frame is decoded. What goes wrong is a `pipeline.errors.SegmentFailure`.

Backends are modules of this package (`names`); this package is the only importer of ``av`` and
``decord``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.decode._backend import load, names
from pipeline.decode._stream import FrameStream
from pipeline.decode._video import Counts, DecodeOptions, Limits, Request, VideoInfo
from pipeline.sampling import Grid

__all__ = [
    "Counts",
    "DecodeOptions",
    "FrameStream",
    "Limits",
    "Request",
    "VideoInfo",
    "count_samples",
    "frames",
    "names",
    "probe",
]


def probe(path: Path, *, limits: Limits | None = None, decoder: str = "pyav") -> VideoInfo:
    """Read a video's header and first frame.

    Parameters
    ----------
    path : Path
        A local regular file.
    limits : Limits, optional
        What it may at most be.
    decoder : str
        The backend that will decode it: some refuse files that others take.

    Raises
    ------
    SegmentFailure
        `VideoMissing`, `NotVideo`, `NoVideoStream`, `TooLarge`, `Unsupported`, `Truncated`,
        `DecodeError`, `TooShort` or `Timeout`, with what was found.
    UsageError
        When there is no such decoder.
    """
    return load(decoder).probe(Path(path), limits or Limits())


def frames(
    path: Path,
    requests: Sequence[Request],
    *,
    info: VideoInfo | None = None,
    options: DecodeOptions | None = None,
) -> FrameStream:
    """Decode once for all requests and stream the wanted frames.

    Parameters
    ----------
    path : Path
        A local regular file.
    requests : sequence of Request
        At least one; a frame's `SampledFrame.samples` follow their order.
    info : VideoInfo, optional
        What `probe` said of the file by the same decoder; it is probed when absent.
    options : DecodeOptions, optional
        Backend, threads, limits and the stall deadline.

    Returns
    -------
    FrameStream
        An iterable of `SampledFrame`; its counts are complete after iteration.

    Raises
    ------
    SegmentFailure
        As `probe`, and while iterating `DecodeError` or `TooShort` when there is no frame at all
        and `Timeout` when the decoder stalls. Damage after the first frame is no exception: it is
        in `FrameStream.damage`.
    """
    if not requests:
        raise ValueError("frames() was given no request, expected at least one")
    options = options or DecodeOptions()
    backend = load(options.decoder)
    info = info or backend.probe(Path(path), options.limits)
    return FrameStream(Path(path), requests, info, options, backend)


def count_samples(path: Path, grid: Grid, *, options: DecodeOptions | None = None) -> int:
    """Return how many samples of a grid the video serves; decodes, converts nothing."""
    stream = frames(path, [Request(grid, ())], options=options)
    for _ in stream:
        pass
    return stream.counts[0].served
