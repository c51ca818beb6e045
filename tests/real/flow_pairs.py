"""Over two hundred frame pairs of the real videos, the same ones on every machine.

Every video gives pairs from five places; the sizes cycle through those that networks take, native
ones, odd ones and tiny ones. Every fifth pair skips two frames, for violent motion.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import cv2
import numpy as np

VIDEOS = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "videos"
WIDTHS_AND_HEIGHTS = ((340, 256), (224, 224), (171, 128), (256, 256), (121, 81), (64, 48), (33, 17))
PLACES = (0.05, 0.3, 0.5, 0.7, 0.9)
SUFFIXES = (".mp4", ".avi", ".mkv", ".mpg", ".webm")
DARKENED = 9
"""Every so many-th pair is darkened to an eighth, for want of dark films."""


def videos() -> list[Path]:
    """Return the real videos, in a fixed order; none where the data folder is absent."""
    return sorted(path for path in VIDEOS.rglob("*") if path.suffix in SUFFIXES)


def consecutive(
    video: Path, places: Sequence[int], size: tuple[int, int]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield grey frames k and k + 1 of a video for each place k, at a size (width, height)."""
    frames = _decoded(video)
    for place in places:
        yield _grey(frames[place], size), _grey(frames[place + 1], size)


def pairs(chosen: Sequence[Path]) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield name, previous and following grey uint8 frames of some videos."""
    number = 0
    for video in chosen:
        frames = _decoded(video)
        for place in PLACES if len(frames) > 8 else ():
            at = int(place * (len(frames) - 4))
            step = 3 if number % 5 == 4 else 1
            size = WIDTHS_AND_HEIGHTS[number % len(WIDTHS_AND_HEIGHTS)]
            shift = 3 if number % DARKENED == 0 else 0
            first, second = (_grey(frames[k], size) >> shift for k in (at, at + step))
            name = f"{video.name}@{at}+{step} {size[0]}x{size[1]}{' dark' if shift else ''}"
            yield name, first, second
            number += 1


def _decoded(video: Path) -> list[av.VideoFrame]:
    try:
        with av.open(str(video), metadata_errors="ignore") as container:
            return list(container.decode(video=0))
    except (av.FFmpegError, IndexError):
        return []


def _grey(frame: av.VideoFrame, size: tuple[int, int]) -> np.ndarray:
    small = cv2.resize(frame.to_ndarray(format="rgb24"), size, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
