"""How our rows compare with those of another tool, for somebody who migrates.

Two tools that run "the same network" differ in when a row begins, in how rows are scaled, or in
what the network really is; each leaves its own mark. Rows are compared at the shift that brings
them closest: a shift other than 0 is a matter of sampling. The cosine then does not see scaling,
the relative L2 distance does: a cosine of 1 with a distance is a matter of normalisation. Both
near 1 and 0 are the same features; a cosine that stays low means another network, layer, channel
order or preprocessing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StoreError, UsageError
from pipeline.store.exporting import safe_names
from pipeline.store.foreign import ForeignFeatures, Place, read
from pipeline.store.reading import FeatureSet

Rows = NDArray[np.float32]

MAX_OFFSET = 16  # rows
SAME_COSINE, SAME_DISTANCE = 0.9999, 1e-2
UNIT_TOLERANCE = 1e-3
COLUMNS = re.compile(r"(\d+):(\d+)")


@dataclass(frozen=True, slots=True)
class Comparison:
    """One segment in both tools.

    Attributes
    ----------
    key : str
        The segment.
    place : str
        Where the other tool's array is.
    rows : (int, int)
        Ours and theirs.
    offset : int
        Their row number minus ours, where they agree best.
    compared : int
        Rows that stand side by side at that offset.
    cosine, lowest_cosine : float
        Mean and least over those rows.
    distance : float
        ``|ours - theirs| / |theirs|`` over all their values.
    scale : float
        ``|ours| / |theirs|``.
    theirs_unit : bool
        Whether every row of theirs has length 1.
    """

    key: str
    place: str
    rows: tuple[int, int]
    offset: int
    compared: int
    cosine: float
    lowest_cosine: float
    distance: float
    scale: float
    theirs_unit: bool


@dataclass(frozen=True, slots=True)
class Differences:
    """All segments that both tools have, and those of ours that the other lacks."""

    compared: tuple[Comparison, ...]
    absent: tuple[str, ...]


def compare(key: str, place: str, ours: Rows, theirs: Rows) -> Comparison:
    """Compare the rows of one segment at the offset that suits them best.

    Parameters
    ----------
    key, place : str
        What is compared.
    ours, theirs : array, shape (N, D) and (M, D)
        At least one row each.
    """
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    offset, cosines = _best_offset(_unit(a), _unit(b))
    first, second = max(0, -offset), max(0, offset)
    x, y = a[first : first + len(cosines)], b[second : second + len(cosines)]
    norm = float(np.linalg.norm(y))
    return Comparison(
        key,
        place,
        (len(a), len(b)),
        offset,
        len(cosines),
        float(cosines.mean()),
        float(cosines.min()),
        float(np.linalg.norm(x - y)) / norm if norm else float(np.linalg.norm(x) > 0),
        float(np.linalg.norm(x)) / norm if norm else float("inf"),
        bool(np.allclose(np.linalg.norm(b, axis=1), 1, atol=UNIT_TOLERANCE)),
    )


def _best_offset(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[int, NDArray[np.float64]]:
    """Return the offset of the highest mean cosine, and the cosines of the rows it pairs.

    At least half of the shorter side must be paired. Equal means go to the smaller shift, because
    the rows of a still video differ by nothing but rounding.
    """
    least = max(1, min(len(a), len(b)) // 2)
    found: dict[int, NDArray[np.float64]] = {}
    for offset in range(-MAX_OFFSET, MAX_OFFSET + 1):
        x, y = a[max(0, -offset) :], b[max(0, offset) :]
        paired = min(len(x), len(y))
        if paired >= least:
            found[offset] = np.einsum("nd,nd->n", x[:paired], y[:paired])
    best = max(found, key=lambda k: (round(float(found[k].mean()), 6), -abs(k)))
    return best, found[best]


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)


def differences(
    ours: FeatureSet, theirs: ForeignFeatures, *, suffix: str = "", columns: str = ""
) -> Differences:
    """Compare every segment that both have.

    Parameters
    ----------
    ours : FeatureSet
        A recipe of our store.
    theirs : ForeignFeatures
        The other tool's arrays.
    suffix : str
        What their names have after the segment's or video's, e.g. ``_rgb``.
    columns : str
        ``FIRST:END`` of their columns, where they joined several networks (``0:1024``).

    Raises
    ------
    UsageError
        When nothing is shared, several arrays answer to one segment, or dimensions differ.
    StoreError
        When an array cannot be read, or values on either side are not finite.
    """
    compared: list[Comparison] = []
    absent: list[str] = []
    for key, place in _pairs(ours, theirs, suffix):
        rows = ours[key].vectors
        other = None if place is None else _fitted(read(place), ours.dim, columns, place)
        if other is None or not len(other) or not len(rows):
            absent.append(key)
            continue
        if not np.isfinite(rows).all():
            raise StoreError(
                f"{ours.name}: our features of {key} are not finite, so no distance is; "
                "`pipeline verify` lists all such segments"
            )
        compared.append(compare(key, str(place), np.asarray(rows, np.float32), other))
    if not compared:
        raise UsageError(
            f"{theirs.path}: no name there is one of our segments or videos; ours are like "
            f"{', '.join(ours.keys()[:2])}, theirs like {', '.join(theirs.names[:3])}; "
            "if theirs end in something more, give it with --suffix"
        )
    return Differences(tuple(compared), tuple(absent))


def _pairs(
    ours: FeatureSet, theirs: ForeignFeatures, suffix: str
) -> Iterator[tuple[str, Place | None]]:
    """Yield each of our keys with the other tool's array, by segment name or else by video."""
    keys, videos = ours.items["key"].tolist(), ours.items["video"].tolist()
    of_video = Counter(videos)
    for key, exported, video in zip(keys, safe_names(keys), videos, strict=True):
        names = [key, exported]
        if of_video[video] == 1:  # a video of several segments is named by none of them
            names += [video, PurePosixPath(video).stem]
        found = (theirs.find(name + suffix) for name in dict.fromkeys(names))
        yield key, next((place for place in found if place is not None), None)


def _fitted(rows: Rows, dim: int, columns: str, place: Place) -> Rows:
    """Cut their columns, and turn an array that has its rows as columns."""
    if columns:
        bounds = COLUMNS.fullmatch(columns)
        if bounds is None:
            raise UsageError(f"--columns is {columns!r}, expected FIRST:END, e.g. 0:1024")
        rows = rows[:, int(bounds[1]) : int(bounds[2])]
    if rows.shape[1] != dim and rows.shape[0] == dim:
        rows = np.ascontiguousarray(rows.T)
    if rows.shape[1] != dim:
        raise UsageError(
            f"{place}: rows have {rows.shape[1]} values, ours have {dim}; choose the same layer, "
            "or the columns of one network with --columns FIRST:END"
        )
    return rows


def verdict(found: Differences) -> str:
    """Say in one sentence what the marks of all segments mean."""
    items = found.compared
    offsets = Counter(c.offset for c in items if c.rows[0] > 1)
    cosine = float(np.median([c.cosine for c in items]))
    distance = float(np.median([c.distance for c in items]))
    shift = offsets.most_common(1)[0][0] if offsets else 0
    marks = []
    if cosine < SAME_COSINE:
        marks.append("directions differ: another network, layer, channel order or preprocessing")
    elif distance <= SAME_DISTANCE:
        marks.append("the same features")
    elif all(c.theirs_unit for c in items):
        marks.append("the same directions; theirs are L2-normalised")
    else:
        scale = float(np.median([c.scale for c in items]))
        marks.append(f"the same directions; ours are {scale:.4g} times as long")
    if shift:
        marks.append(f"our row k is their row k{shift:+d}: they begin their windows elsewhere")
    if any(c.rows[0] != c.rows[1] for c in items):
        marks.append("numbers of rows differ: another stride, window or tail rule")
    return "; ".join(marks)
