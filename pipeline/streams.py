"""All streams of one segment: every decoded frame reaches each extractor that wants it, once.

Extractors that share a sampling rate share one request to the decoder, those that share a
geometry share one picture, and those on flow share one flow stream. Windows leave as they fill.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from extractors import Spec
from manifests._segment import MILLISECONDS_PER_SECOND, Segment
from pipeline import flow
from pipeline.decode import Request, VideoInfo
from pipeline.errors import NotFinite, TooShort
from pipeline.frames import SampledFrame, View
from pipeline.job import Settings, Target
from pipeline.monitor import Monitor
from pipeline.sampling import Grid
from pipeline.windowing import Sample, Window, WindowStream

Image = NDArray[Any]
Deliver = Callable[[Target, Window[Image]], None]
FlowMaker = Callable[[Sample[Image], Sample[Image]], Image]
"""Takes two successive frames with their times; returns ``(H, W, 2)`` as networks see it."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a segment lies in its file, and how file time becomes source-video time.

    Attributes
    ----------
    start, end : Fraction
        Stretch of the file in seconds from its second 0; `end` None is the file's end.
    offset_seconds : float
        Add it to file time to get source-video time.
    trimmed : bool
        True when the file was declared to hold nothing but the segment.
    """

    start: Fraction
    end: Fraction | None
    offset_seconds: float
    trimmed: bool

    @classmethod
    def of(cls, segment: Segment, info: VideoInfo, trimmed: bool) -> Placement:
        """Place a segment: cut a full video by time, take a trimmed one from its first frame.

        A trimmed file that is shorter than its segment is taken whole: how much of it decodes is
        measured against its own length.
        """
        begins = Fraction(segment.start_ms, MILLISECONDS_PER_SECOND)
        ends = None
        if segment.end_ms is not None:
            ends = Fraction(segment.end_ms, MILLISECONDS_PER_SECOND)
        if not trimmed:
            return cls(begins, ends, 0.0, trimmed)
        first = Fraction(info.first_frame_seconds)
        end = None if ends is None else first + ends - begins
        if end is not None and info.duration_seconds is not None and info.duration_seconds < end:
            end = None
        return cls(first, end, float(begins - first), trimmed)

    def grid(self, spec: Spec) -> Grid:
        """Return the sample times of one extractor."""
        return Grid(self.start, self.end, spec.sampling.fps, spec.sampling.resample)


@dataclass(slots=True)
class _Feed:
    """One stream of pictures, or of flow made from them, and the windows that hang on it."""

    view: View
    flow: FlowMaker | None = None
    sinks: list[tuple[Target, WindowStream[Image]]] = field(default_factory=list)
    previous: Sample[Image] | None = None
    last_flow: Image | None = None


class SegmentStreams:
    """Hands the decoded frames of one segment to every extractor that lacks it.

    Parameters
    ----------
    targets : sequence of Target
        Extractors that lack the segment.
    info : VideoInfo
        The file.
    placement : Placement
        Where the segment lies in it.
    totals : Mapping of Grid to int
        Samples of each grid, for the extractors that must know beforehand.
    context : StreamContext
        Flow backend, settings, monitor, and where windows go.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        info: VideoInfo,
        placement: Placement,
        totals: Mapping[Grid, int],
        context: StreamContext,
    ) -> None:
        self._placement = placement
        self._context = context
        self._feeds: dict[Grid, dict[tuple[str, View], _Feed]] = {}
        self._grids: dict[str, Grid] = {}
        for target in targets:
            self._add(target, info, totals)
        self.requests = tuple(
            Request(grid, tuple(dict.fromkeys(feed.view for feed in feeds.values())))
            for grid, feeds in self._feeds.items()
        )

    def _add(self, target: Target, info: VideoInfo, totals: Mapping[Grid, int]) -> None:
        spec = target.spec
        grid = self._placement.grid(spec)
        height, width = spec.geometry.resized(info.height_px, info.width_px)
        mode: Literal["rgb", "gray"] = "gray" if spec.modality == "flow" else "rgb"
        geometry = spec.geometry
        view = View(height, width, mode, geometry.interpolation, geometry.antialias)
        feeds = self._feeds.setdefault(grid, {})
        feed = feeds.setdefault((spec.modality, view), _Feed(view))
        if spec.modality == "flow" and feed.flow is None:
            feed.flow = self._context.flow_maker(spec)
        interval = float(1 / (grid.fps or info.nominal_fps))
        total = totals.get(grid)
        if total is not None and spec.modality == "flow":
            total -= 1
        feed.sinks.append((target, WindowStream(spec.sampling, interval, total)))
        self._grids[target.recipe.digest] = grid

    def request_of(self, target: Target) -> int:
        """Position in `requests` of the one that serves an extractor."""
        return list(self._feeds).index(self._grids[target.recipe.digest])

    def push(self, frame: SampledFrame) -> None:
        """Take one decoded frame; deliver every window that it completes."""
        for samples, (grid, feeds) in zip(frame.samples, self._feeds.items(), strict=True):
            for number in samples:
                time = frame.pts_seconds if grid.fps is None else grid.start + number / grid.fps
                seconds = float(time) + self._placement.offset_seconds
                self._context.monitor.count("frames")
                for (modality, view), feed in feeds.items():
                    sample: Sample[Image] = Sample(number, seconds, frame.images[view])
                    if modality == "flow":
                        self._push_flow(feed, sample)
                    else:
                        self._push_sample(feed, sample)

    def _push_sample(self, feed: _Feed, sample: Sample[Image]) -> None:
        for target, windows in feed.sinks:
            for window in windows.push(sample):
                self._context.deliver(target, window)

    def _push_flow(self, feed: _Feed, sample: Sample[Image]) -> None:
        previous, feed.previous = feed.previous, sample
        if previous is None:
            return
        assert feed.flow is not None
        with self._context.monitor.meter("flow"):
            moved = feed.last_flow = feed.flow(previous, sample)
        self._context.monitor.count("flows")
        self._context.monitor.alive()
        self._push_sample(feed, Sample(previous.number, previous.seconds, moved))

    def finish(self) -> dict[str, TooShort]:
        """Deliver the last windows; return, by recipe digest, the extractors that lack samples."""
        failures: dict[str, TooShort] = {}
        for feeds in self._feeds.values():
            self._repeat_last_flow(feeds.values())
            for target, windows in _sinks(feeds.values()):
                try:
                    for window in windows.finish():
                        self._context.deliver(target, window)
                except TooShort as failure:
                    failures[target.recipe.digest] = failure
        return failures

    def _repeat_last_flow(self, feeds: Iterable[_Feed]) -> None:
        """Give stacks that are centred on frames a flow for the last frame, which has none.

        N frames have N - 1 flows; with its edge repeated, each sampled frame is some stack's
        centre, so that the rows of both streams are the same in number and in time.
        """
        for feed in feeds:
            if feed.previous is None or feed.last_flow is None:
                continue
            last = feed.previous
            sample: Sample[Image] = Sample(last.number, last.seconds, feed.last_flow)
            for target, windows in feed.sinks:
                if target.spec.sampling.mode == "centred":
                    for window in windows.push(sample):
                        self._context.deliver(target, window)


def _sinks(feeds: Iterable[_Feed]) -> Iterable[tuple[Target, WindowStream[Image]]]:
    for feed in feeds:
        yield from feed.sinks


@dataclass(slots=True)
class StreamContext:
    """What the streams of a segment share: flow, monitor, and where windows go."""

    settings: Settings
    monitor: Monitor
    deliver: Deliver
    flow_backend: flow.FlowBackend | None

    def flow_maker(self, spec: Spec) -> FlowMaker:
        """Return what gives the flow of successive pairs of one extractor's frames."""

        def compute(previous: Sample[Image], following: Sample[Image]) -> Image:
            moved = self.raw_flow(previous.image, following.image)
            return flow.as_stored(moved, self.settings.flow_depth)

        return compute

    def raw_flow(self, previous: Image, following: Image) -> NDArray[np.float32]:
        """Return the flow of one pair, ``(H, W, 2)`` px per frame, before its depth.

        A repeated frame is the same object and gives exactly zero.
        """
        if following is previous:
            self.monitor.count("zero_flows")
            return np.zeros((*previous.shape, 2), np.float32)
        assert self.flow_backend is not None
        moved = self.flow_backend(previous, following)
        if not np.isfinite(moved.sum()):
            raise NotFinite(
                f"TV-L1 ({self.settings.flow_backend}) gave NaN or infinity; nothing of this "
                "batch is stored; please report the video, and take --flow opencv meanwhile"
            )
        return moved
