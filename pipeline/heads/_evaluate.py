"""Figures of a prediction, and how far they can be trusted.

Accuracies are shares in 0..1. Intervals come from a bootstrap that draws whole groups, because
segments of one group are not independent; two systems tested on the same segments are compared by
the same draws (paired), which is far sharper than comparing two intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
MOST_DRAWS, LEAST_DRAWS = 10_000, 500
COUNTS_DRAWN = 4_000_000  # draws times groups: with many groups fewer draws do, in a few seconds
COUNTS_AT_ONCE = 2_000_000  # bounds the memory
LEVEL = 0.95
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with the interval that holds 95 % of the bootstrap's draws.

    The ends are NaN where there is no telling: of a single group.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    @property
    def holds_zero(self) -> bool:
        """True when a difference with this interval lies within noise."""
        return not (self.low > ROUNDING or self.high < -ROUNDING)


def hits(probabilities: Floats, targets: NDArray[np.int64], top: int = 1) -> Floats:
    """Return 1.0 where the true class is among the `top` most probable, (n,).

    Of equal probabilities the earlier class counts as the larger, so a constant prediction hits
    one class alone.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    found: Floats = (order == targets[:, None]).any(1).astype(np.float64)
    return found


def correct(probabilities: Floats, targets: NDArray[np.generic]) -> Floats:
    """Return 1.0 where the most probable class is true of the segment, (n,).

    With several labels a segment, it must be one of them: hit@1 of Karpathy et al. 2014
    (doi:10.1109/CVPR.2014.223).

    Parameters
    ----------
    probabilities : array (n, C)
    targets : array (n,) of class numbers, or (n, C) of zeros and ones for several labels
    """
    if targets.ndim == 1:
        return hits(probabilities, targets.astype(np.int64))
    best = probabilities.argmax(1)
    found: Floats = targets[np.arange(len(best)), best].astype(np.float64)
    return found


def over_classes(probabilities: Floats, targets: NDArray[np.generic]) -> float:
    """Return the figure that counts each class alike.

    Mean class accuracy, or mean average precision with several labels a segment.
    """
    if targets.ndim == 2:
        return mean_average_precision(probabilities, targets.astype(bool))
    numbers = targets.astype(np.int64)
    return mean_class_accuracy(hits(probabilities, numbers), numbers)


def mean_class_accuracy(hit: Floats, targets: NDArray[np.int64]) -> float:
    """Return the mean over the classes present of each class's share of hits."""
    return float(np.mean([hit[targets == c].mean() for c in np.unique(targets)]))


def confusion(probabilities: Floats, targets: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Return counts, rows true classes, columns predicted ones, (C, C)."""
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (targets, probabilities.argmax(1)), 1)
    return table


def average_precision(scores: Floats, relevant: NDArray[np.bool_]) -> float:
    """Return the mean of the precisions at each relevant segment, best score first.

    Segments of equal score share the precision at the end of their tie, so their order in the
    file cannot matter. NaN when nothing is relevant.
    """
    if not relevant.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(relevant[order])
    ranked = scores[order]
    last_of_tie = np.searchsorted(-ranked, -ranked, side="right") - 1
    precision = found[last_of_tie] / (last_of_tie + 1)
    return float(precision[relevant[order]].mean())


def mean_average_precision(probabilities: Floats, targets: NDArray[np.bool_]) -> float:
    """Return the mean of `average_precision` over the classes that have a segment."""
    each = [average_precision(p, t) for p, t in zip(probabilities.T, targets.T, strict=True)]
    known = [value for value in each if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def summary(probabilities: Floats, targets: NDArray[np.generic]) -> dict[str, float]:
    """Return every figure that suits the targets.

    Parameters
    ----------
    probabilities : array (n, C)
    targets : array (n,) of class numbers, or (n, C) of zeros and ones for several labels
    """
    if targets.ndim == 2:
        relevant = targets.astype(bool)
        top5 = np.argsort(-probabilities, axis=1, kind="stable")[:, :5]
        return {
            "map": mean_average_precision(probabilities, relevant),
            "hit1": float(correct(probabilities, targets).mean()),
            "hit5": float(np.take_along_axis(relevant, top5, 1).any(1).mean()),
        }
    numbers = targets.astype(np.int64)
    top1 = hits(probabilities, numbers)
    return {
        "top1": float(top1.mean()),
        "top5": float(hits(probabilities, numbers, top=5).mean()),
        "mean_class": mean_class_accuracy(top1, numbers),
    }


def bootstrap(values: Floats, groups: Sequence[str], seed: int = 0) -> Interval:
    """Return the mean of a value per segment with its interval over drawn groups.

    The percentile bootstrap of Efron 1979 (doi:10.1214/aos/1176344552), by groups. A single group
    says nothing of others, so its interval is NaN.

    Parameters
    ----------
    values : array (n,)
        E.g. hits (their mean over seeds), or differences of hits of two systems.
    groups : sequence of str
        Drawn as wholes; pass the keys to draw segments.
    """
    known, number = np.unique(np.asarray(groups), return_inverse=True)
    if len(known) < 2:
        return Interval(float(values.mean()), float("nan"), float("nan"))
    total = np.bincount(number, weights=values)
    size = np.bincount(number)
    rng = np.random.default_rng(seed)
    share = np.full(len(known), 1 / len(known))
    draws = max(LEAST_DRAWS, min(MOST_DRAWS, COUNTS_DRAWN // len(known)))
    means = np.empty(draws)
    at_once = max(1, COUNTS_AT_ONCE // len(known))
    for first in range(0, draws, at_once):
        times = rng.multinomial(len(known), share, size=min(at_once, draws - first))
        means[first : first + len(times)] = (times @ total) / (times @ size)
    edge = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(means, [edge, 100 - edge])
    return Interval(float(values.mean()), float(low), float(high))


def paired(first: Floats, second: Floats, groups: Sequence[str], seed: int = 0) -> Interval:
    """Return the mean of ``first - second`` with its paired interval."""
    return bootstrap(first - second, groups, seed)
