"""Which segments train, validate and test: whole groups, never parts of one.

Segments cut from one video, or of the same people, look alike. A group on both sides of a split
makes every figure too good, so each function here takes one group name per segment and keeps a
group together. Where a manifest names no group, the video is the group.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import UsageError

NAMED_IN_ERRORS = 5
TRAIN, VALIDATION, TEST = "train", ("val", "validate", "validation"), "test"


@dataclass(frozen=True, slots=True)
class Fold:
    """One way to train and test.

    Attributes
    ----------
    name : str
        What is held out.
    train, test : tuple of int
        Segment numbers; disjoint.
    """

    name: str
    train: tuple[int, ...]
    test: tuple[int, ...]


def _fold(name: str, groups: Sequence[str], held_out: set[str]) -> Fold:
    test = tuple(k for k, group in enumerate(groups) if group in held_out)
    train = tuple(k for k, group in enumerate(groups) if group not in held_out)
    return Fold(name, train, test)


def _need_groups(groups: Sequence[str], at_least: int, what: str) -> list[str]:
    known = sorted(set(groups))
    if len(known) < at_least:
        raise UsageError(
            f"{what} needs at least {at_least} groups, found {len(known)} "
            f"({', '.join(known[:NAMED_IN_ERRORS]) or 'none'}); take fewer folds, or a "
            "--group-column that has more"
        )
    return known


def leave_one_group_out(groups: Sequence[str]) -> list[Fold]:
    """Return one fold per group, that group being the test set.

    Examples
    --------
    >>> [fold.test for fold in leave_one_group_out(["a", "b", "a"])]
    [(0, 2), (1,)]
    """
    return [_fold(g, groups, {g}) for g in _need_groups(groups, 2, "leave-one-group-out")]


def k_fold(groups: Sequence[str], folds: int, seed: int = 0) -> list[Fold]:
    """Return `folds` folds of about equal size made of whole groups.

    The largest groups are placed first, each into the smallest fold so far; `seed` decides
    between groups of equal size.

    Examples
    --------
    >>> sorted(fold.test for fold in k_fold(["a", "a", "b", "c"], 2))
    [(0, 1), (2, 3)]
    """
    known = _need_groups(groups, max(2, folds), f"{folds}-fold cross-validation")
    random.Random(seed).shuffle(known)
    sizes = Counter(groups)
    known.sort(key=lambda g: -sizes[g])  # stable: equal sizes stay shuffled
    held_out: list[set[str]] = [set() for _ in range(folds)]
    filled = [0] * folds
    for group in known:
        smallest = filled.index(min(filled))
        held_out[smallest].add(group)
        filled[smallest] += sizes[group]
    return [_fold(f"fold {k + 1}", groups, names) for k, names in enumerate(held_out)]


def hold_out(groups: Sequence[str], share: float, seed: int = 0) -> Fold:
    """Return one fold whose test set is about `share` of the segments, in whole groups."""
    known = _need_groups(groups, 2, "a validation split")
    random.Random(seed).shuffle(known)
    sizes = Counter(groups)
    wanted = share * len(groups)
    held_out: set[str] = set()
    taken = 0
    for group in known[:-1]:  # at least one group trains
        if held_out and taken + sizes[group] / 2 > wanted:
            break
        held_out.add(group)
        taken += sizes[group]
    return _fold(f"{share:.0%} of the segments", groups, held_out)


def by_manifest(splits: Sequence[str], test: str = "") -> Fold:
    """Return the fold that the manifest's own split column makes.

    Parameters
    ----------
    splits : sequence of str
        ``train``, ``val`` (or ``validate``), ``test`` of each segment.
    test : str
        Split to test on; empty takes ``test`` when it has labelled segments, else ``val``.
    """
    found = Counter("val" if s in VALIDATION else s for s in splits)
    chosen = "val" if test in VALIDATION else test or (TEST if found[TEST] else "val")
    if not found[TRAIN] or not found[chosen]:
        counts = ", ".join(f"{n} {s or '(no split)'}" for s, n in sorted(found.items())) or "none"
        raise UsageError(
            f"the splits are: {counts}; expected segments of 'train' and of {chosen!r}. "
            "Give a manifest with a split column, or --folds group / --folds K"
        )
    wanted = VALIDATION if chosen == "val" else (chosen,)
    return Fold(
        chosen,
        tuple(k for k, s in enumerate(splits) if s == TRAIN),
        tuple(k for k, s in enumerate(splits) if s in wanted),
    )


def check_classes(
    folds: Sequence[Fold], labels: Sequence[Sequence[int]], keys: Sequence[str], classes: list[str]
) -> None:
    """Refuse folds in which a class is tested that was never trained on.

    Parameters
    ----------
    folds : sequence of Fold
    labels : sequence of sequences of int
        Class numbers of each segment.
    keys : sequence of str
        Segment keys, for the message.
    classes : list of str

    Raises
    ------
    UsageError
        Naming the class and its segments.
    """
    for fold in folds:
        if not fold.train or not fold.test:
            raise UsageError(f"fold {fold.name!r} has no segment to train or to test on")
        trained = {label for k in fold.train for label in labels[k]}
        for k in fold.test:
            for label in labels[k]:
                if label in trained:
                    continue
                owners = [keys[j] for j in range(len(keys)) if label in labels[j]]
                raise UsageError(
                    f"class {classes[label]!r} would be tested but never trained on when "
                    f"{fold.name!r} is held out: all of its {len(owners)} segments are there "
                    f"({', '.join(owners[:NAMED_IN_ERRORS])}); add segments of other groups "
                    "or drop the class"
                )
