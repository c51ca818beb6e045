"""What a list holds, counted in one pass over it and a second one only where rows repeat."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from manifests._load import HASH_BITS, repeated, repetition
from manifests._readers import class_order, find
from manifests._segment import Reject, Segment

REJECTS_KEPT = 20


@dataclass(slots=True)
class Summary:
    """What a list holds.

    Attributes
    ----------
    dataset : str
        Name of the reader.
    segments, rejected, repeated : int
        Usable rows (repeated ones counted once), refused rows, and rows whose segment stands
        earlier in the list.
    rejects : list of Reject
        The first `REJECTS_KEPT` of the refused and of the repeated rows.
    splits : Counter
        Segments of each split; the name is empty where the list has none.
    classes : Counter
        Segments of each class; one with several labels counts for each.
    order : tuple of str
        Every class in its stable index order.
    unlabelled, multi_label, whole : int
        Segments without a label, with several, and without an end.
    seconds : float
        Length of all segments that have an end.
    shortest, longest : float
        Seconds; 0 where no segment has an end.
    groups : int
        Distinct groups, 0 where the list has none.
    """

    dataset: str
    segments: int = 0
    rejected: int = 0
    repeated: int = 0
    rejects: list[Reject] = field(default_factory=list)
    splits: Counter[str] = field(default_factory=Counter)
    classes: Counter[str] = field(default_factory=Counter)
    order: tuple[str, ...] = ()
    unlabelled: int = 0
    multi_label: int = 0
    whole: int = 0
    seconds: float = 0.0
    shortest: float = 0.0
    longest: float = 0.0
    groups: int = 0

    def add(self, segment: Segment, sign: int = 1) -> None:
        """Count a segment, or with `sign` -1 take a repeated one back."""
        self.segments += sign
        self.splits[segment.split] += sign
        for label in segment.labels:
            self.classes[label] += sign
        self.unlabelled += sign * (not segment.labels)
        self.multi_label += sign * (len(segment.labels) > 1)
        seconds = segment.seconds
        if seconds is None:
            self.whole += sign
            return
        self.seconds += sign * seconds
        self.longest = max(self.longest, seconds)
        self.shortest = min(self.shortest or seconds, seconds)

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values; ``classes`` are in index order."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        plain["rejects"] = [asdict(reject) for reject in self.rejects]
        plain["splits"] = dict(+self.splits)
        plain["classes"] = {name: self.classes[name] for name in self.order}
        del plain["order"]
        return plain

    def refuse(self, reject: Reject) -> None:
        """Count a refused row and keep the first few."""
        self.rejected += 1
        if self.rejected <= REJECTS_KEPT:
            self.rejects.append(reject)


def inspect(path: Path | str, dataset: str | None = None) -> Summary:
    """Count what a list holds, in little memory: some 30 bytes for each row.

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
    summary = Summary(reader.NAMES[0])
    keys, groups = array("Q"), set[int]()
    for item in reader.read(path, detail):
        if isinstance(item, Reject):
            summary.refuse(item)
            continue
        summary.add(item)
        keys.append(hash(item.key) & HASH_BITS)
        if item.group:
            groups.add(hash(item.group))
    suspects = repeated(keys)
    if suspects:
        _take_back(path, _suspected(reader.read(path, detail), suspects), summary)
    summary.groups = len(groups)
    summary.order = class_order(reader, path, detail, set(summary.classes))
    return summary


def _suspected(items: Iterable[Segment | Reject], suspects: set[int]) -> Iterator[Segment]:
    for item in items:
        if isinstance(item, Segment) and hash(item.key) & HASH_BITS in suspects:
            yield item


def _take_back(path: Path, suspected: Iterable[Segment], summary: Summary) -> None:
    """Count the repeated segments, report the first few, and take them out of the counts."""
    first: dict[str, Segment] = {}
    for segment in suspected:
        earlier = first.setdefault(segment.key, segment)
        if earlier is segment:
            continue
        summary.add(segment, sign=-1)
        summary.repeated += 1
        if summary.repeated <= REJECTS_KEPT:
            summary.rejects.append(repetition(path, earlier, segment))


def rejects(path: Path | str, dataset: str | None = None) -> Iterator[Reject]:
    """Yield every refused row of a list, in bounded memory; repeated rows are not among them."""
    path = Path(path)
    reader, detail = find(path, dataset)
    return (item for item in reader.read(path, detail) if isinstance(item, Reject))
