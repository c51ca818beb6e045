"""Labelled feature sequences in memory, and what training asks of any source of batches.

`Data` is the narrow door between features and training: numbers of segments go in, padded
batches come out. `Examples` holds everything in memory; `pipeline.heads._load.Stored` reads sets
that are too large for that from the store, batch by batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pipeline.errors import UsageError
from pipeline.heads._head import Batch, Task


class Data(Protocol):
    """What training asks of a set of segments."""

    @property
    def dims(self) -> tuple[int, ...]:
        """D of each stream."""

    def batches(
        self, chosen: Sequence[int], size: int, shuffle_seed: int | None = None
    ) -> Iterator[Batch]:
        """Yield the chosen segments in batches; in the order given, or shuffled by a seed."""

    def stream(self, number: int) -> Data:
        """Return the same segments with one stream only."""


def shuffled(chosen: Sequence[int], seed: int | None) -> list[int]:
    """Return segment numbers in the order that `Data.batches` visits them."""
    if seed is None:
        return list(chosen)
    order = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(seed))
    return [chosen[k] for k in order.tolist()]


@dataclass(frozen=True)
class Examples:
    """Segments with their rows and labels, in memory.

    Attributes
    ----------
    keys, groups, splits : tuple of str
        One entry per segment.
    task : Task
        The classes.
    targets : Tensor, (n,) int64, or (n, C) float32 for several labels
    streams : tuple of str
        Names of the recipes.
    rows : tuple of tuples of Tensor, each (N, D) float32
        ``rows[stream][segment]``; all streams of a segment have the same N, at least 1.
    """

    keys: tuple[str, ...]
    groups: tuple[str, ...]
    splits: tuple[str, ...]
    task: Task
    targets: Tensor
    streams: tuple[str, ...]
    rows: tuple[tuple[Tensor, ...], ...]

    def __post_init__(self) -> None:
        sizes = {len(self.keys), len(self.groups), len(self.splits), len(self.targets)}
        sizes |= {len(rows) for rows in self.rows}
        if sizes != {len(self.keys)} or not self.keys:
            raise UsageError(f"segments, labels and rows differ in number: {sorted(sizes)}")
        for k, key in enumerate(self.keys):
            lengths = {len(rows[k]) for rows in self.rows}
            if len(lengths) > 1 or 0 in lengths:
                raise UsageError(
                    f"segment {key}: its streams {', '.join(self.streams)} have "
                    f"{sorted(lengths)} rows, expected one and the same number of at least 1"
                )

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def dims(self) -> tuple[int, ...]:
        """D of each stream."""
        return tuple(rows[0].shape[1] for rows in self.rows)

    @property
    def labels(self) -> list[list[int]]:
        """Class numbers of each segment."""
        if self.task.multi_label:
            return [torch.nonzero(t).flatten().tolist() for t in self.targets]
        return [[int(t)] for t in self.targets]

    @property
    def lengths(self) -> list[int]:
        """Rows of each segment."""
        return [len(rows) for rows in self.rows[0]]

    def batches(
        self, chosen: Sequence[int], size: int, shuffle_seed: int | None = None
    ) -> Iterator[Batch]:
        """Yield the chosen segments in batches of `size`, see `Data`."""
        order = shuffled(chosen, shuffle_seed)
        for first in range(0, len(order), size):
            yield self.batch(order[first : first + size])

    def batch(self, chosen: Sequence[int]) -> Batch:
        """Return some segments padded to the longest of them."""
        lengths = torch.tensor([len(self.rows[0][k]) for k in chosen])
        mask = torch.arange(int(lengths.max())) < lengths.unsqueeze(1)
        rows = tuple(
            pad_sequence([stream[k] for k in chosen], batch_first=True) for stream in self.rows
        )
        return Batch(rows, mask, self.targets[list(chosen)])

    def keep(self, chosen: Sequence[int]) -> Examples:
        """Return some of the segments, in the order given."""
        rows = tuple(tuple(stream[k] for k in chosen) for stream in self.rows)
        return replace(self, **self.known_of(chosen), rows=rows)

    def known_of(self, chosen: Sequence[int]) -> dict[str, Any]:
        """Return the fields of some segments besides their rows."""
        return {
            "keys": tuple(self.keys[k] for k in chosen),
            "groups": tuple(self.groups[k] for k in chosen),
            "splits": tuple(self.splits[k] for k in chosen),
            "targets": self.targets[list(chosen)],
        }

    def stream(self, number: int) -> Examples:
        """Return the same segments with one stream only."""
        return replace(self, streams=(self.streams[number],), rows=(self.rows[number],))
