"""Fitting a head: one function, three rules, the same answer for the same seed.

``convex`` heads are solved (`pipeline.heads._convex`). ``descent`` heads are trained by Adam with
clipped gradients and stopped early on validation segments. ``parts`` are fitted one by one, each
on its own stream, as the two streams of Simonyan & Zisserman were. With validation segments a fit
also *chooses* (the epoch, the penalty); without, it takes what was chosen before.

An interrupted descent continues bit for bit: order and dropout of an epoch depend on the seed and
the epoch alone, and weights, optimiser and curve are saved after every epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.heads import _state
from pipeline.heads._convex import PENALTIES, LinearHead, Problem
from pipeline.heads._evaluate import summary
from pipeline.heads._examples import Data
from pipeline.heads._head import Batch, Head

GRADIENT_CLIP = 5.0  # LRCN's value for RGB
SEED_STRIDE = 100_003  # epochs of neighbouring seeds must not share their random numbers


class Point(NamedTuple):
    """One point of a learning curve.

    Attributes
    ----------
    at : float
        Epoch (1-based), or the penalty of a convex head.
    train_loss, validation_loss : float
        Mean cross-entropy; NaN without validation segments.
    validation_score : float
        Top-1 share, or mean average precision for several labels.
    """

    at: float
    train_loss: float
    validation_loss: float
    validation_score: float


@dataclass
class History:
    """A learning curve and what was chosen on it.

    Attributes
    ----------
    unit : {"epoch", "l2"}
    points : list of Point
    chosen : float
        Epochs trained, or the penalty, of the weights in the head.
    """

    unit: str
    points: list[Point] = field(default_factory=list)
    chosen: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How a head is trained.

    Attributes
    ----------
    epochs, patience : int
        Most epochs, and how many without a better validation loss end it.
    batch : int
        Segments of a batch.
    learning_rate, weight_decay : float
        Of AdamW.
    seed : int
        Of the first weights, the order and the dropout.
    device : str
    chosen : tuple of float
        For a fit without validation: the epochs or penalty of each part, in order.
    """

    epochs: int = 100
    patience: int = 15
    batch: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3
    seed: int = 0
    device: str = "cpu"
    chosen: tuple[float, ...] = ()


Watch = Callable[[str, Point], None]


def _silent(name: str, point: Point) -> None:
    """Watch nothing."""


class Job(NamedTuple):
    """What is fitted on: the data and who trains and who validates.

    Attributes
    ----------
    data : Data
    train, validation : sequence of int
        Segment numbers; `validation` may be empty.
    state : Path or None
        File that an interrupted descent continues from.
    watch : callable
        Called with the name of the part and each point of its curve.
    """

    data: Data
    train: Sequence[int]
    validation: Sequence[int] = ()
    state: Path | None = None
    watch: Watch = _silent


def fit(head: Head, job: Job, plan: Plan) -> list[History]:
    """Train a head in place.

    Parameters
    ----------
    head : Head
    job : Job
    plan : Plan

    Returns
    -------
    list of History
        One per network trained: one, or one per part.
    """
    if head.parts:
        found: list[History] = []
        for number, part in head.parts:
            name = f"stream-{number}"
            own = job._replace(
                data=job.data.stream(number),
                state=job.state and job.state.with_name(f"{name}-{job.state.name}"),
                watch=_named(name, job.watch),
            )
            found += fit(part, own, replace(plan, chosen=plan.chosen[number : number + 1]))
        return found
    device = torch.device(plan.device)
    head.to(device)
    head.settle(Batches(job.data, job.train, plan))
    history = _solve(head, job, plan) if isinstance(head, LinearHead) else descend(head, job, plan)
    head.eval()
    return [history]


def _named(name: str, watch: Watch) -> Watch:
    return lambda _, point: watch(name, point)


@dataclass(frozen=True, slots=True)
class Batches:
    """Batches of chosen segments, read anew each time they are gone through."""

    data: Data
    chosen: Sequence[int]
    plan: Plan

    def __iter__(self) -> Iterator[Batch]:
        device = torch.device(self.plan.device)
        for batch in self.data.batches(self.chosen, self.plan.batch):
            yield batch.to(device)


def _solve(head: LinearHead, job: Job, plan: Plan) -> History:
    """Solve for each penalty, then for the best one with the validation segments included."""
    history = History("l2")
    problem = Problem.of(head, Batches(job.data, job.train, plan))
    fixed = head.l2 or (plan.chosen[0] if plan.chosen else 0.0)
    if not fixed and not job.validation:
        raise ValueError("a penalty can only be chosen on validation segments")
    for l2 in (fixed,) if fixed else PENALTIES:
        point = Point(l2, problem.solve(l2), *validate(head, job, plan))
        history.points.append(point)
        job.watch("", point)
    history.chosen = best(history.points).at
    if job.validation:
        everything = [*job.train, *job.validation]
        Problem.of(head, Batches(job.data, everything, plan)).solve(history.chosen)
    return history


def best(points: Sequence[Point]) -> Point:
    """Return the point of least validation loss, the earliest of equals."""
    return min(points, key=lambda point: point.validation_loss)


def descend(head: Head, job: Job, plan: Plan) -> History:
    """Train by AdamW with early stopping; leave the best epoch's weights in the head."""
    optimiser = torch.optim.AdamW(
        head.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay
    )
    state = _state.State(head, optimiser)
    history = History("epoch")
    if job.state is not None and job.state.exists():
        history.points = [Point(*values) for values in state.load(job.state, plan)]
        history.chosen = (best(history.points) if job.validation else history.points[-1]).at
    epochs = plan.epochs if job.validation or not plan.chosen else max(1, round(plan.chosen[0]))
    for epoch in range(len(history.points) + 1, epochs + 1):
        if job.validation and history.points and epoch > history.chosen + plan.patience:
            break
        loss = _epoch(head, optimiser, job, replace(plan, seed=plan.seed * SEED_STRIDE + epoch))
        point = Point(epoch, loss, *validate(head, job, plan))
        history.points.append(point)
        job.watch("", point)
        if not job.validation or best(history.points) is point:
            history.chosen = epoch
            state.remember()
        if job.state is not None:
            state.save(job.state, plan, history.points)
    state.restore()
    return history


def _epoch(head: Head, optimiser: torch.optim.Optimizer, job: Job, plan: Plan) -> float:
    """Train one epoch, return its mean loss; random numbers come from `plan.seed` alone."""
    head.train()
    total = 0.0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        for batch in job.data.batches(job.train, plan.batch, plan.seed):
            moved = batch.to(torch.device(plan.device))
            if len(moved.mask) == 1 and int(moved.mask.sum()) == 1:
                continue  # batch normalisation has no variance of a single row
            optimiser.zero_grad(set_to_none=True)
            loss = head.loss(moved)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(head.parameters(), GRADIENT_CLIP)
            optimiser.step()
            total += loss.item() * len(moved.mask)
    return total / len(job.train)


def validate(head: Head, job: Job, plan: Plan) -> tuple[float, float]:
    """Return loss and score on the validation segments, NaN when there are none."""
    if not job.validation:
        return float("nan"), float("nan")
    probabilities, targets = predict(head, job.data, job.validation, plan)
    each = summary(probabilities, targets)
    return log_loss(probabilities, targets), each["map" if targets.ndim == 2 else "top1"]


def log_loss(probabilities: NDArray[np.float64], targets: NDArray[np.generic]) -> float:
    """Return the mean cross-entropy of probabilities."""
    p = np.clip(probabilities, 1e-12, 1.0 - 1e-12)
    if targets.ndim == 2:
        t = targets.astype(np.float64)
        return float(-(t * np.log(p) + (1 - t) * np.log(1 - p)).sum(1).mean())
    return float(-np.log(p[np.arange(len(p)), targets.astype(np.int64)]).mean())


def predict(
    head: Head, data: Data, chosen: Sequence[int], plan: Plan
) -> tuple[NDArray[np.float64], NDArray[np.generic]]:
    """Return probabilities (n, C) and targets of segments, in the order given."""
    head.eval()
    probabilities: list[Tensor] = []
    targets: list[Tensor] = []
    with torch.inference_mode():
        for batch in Batches(data, chosen, plan):
            probabilities.append(head(batch).double().cpu())
            targets.append(batch.targets.cpu())
    return torch.cat(probabilities).numpy(), torch.cat(targets).numpy()
