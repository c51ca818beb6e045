"""Flow kept on the disk: computed once, on cheap machines, and read by any number of runs.

``CACHE/flow-<digest8>/recipe.json`` says how the flow was made (sampling, geometry, decoder, flow),
and ``CACHE/flow-<digest8>/ab/<sha256 of the key>.h5`` holds one segment: ``/levels (N, 2, H, W)``
uint8 by the rule that the recipe names, ``/seconds (N,)``, and as attributes the key and the size
and time stamp of the video. A file is published whole or not at all, so that what is there is done.

Encoding, measured on 60 flows of 340x256 of three films, bytes and milliseconds a flow, one core:

==============================================  ======  =====  ====
encoding                                         bytes  write  read
==============================================  ======  =====  ====
HDF5 uncompressed                               174164    0.1   0.1
HDF5 lzf                                         44290    1.2   0.7
HDF5 gzip 4                                      26430    2.1   0.5
HDF5 rows minus the row above, gzip 1 (this)     27711    1.1   0.5
FFV1, Golomb coder                               13658    1.5   1.2
FFV1, range coder                                10665    2.0   2.4
==============================================  ======  =====  ====

FFV1 is half as large, and was left: it puts a second container format and a video encoder under a
store whose other files any HDF5 reader opens, and reading, which happens often, is slower.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DamagedShard, StoreError
from pipeline.provenance import canonical_json
from pipeline.store.publish import make_folder, publish

Levels = NDArray[np.uint8]
FORMAT = "action-features flow"
SCHEMA = 1
STAMP_TIME = "source_mtime_ns"
DEFLATE = {"compression": "gzip", "compression_opts": 1, "fletcher32": True}


@dataclass(frozen=True, slots=True)
class SourceStamp:
    """Which version of a video was read."""

    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class CachedFlow:
    """The flow of one segment.

    Attributes
    ----------
    levels : array, shape (N, H, W, 2), uint8
        dx and dy as 8-bit levels.
    seconds : array, shape (N,), float64
        Source-video time of the first frame of each pair.
    """

    levels: Levels
    seconds: NDArray[np.float64]


class FlowWriter:
    """Takes the flows of one segment in order; memory is what they compress to."""

    def __init__(self, file: h5py.File) -> None:
        self._file = file
        self.flows = 0

    def append(self, levels: Levels, seconds: float) -> None:
        """Add one ``(H, W, 2)`` uint8 flow, all of one size, and its time."""
        planes = np.ascontiguousarray(levels.transpose(2, 0, 1))
        if not self.flows:
            shape = planes.shape
            self._file.create_dataset(
                "levels", (0, *shape), "u1", maxshape=(None, *shape), chunks=(1, *shape), **DEFLATE
            )
            self._file.create_dataset("seconds", (0,), "<f8", maxshape=(None,), chunks=(1024,))
        dataset, times = self._file["levels"], self._file["seconds"]
        if planes.shape != dataset.shape[1:]:
            raise ValueError(f"flow is {planes.shape[1:]}, expected {dataset.shape[2:]}")
        planes[:, 1:] -= planes[:, :-1].copy()
        self.flows += 1
        dataset.resize(self.flows, axis=0)
        times.resize(self.flows, axis=0)
        dataset[-1] = planes
        times[-1] = seconds


class FlowCache:
    """One recipe's folder of a flow cache.

    Parameters
    ----------
    folder : Path
        The cache; made when it is not there.
    recipe : Mapping
        Everything that decides the levels, as plain JSON values.

    Raises
    ------
    StoreError
        When another recipe has the same folder name, or the folder cannot be written.
    """

    def __init__(self, folder: Path, recipe: Mapping[str, object]) -> None:
        text = canonical_json(recipe)
        self.folder = folder / f"flow-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        make_folder(self.folder)
        said = self.folder / "recipe.json"
        try:
            publish(text.encode(), said)
        except FileExistsError:
            if said.read_text(encoding="utf-8", errors="replace") != text:
                raise StoreError(
                    f"{said}: holds another recipe; expected {text}; use another cache folder"
                ) from None

    def holds(self, key: str, stamp: SourceStamp) -> bool:
        """Tell whether the flow of this version of the segment's video is there."""
        return self._stamp(key) == stamp

    def done(self) -> Mapping[str, tuple[int, int]]:
        """Return what is there: from key to size and time stamp of the video, read when asked."""
        return _Done(self)

    @contextmanager
    def writing(self, key: str, stamp: SourceStamp) -> Iterator[FlowWriter]:
        """Give a writer whose flows are published when the block ends without an error.

        When another process was faster, its file stays. A file of another version of the video is
        replaced. A block without flows publishes an empty entry: a segment of one frame has none.
        """
        buffer = io.BytesIO()
        with h5py.File(buffer, "w", libver="v110") as file:
            file.attrs.update(format=FORMAT, schema=SCHEMA, key=key)
            file.attrs.update(source_size=stamp.size, source_mtime_ns=stamp.mtime_ns)
            yield FlowWriter(file)
        final = self._place(key)
        make_folder(final.parent)
        if self._stamp(key) not in (None, stamp):
            final.unlink(missing_ok=True)
        try:
            publish(buffer.getbuffer(), final)
        except FileExistsError:
            return

    def read(self, key: str) -> CachedFlow:
        """Return a segment's flow whole.

        Raises
        ------
        KeyError
            When it is not there.
        DamagedShard
            When the file does not hold what it says.
        """
        with self._opened(key) as file:
            if "levels" not in file:
                return CachedFlow(np.zeros((0, 0, 0, 2), np.uint8), np.zeros(0))
            planes = file["levels"][:]
            np.cumsum(planes, axis=2, dtype=np.uint8, out=planes)
            return CachedFlow(planes.transpose(0, 2, 3, 1), file["seconds"][:])

    def stream(self, key: str) -> Iterator[tuple[float, Levels]]:
        """Yield time and ``(H, W, 2)`` levels one by one; errors as in `read`."""
        with self._opened(key) as file:
            if "levels" not in file:
                return
            dataset = file["levels"]
            for number, seconds in enumerate(file["seconds"][:]):
                planes = np.cumsum(dataset[number], axis=1, dtype=np.uint8)
                yield float(seconds), planes.transpose(1, 2, 0)

    def bytes_of(self, key: str) -> int:
        """Return the size of a segment's file, 0 when there is none."""
        place = self._place(key)
        return place.stat().st_size if place.exists() else 0

    def _place(self, key: str) -> Path:
        digest = hashlib.sha256(key.encode()).hexdigest()
        return self.folder / digest[:2] / f"{digest}.h5"

    def _stamp(self, key: str) -> SourceStamp | None:
        try:
            with self._opened(key) as file:
                return SourceStamp(int(file.attrs["source_size"]), int(file.attrs[STAMP_TIME]))
        except KeyError:
            return None

    @contextmanager
    def _opened(self, key: str) -> Iterator[h5py.File]:
        place = self._place(key)
        try:
            with h5py.File(place, "r", locking=False) as file:
                misfit = _misfit(file, key)
                if misfit:
                    raise OSError(misfit)
                yield file
        except FileNotFoundError:
            raise KeyError(key) from None
        except OSError as error:
            raise DamagedShard(
                f"{place}: {error}; expected the flow of {key!r}; delete the file and run the "
                "same command again"
            ) from error


def _misfit(file: h5py.File, key: str) -> str:
    """Say what in a file is not as `FlowCache` writes it; nothing where all is."""
    attributes = dict(file.attrs)
    if (attributes.get("format"), attributes.get("key")) != (FORMAT, key):
        return f"holds {attributes}"
    if attributes.get("schema") != SCHEMA:
        return f"schema is {attributes.get('schema')}, expected {SCHEMA}"
    if not all(isinstance(attributes.get(n), np.integer) for n in ("source_size", STAMP_TIME)):
        return "no size and time of a video"
    if set(file) not in (set(), {"levels", "seconds"}):
        return f"holds {sorted(file)}, expected levels and seconds"
    for name in file:
        if not isinstance(file.get(name, getlink=True), h5py.HardLink):
            return f"/{name} is a link"
    return _misshapen(file["levels"], file["seconds"]) if len(file) else ""


def _misshapen(levels: h5py.Dataset, seconds: h5py.Dataset) -> str:
    """Say that flows or times have a shape or type of their own, or claim more than is stored."""
    planes = levels.shape[1:]
    fits = (
        len(planes) == 3
        and planes[0] == 2
        and levels.dtype == np.uint8
        and levels.chunks == (1, *planes)
        and levels.id.get_num_chunks() == len(levels)
        and seconds.dtype == np.dtype("<f8")
        and seconds.shape == levels.shape[:1]
    )
    return "" if fits else f"levels are {levels.dtype} {levels.shape}, seconds {seconds.shape}"


class _Done(Mapping[str, tuple[int, int]]):
    """Looks entries up one by one: a folder of files is its own index."""

    def __init__(self, cache: FlowCache) -> None:
        self._cache = cache

    def __getitem__(self, key: str) -> tuple[int, int]:
        stamp = self._cache._stamp(key)
        if stamp is None:
            raise KeyError(key)
        return stamp.size, stamp.mtime_ns

    def __iter__(self) -> Iterator[str]:
        for place in self._cache.folder.glob("*/*.h5"):
            with h5py.File(place, "r", locking=False) as file:
                yield str(file.attrs["key"])

    def __len__(self) -> int:
        return sum(1 for _ in self._cache.folder.glob("*/*.h5"))


def bytes_per_hour(total_bytes: int, flows: int, fps: float) -> float:
    """Return what an hour of video at a frame rate takes, from what some flows took."""
    return total_bytes / max(flows, 1) * fps * 3600
