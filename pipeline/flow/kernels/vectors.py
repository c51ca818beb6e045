"""A small notation for kernels: expressions on eight float32 at a time, emitted as LLVM IR.

An `Emitter` wraps the IR builder that ``numba.extending.intrinsic`` hands over; `Lanes` are values
of eight floats with the usual operators. LLVM lowers them to AVX on x86-64 and to pairs of NEON
registers on arm64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 8
FLOAT_BYTES = 4
VECTOR_BYTES = LANES * FLOAT_BYTES

FLOAT = ir.FloatType()
WORD = ir.IntType(64)
INDEX = ir.IntType(32)
POINTER = ir.PointerType()
VECTOR = ir.VectorType(FLOAT, LANES)
QUAD = ir.VectorType(FLOAT, 4)


class Lanes:
    """Eight float32 in flight."""

    def __init__(self, emitter: Emitter, value: Any) -> None:
        self.emitter = emitter
        self.value = value

    def __add__(self, other: Lanes) -> Lanes:
        return Lanes(self.emitter, self.emitter.builder.fadd(self.value, other.value))

    def __sub__(self, other: Lanes) -> Lanes:
        return Lanes(self.emitter, self.emitter.builder.fsub(self.value, other.value))

    def __mul__(self, other: Lanes) -> Lanes:
        return Lanes(self.emitter, self.emitter.builder.fmul(self.value, other.value))

    def __truediv__(self, other: Lanes) -> Lanes:
        return Lanes(self.emitter, self.emitter.builder.fdiv(self.value, other.value))

    def __neg__(self) -> Lanes:
        return Lanes(self.emitter, self.emitter.builder.fneg(self.value))


class Emitter:
    """Emits loads, stores, loops and arithmetic on `Lanes`.

    Parameters
    ----------
    builder : llvmlite.ir.IRBuilder
        Where instructions go.
    """

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def constant(self, number: float) -> Lanes:
        """Return eight times one number."""
        return Lanes(self, ir.Constant(VECTOR, [ir.Constant(FLOAT, number)] * LANES))

    def splat(self, scalar: Any, count: int = LANES) -> Lanes:
        """Return eight (or `count`) times one float32 or 32-bit integer."""
        undefined = Lanes(self, ir.Constant(ir.VectorType(scalar.type, count), ir.Undefined))
        first = self.builder.insert_element(undefined.value, scalar, ir.Constant(INDEX, 0))
        return self.shuffle(Lanes(self, first), undefined, [0] * count)

    def shuffle(self, low: Lanes, high: Lanes, picks: Sequence[int]) -> Lanes:
        """Return the picked lanes of the sixteen of `low` and `high`."""
        mask = ir.Constant(ir.VectorType(INDEX, len(picks)), list(picks))
        return Lanes(self, self.builder.shuffle_vector(low.value, high.value, mask))

    def word(self, number: int) -> Any:
        """Return a 64-bit constant."""
        return ir.Constant(WORD, number)

    def pointer(self, address: Any, *offsets: Any) -> Any:
        """Return a pointer to ``address + sum(offsets)``, all in bytes."""
        for offset in offsets:
            address = self.builder.add(address, offset)
        return self.builder.inttoptr(address, POINTER)

    def at(self, pointer: Any, offset: Any) -> Any:
        """Return `pointer` moved by an offset in bytes, a Python int or a 64-bit value."""
        if isinstance(offset, int):
            offset = self.word(offset)
        return self.builder.gep(pointer, [offset], source_etype=ir.IntType(8))

    def load(self, pointer: Any, offset: Any = 0, kind: Any = VECTOR) -> Lanes:
        """Load eight floats (or another type) from any address."""
        place = self.at(pointer, offset)
        return Lanes(self, self.builder.load(place, typ=kind, align=FLOAT_BYTES))

    def store(self, lanes: Lanes, pointer: Any, offset: Any = 0) -> None:
        """Store a value at any address."""
        self.builder.store(lanes.value, self.at(pointer, offset), align=FLOAT_BYTES)

    def fma(self, a: Lanes, b: Lanes, c: Lanes) -> Lanes:
        """Return ``a * b + c``, rounded once."""
        return self._call("llvm.fma", a, b, c)

    def sqrt(self, a: Lanes) -> Lanes:
        """Return the square root."""
        return self._call("llvm.sqrt", a)

    def floor(self, a: Lanes) -> Lanes:
        """Return the largest integer not above."""
        return self._call("llvm.floor", a)

    def min(self, a: Lanes, b: Lanes) -> Lanes:
        """Return the smaller lane by lane."""
        return self._select("<", a, b)

    def max(self, a: Lanes, b: Lanes) -> Lanes:
        """Return the larger lane by lane."""
        return self._select(">", a, b)

    def total(self, a: Lanes) -> Any:
        """Return the sum of the eight lanes as one float32."""
        parts = [self.builder.extract_element(a.value, ir.Constant(INDEX, k)) for k in range(LANES)]
        while len(parts) > 1:
            half = len(parts) // 2
            parts = [self.builder.fadd(parts[k], parts[k + half]) for k in range(half)]
        return parts[0]

    def loop(
        self,
        start: int,
        stop: Any,
        carried: Sequence[Lanes],
        body: Callable[[Any, list[Lanes]], Sequence[Lanes]],
    ) -> tuple[Any, list[Lanes]]:
        """Run ``carried = body(i, carried)`` for i in ``start .. stop - 1``.

        Returns
        -------
        i, carried
            As they stand after the last turn.
        """
        builder = self.builder
        before = builder.block
        test, turn, after = (builder.append_basic_block(name) for name in ("test", "turn", "after"))
        builder.branch(test)
        builder.position_at_end(test)
        i = builder.phi(WORD)
        i.add_incoming(self.word(start), before)
        values = [builder.phi(lanes.value.type) for lanes in carried]
        for phi, lanes in zip(values, carried, strict=True):
            phi.add_incoming(lanes.value, before)
        builder.cbranch(builder.icmp_unsigned("<", i, stop), turn, after)
        builder.position_at_end(turn)
        results = body(i, [Lanes(self, phi) for phi in values])
        i.add_incoming(builder.add(i, self.word(1)), builder.block)
        for phi, lanes in zip(values, results, strict=True):
            phi.add_incoming(lanes.value, builder.block)
        builder.branch(test)
        builder.position_at_end(after)
        return i, [Lanes(self, phi) for phi in values]

    def _select(self, order: str, a: Lanes, b: Lanes) -> Lanes:
        chosen = self.builder.fcmp_ordered(order, a.value, b.value)
        return Lanes(self, self.builder.select(chosen, a.value, b.value))

    def _call(self, name: str, *arguments: Lanes) -> Lanes:
        kind = arguments[0].value.type
        symbol = f"{name}.v{kind.count}f32"
        module = self.builder.module
        function = module.globals.get(symbol) or ir.Function(
            module, ir.FunctionType(kind, [kind] * len(arguments)), symbol
        )
        return Lanes(self, self.builder.call(function, [lanes.value for lanes in arguments]))


@intrinsic  # type: ignore[untyped-decorator]
def fused_multiply_add(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """Return ``a * b + c`` of three float32, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return types.float32(types.float32, types.float32, types.float32), generate
