"""Rows of several recipes, side by side by the time they start at.

RGB and flow features of one segment rarely have the same number of rows: N frames give N - 1
flows, and strides differ. What can be put side by side are rows that start at the same moment;
the others are left out and counted. With one recipe every row counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.store.reading import FeatureSet
from pipeline.store.spans import Span

MICROSECONDS = 1e6
"""Starts are compared to the microsecond: far below a frame, far above rounding."""


class JoinedRows:
    """The rows that segments have under every one of some recipes.

    Picklable; each process opens its own files. One object serves one thread at a time.

    Parameters
    ----------
    sets : sequence of FeatureSet
        The recipes.
    keys : sequence of str
        Segments that all of them have.

    Attributes
    ----------
    dims : tuple of int
        D of each recipe.
    lengths : array, shape (segments,), int64
        Joined rows of each segment.
    shards : array, shape (segments,), int64
        Which shard of the first recipe holds each segment.
    unmatched : tuple of int
        Rows of each recipe that have no partner.

    Raises
    ------
    KeyError
        When a recipe lacks a segment.
    """

    def __init__(self, sets: Sequence[FeatureSet], keys: Sequence[str]) -> None:
        self._readers = [features.reader for features in sets]
        self._spans = [features.spans(keys) for features in sets]
        self._picked: dict[int, list[NDArray[np.int64]]] = {}
        self.dims = tuple(features.dim for features in sets)
        self.shards = self._spans[0][:, 0]
        self.lengths = self._spans[0][:, 2].copy()
        found = [int(spans[:, 2].sum()) for spans in self._spans]
        if len(sets) > 1:
            self._join()
        self.unmatched = tuple(rows - int(self.lengths.sum()) for rows in found)

    def read(self, recipe: int, segment: int, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Read the joined rows of a segment under one recipe.

        Parameters
        ----------
        recipe, segment : int
            Numbers, in the order given.
        out : array, shape (lengths[segment], D), contiguous, of the recipe's dtype, optional
            Where to put them.

        Raises
        ------
        StoreError
            When the store has changed since it was opened.
        """
        span = Span(*self._spans[recipe][segment].tolist())
        picked = self._picked.get(segment)
        if picked is None:
            return self._readers[recipe].vectors(span, out)
        rows = self._readers[recipe].vectors(span)[picked[recipe]]
        if out is None:
            return rows
        out[...] = rows
        return out

    def padded(self, recipe: int, segments: Sequence[int], out: NDArray[Any]) -> None:
        """Read the joined rows of segments side by side under one recipe, zeros after each.

        Parameters
        ----------
        recipe : int
            Its number, in the order given.
        segments : sequence of int
        out : array, shape (n, T, D), contiguous, of the recipe's dtype
            Where to put them; no segment has more than T rows.

        Raises
        ------
        StoreError
            When the store has changed since it was opened.
        """
        spans = self._spans[recipe][segments]
        scattered = [place for place, segment in enumerate(segments) if segment in self._picked]
        spans[scattered, 2] = 0
        self._readers[recipe].padded(spans, out)
        for place in scattered:
            self.read(recipe, segments[place], out[place, : self.lengths[segments[place]]])

    def seconds(self, segment: int) -> NDArray[np.float64]:
        """Read what the joined rows cover under the first recipe, shape (rows, 2)."""
        seconds = self._readers[0].seconds(Span(*self._spans[0][segment].tolist()))
        picked = self._picked.get(segment)
        return seconds if picked is None else seconds[picked[0]]

    def dtype(self, recipe: int) -> np.dtype[Any]:
        """Return the type of a recipe's vectors."""
        return self._readers[recipe].dtype

    def _join(self) -> None:
        for segment in range(len(self.lengths)):
            starts = [
                _starts(reader.seconds(Span(*spans[segment].tolist())))
                for reader, spans in zip(self._readers, self._spans, strict=True)
            ]
            if all(np.array_equal(starts[0], other) for other in starts[1:]):
                continue
            common = starts[0]
            for other in starts[1:]:
                common = np.intersect1d(common, other)
            self.lengths[segment] = len(common)
            picked = [np.flatnonzero(np.isin(each, common)) for each in starts]
            if all(len(each) == np.ptp(each) + 1 for each in picked if len(each)):
                for spans, each in zip(self._spans, picked, strict=True):
                    spans[segment, 1:] += each[0] if len(each) else 0, 0
                    spans[segment, 2] = len(common)
            else:
                self._picked[segment] = picked


def _starts(seconds: NDArray[np.float64]) -> NDArray[np.void]:
    """Return each row's start, with its rank among rows that start together (kept crops)."""
    starts = np.rint(seconds[:, 0] * MICROSECONDS).astype(np.int64)
    pairs = np.empty(len(starts), [("start", np.int64), ("rank", np.int64)])
    pairs["start"] = starts
    order = np.argsort(starts, kind="stable")
    firsts = np.searchsorted(starts[order], starts[order])
    pairs["rank"][order] = np.arange(len(starts)) - firsts
    return pairs
