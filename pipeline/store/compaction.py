"""``pipeline compact``: many small parts of a bucket become one.

A run that was stopped, retried or extended leaves several parts in a bucket. Compaction writes
what is in force as the bucket's next part, by the same commit rule as any other, with the names
of the parts it takes over in its ``replaces`` attribute; only then are those removed. Killed in
between, it leaves parts that no longer count, and the next run of it removes them. Workers may
commit at the same time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import StoreError
from pipeline.frames import Features
from pipeline.store import faults, layout, publish
from pipeline.store import index as indexing
from pipeline.store.committed import failure_rows
from pipeline.store.index import Index
from pipeline.store.layout import BadShard, ShardTables
from pipeline.store.rows import FailureRow, SegmentRow
from pipeline.store.shards import MAX_COMMIT_TRIES, RecipeShards
from pipeline.store.spans import ShardGone, Span, SpanReader
from pipeline.store.table import Table, Texts


@dataclass(frozen=True, slots=True)
class Compacted:
    """What compaction did to one recipe.

    Attributes
    ----------
    before, after : int
        Number of shards.
    swept : int
        Leftovers of dead processes that were removed.
    """

    before: int
    after: int
    swept: int


def compact(shards: RecipeShards) -> Compacted:
    """Merge the parts of every bucket of a recipe, and sweep stale temporary files.

    Raises
    ------
    DamagedShard
        When a shard is damaged: its bucket and those after it are left as they are.
    DiskFull
        When there is no room: nothing is lost.
    StoreError
        When a shard cannot be read, or the folder cannot be written.
    """
    places = list(filter(None, map(indexing.parse_name, indexing.scan(shards.shards))))
    swept = len(publish.sweep(shards.shards))
    for bucket in sorted({bucket for bucket, _ in places}):
        _compact_bucket(shards, bucket)
    return Compacted(len(places), len(indexing.scan(shards.shards)), swept)


def _compact_bucket(shards: RecipeShards, bucket: int) -> None:
    for _ in range(MAX_COMMIT_TRIES):
        parts, following = shards.parts(bucket)
        replaced = {name for part in parts for name in part.replaces}
        live = [part for part in parts if part.path.name not in replaced]
        merged = indexing.of_shards(live)
        stored = sum(len(part.items) + len(part.failures) for part in live)
        if len(live) < 2 and merged.items.length + merged.failures.length == stored:
            _remove([part for part in parts if part.path.name in replaced])
            return
        heading = layout.Heading(
            bucket=bucket,
            recipe_digest=shards.digest,
            replaces=tuple(part.path.name for part in parts),
            footer={"merged": _footers(live)},
        )
        try:
            rows = _segment_rows(shards.shards, merged)
            content = layout.encode(heading, rows, _failures(merged))
            publish.publish(content, shards.shards / indexing.shard_name(bucket, following))
        except (FileExistsError, ShardGone):
            continue  # a worker has committed meanwhile, or another compaction was faster
        faults.reach("before_remove")
        _remove(parts)
        return
    raise StoreError(f"{shards.shards}: bucket {bucket} is taken by others again and again")


def _footers(parts: Sequence[ShardTables]) -> list[dict[str, Any]]:
    """Return the different footers of some shards, those of merged ones unfolded."""
    found: list[dict[str, Any]] = []
    for part in parts:
        footer = dict(part.footer)
        found += [f for f in footer.get("merged", [footer]) if f not in found]
    return found


def _remove(parts: Sequence[ShardTables]) -> None:
    for part in parts:
        publish.remove(part.path)
        faults.reach("between_removals")


def _failures(index: Index) -> list[FailureRow]:
    return sorted(failure_rows(index.failures), key=lambda row: row.key)


def _segment_rows(shards: Path, index: Index) -> list[SegmentRow]:
    """Read the segments in force, each compared with its checksum, sorted by key."""
    reader = SpanReader(shards, index)
    rows = []
    for number in range(index.items.length):
        values = {name: _value(index.items, name, number) for name in index.items}
        span = Span(values["shard"], values["first"], values["rows"])
        features = Features(reader.vectors(span), reader.seconds(span))
        if layout.checksum(*features) != values["crc32"]:
            name = index.shards.texts("name")[span.shard]
            raise BadShard(
                str(shards / name),
                f"segment {values['key']} does not match its checksum",
                f"{values['crc32']:08x}",
            )
        fields = {name: values[name] for name in (*layout.ITEM_TEXTS, *layout.ITEM_NUMBERS)}
        rows.append(SegmentRow(**fields, features=features))
    return sorted(rows, key=lambda row: row.key)


def _value(table: Table, name: str, row: int) -> Any:
    column = table[name]
    return column[row] if isinstance(column, Texts) else column[row].item()
