"""One primal-dual iteration on one row: the kernel where nearly all the time goes.

With u the flow, p its dual over tau / theta, g the warped gradient and r the residual::

    primal(y):  c = clamp(-(r + g . u) / |g|^2, -lambda theta, +lambda theta)
                u = u + c g + tau div(p)
    dual(y-1):  p = (p + grad u) / (theta / tau + |grad u|) * theta / tau

``primal`` of row y and ``dual`` of row y - 1 run in one pass over x. That is legal: the primal step
reads the old p of rows y and y - 1; the dual step needs the new u of rows y - 1 (from the pass
before) and y (just made). The sum of squared changes of u comes with it. Scaling p by theta / tau
saves four multiplications a pixel and moves no result beyond rounding.

Three stages of different vectors overlap in the loop (primal of vector i, gradient and square root
of i - 1, division of i - 2): the chain load, multiply, square root, divide, store is longer than
the processor can hide otherwise. Measured in the L1 cache: 1.25 ns a pixel with the stages in
order, 1.05 so.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from pipeline.flow.kernels.layout import (
    ARRAYS,
    DUAL_XX,
    DUAL_XY,
    DUAL_YX,
    DUAL_YY,
    FLOW_X,
    FLOW_Y,
    GRADIENT_X,
    GRADIENT_Y,
    INVERSE,
    RESIDUAL,
)
from pipeline.flow.kernels.vectors import FLOAT_BYTES, VECTOR_BYTES, Emitter, Lanes


class _Row:
    """Loads and stores of one row's arrays, and the three stages."""

    def __init__(self, emitter: Emitter, arguments: tuple[Any, ...]) -> None:
        current, stride, _, step, bound, ratio = arguments
        build = emitter.builder
        self.emitter = emitter
        self.offsets = [build.mul(stride, emitter.word(k)) for k in range(ARRAYS)]
        self.addresses = (current, build.sub(current, build.mul(stride, emitter.word(ARRAYS))))
        self.step_address = step
        self.bound = emitter.splat(bound)
        self.lower_bound = -self.bound
        self.ratio = emitter.splat(ratio)

    def move(self, block: Any) -> None:
        """Point at a vector of the row and of the row above."""
        emitter = self.emitter
        x = emitter.builder.mul(block, emitter.word(VECTOR_BYTES))
        self.here, self.above = (emitter.pointer(row, x) for row in self.addresses)
        self.step = emitter.pointer(self.step_address, x)

    def load(self, row: Any, array: int, shift: int = 0) -> Lanes:
        return self.emitter.load(self.emitter.at(row, self.offsets[array]), shift)

    def store(self, lanes: Lanes, row: Any, array: int, shift: int) -> None:
        self.emitter.store(lanes, self.emitter.at(row, self.offsets[array]), shift)

    def divergence(self, along_x: int, along_y: int, shift: int) -> Lanes:
        here = self.load(self.here, along_x, shift)
        left = self.load(self.here, along_x, shift - FLOAT_BYTES)
        below = self.load(self.here, along_y, shift)
        return (here - left) + (below - self.load(self.above, along_y, shift))

    def primal(self, shift: int, errors: list[Lanes]) -> tuple[list[Lanes], list[Lanes]]:
        """Return the new flow of a vector, and the errors with its change added."""
        fma, row = self.emitter.fma, self.here
        u, v = self.load(row, FLOW_X, shift), self.load(row, FLOW_Y, shift)
        gx, gy = self.load(row, GRADIENT_X, shift), self.load(row, GRADIENT_Y, shift)
        residual = fma(gy, v, fma(gx, u, self.load(row, RESIDUAL, shift)))
        change = residual * self.load(row, INVERSE, shift)
        change = self.emitter.max(self.emitter.min(change, self.bound), self.lower_bound)
        step = self.emitter.load(self.step, shift)
        new_u = fma(change, gx, fma(step, self.divergence(DUAL_XX, DUAL_XY, shift), u))
        new_v = fma(change, gy, fma(step, self.divergence(DUAL_YX, DUAL_YY, shift), v))
        self.store(new_u, row, FLOW_X, shift)
        self.store(new_v, row, FLOW_Y, shift)
        moved_u, moved_v = new_u - u, new_v - v
        return [new_u, new_v], [fma(moved_u, moved_u, errors[0]), fma(moved_v, moved_v, errors[1])]

    def gradients(self, shift: int, below: list[Lanes]) -> list[Lanes]:
        """Return |grad u|, |grad v| of the row above and the four sums p + grad."""
        norms, sums = [], []
        parts = ((FLOW_X, DUAL_XX, DUAL_XY), (FLOW_Y, DUAL_YX, DUAL_YY))
        for (flow, along_x, along_y), under in zip(parts, below, strict=True):
            here = self.load(self.above, flow, shift)
            dx = self.load(self.above, flow, shift + FLOAT_BYTES) - here
            dy = under - here
            norms.append(self.emitter.sqrt(self.emitter.fma(dx, dx, dy * dy)))
            sums += [dx + self.load(self.above, along_x, shift)]
            sums += [dy + self.load(self.above, along_y, shift)]
        return norms + sums

    def duals(self, shift: int, gradients: list[Lanes]) -> None:
        """Write the new dual variables of the row above."""
        scale_u, scale_v = (self.ratio / (norm + self.ratio) for norm in gradients[:2])
        for array, total, scale in zip(
            (DUAL_XX, DUAL_XY, DUAL_YX, DUAL_YY),
            gradients[2:],
            (scale_u, scale_u, scale_v, scale_v),
            strict=True,
        ):
            self.store(total * scale, self.above, array, shift)


@intrinsic  # type: ignore[untyped-decorator]
def sweep_row(
    typing: Any, current: Any, stride: Any, blocks: Any, step: Any, bound: Any, ratio: Any
) -> Any:
    """Run the primal step on a row and the dual step on the row above it.

    Parameters
    ----------
    current : uintp
        Address of the row's first pixel in its first array.
    stride : uintp
        Bytes from one array to the next; a row is ten of them.
    blocks : uintp
        Vectors in the row, at least 2.
    step : uintp
        Address of a row of tau, 0 in the padding (so that it never moves nor counts).
    bound, ratio : float32
        lambda * theta, and theta / tau.

    Returns
    -------
    float32
        Sum of the squared changes of the flow over the row.
    """
    address, real = types.uintp, types.float32
    signature = real(address, address, address, address, real, real)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emitter = Emitter(builder)
        row = _Row(emitter, arguments)
        row.move(emitter.word(0))
        zero = emitter.constant(0.0)
        first, errors = row.primal(0, [zero, zero])
        second, errors = row.primal(VECTOR_BYTES, errors)
        carried = [*row.gradients(0, first), *second, *errors]

        def turn(i: Any, carried: list[Lanes]) -> list[Lanes]:
            row.move(i)
            row.duals(-2 * VECTOR_BYTES, carried[:6])
            gradients = row.gradients(-VECTOR_BYTES, carried[6:8])
            flow, errors = row.primal(0, carried[8:])
            return [*gradients, *flow, *errors]

        i, carried = emitter.loop(2, arguments[2], carried, turn)
        row.move(i)
        row.duals(-2 * VECTOR_BYTES, carried[:6])
        row.duals(-VECTOR_BYTES, row.gradients(-VECTOR_BYTES, carried[6:8]))
        return emitter.total(carried[8] + carried[9])

    return signature, generate
