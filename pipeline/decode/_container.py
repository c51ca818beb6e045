"""Opening a stranger's file with FFmpeg, safely, and reading what it says of itself.

Only local regular files; only FFmpeg's ``file`` protocol and the formats of `FORMATS`, so that no
play list, concatenation script or image pattern leads elsewhere; limits are checked on the header,
before the first frame is decoded. Whatever FFmpeg raises leaves here as a `SegmentFailure`.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.decode._video import Limits, VideoInfo
from pipeline.errors import (
    DecodeError,
    NotVideo,
    NoVideoStream,
    Timeout,
    TooShort,
    Truncated,
    Unsupported,
    VideoMissing,
)
from pipeline.pixels import UPRIGHT, Orientation

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.error import FFmpegError
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

VIDEO_FORMATS = (
    "mov", "matroska", "avi", "mpeg", "mpegts", "flv", "asf", "gif", "mpegvideo", "h264", "hevc",
    "m4v", "ivf", "obu", "rm", "mxf", "nut", "dv", "apng", "wtv",
)  # fmt: skip
AUDIO_FORMATS = ("mp3", "ogg", "wav", "flac", "aac")  # known, so that they are named as audio
FORMATS = VIDEO_FORMATS + AUDIO_FORMATS

FALLBACK_FPS = Fraction(25)
MICROSECONDS = 1_000_000
PROBE_SECONDS = 30.0
PACKETS_WITHOUT_FRAME = 5_000
"""Packets that may pass before the first frame comes; a recording may start far from a keyframe."""
SNIFFED_BYTES = 12


@contextmanager
def opened(path: Path, limits: Limits) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file and choose its video stream, within the limits.

    Raises
    ------
    SegmentFailure
        `VideoMissing`, `NotVideo`, `NoVideoStream`, `Unsupported`, `TooLarge`, `Truncated` or
        `Timeout`.
    """
    import av

    limits.check_bytes(_regular_size(path))
    try:
        container = av.open(
            f"file:{path.absolute()}",
            metadata_errors="ignore",
            options={"protocol_whitelist": "file", "format_whitelist": ",".join(FORMATS)},
            timeout=(PROBE_SECONDS, PROBE_SECONDS),
        )
    except av.error.ExitError as error:
        raise Timeout(f"opening took longer than {PROBE_SECONDS:g} s") from error
    except (av.error.FFmpegError, ValueError) as error:
        raise _unopened(path, error) from error
    with container:
        stream = chosen_stream(container)
        context = stream.codec_context
        limits.check_size(context.width, context.height)
        context.options = {**context.options, "max_pixels": str(limits.pixels)}
        yield container, stream


def _regular_size(path: Path) -> int:
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise VideoMissing(f"{path.name} cannot be read ({reason})") from error
    if not stat.S_ISREG(status.st_mode):
        raise NotVideo(f"{path.name} is no regular file, expected a local video file")
    return status.st_size


def _unopened(path: Path, error: Exception) -> NotVideo | Truncated:
    reason = getattr(error, "strerror", None) or type(error).__name__
    with path.open("rb") as file:
        head = file.read(SNIFFED_BYTES)
    if head[4:8] == b"ftyp":
        return Truncated(
            f"an MP4 of {path.stat().st_size} bytes whose index cannot be read ({reason}); "
            "fetch the file again"
        )
    found = "an empty file" if not head else f"a file that begins {head!r}"
    return NotVideo(f"{found} ({reason}), expected a video: {', '.join(VIDEO_FORMATS[:6])}, ...")


def chosen_stream(container: InputContainer) -> VideoStream:
    """Return the stream that the ``ffmpeg`` command would take.

    No cover picture; then those flagged default; then the largest picture; then the first.
    """
    from av.stream import Disposition

    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    known = [s for s in streams if getattr(s, "codec_context", None)]  # None without a decoder
    if not streams:
        raise NoVideoStream(f"{container.format.name} with {len(container.streams)} streams, none "
                            "of them video, expected a video stream")  # fmt: skip
    if not known:
        raise Unsupported("a video codec that this FFmpeg does not know")
    return max(
        known,
        key=lambda s: (
            bool(s.disposition & Disposition.default),
            s.codec_context.width * s.codec_context.height,
        ),
    )


def origin_seconds(container: InputContainer) -> Fraction:
    """Return second 0 of the video in the container's own time, exactly.

    FFmpeg rounds a container's start to a microsecond, which would break ties between frames; the
    stream that starts there tells it exactly.
    """
    rounded = Fraction(container.start_time or 0, MICROSECONDS)  # None where nothing tells it
    exact = [
        stream.start_time * stream.time_base
        for stream in container.streams
        if stream.start_time is not None and stream.time_base is not None
    ]
    near = [start for start in exact if abs(start - rounded) <= Fraction(1, MICROSECONDS)]
    return min(near, default=rounded)


class Clock:
    """Presentation times of frames in the order in which the decoder gives them.

    A frame's time is its pts. AVI stores none: FFmpeg counts its chunks (dts), and for MPEG-4
    part 2, whose B-frames lie packed in their neighbour's chunk, only that count is in order.
    A frame without any time follows the last one by the nominal interval, and time never steps
    back.
    """

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self._origin = origin_seconds(container)
        self._unit = Fraction(stream.time_base or Fraction(1, MICROSECONDS))
        self._interval = 1 / nominal_fps(stream)
        self._by_dts = container.format.name == "avi" and "mpeg4" in stream.codec_context.name
        self._last: Fraction | None = None

    def of(self, frame: VideoFrame) -> Fraction:
        """Return the next frame's time from second 0."""
        times = (frame.dts, frame.pts) if self._by_dts else (frame.pts, frame.dts)
        ticks = next((ticks for ticks in times if ticks is not None), None)
        last = self._last
        if ticks is None:
            seconds = Fraction(0) if last is None else last + self._interval
        else:
            seconds = self.seconds(ticks)
        if last is not None and seconds < last:
            seconds = last + self._interval
        self._last = seconds
        return seconds

    def seconds(self, ticks: int) -> Fraction:
        """Return a timestamp of the stream as seconds from second 0."""
        return ticks * self._unit - self._origin

    def ticks(self, seconds: Fraction) -> int:
        """Return the last timestamp of the stream not after a time."""
        return int((seconds + self._origin) // self._unit)


def nominal_fps(stream: VideoStream) -> Fraction:
    """Return the mean frame rate by the header, else FFmpeg's guess, else 25."""
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate:
            return Fraction(rate)
    return FALLBACK_FPS


def probe(path: Path, limits: Limits) -> VideoInfo:
    """Read header and first frame of a file with FFmpeg; see `pipeline.decode.probe`."""
    with opened(path, limits) as (container, stream):
        fps = nominal_fps(stream)
        clock = Clock(container, stream)
        duration = _duration(container, stream, clock)
        limits.check_time(duration, fps)
        first = _first_frame(container, stream)
        limits.check_size(first.width, first.height)
        orientation = orientation_of(first)
        height_px, width_px = orientation.upright(first.height, first.width)
        base = stream.base_rate
        return VideoInfo(
            container=container.format.name,
            codec=stream.codec_context.codec.canonical_name,
            pixel_format=first.format.name,
            width_px=width_px,
            height_px=height_px,
            sample_aspect=stream.sample_aspect_ratio or Fraction(1),
            orientation=orientation,
            start_seconds=origin_seconds(container),
            first_frame_seconds=clock.of(first),
            duration_seconds=duration,
            nominal_fps=fps,
            variable_rate=base is not None and base not in (fps, 2 * fps),
            header_frames=stream.frames or None,
            header_frames_trusted=_index_complete(container, stream),
            stream_index=stream.index,
            video_streams=len(container.streams.video),
        )


def _duration(container: InputContainer, stream: VideoStream, clock: Clock) -> Fraction | None:
    if stream.duration is not None:
        return clock.seconds(stream.duration + (stream.start_time or 0))
    if container.duration is None:
        return None
    duration = Fraction(container.duration, MICROSECONDS)
    if "matroska" in container.format.name:  # its header counts from 0, not from the start
        duration -= origin_seconds(container)
    return duration


def _index_complete(container: InputContainer, stream: VideoStream) -> bool:
    entries = stream.index_entries
    if "mov" not in container.format.name or not stream.frames or len(entries) != stream.frames:
        return False
    return not (entries[0].is_discard or entries[-1].is_discard)


def _first_frame(container: InputContainer, stream: VideoStream) -> VideoFrame:
    import av

    refused: FFmpegError | None = None
    try:
        for number, packet in enumerate(container.demux(stream)):
            try:
                for frame in packet.decode():
                    return frame
            except av.error.FFmpegError as error:
                refused = error
            if number >= PACKETS_WITHOUT_FRAME:
                break
    except av.error.FFmpegError as error:
        refused = error
    raise no_frame(refused)


def no_frame(refused: FFmpegError | None) -> DecodeError | TooShort | Timeout:
    """Return what it means that a file gave no frame at all."""
    import av

    if isinstance(refused, av.error.ExitError):
        return Timeout(f"reading took longer than {PROBE_SECONDS:g} s")
    if refused is not None:
        return DecodeError(f"no frame could be decoded ({refused.strerror}), expected some")
    return TooShort("the video stream holds no frame, expected at least one")


def orientation_of(frame: VideoFrame) -> Orientation:
    """Return what makes a frame upright, from its display matrix; the nearest quarter turn.

    The matrix maps a stored point (x, y) to (a x + c y, b x + d y), as in QuickTime. It belongs to
    the stream; PyAV copies a frame's side data at a cost like that of decoding, so it is read once.
    """
    from av.sidedata.sidedata import Type

    side_data: Any = frame.side_data  # by its Type; the package's stubs say by name
    data = side_data.get(Type.DISPLAYMATRIX)
    if data is None:
        return UPRIGHT
    a, b, _, c, d = np.frombuffer(data, np.int32)[:5].tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(transpose=True, mirror_x=c < 0, mirror_y=b < 0)
    return Orientation(mirror_x=a < 0, mirror_y=d < 0)
