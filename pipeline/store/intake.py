"""Reading a shard's tables, with nothing in the file taken on trust.

Files written by others are not trusted to be what they say: links out of the file, virtual,
external, chunked or mistyped datasets, data that claim to be longer than the file, and anything
that does not add up are a `DamagedShard`. A file that this machine fails to open (no permission,
too many open files, a disk error) is not called damaged: a `StoreError` says why.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StoreError
from pipeline.store import layout
from pipeline.store.layout import BadShard, ShardTables
from pipeline.store.rows import FEATURE_DTYPES


class UnreadableShard(StoreError):
    """A shard that this machine fails to read: which file, and what the system says."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"{self.path}: cannot be read ({self.reason}); {self.remedy}"

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return "the file may be sound, keep it; mend its permission or its disk and try again"


def read_tables(path: Path) -> ShardTables:
    """Open a shard, check that it is whole and ours, and return everything but its rows.

    Raises
    ------
    DamagedShard
        When the file is truncated, foreign, or does not match its own checksums.
    StoreError
        When this machine cannot read it, which says nothing about what it holds.
    FileNotFoundError
        When it is no longer there (another process has compacted the store).
    """
    stat = os.stat(path)
    try:
        with h5py.File(path, "r", locking=False) as file:
            return _read_open(file, path, stat)
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        # h5py reports a broken file by any of these, and so a file that goes while it is opened
        os.stat(path)
        if isinstance(error, OSError) and error.errno:  # HDF5's own complaints have no number
            raise UnreadableShard(str(path), os.strerror(error.errno)) from error
        said = re.sub(r"^Unable to (?:synchronously )?open file \((.*)\)$", r"\1", str(error))
        raise BadShard(str(path), f"cannot be read ({said})", "a whole HDF5 shard") from error


def _read_open(file: Any, path: Path, stat: os.stat_result) -> ShardTables:
    attributes = dict(file.attrs)
    for name, expected in (("format", layout.FORMAT), ("schema", layout.SCHEMA), ("complete", 1)):
        if attributes.get(name) != expected:
            raise BadShard(str(path), f"{name} is {attributes.get(name)!r}", repr(expected))
    sets = {name: _dataset(file, path, name) for name in layout.DATASETS}
    places = {name: _offset(path, found, stat.st_size) for name, found in sets.items()}
    offsets, items, failures = (sets[name][:] for name in ("offsets", "items", "failures"))
    found = layout.tables_checksum(offsets, items, failures)
    if found != attributes["tables_crc32"]:
        raise BadShard(
            str(path), f"tables have CRC-32 {found:08x}", f"{int(attributes['tables_crc32']):08x}"
        )
    _check_shapes(path, sets, offsets, items)
    replaces, footer = json.loads(attributes["replaces"]), json.loads(attributes["footer"])
    if not isinstance(footer, dict) or not _is_list_of_texts(replaces):
        raise BadShard(str(path), "another kind of JSON", "a list of names and an object")
    rows, dim = sets["features"].shape
    return ShardTables(
        path=path,
        size=stat.st_size,
        mtime_ns=stat.st_mtime_ns,
        bucket=int(attributes["bucket"]),
        recipe_digest=str(attributes["recipe_digest"]),
        replaces=tuple(replaces),
        footer=footer,
        dtype=sets["features"].dtype,
        dim=dim,
        rows=rows,
        features_offset=places["features"],
        seconds_offset=places["seconds"],
        offsets=offsets,
        items=_completed(items),
        failures=failures,
    )


def _dataset(file: Any, path: Path, name: str) -> Any:
    """Return a dataset that lies in this very file as one plain run of bytes."""
    link = file.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise BadShard(str(path), f"/{name} is {type(link).__name__}", "a dataset in this file")
    found = file[name]
    if not isinstance(found, h5py.Dataset):
        raise BadShard(str(path), f"/{name} is {type(found).__name__}", "a dataset")
    if (
        found.is_virtual
        or found.external
        or found.chunks
        or found.id.get_create_plist().get_nfilters()
    ):
        raise BadShard(
            str(path), f"/{name} is virtual, external or chunked", "contiguous data in this file"
        )
    return found


def _check_shapes(
    path: Path, sets: Mapping[str, Any], offsets: NDArray[Any], items: NDArray[Any]
) -> None:
    features, seconds = sets["features"], sets["seconds"]
    wanted = {
        "features is float32 or float16 (rows, D)": (
            features.ndim == 2
            and features.dtype in FEATURE_DTYPES
            and (features.size > 0 or len(features) == 0)
        ),
        "seconds is float64 (rows, 2)": (
            seconds.dtype == np.dtype("<f8") and seconds.shape == (features.shape[0], 2)
        ),
        "offsets is int64 (segments + 1)": (
            offsets.dtype == np.dtype("<i8") and offsets.shape == (len(items) + 1,)
        ),
        "items has the documented columns": (
            _has(items, layout.ITEM_TEXTS, layout.STORED_ITEM_NUMBERS, layout.LATER_NUMBERS)
        ),
        "failures has the documented columns": (
            _has(sets["failures"], layout.FAILURE_TEXTS, layout.FAILURE_NUMBERS)
        ),
    }
    for expected, holds in wanted.items():
        if not holds:
            raise BadShard(str(path), "another shape or type", expected)
    descends = bool((offsets[:-1] > offsets[1:]).any())  # a difference could overflow
    if offsets[0] != 0 or offsets[-1] != len(features) or descends:
        raise BadShard(str(path), "offsets do not add up", f"0 .. {len(features)}, ascending")


def _has(
    table: Any, texts: Sequence[str], numbers: Mapping[str, str], absent: Sequence[str] = ()
) -> bool:
    """Tell whether a table has these columns and no others; those of `absent` may be."""
    types = table.dtype
    names = set(types.names or ())
    return (
        table.ndim == 1
        and names <= {*texts, *numbers}
        and names >= {*texts, *numbers} - {*absent}
        and all(types[name].kind == "S" for name in texts)
        and all(types[name] == np.dtype(numbers[name]) for name in numbers if name in names)
    )


def _completed(items: NDArray[Any]) -> NDArray[Any]:
    """Return a table of segments with the columns that an older shard lacks, unknown."""
    present = items.dtype.names or ()
    lacking = [name for name in layout.LATER_NUMBERS if name not in present]
    if not lacking:
        return items
    types = [(name, items.dtype[name]) for name in present]
    whole = np.zeros(len(items), [*types, *((name, layout.ITEM_NUMBERS[name]) for name in lacking)])
    for name in present:
        whole[name] = items[name]
    return whole


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(part, str) for part in value)


def _offset(path: Path, dataset: Any, size: int) -> int:
    """Byte at which a dataset stands in the file, -1 when it is empty."""
    if dataset.size == 0:
        return -1
    offset = dataset.id.get_offset()
    if offset is None or offset + dataset.size * dataset.dtype.itemsize > size:
        raise BadShard(str(path), f"{size} bytes long", f"all of {dataset.name} inside the file")
    return int(offset)
