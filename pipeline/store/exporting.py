"""``pipeline export``: features in the shapes that other people's code reads.

One HDF5 with a dataset per segment, a folder of ``.npy`` files, or one descriptor per video: the
average of all its rows, L2-normalised, as C3D's features were used (Tran et al. 2015,
arXiv:1412.0767). A CSV beside it maps every name back to its segment.

Names come from keys, and keys come from manifests that strangers write. So a name keeps letters,
digits, ``.``, ``_`` and ``-``; whatever else the key holds becomes ``_`` and 8 digits of the key's
sha256 follow (and a number, should that name be taken), which also keeps apart names that differ
only in case. No name leads out of its folder.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StoreError, UsageError
from pipeline.frames import Features
from pipeline.store import publish
from pipeline.store.reading import FeatureSet

Form = Literal["hdf5", "npy"]
MAX_NAME = 200
MAPPING_COLUMNS = ("key", "video", "start_seconds", "end_seconds", "label", "split", "group")

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_Put = Callable[[str, Features, dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote.

    Attributes
    ----------
    path, mapping : Path
        The file or folder, and its CSV.
    written : int
        Segments, or videos.
    empty : tuple of str
        Keys of segments without a row; they stand in the CSV with 0 rows, and in no descriptor.
    """

    path: Path
    mapping: Path
    written: int
    empty: tuple[str, ...]


def safe_names(keys: Sequence[str]) -> list[str]:
    """Return a file name, without its suffix, for each key: unique, whatever the case.

    Examples
    --------
    >>> safe_names(["-3B32lodo2M_000059_000069", "../../etc/passwd_000000_end"])
    ['-3B32lodo2M_000059_000069', '.._.._etc_passwd_000000_end-2d7117fd']
    """
    taken: set[str] = set()
    names = []
    for key in keys:
        name = bare = _UNSAFE.sub("_", key)[:MAX_NAME]
        digits = hashlib.sha256(key.encode()).hexdigest()[:8]
        further = chain([f"{bare}-{digits}"], (f"{bare}-{digits}-{n}" for n in count(2)))
        if bare != key or bare.startswith("."):
            name = next(further)
        while name.lower() in taken:  # a key can be made to look like such a name
            name = next(further)
        taken.add(name.lower())
        names.append(name)
    return names


def export(features: FeatureSet, destination: Path | str, form: Form = "hdf5") -> Exported:
    """Write every segment of a recipe for other people's code.

    Parameters
    ----------
    features : FeatureSet
        The recipe.
    destination : Path or str
        A new file (``hdf5``: ``/features/NAME`` (N, D) and ``/seconds/NAME`` (N, 2) for every
        segment, with the manifest's fields as attributes) or a new folder (``npy``:
        ``features/NAME.npy`` and ``seconds/NAME.npy``).
    form : {"hdf5", "npy"}

    Raises
    ------
    UsageError
        When the destination exists.
    DamagedShard
        When a segment does not match its checksum.
    StoreError
        When the destination cannot be written; nothing is left of it.
    """
    destination = Path(destination)
    writer = {"hdf5": _hdf5, "npy": _npy}[form]
    table = features.items
    names = safe_names(table["key"].tolist())
    empty = []
    with _fresh(destination) as working:
        with writer(working) as put:
            for row, name in enumerate(names):
                fields = {column: table[column][row] for column in MAPPING_COLUMNS}
                read = features[fields["key"]]
                put(name, read, fields)
                if not len(read):
                    empty.append(fields["key"])
        columns = [names, *(table[column] for column in (*MAPPING_COLUMNS, "rows"))]
        _write_mapping(working, ("name", *MAPPING_COLUMNS, "rows"), zip(*columns, strict=True))
    return Exported(destination, mapping_of(destination), len(names), tuple(empty))


def export_descriptors(
    features: FeatureSet, destination: Path | str, form: Form = "hdf5"
) -> Exported:
    """Write one vector per video: the average of all its rows, divided by its L2 norm.

    Parameters
    ----------
    features : FeatureSet
        The recipe.
    destination : Path or str
        A new file: ``/descriptors`` (V, D) float32 and ``/videos`` (V,) in HDF5, or the (V, D)
        array alone as ``.npy``, whose rows the CSV names.
    form : {"hdf5", "npy"}

    Raises
    ------
    UsageError
        When the destination exists.
    DamagedShard
        When a segment does not match its checksum.
    StoreError
        When the destination cannot be written; nothing is left of it.
    """
    destination = Path(destination)
    table = features.items
    by_video: dict[str, list[int]] = {}
    for row, video in enumerate(table["video"].tolist()):
        if table["rows"][row]:
            by_video.setdefault(video, []).append(row)
    descriptors = np.zeros((len(by_video), features.dim), np.float32)
    for number, rows in enumerate(by_video.values()):
        vectors = [features[table["key"][row]].vectors for row in rows]
        descriptors[number] = _unit_mean(np.concatenate(vectors))
    labels = [table["label"][rows[0]] for rows in by_video.values()]
    rows_of = [int(table["rows"][rows].sum()) for rows in by_video.values()]
    lines = zip(range(len(by_video)), by_video, labels, rows_of, strict=True)
    with _fresh(destination) as working:
        if form == "npy":
            with open(working, "xb") as file:
                np.save(file, descriptors, allow_pickle=False)
        else:
            with h5py.File(working, "x") as file:
                file["descriptors"] = descriptors
                file.create_dataset("videos", data=list(by_video), dtype=h5py.string_dtype())
        _write_mapping(working, ("index", "video", "label", "rows"), lines)
    empty = table["key"][table["rows"] == 0].tolist()
    return Exported(destination, mapping_of(destination), len(by_video), tuple(empty))


def _unit_mean(vectors: NDArray[Any]) -> NDArray[np.float32]:
    mean = vectors.mean(axis=0, dtype=np.float64)
    norm = np.linalg.norm(mean)
    unit: NDArray[np.float32] = (mean / norm if norm else mean).astype(np.float32)
    return unit


@contextmanager
def _fresh(destination: Path) -> Iterator[Path]:
    """Give a working name that becomes the destination when everything is written.

    What is written under its `mapping_of` becomes the destination's.
    """
    for final in (destination, mapping_of(destination)):
        if os.path.lexists(final):
            raise UsageError(f"{final}: it exists; name a new file or folder, or move it away")
    publish.make_folder(destination.parent)
    working = publish.temporary_name(destination)
    try:
        yield working
        os.rename(mapping_of(working), mapping_of(destination))
        os.rename(working, destination)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise StoreError(
            f"{destination}: not written ({reason}); nothing is left of it, choose another place "
            "or free some space"
        ) from error
    finally:
        shutil.rmtree(working, ignore_errors=True)
        for unfinished in (working, mapping_of(working)):
            with suppress(OSError):  # not there, or on a read-only disk
                unfinished.unlink()


@contextmanager
def _hdf5(working: Path) -> Iterator[_Put]:
    with h5py.File(working, "x") as file:
        vectors, seconds = file.create_group("features"), file.create_group("seconds")

        def put(name: str, features: Features, fields: dict[str, Any]) -> None:
            dataset = vectors.create_dataset(name, data=features.vectors)
            seconds.create_dataset(name, data=features.seconds)
            for field, value in fields.items():
                dataset.attrs[field] = value

        yield put


@contextmanager
def _npy(working: Path) -> Iterator[_Put]:
    for part in ("features", "seconds"):
        (working / part).mkdir(parents=True)

    def put(name: str, features: Features, fields: dict[str, Any]) -> None:
        np.save(working / "features" / f"{name}.npy", features.vectors, allow_pickle=False)
        np.save(working / "seconds" / f"{name}.npy", features.seconds, allow_pickle=False)

    yield put


def mapping_of(destination: Path) -> Path:
    """Return the CSV that belongs to an export: ``NAME.csv`` beside it."""
    return destination.with_name(destination.name + ".csv")


def _write_mapping(working: Path, header: Sequence[str], lines: Iterator[tuple[Any, ...]]) -> None:
    with open(mapping_of(working), "x", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(lines)
