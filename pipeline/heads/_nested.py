"""Nested cross-validation: hyper-parameters are chosen inside the training groups of every fold.

The test groups of an outer fold decide nothing: neither the epochs, nor the penalty, nor which
candidate is taken. Each candidate is fitted on inner folds of the training groups; the mean of its
inner learning curves says how long to train (or how much to penalise), the mean inner loss which
candidate is taken; then it is fitted once per seed on all training groups.

What is learned on top of the scores (the weights of a fusion) needs scores that were not fitted:
those of each training segment come from an inner fit without its group, as in stacking (Wolpert
1992, doi:10.1016/S0893-6080(05)80023-1).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.heads._examples import Examples
from pipeline.heads._head import Head, build
from pipeline.heads._splits import Fold, k_fold
from pipeline.heads._train import History, Job, Plan, fit, predict


@dataclass(frozen=True)
class Candidate:
    """One way to train that may be chosen.

    Attributes
    ----------
    head : str
    settings : Mapping of str to str
    plan : Plan
    """

    head: str
    settings: Mapping[str, str] = field(default_factory=dict)
    plan: Plan = field(default_factory=Plan)

    def __str__(self) -> str:
        return " ".join([self.head, *(f"{k}={v}" for k, v in self.settings.items())])

    def head_for(self, data: Examples, seed: int) -> Head:
        """Return an untrained head; its first weights depend on the seed alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build(self.head, data.task, data.dims, self.settings)


@dataclass(frozen=True)
class Scheme:
    """How everything is split.

    Attributes
    ----------
    outer : tuple of Fold
        Each segment is tested at most once.
    inner : int
        Inner folds by group.
    seeds : tuple of int
        Final fits of every fold.
    """

    outer: tuple[Fold, ...]
    inner: int = 3
    seeds: tuple[int, ...] = (0,)

    @property
    def tested(self) -> NDArray[np.int64]:
        """Numbers of the segments that some fold tests, ascending."""
        return np.array(sorted(k for fold in self.outer for k in fold.test), np.int64)


@dataclass(frozen=True)
class Outcome:
    """What came of a nested cross-validation.

    Attributes
    ----------
    probabilities : array (S, n, C)
        One prediction per seed and tested segment, in the order of `Scheme.tested`.
    chosen : tuple of str
        What each outer fold took.
    inner : tuple of array (n_train, C)
        For each outer fold, one prediction per training segment by a fit without its group;
        empty unless asked for.
    """

    probabilities: NDArray[np.float64]
    chosen: tuple[str, ...]
    inner: tuple[NDArray[np.float64], ...] = ()


def nested(
    data: Examples, candidates: Sequence[Candidate], scheme: Scheme, with_inner: bool = False
) -> Outcome:
    """Return the outcome of candidates on data; deterministic for a scheme.

    Parameters
    ----------
    data : Examples
    candidates : sequence of Candidate
        The earliest wins a tie.
    scheme : Scheme
    with_inner : bool
        Predict the training segments of each outer fold too.
    """
    found = np.full((len(scheme.seeds), len(data), len(data.task.classes)), np.nan)
    chosen: list[str] = []
    inner: list[NDArray[np.float64]] = []
    for fold in scheme.outer:
        tuned = [tune(data, fold.train, candidate, scheme) for candidate in candidates]
        number = min(range(len(tuned)), key=lambda k: tuned[k][1])
        candidate, values = candidates[number], tuned[number][0]
        chosen.append(f"{candidate} ({', '.join(f'{v:g}' for v in values)})")
        for s, seed in enumerate(scheme.seeds):
            plan = replace(candidate.plan, seed=seed, chosen=values)
            head = candidate.head_for(data, seed)
            fit(head, Job(data, fold.train), plan)
            found[s, list(fold.test)] = predict(head, data, fold.test, plan)[0]
        if with_inner:
            fixed = replace(candidate, plan=replace(candidate.plan, chosen=values))
            inner.append(_inner_predictions(data, fold.train, fixed, scheme))
    return Outcome(found[:, scheme.tested], tuple(chosen), tuple(inner))


def tune(
    data: Examples, train: Sequence[int], candidate: Candidate, scheme: Scheme
) -> tuple[tuple[float, ...], float]:
    """Choose epochs or penalty of each part on inner folds; return them and the inner loss."""
    histories: list[list[History]] = []
    for inner, validation in _inner_folds(data, train, scheme):
        head = candidate.head_for(data, scheme.seeds[0])
        histories.append(fit(head, Job(data, inner, validation), candidate.plan))
    parts = [agreed([h[part] for h in histories]) for part in range(len(histories[0]))]
    return tuple(at for at, _ in parts), sum(loss for _, loss in parts)


def _inner_folds(
    data: Examples, train: Sequence[int], scheme: Scheme
) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the segments that train and that validate in each inner fold, in whole groups."""
    groups = [data.groups[k] for k in train]
    for fold in k_fold(groups, min(scheme.inner, len(set(groups))), scheme.seeds[0]):
        yield [train[k] for k in fold.train], [train[k] for k in fold.test]


def _inner_predictions(
    data: Examples, train: Sequence[int], candidate: Candidate, scheme: Scheme
) -> NDArray[np.float64]:
    """Predict every training segment by a fit that has not seen its group, (n_train, C)."""
    found = np.full((len(data), len(data.task.classes)), np.nan)
    plan = replace(candidate.plan, seed=scheme.seeds[0])
    for inner, validation in _inner_folds(data, train, scheme):
        head = candidate.head_for(data, scheme.seeds[0])
        fit(head, Job(data, inner), plan)
        found[validation] = predict(head, data, validation, plan)[0]
    return found[list(train)]


def agreed(histories: Sequence[History]) -> tuple[float, float]:
    """Return the epoch or penalty of least mean validation loss that all folds reached.

    Returns
    -------
    at, loss : float
    """
    reached = min(len(history.points) for history in histories)
    mean = np.mean([[p.validation_loss for p in h.points[:reached]] for h in histories], axis=0)
    number = int(mean.argmin())
    return histories[0].points[number].at, float(mean[number])
