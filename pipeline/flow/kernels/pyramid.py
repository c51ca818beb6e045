"""Pyramid levels, upsampling of the flow, and the interleaved taps: plain loops, a few per cent.

Interpolation is ``a + (b - a) * t`` with the fused multiply-add, along x and then along y:
bit-equal to OpenCV 5's ``resize`` of float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.flow.kernels.compiled import kernel
from pipeline.flow.kernels.layout import MARGIN
from pipeline.flow.kernels.vectors import fused_multiply_add
from pipeline.flow.kernels.warp import BORDER, TAP_FLOATS

HALF = np.float32(0.5)


@kernel
def resize(
    source: Any, source_shape: Any, target: Any, target_shape: Any, scale: Any, factor: Any
) -> None:
    """Resize a plane bilinearly, pixel centres aligned and edges held, times a factor.

    Parameters
    ----------
    source, target : (array 1-D float32, int, int)
        Buffer, index of its first pixel and row pitch.
    source_shape, target_shape : (int, int)
        Height and width.
    scale : (float, float)
        Source pixels per target pixel along y and x.
    factor : float32
        What results are multiplied with.
    """
    pixels, first, pitch = source
    out, out_first, out_pitch = target
    width = target_shape[1]
    lefts = np.empty(width, np.int64)
    rights = np.empty(width, np.int64)
    parts = np.empty(width, np.float32)
    for x in range(width):
        lefts[x], rights[x], parts[x] = _neighbours(x, scale[1], source_shape[1])
    for y in range(target_shape[0]):
        top, bottom, part_y = _neighbours(y, scale[0], source_shape[0])
        top, bottom = first + top * pitch, first + bottom * pitch
        for x in range(width):
            left, right, part = lefts[x], rights[x], parts[x]
            upper = _between(pixels[top + left], pixels[top + right], part)
            lower = _between(pixels[bottom + left], pixels[bottom + right], part)
            out[out_first + y * out_pitch + x] = _between(upper, lower, part_y) * factor


@kernel
def _between(a: Any, b: Any, part: Any) -> Any:
    return fused_multiply_add(b - a, part, a)


@kernel
def _neighbours(position: Any, scale: Any, size: Any) -> Any:
    at = (position + 0.5) * scale - 0.5
    low = int(np.floor(at))
    if low < 0:
        return 0, 0, np.float32(0)
    if low >= size - 1:
        return size - 1, size - 1, np.float32(0)
    return low, low + 1, np.float32(at - low)


@kernel
def interleave(image: Any, shape: Any, pitch: Any, taps: Any) -> None:
    """Write image, x gradient and y gradient as taps with a border of zeros.

    The gradients are centred differences, halved one-sided ones at the edges.
    """
    height, width = shape
    row_floats = (width + 2 * BORDER) * TAP_FLOATS
    taps[: (height + 2 * BORDER) * row_floats + MARGIN] = np.float32(0)
    for y in range(height):
        here = y * pitch
        above, below = max(y - 1, 0) * pitch, min(y + 1, height - 1) * pitch
        out = (y + BORDER) * row_floats + BORDER * TAP_FLOATS
        for x in range(width):
            left, right = max(x - 1, 0), min(x + 1, width - 1)
            at = out + x * TAP_FLOATS
            taps[at] = image[here + x]
            taps[at + 1] = HALF * (image[here + right] - image[here + left])
            taps[at + 2] = HALF * (image[below + x] - image[above + x])
