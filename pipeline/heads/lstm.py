"""LSTM head: ConvNet+LSTM of Carreira & Zisserman 2017 (arXiv:1705.07750), and LRCN's variant.

As in the paper: batch normalisation of the pooled features, one LSTM of 512 units, a linear layer
at every step; training with cross-entropy on the outputs of all steps, prediction from the last
step alone. ``predict=average`` averages the probabilities of all steps instead, as LRCN does
(Donahue et al. 2015, arXiv:1411.4389). Dropout stands before and after the LSTM.

``project`` puts a fixed projection onto the leading principal axes of the training rows before
the network: fewer weights where there are few segments. It is 0 (none) unless asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.errors import UsageError
from pipeline.heads._head import Batch, Head, Task, masked_mean, moments, parse_settings


@dataclass(frozen=True, slots=True)
class Settings:
    """What ``--set`` can change.

    Attributes
    ----------
    hidden : int
        Units of the LSTM.
    dropout : float
        Share of inputs and of outputs dropped in training.
    predict : {"last", "average"}
        The last step's output, or the mean over all steps.
    project : int
        Principal axes kept of the rows; 0 keeps the rows as they are.
    """

    hidden: int = 512
    dropout: float = 0.5
    predict: Literal["last", "average"] = "last"
    project: int = 0


class Lstm(Head):
    """Batch normalisation, LSTM, and a linear layer at every step.

    Parameters
    ----------
    task : Task
    dims : sequence of int
        Streams are concatenated row by row.
    settings : Settings
    """

    centre: Tensor
    axes: Tensor

    def __init__(self, task: Task, dims: Sequence[int], settings: Settings) -> None:
        super().__init__(task, dims)
        self.settings = settings
        width = settings.project or sum(dims)
        if settings.project:
            self.register_buffer("centre", torch.zeros(sum(dims)))
            self.register_buffer("axes", torch.zeros(sum(dims), width))
        self.normalise = nn.BatchNorm1d(width)
        self.dropout = nn.Dropout(settings.dropout)
        self.lstm = nn.LSTM(width, settings.hidden, batch_first=True)
        self.linear = nn.Linear(settings.hidden, len(task.classes))

    def settle(self, batches: Iterable[Batch]) -> None:
        """Start the normalisation at the moments of the training rows; find the axes."""
        joined = [b._replace(rows=(torch.cat(b.rows, -1),)) for b in batches]
        if self.settings.project:
            rows = torch.cat([b.rows[0][b.mask] for b in joined])
            self._find_axes(rows)
            joined = [b._replace(rows=(self._projected(b.rows[0]),)) for b in joined]
        mean, deviation = moments(joined)
        for name, value in (("running_mean", mean), ("running_var", deviation.square())):
            getattr(self.normalise, name).copy_(value)

    def _find_axes(self, rows: Tensor) -> None:
        self.centre.copy_(rows.mean(0))
        centred = (rows - self.centre).double()
        _, axes = torch.linalg.eigh(centred.T @ centred)  # ascending
        leading = axes.flip(1)[:, : self.settings.project]
        sign = torch.where(leading.sum(0) < 0, -1.0, 1.0)  # an axis has no direction: choose one
        self.axes.copy_(leading * sign)

    def _projected(self, rows: Tensor) -> Tensor:
        return (rows - self.centre) @ self.axes if self.settings.project else rows

    def steps(self, batch: Batch) -> Tensor:
        """Return the scores of every step, (B, T, C); those of padding mean nothing."""
        rows = self._projected(torch.cat(batch.rows, -1))  # B x T x D
        x = rows.new_zeros(rows.shape)
        x[batch.mask] = self.normalise(rows[batch.mask])
        outputs, _ = self.lstm(self.dropout(x))  # B x T x hidden
        scores: Tensor = self.linear(self.dropout(outputs))
        return scores

    def forward(self, batch: Batch) -> Tensor:
        """Return probabilities (B, C) from the last step, or their mean over the steps."""
        probabilities = self.task.probabilities(self.steps(batch))
        if self.settings.predict == "average":
            return masked_mean(probabilities, batch.mask)
        return probabilities[torch.arange(len(probabilities)), batch.mask.sum(1) - 1]

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy at all steps: mean over the steps, then over the segments."""
        scores = self.steps(batch)
        targets = batch.targets.unsqueeze(1).expand(*batch.mask.shape, *batch.targets.shape[1:])
        return masked_mean(self.task.losses(scores, targets).unsqueeze(-1), batch.mask).mean()


def build(task: Task, dims: Sequence[int], settings: Mapping[str, str]) -> Lstm:
    """Return an untrained LSTM head; see `Settings` for what can be set."""
    chosen = parse_settings(Settings(), settings, {"predict": ("last", "average")})
    if chosen.hidden < 1 or not 0 <= chosen.project <= sum(dims) or not 0 <= chosen.dropout < 1:
        raise UsageError(
            f"hidden is {chosen.hidden}, project {chosen.project}, dropout {chosen.dropout}; "
            f"expected at least 1, 0 to {sum(dims)}, and 0 up to 1"
        )
    return Lstm(task, dims, chosen)
