"""The rule of time by brute force over all timestamps: the oracle that `Selector` must equal."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import count

from pipeline.sampling import Grid


def expected_frames(times: Sequence[Fraction], grid: Grid, interval: Fraction) -> dict[int, int]:
    """Which frame (its place in `times`) serves each sample number; missing samples are absent."""
    inside = [
        place
        for place, time in enumerate(times)
        if time >= grid.start and (grid.end is None or time < grid.end)
    ]
    if grid.fps is None:
        return dict(enumerate(inside))
    candidates = inside or _around(times, grid)
    served: dict[int, int] = {}
    for sample in count():
        at = grid.start + sample / grid.fps
        if grid.end is not None and at >= grid.end:
            return served
        if at >= times[-1] + interval:
            if grid.end is None:
                return served
            if candidates[-1] == len(times) - 1:
                continue
        if (candidates[0] == 0 or inside) and at < times[candidates[0]] - interval:
            continue
        served[sample] = _best(times, candidates, at, grid)


def _around(times: Sequence[Fraction], grid: Grid) -> list[int]:
    before = [place for place, time in enumerate(times) if time < grid.start]
    after = [place for place, time in enumerate(times) if time >= grid.start]
    return before[-1:] + after[:1]


def _best(times: Sequence[Fraction], candidates: list[int], at: Fraction, grid: Grid) -> int:
    if grid.resample == "hold":
        return max((p for p in candidates if times[p] <= at), default=candidates[0])
    return min(candidates, key=lambda place: (abs(times[place] - at), -times[place]))
