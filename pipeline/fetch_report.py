"""What a run of ``pipeline fetch`` leaves to read: three files and a few lines.

``failures.csv`` (a manifest: give it to ``--manifest`` to ask for just those again),
``coverage.json`` (counts by code, split and class) and ``committed.txt`` (the exact list of
what is there, a part of the dataset's version: every year's Kinetics is another one).
"""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from manifests import Manifest
from pipeline.fetch import HANDED_BACK, FetchPlan, Known
from pipeline.report import FAILURE_COLUMNS, size, write_json
from pipeline.sources import writing

FORMULA_BEGINNINGS = ("=", "+", "-", "@", "\t", "\r")
MILLISECONDS_PER_SECOND = 1000
SHOWN_SPLITS = 6
LEFT = "left"
DONE = "done"


def coverage(
    manifest: Manifest, done: Collection[str], known: Mapping[str, Known]
) -> dict[str, Any]:
    """Return what ``coverage.json`` holds: counts by code, split and class, and what is there.

    Each count is of segments by state: ``done``, the code of a failure, or ``left``;
    ``tried_again`` counts the failures that the same command asks for again, and ``reasons`` says
    of each code what the first of its failures says.
    """
    total: Counter[str] = Counter()
    again: Counter[str] = Counter()
    reasons: dict[str, str] = {}
    by: dict[str, dict[str, Counter[str]]] = {"split": {}, "class": {}}
    for segment in manifest:
        state = DONE if segment.key in done else LEFT
        if state == LEFT and segment.key in known:
            state = known[segment.key].code
            again[state] += known[segment.key].will_be_retried
            reasons.setdefault(state, known[segment.key].detail)
        total[state] += 1
        by["split"].setdefault(segment.split, Counter())[state] += 1
        for label in segment.labels:
            by["class"].setdefault(label, Counter())[state] += 1
    return {
        "manifest": str(manifest.path),
        "manifest_sha256": manifest.sha256,
        "segments": len(manifest),
        "done": len(done),
        "state": total,
        "tried_again": again,
        "reasons": reasons,
        **by,
        "done_keys": [segment.key for segment in manifest if segment.key in done],
    }


def write_files(
    into: Path, manifest: Manifest, done: Collection[str], known: Mapping[str, Known]
) -> dict[str, Any]:
    """Write the three files and return what ``coverage.json`` holds.

    Raises
    ------
    DiskFull
        When there is no room; the files before them stay.
    """
    found = coverage(manifest, done, known)
    failures = io.StringIO(newline="")
    writer = csv.writer(failures)
    writer.writerow(FAILURE_COLUMNS)
    writer.writerows(_failure_rows(manifest, done, known))
    with writing(into / "coverage.json"):
        write_json(into / "coverage.json", found)
        _replace(into / "committed.txt", "".join(f"{key}\n" for key in found["done_keys"]))
        _replace(into / "failures.csv", failures.getvalue())
    return found


def _failure_rows(
    manifest: Manifest, done: Collection[str], known: Mapping[str, Known]
) -> Iterator[tuple[Any, ...]]:
    for segment in manifest:
        failure = known.get(segment.key)
        if failure is None or segment.key in done:
            continue
        end = "" if segment.end_ms is None else segment.end_ms / MILLISECONDS_PER_SECOND
        yield (
            segment.video,
            segment.start_ms / MILLISECONDS_PER_SECOND,
            end,
            "|".join(segment.labels),
            segment.split,
            segment.group,
            failure.code,
            _harmless(failure.detail),
            failure.attempts,
            failure.will_be_retried,
            "fetch",
        )


def summary(found: Mapping[str, Any], written_bytes: int) -> str:
    """Return the end of a run for people: counts by code, with what will be asked for again."""
    lines = [
        f"{found['done']} of {found['segments']} segments are there, {size(written_bytes)} "
        "written by this run"
    ]
    splits: Mapping[str, Mapping[str, int]] = found["split"]
    for code, number in Counter(found["state"]).most_common():
        if code == DONE:
            continue
        parts = [
            f"{split or 'no split'} {states[code]}"
            for split, states in list(splits.items())[:SHOWN_SPLITS]
            if states.get(code)
        ]
        again = found["tried_again"].get(code, 0)
        fate = "not asked for yet" if code == LEFT else f"{again} will be tried again"
        lines.append(f"  {number} x {code} ({', '.join(parts)}): {fate}")
        if code in found["reasons"]:
            lines.append(f"    first: {found['reasons'][code]}")
    return "\n".join(lines)


def plan_text(plan: FetchPlan) -> str:
    """Return the plan in one line."""
    return (
        f"{len(plan.done)} segments are there, {len(plan.todo)} to fetch, "
        f"{len(plan.given_up)} given up before (--retry-failed asks again)"
    )


def work_is_left(found: Mapping[str, Any]) -> bool:
    """Whether segments were handed back or never asked for: the same command goes on."""
    codes = {LEFT, *(kind.code for kind in HANDED_BACK)}
    return any(found["state"].get(code) for code in codes)


def _harmless(text: str) -> str:
    """Keep spreadsheets from taking a stranger's text for a formula."""
    return f"'{text}" if text.startswith(FORMULA_BEGINNINGS) else text


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8", newline="")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
