"""LSTM head: ConvNet+LSTM of Carreira & Zisserman 2017 (arXiv:1705.07750), and LRCN's variant.

As in the paper: batch normalisation of the pooled features, one LSTM of 512 units, a linear layer
at every step; training with cross-entropy on the outputs of all steps, prediction from the last
step alone. ``predict=average`` averages the probabilities of all steps instead, as LRCN does
(Donahue et al. 2015, arXiv:1411.4389). Dropout stands before and after the LSTM.

``project`` puts a fixed projection onto the leading principal axes of the normalised training rows
before the LSTM: fewer weights where there are few segments. It is 0 (none) unless asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.errors import UsageError
from pipeline.heads._head import Batch, Head, Task, masked_mean, moments, parse_settings

CHOICES = {"predict": ("last", "average", "pooled"), "learn": ("steps", "prediction")}
LEAST_PROBABILITY = 1e-6
MOST_ROWS_FOR_AXES = 50_000


@dataclass(frozen=True, slots=True)
class Settings:
    """What ``--set`` can change.

    Attributes
    ----------
    hidden : int
        Units of the LSTM.
    dropout : float
        Share of inputs and of outputs dropped in training.
    predict : {"last", "average", "pooled"}
        The last step's probabilities, the mean probabilities of all steps, or those of the mean
        score of all steps.
    learn : {"steps", "prediction"}
        Cross-entropy on the outputs of all steps, or on the prediction alone.
    project : int
        Principal axes kept of the rows; 0 keeps the rows as they are.
    """

    hidden: int = 512
    dropout: float = 0.5
    predict: Literal["last", "average", "pooled"] = "last"
    learn: Literal["steps", "prediction"] = "steps"
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

    axes: Tensor

    def __init__(self, task: Task, dims: Sequence[int], settings: Settings) -> None:
        super().__init__(task, dims)
        self.settings = settings
        width = settings.project or sum(dims)
        if settings.project:
            self.register_buffer("axes", torch.zeros(sum(dims), width))
        self.normalise = nn.BatchNorm1d(sum(dims))
        self.dropout = nn.Dropout(settings.dropout)
        self.lstm = nn.LSTM(width, settings.hidden, batch_first=True)
        self.linear = nn.Linear(settings.hidden, len(task.classes))

    def settle(self, batches: Iterable[Batch]) -> None:
        """Start the normalisation at the moments of the training rows; find the axes."""
        mean, deviation = moments(batches)
        for name, value in (("running_mean", mean), ("running_var", deviation.square())):
            getattr(self.normalise, name).copy_(value)
        if self.settings.project:
            rows: list[Tensor] = []
            for batch in batches:
                rows.append(torch.cat(batch.rows, -1)[batch.mask])
                if sum(map(len, rows)) > MOST_ROWS_FOR_AXES:
                    break
            normal = (torch.cat(rows) - mean) / deviation
            self.axes.copy_(_leading_axes(normal, self.settings.project))

    def steps(self, batch: Batch) -> Tensor:
        """Return the scores of every step, (B, T, C); those of padding mean nothing."""
        rows = torch.cat(batch.rows, -1)  # B x T x D
        normal = self.normalise(rows[batch.mask])
        if self.settings.project:
            normal = normal @ self.axes
        x = rows.new_zeros(*rows.shape[:2], normal.shape[-1])
        x[batch.mask] = normal
        outputs, _ = self.lstm(self.dropout(x))  # B x T x hidden
        scores: Tensor = self.linear(self.dropout(outputs))
        return scores

    def prediction(self, batch: Batch) -> Tensor:
        """Return log-probabilities (log-odds for several labels) of the segments, (B, C)."""
        steps = self.steps(batch)
        if self.settings.predict == "last":
            return steps[torch.arange(len(steps)), batch.mask.sum(1) - 1]
        if self.settings.predict == "pooled":
            return masked_mean(steps, batch.mask)
        mean = masked_mean(self.task.probabilities(steps), batch.mask)
        return mean.logit(LEAST_PROBABILITY) if self.task.multi_label else mean.log()

    def forward(self, batch: Batch) -> Tensor:
        """Return probabilities (B, C)."""
        return self.task.probabilities(self.prediction(batch))

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy of all steps (mean over steps, then segments), or of the prediction."""
        if self.settings.learn == "prediction":
            return self.task.losses(self.prediction(batch), batch.targets).mean()
        scores = self.steps(batch)
        targets = batch.targets.unsqueeze(1).expand(*batch.mask.shape, *batch.targets.shape[1:])
        return masked_mean(self.task.losses(scores, targets).unsqueeze(-1), batch.mask).mean()


def _leading_axes(rows: Tensor, count: int) -> Tensor:
    """Return principal axes (D, count), scaled so that the mean variance along them is 1.

    Not whitened: along minor axes there is little but noise, which must stay small.
    """
    _, values, axes = torch.linalg.svd(rows, full_matrices=False)
    leading = axes[:count].T
    sign = torch.where(leading.sum(0) < 0, -1.0, 1.0)  # an axis has no direction: choose one
    variance = values[:count].square().mean() / len(rows)
    found = rows.new_zeros(rows.shape[1], count)
    found[:, : leading.shape[1]] = leading * sign / variance.sqrt()
    return found


def build(task: Task, dims: Sequence[int], settings: Mapping[str, str]) -> Lstm:
    """Return an untrained LSTM head; see `Settings` for what can be set."""
    chosen = parse_settings(Settings(), settings, CHOICES)
    if chosen.hidden < 1 or not 0 <= chosen.project <= sum(dims) or not 0 <= chosen.dropout < 1:
        raise UsageError(
            f"hidden is {chosen.hidden}, project {chosen.project}, dropout {chosen.dropout}; "
            f"expected at least 1, 0 to {sum(dims)}, and 0 up to 1"
        )
    return Lstm(task, dims, chosen)
