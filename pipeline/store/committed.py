"""What is done and what has failed: key to row, for millions of segments in little memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.store import layout
from pipeline.store.rows import FailureRow, Source
from pipeline.store.table import Table, Texts

UNKNOWN_SOURCE: Source = (0, 0)


def key_hash(key: str) -> int:
    """First 64 bits of the key's sha256."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")


def is_answered(failure: Source, done: Source | None) -> bool:
    """Tell whether features settle a failure: made of the same file, or no file was found."""
    return done is not None and failure in (done, UNKNOWN_SOURCE)


def source_of(table: Table, row: int) -> Source:
    """Size and modification time of the file behind a row."""
    return (
        int(table.numbers("source_size")[row]),
        int(table.numbers("source_mtime_ns")[row]),
    )


class Lookup:
    """From key to row, by a sorted array of 64-bit hashes: 16 bytes a segment."""

    def __init__(self, table: Table) -> None:
        hashes = table.numbers("hash")
        self._order = np.argsort(hashes, kind="stable")
        self._sorted = hashes[self._order]
        self._keys = table.texts("key")

    def find(self, key: str) -> int | None:
        """Return the row of a key, None when it is not there."""
        wanted = np.uint64(key_hash(key))
        encoded = key.encode()
        place = int(self._sorted.searchsorted(wanted))
        while place < len(self._sorted) and self._sorted[place] == wanted:
            row = int(self._order[place])
            if self._keys.raw(row) == encoded:
                return row
            place += 1
        return None


class Done(Mapping[str, Source]):
    """Segments with features: key to the size and time of the file they came from."""

    def __init__(self, items: Table) -> None:
        self._items = items
        self._lookup = Lookup(items)
        self._sizes = items.numbers("source_size")
        self._times = items.numbers("source_mtime_ns")

    def __getitem__(self, key: str) -> Source:
        row = self._lookup.find(key)
        if row is None:
            raise KeyError(key)
        return int(self._sizes[row]), int(self._times[row])

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._lookup.find(key) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._items.texts("key"))

    def __len__(self) -> int:
        return self._items.length


@dataclass(frozen=True, slots=True)
class Committed:
    """What a recipe's shards hold: a segment is done, failed, or (neither) still to do.

    Attributes
    ----------
    done : Mapping of str to (int, int)
        Keys with features, and the size and modification time of the file behind them.
    failures : Mapping of str to FailureRow
        Keys whose latest attempt failed. A key is in both when its file was replaced by one that
        fails: the features of the old file stay.
    """

    done: Mapping[str, Source]
    failures: Mapping[str, FailureRow]


def committed(items: Table, failures: Table) -> Committed:
    """Return what is done and what has failed, from the tables of an index."""
    return Committed(Done(items), {row.key: row for row in failure_rows(failures)})


def failure_rows(table: Table) -> Iterator[FailureRow]:
    """Yield the rows of a table of failures."""
    names = (*layout.FAILURE_TEXTS, *layout.FAILURE_NUMBERS)
    columns = [
        column if isinstance(column, Texts) else column.tolist()
        for column in (table[name] for name in names)
    ]
    for values in zip(*columns, strict=True):
        yield FailureRow(**dict(zip(names, values, strict=True)))
