"""The driver of ``pipeline fetch``: bring the videos of a list into a folder, and account for all.

Sources are taken in the order given; what one will not give is asked of the next. Archives are read
part by part, all others video by video, on an executor (threads here, or a Dask cluster through its
executor interface) that never holds more than a window of tasks. The truth is the folder: a segment
is done when the local source finds its file there. A journal beside it remembers failures and their
number, so a further run asks only for what may yet come; ``failures.csv`` (itself a manifest),
``coverage.json`` and ``committed.txt`` are derived from both.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from manifests import Segment
from pipeline.errors import (
    FAILURES,
    Ambiguous,
    BotCheck,
    CutShort,
    DecodeError,
    NotInMirror,
    NoVideoStream,
    RateLimited,
    SegmentFailure,
    TooShort,
    Truncated,
    Unsupported,
    VideoMissing,
)
from pipeline.fetch_work import FetchJob, Outcome, Wanted, fetch_part, fetch_video, write_wanted
from pipeline.plan import shared_videos
from pipeline.sources import ASK_THE_NEXT, Sequential, open_source, writing
from pipeline.sources.local import LocalSource
from pipeline.store import publish

JOURNAL = "journal.jsonl"
TASKS_AHEAD = 4

UNUSABLE = (DecodeError, NoVideoStream, TooShort, Truncated, Unsupported, Ambiguous)
"""The file of this source cannot be used; another source's may."""

HANDED_BACK = (RateLimited, BotCheck)
"""No fault of the video: neither counted nor given up, but work left."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the journal says of a segment: its last failure, and how many there were."""

    code: str
    detail: str
    attempts: int

    @property
    def will_be_retried(self) -> bool:
        """Whether a further run asks for it again."""
        kind = FAILURES.get(self.code)
        return kind is not None and self.attempts < kind.max_attempts


@dataclass(slots=True)
class FetchPlan:
    """What a run has to do.

    Attributes
    ----------
    done : set of str
        Keys of the segments whose file is there.
    todo : list of Segment
        To be asked for.
    given_up : list of Segment
        Failed for good, or often enough, before.
    shared : frozenset of str
        Videos of which the list has several segments.
    """

    done: set[str] = field(default_factory=set)
    todo: list[Segment] = field(default_factory=list)
    given_up: list[Segment] = field(default_factory=list)
    shared: frozenset[str] = frozenset()


class Journal:
    """Failures of all runs, one line each, appended as they come.

    Parameters
    ----------
    path : Path
        A line that a crash cut off is passed over.
    """

    def __init__(self, path: Path) -> None:
        publish.make_folder(path.parent)
        self._path = path
        self.known: dict[str, Known] = known_failures(path)
        try:
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise publish.not_writable(path.parent, error) from error
        self._file.write("\n")  # ends a line that was cut off

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def note(self, outcome: Outcome) -> None:
        """Remember a failure, or forget one that is mended."""
        before = self.known.get(outcome.key)
        if not outcome.code:
            if self.known.pop(outcome.key, None) is None:
                return
        else:
            counted = FAILURES[outcome.code] not in HANDED_BACK
            attempts = (before.attempts if before else 0) + counted
            self.known[outcome.key] = Known(outcome.code, outcome.detail, attempts)
        known = self.known.get(outcome.key, Known("", "", 0))
        line = [outcome.key, known.code, known.detail, known.attempts]
        with writing(self._path):
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()


def known_failures(path: Path) -> dict[str, Known]:
    """Read a journal: the segments that failed last time; none where there is no journal."""
    latest: dict[str, Known] = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                key, code, detail, attempts = json.loads(line)
            except (ValueError, TypeError):
                continue
            if code:
                latest[key] = Known(code, detail, attempts)
            else:
                latest.pop(key, None)
    return latest


def make_plan(
    segments: Collection[Segment], job: FetchJob, known: Mapping[str, Known], *, retry_failed: bool
) -> FetchPlan:
    """Compare the list with the folder and the journal."""
    here = LocalSource(job.into) if job.into.is_dir() else None
    plan = FetchPlan(shared=shared_videos(segments))
    for segment in segments:
        failure = known.get(segment.key)
        if here is not None and _is_here(here, segment, job.trim, failure):
            plan.done.add(segment.key)
        elif failure is None or failure.will_be_retried or retry_failed:
            plan.todo.append(segment)
        else:
            plan.given_up.append(segment)
    return plan


def _is_here(here: LocalSource, segment: Segment, trim: bool, failure: Known | None) -> bool:
    """Whether the folder has what was asked for; a full video may lack a segment of its own."""
    try:
        located = here.locate(segment)
    except VideoMissing:
        return False
    except Ambiguous:
        return True  # it is here, even twice; extract says how to choose
    if located.trimmed:
        return True
    return failure is None and not (trim and segment.end_ms is not None)


def fetch(
    plan: FetchPlan,
    job: FetchJob,
    sources: Sequence[str],
    executor: Executor,
    on_outcome: Callable[[Outcome], None],
    *,
    width: int,
) -> None:
    """Bring what the plan asks for.

    Parameters
    ----------
    sources : sequence of str
        ``--videos`` values, asked in this order.
    executor : Executor
        Runs `width` tasks at a time.
    on_outcome : callable
        Told what became of each segment, once for each.

    Raises
    ------
    StoreError, UsageError
        When the run cannot go on, of a full disk for one; what was brought is kept.
    """
    waiting = [Wanted(segment, segment.video in plan.shared) for segment in plan.todo]
    for number, text in enumerate(sources):
        last = number == len(sources) - 1
        refused: list[Wanted] = []
        by_key = {one.segment.key: one for one in waiting}
        for outcome in _from_one(job, text, waiting, executor, width):
            kind = FAILURES.get(outcome.code)
            if kind is not None and not last and issubclass(kind, (*ASK_THE_NEXT, *UNUSABLE)):
                refused.append(by_key[outcome.key])
            else:
                on_outcome(outcome)
        waiting = refused


def _from_one(
    job: FetchJob, text: str, wanted: Sequence[Wanted], executor: Executor, width: int
) -> Iterator[Outcome]:
    """Yield one outcome for each segment, from one source."""
    source = open_source(text, job.options)
    if not isinstance(source, Sequential):
        ordered = sorted(wanted, key=_video)
        videos = (tuple(group) for _, group in groupby(ordered, _video))
        tasks = ((fetch_video, job, text, video) for video in videos)
        for outcomes in _run(executor, tasks, width):
            yield from outcomes
        return
    missing = {one.segment.key: one for one in wanted}
    damages: list[str] = []
    for group in source.parts():  # what an earlier group holds is not asked of a later one
        listed = job.workplace / f"wanted-{uuid.uuid4().hex}.json"
        write_wanted(listed, missing.values())
        parts = ((fetch_part, job, text, part, listed) for part in group)
        try:
            for outcomes, damage in _run(executor, parts, width):
                damages += [damage] if damage else []
                for outcome in outcomes:
                    if missing.pop(outcome.key, None) is not None:
                        yield outcome
        finally:
            listed.unlink(missing_ok=True)
    for key in missing:
        kind: type[SegmentFailure] = CutShort if damages else NotInMirror
        why = f"; {damages[0]}" if damages else ""
        yield Outcome(key, kind.code, f"in none of the archives of {text}{why}")


def _video(wanted: Wanted) -> str:
    return wanted.segment.video


def _run(executor: Executor, tasks: Iterator[tuple[Any, ...]], width: int) -> Iterator[Any]:
    """Run tasks with a window of them in hand, and yield each result as it comes."""
    running: set[Future[Any]] = set()
    try:
        while True:
            for task in islice(tasks, max(0, width * TASKS_AHEAD - len(running))):
                running.add(executor.submit(*task))
            if not running:
                return
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()
    finally:
        for future in running:
            future.cancel()
