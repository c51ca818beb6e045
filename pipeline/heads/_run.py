"""One training from start to checkpoint: folds, validation inside them, figures, final head.

Every fold tests groups that its head never saw; a share of its training groups is set aside to
choose the epoch or the penalty. With cross-validation the head that is kept is then trained on
all segments, for as long as the folds agreed on. Every descent keeps its state in ``working/``
until the end, so an interrupted training goes on at the epoch where it was.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import UsageError
from pipeline.heads import _splits, checkpoint
from pipeline.heads._evaluate import bootstrap, hits, summary
from pipeline.heads._examples import Examples
from pipeline.heads._head import Head, build
from pipeline.heads._splits import Fold
from pipeline.heads._state import comparable
from pipeline.heads._train import History, Job, Plan, Point, fit, predict

WORKING, FINAL_STATE = "working", "final.safetensors"


@dataclass(frozen=True)
class Order:
    """What is to be trained.

    Attributes
    ----------
    head : str
    settings : Mapping of str to str
    plan : Plan
    folds : str
        ``manifest``, ``group`` (leave one group out), a number K of folds by group, or ``auto``:
        the manifest's when it has train and test (or val) segments, else 5 (fewer with fewer
        groups).
    validation_share : float
        Share of the training segments, in whole groups, that choose the epoch or the penalty.
    balanced : bool
        Weigh classes by the inverse of their number in training.
    """

    head: str
    settings: Mapping[str, str] = field(default_factory=dict)
    plan: Plan = field(default_factory=Plan)
    folds: str = "auto"
    validation_share: float = 0.2
    balanced: bool = False


@dataclass
class Report:
    """What a training found.

    Attributes
    ----------
    folds : list of Fold
    curves : list of list of History
        One list per fold, one history per network.
    tested : array (n,) int64
        Segment numbers, ascending.
    probabilities : array (n, C)
    figures : dict
        Plain JSON values.
    head : Head
        The one that is kept.
    """

    folds: list[Fold]
    curves: list[list[History]]
    tested: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    figures: dict[str, Any]
    head: Head


Progress = Callable[[str, str, Point], None]


def choose_folds(data: Examples, text: str, seed: int) -> list[Fold]:
    """Return the folds that ``--folds`` asks for.

    Raises
    ------
    UsageError
        When there are too few groups, no split, or a class would be tested but never trained on.
    """
    if text == "auto":
        has_test = {"test", *_splits.VALIDATION} & set(data.splits)
        folds = min(5, len(set(data.groups)))
        text = "manifest" if has_test and _splits.TRAIN in data.splits else str(folds)
    if text == "manifest":
        found = [_splits.by_manifest(data.splits)]
    elif text == "group":
        found = _splits.leave_one_group_out(data.groups)
    elif text.isdigit():
        found = _splits.k_fold(data.groups, int(text), seed)
    else:
        raise UsageError(f"--folds is {text!r}, expected manifest, group, a number, or auto")
    _splits.check_classes(found, data.labels, data.keys, list(data.task.classes))
    return found


def run(data: Examples, order: Order, folder: Path, progress: Progress) -> Report:
    """Train and test a head on every fold, then the one to keep.

    Parameters
    ----------
    data : Examples
    order : Order
    folder : Path
        Of the checkpoint; its ``working`` part holds the state until `keep` removes it.
    progress : callable
        Told of fold, part and each point of the learning curve.
    """
    folds = choose_folds(data, order.folds, order.plan.seed)
    _new_head(data, order, folds[0].train)  # wrong settings are found before anything is written
    working = _claim(folder / WORKING, data, order)
    found = np.full((len(data), len(data.task.classes)), np.nan)
    curves: list[list[History]] = []
    for number, fold in enumerate(folds):
        head = _new_head(data, order, fold.train)
        job = _fold_job(data, order, fold, working / f"fold-{number}.safetensors")
        job = job._replace(watch=partial(progress, fold.name))
        curves.append(fit(head, job, order.plan))
        found[list(fold.test)] = predict(head, data, fold.test, order.plan)[0]
    final = head if len(folds) == 1 else _final(data, order, curves, working / FINAL_STATE)
    tested = np.flatnonzero(~np.isnan(found[:, 0]))
    figures = _figures(data, found[tested], tested)
    return Report(folds, curves, tested, found[tested], figures, final)


def _claim(working: Path, data: Examples, order: Order) -> Path:
    """Make the working folder, or take up one that the same order left."""
    working.mkdir(parents=True, exist_ok=True)
    plain = asdict(order)
    plan = comparable(plain.pop("plan"))
    about = json.loads(json.dumps({**plain, **plan, **_fingerprint(data)}))
    note = working / "order.json"
    under_way = any(working.glob("*.safetensors"))
    before = _read_note(note) if under_way else about
    if before != about:
        differing = sorted(k for k in {*before, *about} if before.get(k) != about.get(k))
        raise UsageError(
            f"{working}: an interrupted training of something else (another "
            f"{', '.join(differing)}); give its flags again to go on with it, or remove the folder"
        )
    note.write_text(json.dumps(about), encoding="utf-8")
    return working


def _fingerprint(data: Examples) -> dict[str, Any]:
    """Return in a few words what makes two sets of segments the same for a training."""
    labels = hashlib.sha256(repr((data.labels, data.task.classes)).encode()).hexdigest()
    segments = hashlib.sha256(repr((data.keys, data.groups, data.splits)).encode()).hexdigest()
    return {"recipes": data.streams, "dims": data.dims, "segments": segments, "labels": labels}


def _read_note(note: Path) -> dict[str, Any]:
    try:
        found = json.loads(note.read_text("utf-8"))
    except (OSError, ValueError):
        found = None
    return found if isinstance(found, dict) else {"order.json": "unreadable"}


def _new_head(data: Examples, order: Order, train: Sequence[int]) -> Head:
    task = replace(data.task, class_weights=balance(data, train)) if order.balanced else data.task
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(order.plan.seed)
        return build(order.head, task, data.dims, order.settings)


def balance(data: Examples, train: Sequence[int]) -> tuple[float, ...]:
    """Return class weights: inverse of the class's number in training, 1 for a mean class."""
    count = np.zeros(len(data.task.classes))
    for k in train:
        count[data.labels[k]] += 1
    present = count > 0
    mean = count[present].mean()
    return tuple(float(mean / c) if c else 1.0 for c in count)


def _fold_job(data: Examples, order: Order, fold: Fold, state: Path) -> Job:
    groups = [data.groups[k] for k in fold.train]
    split = _splits.hold_out(groups, order.validation_share, order.plan.seed)
    train = [fold.train[k] for k in split.train]
    return Job(data, train, [fold.train[k] for k in split.test], state)


def _final(data: Examples, order: Order, curves: list[list[History]], state: Path) -> Head:
    """Train on everything, for the median of what the folds chose."""
    chosen = tuple(
        float(np.median([fold[part].chosen for fold in curves])) for part in range(len(curves[0]))
    )
    everything = range(len(data))
    head = _new_head(data, order, everything)
    fit(head, Job(data, everything, state=state), replace(order.plan, chosen=chosen))
    return head


def _figures(
    data: Examples, probabilities: NDArray[np.float64], tested: NDArray[np.int64]
) -> dict[str, Any]:
    targets = data.targets.numpy()[tested]
    figures: dict[str, Any] = {"segments": len(tested), **summary(probabilities, targets)}
    if not data.task.multi_label:
        groups = [data.groups[k] for k in tested]
        interval = bootstrap(hits(probabilities, targets), groups)
        figures["top1_interval"] = [interval.low, interval.high]
        figures["chance"] = 1 / len(data.task.classes)
    return figures


def keep(folder: Path, report: Report, order: Order, recipes: Sequence[Mapping[str, Any]]) -> None:
    """Write the checkpoint of a training, then drop its working state."""
    chosen = [[history.chosen for history in fold] for fold in report.curves]
    note = checkpoint.Note(
        head=order.head,
        settings=dict(order.settings),
        dims=report.head.dims,
        task=report.head.task,
        recipes=tuple(recipes),
        figures=report.figures,
        training={
            "plan": asdict(order.plan),
            "folds": [fold.name for fold in report.folds],
            "chosen": chosen,
            "validation_share": order.validation_share,
        },
    )
    checkpoint.save(folder, report.head, note)
    shutil.rmtree(folder / WORKING, ignore_errors=True)
