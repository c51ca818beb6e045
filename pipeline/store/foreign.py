"""Features that other tools wrote: ``.npy`` files and HDF5 of any layout, read and never trusted.

An array is known by every name on its way: folders below the one given, the file's stem, and each
group or dataset it lies in (``v_abc/c3d_features`` in ``k400/sub.h5`` answers to ``k400``, ``sub``,
``v_abc`` and ``c3d_features``). Nothing is unpickled, and HDF5 links that lead out of the file
are not followed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StoreError, UsageError

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".he5")
SUFFIXES = (".npy", *HDF5_SUFFIXES)
_UNREADABLE = (OSError, RuntimeError, KeyError, ValueError, TypeError)
"""What h5py and numpy say of a broken or foreign file."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one array is: file, dataset inside it (empty for ``.npy``), folders on the way."""

    file: Path
    dataset: str = ""
    folders: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.file}:{self.dataset}" if self.dataset else str(self.file)

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that it answers to."""
        return (*self.folders, self.file.stem, *PurePosixPath(self.dataset).parts)


class ForeignFeatures:
    """Arrays of another tool, found by name.

    Parameters
    ----------
    path : Path
        A folder with ``.npy`` and HDF5 files at any depth, or one such file.
    array : str
        Of several arrays under one name, the one that also answers to this.

    Raises
    ------
    UsageError
        When there is no array of features.
    """

    def __init__(self, path: Path, array: str = "") -> None:
        self.path = path
        self._array = array
        self._places: defaultdict[str, list[Place]] = defaultdict(list)
        for place in _places(path):
            for name in dict.fromkeys(place.names):
                self._places[name].append(place)
        if not self._places:
            raise UsageError(
                f"{path}: no array of features, expected {', '.join(SUFFIXES)} files with numbers "
                "in one dimension or more"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that some array answers to, sorted."""
        return tuple(sorted(self._places))

    def find(self, name: str) -> Place | None:
        """Return the array of a name; None when nothing answers to it.

        Raises
        ------
        UsageError
            When several arrays do.
        """
        found = self._places.get(name, [])
        if self._array:
            found = [place for place in found if self._array in place.names]
        if len(found) > 1:
            others = {part for place in found for part in place.names} - {name}
            shared = set.intersection(*(set(place.names) for place in found))
            raise UsageError(
                f"{self.path}: {len(found)} arrays answer to {name!r} "
                f"({', '.join(map(str, found[:4]))}); choose one with --array, e.g. "
                f"{', '.join(sorted(others - shared)[:4]) or 'by giving one file'}"
            )
        return found[0] if found else None


def read(place: Place) -> NDArray[np.float32]:
    """Return an array as rows ``(N, D)``, axes of length 1 dropped; one vector is one row.

    Raises
    ------
    StoreError
        When it cannot be read, has more axes than that, or holds values that are not finite.
    """
    try:
        if place.dataset:
            with h5py.File(place.file, "r") as file:
                found = np.asarray(file[place.dataset][()])
        else:
            # mapped: a header that claims more than the file holds is refused, not allocated
            found = np.load(place.file, mmap_mode="r", allow_pickle=False)
    except (*_UNREADABLE, EOFError, MemoryError) as damage:
        raise StoreError(f"{place}: cannot be read as an array of numbers ({damage})") from damage
    if found.dtype.kind not in "fiu":
        raise StoreError(f"{place}: holds {found.dtype}, expected numbers")
    if not found.size:
        return np.zeros((0, found.shape[-1]), np.float32)
    rows = np.atleast_2d(np.squeeze(found))
    if rows.ndim > 2:
        raise StoreError(
            f"{place}: has shape {found.shape}, expected (rows, D); average or flatten its maps"
        )
    with np.errstate(over="ignore"):  # found out the line below
        numbers = rows.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise StoreError(f"{place}: holds NaN or infinity, in float32, expected finite numbers")
    return numbers


def _places(path: Path) -> Iterator[Place]:
    if path.is_file():
        files = [path]
    else:
        files = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.is_file())
    for file in files:
        folders = () if file == path else file.relative_to(path).parent.parts
        if file.suffix == ".npy":
            yield Place(file, "", folders)
        elif file.suffix in HDF5_SUFFIXES:
            for dataset in _datasets(file):
                yield Place(file, dataset, folders)


def _is_numeric(node: h5py.Dataset) -> bool:
    try:
        return node.dtype.kind in "fiu"
    except TypeError:  # a type of HDF5 that numpy has none for
        return False


def _datasets(file: Path) -> list[str]:
    """Return the numeric datasets that lie in the file itself."""
    found: list[str] = []

    def visit(name: str, node: object) -> None:
        if isinstance(node, h5py.Dataset) and node.ndim and _is_numeric(node):
            if node.is_virtual or node.external:
                return  # they would read other files of this machine
            found.append(name)

    try:
        with h5py.File(file, "r") as content:
            content.visititems(visit)
    except _UNREADABLE as damage:
        raise StoreError(f"{file}: cannot be read as HDF5 ({damage})") from damage
    return found
