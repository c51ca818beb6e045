"""Features as a PyTorch dataset: ragged sequences, labels, and batches read at disk speed.

A store does not care what a segment is called in which benchmark, so labels and splits come from
the manifest that is given at training time, or from the store when none is. Rows of several
recipes (RGB, flow) are joined by start time. Nothing is dropped in silence: what was left out,
and why, is in `FeatureDataset.coverage`.

Use it with `collate`, which also lets a whole batch be read straight into its padded tensor::

    data = FeatureDataset("features", ["i3d-rgb", "i3d-flow"], manifest="train.csv", split="train")
    loader = DataLoader(data, 64, sampler=ShardSampler(data), collate_fn=collate, num_workers=2)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

import manifests
from manifests import Manifest
from pipeline.errors import UsageError
from pipeline.heads._buffers import Buffers
from pipeline.heads._head import Batch
from pipeline.heads._labels import Labels, some, targets_of
from pipeline.store import FeatureSet, FeatureStore
from pipeline.store.joining import JoinedRows

SHARDS_IN_BUFFER = 8


class Sample(NamedTuple):
    """One segment.

    Attributes
    ----------
    rows : tuple of Tensor, each (T, D), float32
        One per recipe.
    target : Tensor, () int64, or (C,) float32 for several labels
    key : str
        The segment.
    """

    rows: tuple[Tensor, ...]
    target: Tensor
    key: str


class SequenceBatch(NamedTuple):
    """Segments padded at the end to the longest of them.

    Attributes
    ----------
    rows : tuple of Tensor, each (B, T, D), float32
        One per recipe; zero where the mask is False.
    mask : Tensor, (B, T), bool
        True where a row exists.
    targets : Tensor, (B,) int64, or (B, C) float32 for several labels
    keys : tuple of str
        The segments.
    """

    rows: tuple[Tensor, ...]
    mask: Tensor
    targets: Tensor
    keys: tuple[str, ...]

    @property
    def head_input(self) -> Batch:
        """What a head takes."""
        return Batch(self.rows, self.mask, self.targets)


def collate(samples: Sequence[Sample] | SequenceBatch) -> SequenceBatch:
    """Pad samples to one batch; a batch that was read as one passes through.

    Parameters
    ----------
    samples : sequence of Sample, or SequenceBatch
        At least one.
    """
    if isinstance(samples, SequenceBatch):
        return samples
    lengths = torch.tensor([len(sample.rows[0]) for sample in samples])
    rows = tuple(
        torch.nn.utils.rnn.pad_sequence([sample.rows[k] for sample in samples], batch_first=True)
        for k in range(len(samples[0].rows))
    )
    return SequenceBatch(
        rows,
        torch.arange(int(lengths.max())) < lengths.unsqueeze(1),
        torch.stack([sample.target for sample in samples]),
        tuple(sample.key for sample in samples),
    )


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a dataset holds of what was asked for.

    Attributes
    ----------
    segments, rows : int
        In the dataset; rows after joining.
    absent : dict of str to tuple of str
        For each recipe, keys asked for that it lacks.
    empty : tuple of str
        Keys without a row that all recipes have.
    unlisted : int
        Segments of the store that the manifest does not name, or of other splits.
    unmatched : dict of str to int
        For each recipe, rows without a partner in the others.
    """

    segments: int
    rows: int
    absent: dict[str, tuple[str, ...]]
    empty: tuple[str, ...]
    unlisted: int
    unmatched: dict[str, int]

    def __str__(self) -> str:
        parts = [f"{self.segments} segments, {self.rows} rows"]
        parts += [f"{len(keys)} not in {name}" for name, keys in self.absent.items() if keys]
        parts += [f"{n} rows of {name} unmatched" for name, n in self.unmatched.items() if n]
        if self.empty:
            parts.append(f"{len(self.empty)} without a common row")
        if self.unlisted:
            parts.append(f"{self.unlisted} in the store but not asked for")
        return ", ".join(parts)


class FeatureDataset(Dataset[Sample]):
    """The features of labelled segments under one or several recipes.

    Safe in `DataLoader` workers, forked or spawned: each process opens its own files. One object
    serves one thread at a time.

    Parameters
    ----------
    out : Path or str
        The store.
    recipes : str or sequence of str
        Recipe folders or extractor names.
    manifest : Manifest, Path or str, optional
        Where labels and splits come from, and which segments are wanted; the store's own if None.
    split : str, optional
        Only segments of this split.
    classes : sequence of str, optional
        Class names in index order; when absent the manifest's, or the sorted names found in all
        its splits, so that every split numbers them alike.
    labelled : bool
        Demand a label for each segment; False gives target -1 (or zeros) where there is none.
    in_memory : bool
        Read everything now.

    Attributes
    ----------
    keys, groups, splits : tuple of str
        One entry per segment, in the order of the manifest (of the keys without one).
    classes : tuple of str
    multi_label : bool
        True when any segment of any split has several labels: targets are then ones and zeros.
    targets : Tensor, (n,) int64, or (n, C) float32
    lengths : array, (n,) int64
        Rows of each segment.
    shards : array, (n,) int64
        Shard of each segment, for `ShardSampler`.
    dims : tuple of int
        D of each recipe.
    recipes : tuple of str
        Recipe folders.
    coverage : Coverage
        What is in it and what was left out.
    reader : JoinedRows
        Reads rows of segment numbers, without labels or tensors.

    Raises
    ------
    UsageError
        When nothing is left (the message says why), a label is missing, or a label is not among
        `classes`.
    StoreError
        When there is no such store or recipe.
    """

    def __init__(
        self,
        out: Path | str,
        recipes: str | Sequence[str],
        manifest: Manifest | Path | str | None = None,
        split: str | None = None,
        *,
        classes: Sequence[str] = (),
        labelled: bool = True,
        in_memory: bool = False,
    ) -> None:
        store = FeatureStore(out)
        sets = [store[name] for name in ([recipes] if isinstance(recipes, str) else recipes)]
        self.recipes = tuple(features.name for features in sets)
        if isinstance(manifest, (str, Path)):
            manifest = manifests.load(Path(manifest))
        listed = Labels.of_store(sets[0]) if manifest is None else Labels.of_manifest(manifest)
        wanted = listed.of_split(split)
        labels, self.reader, self.coverage = _joined(sets, wanted)
        if not labels.keys:
            raise UsageError(f"{out}: {_why_none(len(wanted.keys), self.coverage)}")
        self.keys, self.groups, self.splits = labels.keys, labels.groups, labels.splits
        self.multi_label = any(len(names) > 1 for names in listed.names)
        self.classes = tuple(classes) or listed.classes or listed.found()
        self.targets = targets_of(labels, self.classes, self.multi_label, labelled)
        self.lengths, self.shards = self.reader.lengths, self.reader.shards
        self.dims = self.reader.dims
        self._buffers = Buffers()
        self._loaded = self._load() if in_memory else None

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, number: int) -> Sample:
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        number %= len(self)
        if self._loaded is not None:
            rows = tuple(stream[number] for stream in self._loaded)
        else:
            rows = self._read(number)
        return Sample(rows, self.targets[number], self.keys[number])

    def __getitems__(self, numbers: Sequence[int]) -> SequenceBatch:
        """Read a whole batch, each segment straight into its place."""
        if self._loaded is not None:
            return collate([self[number] for number in numbers])
        lengths = self.lengths[numbers]
        longest = int(lengths.max())
        rows = tuple(self._batch(recipe, numbers, longest) for recipe in range(len(self.dims)))
        mask = torch.from_numpy(np.arange(longest) < lengths[:, None])
        keys = tuple(self.keys[number] for number in numbers)
        return SequenceBatch(rows, mask, self.targets[numbers], keys)

    def seconds(self, number: int) -> NDArray[np.float64]:
        """Return what each row of a segment covers, shape (T, 2), in source-video time."""
        return self.reader.seconds(number)

    def _read(self, number: int) -> tuple[Tensor, ...]:
        arrays = (self.reader.read(recipe, number) for recipe in range(len(self.dims)))
        return tuple(torch.from_numpy(array).float() for array in arrays)

    def _batch(self, recipe: int, numbers: Sequence[int], longest: int) -> Tensor:
        shape = (len(numbers), longest, self.dims[recipe])
        padded = self._buffers.take(shape, self.reader.dtype(recipe))
        self.reader.padded(recipe, numbers, padded)
        return torch.from_numpy(padded).float()

    def _load(self) -> list[list[Tensor]]:
        samples = [self._read(number) for number in range(len(self))]
        return [[sample[k] for sample in samples] for k in range(len(self.dims))]


def _joined(sets: Sequence[FeatureSet], wanted: Labels) -> tuple[Labels, JoinedRows, Coverage]:
    """Return the segments that all recipes have rows for, the way to read them, and the rest."""
    absent = {each.name: tuple(key for key in wanted.keys if key not in each) for each in sets}
    gone = set().union(*absent.values())
    labels = wanted.keep([n for n, key in enumerate(wanted.keys) if key not in gone])
    reader = JoinedRows(sets, labels.keys)
    empty = tuple(labels.keys[n] for n in np.flatnonzero(reader.lengths == 0))
    if empty:
        labels = labels.keep(np.flatnonzero(reader.lengths).tolist())
        reader = JoinedRows(sets, labels.keys)
    coverage = Coverage(
        segments=len(labels.keys),
        rows=int(reader.lengths.sum()),
        absent=absent,
        empty=empty,
        unlisted=len(sets[0]) - len(wanted.keys) + len(absent[sets[0].name]),
        unmatched=dict(zip(absent, reader.unmatched, strict=True)),
    )
    return labels, reader, coverage


def _why_none(wanted: int, coverage: Coverage) -> str:
    """Say why no segment is left, with counts."""
    lacking = [f"{len(keys)} are not in {name}" for name, keys in coverage.absent.items() if keys]
    what = f"of {wanted} segments asked for, none can be used"
    if not coverage.empty:
        return (
            f"{what}: {', '.join(lacking) or 'the list is empty'}; extract them first, or choose "
            "another manifest"
        )
    if len(coverage.absent) == 1:
        return f"{what}: {', '.join([*lacking, f'{len(coverage.empty)} have no row'])}"
    apart = f"{len(coverage.empty)} have no row that starts at the same time under all recipes"
    return (
        f"{what}: {', '.join([*lacking, apart])} ({some(coverage.empty)}); rows are joined by "
        "their start: extract with strides and rates that meet, or use the recipes one by one"
    )


class ShardSampler(Sampler[int]):
    """Random order that stays within a few shards at a time, for disks across a network.

    Shards are shuffled, then the segments of every `shards_in_buffer` successive shards together.
    Each segment comes exactly once an epoch.

    Parameters
    ----------
    dataset : FeatureDataset
    seed : int
        Same seed and epoch, same order.
    shards_in_buffer : int
        More mix better, fewer read less far apart.

    Attributes
    ----------
    epoch : int
        Set it, or let each pass add one.
    """

    def __init__(
        self, dataset: FeatureDataset, seed: int = 0, shards_in_buffer: int = SHARDS_IN_BUFFER
    ) -> None:
        if shards_in_buffer < 1:
            raise UsageError(f"shards_in_buffer is {shards_in_buffer}; it must be at least 1")
        self._shards = np.unique(dataset.shards, return_inverse=True)[1]
        self._seed = seed
        self._buffer = shards_in_buffer
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._shards)

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng((self._seed, self.epoch))
        self.epoch += 1
        turns = random.permutation(int(self._shards.max()) + 1) // self._buffer
        yield from np.lexsort((random.random(len(self)), turns[self._shards])).tolist()
