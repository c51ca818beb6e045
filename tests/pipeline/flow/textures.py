"""Made-up frames for flow tests: smooth texture, moved by a known field."""

from __future__ import annotations

import cv2
import numpy as np


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return a smooth random float32 picture in 0..255."""
    noise = np.random.default_rng(seed).random((height, width), np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.0)
    low, high = smooth.min(), smooth.max()
    return (smooth - low) * (255 / max(high - low, 1e-6))


def moved_pair(
    height: int, width: int, dx: float, dy: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return two grey uint8 frames; the second shows the first moved by (dx, dy) pixels."""
    border = 32
    whole = texture(height + 2 * border, width + 2 * border, seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) + border
    second = cv2.remap(whole, x - np.float32(dx), y - np.float32(dy), cv2.INTER_CUBIC)
    first = whole[border : border + height, border : border + width]
    return tuple(np.rint(np.clip(p, 0, 255)).astype(np.uint8) for p in (first, second))


def end_point_difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the length of the difference of two flows, pixel by pixel."""
    return np.hypot(a[..., 0] - b[..., 0], a[..., 1] - b[..., 1])
