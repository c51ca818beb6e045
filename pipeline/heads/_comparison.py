"""What a comparison found: the measured rows, and what may be said of them.

Every statement is of paired differences, segment by segment, over the same drawn groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.heads._evaluate import ROUNDING, Interval, paired


@dataclass(frozen=True, kw_only=True)
class Line:
    """One measured row of the table.

    Attributes
    ----------
    row, head, features, pretraining, seen, published : str
    parameters : int or None
        Of the networks; None when unknown.
    top1 : Interval
        Share of segments whose most probable class is true of them, over groups and seeds.
    over_classes : float
        Mean class accuracy, or mean average precision with several labels a segment.
    seed_spread : float
        Standard deviation of the accuracy over seeds; NaN with one seed.
    head_seconds : float
        To train and test the head, per tested segment.
    chosen : tuple of str
        What each fold chose.
    hit : array (n,)
        Share of seeds that got each tested segment right.
    """

    row: str
    head: str
    top1: Interval
    over_classes: float
    hit: NDArray[np.float64]
    features: str = ""
    pretraining: str = ""
    seen: str = ""
    published: str = ""
    parameters: int | None = None
    seed_spread: float = float("nan")
    head_seconds: float = 0.0
    chosen: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """The table and what may be concluded from it.

    Attributes
    ----------
    lines : tuple of Line
        Chance and the trivial baseline first.
    groups : tuple of str
        Of the tested segments.
    about : str
        Segments, classes, groups, folds, seeds; what extraction cost.
    figures : tuple of str
        What `Line.top1` and `Line.over_classes` are called.
    """

    lines: tuple[Line, ...]
    groups: tuple[str, ...]
    about: str
    figures: tuple[str, str] = ("top-1", "mean class")

    def difference(self, first: Line, second: Line) -> Interval:
        """Return the paired difference of two rows' accuracies."""
        return paired(first.hit, second.hit, self.groups)

    @property
    def best(self) -> Line:
        """The most accurate row; of equals the first."""
        return max(self.lines, key=lambda line: line.top1.value)

    def statements(self) -> list[str]:
        """Return what the table says, and where it says nothing."""
        best = self.best
        said = [
            f"best: {_name(best)}, {best.top1} (picked on the tested segments among "
            f"{len(self.lines)} rows, so its own figure flatters a little)"
        ]
        within = []
        for line in self.lines[2:]:
            if line is not best and self.difference(best, line).holds_zero:
                within.append(_name(line))
        said.append(f"within noise of the best (paired, 95 %): {'; '.join(within) or 'none'}")
        trivial = self.lines[1]
        for line in (self.lines[0], trivial):
            gain = self.difference(best, line)
            verdict = "within noise" if gain.holds_zero else "clear"
            said.append(f"best against {line.row}: {gain}, {verdict}")
        leak = self.difference(trivial, self.lines[0])
        if leak.low > ROUNDING:
            said.append(
                f"warning: {trivial.head} alone is above chance by {leak}: part of every figure "
                "here may come from that"
            )
        return said


def _name(line: Line) -> str:
    return f"{line.row} ({line.head})"
