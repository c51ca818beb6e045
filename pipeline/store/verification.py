"""``pipeline verify``: whether everything in the store is what it says it is.

Every shard is read from its first to its last byte and compared with its own checksums, with its
file name, with the recipe of its folder and with its neighbours. Damage (exit status 3) is what
makes a feature wrong, missing or stored twice. The rest are notes: leftovers of processes that
died, rows that a later part superseded, files that nobody reads.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.store import index as indexing
from pipeline.store import intake, layout, publish
from pipeline.store.intake import UnreadableShard
from pipeline.store.layout import BadShard, ShardTables
from pipeline.store.rows import Source
from pipeline.store.shards import RECIPE_FILE, SHARDS_FOLDER, NoStore, Store, read_recipe

COMPACT = "`pipeline compact OUT` removes it"
EXTRACT = "run the same `pipeline extract` again"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be.

    Attributes
    ----------
    file, found, expected, remedy : str
        Where, what was found, what was expected, and what to do.
    damage : bool
        False for a note.
    """

    file: str
    found: str
    expected: str
    remedy: str
    damage: bool = True

    def __str__(self) -> str:
        kind = "damage" if self.damage else "note"
        return f"{kind}: {self.file}: {self.found}; expected {self.expected}; {self.remedy}"


@dataclass(slots=True)
class Report:
    """What `verify` read and found.

    Attributes
    ----------
    recipes, shards, segments, failures, rows, size : int
        Counts of what was read, whole or not; `size` in bytes.
    findings : list of Finding
        In the order of the files.
    """

    recipes: int = 0
    shards: int = 0
    segments: int = 0
    failures: int = 0
    rows: int = 0
    size: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def damaged(self) -> bool:
        """Whether any finding is damage."""
        return any(finding.damage for finding in self.findings)


def verify(out: Path | str) -> Report:
    """Read a whole store and report everything that is wrong with it.

    Raises
    ------
    StoreError
        When the folder is no store at all.
    """
    store = Store.open(out)
    report = Report()
    for folder in _recipe_folders(store.out):
        report.recipes += 1
        report.findings += _check_recipe(store, folder, report)
    return report


def _recipe_folders(out: Path) -> list[Path]:
    with os.scandir(out) as entries:
        folders = sorted(Path(entry.path) for entry in entries if entry.is_dir())
    return [f for f in folders if (f / SHARDS_FOLDER).is_dir() or (f / RECIPE_FILE).exists()]


def _check_recipe(store: Store, folder: Path, report: Report) -> Iterator[Finding]:
    digest = ""
    try:
        recipe = read_recipe(folder)
        digest = recipe.digest
        if recipe.folder != folder.name:
            yield Finding(str(folder), folder.name, recipe.folder, "give the folder its name back")
    except NoStore as error:
        yield Finding(error.place, error.found, error.expected, error.remedy)
    shards = folder / SHARDS_FOLDER
    if not shards.is_dir():
        yield Finding(str(shards), "not there", "a folder", EXTRACT)
        return
    yield from _check_others(shards)
    places = sorted(filter(None, map(indexing.parse_name, indexing.scan(shards))))
    for bucket, group in groupby(places, key=lambda place: place[0]):
        paths = [shards / indexing.shard_name(*place) for place in group]
        yield from _check_bucket(store, bucket, paths, digest, report)


def _check_others(shards: Path) -> Iterator[Finding]:
    """Report what lies among the shards and is none."""
    leftovers = set(publish.leftovers(shards))
    for path in sorted(shards.iterdir()):
        if path in leftovers:
            age = "stale" if publish.is_stale(path) else "fresh"
            yield Finding(str(path), f"{age} temporary file", "none once nobody writes",
                          "the next run sweeps it once it is stale", damage=False)  # fmt: skip
        elif not indexing.parse_name(path.name):
            yield Finding(str(path), "a file that nobody reads", "only <bucket>.<part>.h5",
                          "move it elsewhere", damage=False)  # fmt: skip


def _check_bucket(
    store: Store, bucket: int, paths: Iterable[Path], digest: str, report: Report
) -> Iterator[Finding]:
    whole = []
    for path in paths:
        report.shards += 1
        try:
            tables = intake.read_tables(path)
            findings = [*_check_heading(store, bucket, tables, digest), *_check_rows(tables)]
        except BadShard as error:
            yield Finding(error.path, error.found, error.expected, error.remedy)
            continue
        except UnreadableShard as error:
            yield _unread(error)
            continue
        except FileNotFoundError:
            yield Finding(str(path), "gone while it was read", "a shard",
                          "wait until `pipeline compact` has ended, and verify again",
                          damage=False)  # fmt: skip
            continue
        except OSError as error:
            yield _unread(UnreadableShard(str(path), str(error)))
            continue
        whole.append(tables)
        report.size += tables.size
        report.rows += tables.rows
        yield from findings
    replaced = {name for tables in whole for name in tables.replaces}
    for tables in whole:
        if tables.path.name in replaced:
            yield Finding(str(tables.path), "superseded by a compacted shard", "gone",
                          COMPACT, damage=False)  # fmt: skip
    live = [tables for tables in whole if tables.path.name not in replaced]
    yield from _check_duplicates(live)
    in_force = indexing.of_shards(whole)
    report.segments += in_force.items.length
    report.failures += in_force.failures.length


def _unread(error: UnreadableShard) -> Finding:
    return Finding(error.path, error.reason, "a file that can be read", error.remedy)


def _check_heading(
    store: Store, bucket: int, tables: ShardTables, digest: str
) -> Iterator[Finding]:
    path = str(tables.path)
    away = f"move it away and {EXTRACT}"
    if digest and tables.recipe_digest != digest:
        yield Finding(path, f"recipe {tables.recipe_digest}", f"recipe {digest}",
                      f"it was written under other settings: {away}")  # fmt: skip
    if tables.bucket != bucket:
        yield Finding(path, f"written for bucket {tables.bucket}", f"bucket {bucket}",
                      f"it was renamed: {away}")  # fmt: skip
    keys = [key.decode(errors="replace") for key in tables.items["key"].tolist()]
    away_from = [name for name in tables.replaces if _bucket_of(name) != bucket]
    if away_from:
        yield Finding(path, f"it says that it replaces {away_from[0]}",
                      f"only shards of bucket {bucket}", f"it was altered: {away}")  # fmt: skip
    strangers = [key for key in keys if store.bucket(key) != tables.bucket]
    if strangers:
        yield Finding(path, f"segment {strangers[0]} and {len(strangers) - 1} more of other "
                      "buckets", f"segments of bucket {tables.bucket} of {store.buckets}",
                      f"it belongs to another store: {away}")  # fmt: skip


def _check_rows(tables: ShardTables) -> Iterator[Finding]:
    """Compare every segment with its checksum, reading the file from front to back."""
    path = str(tables.path)
    counts = np.diff(tables.offsets).tolist()
    with open(path, "rb") as features, open(path, "rb") as seconds:
        features.seek(max(0, tables.features_offset))
        seconds.seek(max(0, tables.seconds_offset))
        for item, count in zip(tables.items, counts, strict=True):
            vectors = np.fromfile(features, tables.dtype, count * tables.dim)
            times = np.fromfile(seconds, "<f8", count * 2)
            key = item["key"].decode(errors="replace")
            found, expected = layout.checksum(vectors, times), int(item["crc32"])
            if found != expected:
                error = BadShard(path, f"segment {key} has CRC-32 {found:08x}", f"{expected:08x}")
                yield Finding(path, error.found, error.expected, error.remedy)
            elif not bool(np.isfinite(vectors).all()):
                yield Finding(path, f"segment {key} has values that are not finite",
                              "finite features", "look at its video, or use --precision fp32",
                              damage=False)  # fmt: skip


def _bucket_of(name: str) -> int | None:
    place = indexing.parse_name(name)
    return place[0] if place else None


def _check_duplicates(live: Iterable[ShardTables]) -> Iterator[Finding]:
    seen: dict[bytes, tuple[Source, Any]] = {}
    for tables in live:
        for item in tables.items:
            key: bytes = item["key"]
            source = (int(item["source_size"]), int(item["source_mtime_ns"]))
            if key in seen:
                same = seen[key][0] == source
                text = key.decode(errors="replace")
                yield Finding(
                    str(tables.path),
                    f"segment {text} is also in {seen[key][1]}"
                    + ("" if same else ", from a file that was replaced since"),
                    "each segment once",
                    COMPACT,
                    damage=same,
                )
            seen[key] = (source, tables.path.name)
