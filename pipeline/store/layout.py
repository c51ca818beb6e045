"""The HDF5 layout of a shard, and its writing, in memory. `pipeline.store.intake` reads it.

A shard holds up to a batch of segments of one hash bucket under one recipe::

    /features  (sum N, D)  float32 or float16, contiguous, uncompressed: the rows of all segments
    /seconds   (sum N, 2)  float64: what each row covers, [start, end)
    /offsets   (n + 1,)    int64: segment i has rows offsets[i] .. offsets[i + 1]
    /items     (n,)        compound, one record per segment (see `ITEM_TEXTS`, `ITEM_NUMBERS`)
    /failures  (m,)        compound, one record per failed segment
    attributes             format, schema, bucket, recipe_digest, replaces, footer, tables_crc32,
                           and ``complete = 1``, written last

Concatenated arrays read several times faster than a group per video, and training reads them at
their file offset without HDF5. Texts are fixed-length UTF-8. Every segment has a CRC-32 over its
vectors and seconds, the tables have one together, and HDF5's own metadata is check-summed too
(format version 1.8, which every HDF5 library of the last fifteen years opens).

Columns of /items that came later (`LATER_NUMBERS`) may be absent; they then read as unknown, 0.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DamagedShard
from pipeline.store.rows import FailureRow, SegmentRow

FORMAT = "action-features shard"
SCHEMA = 1
HDF5_VERSION = ("v108", "v108")

ITEM_TEXTS = ("key", "video", "label", "split", "group")
ITEM_NUMBERS = {
    "start_seconds": "<f8",
    "end_seconds": "<f8",
    "source_size": "<i8",
    "source_mtime_ns": "<i8",
    "fps_found": "<f8",
    "frames_decoded": "<i8",
    "frames_repeated": "<i8",
    "frames_dropped": "<i8",
    "decoded_ratio": "<f8",
    "width_px": "<i8",
    "height_px": "<i8",
    "stream_index": "<i8",
    "video_streams": "<i8",
}
LATER_NUMBERS = ("width_px", "height_px", "stream_index", "video_streams")
"""Columns that the first shards of this schema do not have."""
FAILURE_TEXTS = ("key", "code", "detail", "video", "label", "split", "group")
FAILURE_NUMBERS = {
    "attempts": "<i8",
    "start_seconds": "<f8",
    "end_seconds": "<f8",
    "source_size": "<i8",
    "source_mtime_ns": "<i8",
}
CHECKSUM = {"crc32": "<u4"}
STORED_ITEM_NUMBERS = ITEM_NUMBERS | CHECKSUM
DATASETS = ("features", "seconds", "offsets", "items", "failures")


class BadShard(DamagedShard):
    """A shard that is not what it should be: which file, what was found, what was expected."""

    def __init__(self, path: str, found: str, expected: str) -> None:
        super().__init__(path, found, expected)
        self.path, self.found, self.expected = path, found, expected

    def __str__(self) -> str:
        return f"{self.path}: {self.found}; expected {self.expected}; {self.remedy}"

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return (
            "delete the file and run the same `pipeline extract` again: its segments are computed "
            "anew"
        )


@dataclass(frozen=True, slots=True)
class ShardTables:
    """Everything of a shard except its feature rows, checked.

    Attributes
    ----------
    path : Path
        The file.
    size, mtime_ns : int
        Of the file, when it was read.
    bucket : int
        Hash bucket that it says it belongs to.
    recipe_digest : str
        Recipe under which it was written.
    replaces : tuple of str
        Names of the shards whose content this one took over; they no longer count.
    footer : Mapping
        What the writer recorded beside the numbers (versions, host, attempt).
    dtype : dtype
        Of the feature rows.
    dim, rows : int
        D and the number of rows.
    features_offset, seconds_offset : int
        Where the rows stand in the file, in bytes; -1 when there is no row.
    offsets : array, shape (n + 1,), int64
        Rows of each segment.
    items, failures : structured arrays
        The two tables, texts as UTF-8 bytes.
    """

    path: Path
    size: int
    mtime_ns: int
    bucket: int
    recipe_digest: str
    replaces: tuple[str, ...]
    footer: Mapping[str, Any]
    dtype: np.dtype[Any]
    dim: int
    rows: int
    features_offset: int
    seconds_offset: int
    offsets: NDArray[np.int64]
    items: NDArray[Any]
    failures: NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """What a shard says about itself."""

    bucket: int
    recipe_digest: str
    replaces: tuple[str, ...] = ()
    footer: Mapping[str, Any]


def encode(heading: Heading, rows: Sequence[SegmentRow], failures: Sequence[FailureRow]) -> bytes:
    """Return the bytes of a whole shard, built in memory.

    Raises
    ------
    ValueError
        When the vectors differ in dtype or dimension.
    """
    features, seconds, offsets = _concatenate(rows)
    items = _table(rows, ITEM_TEXTS, ITEM_NUMBERS, [checksum(*row.features) for row in rows])
    failed = _table(failures, FAILURE_TEXTS, FAILURE_NUMBERS)
    with h5py.File.in_memory(libver=HDF5_VERSION) as file:
        for name, data in zip(DATASETS, (features, seconds, offsets, items, failed), strict=True):
            file.create_dataset(name, data=data)
        file.attrs["format"] = FORMAT
        file.attrs["schema"] = SCHEMA
        file.attrs["bucket"] = heading.bucket
        file.attrs["recipe_digest"] = heading.recipe_digest
        file.attrs["replaces"] = json.dumps(heading.replaces)
        file.attrs["footer"] = json.dumps(dict(heading.footer), sort_keys=True)
        file.attrs["tables_crc32"] = tables_checksum(offsets, items, failed)
        file.attrs["complete"] = 1
        file.flush()
        return bytes(file.id.get_file_image())


def checksum(vectors: NDArray[Any], seconds: NDArray[np.float64]) -> int:
    """Return the CRC-32 of one segment: its vectors as stored, then its seconds."""
    crc = zlib.crc32(np.ascontiguousarray(vectors).data)
    return zlib.crc32(np.ascontiguousarray(seconds, dtype="<f8").data, crc)


def tables_checksum(*tables: NDArray[Any]) -> int:
    """Return the CRC-32 of offsets, items and failures, in this order."""
    crc = 0
    for table in tables:
        crc = zlib.crc32(table.tobytes(), crc)
    return crc


def _concatenate(
    rows: Sequence[SegmentRow],
) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.int64]]:
    kinds = {(row.features.vectors.dtype, row.features.vectors.shape[1]) for row in rows}
    if len(kinds) > 1:
        raise ValueError(f"one recipe gave vectors of several kinds: {sorted(map(str, kinds))}")
    offsets = np.cumsum([0, *(len(row.features) for row in rows)], dtype="<i8")
    if not rows:
        return np.empty((0, 0), "<f4"), np.empty((0, 2), "<f8"), offsets
    features = np.concatenate([row.features.vectors for row in rows])
    seconds = np.concatenate([row.features.seconds for row in rows]).astype("<f8", copy=False)
    return features, seconds, offsets


def _table(
    rows: Sequence[SegmentRow] | Sequence[FailureRow],
    texts: Sequence[str],
    numbers: Mapping[str, str],
    checksums: Sequence[int] | None = None,
) -> NDArray[Any]:
    """Return rows as a structured array, each text column as wide as its longest value."""
    encoded = {
        name: [
            str(getattr(row, name)).replace("\0", "\N{REPLACEMENT CHARACTER}").encode()
            for row in rows
        ]
        for name in texts
    }
    fields: list[tuple[str, Any]] = [
        (name, h5py.string_dtype("utf-8", max(map(len, values), default=0) or 1))
        for name, values in encoded.items()
    ]
    fields += list(numbers.items())
    columns: dict[str, Sequence[Any]] = dict(encoded)
    columns |= {name: [getattr(row, name) for row in rows] for name in numbers}
    if checksums is not None:
        fields += CHECKSUM.items()
        columns["crc32"] = checksums
    table = np.zeros(len(rows), np.dtype(fields))
    for name, values in columns.items():
        table[name] = values
    return table
