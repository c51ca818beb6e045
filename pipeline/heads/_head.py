"""What every head is: a small network from rows and their mask to one score per class.

A head sees a `Batch` of ragged sequences. Its streams (RGB, flow, ...) are joined by time before
they come here, so they share one mask. Padding stands only at the end of a sequence.

A public module of this package that defines ``build(task, dims, settings) -> Head`` is a head; its
name on the command line is the module's with hyphens (``late_fusion`` is ``late-fusion``).
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import UsageError

SettingsType = TypeVar("SettingsType")


class Batch(NamedTuple):
    """Ragged sequences of B segments, padded at the end to the longest.

    Attributes
    ----------
    rows : tuple of Tensor, each (B, T, D), float32
        One per stream; zero where the mask is False.
    mask : Tensor, (B, T), bool
        True where a row exists; every segment has at least one.
    targets : Tensor, (B,) int64, or (B, C) float32 for several labels
        Class numbers, or ones and zeros.
    """

    rows: tuple[Tensor, ...]
    mask: Tensor
    targets: Tensor

    def stream(self, number: int) -> Batch:
        """Return the same segments with one stream only."""
        return self._replace(rows=(self.rows[number],))

    def to(self, device: torch.device) -> Batch:
        """Return the batch on another device."""
        rows = tuple(x.to(device, non_blocking=True) for x in self.rows)
        return Batch(rows, self.mask.to(device), self.targets.to(device))


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be told apart.

    Attributes
    ----------
    classes : tuple of str
        Names in the order of the scores.
    multi_label : bool
        True where a segment may have several labels: sigmoids instead of a softmax.
    class_weights : tuple of float
        Weight of each class in the loss; empty for equal weights.
    """

    classes: tuple[str, ...]
    multi_label: bool = False
    class_weights: tuple[float, ...] = ()

    def probabilities(self, scores: Tensor) -> Tensor:
        """Softmax, or sigmoids where several labels are allowed, over the last axis."""
        return scores.sigmoid() if self.multi_label else scores.softmax(-1)

    def losses(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of each example, class weights included.

        Parameters
        ----------
        scores : Tensor, (..., C)
        targets : Tensor, (...) int64 or (..., C) float32

        Returns
        -------
        Tensor, (...)
            Binary cross-entropies are summed over the classes.
        """
        weights = scores.new_tensor(self.class_weights) if self.class_weights else None
        if self.multi_label:
            each = functional.binary_cross_entropy_with_logits(
                scores, targets.to(scores.dtype), pos_weight=weights, reduction="none"
            )
            return each.sum(-1)
        flat = functional.cross_entropy(
            scores.reshape(-1, scores.shape[-1]), targets.reshape(-1), weights, reduction="none"
        )
        return flat.reshape(targets.shape)


class Head(nn.Module):
    """Base of all heads.

    Attributes
    ----------
    task : Task
    dims : tuple of int
        D of each stream.
    """

    def __init__(self, task: Task, dims: Sequence[int]) -> None:
        super().__init__()
        self.task = task
        self.dims = tuple(dims)

    @property
    def parts(self) -> tuple[tuple[int, Head], ...]:
        """Heads trained separately, each with the number of its stream."""
        return ()

    def settle(self, batches: Iterable[Batch]) -> None:
        """Fix what is measured on the training segments, not learned: means and deviations.

        The batches can be gone through more than once.
        """

    def forward(self, batch: Batch) -> Tensor:
        """Return probabilities (B, C) of the segments."""
        raise TypeError(f"{type(self).__name__} has no forward pass")

    def loss(self, batch: Batch) -> Tensor:
        """Return the mean training loss of a batch."""
        raise TypeError(f"{type(self).__name__} is not trained by descent")


def masked_mean(rows: Tensor, mask: Tensor) -> Tensor:
    """Mean over the existing rows: (B, T, D) and (B, T) give (B, D)."""
    weight = mask.unsqueeze(-1).to(rows.dtype)
    return (rows * weight).sum(1) / weight.sum(1)


def moments(batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (D,) over all rows, streams side by side.

    The deviation is 1 where a column is constant.
    """
    count, total, square = 0, torch.zeros(()), torch.zeros(())
    for batch in batches:
        rows = torch.cat(batch.rows, -1)[batch.mask].double()
        count += len(rows)
        total = total.to(rows.device) + rows.sum(0)
        square = square.to(rows.device) + rows.square().sum(0)
    mean = total / count
    deviation = (square / count - mean.square()).clamp_min(0).sqrt()
    deviation[deviation < 1e-6] = 1.0
    return mean.float(), deviation.float()


def names() -> tuple[str, ...]:
    """Return the names of all heads: the public modules of this package that define `build`."""
    folder = Path(__file__).parent
    found = sorted(m.name for m in pkgutil.iter_modules([str(folder)]) if m.name[0] != "_")
    heads = (n for n in found if "\ndef build(" in (folder / f"{n}.py").read_text("utf-8"))
    return tuple(name.replace("_", "-") for name in heads)


def _module(name: str) -> Any:
    if name not in names():
        near = difflib.get_close_matches(name, names()) or list(names())
        raise UsageError(f"no head is called {name!r}; did you mean {', '.join(near)}?")
    return importlib.import_module(f"pipeline.heads.{name.replace('-', '_')}")


def build(name: str, task: Task, dims: Sequence[int], settings: Mapping[str, str]) -> Head:
    """Return an untrained head.

    Parameters
    ----------
    name : str
        As on the command line.
    task : Task
    dims : sequence of int
        D of each stream.
    settings : Mapping of str to str
        What ``--set key=value`` gave.

    Raises
    ------
    UsageError
        On an unknown name (with the nearest), an unknown setting, or a value it cannot take.
    """
    head: Head = _module(name).build(task, tuple(dims), settings)
    return head


def parse_settings(
    defaults: SettingsType, settings: Mapping[str, str], choices: Mapping[str, Sequence[str]]
) -> SettingsType:
    """Return the settings value object with texts put in by name and type.

    Parameters
    ----------
    defaults : dataclass instance
    settings : Mapping of str to str
    choices : Mapping of str to sequence of str
        Allowed words of the text settings.
    """
    known = {f.name: getattr(defaults, f.name) for f in fields(defaults)}  # type: ignore[arg-type]
    changed: dict[str, Any] = {}
    for key, text in settings.items():
        if key not in known:
            raise UsageError(
                f"no setting of this head is called {key!r}, expected one of {', '.join(known)}"
            )
        if key in choices and text not in choices[key]:
            raise UsageError(f"{key} is {text!r}, expected one of {', '.join(choices[key])}")
        try:
            changed[key] = type(known[key])(text) if text != "" else known[key]
        except ValueError:
            kind = type(known[key]).__name__
            raise UsageError(f"{key} is {text!r}, expected a value of type {kind}") from None
    return replace(defaults, **changed)  # type: ignore[type-var]
