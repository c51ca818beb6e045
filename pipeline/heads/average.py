"""Average head: one linear layer on what the rows have in common, or on every row by itself.

Why: a segment's rows pooled over time and a linear classifier is the reference that every
temporal model has to beat. Pooling keeps what the user asks for: the mean (C3D's video descriptor,
Tran et al. 2015, arXiv:1412.0767), the spread around it, and how much neighbouring rows differ,
which sees motion that the mean cannot. ``pool=windows`` classifies every row and averages the
probabilities, as C3D and the two-stream network do at test (Simonyan & Zisserman 2014,
arXiv:1406.2199); ``pool=middle`` looks at the middle row alone: the single-frame baseline.

The problem is convex, so it is solved to its end: no learning rate, no number of epochs. The one
open number, the strength of the L2 penalty, is chosen on validation groups (`l2=0`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import UsageError
from pipeline.heads._convex import LinearHead
from pipeline.heads._head import Batch, Task, masked_mean, parse_settings

POOLS = ("mean", "mean+std", "mean+diff", "diff", "mean+std+diff", "windows", "middle")
NORMALISATIONS = ("standardise", "l2", "none")


@dataclass(frozen=True, slots=True)
class Settings:
    """What ``--set`` can change.

    Attributes
    ----------
    pool : str
        One of `POOLS`; joined by ``+`` they are concatenated.
    normalise : {"standardise", "l2", "none"}
        Each pooled column to mean 0 and equal deviations on the training segments, such that the
        mean squared length is 1 whatever the number of columns; each pooled vector to length 1
        (C3D's descriptor); or neither.
    l2 : float
        Weight of half the squared length of the weights beside the mean cross-entropy; 0 chooses
        it on the validation segments.
    """

    pool: str = "mean+diff"
    normalise: Literal["standardise", "l2", "none"] = "standardise"
    l2: float = 0.0


class Average(LinearHead):
    """Linear classifier of pooled rows.

    Parameters
    ----------
    task : Task
    dims : sequence of int
        Streams are concatenated row by row.
    settings : Settings
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, task: Task, dims: Sequence[int], settings: Settings) -> None:
        super().__init__(task, dims)
        self.settings = settings
        self.l2 = settings.l2
        pooled = sum(dims) * len(_terms(settings.pool))
        self.register_buffer("centre", torch.zeros(pooled))
        self.register_buffer("scale", torch.ones(pooled))
        self.linear = nn.Linear(pooled, len(task.classes))
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def settle(self, batches: Iterable[Batch]) -> None:
        """Measure mean and deviation of the pooled columns."""
        if self.settings.normalise != "standardise":
            return
        self.centre.zero_()
        self.scale.fill_(1.0)
        pooled = torch.cat([self.examples(batch)[0] for batch in batches])
        deviation = pooled.std(0, correction=0)
        self.centre.copy_(pooled.mean(0))
        deviation = torch.where(deviation < 1e-6, torch.ones_like(deviation), deviation)
        self.scale.copy_(deviation * len(deviation) ** 0.5)

    def examples(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return what the linear layer sees, (E, P), and the segment number of each, (E,).

        There is one example per segment, or one per row for ``pool=windows``.
        """
        rows = torch.cat(batch.rows, -1)
        if self.settings.pool == "windows":
            pooled, owner = rows[batch.mask], batch.mask.nonzero()[:, 0]
        else:
            pooled = torch.cat([_pool(t, rows, batch.mask) for t in _terms(self.settings.pool)], -1)
            owner = torch.arange(len(pooled), device=pooled.device)
        if self.settings.normalise == "l2":
            pooled = functional.normalize(pooled, dim=-1)
        return (pooled - self.centre) / self.scale, owner

    def forward(self, batch: Batch) -> Tensor:
        """Return probabilities (B, C), for ``pool=windows`` their mean over the rows."""
        pooled, owner = self.examples(batch)
        probabilities = self.task.probabilities(self.linear(pooled))
        total = probabilities.new_zeros(len(batch.mask), probabilities.shape[-1])
        total.index_add_(0, owner, probabilities)
        return total / torch.bincount(owner, minlength=len(total)).unsqueeze(-1)


def _terms(pool: str) -> list[str]:
    return pool.split("+")


def _pool(term: str, rows: Tensor, mask: Tensor) -> Tensor:
    """One statistic over time: (B, T, D) gives (B, D)."""
    if term == "mean":
        return masked_mean(rows, mask)
    if term == "middle":
        middle = (mask.sum(1) - 1) // 2
        return rows[torch.arange(len(rows), device=rows.device), middle]
    if term == "std":
        mean = masked_mean(rows, mask).unsqueeze(1)
        return masked_mean((rows - mean).square(), mask).sqrt()
    both = mask[:, 1:] & mask[:, :-1]
    change = (rows[:, 1:] - rows[:, :-1]).abs() * both.unsqueeze(-1)
    return change.sum(1) / both.sum(1, keepdim=True).clamp_min(1)


def build(task: Task, dims: Sequence[int], settings: Mapping[str, str]) -> Average:
    """Return an untrained average head; see `Settings` for what can be set."""
    choices = {"pool": POOLS, "normalise": NORMALISATIONS}
    chosen = parse_settings(Settings(), settings, choices)
    if chosen.l2 < 0:
        raise UsageError(f"l2 is {chosen.l2}, expected 0 (choose it) or a positive number")
    return Average(task, dims, chosen)
