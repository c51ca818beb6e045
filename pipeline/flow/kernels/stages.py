"""The two stages between iterations, run over a whole level: the warp, and the median filter."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.flow.kernels.compiled import kernel
from pipeline.flow.kernels.layout import ARRAYS, GRADIENT_X, INVERSE
from pipeline.flow.kernels.median import MERGED, SORTED, merge_rows, pick_rows, sort_row
from pipeline.flow.kernels.vectors import FLOAT_BYTES, LANES
from pipeline.flow.kernels.warp import BORDER, TAP_BYTES, gather_row, linearise_row, place_row

ROWS_KEPT = 8
"""Sorted rows held at once: six are in use, and the remainder of eight is quick."""


@kernel
def row_index(level: Any, y: Any) -> Any:
    """Return the index of a row's first pixel; -1 and height are the rows outside."""
    return level.first + y * ARRAYS * level.stride


@kernel
def row_address(level: Any, y: Any) -> Any:
    """Return the address of that pixel."""
    return level.address + y * ARRAYS * level.stride * FLOAT_BYTES


@kernel
def warp_level(level: Any, at: Any, work: Any) -> None:
    """Warp the second frame by the flow and linearise the residual around it."""
    scratch = np.int64(work.scratch.ctypes.data)
    taps = np.int64(work.taps.ctypes.data)
    images = np.int64(work.previous.ctypes.data) + at * FLOAT_BYTES
    pitch = (level.width + 2 * BORDER) * TAP_BYTES
    stride, blocks = level.stride * FLOAT_BYTES, level.blocks
    for y in range(level.height):
        row = row_address(level, y)
        corner = (np.float32(y), np.float32(level.width + 1), np.float32(level.height + 1))
        place_row(row, stride, blocks, scratch, pitch, corner)
        gather_row(blocks, scratch, taps, pitch)
        linearise_row(row, stride, blocks, scratch, images + y * blocks * LANES * FLOAT_BYTES)
        for array in range(GRADIENT_X, INVERSE + 1):
            start = row_index(level, y) + array * level.stride
            for x in range(level.width, blocks * LANES):
                work.field[start + x] = np.float32(0)


@kernel
def filter_level(level: Any, array: Any, work: Any) -> None:
    """Filter one part of the flow in place, edges repeated."""
    height, blocks = level.height, level.blocks
    shift = array * level.stride * FLOAT_BYTES
    pitch = blocks * LANES * FLOAT_BYTES
    kept = np.int64(work.scratch.ctypes.data)
    merged = kept + ROWS_KEPT * SORTED * pitch
    for y in range(-2, 2):
        _sort(level, y, array, work)
    merge_rows(blocks, _kept(kept, -1, pitch), _kept(kept, 0, pitch), merged)
    for y in range(0, height, 2):
        _sort(level, y + 2, array, work)
        _sort(level, y + 3, array, work)
        turn = (y // 2) % 2
        upper = merged + turn * MERGED * pitch
        lower = merged + (1 - turn) * MERGED * pitch
        merge_rows(blocks, _kept(kept, y + 1, pitch), _kept(kept, y + 2, pitch), lower)
        pick_rows(
            blocks,
            upper,
            lower,
            (_kept(kept, y - 2, pitch), _kept(kept, y + 3, pitch)),
            (row_address(level, y) + shift, row_address(level, y + 1) + shift),
        )


@kernel
def _kept(start: Any, y: Any, pitch: Any) -> Any:
    """Return the address of a sorted row among those kept."""
    return start + (y % ROWS_KEPT) * SORTED * pitch


@kernel
def _sort(level: Any, y: Any, array: Any, work: Any) -> None:
    """Sort the neighbours of a row, or of the nearest row inside, and keep them."""
    inside = min(max(y, 0), level.height - 1)
    row = row_index(level, inside) + array * level.stride
    for x in range(1, 3):
        work.field[row - x] = work.field[row]
        work.field[row + level.width + x - 1] = work.field[row + level.width - 1]
    pitch = level.blocks * LANES * FLOAT_BYTES
    source = row_address(level, inside) + array * level.stride * FLOAT_BYTES
    sort_row(level.blocks, source, _kept(np.int64(work.scratch.ctypes.data), y, pitch))
