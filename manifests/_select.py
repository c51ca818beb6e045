"""Choosing and dividing segments: class-balanced subsets, and splits that no group crosses.

Both depend on nothing but the keys and the seed: each segment (or group) has a place in an order
given by the sha256 of seed and key, so another order of lines changes nothing, and rows added to a
list leave the choice among the others as it was but for those they displace.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from heapq import heappush, heapreplace
from math import isclose, isfinite

from manifests._errors import ManifestError
from manifests._segment import Segment


def lot(seed: int, text: str) -> int:
    """Return the place of a text in the order of a seed."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{text}".encode()).digest()[:8], "big")


def balanced(segments: Iterable[Segment], per_class: int, seed: int = 0) -> list[Segment]:
    """Return a class-balanced subset.

    Parameters
    ----------
    segments : iterable of Segment
        May be a stream: memory is that of the subset.
    per_class : int
        Segments wanted of each class. Of a class with fewer all are taken. A segment with several
        labels is drawn for each of them, so classes that go together may get more.
    seed : int
        Equal seeds draw equal subsets.

    Returns
    -------
    list of Segment
        In the order they came; those without a label count as one class.

    Raises
    ------
    ManifestError
        When `per_class` is not positive.
    """
    if per_class < 1:
        raise ManifestError("--per-class", f"{per_class} of each class", "ask for 1 or more")
    drawn: dict[str, list[tuple[int, int, Segment]]] = defaultdict(list)
    for number, segment in enumerate(segments):
        place = -lot(seed, segment.key)  # negative: the heap gives up its latest place first
        for label in segment.labels or ("",):
            heap = drawn[label]
            if len(heap) < per_class:
                heappush(heap, (place, -number, segment))
            elif (place, -number) > heap[0][:2]:
                heapreplace(heap, (place, -number, segment))
    chosen = {-number: segment for heap in drawn.values() for _, number, segment in heap}
    return [chosen[number] for number in sorted(chosen)]


def split(segments: Sequence[Segment], parts: Mapping[str, float], seed: int = 0) -> list[Segment]:
    """Return the segments with a new split each, the shares of every class near those asked for.

    Segments of one group (of one video where the list has no groups) get the same split: people
    and places seen in training must not be met again in the test. Groups are dealt out from the
    largest to the smallest, each to the part that lacks most of what the group holds.

    Parameters
    ----------
    segments : sequence of Segment
        In any order, which is kept.
    parts : mapping of str to float
        Share of each split, e.g. ``{"train": 0.8, "val": 0.2}``; together 1.
    seed : int
        Equal seeds split equally.

    Raises
    ------
    ManifestError
        When the shares are not positive or do not add up to 1.
    """
    if not all(isfinite(s) and s > 0 for s in parts.values()) or not isclose(
        sum(parts.values()), 1, abs_tol=1e-6
    ):
        said = ", ".join(f"{name}={share:g}" for name, share in parts.items())
        raise ManifestError("--parts", f"shares are {said or 'none'}", "make them add up to 1")
    holds: dict[str, Counter[str]] = defaultdict(Counter)
    for segment in segments:
        holds[segment.group or segment.video].update(segment.labels or ("",))
    total: Counter[str] = Counter()
    for counts in holds.values():
        total.update(counts)
    lacking = {
        name: {label: share * count for label, count in total.items()}
        for name, share in parts.items()
    }
    given: dict[str, str] = {}
    for group in sorted(holds, key=lambda g: (-holds[g].total(), lot(seed, g))):
        given[group] = _neediest(lacking, holds[group], total)
        for label, count in holds[group].items():
            lacking[given[group]][label] -= count
    return [replace(s, split=given[s.group or s.video]) for s in segments]


def _neediest(
    lacking: Mapping[str, Mapping[str, float]], counts: Counter[str], total: Counter[str]
) -> str:
    """Return the part that lacks most of a group's labels, rare labels weighing more."""

    def need(part: str) -> float:
        return sum(lacking[part][label] * n / total[label] for label, n in counts.items())

    return max(lacking, key=need)
