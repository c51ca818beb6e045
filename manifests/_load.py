"""Reading a whole list: recognised, checked, its repeated segments refused."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

from manifests._errors import ManifestError, RowError
from manifests._readers import Reader, class_order, digested_files, find
from manifests._segment import Manifest, Reject, Segment

HASH_BITS = (1 << 64) - 1
SORTED_PARTS = 8


def stream(path: Path | str, dataset: str | None = None) -> Iterator[Segment | Reject]:
    """Yield every segment and every refused row of a list, in file order.

    Memory stays bounded whatever the length of the list, so repeated segments are not noticed
    here: `load` and `inspect` report them.

    Parameters
    ----------
    path : Path or str
        A list, or a folder of videos.
    dataset : str, optional
        One of `names`, or ``name:detail``; by default the list is recognised.

    Raises
    ------
    ManifestError
        When the list cannot be read at all.
    """
    path = Path(path)
    reader, detail = find(path, dataset)
    return reader.read(path, detail)


def load(path: Path | str, dataset: str | None = None, *, strict: bool = False) -> Manifest:
    """Read a whole list.

    Parameters
    ----------
    path : Path or str
        A list, or a folder of videos.
    dataset : str, optional
        One of `names`, or ``name:detail``; by default the list is recognised.
    strict : bool
        Stop at the first row that cannot be used, instead of collecting it among the rejects.

    Returns
    -------
    Manifest
        Segments in file order with unique keys; of repeated ones the first stays.

    Raises
    ------
    ManifestError
        When the list cannot be read at all, or has no usable row.
    RowError
        When strict, at the first row that cannot be used.
    """
    path = Path(path)
    reader, detail = find(path, dataset)
    items: list[Segment | Reject] = []
    for item in reader.read(path, detail):
        if strict and isinstance(item, Reject):
            raise RowError(item.where, item.found, item.remedy)
        items.append(item)
    _refuse_repeated(path, items, strict)
    segments = tuple(item for item in items if isinstance(item, Segment))
    rejects = tuple(item for item in items if isinstance(item, Reject))
    del items
    if not segments:
        raise _nothing_usable(path, rejects)
    labels = {label for names in {s.labels for s in segments} for label in names}
    return Manifest(
        dataset=reader.NAMES[0],
        path=path,
        sha256=digest(reader, path, detail, segments),
        segments=segments,
        rejects=rejects,
        classes=class_order(reader, path, detail, labels),
    )


def repeated(hashes: Iterable[int]) -> set[int]:
    """Return the values that occur more than once, in 8 bytes a value and a sort of an eighth.

    A set of a million keys takes ten times as much. Equal hashes of different keys are harmless
    here: the caller compares the keys of the few values returned.
    """
    values = array("Q", (value & HASH_BITS for value in hashes))
    found: set[int] = set()
    for part in range(SORTED_PARTS):
        ordered = sorted(value for value in values if value % SORTED_PARTS == part)
        found.update(one for one, other in pairwise(ordered) if one == other)
    return found


def _refuse_repeated(path: Path, items: list[Segment | Reject], strict: bool) -> None:
    """Replace every segment whose key an earlier one has by a `Reject`, in place."""
    suspects = repeated(hash(item.key) for item in items if isinstance(item, Segment))
    if not suspects:
        return
    first: dict[str, Segment] = {}
    for at, item in enumerate(items):
        if isinstance(item, Reject) or hash(item.key) & HASH_BITS not in suspects:
            continue
        earlier = first.setdefault(item.key, item)
        if earlier is item:
            continue
        refused = repetition(path, earlier, item)
        if strict:
            raise RowError(refused.where, refused.found, refused.remedy)
        items[at] = refused


def repetition(path: Path, earlier: Segment, later: Segment) -> Reject:
    """Return the report of a segment that stands in the list already."""
    said, says = ("|".join(segment.labels) for segment in (earlier, later))
    but = "" if said == says else f" with the label {said!r}, here {says!r}"
    if path.is_dir():  # several lists: a line alone does not say where
        where, found = path.name, f"the segment {later.key} stands there more than once{but}"
    else:
        where, found = f"{path.name}:{later.line}", f"the same segment as line {earlier.line}{but}"
    return Reject(where, found, "the first stays; delete one of the lines", later.key)


def _nothing_usable(path: Path, rejects: tuple[Reject, ...]) -> ManifestError:
    if not rejects:
        what = "holds no video file" if path.is_dir() else "holds no row"
        return ManifestError(str(path), what, "name a list or a folder of videos")
    first = rejects[0]
    return ManifestError(
        str(path),
        f"none of its {len(rejects)} rows can be used; the first, {first.where}: {first.found}",
        first.remedy,
    )


def digest(reader: Reader, path: Path, detail: str, segments: Iterable[Segment]) -> str:
    """Return the sha256 of a list's bytes, for a folder of videos of its relative paths."""
    found = hashlib.sha256()
    files = digested_files(reader, path, detail)
    for file in files:
        with file.open("rb") as bytes_of:
            while block := bytes_of.read(1 << 20):
                found.update(block)
    if not files:
        for segment in segments:
            found.update(f"{segment.video}\n".encode())
    return found.hexdigest()
