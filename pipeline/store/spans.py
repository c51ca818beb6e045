"""Feature rows at their place in the file: no HDF5 call between the disk and the array.

The rows of a segment are one contiguous run of bytes of an uncompressed dataset, so one
``preadv`` into the caller's array reads them: several times faster than an h5py slice, and several
times more than a group per video. A file is opened when it is first wanted, by each process for
itself, and must still have the size and time that the index saw.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StoreError
from pipeline.store.index import Index
from pipeline.store.intake import UnreadableShard

MAX_OPEN_FILES = 64
SECONDS_ROW_BYTES = 16  # two float64
_DTYPES: dict[int, np.dtype[Any]] = {2: np.dtype("<f2"), 4: np.dtype("<f4")}


class Span(NamedTuple):
    """Where the rows of one segment are: a shard, the first row in it, and how many."""

    shard: int
    first: int
    rows: int


class _Shard(NamedTuple):
    name: str
    size: int
    mtime_ns: int
    features_offset: int
    seconds_offset: int


class SpanReader:
    """Reads rows by their place. Picklable; each process opens its own files.

    One object serves one thread at a time.

    Parameters
    ----------
    shards : Path
        Folder of the shard files.
    index : Index
        Where their rows stand.

    Attributes
    ----------
    dtype : dtype
        Of the vectors, float32 or float16.
    dim : int
        D; 0 in a recipe without a single row.

    Raises
    ------
    StoreError
        When the shards differ in dtype or dimension.
    """

    def __init__(self, shards: Path, index: Index) -> None:
        self._folder = shards
        table = index.shards
        columns = [table.numbers(name).tolist() for name in _Shard._fields[1:]]
        self._shards = [_Shard(*row) for row in zip(table.texts("name"), *columns, strict=True)]
        filled = table.numbers("rows") > 0
        itemsizes, dims = (table.numbers(name)[filled].tolist() for name in ("itemsize", "dim"))
        kinds = set(zip(itemsizes, dims, strict=True))
        if len(kinds) > 1:
            raise StoreError(f"{shards}: rows of several kinds {sorted(kinds)} in one recipe")
        itemsize, dim = kinds.pop() if kinds else (4, 0)
        self.dim: int = dim
        self.dtype: np.dtype[Any] = _DTYPES[itemsize]
        self._row_bytes = itemsize * self.dim
        self._starts = [shard.features_offset for shard in self._shards]
        self._files: OrderedDict[int, int] = OrderedDict()
        self._owner = os.getpid()

    def vectors(self, span: Span, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Read the feature rows of a segment.

        Parameters
        ----------
        span : Span
            Where they are.
        out : array, shape (rows, D), contiguous, of `dtype`, optional
            Where to put them; made when absent.

        Raises
        ------
        StoreError
            When the shard has changed or gone since the index was read, or cannot be read.
        """
        if out is None:
            out = np.empty((span.rows, self.dim), self.dtype)
        if span.rows:
            start = self._starts[span.shard] + span.first * self._row_bytes
            self._fill(span.shard, out.data.cast("B"), start)
        return out

    def padded(self, spans: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Read segments side by side into one array, zeros after each.

        They are read in the order in which they stand on the disk.

        Parameters
        ----------
        spans : array, shape (n, 3)
            One `Span` a row.
        out : array, shape (n, T, D), contiguous, of `dtype`
            Where to put them; no segment has more than T rows.

        Raises
        ------
        StoreError
            When a shard has changed or gone since the index was read.
        """
        data = out.view(np.uint8).reshape(-1)
        room, stride = data.data, out.strides[0]
        listed = spans.tolist()
        for place in np.lexsort((spans[:, 1], spans[:, 0])).tolist():
            shard, first, rows = listed[place]
            begin = place * stride
            end = begin + rows * self._row_bytes
            self._fill(shard, room[begin:end], self._starts[shard] + first * self._row_bytes)
            data[end : begin + stride] = 0

    def seconds(self, span: Span) -> NDArray[np.float64]:
        """Read what each row covers, shape (rows, 2), in seconds."""
        out: NDArray[np.float64] = np.empty((span.rows, 2), np.float64)
        if span.rows:
            start = self._shards[span.shard].seconds_offset + span.first * SECONDS_ROW_BYTES
            self._fill(span.shard, out.data.cast("B"), start)
        return out

    def close(self) -> None:
        """Close the files; they are opened again when they are wanted."""
        while self._files:
            os.close(self._files.popitem()[1])

    def __del__(self) -> None:
        if hasattr(self, "_files"):
            self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": OrderedDict()}

    def _fill(self, shard: int, out: memoryview, start: int) -> None:
        try:
            descriptor = self._open(shard)
            got = os.preadv(descriptor, [out], start)
            while got < len(out):
                more = os.preadv(descriptor, [out[got:]], start + got)
                if not more:
                    raise self._changed(shard, "shorter than it was")
                got += more
        except OSError as error:
            path = self._folder / self._shards[shard].name
            raise UnreadableShard(str(path), str(error.strerror)) from error

    def _open(self, shard: int) -> int:
        """Return a descriptor of this process for a shard that is still the one indexed."""
        if os.getpid() != self._owner:
            self.close()  # the fork's own copies of its parent's descriptors
            self._owner = os.getpid()
        descriptor = self._files.get(shard)
        if descriptor is not None:
            self._files.move_to_end(shard)
            return descriptor
        wanted = self._shards[shard]
        try:
            descriptor = os.open(self._folder / wanted.name, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise ShardGone(
                f"{self._folder / wanted.name}: gone since the store was opened; open it again"
            ) from None
        stat = os.fstat(descriptor)
        if (stat.st_size, stat.st_mtime_ns) != (wanted.size, wanted.mtime_ns):
            os.close(descriptor)
            raise self._changed(shard, f"{stat.st_size} bytes, modified {stat.st_mtime_ns}")
        self._files[shard] = descriptor
        if len(self._files) > MAX_OPEN_FILES:
            os.close(self._files.popitem(last=False)[1])
        return descriptor

    def _changed(self, shard: int, found: str) -> StoreError:
        wanted = self._shards[shard]
        return StoreError(
            f"{self._folder / wanted.name}: {found}; expected {wanted.size} bytes, modified "
            f"{wanted.mtime_ns}, as when the store was opened; open it again, and run "
            "`pipeline verify OUT` if nobody wrote to it"
        )


class ShardGone(StoreError):
    """A shard that another process has merged into a newer one."""
