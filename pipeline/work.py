"""What runs on a worker: locate, decode, resample, flow, embed, commit, for one batch.

`extract_batch` is the only entry. It never raises for a fact about the data: such a segment gets
a failure row and the batch goes on. It may run twice for the same batch, and may be ended at any
instruction: only whole shards count, and the first attempt to commit a segment wins.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch

from pipeline import decode, flow, pixels, store
from pipeline.decode import FrameStream
from pipeline.embedding import Embedder, Rows
from pipeline.errors import SegmentFailure, segment_context
from pipeline.flow_caching import CachedContext
from pipeline.frames import SampledFrame
from pipeline.job import Batch, Item, Job, Receipt, Target
from pipeline.monitor import Monitor, stop_requested
from pipeline.outcome import Outcome, check_coverage, failed, failure_row, segment_row
from pipeline.provenance import versions
from pipeline.sources import Located, Sources, check_is_one
from pipeline.store import RecipeShards
from pipeline.store.flow_cache import SourceStamp
from pipeline.streams import Deliver, Placement, SegmentStreams, StreamContext

if TYPE_CHECKING:
    from extractors._extractor import Extractor

_built: dict[str, Any] = {}
_building = threading.Lock()


def extract_batch(job: Job, batch: Batch, monitor: Monitor) -> Receipt:
    """Extract and commit what a batch lacks.

    Parameters
    ----------
    job : Job
        Extractors, settings and store.
    batch : Batch
        Segments of one hash bucket.
    monitor : Monitor
        Told of every segment and of the time spent.

    Returns
    -------
    Receipt
        What was committed, what failed, and what was left because a stop was requested.
    """
    _cap_threads(job.settings.threads)
    work = _BatchWork(job, monitor)
    left: list[str] = []
    for item in batch.items:
        if stop_requested(job.run):
            left.append(item.segment.key)
            continue
        work.extract(item)
    return work.commit(batch, tuple(left))


def _cap_threads(threads: int) -> None:
    torch.set_num_threads(threads)
    pixels.cap_threads(threads)


def _once(name: str, build: Callable[[], Any]) -> Any:
    """Return what this process has built under a name, building it the first time."""
    with _building:
        if name not in _built:
            _built[name] = build()
        return _built[name]


def _extractor(job: Job, target: Target) -> Extractor:
    name = f"{target.recipe.digest} {job.settings.device}"
    built: Extractor = _once(name, lambda: job.settings.build(target.spec))
    return built


def _flow_backend(job: Job) -> flow.FlowBackend | None:
    settings = job.settings
    specs = [target.spec for target in job.targets]
    name = f"flow {settings.flow_backend} {settings.flow_preset} {settings.device}"
    if all(spec.modality != "flow" for spec in specs):
        return None

    def warm() -> flow.FlowBackend | None:
        flow.warm_up(settings.flow_backend)
        return settings.open_flow(specs)

    backend: flow.FlowBackend = _once(name, warm)
    return backend


def _sources(job: Job) -> Sources:
    name = f"sources {job.sources} {job.source_options}"
    opened: Sources = _once(name, lambda: Sources(job.sources, job.source_options))
    return opened


def _located(job: Job, item: Item, monitor: Monitor) -> Located:
    """Return the segment's file; a download keeps its own deadline, and may be long."""
    if item.located is not None:
        return item.located
    with monitor.waiting():
        return _sources(job).locate(item.segment)


class _BatchWork:
    """The segments of one batch on their way through the networks."""

    def __init__(self, job: Job, monitor: Monitor) -> None:
        self._job = job
        self._monitor = monitor
        with monitor.meter("load"):
            self._embedders = {
                target.recipe.digest: Embedder(_extractor(job, target), monitor)
                for target in job.targets
                if not job.flow_only
            }
            self._flow = _flow_backend(job)
        self._outcomes: list[Outcome] = []

    def extract(self, item: Item) -> None:
        """Run one segment; record its failure if it has one."""
        key = item.segment.key
        targets = [self._job.targets[number] for number in item.targets]
        outcome = Outcome(item, {target.recipe.digest: Rows() for target in targets})
        self._outcomes.append(outcome)
        self._monitor.started(key)
        try:
            with segment_context(key):
                self._run(outcome, targets)
        except SegmentFailure as failure:
            outcome.failures = {target.recipe.digest: failure for target in targets}
        finally:
            if outcome.located is not None and outcome.located.scratch:
                _sources(self._job).release(outcome.located)
        self._monitor.ended(key, failed=bool(outcome.failures))

    def _run(self, outcome: Outcome, targets: list[Target]) -> None:
        job, item = self._job, outcome.item
        with self._monitor.meter("locate"):
            located = outcome.located = _located(job, item, self._monitor)
            if item.shared:
                check_is_one(located, item.segment)
        with self._monitor.meter("decode"):
            info = outcome.info = decode.probe(
                located.path, limits=job.settings.limits, decoder=job.settings.decoder
            )
        placement = Placement.of(item.segment, info, located.trimmed)
        with self._monitor.meter("decode"):
            specs = [target.spec for target in targets]
            totals = job.settings.totals(located.path, specs, placement.grid)
        with ExitStack() as entries:
            context = self._context(outcome, located, entries)
            streams = SegmentStreams(targets, info, placement, totals, context)
            stream = decode.frames(
                located.path, streams.requests, info=info, options=job.settings.decode_options()
            )
            for frame in self._metered(stream):
                streams.push(frame)
                self._monitor.alive()
            outcome.decoded = stream.decoded
            outcome.counts = {
                target.recipe.digest: stream.counts[streams.request_of(target)]
                for target in targets
            }
            outcome.ratio = min(stream.coverage)
            check_coverage(outcome, placement, stream, job.settings.min_coverage)
            short = streams.finish()
        if isinstance(context, CachedContext):
            self._monitor.count("flow_bytes", context.written_bytes())
        if not job.flow_only:
            outcome.failures.update(short)

    def _context(self, outcome: Outcome, located: Located, entries: ExitStack) -> StreamContext:
        """Return what the streams of one segment share."""
        job = self._job
        if job.flow_cache is None:
            return StreamContext(job.settings, self._monitor, self._deliver_to(outcome), self._flow)
        return CachedContext(
            job.settings,
            self._monitor,
            self._deliver_to(outcome),
            self._flow,
            folder=job.flow_cache,
            key=outcome.item.segment.key,
            stamp=SourceStamp(located.size, located.mtime_ns),
            entries=entries,
        )

    def _deliver_to(self, outcome: Outcome) -> Deliver:
        if self._job.flow_only:
            return lambda target, window: None
        return lambda target, window: self._embedders[target.recipe.digest].add(
            outcome.rows[target.recipe.digest], window
        )

    def _metered(self, stream: FrameStream) -> Iterator[SampledFrame]:
        frames = iter(stream)
        while True:
            with self._monitor.meter("decode"):
                frame = next(frames, None)
            if frame is None:
                return
            yield frame

    def commit(self, batch: Batch, left: tuple[str, ...]) -> Receipt:
        """Flush the networks and publish one shard part per recipe."""
        for embedder in self._embedders.values():
            embedder.flush()
        shards: list[str] = []
        rows = size = 0
        with self._monitor.meter("commit"):
            for target in () if self._job.flow_only else self._job.targets:
                receipt = self._commit_target(batch, target)
                if receipt is None:
                    continue
                shards.append(f"{target.recipe.folder}/{receipt.shard}")
                rows += receipt.rows
                size += receipt.size
        return Receipt(
            batch=batch.name,
            done=tuple(o.item.segment.key for o in self._outcomes if not o.failures),
            failed=tuple(failed(o) for o in self._outcomes if o.failures),
            left=left,
            shards=tuple(shards),
            rows=rows,
            bytes=size,
            seconds=dict(self._monitor.seconds),
            counts=dict(self._monitor.counts),
        )

    def _commit_target(self, batch: Batch, target: Target) -> store.Receipt | None:
        """Publish the rows and failures of one recipe; None when the batch has neither."""
        digest = target.recipe.digest
        mine = [o for o in self._outcomes if digest in o.rows]
        done = [segment_row(o, digest, self._job) for o in mine if digest not in o.failures]
        failures = [failure_row(o, digest) for o in mine if digest in o.failures]
        if not done and not failures:
            return None
        footer = {
            "run": self._job.run,
            "batch": batch.name,
            "device": self._job.settings.device,
            "threads": self._job.settings.threads,
            "versions": versions(),
        }
        shards = RecipeShards.open(self._job.out, target.recipe.folder)
        return shards.commit(batch.bucket, done, failures, footer)
