"""Where things lie in memory: the work field of one pyramid level.

Rows are interleaved: row y holds ten arrays one after another, so that a sweep reads one stretch of
memory per row and the row before is still in the cache. Row 0 stands above the image and row
``height + 1`` below; every array has a left margin of `MARGIN` floats and is padded on the right to
whole vectors and one more.
"""

from __future__ import annotations

from pipeline.flow.kernels.vectors import FLOAT_BYTES, LANES

ARRAYS = 10
GRADIENT_X, GRADIENT_Y, RESIDUAL, INVERSE, FLOW_X, FLOW_Y = range(6)
"""Warped gradient, constant part of the residual, minus 1 / |gradient| ** 2, and the flow."""
DUAL_XX, DUAL_XY, DUAL_YX, DUAL_YY = range(6, 10)
"""The dual variables over tau / theta: of the flow's x part along x and y, then of its y part."""

MARGIN = 16
ALIASING_FLOATS = 128
FEWEST_BLOCKS = 2
"""The pipelined sweep needs two vectors in a row; narrower images are padded."""


def block_count(width: int) -> int:
    """Return the vectors in a row."""
    return max(FEWEST_BLOCKS, (width + LANES - 1) // LANES)


def array_stride(width: int) -> int:
    """Return the floats from one array of a row to the next: whole cache lines, never aliasing."""
    vectors = max(FEWEST_BLOCKS, (width + LANES - 1) // LANES) + 1
    floats = (MARGIN + vectors * LANES + 15) // 16 * 16
    return floats + 16 if floats % ALIASING_FLOATS == 0 else floats


def field_floats(height: int, width: int) -> int:
    """Return the floats of a work field, with room for alignment."""
    return (height + 2) * ARRAYS * array_stride(width) + 2 * MARGIN


def offset_bytes(array: int) -> int:
    """Return the factor of the stride that leads to an array."""
    return array * FLOAT_BYTES
