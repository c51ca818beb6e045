"""Videos that carry their own truth: every frame shows its number as a bar code.

``write`` encodes one with PyAV, ``number_in`` reads a decoded picture back. Which frame came is
thus known from the picture alone, whatever the decoder says of timestamps and indices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BITS_PER_ROW, ROWS = 6, 2
BITS = BITS_PER_ROW * ROWS
DARK, BRIGHT = 50, 205


@dataclass(frozen=True)
class NumberedVideo:
    """A video to be made; frame ``n`` is shown at ``ticks[n] * unit`` and shows number ``n``."""

    name: str
    ticks: tuple[int, ...]
    unit: Fraction
    codec: str = "libx264"
    size: tuple[int, int] = (64, 96)  # height, width of the upright picture
    pixel_format: str = "yuv420p"
    options: dict[str, str] = field(default_factory=dict)
    turned_degrees: int = 0
    sample_aspect: Fraction = Fraction(1)

    @property
    def seconds(self) -> list[Fraction]:
        return [tick * self.unit for tick in self.ticks]


def constant(frames: int, fps: Fraction = Fraction(25), first: int = 0) -> dict[str, object]:
    """Ticks and unit of a constant rate."""
    return {"ticks": tuple(range(first, first + frames)), "unit": 1 / fps}


def picture(number: int, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 picture that shows a number, most significant bit first."""
    height, width = size
    bits = [(number >> (BITS - 1 - k)) & 1 for k in range(BITS)]
    rows = np.minimum(np.arange(height) * ROWS // height, ROWS - 1)
    columns = np.minimum(np.arange(width) * BITS_PER_ROW // width, BITS_PER_ROW - 1)
    levels = np.where(np.array(bits).reshape(ROWS, BITS_PER_ROW), BRIGHT, DARK).astype(np.uint8)
    plane = levels[rows[:, None], columns[None, :]]
    return np.repeat(plane[:, :, None], 3, axis=2)


def number_in(image: np.ndarray) -> int:
    """Number that a decoded picture shows; fails on one that shows none clearly."""
    plane = image if image.ndim == 2 else image[:, :, 1]
    height, width = plane.shape
    number = 0
    for row in range(ROWS):
        for column in range(BITS_PER_ROW):
            y = slice(int((row + 0.3) * height / ROWS), int((row + 0.7) * height / ROWS))
            x = slice(
                int((column + 0.3) * width / BITS_PER_ROW),
                int((column + 0.7) * width / BITS_PER_ROW),
            )
            level = float(plane[y, x].mean())
            clear = abs(level - DARK) < 40 or abs(level - BRIGHT) < 40
            assert clear, f"bit at row {row}, column {column} has level {level:.0f}"
            number = number * 2 + (level > (DARK + BRIGHT) / 2)
    return number


def write(path: Path, video: NumberedVideo) -> None:
    """Encode a numbered video; the container is that of the path's suffix."""
    turns = video.turned_degrees // 90
    height, width = video.size if turns % 2 == 0 else video.size[::-1]
    index_first = {"movflags": "faststart"} if path.suffix in (".mp4", ".mov") else {}
    with av.open(str(path), "w", container_options=index_first) as container:
        stream = container.add_stream(video.codec, rate=1 / _interval(video))
        stream.height, stream.width = height, width
        stream.pix_fmt = video.pixel_format
        stream.codec_context.time_base = video.unit
        stream.codec_context.thread_count = 1
        stream.options = dict(video.options)
        if video.sample_aspect != 1:
            stream.codec_context.sample_aspect_ratio = video.sample_aspect
        if turns:
            stream.set_display_rotation(video.turned_degrees)
        container.start_encoding()
        for number, tick in enumerate(video.ticks):
            stored = np.rot90(picture(number, video.size), -turns)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(stored), format="rgb24")
            frame.pts, frame.time_base = tick, video.unit
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _interval(video: NumberedVideo) -> Fraction:
    if len(video.ticks) < 2:
        return Fraction(1, 25)
    mean = Fraction(video.ticks[-1] - video.ticks[0], len(video.ticks) - 1) * video.unit
    return mean.limit_denominator(30_000)


def copy_from(source: Path, target: Path, start: Fraction) -> None:
    """Cut a video at a time without re-encoding, as ``ffmpeg -ss START -i ... -c copy`` does.

    The copy begins at a keyframe before `start`, at a negative time, which an MP4 hides behind an
    edit list.
    """
    with (
        av.open(str(source)) as reader,
        av.open(str(target), "w", container_options={"avoid_negative_ts": "disabled"}) as writer,
    ):
        stream = reader.streams.video[0]
        copied = writer.add_stream_from_template(stream)
        shift = int(start / stream.time_base)
        reader.seek(shift, stream=stream)
        for packet in reader.demux(stream):
            if packet.dts is None:
                continue
            packet.pts -= shift
            packet.dts -= shift
            packet.stream = copied
            writer.mux(packet)


def variable(frames: int, seed: int, gaps: Sequence[int] = (1, 1, 1, 2, 3, 7)) -> tuple[int, ...]:
    """Ticks of a variable rate, from a seed."""
    steps = np.random.default_rng(seed).choice(gaps, frames - 1)
    return (0, *np.cumsum(steps).tolist())
