"""Reading a store: recipes, segments, and ``features[key] -> (vectors, seconds)``.

Examples
--------
>>> store = FeatureStore("features")                    # doctest: +SKIP
>>> rgb = store["efficientnet-lite0"]                   # doctest: +SKIP
>>> vectors, seconds = rgb["v_abc_000010_000020"]       # doctest: +SKIP
>>> labels = rgb.items["label"]                         # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError
from pipeline.frames import Features
from pipeline.store import index as indexing
from pipeline.store import layout
from pipeline.store.committed import Lookup, failure_rows
from pipeline.store.index import Index
from pipeline.store.rows import FailureRow
from pipeline.store.shards import SHARDS_FOLDER, NoStore, Store, read_recipe
from pipeline.store.spans import ShardGone, Span, SpanReader
from pipeline.store.table import Texts

ITEM_COLUMNS = (*layout.ITEM_TEXTS, *layout.ITEM_NUMBERS)


class FeatureStore:
    """A store, for reading.

    Parameters
    ----------
    out : Path or str
        The folder given to ``extract --out``.

    Attributes
    ----------
    recipes : tuple of str
        Folder names, one for each recipe.

    Raises
    ------
    StoreError
        When the folder is no store.
    """

    def __init__(self, out: Path | str) -> None:
        self._store = Store.open(out)
        self.recipes = self._store.recipes()

    @property
    def out(self) -> Path:
        """The folder."""
        return self._store.out

    @property
    def buckets(self) -> int:
        """Number of hash buckets."""
        return self._store.buckets

    def __iter__(self) -> Iterator[str]:
        return iter(self.recipes)

    def __len__(self) -> int:
        return len(self.recipes)

    def __getitem__(self, name: str) -> FeatureSet:
        """Open a recipe by its folder name, or by its extractor's name when there is just one.

        Raises
        ------
        NoStore
            When no recipe, or more than one, answers to the name.
        """
        return FeatureSet(self.out / self.folder(name))

    def chosen(self, name: str | None) -> FeatureSet:
        """Open the recipe of a name, or the only one when no name is given.

        Raises
        ------
        UsageError
            When no name is given and there are several recipes, or none.
        StoreError
            As indexing does.
        """
        if name is not None:
            return self[name]
        if len(self) != 1:
            raise UsageError(
                f"{self.out} has {len(self)} recipes; choose with --recipe one of: "
                f"{', '.join(self) or '(none)'}"
            )
        return self[self.recipes[0]]

    def folder(self, name: str) -> str:
        """Return the folder name that a recipe or extractor name stands for."""
        if name in self.recipes:
            return name
        found = [r for r in self.recipes if read_recipe(self.out / r).extractor == name]
        if len(found) == 1:
            return found[0]
        problem = "several recipes of extractor" if found else "no recipe or extractor"
        listed = ", ".join(found or self.recipes) or "(none yet)"
        raise NoStore(str(self.out), f"{problem} {name!r}", f"one of {listed}", "name one of them")


class FeatureSet:
    """The features of one recipe: a read-only mapping from segment key to `Features`.

    Only `items` departs from a mapping: it is the table of segments.

    Parameters
    ----------
    folder : Path
        ``OUT/<extractor>-<digest8>``.
    check : bool
        Compare each segment with its checksum when it is read.

    Raises
    ------
    DamagedShard
        When a shard is truncated, foreign or inconsistent.
    """

    def __init__(self, folder: Path, *, check: bool = True) -> None:
        self._folder = folder
        self._check = check
        self._recipe = read_recipe(folder)
        self._load()

    @property
    def name(self) -> str:
        """Name of the recipe's folder."""
        return self._folder.name

    @property
    def recipe(self) -> dict[str, Any]:
        """What ``recipe.json`` holds: extractor, settings, digest."""
        return self._recipe.to_json()

    @property
    def dim(self) -> int:
        """D, the length of a vector; 0 while there is none."""
        return self.reader.dim

    @property
    def shards(self) -> int:
        """Number of shard files."""
        return self._index.shards.length

    def keys(self) -> tuple[str, ...]:
        """Return the segments' keys, sorted."""
        return tuple(sorted(self._index.items.texts("key")))

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return self._index.items.length

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._lookup.find(key) is not None

    def __getitem__(self, key: str) -> Features:
        """Read one segment.

        Raises
        ------
        KeyError
            When the recipe has no features of it.
        DamagedShard
            When they do not match their checksum, or the shard has changed.
        """
        try:
            return self._read(key)
        except ShardGone:  # compacted since the index was read
            self._load()
            return self._read(key)

    @property
    def items(self) -> dict[str, NDArray[Any]]:
        """The table of segments, sorted by key: column name to array.

        Texts (``key``, ``video``, ``label``, ``split``, ``group``) are arrays of `str`, the rest
        numbers, as documented for ``/items``; ``rows`` is the number of feature rows.
        """
        table = self._index.items
        keys = np.array(list(table.texts("key")), object)
        order = np.argsort(keys, kind="stable")
        return {name: _array(table[name])[order] for name in (*ITEM_COLUMNS, "rows")}

    @property
    def failures(self) -> list[FailureRow]:
        """The segments that failed, sorted by key."""
        return sorted(failure_rows(self._index.failures), key=lambda row: row.key)

    def spans(self, keys: Sequence[str]) -> NDArray[np.int64]:
        """Return where the rows of segments are, shape (n, 3): shard, first row, rows.

        Raises
        ------
        KeyError
            When the recipe has no features of one.
        """
        items = self._index.items
        numbers = {key: row for row, key in enumerate(items.texts("key"))}
        rows = np.fromiter((numbers[key] for key in keys), np.int64, len(keys))
        return np.stack([items.numbers(name)[rows] for name in Span._fields], axis=1)

    def _load(self) -> None:
        self._index: Index = indexing.load(self._folder)
        self._lookup = Lookup(self._index.items)
        self.reader: SpanReader = SpanReader(self._folder / SHARDS_FOLDER, self._index)

    def _read(self, key: str) -> Features:
        row = self._lookup.find(key)
        if row is None:
            raise KeyError(key)
        items = self._index.items
        span = Span(*(int(items.numbers(name)[row]) for name in Span._fields))
        features = Features(self.reader.vectors(span), self.reader.seconds(span))
        found, expected = layout.checksum(*features), int(items.numbers("crc32")[row])
        if self._check and found != expected:
            name = self._index.shards.texts("name")[span.shard]
            raise layout.BadShard(
                str(self._folder / SHARDS_FOLDER / name),
                f"segment {key} has CRC-32 {found:08x}",
                f"{expected:08x}",
            )
        return features


def _array(column: Texts | NDArray[Any]) -> NDArray[Any]:
    return np.array(list(column), object) if isinstance(column, Texts) else column
