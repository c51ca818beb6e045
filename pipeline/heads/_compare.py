"""The comparison that the field is about, on one's own data: same segments, same splits, all rows.

Every row is tested by the same nested cross-validation over whole groups, so rows differ in their
features and heads only, and differences are taken segment by segment (paired). Chance and the
trivial baseline are always there: a table without them cannot show a leak.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError
from pipeline.heads import _trivial
from pipeline.heads._cost import extraction_times
from pipeline.heads._evaluate import (
    ROUNDING,
    Interval,
    bootstrap,
    hits,
    mean_class_accuracy,
    paired,
)
from pipeline.heads._examples import Examples
from pipeline.heads._field import Effort, Entry, Stream, entries
from pipeline.heads._load import NAMED_IN_ERRORS, Wanted, load
from pipeline.heads._nested import Candidate, Scheme, nested
from pipeline.heads._published import PUBLISHED
from pipeline.heads._run import choose_folds
from pipeline.store import FeatureSet, FeatureStore

CHANCE, TRIVIAL = "chance", "trivial baseline"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One measured row of the table.

    Attributes
    ----------
    row, head, features, pretraining, seen, published : str
    parameters : int or None
        Of the networks; None when unknown.
    top1 : Interval
        Over groups and seeds.
    mean_class : float
    seed_spread : float
        Standard deviation of the accuracy over seeds; NaN with one seed.
    head_seconds : float
        To train and test the head, per tested segment.
    chosen : tuple of str
        What each fold chose.
    hit : array (n,)
        Share of seeds that got each tested segment right.
    """

    row: str
    head: str
    top1: Interval
    mean_class: float
    hit: NDArray[np.float64]
    features: str = ""
    pretraining: str = ""
    seen: str = ""
    published: str = ""
    parameters: int | None = None
    seed_spread: float = float("nan")
    head_seconds: float = 0.0
    chosen: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """The table and what may be concluded from it.

    Attributes
    ----------
    lines : tuple of Line
        Chance and the trivial baseline first.
    groups : tuple of str
        Of the tested segments.
    about : str
        Segments, classes, groups, folds, seeds; what extraction cost.
    """

    lines: tuple[Line, ...]
    groups: tuple[str, ...]
    about: str

    def difference(self, first: Line, second: Line) -> Interval:
        """Return the paired difference of two rows' accuracies."""
        return paired(first.hit, second.hit, self.groups)

    @property
    def best(self) -> Line:
        """The most accurate row; of equals the first."""
        return max(self.lines, key=lambda line: line.top1.value)

    def statements(self) -> list[str]:
        """Return what the table says, and where it says nothing."""
        best = self.best
        said = [f"best: {_name(best)}, {best.top1}"]
        within = []
        for line in self.lines[2:]:
            if line is not best and self.difference(best, line).holds_zero:
                within.append(_name(line))
        said.append(f"within noise of the best (paired, 95 %): {'; '.join(within) or 'none'}")
        trivial = self.lines[1]
        for line in (self.lines[0], trivial):
            gain = self.difference(best, line)
            verdict = "within noise" if gain.holds_zero else "clear"
            said.append(f"best against {line.row}: {gain}, {verdict}")
        leak = self.difference(trivial, self.lines[0])
        if leak.low > ROUNDING:
            said.append(
                f"warning: {trivial.head} alone is above chance by {leak}: part of every figure "
                "here may come from that"
            )
        return said


@dataclass(frozen=True)
class Order:
    """What is to be compared, and how.

    Attributes
    ----------
    wanted : Wanted
        Its recipes are the ones compared.
    videos : tuple of str
        ``--videos`` values for the frame sizes of the trivial baseline; may be empty.
    effort : Effort
    folds : str
        See `pipeline.heads._run.choose_folds`.
    inner : int
        Inner folds of the training groups.
    seeds : tuple of int
    """

    wanted: Wanted
    videos: tuple[str, ...] = ()
    effort: Effort = field(default_factory=Effort)
    folds: str = "auto"
    inner: int = 3
    seeds: tuple[int, ...] = (0,)


def compare(order: Order, progress: Callable[[str], None]) -> Comparison:
    """Train and test every entry on the same segments and splits.

    Parameters
    ----------
    order : Order
    progress : callable
        Told of each row before it is measured.

    Raises
    ------
    UsageError
        For several labels a segment, or recipes that hold different segments.
    """
    store = FeatureStore(order.wanted.out)
    streams = [Stream(store.folder(name), store[name].recipe) for name in order.wanted.recipes]
    bench = _Bench(order, streams)
    progress(TRIVIAL)
    lines = [bench.chance(), bench.trivial(store[streams[0].folder])]
    listed = entries(streams, order.effort)
    outcomes: dict[int, _Measured] = {}
    about = [bench.about]
    for number, entry in sorted(enumerate(listed), key=lambda pair: bool(pair[1].fused)):
        progress(f"{entry.row}: {entry.head}")
        parts = [outcomes[k] for k in entry.fused]
        try:
            outcomes[number] = _fused(parts) if parts else bench.measure(entry)
        except UsageError as error:
            if len(entry.streams) == 1:
                raise
            about.append(f"left out: {entry.row}, {entry.head}: {error}")
    lines += [bench.line(listed[number], outcomes[number]) for number in sorted(outcomes)]
    about += extraction_times(order.wanted.out, [stream.folder for stream in streams])
    return Comparison(tuple(lines), bench.groups, "\n".join(about))


@dataclass(frozen=True)
class _Measured:
    """Probabilities (S, n, C) of the tested segments, seconds spent, and what was chosen."""

    probabilities: NDArray[np.float64]
    seconds: float
    chosen: tuple[str, ...] = ()


def _fused(parts: Sequence[_Measured]) -> _Measured:
    mean = np.mean([part.probabilities for part in parts], axis=0)
    return _Measured(mean, sum(part.seconds for part in parts))


class _Bench:
    """The segments and splits that every row shares."""

    def __init__(self, order: Order, streams: Sequence[Stream]) -> None:
        self._order = order
        self._streams = {stream.folder: stream for stream in streams}
        alone = {name: load(replace(order.wanted, recipes=(name,)))[0] for name in self._streams}
        self._keys = _common_keys(alone, order.wanted.common)
        self._sets: dict[tuple[str, ...], Examples] = {
            (name,): _of_keys(found, self._keys) for name, found in alone.items()
        }
        self.data = self.examples((streams[0].folder,))
        if self.data.task.multi_label:
            raise UsageError(
                "compare needs one label a segment; with several labels use pipeline train, "
                "which gives the mean average precision"
            )
        outer = choose_folds(self.data, order.folds, order.seeds[0])
        self.scheme = Scheme(tuple(outer), order.inner, order.seeds)
        self.tested = self.scheme.tested
        self.targets = self.data.targets.numpy()[self.tested]
        self.groups = tuple(self.data.groups[k] for k in self.tested)
        self.about = (
            f"{len(self.tested)} tested segments, {len(self.data.task.classes)} classes, "
            f"{len(set(self.groups))} groups; {len(outer)} folds by group, seeds "
            f"{', '.join(map(str, order.seeds))}; hyper-parameters chosen on {order.inner} inner "
            "folds of the training groups"
        )

    def examples(self, streams: tuple[str, ...]) -> Examples:
        """Return the common segments under some recipes, rows joined by time.

        Raises
        ------
        UsageError
            When a segment has no row that starts at the same time under all of them.
        """
        if streams not in self._sets:
            found = load(replace(self._order.wanted, recipes=streams))[0]
            self._sets[streams] = _of_keys(found, self._keys)
        return self._sets[streams]

    def measure(self, entry: Entry) -> _Measured:
        """Run the nested cross-validation of an entry."""
        return self._nested(self.examples(entry.streams), entry.candidates)

    def _nested(self, data: Examples, candidates: Sequence[Candidate]) -> _Measured:
        began = time.perf_counter()
        outcome = nested(data, candidates, self.scheme)
        return _Measured(outcome.probabilities, time.perf_counter() - began, outcome.chosen)

    def chance(self) -> Line:
        """Return the row of a guess that knows nothing: one class in C."""
        hit = np.full(len(self.tested), 1 / len(self.data.task.classes))
        return Line(row=CHANCE, head="a guess", top1=bootstrap(hit, self.groups),
                    mean_class=float(hit.mean()), hit=hit)  # fmt: skip

    def trivial(self, features: FeatureSet) -> Line:
        """Return the row that never looks at a pixel."""
        found, words = _trivial.facts(features, self.data.keys, self._order.videos)
        measured = self._nested(_trivial.as_examples(self.data, found), (_trivial.CANDIDATE,))
        return self._line(measured, row=TRIVIAL, head=words)

    def line(self, entry: Entry, measured: _Measured) -> Line:
        """Return the row of a measured entry."""
        streams = [self._streams[folder] for folder in entry.streams]
        counts = [stream.parameters for stream in streams]
        known = [count for count in counts if count is not None]
        return self._line(
            measured,
            row=entry.row,
            head=entry.head,
            features=" + ".join(stream.extractor for stream in streams),
            pretraining=" | ".join(stream.trained_on for stream in streams),
            seen=" + ".join(self._seen(stream) for stream in streams),
            published=PUBLISHED.get(entry.row, ""),
            parameters=sum(known) if len(known) == len(counts) else None,
        )

    def _seen(self, stream: Stream) -> str:
        """Frames of a window, and windows of a segment."""
        rows = sorted(len(rows) for rows in self.examples((stream.folder,)).rows[0])
        kind = "flow" if stream.is_flow else "RGB"
        return f"{rows[len(rows) // 2]} x {stream.window} {kind}"

    def _line(self, measured: _Measured, **known: Any) -> Line:
        each = np.array([hits(p, self.targets) for p in measured.probabilities])
        hit = each.mean(0)
        accuracies = each.mean(1)
        return Line(
            top1=bootstrap(hit, self.groups),
            mean_class=mean_class_accuracy(hit, self.targets),
            seed_spread=float(accuracies.std(ddof=1)) if len(accuracies) > 1 else float("nan"),
            head_seconds=measured.seconds / len(self.tested),
            chosen=measured.chosen,
            hit=hit,
            **known,
        )


def _common_keys(alone: Mapping[str, Examples], common: bool) -> tuple[str, ...]:
    """Return the segments that all recipes have, in the first one's order."""
    every = set().union(*(found.keys for found in alone.values()))
    shared = set.intersection(*(set(found.keys) for found in alone.values()))
    for name, found in alone.items():
        lacking = sorted(every - set(found.keys))
        if lacking and not common:
            raise UsageError(
                f"{name} lacks {len(lacking)} segments that other recipes have: "
                f"{', '.join(lacking[:NAMED_IN_ERRORS])}; extract them, or give --common to use "
                "only the segments that all recipes have"
            )
    if not shared:
        raise UsageError("no segment has features of all recipes; compare fewer of them")
    first = next(iter(alone.values()))
    return tuple(key for key in first.keys if key in shared)


def _of_keys(found: Examples, keys: Sequence[str]) -> Examples:
    place = {key: k for k, key in enumerate(found.keys)}
    lost = [key for key in keys if key not in place]
    if lost:
        raise UsageError(
            f"{len(lost)} segments have no row common to {', '.join(found.streams)}: "
            f"{', '.join(lost[:NAMED_IN_ERRORS])}"
        )
    return found.keep([place[key] for key in keys])


def _name(line: Line) -> str:
    return f"{line.row} ({line.head})"
