"""L2-penalised logistic regression, solved to its end by L-BFGS.

The optimum lies in the span of the examples. So where there are fewer examples than columns, the
problem is solved in the coordinates of that span (at most as many as there are examples), which
is exact and turns thousands of columns into tens: nested cross-validation takes seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.heads._head import Batch, Head, Task

PENALTIES = (0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5)  # strong to weak
MOST_STEPS = 300
TOLERANCE = 1e-5
LEAST_SINGULAR = 1e-7  # relative to the largest


class LinearHead(Head):
    """A head whose only learned part is one linear layer.

    Attributes
    ----------
    linear : nn.Linear
    l2 : float
        Penalty asked for; 0 lets it be chosen.
    """

    linear: nn.Linear
    l2: float

    def examples(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return what the layer sees, (E, P), and the segment number of each, (E,)."""
        raise TypeError(f"{type(self).__name__} does not say what its layer sees")


@dataclass
class Problem:
    """Training examples of one linear head, ready to be solved for any penalty.

    Attributes
    ----------
    head : LinearHead
        Its layer is written by `solve`.
    x : Tensor, (E, R) float64
        Examples, in the coordinates of `basis` when there is one.
    basis : Tensor, (R, P), or None
    targets, weights : Tensor, (E, ...) and (E,)
        Each segment's examples share weight 1 / segments.
    """

    head: LinearHead
    x: Tensor
    basis: Tensor | None
    targets: Tensor
    weights: Tensor
    start: Tensor | None = None

    @classmethod
    def of(cls, head: LinearHead, batches: Iterable[Batch]) -> Problem:
        """Gather the examples of the training batches."""
        xs, targets, weights = [], [], []
        segments = 0
        with torch.no_grad():
            for batch in batches:
                pooled, owner = head.examples(batch)
                count = torch.bincount(owner, minlength=len(batch.mask))
                xs.append(pooled)
                targets.append(batch.targets[owner])
                weights.append(1.0 / count[owner].double())
                segments += len(batch.mask)
        x, basis = _reduced(torch.cat(xs).double())
        return cls(head, x, basis, torch.cat(targets), torch.cat(weights) / segments)

    def solve(self, l2: float) -> float:
        """Write the optimal weights for a penalty into the head; return the mean cross-entropy.

        Starts from the previous solution, so penalties are best given from strong to weak.
        """
        classes = len(self.head.task.classes)
        if self.start is None:
            self.start = self.x.new_zeros(self.x.shape[1] + 1, classes)
        solution = _minimise(self, self.head.task, l2)
        weight = solution[:-1].T if self.basis is None else solution[:-1].T @ self.basis
        with torch.no_grad():
            self.head.linear.weight.copy_(weight)
            self.head.linear.bias.copy_(solution[-1])
            losses = self.head.task.losses(self.x @ solution[:-1] + solution[-1], self.targets)
        self.start = solution
        return float((self.weights * losses).sum())


def _reduced(x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Coordinates of examples in the span of their own rows, and its basis."""
    if x.shape[0] >= x.shape[1]:
        return x, None
    left, values, basis = torch.linalg.svd(x, full_matrices=False)
    kept = values > LEAST_SINGULAR * values.max().clamp_min(LEAST_SINGULAR)
    return left[:, kept] * values[kept], basis[kept]


def _minimise(problem: Problem, task: Task, l2: float) -> Tensor:
    assert problem.start is not None
    parameters = problem.start.clone().requires_grad_(True)
    optimiser = torch.optim.LBFGS(
        [parameters], max_iter=MOST_STEPS, history_size=20, tolerance_grad=TOLERANCE,
        tolerance_change=1e-12, line_search_fn="strong_wolfe",
    )  # fmt: skip

    def objective() -> Tensor:
        optimiser.zero_grad()
        losses = task.losses(problem.x @ parameters[:-1] + parameters[-1], problem.targets)
        value = (problem.weights * losses).sum() + 0.5 * l2 * parameters[:-1].square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(objective)  # type: ignore[no-untyped-call]
    return parameters.detach()
