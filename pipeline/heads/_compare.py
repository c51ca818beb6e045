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

from pipeline.errors import UsageError
from pipeline.heads import _trivial
from pipeline.heads._comparison import Comparison, Line
from pipeline.heads._cost import extraction_times
from pipeline.heads._evaluate import bootstrap, correct, over_classes
from pipeline.heads._examples import Examples
from pipeline.heads._field import CHOSEN, Effort, Entry, Stream, entries
from pipeline.heads._fusion import best_share, mixed
from pipeline.heads._labels import some
from pipeline.heads._load import Wanted, load, refuse_lacking
from pipeline.heads._nested import Candidate, Outcome, Scheme, nested
from pipeline.heads._published import PUBLISHED
from pipeline.heads._run import choose_folds
from pipeline.heads.late_fusion import parse_weights
from pipeline.store import FeatureSet, FeatureStore

CHANCE, TRIVIAL = "chance", "trivial baseline"
ONE_LABEL, SEVERAL_LABELS = ("top-1", "mean class"), ("hit@1", "mAP")


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
        For recipes that hold different segments, or folds that cannot be tested.
    """
    store = FeatureStore(order.wanted.out)
    streams = [Stream(store.folder(name), store[name].recipe) for name in order.wanted.recipes]
    bench = _Bench(order, streams)
    progress(TRIVIAL)
    lines = [bench.chance(), bench.trivial(store[streams[0].folder])]
    listed = entries(streams, order.effort)
    weighed = {k for entry in listed if entry.weights == CHOSEN for k in entry.fused}
    outcomes: dict[int, _Measured] = {}
    about = [bench.about]
    for number, entry in sorted(enumerate(listed), key=lambda pair: bool(pair[1].fused)):
        progress(f"{entry.row}: {entry.head}")
        try:
            if entry.fused:
                parts = [(listed[k].streams[0], outcomes[k]) for k in entry.fused]
                outcomes[number] = bench.fuse(entry, parts)
            else:
                outcomes[number] = bench.measure(entry, with_inner=number in weighed)
        except UsageError as error:
            if len(entry.streams) == 1:
                raise
            about.append(f"left out: {entry.row}, {entry.head}: {error}")
    lines += [bench.line(listed[number], outcomes[number]) for number in sorted(outcomes)]
    about += extraction_times(order.wanted.out, [stream.folder for stream in streams])
    figures = SEVERAL_LABELS if bench.data.task.multi_label else ONE_LABEL
    return Comparison(tuple(lines), bench.groups, "\n".join(about), figures)


@dataclass(frozen=True)
class _Measured:
    """An outcome and the seconds it took."""

    outcome: Outcome
    seconds: float


class _Bench:
    """The segments and splits that every row shares."""

    def __init__(self, order: Order, streams: Sequence[Stream]) -> None:
        self._order = order
        self._streams = {stream.folder: stream for stream in streams}
        alone = {name: load(replace(order.wanted, recipes=(name,)))[0] for name in self._streams}
        self._keys = _common_keys(alone, order.wanted.common)
        self.data = _of_keys(alone[streams[0].folder], self._keys)
        self._sets: dict[tuple[str, ...], Examples] = {
            (name,): self._alike(found) for name, found in alone.items()
        }
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
            self._sets[streams] = self._alike(found)
        return self._sets[streams]

    def _alike(self, found: Examples) -> Examples:
        """Return the common segments with what is true of them whatever the recipe."""
        same = _of_keys(found, self._keys)
        return replace(
            same, task=self.data.task, targets=self.data.targets, groups=self.data.groups
        )

    def measure(self, entry: Entry, with_inner: bool) -> _Measured:
        """Run the nested cross-validation of an entry."""
        return self._nested(self.examples(entry.streams), entry.candidates, with_inner)

    def _nested(
        self, data: Examples, candidates: Sequence[Candidate], with_inner: bool = False
    ) -> _Measured:
        began = time.perf_counter()
        outcome = nested(data, candidates, self.scheme, with_inner)
        return _Measured(outcome, time.perf_counter() - began)

    def fuse(self, entry: Entry, parts: Sequence[tuple[str, _Measured]]) -> _Measured:
        """Average the scores of heads on RGB with those of heads on flow, as the entry says."""
        rgb, flow = ([m.outcome for name, m in parts if name == own] for own in entry.streams)
        shares, chosen = np.full(len(self.tested), 0.5), []
        if entry.weights == CHOSEN:
            for number, fold in enumerate(self.scheme.outer):
                share = best_share(
                    np.mean([outcome.inner[number] for outcome in rgb], axis=0),
                    np.mean([outcome.inner[number] for outcome in flow], axis=0),
                    self.data.targets.numpy()[list(fold.train)],
                )
                shares[np.searchsorted(self.tested, fold.test)] = share
                chosen.append(f"{1 - share:.1f}:{share:.1f}")
        elif entry.weights:
            weights = parse_weights(entry.weights, 2)
            shares[:] = weights[1] / sum(weights)
        first = np.mean([outcome.probabilities for outcome in rgb], axis=0)  # S x n x C
        second = np.mean([outcome.probabilities for outcome in flow], axis=0)
        seconds = sum(measured.seconds for _, measured in parts)
        return _Measured(Outcome(mixed(first, second, shares), tuple(chosen)), seconds)

    def chance(self) -> Line:
        """Return the row of a guess that knows nothing: one class in C."""
        if self.data.task.multi_label:
            hit = self.targets.mean(1, dtype=np.float64)
            shares = self.targets.mean(0, dtype=np.float64)
            by_class = float(shares[shares > 0].mean())  # what a random order scores, in the mean
        else:
            by_class = 1 / len(self.data.task.classes)
            hit = np.full(len(self.tested), by_class)
        return Line(row=CHANCE, head="a guess", top1=bootstrap(hit, self.groups),
                    over_classes=by_class, hit=hit)  # fmt: skip

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
        rows = sorted(self.examples((stream.folder,)).lengths)
        kind = "flow" if stream.is_flow else "RGB"
        return f"{rows[len(rows) // 2]} x {stream.window} {kind}"

    def _line(self, measured: _Measured, **known: Any) -> Line:
        each = np.array([correct(p, self.targets) for p in measured.outcome.probabilities])
        by_class = [over_classes(p, self.targets) for p in measured.outcome.probabilities]
        hit = each.mean(0)
        accuracies = each.mean(1)
        return Line(
            top1=bootstrap(hit, self.groups),
            over_classes=float(np.mean(by_class)),
            seed_spread=float(accuracies.std(ddof=1)) if len(accuracies) > 1 else float("nan"),
            head_seconds=measured.seconds / len(self.tested),
            chosen=measured.outcome.chosen,
            hit=hit,
            **known,
        )


def _common_keys(alone: Mapping[str, Examples], common: bool) -> tuple[str, ...]:
    """Return the segments that all recipes have, in the first one's order."""
    every = set().union(*(found.keys for found in alone.values()))
    shared = set.intersection(*(set(found.keys) for found in alone.values()))
    for name, found in alone.items():
        if not common:
            refuse_lacking(name, every - set(found.keys))
    if not shared:
        raise UsageError("no segment has features of all recipes; compare fewer of them")
    first = next(iter(alone.values()))
    return tuple(key for key in first.keys if key in shared)


def _of_keys(found: Examples, keys: Sequence[str]) -> Examples:
    place = {key: k for k, key in enumerate(found.keys)}
    lost = [key for key in keys if key not in place]
    if lost:
        raise UsageError(
            f"{len(lost)} segments have no row common to {', '.join(found.streams)}: {some(lost)}"
        )
    return found.keep([place[key] for key in keys])
