"""decord, for those who ask for it: guarded, because it is known to be wrong on some files.

decord 0.6 seeks by the packet index of an FFmpeg of 2018. Measured against FFmpeg's own frames it
gives others after a seek into an open group of pictures, in files with an edit list (a
stream-copied trim: 59 of 60 wrong), in MPEG-TS (53 of 60), MPEG-PS, ASF and GIF, and it cannot open
AV1. So every file is first read by PyAV, packets only, and refused by name (`Unsupported`) when it
is of such a kind, or when decord's own list of frames does not agree with the packets. There is
never a quiet change of decoder.

decord converts to RGB at native size itself, which is why it is another recipe, and it decodes
ahead without a bound, which is why it is not the default. It can hang; only the driver's watchdog
helps then.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.decode import _container
from pipeline.decode._backend import Decoded, Wishes
from pipeline.decode._video import DecodeOptions, Limits, VideoInfo
from pipeline.errors import DecodeError, Unsupported, UsageError
from pipeline.pixels import Picture

__all__ = ["decode", "probe"]

REMEDY = "use --decoder pyav"
TIME_TOLERANCE_SECONDS = 0.002
SOUND_CONTAINERS = ("mov", "matroska", "avi")
REORDERING_CODECS = ("h264", "hevc")


def probe(path: Path, limits: Limits) -> VideoInfo:
    """Probe with PyAV, then refuse what decord would get wrong."""
    _decord()
    info = _container.probe(path, limits)
    if info.codec == "av1":
        raise Unsupported(f"AV1, which decord cannot open; {REMEDY}")
    if not any(name in info.container for name in SOUND_CONTAINERS):
        raise Unsupported(
            f"a container ({info.container}) in which decord's frames were found wrong or never "
            f"compared; {REMEDY}"
        )
    times = _shown_times(path, limits)
    _agree(_reader(path, threads=1), times)
    return info


def decode(
    path: Path, info: VideoInfo, wishes: Wishes, options: DecodeOptions
) -> Iterator[Decoded]:
    """Yield frames in presentation order; see `pipeline.decode._backend.Backend`."""
    times = _shown_times(path, options.limits)
    reader = _reader(path, options.threads)
    _agree(reader, times)
    for place in range(max(0, bisect_right(times, wishes.start) - 2), len(times)):
        yield Decoded(times[place], partial(_picture, reader, place))


def _decord() -> Any:
    try:
        import decord
    except ImportError as error:
        raise UsageError(
            f"decord cannot be imported here ({error}): it has wheels for x86-64 only; {REMEDY}"
        ) from error
    return decord


def _reader(path: Path, threads: int) -> Any:
    decord = _decord()
    try:
        return decord.VideoReader(str(path.absolute()), ctx=decord.cpu(0), num_threads=threads)
    except (decord.DECORDError, RuntimeError) as error:
        raise DecodeError(f"decord cannot open it ({_first_line(error)}); {REMEDY}") from error


def _picture(reader: Any, place: int) -> Picture:
    try:
        image = reader[place].asnumpy()
    except _decord().DECORDError as error:
        raise DecodeError(f"decord stopped at frame {place}: {_first_line(error)}") from error
    return Picture((np.asarray(image, np.uint8),))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _shown_times(path: Path, limits: Limits) -> list[Fraction]:
    """Return the shown times by the packets alone; refuse edit lists and open groups."""
    with _container.opened(path, limits) as (container, stream):
        clock = _container.Clock(container, stream)
        reorders = stream.codec_context.codec.canonical_name in REORDERING_CODECS
        ticks: list[int] = []
        keyframe: int | None = None
        for packet in container.demux(stream):
            if packet.size == 0:
                continue
            if packet.pts is None:
                raise Unsupported(f"packets without timestamps, which decord mixes up; {REMEDY}")
            if packet.is_discard:
                raise Unsupported(f"an edit list, which decord ignores; {REMEDY}")
            if packet.is_keyframe:
                keyframe = packet.pts
            elif reorders and keyframe is not None and packet.pts < keyframe:
                raise Unsupported(
                    f"an open group of pictures at {float(clock.seconds(keyframe)):g} s, into "
                    f"which decord cannot seek; {REMEDY}"
                )
            ticks.append(packet.pts)
        return [clock.seconds(tick) for tick in sorted(ticks)]


def _agree(reader: Any, times: list[Fraction]) -> None:
    """Refuse a file whose frames decord counts or times otherwise than its packets say."""
    if len(reader) != len(times):
        raise Unsupported(
            f"decord counts {len(reader)} frames where the packets give {len(times)}; {REMEDY}"
        )
    own = np.asarray(reader.get_frame_timestamp(range(len(times))))[:, 0]
    shown = np.array([float(time - times[0]) for time in times])
    off = np.abs(own - own[0] - shown).max()
    if not off <= TIME_TOLERANCE_SECONDS:
        raise Unsupported(f"decord times frames up to {off:g} s off from their packets; {REMEDY}")
