"""Learning curves and confusion matrices as tables, and as pictures where matplotlib is there."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.heads._evaluate import confusion
from pipeline.heads._examples import Examples
from pipeline.heads._run import Report

INCHES, DOTS_PER_INCH = 5.0, 120
MOST_NAMED_CLASSES = 40  # more do not fit beside a picture


def write_report(folder: Path, data: Examples, report: Report) -> list[Path]:
    """Write curves, confusion and predictions of a training; return the files.

    Pictures (``curves.png``, ``confusion.png``) need matplotlib and are left out without it.
    """
    files = [_curves(folder, report), _predictions(folder, data, report)]
    if not data.task.multi_label:
        files.append(_confusion(folder, data, report))
    if find_spec("matplotlib"):
        files.append(_draw_curves(folder / "curves.png", data, report))
        if not data.task.multi_label:
            table = confusion_of(data, report)
            files.append(draw_confusion(folder / "confusion.png", table, data.task.classes))
    return files


def confusion_of(data: Examples, report: Report) -> NDArray[np.int64]:
    """Return counts of the tested segments, rows true classes, columns predicted, (C, C)."""
    true = data.targets.numpy()[report.tested]
    return confusion(report.probabilities, true, len(data.task.classes))


def _rows(path: Path, rows: Sequence[Sequence[Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def _curves(folder: Path, report: Report) -> Path:
    rows: list[Sequence[Any]] = [
        ("fold", "network", "unit", "at", "train_loss", "validation_loss", "validation_score",
         "chosen")
    ]  # fmt: skip
    for fold, histories in zip(report.folds, report.curves, strict=True):
        for number, history in enumerate(histories):
            for point in history.points:
                chosen = int(point.at == history.chosen)
                rows.append((fold.name, number, history.unit, *point, chosen))
    return _rows(folder / "curves.csv", rows)


def _predictions(folder: Path, data: Examples, report: Report) -> Path:
    classes = data.task.classes
    fold_of = {k: fold.name for fold in report.folds for k in fold.test}
    head = ("key", "label", "fold", "predicted", *(f"p({name})" for name in classes))
    rows: list[Sequence[Any]] = [head]
    for k, probabilities in zip(report.tested.tolist(), report.probabilities, strict=True):
        label = "|".join(classes[c] for c in data.labels[k])
        best = classes[int(probabilities.argmax())]
        rows.append((data.keys[k], label, fold_of[k], best, *(f"{p:.6f}" for p in probabilities)))
    return _rows(folder / "predictions.csv", rows)


def _confusion(folder: Path, data: Examples, report: Report) -> Path:
    table = confusion_of(data, report)
    rows = [("true \\ predicted", *data.task.classes)]
    rows += [(n, *r) for n, r in zip(data.task.classes, table.tolist(), strict=True)]
    return _rows(folder / "confusion.csv", rows)


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((width, height), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _draw_curves(path: Path, data: Examples, report: Report) -> Path:
    """One panel for the losses, one for the score; a line per fold and network."""
    figure = _figure(2 * INCHES, INCHES)
    losses, scores = figure.subplots(1, 2)
    for histories in report.curves:
        for number, history in enumerate(histories):
            at = [point.at for point in history.points]
            colour = f"C{number}"
            losses.plot(at, [p.train_loss for p in history.points], colour, ls=":", alpha=0.6)
            losses.plot(at, [p.validation_loss for p in history.points], colour, alpha=0.6)
            scores.plot(at, [p.validation_score for p in history.points], colour, alpha=0.6)
            scores.axvline(history.chosen, color=colour, alpha=0.2)
    if len(report.curves[0]) == len(data.streams):
        for number, stream in enumerate(data.streams):
            scores.plot([], [], f"C{number}", label=stream)
        scores.legend(loc="lower right", fontsize="small")
    unit = report.curves[0][0].unit
    for panel in (losses, scores):
        panel.set_xlabel(unit)
        if unit == "l2":
            panel.set_xscale("log")
    losses.set_ylabel("cross-entropy (dotted: training, line: validation)")
    scores.set_ylabel("validation score")
    scores.set_ylim(0, 1.02)
    figure.savefig(path)
    return path


def draw_confusion(path: Path, table: NDArray[np.int64], classes: Sequence[str]) -> Path:
    """Draw a confusion matrix, each row as shares of its class."""
    side = min(2 * INCHES, INCHES + 0.25 * min(len(classes), MOST_NAMED_CLASSES))
    figure = _figure(side, side)
    panel = figure.subplots()
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    panel.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    panel.set_xlabel("predicted")
    panel.set_ylabel("true")
    if len(classes) <= MOST_NAMED_CLASSES:
        panel.set_xticks(range(len(classes)), classes, rotation=90)
        panel.set_yticks(range(len(classes)), classes)
        for row, column in np.argwhere(table):
            dark = shares[row, column] > 0.5
            panel.text(column, row, table[row, column], ha="center", va="center",
                       color="white" if dark else "black")  # fmt: skip
    figure.savefig(path)
    return path
