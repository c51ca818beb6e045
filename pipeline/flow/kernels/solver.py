"""The algorithm: pyramid, warps, median filters and the iterations between them, in one call.

Follows the trajectory of OpenCV's DualTVL1: levels from coarse to fine, dual variables zeroed per
level and kept over its warps, the median before each outer round, and the stop test after every
iteration on the sum of squared changes. What differs from OpenCV is rounding alone, and through it
now and then the iteration at which the stop test fires.

Iterations run in blocks as a wavefront: row y at iteration k, then row y - 1 at k + 1, and so on,
so that rows come from the second-level cache and not from the third. A block is run only where the
decay of the error says that the test will not fire inside it; if it does all the same, up to
`BLOCK` - 1 iterations more than OpenCV's are made, which brings the flow nearer to convergence by
less than the tolerance that the test allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pipeline.flow.kernels.compiled import cached_kernel, kernel
from pipeline.flow.kernels.layout import (
    ARRAYS,
    DUAL_XY,
    DUAL_YY,
    FLOW_X,
    FLOW_Y,
    MARGIN,
    array_stride,
    block_count,
    field_floats,
)
from pipeline.flow.kernels.median import MERGED, SORTED
from pipeline.flow.kernels.pyramid import interleave, resize
from pipeline.flow.kernels.stages import (
    ROWS_KEPT,
    filter_level,
    row_address,
    row_index,
    warp_level,
)
from pipeline.flow.kernels.sweep import sweep_row
from pipeline.flow.kernels.vectors import FLOAT_BYTES, LANES
from pipeline.flow.kernels.warp import (
    BORDER,
    SCRATCH_ARRAYS,
    TAP_FLOATS,
)

BLOCK = 4
"""Iterations of a wavefront."""
SAFETY = 1.5
"""A block runs if the predicted error before its last iteration exceeds the threshold so often."""
CACHE_LINE_FLOATS = 16


class Settings(NamedTuple):
    """`pipeline.flow.Parameters` as the kernels take them."""

    step: float
    bound: float
    ratio: float
    epsilon: float
    scale_step: float
    warps: int
    inner_iterations: int
    outer_iterations: int
    median: bool


class Workspace(NamedTuple):
    """Memory of one call, which the caller holds as long as the call lasts.

    Attributes
    ----------
    levels : array, shape (L, 3), int64
        Height, width and first float of each pyramid level, finest first; rows are padded to whole
        vectors.
    previous, following : array, float32
        The frames' pyramids.
    field : array, float32
        The rows of the level in work (see `layout`).
    taps : array, float32
        The second frame and its gradients, interleaved; between levels, the coarser flow.
    scratch, step : array, float32
        Rows in work, and a row of tau and one of zeros.
    """

    levels: Any
    previous: Any
    following: Any
    field: Any
    taps: Any
    scratch: Any
    step: Any


class Level(NamedTuple):
    """One pyramid level in the field: sizes in pixels, vectors, floats, and addresses in bytes."""

    height: int
    width: int
    blocks: int
    stride: int
    first: int
    address: int


def workspace(shapes: Sequence[tuple[int, int]]) -> Workspace:
    """Allocate what one call on these pyramid levels needs: about 80 bytes a pixel."""
    height, width = shapes[0]
    levels, end = [], 0
    for level_height, level_width in shapes:
        levels.append((level_height, level_width, end))
        end += level_height * _pitch(level_width)
    taps = (height + 2 * BORDER) * (width + 2 * BORDER) * TAP_FLOATS + MARGIN
    rows = max(SCRATCH_ARRAYS, ROWS_KEPT * SORTED + 2 * MERGED)
    sizes = (end, end, field_floats(height, width), taps, rows * _pitch(width), 2 * _pitch(width))
    return Workspace(np.array(levels, np.int64), *(np.empty(size, np.float32) for size in sizes))


_blocks = kernel(block_count)
_stride = kernel(array_stride)


def _pitch(width: int) -> int:
    return block_count(width) * LANES


@cached_kernel
def solve(previous: Any, following: Any, flow: Any, settings: Any, work: Any) -> Any:
    """Compute the flow of one pair.

    Parameters
    ----------
    previous, following : array, shape (H, W), uint8
    flow : array, shape (H, W, 2), float32
        Where the result goes.
    settings : Settings
    work : Workspace
        Of frames of this size; used by one call at a time.

    Returns
    -------
    iterations, overshoots : int
        Iterations over all levels, and how many ran past the stop test inside a block.
    """
    _build(previous, work.previous, work.levels, settings.scale_step)
    _build(following, work.following, work.levels, settings.scale_step)
    iterations, overshoots = 0, 0
    coarsest = len(work.levels) - 1
    for number in range(coarsest, -1, -1):
        level = _enter(number, work)
        if number < coarsest:
            coarser = work.levels[number + 1]
            _upsample(work.taps, coarser[0], coarser[1], work.field, level, settings.scale_step)
        at = work.levels[number][2]
        interleave(
            work.following[at:], (level.height, level.width), level.blocks * LANES, work.taps
        )
        work.step[:] = np.float32(0)
        work.step[: level.width] = np.float32(settings.step)
        made, missed = _relax(level, at, settings, work)
        iterations += made
        overshoots += missed
        if number:
            _leave(work.field, level, work.taps)
    for array in range(2):
        for y in range(level.height):
            row = row_index(level, y) + (FLOW_X + array) * level.stride
            for x in range(level.width):
                flow[y, x, array] = work.field[row + x]
    return iterations, overshoots


@kernel
def _build(frame: Any, pixels: Any, levels: Any, scale_step: Any) -> None:
    height, width, _ = levels[0]
    pitch = _blocks(width) * LANES
    for y in range(height):
        for x in range(width):
            pixels[y * pitch + x] = frame[y, x]
    for number in range(1, len(levels)):
        above, here = levels[number - 1], levels[number]
        resize(
            (pixels, above[2], _blocks(above[1]) * LANES),
            (above[0], above[1]),
            (pixels, here[2], _blocks(here[1]) * LANES),
            (here[0], here[1]),
            (1 / scale_step, 1 / scale_step),
            np.float32(1),
        )


@kernel
def _enter(number: Any, work: Any) -> Any:
    """Clear the field for a level and return where it lies."""
    height, width, _ = work.levels[number]
    stride = _stride(width)
    base = np.int64(work.field.ctypes.data)
    margin = (-base // FLOAT_BYTES) % CACHE_LINE_FLOATS + MARGIN
    work.field[: (height + 2) * ARRAYS * stride + 2 * MARGIN] = np.float32(0)
    first = margin + ARRAYS * stride
    return Level(height, width, _blocks(width), stride, first, base + first * FLOAT_BYTES)


@kernel
def _leave(field: Any, level: Any, planes: Any) -> None:
    """Copy the flow out, x plane then y plane."""
    area = level.height * level.width
    for array in range(2):
        for y in range(level.height):
            row = row_index(level, y) + (FLOW_X + array) * level.stride
            for x in range(level.width):
                planes[array * area + y * level.width + x] = field[row + x]


@kernel
def _upsample(
    planes: Any, height: Any, width: Any, field: Any, level: Any, scale_step: Any
) -> None:
    """Resize the coarser flow into the field, its lengths grown with its size."""
    for array in range(2):
        resize(
            (planes, array * height * width, width),
            (height, width),
            (field, row_index(level, 0) + (FLOW_X + array) * level.stride, ARRAYS * level.stride),
            (level.height, level.width),
            (height / level.height, width / level.width),
            np.float32(1 / scale_step),
        )


@kernel
def _relax(level: Any, at: Any, settings: Any, work: Any) -> Any:
    """Solve one level: warps, and outer rounds until the update is small."""
    errors = np.empty(BLOCK, np.float64)
    threshold = settings.epsilon * settings.epsilon * level.height * level.width
    iterations, overshoots = 0, 0
    for _ in range(settings.warps):
        warp_level(level, at, work)
        error = np.inf
        rounds = 0
        while error > threshold and rounds < settings.outer_iterations:
            if settings.median:
                filter_level(level, FLOW_X, work)
                filter_level(level, FLOW_Y, work)
            error, made, missed = _iterate(level, threshold, settings, work, errors)
            rounds += 1
            iterations += made
            overshoots += missed
    return iterations, overshoots


@kernel
def _iterate(level: Any, threshold: Any, settings: Any, work: Any, errors: Any) -> Any:
    """Iterate until the stop test fires; return the last error, iterations and overshoots."""
    error, decay = np.inf, 0.0
    done, missed = 0, 0
    while done < settings.inner_iterations and error > threshold:
        block = BLOCK
        while block > 1 and (
            done + block > settings.inner_iterations
            or not error * decay ** (block - 1) > SAFETY * threshold
        ):
            block //= 2
        before = error
        _wavefront(level, block, settings, work, errors)
        for k in range(block - 1):
            before = errors[k]
            if before <= threshold:
                missed += 1
        error = errors[block - 1]
        decay = min(error / before, 1.0)
        done += block
    return error, done, missed


@kernel
def _wavefront(level: Any, block: Any, settings: Any, work: Any, errors: Any) -> None:
    """Run a block of iterations, each one row behind the one before it."""
    errors[:block] = 0.0
    height, width = level.height, level.width
    step = np.int64(work.step.ctypes.data)
    zeros = step + level.blocks * LANES * FLOAT_BYTES
    for front in range(height + block):
        for k in range(max(0, front - height), min(block, front + 1)):
            y = front - k
            if y == height:
                _repeat_last_row(work.field, level)
            errors[k] += sweep_row(
                row_address(level, y),
                level.stride * FLOAT_BYTES,
                level.blocks,
                zeros if y == height else step,
                np.float32(settings.bound),
                np.float32(settings.ratio),
            )
            row = row_index(level, y)
            for array in (FLOW_X, FLOW_Y):
                last = row + array * level.stride + width
                work.field[last] = work.field[last - 1]
            if y == 0:
                _clear_row_above(work.field, level)


@kernel
def _repeat_last_row(field: Any, level: Any) -> None:
    """Make the row below the image equal to the last one: no vertical gradient there."""
    for array in (FLOW_X, FLOW_Y):
        last = row_index(level, level.height - 1) + array * level.stride
        below = last + ARRAYS * level.stride
        for x in range(level.blocks * LANES):
            field[below + x] = field[last + x]


@kernel
def _clear_row_above(field: Any, level: Any) -> None:
    """Zero what the first sweep wrote above the image: no dual variables outside."""
    for array in (DUAL_XY, DUAL_YY):
        row = row_index(level, -1) + array * level.stride
        for x in range(level.blocks * LANES):
            field[row + x] = np.float32(0)
