"""Columns of millions of rows in little memory, and their file.

A `Texts` column is one run of UTF-8 bytes with the end of each value; a number column is an
array. A `Table` reads its columns from the file when they are first asked for, so planning, which
wants only keys and file times, never holds labels or frame counts.

The file is a plain ``.npz`` (a zip without compression), readable by `numpy.load`; the zip's own
CRC-32 of each column is checked on reading.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Texts:
    """A column of texts.

    Attributes
    ----------
    data : array, uint8
        UTF-8 bytes of all values, one after the other.
    ends : array, shape (n,), int64
        Where each value ends.
    """

    data: NDArray[np.uint8]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, values: Sequence[bytes]) -> Texts:
        """Pack encoded values."""
        ends = np.cumsum(np.fromiter(map(len, values), np.int64, len(values)))
        return cls(np.frombuffer(b"".join(values), np.uint8), ends)

    def __len__(self) -> int:
        return len(self.ends)

    def raw(self, row: int) -> bytes:
        """Return one value, encoded."""
        start = int(self.ends[row - 1]) if row else 0
        return self.data[start : int(self.ends[row])].tobytes()

    def __getitem__(self, row: int) -> str:
        return self.raw(row).decode(errors="replace")

    def __iter__(self) -> Iterator[str]:
        data, start = self.data.tobytes(), 0
        for end in self.ends.tolist():
            yield data[start:end].decode(errors="replace")
            start = end

    def keep(self, mask: NDArray[np.bool_]) -> Texts:
        """Return the values of the rows where `mask` holds."""
        lengths = np.diff(self.ends, prepend=0)
        return Texts(self.data[np.repeat(mask, lengths)], np.cumsum(lengths[mask]))

    def joined(self, other: Texts) -> Texts:
        """Return this column with another one after it."""
        return Texts(
            np.concatenate([self.data, other.data]),
            np.concatenate([self.ends, other.ends + len(self.data)]),
        )


Column = Texts | NDArray[Any]
_ENDS, _LENGTH = ".ends", ".length"


class Table(Mapping[str, Column]):
    """Named columns of equal length, in memory or read from a file as they are wanted."""

    def __init__(self, columns: Mapping[str, Column], length: int) -> None:
        self._columns = dict(columns)
        self._file: NpzMembers | None = None
        self._names: tuple[str, ...] = tuple(self._columns)
        self._length = length

    @classmethod
    def stored(cls, members: NpzMembers, prefix: str) -> Table:
        """Return the table kept in a file under names that begin with `prefix`."""
        table = cls({}, int(members.read(f"{prefix}{_LENGTH}")))
        table._file = members.under(prefix)
        table._names = tuple(n for n in table._file.names if n != _LENGTH and not n.endswith(_ENDS))
        return table

    @property
    def length(self) -> int:
        """Number of rows (``len`` is the number of columns, as of any mapping)."""
        return self._length

    def __getitem__(self, name: str) -> Column:
        if name not in self._columns and self._file is not None and name in self._names:
            data = self._file.read(name)
            ends = self._file.read(name + _ENDS) if name + _ENDS in self._file.names else None
            self._columns[name] = data if ends is None else Texts(data, ends)
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def texts(self, name: str) -> Texts:
        """Return a column of texts."""
        column = self[name]
        if not isinstance(column, Texts):
            raise TypeError(f"column {name} holds numbers")
        return column

    def numbers(self, name: str) -> NDArray[Any]:
        """Return a column of numbers."""
        column = self[name]
        if isinstance(column, Texts):
            raise TypeError(f"column {name} holds texts")
        return column


def keep(column: Column, mask: NDArray[np.bool_]) -> Column:
    """Return the rows of a column where `mask` holds."""
    return column.keep(mask) if isinstance(column, Texts) else column[mask]


def joined(first: Column, second: Column) -> Column:
    """Return one column after another."""
    if isinstance(first, Texts) and isinstance(second, Texts):
        return first.joined(second)
    assert isinstance(first, np.ndarray) and isinstance(second, np.ndarray)
    return np.concatenate([first, second])


class NpzMembers:
    """The arrays of an open ``.npz`` file, read one at a time and never unpickled.

    The file stays open, so that all columns are of one version even when another process puts a
    newer file in its place.

    Parameters
    ----------
    archive : zipfile.ZipFile
        The open file.
    prefix : str
        Only arrays whose names begin with it are seen, without it.
    """

    def __init__(self, archive: zipfile.ZipFile, prefix: str = "") -> None:
        self._archive = archive
        self._prefix = prefix
        names = (name.removesuffix(".npy") for name in archive.namelist())
        self.names = frozenset(n.removeprefix(prefix) for n in names if n.startswith(prefix))

    def under(self, prefix: str) -> NpzMembers:
        """Return the arrays whose names begin with a prefix."""
        return NpzMembers(self._archive, self._prefix + prefix)

    def read(self, name: str) -> NDArray[Any]:
        """Read one array; its CRC-32 is checked."""
        content = io.BytesIO(self._archive.read(f"{self._prefix}{name}.npy"))
        array: NDArray[Any] = npy.read_array(content, allow_pickle=False)
        return array


def write_tables(path: Path, tables: Mapping[str, Table]) -> None:
    """Write tables to an ``.npz``, one column in memory at a time."""
    with zipfile.ZipFile(path, "x", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for prefix, table in tables.items():
            _write(archive, f"{prefix}{_LENGTH}", np.int64(table.length))
            for name in table:
                column = table[name]
                if isinstance(column, Texts):
                    _write(archive, f"{prefix}{name}", column.data)
                    _write(archive, f"{prefix}{name}{_ENDS}", column.ends)
                else:
                    _write(archive, f"{prefix}{name}", column)


def _write(archive: zipfile.ZipFile, name: str, array: Any) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        npy.write_array(member, np.asarray(array), allow_pickle=False)
