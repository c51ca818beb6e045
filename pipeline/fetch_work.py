"""What one task of ``pipeline fetch`` does: locate, check, cut if asked, and give the final name.

A task is one video with its segments, or one archive part with all that is wanted of it. It runs in
a thread or on a Dask worker, twice if need be: a file appears under its final name by one rename,
whole and checked, so the second time changes nothing.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

from manifests import Segment
from pipeline import decode
from pipeline.errors import Ambiguous, SegmentFailure, TooShort, Truncated
from pipeline.sampling import Grid
from pipeline.sources import (
    Located,
    Sequential,
    Source,
    SourceOptions,
    check_is_one,
    open_source,
    release,
    safe_name,
    trimmed_name,
    without_extension,
    writing,
)
from pipeline.store import publish
from pipeline.trim import trim

WORKPLACE = ".fetch"
"""Hidden folder below the target: scratch space, unfinished downloads, the journal."""

MILLISECONDS = 1000
CHECK_FPS = Fraction(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchJob:
    """The settings of one run of ``pipeline fetch``; travels with every task.

    Attributes
    ----------
    into : Path
        Folder that receives the videos; workers must see it under this path.
    options : SourceOptions
        With `scratch` and `parts` inside `workplace`, so that renaming never crosses disks.
    trim : bool
        Cut full videos to their segments, encoding anew.
    min_coverage : float
        Share of a segment that must decode; 0 trusts the header.
    """

    into: Path
    options: SourceOptions
    trim: bool = False
    min_coverage: float = 0.9

    @property
    def workplace(self) -> Path:
        """Where unfinished things stand, on the disk of the target."""
        return self.into / WORKPLACE


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one segment.

    Attributes
    ----------
    key : str
        The segment's.
    code, detail : str
        Of the failure; both empty when the video is there.
    size : int
        Bytes that were written for it; a full video counts for the first of its segments.
    """

    key: str
    code: str = ""
    detail: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """A segment that is asked for.

    Attributes
    ----------
    segment : Segment
        Which.
    shared : bool
        Whether the list has other segments of its video, asked for or not.
    """

    segment: Segment
    shared: bool = False


def fetch_video(job: FetchJob, text: str, wanted: Sequence[Wanted]) -> list[Outcome]:
    """Bring one video, or each of its segments, from one source.

    Parameters
    ----------
    text : str
        The ``--videos`` value.
    wanted : sequence of Wanted
        All of one video.

    Returns
    -------
    list of Outcome
        One for each segment.
    """
    source = _source(text, job.options)
    outcomes: list[Outcome] = []
    waiting = list(wanted)
    while waiting:
        first = waiting[0]
        try:
            located = source.locate(first.segment)
        except SegmentFailure as failure:
            outcomes.append(_failed(first.segment, failure))
            waiting = waiting[1:]
            continue
        served = 1 if located.trimmed else len(waiting)
        outcomes += received(job, located, waiting[:served])
        waiting = waiting[served:]
    return outcomes


def write_wanted(path: Path, wanted: Iterable[Wanted]) -> None:
    """Write what is wanted of all parts once, so that no task has to carry it.

    Parameters
    ----------
    path : Path
        A name never used before: workers keep what they have read under it.
    """
    segments = ((one.segment, one.shared) for one in wanted)
    rows = [[s.video, s.start_ms, s.end_ms, shared] for s, shared in segments]
    path.write_text(json.dumps(rows), encoding="utf-8")


@lru_cache(maxsize=2)
def _wanted(path: Path) -> tuple[dict[str, tuple[Wanted, ...]], dict[str, bool]]:
    """Return what is wanted by member name, and whether each name is a segment's own."""
    wanted: dict[str, tuple[Wanted, ...]] = {}
    own: dict[str, bool] = {}
    for video, start_ms, end_ms, shared in json.loads(path.read_text(encoding="utf-8")):
        segment = Segment(video=video, start_ms=start_ms, end_ms=end_ms)
        for name, is_own in ((trimmed_name(segment), True), (video, False)):
            if name:
                last = without_extension(name).rpartition("/")[2]
                wanted[last] = (*wanted.get(last, ()), Wanted(segment, shared))
                own[last] = is_own
    return wanted, own


def fetch_part(job: FetchJob, text: str, part: str, listed: Path) -> tuple[list[Outcome], str]:
    """Read one archive part once and keep what is wanted of it.

    Parameters
    ----------
    text, part : str
        The ``--videos`` value, and the archive.
    listed : Path
        What `write_wanted` wrote.

    Returns
    -------
    outcomes : list of Outcome
        Of the segments that were in it.
    damage : str
        Why it could not be read to its end; empty when it could.
    """
    source = _source(text, job.options)
    assert isinstance(source, Sequential), f"{text} has parts"
    wanted, own = _wanted(listed)
    outcomes: list[Outcome] = []
    try:
        for name, located in source.members(part, own):
            outcomes += received(job, located, wanted[name])
    except SegmentFailure as failure:
        return outcomes, failure.detail
    return outcomes, ""


def received(job: FetchJob, located: Located, wanted: Sequence[Wanted]) -> list[Outcome]:
    """Check a file, cut it if asked, put it in its place, and give scratch space back."""
    outcomes: list[Outcome] = []
    videos = sorted({one.segment.video for one in wanted})
    try:
        for segment, shared in ((one.segment, one.shared) for one in wanted):
            try:
                safe_name(segment.video)
                if len(videos) > 1:
                    raise Ambiguous(
                        f"a member of an archive answers to {' and '.join(videos[:2])}: it is "
                        "known by the last part of its name; unpack the archive, give its folder"
                    )
                if shared:
                    check_is_one(located, segment)
                _check(job, located, segment)
                size = 0
                if job.trim and not located.trimmed and segment.end_ms is not None:
                    size = _cut(job, located, segment)
                outcomes.append(Outcome(segment.key, size=size))
            except SegmentFailure as failure:
                outcomes.append(_failed(segment, failure))
        for number, segment in enumerate(one.segment for one in wanted):
            kept = located.trimmed or not job.trim or segment.end_ms is None
            if kept and not outcomes[number].code:
                _place(job, located, segment)
                outcomes[number] = replace(outcomes[number], size=located.size)
                break
    finally:
        if located.scratch:
            release(located.path)
    return outcomes


def _check(job: FetchJob, located: Located, segment: Segment) -> None:
    """Decode what the segment needs, thinly, the way ``extract`` will.

    Raises
    ------
    SegmentFailure
        When the file is no video, breaks off, or ends before the segment.
    """
    info = decode.probe(located.path)
    start, end = Fraction(0), None
    if not located.trimmed:
        start, end = _stretch(segment)
        length = info.duration_seconds
        if length is not None and start >= length:
            raise TooShort(
                f"the video is {float(length):.1f} s long and the segment begins at "
                f"{float(start):g} s; if it holds the segment alone, say --videos trimmed:…"
            )
    if job.min_coverage > 0:
        stream = decode.frames(
            located.path, [decode.Request(Grid(start, end, CHECK_FPS), ())], info=info
        )
        for _ in stream:
            pass
        covered = min(stream.coverage)
        if covered < job.min_coverage:
            reason = f" ({stream.damage.detail})" if stream.damage else ""
            raise Truncated(
                f"{covered:.0%} of the segment could be decoded{reason}, --min-coverage asks for "
                f"{job.min_coverage:.0%}; another source may have it whole"
            )


def _stretch(segment: Segment) -> tuple[Fraction, Fraction | None]:
    end = None if segment.end_ms is None else Fraction(segment.end_ms, MILLISECONDS)
    return Fraction(segment.start_ms, MILLISECONDS), end


def _cut(job: FetchJob, located: Located, segment: Segment) -> int:
    """Write the segment alone and give it its final name."""
    start, end = _stretch(segment)
    assert end is not None, "a segment without an end is the full video"
    unfinished = _unfinished(job)
    try:
        with writing(unfinished):
            trim(located.path, unfinished, start, end)
        size = unfinished.stat().st_size
        _rename(unfinished, _final(job, segment, trimmed=True, extension=".mp4"))
    finally:
        unfinished.unlink(missing_ok=True)
    return size


def _place(job: FetchJob, located: Located, segment: Segment) -> None:
    """Give a checked file its final name: moved from scratch, copied from elsewhere."""
    final = _final(job, segment, trimmed=located.trimmed, extension=located.path.suffix)
    if located.scratch:
        _rename(located.path, final)
        return
    unfinished = _unfinished(job)
    try:
        with writing(unfinished):
            shutil.copyfile(located.path, unfinished)
        _rename(unfinished, final)
    finally:
        unfinished.unlink(missing_ok=True)


def _unfinished(job: FetchJob) -> Path:
    """Return a name that `clean` knows as left behind when its process dies."""
    return publish.temporary_name(job.workplace / "unfinished")


def clean(workplace: Path) -> None:
    """Remove what fetches that were killed an hour ago or more left half written."""
    publish.sweep(workplace)


def _final(job: FetchJob, segment: Segment, *, trimmed: bool, extension: str) -> Path:
    """Return the name by which a local source knows the file."""
    name = trimmed_name(segment) if trimmed else None
    return job.into / (safe_name(name or without_extension(segment.video)) + extension)


def _rename(unfinished: Path, final: Path) -> None:
    """Make a file appear whole, or not, whatever happens meanwhile."""
    final.parent.mkdir(parents=True, exist_ok=True)
    _sync(unfinished)
    os.replace(unfinished, final)
    _sync(final.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _failed(segment: Segment, failure: SegmentFailure) -> Outcome:
    return Outcome(segment.key, failure.code, failure.detail)


@lru_cache(maxsize=32)
def _source(text: str, options: SourceOptions) -> Source:
    return open_source(text, options)
