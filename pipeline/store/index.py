"""Which segments a recipe has, and where: derived from the shards, rebuilt whenever they differ.

The truth is the set of committed shards. The index is their tables side by side, one row per
segment in force, kept in ``index.npz`` beside ``shards/`` with the name, size and time of every
shard it was made from. Opening it lists the folder: shards that are new are read and added, a
shard that is gone or changed makes it start afresh. It may be deleted at any time.

Which row is in force, when several shards speak of one segment: the later part; a failure only
while no later part has the features, and never against features of the same file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StoreError
from pipeline.store import intake, layout, publish
from pipeline.store.committed import Lookup, is_answered, source_of
from pipeline.store.table import NpzMembers, Table, Texts, joined, keep, write_tables

SHARD_NAME = re.compile(r"([0-9]{1,18})\.([0-9]{1,18})\.h5")
INDEX_NAME = "index.npz"
SHARDS_PER_ROUND = 1024
RESCANS = 5

_UNREADABLE = (KeyError, ValueError, TypeError, EOFError, RuntimeError, OverflowError, struct.error)
_SHARD_NUMBERS = ("size", "mtime_ns", "bucket", "part", "dim", "rows", "features_offset",
                  "seconds_offset", "itemsize")  # fmt: skip


def shard_name(bucket: int, part: int) -> str:
    """File name of a shard, e.g. ``00017.0002.h5``."""
    return f"{bucket:05d}.{part:04d}.h5"


def parse_name(name: str) -> tuple[int, int] | None:
    """Bucket and part of a shard's file name; None when it is no shard's name.

    Examples
    --------
    >>> parse_name("00017.0002.h5"), parse_name("17.2.h5")
    ((17, 2), None)
    """
    match = SHARD_NAME.fullmatch(name)
    place = (int(match[1]), int(match[2])) if match else None
    return place if place and shard_name(*place) == name else None


@dataclass(frozen=True, slots=True)
class Index:
    """Every segment in force of one recipe.

    Attributes
    ----------
    shards : Table
        ``name``, ``replaces`` (JSON), ``size``, ``mtime_ns``, ``bucket``, ``part``, ``dim``,
        ``rows``, ``itemsize``, ``features_offset``, ``seconds_offset``.
    items : Table
        The columns of ``/items`` with ``hash``, ``shard`` (row of `shards`), ``first`` and
        ``rows`` (feature rows inside the shard). In no particular order.
    failures : Table
        The columns of ``/failures`` with ``hash`` and ``shard``.
    """

    shards: Table
    items: Table
    failures: Table


def load(folder: Path, *, save: bool = True) -> Index:
    """Return the index of a recipe folder, brought up to date.

    Parameters
    ----------
    folder : Path
        The recipe's folder, which holds ``shards/``.
    save : bool
        Write ``index.npz`` when it was out of date and the folder can be written.

    Raises
    ------
    DamagedShard
        When a shard is truncated, foreign or inconsistent.
    StoreError
        When the folder cannot be read, or never keeps still.
    """
    for _ in range(RESCANS):
        found = scan(folder / "shards")
        index = _saved(folder, found)
        known = set(index.shards.texts("name"))
        new = sorted(found.keys() - known)
        try:
            for start in range(0, len(new), SHARDS_PER_ROUND):
                names = new[start : start + SHARDS_PER_ROUND]
                index = _add(index, [intake.read_tables(folder / "shards" / n) for n in names])
                if save:
                    index = _save(folder, index)
        except FileNotFoundError:
            continue  # compacted meanwhile
        return index
    raise StoreError(f"{folder}: its shards keep changing; wait until `pipeline compact` has ended")


def scan(shards: Path, bucket: int | None = None) -> dict[str, tuple[int, int]]:
    """Return size and modification time of the shards of a folder, or of one bucket, by name.

    Raises
    ------
    StoreError
        When the folder cannot be read.
    """
    found = {}
    try:
        listing = os.scandir(shards)
    except OSError as error:
        raise StoreError(
            f"{shards}: {error.strerror}; expected the folder of a recipe's shards; put it back, "
            "or delete the recipe's folder and extract anew"
        ) from error
    with listing as entries:
        for entry in entries:
            place = parse_name(entry.name)
            if place and bucket in (None, place[0]):
                try:
                    stat = entry.stat()
                except FileNotFoundError:
                    continue
                found[entry.name] = (stat.st_size, stat.st_mtime_ns)
    return found


def of_shards(tables: Sequence[layout.ShardTables]) -> Index:
    """Return the index of some shards, for one bucket's commit."""
    return _add(_empty(), tables)


def _saved(folder: Path, found: Mapping[str, tuple[int, int]]) -> Index:
    """Return the saved index if it is whole and every shard it knows is there and unchanged."""
    empty = _empty()
    try:
        archive = zipfile.ZipFile(folder / INDEX_NAME)
        if archive.testzip() is not None:
            return empty
        members = NpzMembers(archive)
        index = Index(*(Table.stored(members, f"{kind}/") for kind in Index.__slots__))
        if any(set(getattr(index, k)) != set(getattr(empty, k)) for k in Index.__slots__):
            return empty  # of another version, with other columns
        names = index.shards.texts("name")
        columns = (index.shards.numbers("size"), index.shards.numbers("mtime_ns"))
        stats = zip(*(column.tolist() for column in columns), strict=True)
        if all(found.get(name) == stat for name, stat in zip(names, stats, strict=True)):
            return index
    except (OSError, zipfile.BadZipFile, *_UNREADABLE):
        return empty  # absent or spoilt: it is derived, so it is made again
    return empty


def _save(folder: Path, index: Index) -> Index:
    """Write the index; return it with its columns left in the file, or as it is if read-only."""
    final = folder / INDEX_NAME
    temporary = publish.temporary_name(final)
    try:
        write_tables(temporary, {f"{kind}/": getattr(index, kind) for kind in Index.__slots__})
        os.replace(temporary, final)
        members = NpzMembers(zipfile.ZipFile(final))
    except OSError:
        return index
    finally:
        _discard(temporary)
    return Index(*(Table.stored(members, f"{kind}/") for kind in Index.__slots__))


def _discard(temporary: Path) -> None:
    try:
        temporary.unlink(missing_ok=True)
    except OSError:
        return  # a read-only folder never held it


def _empty() -> Index:
    none = np.empty(0, np.int64)
    no_texts = Texts(np.empty(0, np.uint8), none)
    shards: dict[str, Any] = dict.fromkeys(_SHARD_NUMBERS, none)
    return Index(
        Table({"name": no_texts, "replaces": no_texts, **shards}, 0),
        _columns(np.empty(0, _dtype(layout.ITEM_TEXTS, layout.STORED_ITEM_NUMBERS)),
                 0, first=none, rows=none),
        _columns(np.empty(0, _dtype(layout.FAILURE_TEXTS, layout.FAILURE_NUMBERS)), 0),
    )  # fmt: skip


def _dtype(texts: Sequence[str], numbers: Mapping[str, str]) -> np.dtype[Any]:
    return np.dtype([*((name, "S1") for name in texts), *numbers.items()])


def _columns(table: NDArray[Any], shard: int, **more: NDArray[np.int64]) -> Table:
    """Return a shard's structured array as columns, with the hash of each key."""
    columns: dict[str, Any] = {}
    for name in table.dtype.names or ():
        values = table[name]
        columns[name] = Texts.of(values.tolist()) if values.dtype.kind == "S" else values.copy()
    keys = table["key"].tolist()
    hashes = [int.from_bytes(hashlib.sha256(key).digest()[:8], "big") for key in keys]
    columns["hash"] = np.array(hashes, np.uint64)
    columns["shard"] = np.full(len(table), shard, np.int64)
    return Table({**columns, **more}, len(table))


def _add(index: Index, tables: Sequence[layout.ShardTables]) -> Index:
    """Return the index with more shards, and with only the rows in force."""
    if not tables:
        return index
    base = index.shards.length
    shards = _stack([index.shards, _describe(tables)])
    replaced = {name for text in shards.texts("replaces") for name in json.loads(text)}
    live = np.array([name not in replaced for name in shards.texts("name")])
    new_items, new_failures = [], []
    for number, shard in enumerate(tables, base):
        first, rows = shard.offsets[:-1], np.diff(shard.offsets)
        new_items.append(_columns(shard.items, number, first=first, rows=rows))
        new_failures.append(_columns(shard.failures, number))
    order = np.lexsort((shards.numbers("part"), shards.numbers("bucket")))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    items = _in_force(_stack([index.items, _stack(new_items)]), live, rank)
    failures = _in_force(_stack([index.failures, _stack(new_failures)]), live, rank)
    return Index(shards, items, _unanswered(failures, items, rank))


def _describe(tables: Sequence[layout.ShardTables]) -> Table:
    places = [parse_name(shard.path.name) or (shard.bucket, 0) for shard in tables]
    columns: dict[str, Any] = {
        "name": Texts.of([shard.path.name.encode() for shard in tables]),
        "replaces": Texts.of([json.dumps(shard.replaces).encode() for shard in tables]),
        "bucket": np.array([bucket for bucket, _ in places], np.int64),
        "part": np.array([part for _, part in places], np.int64),
        "itemsize": np.array([shard.dtype.itemsize for shard in tables], np.int64),
    }
    for name in ("size", "mtime_ns", "dim", "rows", "features_offset", "seconds_offset"):
        columns[name] = np.array([getattr(shard, name) for shard in tables], np.int64)
    return Table(columns, len(tables))


def _stack(tables: Sequence[Table]) -> Table:
    """Return tables one after the other, halving so that no column is copied too often."""
    if len(tables) == 1:
        return tables[0]
    first, second = _stack(tables[: len(tables) // 2]), _stack(tables[len(tables) // 2 :])
    columns = {name: joined(first[name], second[name]) for name in first}
    return Table(columns, first.length + second.length)


def _in_force(table: Table, live: NDArray[np.bool_], rank: NDArray[np.int64]) -> Table:
    """Keep, of rows with one key in live shards, the one of the latest part."""
    shard = table.numbers("shard")
    kept = live[shard] if table.length else np.empty(0, bool)
    hashes = table.numbers("hash")
    order = np.lexsort((rank[shard], hashes))
    order = order[kept[order]]
    same = hashes[order][1:] == hashes[order][:-1]
    keys = table.texts("key")
    for earlier, later in zip(order[:-1][same].tolist(), order[1:][same].tolist(), strict=True):
        if keys.raw(earlier) == keys.raw(later):
            kept[earlier] = False
    return table if kept.all() else _keep(table, kept)


def _keep(table: Table, mask: NDArray[np.bool_]) -> Table:
    return Table({name: keep(table[name], mask) for name in table}, int(mask.sum()))


def _unanswered(failures: Table, items: Table, rank: NDArray[np.int64]) -> Table:
    """Keep the failures that no features of the same file, and no later features, answer."""
    if not failures.length or not items.length:
        return failures
    lookup = Lookup(items)
    shard, kept = rank[failures.numbers("shard")], np.ones(failures.length, bool)
    done_shard = items.numbers("shard")
    for row, key in enumerate(failures.texts("key")):
        done = lookup.find(key)
        if done is not None:
            later = rank[done_shard[done]] > shard[row]
            answered = is_answered(source_of(failures, row), source_of(items, done))
            kept[row] = not later and not answered
    return failures if kept.all() else _keep(failures, kept)
