"""The store on disk and the one way to write to it.

::

    OUT/store.json                                   number of hash buckets, written once
    OUT/<extractor>-<digest8>/recipe.json            every setting that made these numbers
    OUT/<extractor>-<digest8>/shards/<bucket>.<part>.h5
    OUT/<extractor>-<digest8>/index.npz              derived, may be deleted

A segment belongs to the bucket that the sha256 of its key says, for as long as the store lives.
An attempt reads its bucket's parts, leaves out what they hold, and links the next part number; if
another attempt took that number meanwhile, it reads again and tries the next one. Parts never
change and the first link wins, so however often Dask runs a batch, each segment is stored once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.errors import StoreError, UsageError
from pipeline.provenance import Recipe
from pipeline.store import faults, intake, layout, publish
from pipeline.store import index as indexing
from pipeline.store.committed import Committed, committed, is_answered, key_hash
from pipeline.store.rows import FailureRow, Receipt, SegmentRow

STORE_FILE = "store.json"
RECIPE_FILE = "recipe.json"
SHARDS_FOLDER = "shards"
STORE_FORMAT = "action-features store"
SEGMENTS_PER_BUCKET = 64
MAX_COMMIT_TRIES = 1000
ORIGINAL = "put the original back"


class NoStore(StoreError, UsageError):
    """What was named is no store or recipe, or its own description is spoilt."""

    def __init__(self, place: str, found: str, expected: str, remedy: str) -> None:
        super().__init__(place, found, expected, remedy)
        self.place, self.found, self.expected, self.remedy = place, found, expected, remedy

    def __str__(self) -> str:
        return f"{self.place}: {self.found}; expected {self.expected}; {self.remedy}"


def buckets_for(segments: int) -> int:
    """Return the number of buckets for so many segments: about a batch in each."""
    return max(1, -(-segments // SEGMENTS_PER_BUCKET))


@dataclass(frozen=True, slots=True)
class Store:
    """An output folder.

    Attributes
    ----------
    out : Path
        The folder.
    buckets : int
        Number of hash buckets, fixed when the store was created.
    """

    out: Path
    buckets: int

    @classmethod
    def create(cls, out: Path | str, buckets: int) -> Store:
        """Make a store, or open the one that is there (its number of buckets stays).

        Raises
        ------
        StoreError
            When the folder cannot be written, or holds a ``store.json`` of something else.
        DiskFull
            When there is no room.
        """
        out = Path(out)
        if buckets < 1:
            raise UsageError(f"a store needs at least one bucket, not {buckets}")
        publish.make_folder(out)
        publish.sweep(out)
        content = {"format": STORE_FORMAT, "schema": layout.SCHEMA, "buckets": buckets}
        with suppress(FileExistsError):  # written once: whoever came first decided
            publish.publish(_json(content), out / STORE_FILE)
        return cls.open(out)

    @classmethod
    def open(cls, out: Path | str) -> Store:
        """Open a store.

        Raises
        ------
        StoreError
            When there is none, or ``store.json`` is not ours.
        """
        out = Path(out)
        path = out / STORE_FILE
        content = _read_json(path, "a feature store", "name the folder given to `extract --out`")
        if content.get("format") != STORE_FORMAT or content.get("schema") != layout.SCHEMA:
            raise NoStore(
                str(path),
                f"format {content.get('format')!r} schema {content.get('schema')!r}",
                f"{STORE_FORMAT!r} schema {layout.SCHEMA}",
                "use another folder",
            )
        buckets = content.get("buckets")
        if not isinstance(buckets, int) or buckets < 1:
            raise NoStore(str(path), f"buckets is {buckets!r}", "a number", ORIGINAL)
        return cls(out, buckets)

    def bucket(self, key: str) -> int:
        """Return the bucket of a segment."""
        return key_hash(key) % self.buckets

    def recipes(self) -> tuple[str, ...]:
        """Return the names of the recipe folders, sorted."""
        with os.scandir(self.out) as entries:
            names = [e.name for e in entries if e.is_dir()]
        return tuple(sorted(n for n in names if (self.out / n / RECIPE_FILE).is_file()))


@dataclass(frozen=True, slots=True)
class RecipeShards:
    """The shards of one recipe. Cheap to open, and picklable.

    Attributes
    ----------
    folder : Path
        ``OUT/<extractor>-<digest8>``.
    digest : str
        The recipe's.
    buckets : int
        The store's.
    """

    folder: Path
    digest: str
    buckets: int

    @classmethod
    def create(cls, out: Path | str, recipe: Recipe) -> RecipeShards:
        """Make the folder of a recipe, or open the one that is there; sweep old leftovers.

        Raises
        ------
        StoreError
            When there is no store, the folder cannot be written, or it belongs to another recipe.
        DiskFull
            When there is no room.
        """
        folder = Store.open(out).out / recipe.folder
        publish.make_folder(folder / SHARDS_FOLDER)
        with suppress(FileExistsError):  # the same recipe, or the check below speaks
            publish.publish(_json(recipe.to_json()), folder / RECIPE_FILE)
        for swept in (folder, folder / SHARDS_FOLDER):
            publish.sweep(swept)
        shards = cls.open(out, recipe.folder)
        if shards.digest != recipe.digest:
            raise StoreError(
                f"{folder / RECIPE_FILE}: digest {shards.digest}; expected {recipe.digest}; "
                "two recipes share a folder name, use another --out"
            )
        return shards

    @classmethod
    def open(cls, out: Path | str, folder: str) -> RecipeShards:
        """Open the shards of a recipe folder.

        Raises
        ------
        StoreError
            When there is no such folder, or its ``recipe.json`` does not match its digest.
        """
        store = Store.open(out)
        path = store.out / folder
        return cls(path, read_recipe(path).digest, store.buckets)

    @property
    def shards(self) -> Path:
        """Folder of the shard files."""
        return self.folder / SHARDS_FOLDER

    def committed(self, *, save: bool = True) -> Committed:
        """Return what is done and what has failed, over all shards.

        Fast: the derived index is brought up to date with the shards that are new.

        Raises
        ------
        DamagedShard
            When a new shard is not what it should be.
        """
        index = indexing.load(self.folder, save=save)
        return committed(index.items, index.failures)

    def committed_in(self, bucket: int) -> Committed:
        """Return what is done and what has failed in one bucket, read from its shards."""
        parts, _ = self.parts(bucket)
        index = indexing.of_shards(parts)
        return committed(index.items, index.failures)

    def commit(
        self,
        bucket: int,
        rows: Sequence[SegmentRow],
        failures: Sequence[FailureRow],
        footer: Mapping[str, Any],
    ) -> Receipt:
        """Publish features and failures of one bucket as its next part, each segment once.

        Parameters
        ----------
        bucket : int
            Where all the keys belong.
        rows, failures : sequence
            No key in both.
        footer : Mapping
            Plain JSON, kept beside the numbers (versions, host, attempt).

        Raises
        ------
        ValueError
            When a key is given twice or belongs to another bucket.
        DiskFull
            When there is no room: nothing was published.
        DamagedShard
            When a shard of the bucket is not what it should be.
        StoreError
            When a shard cannot be read, or the folder cannot be written.
        """
        given = [row.key for row in rows] + [row.key for row in failures]
        self._check(bucket, given)
        floor = 0
        for _ in range(MAX_COMMIT_TRIES):
            parts, following = self.parts(bucket)
            index = indexing.of_shards(parts)
            before = committed(index.items, index.failures)
            new = [row for row in rows if before.done.get(row.key) != row.source]
            failed = [row for row in failures if _is_news(row, before)]
            part = max(following, floor)
            receipt = self._publish(bucket, part, new, failed, footer)
            if receipt is not None:
                stored = {*receipt.done, *receipt.failed}
                return replace(receipt, already=tuple(k for k in given if k not in stored))
            floor = part + 1
        raise StoreError(f"{self.shards}: bucket {bucket} is taken by others again and again")

    def _publish(
        self,
        bucket: int,
        part: int,
        rows: Sequence[SegmentRow],
        failures: Sequence[FailureRow],
        footer: Mapping[str, Any],
    ) -> Receipt | None:
        """Write one shard; None when another attempt has taken its name."""
        if not rows and not failures:
            return Receipt(shard="")
        name = indexing.shard_name(bucket, part)
        heading = layout.Heading(bucket=bucket, recipe_digest=self.digest, footer=footer)
        content = layout.encode(heading, rows, failures)
        faults.reach("before_publish")
        try:
            publish.publish(content, self.shards / name)
        except FileExistsError:
            return None
        return Receipt(
            shard=name,
            done=tuple(row.key for row in rows),
            failed=tuple(row.key for row in failures),
            rows=sum(len(row.features) for row in rows),
            size=len(content),
        )

    def parts(self, bucket: int) -> tuple[list[layout.ShardTables], int]:
        """Return the bucket's shards and the first free part number, from one look."""
        for _ in range(indexing.RESCANS):
            names = indexing.scan(self.shards, bucket)
            places = sorted(place for place in map(indexing.parse_name, names) if place)
            paths = [self.shards / indexing.shard_name(*place) for place in places]
            following = places[-1][1] + 1 if places else 0
            try:
                return [intake.read_tables(path) for path in paths], following
            except FileNotFoundError:
                continue  # compacted meanwhile
        raise StoreError(f"{self.shards}: the shards of bucket {bucket} keep changing")

    def _check(self, bucket: int, keys: Sequence[str]) -> None:
        if len(set(keys)) != len(keys):
            raise ValueError(f"bucket {bucket}: a segment is given twice")
        for key in keys:
            if key_hash(key) % self.buckets != bucket:
                raise ValueError(f"segment {key} does not belong to bucket {bucket}")


def _is_news(failure: FailureRow, before: Committed) -> bool:
    """Tell whether a failure says more than what is committed."""
    if is_answered(failure.source, before.done.get(failure.key)):
        return False
    earlier = before.failures.get(failure.key)
    return (
        earlier is None or earlier.source != failure.source or earlier.attempts < failure.attempts
    )


def read_recipe(folder: Path) -> Recipe:
    """Read the ``recipe.json`` of a recipe folder.

    Raises
    ------
    StoreError
        When it is absent, or does not match its own digest.
    """
    path = folder / RECIPE_FILE
    remedy = "run the same `pipeline extract` again, which writes it anew"
    content = _read_json(path, "the recipe of the shards beside it", remedy)
    extractor, settings = content.get("extractor"), content.get("settings")
    if not isinstance(extractor, str) or not isinstance(settings, dict):
        raise NoStore(str(path), "no extractor or settings", "what `extract` wrote", ORIGINAL)
    recipe = Recipe(extractor, settings)
    if recipe.digest != content.get("digest"):
        raise NoStore(
            str(path),
            f"the file was edited: digest {content.get('digest')}",
            f"{recipe.digest} for these settings",
            ORIGINAL,
        )
    return recipe


def _read_json(path: Path, expected: str, remedy: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NoStore(str(path), "not there", expected, remedy) from None
    except OSError as error:
        raise NoStore(str(path), f"cannot be read ({error.strerror})", expected, remedy) from error
    except ValueError as error:
        raise NoStore(str(path), f"no JSON ({error})", expected, ORIGINAL) from error
    if not isinstance(content, dict):
        raise NoStore(str(path), type(content).__name__, "a JSON object", ORIGINAL)
    return content


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()
