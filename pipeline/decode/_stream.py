"""One decoding pass that serves every request of a segment, frame by frame, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path

from pipeline.decode._backend import Backend, Decoded, Follower, Wishes, followers
from pipeline.decode._video import Counts, DecodeOptions, Request, VideoInfo
from pipeline.errors import DecodeError, TooShort
from pipeline.frames import SampledFrame
from pipeline.pixels import render


class _WantedFrameSkipped(Exception):
    """Damage made a frame wanted that had been left undecoded; the pass is repeated without."""


class FrameStream:
    """The wanted frames of a video in presentation order; iterate it once.

    Only one decoded frame is held. A frame is converted once it is known to be wanted, which is
    when the next frame's time is known, and once for each distinct view.

    Attributes
    ----------
    counts : tuple of Counts
        Per request; complete after iteration.
    decoded : int
        Frames that were decoded, wanted or not.
    damage : DecodeError or None
        Why decoding stopped early, if it did; what came before was yielded.
    coverage : tuple of float
        Per request, which part of its stretch has frames (see `require`).
    """

    def __init__(
        self,
        path: Path,
        requests: Sequence[Request],
        info: VideoInfo,
        options: DecodeOptions,
        backend: Backend,
    ) -> None:
        self.info = info
        self.damage: DecodeError | None = None
        self.decoded = 0
        self._path = path
        self._requests = tuple(requests)
        self._options = options
        self._backend = backend
        self._followers: list[Follower] = []
        self._spans: list[tuple[Fraction, Fraction] | None] = []

    @property
    def counts(self) -> tuple[Counts, ...]:
        """What became of each request's samples."""
        selectors = [follower.selector for follower in self._followers]
        return tuple(Counts(s.served, s.repeated, s.dropped, s.missing) for s in selectors)

    @property
    def coverage(self) -> tuple[float, ...]:
        """Part of each request's stretch that has frames, 0 to 1.

        The stretch is ``[start, end)``; an open end is the end of the video by its header.
        """
        return tuple(
            _covered(request, span, self.info)
            for request, span in zip(self._requests, self._spans, strict=True)
        )

    def __iter__(self) -> Iterator[SampledFrame]:
        yielded = 0
        try:
            for frame in self._pass(may_skip=True):
                yielded += 1
                yield frame
        except _WantedFrameSkipped:
            yield from islice(self._pass(may_skip=False), yielded, None)

    def _pass(self, may_skip: bool) -> Iterator[SampledFrame]:
        grids = [request.grid for request in self._requests]
        wishes = Wishes(grids, self.info, may_skip)
        self._followers = followers(grids, self.info)
        self._spans = [None] * len(grids)
        self.decoded = 0
        self.damage = None
        previous: Decoded | None = None
        frames = self._backend.decode(self._path, self.info, wishes, self._options)
        for frame in self._until_damage(frames, skipping=wishes.sparse):
            self.decoded += frame.picture is not None
            served = tuple(follower.push(frame.seconds) for follower in self._followers)
            if previous is not None and any(served):
                yield self._sampled(previous, served)
            previous = frame
            self._widen(frame.seconds)
            if all(follower.selector.done for follower in self._followers):
                break
        served = tuple(follower.finish() for follower in self._followers)
        if previous is None:
            raise self.damage or TooShort("no frame could be decoded, expected at least one")
        if any(served):
            yield self._sampled(previous, served)

    def _until_damage(self, frames: Iterator[Decoded], skipping: bool) -> Iterator[Decoded]:
        try:
            yield from frames
        except DecodeError as error:
            if skipping:
                raise _WantedFrameSkipped from error
            self.damage = error

    def _sampled(self, frame: Decoded, served: tuple[range, ...]) -> SampledFrame:
        if frame.picture is None:
            raise _WantedFrameSkipped
        views = [
            view
            for request, samples in zip(self._requests, served, strict=True)
            if samples
            for view in request.views
        ]
        images = render(frame.picture(), views) if views else {}
        return SampledFrame(frame.seconds, served, images)

    def _widen(self, seconds: Fraction) -> None:
        for number, request in enumerate(self._requests):
            grid = request.grid
            if seconds < grid.start or (grid.end is not None and seconds >= grid.end):
                continue
            span = self._spans[number]
            self._spans[number] = (seconds if span is None else span[0], seconds)


def _covered(request: Request, span: tuple[Fraction, Fraction] | None, info: VideoInfo) -> float:
    if span is None:
        return 0.0
    interval = info.frame_interval
    first, last = span
    start, end = request.grid.start, request.grid.end
    if end is None:
        end = max(info.duration_seconds or Fraction(0), last + interval)
        start = max(start, min(first, info.first_frame_seconds))
    begun = start if first - start <= interval else first
    return float((min(end, last + interval) - begun) / (end - start))
