"""What runs on a worker: locate, decode, resample, flow, embed, commit, for one batch.

`extract_batch` is the only entry. It never raises for a fact about the data: such a segment gets
a failure row and the batch goes on. It may run twice for the same batch, and may be ended at any
instruction: only whole shards count, and the first attempt to commit a segment wins.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

import extractors
from manifests import Segment
from pipeline import decode, flow
from pipeline.decode import FrameStream, VideoInfo
from pipeline.embedding import Embedder, Rows
from pipeline.errors import (
    OutsideVideo,
    SegmentFailure,
    TooShort,
    Truncated,
    segment_context,
)
from pipeline.frames import SampledFrame
from pipeline.job import Batch, Failed, Item, Job, Receipt, Target
from pipeline.monitor import Monitor, stop_requested
from pipeline.provenance import versions
from pipeline.sampling import Grid
from pipeline.sources import Located, Sources
from pipeline.store import FailureRow, RecipeShards, SegmentRow
from pipeline.streams import Placement, SegmentStreams, StreamContext

if TYPE_CHECKING:
    from extractors._extractor import Extractor

MILLISECONDS_PER_SECOND = 1000

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
    torch.set_num_threads(job.settings.threads)
    work = _BatchWork(job, monitor)
    left: list[str] = []
    for item in batch.items:
        if stop_requested.is_set():
            left.append(item.segment.key)
            continue
        work.extract(item)
    return work.commit(batch, tuple(left))


def warm_up(job: Job) -> None:
    """Load every network and compile the flow kernels of a job, once per process."""
    torch.set_num_threads(job.settings.threads)
    for target in job.targets:
        _extractor(job, target)
    _flow_backend(job)


def _once(name: str, build: Any) -> Any:
    with _building:
        if name not in _built:
            _built[name] = build()
        return _built[name]


def _extractor(job: Job, target: Target) -> Extractor:
    settings = job.settings

    def build() -> Extractor:
        return extractors.build(
            target.spec,
            weights_dir=settings.weights,
            device=settings.device,
            precision=settings.precision,
            compile=settings.compile,
        )

    built: Extractor = _once(f"{target.recipe.digest} {settings.device}", build)
    return built


def _flow_backend(job: Job) -> flow.FlowBackend | None:
    if not any(target.spec.modality == "flow" for target in job.targets):
        return None
    settings = job.settings
    parameters = flow.PRESETS[settings.flow_preset]
    name = f"flow {settings.flow_backend} {parameters} {settings.device}"
    backend: flow.FlowBackend = _once(
        name, lambda: flow.open_backend(settings.flow_backend, parameters, settings.device)
    )
    return backend


def _sources(job: Job) -> Sources:
    name = f"sources {job.sources} {job.source_options}"
    opened: Sources = _once(name, lambda: Sources(job.sources, job.source_options))
    return opened


def _located(job: Job, item: Item) -> Located:
    return item.located or _sources(job).locate(item.segment)


@dataclass(slots=True)
class _Outcome:
    """What is known of one segment once its frames are through."""

    item: Item
    rows: dict[str, Rows]
    located: Located | None = None
    info: VideoInfo | None = None
    ratio: float = 0.0
    decoded: int = 0
    counts: dict[str, decode.Counts] = field(default_factory=dict)
    failures: dict[str, SegmentFailure] = field(default_factory=dict)


class _BatchWork:
    """The segments of one batch on their way through the networks."""

    def __init__(self, job: Job, monitor: Monitor) -> None:
        self._job = job
        self._monitor = monitor
        with monitor.meter("load"):
            self._embedders = {
                target.recipe.digest: Embedder(_extractor(job, target), monitor)
                for target in job.targets
            }
            self._flow = _flow_backend(job)
        self._outcomes: list[_Outcome] = []

    def extract(self, item: Item) -> None:
        """Run one segment; record its failure if it has one."""
        key = item.segment.key
        targets = [self._job.targets[number] for number in item.targets]
        outcome = _Outcome(item, {target.recipe.digest: Rows() for target in targets})
        self._outcomes.append(outcome)
        self._monitor.started(key)
        try:
            with segment_context(key):
                self._run(outcome, targets)
        except SegmentFailure as failure:
            outcome.failures = {target.recipe.digest: failure for target in targets}
        if outcome.located is not None and outcome.located.scratch:
            _sources(self._job).release(outcome.located)
        self._monitor.ended(key, failed=bool(outcome.failures))

    def _run(self, outcome: _Outcome, targets: list[Target]) -> None:
        job, item = self._job, outcome.item
        with self._monitor.meter("locate"):
            located = outcome.located = _located(job, item)
        with self._monitor.meter("decode"):
            info = outcome.info = decode.probe(
                located.path, limits=job.settings.limits, decoder=job.settings.decoder
            )
        placement = Placement.of(item.segment, info, located.trimmed)
        context = StreamContext(
            job.settings,
            self._monitor,
            lambda target, window: self._embedders[target.recipe.digest].add(
                outcome.rows[target.recipe.digest], window
            ),
            self._flow,
        )
        totals = self._totals(located, placement, targets)
        streams = SegmentStreams(targets, info, placement, totals, context)
        stream = decode.frames(
            located.path, streams.requests, info=info, options=_decode_options(job)
        )
        for frame in self._metered(stream):
            streams.push(frame)
            self._monitor.alive()
        outcome.decoded = stream.decoded
        outcome.counts = {
            target.recipe.digest: stream.counts[streams.request_of(target)] for target in targets
        }
        outcome.ratio = _coverage(stream, streams, placement, info)
        _check_coverage(outcome, placement, stream, job.settings.min_coverage)
        short: dict[str, TooShort] = streams.finish()
        outcome.failures.update(short)

    def _totals(
        self, located: Located, placement: Placement, targets: list[Target]
    ) -> dict[Grid, int]:
        """Count the samples of grids whose windows spread evenly over a whole segment."""
        uniform = [t.spec for t in targets if t.spec.sampling.mode == "uniform"]
        grids = {placement.grid(spec) for spec in uniform}
        options = _decode_options(self._job)
        with self._monitor.meter("decode"):
            return {
                grid: decode.count_samples(located.path, grid, options=options) for grid in grids
            }

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
            for target in self._job.targets:
                receipt = self._commit_target(batch, target)
                if receipt is None:
                    continue
                shards.append(f"{target.recipe.folder}/{receipt.shard}")
                rows += receipt.rows
                size += receipt.size
        return Receipt(
            batch=batch.name,
            done=tuple(o.item.segment.key for o in self._outcomes if not o.failures),
            failed=tuple(_failed(o) for o in self._outcomes if o.failures),
            left=left,
            shards=tuple(shards),
            rows=rows,
            bytes=size,
            seconds=dict(self._monitor.seconds),
            counts=dict(self._monitor.counts),
        )

    def _commit_target(self, batch: Batch, target: Target) -> Any:
        digest = target.recipe.digest
        mine = [o for o in self._outcomes if digest in o.rows]
        done = [_segment_row(o, digest, self._job) for o in mine if digest not in o.failures]
        failed = [_failure_row(o, digest) for o in mine if digest in o.failures]
        if not done and not failed:
            return None
        footer = {
            "run": self._job.run,
            "batch": batch.name,
            "device": self._job.settings.device,
            "threads": self._job.settings.threads,
            "versions": versions(),
        }
        shards = RecipeShards.open(self._job.out, target.recipe.folder)
        return shards.commit(batch.bucket, done, failed, footer)


def _decode_options(job: Job) -> decode.DecodeOptions:
    settings = job.settings
    return decode.DecodeOptions(
        decoder=settings.decoder,
        threads=settings.threads,
        limits=settings.limits,
        stall_seconds=settings.decode_stall_seconds,
    )


def _coverage(
    stream: FrameStream, streams: SegmentStreams, placement: Placement, info: VideoInfo
) -> float:
    """Share of the wanted samples that decoded, the least over all grids, 0 to 1."""
    own_end = info.duration_seconds
    ratios = []
    for request, counts in zip(streams.requests, stream.counts, strict=True):
        grid = request.grid
        if own_end is None and grid.end is None:
            ratios.append(0.0 if stream.damage else 1.0)
            continue
        if own_end is not None and (grid.end is None or placement.trimmed):
            end = own_end if grid.end is None else min(own_end, grid.end)
            grid = replace(grid, end=max(end, grid.start))
        expected = replace(grid, fps=grid.fps or info.nominal_fps).expected
        ratios.append(min(1.0, counts.served / expected) if expected else 1.0)
    return min(ratios)


def _check_coverage(
    outcome: _Outcome, placement: Placement, stream: FrameStream, min_coverage: float
) -> None:
    if outcome.ratio >= min_coverage:
        return
    assert outcome.info is not None and outcome.located is not None
    name = outcome.located.path.name
    share = f"{outcome.ratio:.2f} of the segment decoded, --min-coverage asks for {min_coverage:g}"
    if stream.damage is not None:
        raise Truncated(
            f"{name}: decoding stopped early ({stream.damage.detail}); {share}; "
            "fetch the video again"
        )
    length = outcome.info.duration_seconds
    ends = "the file ends early" if length is None else f"the file ends at {float(length):.1f} s"
    found = f"{name}: {ends}, the segment is {_interval(placement)} s; {share}"
    if placement.trimmed:
        raise Truncated(f"{found}; fetch the video again")
    raise OutsideVideo(
        f"{found}; if this folder holds videos already cut to their segments, declare it: "
        "--videos trimmed:DIR"
    )


def _interval(placement: Placement) -> str:
    end = "end" if placement.end is None else f"{float(placement.end):g}"
    return f"[{float(placement.start):g}, {end})"


def _segment_row(outcome: _Outcome, digest: str, job: Job) -> SegmentRow:
    assert outcome.located is not None and outcome.info is not None
    counts = outcome.counts[digest]
    return SegmentRow(
        **_described(outcome),
        source_size=outcome.located.size,
        source_mtime_ns=outcome.located.mtime_ns,
        fps_found=float(outcome.info.nominal_fps),
        frames_decoded=outcome.decoded,
        frames_repeated=counts.repeated,
        frames_dropped=counts.dropped,
        decoded_ratio=outcome.ratio,
        features=outcome.rows[digest].features(job.settings.store_dtype),
    )


def _failure_row(outcome: _Outcome, digest: str) -> FailureRow:
    failure = outcome.failures[digest]
    located = outcome.located
    return FailureRow(
        **_described(outcome),
        code=failure.code,
        detail=failure.detail,
        attempts=outcome.item.attempts + 1,
        source_size=0 if located is None else located.size,
        source_mtime_ns=0 if located is None else located.mtime_ns,
    )


def _described(outcome: _Outcome) -> dict[str, Any]:
    return described(outcome.item.segment)


def described(segment: Segment) -> dict[str, Any]:
    """Return what the manifest says of a segment, as the store's rows name it."""
    end_ms = segment.end_ms
    return {
        "key": segment.key,
        "video": segment.video,
        "start_seconds": segment.start_ms / MILLISECONDS_PER_SECOND,
        "end_seconds": float("nan") if end_ms is None else end_ms / MILLISECONDS_PER_SECOND,
        "label": "|".join(segment.labels),
        "split": segment.split,
        "group": segment.group,
    }


def _failed(outcome: _Outcome) -> Failed:
    failure = next(iter(outcome.failures.values()))
    return Failed(outcome.item.segment.key, failure.code, failure.detail)
