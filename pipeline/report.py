"""What people see: one progress line, a summary at the end, and the run's files.

``OUT/failures.csv`` (a manifest to run again), ``OUT/coverage.json`` and ``OUT/runs/<id>/`` are
derived: every number in them can be made again from the committed shards and the manifest.
"""

from __future__ import annotations

import csv
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from manifests import Segment
from pipeline.errors import FAILURES, SegmentFailure
from pipeline.job import Failed, Job, Receipt
from pipeline.monitor import Event
from pipeline.plan import Plan
from pipeline.provenance import versions
from pipeline.store import Committed, FailureRow
from pipeline.store.flow_cache import bytes_per_hour

SECONDS_BETWEEN_LOG_LINES = 30.0
SHOWN_FAILURES = 5
MILLISECONDS_PER_SECOND = 1000
FORMULA_BEGINNINGS = tuple("=+-@\t\r")
ABSENT_COLUMNS = ("video", "start", "end", "label", "split", "group", "code", "detail")
FAILURE_COLUMNS = (*ABSENT_COLUMNS, "attempts", "will_be_retried", "recipe")


class Progress:
    """One line that moves on a terminal, one line now and then in a log file.

    Parameters
    ----------
    total : int
        Segments to do.
    stream : text file
        Where to write; standard error by default.
    """

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._total = total
        self.done = self.left = self.rows = self.bytes = self.frames = 0
        self.failures: list[Failed] = []
        self.seconds: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.shards: list[str] = []
        self._finished = self._failed = 0
        self._began = self._last_line = time.monotonic()
        self._bar: Any = None
        if total and self._stream.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, unit="segment", file=self._stream, dynamic_ncols=True)

    def event(self, event: Event) -> None:
        """Count frames and finished segments, and show them."""
        self.frames += event.frames
        if event.kind in ("done", "failed"):
            self._count(event.kind == "failed")
        self._show()

    def _count(self, failed: bool) -> None:
        self._finished += 1
        self._failed += failed
        if self._bar is not None:
            self._bar.update(1)

    def receipt(self, receipt: Receipt) -> None:
        """Add up what was committed."""
        self.done += len(receipt.done)
        self.left += len(receipt.left)
        self.rows += receipt.rows
        self.bytes += receipt.bytes
        self.shards += receipt.shards
        self.failures += receipt.failed
        for activity, seconds in receipt.seconds.items():
            self.seconds[activity] += seconds  # type: ignore[assignment]
        self.counts.update(receipt.counts)

    def failed(self, failed: Failed) -> None:
        """Add a failure that the driver recorded."""
        self.failures.append(failed)
        self._count(failed=True)

    def say(self, text: str) -> None:
        """Write one line without breaking the moving one."""
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """End the moving line."""
        if self._bar is not None:
            self._bar.close()

    @property
    def elapsed_seconds(self) -> float:
        """Seconds since the first batch was submitted."""
        return time.monotonic() - self._began

    def _show(self) -> None:
        rate = self.frames / max(self.elapsed_seconds, 1e-9)
        if self._bar is not None:
            self._bar.set_postfix_str(f"{self._failed} failed, {rate:.3g} frames/s", refresh=False)
            return
        now = time.monotonic()
        if now - self._last_line < SECONDS_BETWEEN_LOG_LINES:
            return
        self._last_line = now
        left = self.elapsed_seconds / max(self._finished, 1) * (self._total - self._finished)
        self.say(
            f"{time.strftime('%H:%M:%S')} {self._finished}/{self._total} segments, "
            f"{self._failed} failed, {rate:.3g} frames/s, about {duration(left)} left"
        )


def duration(seconds: float) -> str:
    """Return a length of time for people.

    Examples
    --------
    >>> duration(8.2), duration(95), duration(7300)
    ('8 s', '1 min 35 s', '2 h 1 min')
    """
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(number: float) -> str:
    """Return a number of bytes for people.

    Examples
    --------
    >>> size(900), size(2_560_000)
    ('900 B', '2.6 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def plan_text(plan: Plan, job: Job) -> str:
    """Return what the plan found, one line for each extractor."""
    lines = [f"{plan.segments} segments: {plan.present} with a video, {len(plan.absent)} without"]
    for target, counts in zip(job.targets, plan.counts, strict=True):
        parts = [f"{counts.done} done", f"{counts.todo} to do"]
        notes = {
            "failed before and given up (--retry-failed tries again)": counts.given_up,
            "tried again": counts.retried,
            "with a replaced video": counts.replaced,
        }
        parts += [f"{number} {note}" for note, number in notes.items() if number]
        lines.append(f"  {target.recipe.folder}: {', '.join(parts)}")
    return "\n".join(lines)


def dry_run_text(plan: Plan, job: Job) -> str:
    """Return the plan with the rows and bytes it will cost."""
    lines = [plan_text(plan, job)]
    for target, counts in zip(job.targets, plan.counts, strict=True):
        unknown = f", and {counts.open_ended} of unknown length" if counts.open_ended else ""
        lines.append(f"  {target.spec.name}: {counts.expected_rows} rows expected{unknown}")
    expected = plan.expected_bytes(job.targets, job.settings.store_dtype)
    lines.append(f"  {size(expected)} expected")
    return "\n".join(lines)


@dataclass(slots=True)
class Summary:
    """The end of a run: what was done, and what was not.

    Attributes
    ----------
    plan : Plan
        What was to do.
    progress : Progress
        What came back.
    job : Job
        The run.
    interrupted : bool
        Whether a stop was asked for.
    """

    plan: Plan
    progress: Progress
    job: Job
    interrupted: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def left(self) -> int:
        """Segments to do that have neither vectors nor a failure."""
        accounted = self.progress.done + len(self.progress.failures)
        return max(0, len(self.plan.items) - accounted)

    def text(self) -> str:
        """Return the summary for people."""
        progress = self.progress
        codes = Counter(failed.code for failed in progress.failures)
        lines = [
            f"{progress.done} segments done, {len(progress.failures)} failed, {self.left} left, "
            f"{len(self.plan.absent)} without a video; {progress.rows} rows, "
            f"{size(progress.bytes)} in {duration(progress.elapsed_seconds)}"
        ]
        busy = sum(progress.seconds.values())
        if busy:
            shares = [f"{name} {s / busy:.0%}" for name, s in progress.seconds.most_common()]
            lines.append(f"  worker time: {', '.join(shares)}")
        if progress.counts["flow_bytes"]:
            lines.append(f"  {self._flow_text()}")
        lines += [f"  {number} x {code}" for code, number in codes.most_common()]
        for failed in progress.failures[:SHOWN_FAILURES]:
            lines.append(f"  {failed.key}: {failed.detail}")
        if len(progress.failures) > SHOWN_FAILURES:
            lines.append(f"  ... all of them in {self.job.out / 'failures.csv'}")
        return "\n".join([*lines, *self.notes])

    def _flow_text(self) -> str:
        counts = self.progress.counts
        flows = counts["flows"] - counts["cached_flows"]
        rates = {t.spec.sampling.fps for t in self.job.targets if t.spec.modality == "flow"}
        text = f"{flows} flows kept in {size(counts['flow_bytes'])}"
        if len(rates) == 1 and None not in rates:
            fps = float(rates.pop() or 0)
            hour = bytes_per_hour(counts["flow_bytes"], flows, fps)
            text += f", {size(hour)} an hour of video at {fps:g} fps"
        return text

    def to_json(self) -> dict[str, Any]:
        """Return the summary as plain JSON values."""
        progress = self.progress
        return {
            "run": self.job.run,
            "segments": self.plan.segments,
            "to_do": len(self.plan.items),
            "done": progress.done,
            "failed": dict(Counter(failed.code for failed in progress.failures)),
            "left": self.left,
            "without_video": len(self.plan.absent),
            "interrupted": self.interrupted,
            "rows": progress.rows,
            "bytes": progress.bytes,
            "shards": progress.shards,
            "elapsed_seconds": round(progress.elapsed_seconds, 3),
            "worker_seconds": {name: round(s, 3) for name, s in progress.seconds.items()},
            "counts": dict(progress.counts),
            "recipes": [target.recipe.folder for target in self.job.targets],
            "versions": versions(),
        }


def write_run(summary: Summary, manifest: dict[str, str]) -> Path:
    """Write ``OUT/runs/<id>/``: the summary, and the segments without a video.

    Parameters
    ----------
    summary : Summary
        The end of the run.
    manifest : dict
        Path and sha256 of the manifest, and the command line.
    """
    folder = summary.job.out / "runs" / summary.job.run
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "summary.json", {**summary.to_json(), "manifest": manifest})
    rows = (_absent_row(segment, failure) for segment, failure in summary.plan.absent)
    _write_csv(folder / "absent.csv", ABSENT_COLUMNS, rows)
    return folder


def write_state(
    segments: Iterable[Segment], job: Job, committed: Sequence[Committed]
) -> dict[str, Any]:
    """Write ``OUT/failures.csv`` and ``OUT/coverage.json`` from what is committed.

    Returns
    -------
    dict
        What ``coverage.json`` holds: for each recipe, by split and by class, how many segments
        there are, are done and failed, and the keys that are done.
    """
    rows: list[tuple[Any, ...]] = []
    coverage: dict[str, Any] = {}
    listed = list(segments)
    for target, known in zip(job.targets, committed, strict=True):
        rows += [_failure_row(row, target.recipe.folder) for row in known.failures.values()]
        coverage[target.recipe.folder] = _coverage(listed, known)
    _write_csv(job.out / "failures.csv", FAILURE_COLUMNS, rows)
    write_json(job.out / "coverage.json", coverage)
    return coverage


def _coverage(segments: Sequence[Segment], known: Committed) -> dict[str, Any]:
    by: dict[str, dict[str, Counter[str]]] = {"split": {}, "class": {}}
    for segment in segments:
        state = "absent"
        if segment.key in known.done:
            state = "done"
        elif segment.key in known.failures:
            state = known.failures[segment.key].code
        by["split"].setdefault(segment.split, Counter())[state] += 1
        for label in segment.labels:
            by["class"].setdefault(label, Counter())[state] += 1
    done = [segment.key for segment in segments if segment.key in known.done]
    return {"segments": len(segments), "done": len(done), **by, "done_keys": done}


def _absent_row(segment: Segment, failure: SegmentFailure) -> tuple[Any, ...]:
    end = "" if segment.end_ms is None else segment.end_ms / MILLISECONDS_PER_SECOND
    start = segment.start_ms / MILLISECONDS_PER_SECOND
    label = "|".join(segment.labels)
    said = (segment.video, start, end, label, segment.split, segment.group)
    return (*said, failure.code, _harmless(failure.detail))


def _failure_row(row: FailureRow, recipe: str) -> tuple[Any, ...]:
    limit = FAILURES[row.code].max_attempts if row.code in FAILURES else 1
    end = "" if row.end_seconds != row.end_seconds else row.end_seconds
    said = (row.video, row.start_seconds, end, row.label, row.split, row.group)
    detail = _harmless(row.detail)
    return (*said, row.code, detail, row.attempts, row.attempts < limit, recipe)


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
    temporary.replace(path)


def _harmless(text: str) -> str:
    """Keep spreadsheets from taking a stranger's text for a formula."""
    return f"'{text}" if text[:1] in FORMULA_BEGINNINGS else text


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    temporary.replace(path)
