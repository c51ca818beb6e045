"""What is known about a video, what may be asked of it, and how it is to be decoded."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from pipeline.errors import TooLarge, UsageError
from pipeline.frames import View
from pipeline.pixels import UPRIGHT, Orientation
from pipeline.sampling import Grid


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a video may at most be; checked from its header, before anything is decoded.

    Attributes
    ----------
    pixels : int
        Width times height.
    seconds : int
        Duration.
    fps : int
        Mean frame rate.
    bytes : int
        Size of the file.
    """

    pixels: int = 4096 * 2304
    seconds: int = 6 * 3600
    fps: int = 240
    bytes: int = 16 * 1024**3

    def check_size(self, width_px: int, height_px: int) -> None:
        """Raise `TooLarge` for a picture beyond the limit."""
        if width_px * height_px > self.pixels:
            raise TooLarge(
                f"pictures of {width_px}x{height_px}, expected at most {self.pixels} pixels"
            )

    def check_bytes(self, size: int) -> None:
        """Raise `TooLarge` for a file beyond the limit."""
        if size > self.bytes:
            raise TooLarge(f"a file of {size} bytes, expected at most {self.bytes}")

    def check_time(self, seconds: Fraction | None, fps: Fraction) -> None:
        """Raise `TooLarge` for a duration or a frame rate beyond the limit."""
        if seconds is not None and seconds > self.seconds:
            raise TooLarge(f"{float(seconds):.0f} s long, expected at most {self.seconds} s")
        if fps > self.fps:
            raise TooLarge(f"{float(fps):g} frames a second, expected at most {self.fps}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeOptions:
    """How a video is decoded; only `decoder` can change a number.

    Attributes
    ----------
    decoder : str
        Name of a backend (see `pipeline.decode.names`) or the dotted path of a module.
    threads : int
        Decoding threads of one video.
    limits : Limits
        What a video may at most be.
    stall_seconds : float
        Longest time spent inside the decoder without a new frame.
    """

    decoder: str = "pyav"
    threads: int = 1
    limits: Limits = field(default_factory=Limits)
    stall_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise UsageError(f"{self.threads} decoding threads, expected at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoInfo:
    """What a header and the first frame say of a video.

    All times count from second 0 of the video, which is its container's start time (the start of
    its earliest stream), so they are never negative for a sane file.

    Attributes
    ----------
    container, codec, pixel_format : str
        FFmpeg's names.
    width_px, height_px : int
        Of the upright picture: rotation applied, sample aspect not (see `sample_aspect`).
    sample_aspect : Fraction
        Width of a stored pixel over its height. Recorded and not applied: networks were trained
        on stored pixels, and OpenCV, decord and FFmpeg's ``scale`` ignore it alike.
    orientation : Orientation
        What makes the stored picture upright, from the display matrix.
    start_seconds : Fraction
        Where second 0 stands in the container's own time.
    first_frame_seconds : Fraction
        When the first frame is shown.
    duration_seconds : Fraction or None
        End of the video stream by the header, from second 0.
    nominal_fps : Fraction
        Mean frame rate by the header; 25 where it has none.
    variable_rate : bool
        The header's mean and its finest rate differ.
    header_frames : int or None
        Number of frames by the header.
    header_frames_trusted : bool
        Whether that number is what decoding will give: an index of samples, none hidden by an
        edit list. Only information; nothing here relies on it.
    stream_index, video_streams : int
        The stream that was chosen, and out of how many. The choice is that of the ``ffmpeg``
        command: no cover picture, flagged default, largest, first.
    """

    container: str
    codec: str
    pixel_format: str
    width_px: int
    height_px: int
    sample_aspect: Fraction = Fraction(1)
    orientation: Orientation = UPRIGHT
    start_seconds: Fraction
    first_frame_seconds: Fraction
    duration_seconds: Fraction | None
    nominal_fps: Fraction
    variable_rate: bool
    header_frames: int | None
    header_frames_trusted: bool
    stream_index: int
    video_streams: int

    @property
    def frame_interval(self) -> Fraction:
        """Nominal seconds from one frame to the next."""
        return 1 / self.nominal_fps


@dataclass(frozen=True, slots=True)
class Request:
    """What one sampling and its geometries want of a segment.

    Attributes
    ----------
    grid : Grid
        The sample times.
    views : tuple of View
        How each sampled frame is wanted; empty to count samples without converting any.
    """

    grid: Grid
    views: tuple[View, ...]


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the samples of one request; see `pipeline.sampling.Selector`."""

    served: int = 0
    repeated: int = 0
    dropped: int = 0
    missing: int = 0
