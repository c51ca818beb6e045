"""The 5x5 median of the flow, as min/max networks over whole rows: exact.

Each row's five neighbours along x are sorted once and serve five windows. Two sorted rows are
merged to ten, once for two output pairs. For the output rows y and y + 1 the twenty values of rows
y - 1 .. y + 2 are common; only their ranks 8 to 13 can be a median of 25, and with the five sorted
values ``e`` of the remaining row the median is rank 6 of eleven: ``min over i + j = 6 of
max(c_i, e_j)``. About 63 min or max a pixel; sorting a window by itself takes 198. (The idea of
shared, separable sorting: Adams, *Fast Median Filters using Separable Sorting Networks*, SIGGRAPH
2021, doi:10.1145/3450626.3459773; the arrangement in pairs of rows is ours.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numba import types
from numba.extending import intrinsic

from pipeline.flow.kernels.vectors import FLOAT_BYTES, VECTOR_BYTES, Emitter, Lanes

SORTED = 5
MERGED = 2 * SORTED
CANDIDATES = slice(7, 13)
"""Ranks (from 0) of the twenty common values that can be the median of 25."""
SORTING = ((0, 1), (3, 4), (2, 4), (2, 3), (0, 3), (0, 2), (1, 4), (1, 3), (1, 2))
"""Nine exchanges that sort five values."""


def _exchange(emitter: Emitter, a: Lanes, b: Lanes) -> tuple[Lanes, Lanes]:
    return emitter.min(a, b), emitter.max(a, b)


def _merge(emitter: Emitter, a: Sequence[Lanes], b: Sequence[Lanes]) -> list[Lanes]:
    """Merge two sorted sequences (Batcher's odd-even merge; unused outputs are dropped by LLVM)."""
    if not a or not b:
        return [*a, *b]
    if len(a) == len(b) == 1:
        return list(_exchange(emitter, a[0], b[0]))
    even = _merge(emitter, a[0::2], b[0::2])
    odd = _merge(emitter, a[1::2], b[1::2])
    merged = [even[0]]
    for k, value in enumerate(odd):
        merged += _exchange(emitter, value, even[k + 1]) if k + 1 < len(even) else (value,)
    return merged + even[len(odd) + 1 :]


class _Bands:
    """Arrays of one row side by side, read and written a vector at a time."""

    def __init__(self, emitter: Emitter, blocks: Any) -> None:
        self.emitter = emitter
        self.span = emitter.builder.mul(blocks, emitter.word(VECTOR_BYTES))

    def move(self, block: Any) -> None:
        self.x = self.emitter.builder.mul(block, self.emitter.word(VECTOR_BYTES))

    def load(self, address: Any, count: int) -> list[Lanes]:
        return [self.emitter.load(self._place(address, k)) for k in range(count)]

    def store(self, lanes: Sequence[Lanes], address: Any) -> None:
        for k, value in enumerate(lanes):
            self.emitter.store(value, self._place(address, k))

    def _place(self, address: Any, k: int) -> Any:
        skip = self.emitter.builder.mul(self.span, self.emitter.word(k))
        return self.emitter.pointer(address, self.x, skip)


@intrinsic  # type: ignore[untyped-decorator]
def sort_row(typing: Any, blocks: Any, source: Any, target: Any) -> Any:
    """Write five sorted neighbours ``x - 2 .. x + 2`` of every pixel of a row."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        blocks, source, target = arguments
        emitter = Emitter(builder)
        bands = _Bands(emitter, blocks)

        def turn(i: Any, _: list[Lanes]) -> list[Lanes]:
            bands.move(i)
            here = emitter.pointer(source, bands.x)
            values = [emitter.load(here, shift * FLOAT_BYTES) for shift in range(-2, 3)]
            for low, high in SORTING:
                values[low], values[high] = _exchange(emitter, values[low], values[high])
            bands.store(values, target)
            return []

        emitter.loop(0, blocks, [], turn)
        return context.get_dummy_value()

    return types.void(*[types.uintp] * 3), generate


@intrinsic  # type: ignore[untyped-decorator]
def merge_rows(typing: Any, blocks: Any, first: Any, second: Any, target: Any) -> Any:
    """Merge two sorted rows to one of ten sorted values a pixel."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        blocks, first, second, target = arguments
        emitter = Emitter(builder)
        bands = _Bands(emitter, blocks)

        def turn(i: Any, _: list[Lanes]) -> list[Lanes]:
            bands.move(i)
            pair = bands.load(first, SORTED), bands.load(second, SORTED)
            bands.store(_merge(emitter, *pair), target)
            return []

        emitter.loop(0, blocks, [], turn)
        return context.get_dummy_value()

    return types.void(*[types.uintp] * 4), generate


@intrinsic  # type: ignore[untyped-decorator]
def pick_rows(typing: Any, blocks: Any, upper: Any, lower: Any, extras: Any, targets: Any) -> Any:
    """Write the medians of two output rows.

    Parameters
    ----------
    blocks : uintp
        Vectors in a row.
    upper, lower : uintp
        Merged rows ``y - 1, y`` and ``y + 1, y + 2``.
    extras : (uintp, uintp)
        Sorted rows ``y - 2`` and ``y + 3``.
    targets : (uintp, uintp)
        Where output rows y and y + 1 go.
    """
    address = types.uintp
    pair = types.UniTuple(address, 2)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        blocks, upper, lower, extras, targets = arguments
        emitter = Emitter(builder)
        bands = _Bands(emitter, blocks)

        def turn(i: Any, _: list[Lanes]) -> list[Lanes]:
            bands.move(i)
            common = _merge(emitter, bands.load(upper, MERGED), bands.load(lower, MERGED))
            candidates = common[CANDIDATES]
            for k in range(2):
                extra = bands.load(builder.extract_value(extras, k), SORTED)
                median = candidates[-1]
                for candidate, value in zip(candidates[-2::-1], extra, strict=True):
                    median = emitter.min(median, emitter.max(candidate, value))
                bands.store([median], builder.extract_value(targets, k))
            return []

        emitter.loop(0, blocks, [], turn)
        return context.get_dummy_value()

    return types.void(address, address, address, pair, pair), generate
