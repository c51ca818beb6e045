"""Warping one row: the second frame and its gradient sampled where the flow points.

Cubic interpolation with A = -0.75 at exact positions, bit-equal to OpenCV 5's ``remap`` (OpenCV 4
rounds positions to 1/32 px); samples outside the frame are 0. Image, x and y gradient share
positions and weights, so they lie interleaved, four floats a pixel, and one load brings all three.
A zero border of `BORDER` pixels and a clamp of the position replace every test.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from pipeline.flow.kernels.layout import (
    FLOW_X,
    FLOW_Y,
    GRADIENT_X,
    GRADIENT_Y,
    INVERSE,
    RESIDUAL,
)
from pipeline.flow.kernels.vectors import (
    FLOAT,
    FLOAT_BYTES,
    INDEX,
    LANES,
    QUAD,
    VECTOR,
    VECTOR_BYTES,
    WORD,
    Emitter,
    Lanes,
)

BORDER = 4
TAP_FLOATS = 4
TAP_BYTES = TAP_FLOATS * FLOAT_BYTES
CUBIC_A = -0.75
SMALLEST_SQUARE = 1e-12
SCRATCH_ARRAYS = 13
"""Eight weights, an offset and four samples a pixel."""
OFFSETS, SAMPLES = 8, 9
FURTHEST_BEFORE = 3.0
"""A position this far outside, or one pixel beyond the far side, meets only zeros."""


def _cubic_weights(emitter: Emitter, t: Lanes) -> list[Lanes]:
    """Return the weights of the taps at -1, 0, 1, 2 for a position ``t`` in [0, 1).

    In exactly OpenCV 5's order of operations, found by comparing bits.
    """
    fma, one, a = emitter.fma, emitter.constant(1.0), emitter.constant(CUBIC_A)
    rest, square = one - t, t * t
    slope = fma(emitter.constant(CUBIC_A + 2), t, emitter.constant(-(CUBIC_A + 3)))
    first = a * (t * (rest * rest))
    second = fma(slope, square, one)
    last = a * (square * rest)
    return [first, second, one - first - second - last, last]


@intrinsic  # type: ignore[untyped-decorator]
def place_row(
    typing: Any, current: Any, stride: Any, blocks: Any, scratch: Any, pitch: Any, corner: Any
) -> Any:
    """Write weights and tap offsets of one row's positions ``(x, y) + flow`` to the scratch.

    Parameters
    ----------
    current, stride, blocks : uintp
        The row, as in `sweep_row`.
    scratch : uintp
        Address of `SCRATCH_ARRAYS` arrays of ``8 * blocks`` floats.
    pitch : uintp
        Bytes of a row of taps.
    corner : (float32, float32, float32)
        y of the row, and the largest x and y that are still distinguished.
    """
    address = types.uintp
    signature = types.void(*[address] * 5, types.UniTuple(types.float32, 3))

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        current, stride, blocks, scratch, pitch, corner = arguments
        emitter = Emitter(builder)
        y, last_x, last_y = (emitter.splat(builder.extract_value(corner, k)) for k in range(3))
        span = builder.mul(blocks, emitter.word(VECTOR_BYTES))
        lanes = ir.VectorType(INDEX, LANES)
        ramp = Lanes(emitter, ir.Constant(VECTOR, [float(k) for k in range(LANES)]))
        row_bytes = emitter.splat(builder.trunc(pitch, INDEX)).value

        def turn(i: Any, _: list[Lanes]) -> list[Lanes]:
            x_bytes = builder.mul(i, emitter.word(VECTOR_BYTES))
            first = builder.uitofp(builder.mul(i, emitter.word(LANES)), FLOAT)
            row = emitter.pointer(current, x_bytes)
            u = emitter.load(row, builder.mul(stride, emitter.word(FLOW_X)))
            v = emitter.load(row, builder.mul(stride, emitter.word(FLOW_Y)))
            before = emitter.constant(-FURTHEST_BEFORE)
            at_x = emitter.min(emitter.max(emitter.splat(first) + ramp + u, before), last_x)
            at_y = emitter.min(emitter.max(y + v, before), last_y)
            whole_x, whole_y = emitter.floor(at_x), emitter.floor(at_y)
            out = emitter.pointer(scratch, x_bytes)
            weights = _cubic_weights(emitter, at_x - whole_x)
            weights += _cubic_weights(emitter, at_y - whole_y)
            for k, weight in enumerate(weights):
                emitter.store(weight, out, builder.mul(span, emitter.word(k)))
            shift = ir.Constant(lanes, [BORDER - 1] * LANES)
            column = builder.add(builder.fptosi(whole_x.value, lanes), shift)
            line = builder.add(builder.fptosi(whole_y.value, lanes), shift)
            offset = builder.add(
                builder.mul(line, row_bytes),
                builder.mul(column, ir.Constant(lanes, [TAP_BYTES] * LANES)),
            )
            emitter.store(Lanes(emitter, offset), out, builder.mul(span, emitter.word(OFFSETS)))
            return []

        emitter.loop(0, blocks, [], turn)
        return context.get_dummy_value()

    return signature, generate


def _weigh(emitter: Emitter, weights: Sequence[Lanes], values: Sequence[Lanes]) -> Lanes:
    """Return the weighted sum, first to last, as OpenCV 5 adds it up."""
    total = weights[0] * values[0]
    for weight, value in zip(weights[1:], values[1:], strict=True):
        total = emitter.fma(weight, value, total)
    return total


@intrinsic  # type: ignore[untyped-decorator]
def gather_row(typing: Any, blocks: Any, scratch: Any, taps: Any, pitch: Any) -> Any:
    """Sample image and gradients at the positions in the scratch, into the scratch."""
    signature = types.void(*[types.uintp] * 4)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        blocks, scratch, taps, pitch = arguments
        emitter = Emitter(builder)
        span = builder.mul(blocks, emitter.word(VECTOR_BYTES))
        pixels = builder.mul(blocks, emitter.word(LANES))
        samples = emitter.pointer(scratch, builder.mul(span, emitter.word(SAMPLES)))

        def turn(x: Any, _: list[Lanes]) -> list[Lanes]:
            here = emitter.pointer(scratch, builder.mul(x, emitter.word(FLOAT_BYTES)))

            def scalar(array: int, kind: Any) -> Any:
                return emitter.load(here, builder.mul(span, emitter.word(array)), kind).value

            corner = emitter.pointer(taps, builder.zext(scalar(OFFSETS, INDEX), WORD))
            weights = [emitter.splat(scalar(k, FLOAT), QUAD.count) for k in range(8)]
            lines = [
                _weigh(
                    emitter,
                    weights[:4],
                    [
                        emitter.load(corner, builder.add(line, emitter.word(k * TAP_BYTES)), QUAD)
                        for k in range(4)
                    ],
                )
                for line in (builder.mul(pitch, emitter.word(k)) for k in range(4))
            ]
            total = _weigh(emitter, weights[4:], lines)
            emitter.store(total, samples, builder.mul(x, emitter.word(TAP_BYTES)))
            return []

        emitter.loop(0, pixels, [], turn)
        return context.get_dummy_value()

    return signature, generate


@intrinsic  # type: ignore[untyped-decorator]
def linearise_row(
    typing: Any, current: Any, stride: Any, blocks: Any, scratch: Any, previous: Any
) -> Any:
    """Write the warped gradient, the constant part of the residual and -1 / |gradient|^2.

    ``previous`` is the address of the first frame's row.
    """
    signature = types.void(*[types.uintp] * 5)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        current, stride, blocks, scratch, previous = arguments
        emitter = Emitter(builder)
        span = builder.mul(blocks, emitter.word(VECTOR_BYTES))
        samples = emitter.pointer(scratch, builder.mul(span, emitter.word(SAMPLES)))

        def turn(i: Any, _: list[Lanes]) -> list[Lanes]:
            x_bytes = builder.mul(i, emitter.word(VECTOR_BYTES))
            here = emitter.at(samples, builder.mul(x_bytes, emitter.word(TAP_FLOATS)))
            image, gx, gy = _planes(emitter, here)
            row = emitter.pointer(current, x_bytes)

            def place(array: int) -> Any:
                return builder.mul(stride, emitter.word(array))

            u, v = emitter.load(row, place(FLOW_X)), emitter.load(row, place(FLOW_Y))
            before = emitter.load(emitter.pointer(previous, x_bytes))
            residual = image - gx * u - gy * v - before
            square = gx * gx + gy * gy
            square = emitter.max(square, emitter.constant(SMALLEST_SQUARE))
            for array, lanes in (
                (GRADIENT_X, gx),
                (GRADIENT_Y, gy),
                (RESIDUAL, residual),
                (INVERSE, emitter.constant(-1.0) / square),
            ):
                emitter.store(lanes, row, place(array))
            return []

        emitter.loop(0, blocks, [], turn)
        return context.get_dummy_value()

    return signature, generate


def _planes(emitter: Emitter, pointer: Any) -> list[Lanes]:
    """Load eight pixels of four floats and return their first three channels."""
    pixels = [emitter.load(pointer, k * VECTOR_BYTES) for k in range(TAP_FLOATS)]
    planes = []
    for channels in ((0, 1), (2, 2)):
        picks = [4 * k + channel for channel in channels for k in range(4)]
        low = emitter.shuffle(pixels[0], pixels[1], picks)
        high = emitter.shuffle(pixels[2], pixels[3], picks)
        for half in range(2):
            order = [4 * half + k for k in range(4)]
            planes.append(emitter.shuffle(low, high, order + [8 + k for k in order]))
    return planes[:3]
