"""From a store to `Examples`: one or several recipes, with labels and groups.

Nothing is dropped in silence. What the store lacks of a manifest is counted; recipes that do not
hold the same segments are an error that names some, unless the common ones are asked for.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import manifests
from manifests import Manifest
from pipeline.errors import UsageError
from pipeline.heads._examples import Examples
from pipeline.heads._head import Batch, Task
from pipeline.heads._labels import some
from pipeline.heads.dataset import Coverage, FeatureDataset
from pipeline.store import FeatureStore

GROUP_COLUMN = "group"
BYTES_OF_A_FLOAT = 4


@dataclass(frozen=True)
class Wanted:
    """Which features, and what they are to be trained on.

    Attributes
    ----------
    out : Path
        The store.
    recipes : tuple of str
        Recipe folders or extractor names, one per stream.
    manifest : Path or None
        Where labels, splits and groups come from; the store's own if None.
    group_column : str
        Column of the manifest that names the groups; ``video`` groups by video.
    common : bool
        Go on with the segments that all recipes have where they differ.
    memory_bytes : int
        Features larger than this are read from the store batch by batch.
    """

    out: Path
    recipes: tuple[str, ...]
    manifest: Path | None = None
    group_column: str = GROUP_COLUMN
    common: bool = False
    memory_bytes: int = 4 << 30


@dataclass(frozen=True)
class Stored(Examples):
    """Segments whose rows stay in the store; `rows` is empty.

    Attributes
    ----------
    data : FeatureDataset
    places : tuple of int
        Number of each segment in `data`.
    number : int or None
        The one stream that is shown; None shows all.
    """

    data: FeatureDataset
    places: tuple[int, ...]
    number: int | None = None

    @property
    def dims(self) -> tuple[int, ...]:
        """D of each stream."""
        return self.data.dims if self.number is None else (self.data.dims[self.number],)

    @property
    def lengths(self) -> list[int]:
        """Rows of each segment."""
        found: list[int] = self.data.lengths[list(self.places)].tolist()
        return found

    def batch(self, chosen: Sequence[int]) -> Batch:
        """Read some segments, padded to the longest of them."""
        found = self.data.__getitems__([self.places[k] for k in chosen]).head_input
        return found if self.number is None else found.stream(self.number)

    def keep(self, chosen: Sequence[int]) -> Stored:
        """Return some of the segments, in the order given."""
        places = tuple(self.places[k] for k in chosen)
        return replace(self, **self.known_of(chosen), places=places)

    def stream(self, number: int) -> Stored:
        """Return the same segments with one stream only."""
        streams = (self.streams[number],)
        return replace(self, streams=streams, number=self.data.recipes.index(streams[0]))


def load(wanted: Wanted, classes: Sequence[str] = ()) -> tuple[Examples, Coverage]:
    """Open features for training, in memory where they fit.

    Raises
    ------
    UsageError
        When labels or groups are missing, or recipes differ in their segments and `common` is
        not set.
    """
    manifest = manifests.load(wanted.manifest) if wanted.manifest else None
    data = FeatureDataset(wanted.out, wanted.recipes, manifest, classes=classes)
    _refuse_differing(wanted, data.coverage)
    stored = Stored(
        keys=data.keys,
        groups=_groups(wanted, data, manifest),
        splits=data.splits,
        task=Task(data.classes, data.multi_label),
        targets=data.targets,
        streams=data.recipes,
        rows=(),
        data=data,
        places=tuple(range(len(data))),
    )
    if int(data.lengths.sum()) * sum(data.dims) * BYTES_OF_A_FLOAT > wanted.memory_bytes:
        return stored, data.coverage
    return _in_memory(stored), data.coverage


def _in_memory(stored: Stored) -> Examples:
    samples = [stored.data[k] for k in stored.places]
    streams = range(len(stored.dims))
    rows = tuple(tuple(sample.rows[k] for sample in samples) for k in streams)
    shared = {f.name: getattr(stored, f.name) for f in fields(Examples) if f.name != "rows"}
    return Examples(**shared, rows=rows)


def _refuse_differing(wanted: Wanted, coverage: Coverage) -> None:
    """Stop when one recipe lacks segments that another has."""
    if wanted.common or len(coverage.absent) < 2:
        return
    in_none = set.intersection(*(set(keys) for keys in coverage.absent.values()))
    for name, keys in coverage.absent.items():
        refuse_lacking(name, set(keys) - in_none)


def refuse_lacking(name: str, lacking: Iterable[str]) -> None:
    """Stop when a recipe lacks segments that another has; the message names some."""
    keys = sorted(lacking)
    if keys:
        raise UsageError(
            f"{name} lacks {len(keys)} segments that other recipes have: {some(keys)}; extract "
            "them, or give --common to use only the segments that all recipes have"
        )


def _groups(wanted: Wanted, data: FeatureDataset, manifest: Manifest | None) -> tuple[str, ...]:
    """One group per segment: the column's, or its video where the column is empty."""
    items = FeatureStore(wanted.out)[data.recipes[0]].items
    videos = dict(zip(items["key"].tolist(), items["video"].tolist(), strict=True))
    named = dict(zip(data.keys, data.groups, strict=True))
    if wanted.group_column == "video":
        named = {}
    elif wanted.group_column != GROUP_COLUMN:
        named = _column(wanted, manifest)
    return tuple(named.get(key) or videos[key] for key in data.keys)


def _column(wanted: Wanted, manifest: Manifest | None) -> dict[str, str]:
    """Read any column of a manifest that is a table with a header."""
    if wanted.manifest is None or manifest is None:
        raise UsageError(f"--group-column {wanted.group_column} needs a --manifest with the column")
    with wanted.manifest.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if wanted.group_column not in (reader.fieldnames or ()):
            raise UsageError(
                f"{wanted.manifest}: no column {wanted.group_column!r}, found "
                f"{', '.join(reader.fieldnames or ()) or 'none'}"
            )
        values = {}
        for row in reader:
            values[reader.line_num] = row[wanted.group_column] or ""
    return {segment.key: values.get(segment.line, "") for segment in manifest}
