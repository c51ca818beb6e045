"""Flow made visible: hue is direction, saturation is speed; still is white.

Right is red, down is yellow-green, left is cyan, up is violet. (The idea of the colour code: Baker
et al., *A Database and Evaluation Methodology for Optical Flow*, IJCV 2011,
doi:10.1007/s11263-010-0390-2.)
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pipeline.errors import UsageError
from pipeline.flow._opencv import opencv
from pipeline.flow.backends import Field
from pipeline.frames import Pixels

SMALLEST_RANGE_PX = 1.0
"""A still picture is not blown up to noise."""
RANGE_PERCENTILE = 99.5
WHEEL_SHARE = 5
"""The colour wheel's side is the picture's shorter side over this."""
HUES = np.array([0.0, 4.0, 2.0])
"""Where red, green and blue peak on a circle of six."""


def speed_range(flow: Field) -> float:
    """Return the speed in pixels per frame that is shown in full colour."""
    speed = np.hypot(flow[..., 0], flow[..., 1])
    return max(float(np.percentile(speed, RANGE_PERCENTILE)), SMALLEST_RANGE_PX)


def colours(flow: Field, range_px: float) -> Pixels:
    """Return an RGB picture of a flow ``(H, W, 2)``; speeds beyond `range_px` are saturated."""
    saturation = np.clip(np.hypot(flow[..., 0], flow[..., 1]) / range_px, 0, 1)[..., np.newaxis]
    hue = np.arctan2(flow[..., 1], flow[..., 0])[..., np.newaxis] * (3 / np.pi) % 6
    distance = np.abs((hue - HUES + 3) % 6 - 3)
    pure = np.clip(2 - distance, 0, 1)
    picture: Pixels = np.rint(255 * (1 - saturation * (1 - pure))).astype(np.uint8)
    return picture


def side_by_side(frame: Pixels, flow: Field, range_px: float) -> Pixels:
    """Return frame, coloured flow with the colour wheel in a corner, and speed in grey, in a row.

    Parameters
    ----------
    frame : array, shape (H, W, 3), uint8
        The first frame of the pair, RGB.
    flow : array, shape (H, W, 2), float32
    range_px : float
        Speed shown in full colour and in white.
    """
    coloured = colours(flow, range_px)
    side = max(9, min(frame.shape[:2]) // WHEEL_SHARE)
    wheel = _wheel(side)[: frame.shape[0], : frame.shape[1]]
    coloured[: wheel.shape[0], : wheel.shape[1]] = wheel
    speed = np.clip(np.hypot(flow[..., 0], flow[..., 1]) / range_px, 0, 1)
    grey = np.repeat(np.rint(255 * speed).astype(np.uint8)[..., np.newaxis], 3, axis=2)
    return np.concatenate((frame, coloured, grey), axis=1)


def _wheel(side: int) -> Pixels:
    """Return the colours of all directions, speed growing from the middle outwards."""
    axis = np.linspace(-1, 1, side, dtype=np.float32)
    flow = np.stack(np.meshgrid(axis, axis), axis=2)
    picture = colours(flow, 1.0)
    picture[np.hypot(flow[..., 0], flow[..., 1]) > 1] = 0
    return picture


def write_picture(picture: Pixels, path: Path) -> None:
    """Write an RGB picture; the suffix chooses the format."""
    if not opencv().imwrite(str(path), picture[..., ::-1]):
        raise UsageError(f"{path}: cannot be written; expected a .png or .jpg in a folder")


def write_video(pictures: Iterable[Pixels], path: Path, fps: float) -> int:
    """Write RGB pictures of one size as MPEG-4; return how many there were."""
    cv2 = opencv()
    writer = None
    count = 0
    for picture in pictures:
        if writer is None:
            size = (picture.shape[1], picture.shape[0])
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
            if not writer.isOpened():
                raise UsageError(f"{path}: cannot be written as mp4")
        count += 1
        writer.write(np.ascontiguousarray(picture[..., ::-1]))
    if writer is not None:
        writer.release()
    return count
