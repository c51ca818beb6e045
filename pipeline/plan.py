"""What is left to do: a manifest times recipes, minus what is committed, cut into batches. Pure.

A segment is to do under a recipe when no shard holds it, or when its video file was replaced
since; a failed one is tried again until its failure's attempts are used up, or its file changed.
Segments whose video no source has cost no task: they are counted, listed, and taken up by a later
run. The cut into batches never moves a segment to another hash bucket, so attempts of several
runs meet at the same shards.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import NamedTuple

from extractors import Spec
from manifests import Segment
from pipeline.errors import FAILURES, Ambiguous, VideoMissing
from pipeline.job import Batch, Item, Target
from pipeline.sampling import windows
from pipeline.sources import Located
from pipeline.store import Committed, FailureRow

MAX_BATCH_SEGMENTS = 64
MAX_BATCH_SECONDS = 300.0
BATCHES_PER_SLOT = 4
ASSUMED_BYTES_PER_SECOND = 125_000
"""One megabit per second: how long an open-ended segment is taken to be, from its file's size."""
ASSUMED_SECONDS = 300.0
"""Length of an open-ended segment whose file is not at hand; Sports-1M averages 336 s."""
BYTES_PER_NUMBER = {"float32": 4, "float16": 2}
BYTES_OF_TIMES = 16
AGELESS = 0
"""Modification time of a file that was downloaded for the occasion: it is not replaced."""


Locate = Callable[[Segment], Located | None]
"""Returns a segment's file, or None when a worker will bring it; raises `VideoMissing` or
`Ambiguous` when no source has it, or several files answer."""


@dataclass(slots=True)
class TargetCounts:
    """What the plan found for one extractor."""

    done: int = 0
    todo: int = 0
    given_up: int = 0
    replaced: int = 0
    retried: int = 0
    expected_rows: int = 0
    open_ended: int = 0


class Absent(NamedTuple):
    """A segment whose video cannot be had now, and why.

    It holds no exception: a million of them would keep the frames they were raised in.
    """

    segment: Segment
    code: str
    detail: str


@dataclass(slots=True)
class Plan:
    """What is left to do.

    Attributes
    ----------
    segments : int
        Segments of the manifest, after ``--split`` and ``--limit``.
    present : int
        Those whose video is on disk or will be asked of a remote source.
    absent : list of Absent
        Those that no source has, or that several files answer to.
    items : list of Item
        Segments that at least one recipe lacks.
    counts : list of TargetCounts
        By extractor, in the order of the job's targets.
    """

    segments: int = 0
    present: int = 0
    absent: list[Absent] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    counts: list[TargetCounts] = field(default_factory=list)

    def expected_bytes(self, targets: Sequence[Target], dtype: str) -> int:
        """Bytes that the segments to do will take, as far as their lengths are known."""
        width = BYTES_PER_NUMBER[dtype]
        return sum(
            counts.expected_rows * (target.spec.dim * width + BYTES_OF_TIMES)
            for target, counts in zip(targets, self.counts, strict=True)
        )


def make_plan(
    segments: Collection[Segment],
    targets: Sequence[Target],
    committed: Sequence[Committed],
    locate: Locate,
    retry_failed: bool = False,
) -> Plan:
    """Compare a manifest with what is committed.

    Parameters
    ----------
    segments : collection of Segment
        The manifest.
    targets : sequence of Target
        The extractors of the run.
    committed : sequence of Committed
        What each recipe's shards hold, in the order of `targets`.
    locate : callable
        Plan-time look-up of a segment's video.
    retry_failed : bool
        Try every failed segment again, whatever its failure.
    """
    plan = Plan(counts=[TargetCounts() for _ in targets])
    lengths: Counter[tuple[tuple[int, ...], float | None]] = Counter()
    shared = shared_videos(segments)
    for segment in segments:
        plan.segments += 1
        try:
            located = locate(segment)
        except (VideoMissing, Ambiguous) as failure:
            plan.absent.append(Absent(segment, failure.code, failure.detail))
            key = segment.key
            for counts, known in zip(plan.counts, committed, strict=True):
                counts.done += key in known.done
            continue
        plan.present += 1
        item = _item(segment, located, plan, committed, retry_failed)
        if item is not None:
            if segment.video in shared:
                item = replace(item, shared=True)
            plan.items.append(item)
            lengths[item.targets, segment.seconds] += 1
    _expect(plan, lengths, targets)
    return plan


def _item(
    segment: Segment,
    located: Located | None,
    plan: Plan,
    committed: Sequence[Committed],
    retry_failed: bool,
) -> Item | None:
    """Return what the segment still needs, or None."""
    wanted: list[int] = []
    attempts = 0
    key = segment.key
    for number, (counts, known) in enumerate(zip(plan.counts, committed, strict=True)):
        stamp = known.done.get(key)
        if stamp is not None and (stamp[1] == AGELESS or not _replaced(stamp, located)):
            counts.done += 1
            continue
        failure = known.failures.get(key)
        if stamp is None and failure is not None:
            if not retry_failed and _given_up(failure, located):
                counts.given_up += 1
                continue
            counts.retried += 1
            if not _replaced(failure.source, located):
                attempts = max(attempts, failure.attempts)
        counts.replaced += stamp is not None
        counts.todo += 1
        wanted.append(number)
    return Item(segment, located, tuple(wanted), attempts) if wanted else None


def _given_up(failure: FailureRow, located: Located | None) -> bool:
    """Whether a failure's attempts are used up, and its file is still the same."""
    limit = FAILURES[failure.code].max_attempts if failure.code in FAILURES else 1
    return failure.attempts >= limit and not _replaced(failure.source, located)


def _replaced(stamp: tuple[int, int], located: Located | None) -> bool:
    """Whether the file on disk is another than the one that was decoded."""
    if located is None or located.scratch:
        return False
    return stamp != (located.size, located.mtime_ns)


def _expect(
    plan: Plan,
    lengths: Mapping[tuple[tuple[int, ...], float | None], int],
    targets: Sequence[Target],
) -> None:
    """Add up the rows to come, once for each length: a list has few of them."""
    for (wanted, seconds), segments in lengths.items():
        for number in wanted:
            spec, counts = targets[number].spec, plan.counts[number]
            if seconds is None or spec.sampling.fps is None:
                counts.open_ended += segments
            else:
                counts.expected_rows += segments * expected_rows(spec, seconds)


def expected_rows(spec: Spec, seconds: float) -> int:
    """Return the rows of a segment of known length that decodes whole.

    Examples
    --------
    >>> import extractors
    >>> expected_rows(extractors.spec("efficientnet-lite0"), 10.0)
    50
    """
    assert spec.sampling.fps is not None
    samples = -int(-seconds * spec.sampling.fps // 1)
    if spec.modality == "flow" and spec.sampling.mode != "centred":
        samples -= 1
    try:
        return len(windows(max(samples, 1), spec.sampling))
    except ValueError:
        return 0


def seconds_of(item: Item) -> float:
    """Length of a segment; for an open-ended one a guess from its file's size."""
    if item.segment.seconds is not None:
        return item.segment.seconds
    if item.located is not None:
        return item.located.size / ASSUMED_BYTES_PER_SECOND
    return ASSUMED_SECONDS


def make_batches(
    items: Sequence[Item], bucket_of: Callable[[str], int], slots: int
) -> Iterator[Batch]:
    """Cut what is to do into batches: one bucket each, bounded in segments and in video time.

    Small runs are cut finer, so that every worker gets some of the work.
    """
    fair = -(-len(items) // (max(1, slots) * BATCHES_PER_SLOT))
    most = max(1, min(MAX_BATCH_SEGMENTS, fair))
    buckets: defaultdict[int, list[Item]] = defaultdict(list)
    for item in items:
        buckets[bucket_of(item.segment.key)].append(item)
    numbers: Counter[int] = Counter()
    for bucket, members in buckets.items():
        for chunk in _chunks(members, most):
            numbers[bucket] += 1
            yield Batch(f"b{bucket:05d}-{numbers[bucket]}", bucket, chunk)


def _chunks(items: list[Item], most: int) -> Iterator[tuple[Item, ...]]:
    chunk: list[Item] = []
    seconds = 0.0
    for item in items:
        length = seconds_of(item)
        if chunk and (len(chunk) == most or seconds + length > MAX_BATCH_SECONDS):
            yield tuple(chunk)
            chunk, seconds = [], 0.0
        chunk.append(item)
        seconds += length
    if chunk:
        yield tuple(chunk)


def shared_videos(segments: Iterable[Segment]) -> frozenset[str]:
    """Return the videos of which a list has several segments."""
    seen: set[str] = set()
    shared: set[str] = set()
    for segment in segments:
        (shared if segment.video in seen else seen).add(segment.video)
    return frozenset(shared)


def limited(segments: Iterable[Segment], split: str | None, limit: int | None) -> Iterator[Segment]:
    """Yield the segments of one split, at most `limit` of them."""
    chosen = (segment for segment in segments if split is None or segment.split == split)
    return islice(chosen, limit)
