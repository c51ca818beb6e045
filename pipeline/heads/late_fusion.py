"""Late fusion: one head per stream, trained by itself, and their probabilities averaged.

As the two-stream network (Simonyan & Zisserman 2014, arXiv:1406.2199): RGB and flow never see each
other before the end. ``weights=1:1.5`` is what TSN gives RGB and flow (Wang et al. 2016,
arXiv:1608.00859); ``average=logits`` sums log-probabilities, which for one softmax is the same as
I3D's sum of logits up to the normalisation. ``fuse=learned`` instead trains one head on the
streams' rows put side by side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.errors import UsageError
from pipeline.heads._head import Batch, Head, Task, parse_settings
from pipeline.heads._head import build as build_head

LEAST_PROBABILITY = 1e-12


@dataclass(frozen=True, slots=True)
class Settings:
    """What ``--set`` can change; any other key goes to the heads of the streams.

    Attributes
    ----------
    base : {"average", "lstm"}
        The head of each stream.
    weights : str
        One number per stream in the order the streams were given; empty for equal ones.
    average : {"softmax", "logits"}
        What is averaged.
    fuse : {"scores", "learned"}
        Scores of separate heads, or one head on concatenated rows.
    """

    base: Literal["average", "lstm"] = "average"
    weights: str = ""
    average: Literal["softmax", "logits"] = "softmax"
    fuse: Literal["scores", "learned"] = "scores"


CHOICES = {
    "base": ("average", "lstm"),
    "average": ("softmax", "logits"),
    "fuse": ("scores", "learned"),
}


class LateFusion(Head):
    """Heads of single streams and the rule that joins their probabilities.

    Parameters
    ----------
    task : Task
    heads : sequence of Head
        One per stream, or a single one for all streams side by side.
    weights : sequence of float
        Of each head; only their ratio matters.
    logits : bool
        Average log-probabilities (for several labels: log-odds) instead of probabilities.
    """

    def __init__(
        self, task: Task, heads: Sequence[Head], weights: Sequence[float], logits: bool
    ) -> None:
        super().__init__(task, [dim for head in heads for dim in head.dims])
        self.heads = nn.ModuleList(heads)
        self.weights = tuple(w / sum(weights) for w in weights)
        self.logits = logits

    @property
    def parts(self) -> tuple[tuple[int, Head], ...]:
        """The heads of the streams."""
        return tuple((k, head) for k, head in enumerate(self.heads) if isinstance(head, Head))

    def forward(self, batch: Batch) -> Tensor:
        """Return the weighted mean of the streams' probabilities, (B, C)."""
        return self.fuse([head(batch.stream(number)) for number, head in self.parts])

    def fuse(self, each: Sequence[Tensor]) -> Tensor:
        """Join the probabilities of the streams, each (B, C)."""
        if not self.logits:
            return torch.stack([w * p for w, p in zip(self.weights, each, strict=True)]).sum(0)
        logs = [p.clamp(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY) for p in each]
        scores = [p.logit() if self.task.multi_label else p.log() for p in logs]
        total = torch.stack([w * s for w, s in zip(self.weights, scores, strict=True)]).sum(0)
        return self.task.probabilities(total)


def build(task: Task, dims: Sequence[int], settings: Mapping[str, str]) -> Head:
    """Return untrained heads of the streams, joined; see `Settings` for what can be set.

    Raises
    ------
    UsageError
        With fewer than two streams, or weights that do not match them.
    """
    if len(dims) < 2:
        raise UsageError("late fusion needs at least two streams, e.g. an RGB and a flow extractor")
    own = {key: settings[key] for key in Settings.__slots__ if key in settings}
    rest = {key: value for key, value in settings.items() if key not in own}
    chosen = parse_settings(Settings(), own, CHOICES)
    if chosen.fuse == "learned":
        return build_head(chosen.base, task, dims, rest)
    heads = [build_head(chosen.base, task, [dim], rest) for dim in dims]
    return LateFusion(
        task, heads, parse_weights(chosen.weights, len(dims)), chosen.average == "logits"
    )


def parse_weights(text: str, streams: int) -> list[float]:
    """Return the weights that a text such as ``1:1.5`` gives streams; empty weighs all alike.

    Raises
    ------
    UsageError
        When it is not one number of at least 0 for each, or all are 0.
    """
    parts = text.split(":") if text else ["1"] * streams
    try:
        weights = [float(part) for part in parts]
    except ValueError:
        weights = []
    if len(weights) != streams or min(weights) < 0 or not 0 < sum(weights) < math.inf:
        raise UsageError(
            f"weights is {text!r}, expected {streams} numbers of at least 0 such as 1:1.5"
        )
    return weights
