"""The files of a run: ``runs/<id>/``, ``failures.csv`` and ``coverage.json``."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from manifests._segment import MILLISECONDS_PER_SECOND, Segment
from pipeline.errors import FAILURES
from pipeline.job import Job
from pipeline.plan import Absent
from pipeline.report.summary import Summary
from pipeline.store import Committed, FailureRow

FORMULA_BEGINNINGS = tuple("=+-@\t\r")
ABSENT_COLUMNS = ("video", "start", "end", "label", "split", "group", "code", "detail")
FAILURE_COLUMNS = (*ABSENT_COLUMNS, "attempts", "will_be_retried", "recipe")


def write_run(summary: Summary, manifest: Mapping[str, Any]) -> Path:
    """Write ``OUT/runs/<id>/``: the summary, and the segments without a video.

    Parameters
    ----------
    summary : Summary
        The end of the run.
    manifest : Mapping
        ``path``, ``sha256``, ``dataset`` and number of ``rejects`` of the list, and the
        ``command`` line.
    """
    folder = summary.job.out / "runs" / summary.job.run
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "summary.json", {**summary.to_json(), "manifest": manifest})
    _write_csv(folder / "absent.csv", ABSENT_COLUMNS, map(_absent_row, summary.plan.absent))
    return folder


def write_state(
    segments: Sequence[Segment], job: Job, committed: Sequence[Committed]
) -> dict[str, Any]:
    """Write ``OUT/failures.csv`` and ``OUT/coverage.json`` from what is committed.

    Returns
    -------
    dict
        What ``coverage.json`` holds: for each recipe, by split and by class, how many segments
        there are, are done and failed, and the keys that are done.
    """
    folders = [target.recipe.folder for target in job.targets]
    rows = (
        _failure_row(row, folder)
        for folder, known in zip(folders, committed, strict=True)
        for row in known.failures.values()
    )
    _write_csv(job.out / "failures.csv", FAILURE_COLUMNS, rows)
    coverage = {
        folder: _coverage(segments, known) for folder, known in zip(folders, committed, strict=True)
    }
    write_json(job.out / "coverage.json", coverage)
    return coverage


def _coverage(segments: Iterable[Segment], known: Committed) -> dict[str, Any]:
    by: dict[str, dict[str, Counter[str]]] = {"split": {}, "class": {}}
    done: list[str] = []
    number = 0
    for number, segment in enumerate(segments, start=1):  # noqa: B007
        key = segment.key
        state = "absent"
        if key in known.done:
            state = "done"
            done.append(key)
        elif key in known.failures:
            state = known.failures[key].code
        by["split"].setdefault(segment.split, Counter())[state] += 1
        for label in segment.labels:
            by["class"].setdefault(label, Counter())[state] += 1
    return {"segments": number, "done": len(done), **by, "done_keys": done}


def _absent_row(absent: Absent) -> tuple[Any, ...]:
    segment = absent.segment
    end = "" if segment.end_ms is None else segment.end_ms / MILLISECONDS_PER_SECOND
    start = segment.start_ms / MILLISECONDS_PER_SECOND
    label = "|".join(segment.labels)
    said = (segment.video, start, end, label, segment.split, segment.group)
    return (*said, absent.code, _harmless(absent.detail))


def _failure_row(row: FailureRow, recipe: str) -> tuple[Any, ...]:
    limit = FAILURES[row.code].max_attempts if row.code in FAILURES else 1
    end = "" if row.end_seconds != row.end_seconds else row.end_seconds
    said = (row.video, row.start_seconds, end, row.label, row.split, row.group)
    detail = _harmless(row.detail)
    return (*said, row.code, detail, row.attempts, row.attempts < limit, recipe)


def _harmless(text: str) -> str:
    """Keep spreadsheets from taking a stranger's text for a formula."""
    return f"'{text}" if text.startswith(FORMULA_BEGINNINGS) else text


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with written(path) as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all."""
    with written(path) as file:
        json.dump(value, file, indent=1, sort_keys=True, ensure_ascii=False)
        file.write("\n")


@contextmanager
def written(path: Path) -> Iterator[TextIO]:
    """Give a file that takes its name when the block ends well, and is gone when it does not."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
