"""Windows of a stream of samples, as they fill: memory holds one window, never the video.

`WindowStream` gives, sample by sample, exactly the windows that `pipeline.sampling.windows` lists
for the finished segment. Centred windows stand on multiples of the stride in *grid* numbers, so
that they stay on the times of a slower grid when the first samples of a video are missing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from extractors import Sampling
from pipeline.errors import TooShort
from pipeline.sampling import tail_window, uniform_starts

Image = TypeVar("Image")


@dataclass(frozen=True, slots=True)
class Sample(Generic[Image]):
    """One sampled frame, or one flow.

    Attributes
    ----------
    number : int
        Its number on the grid; the first samples of a segment may be missing.
    seconds : float
        Its time in the source video.
    image : Image
        Its pixels or displacements.
    """

    number: int
    seconds: float
    image: Image


@dataclass(frozen=True, slots=True)
class Window(Generic[Image]):
    """One network input and the half-open stretch of source-video time that its row covers."""

    images: tuple[Image, ...]
    start_seconds: float
    end_seconds: float


class WindowStream(Generic[Image]):
    """Turns samples into windows.

    Parameters
    ----------
    sampling : Sampling
        Mode, window, stride, tail and the rule for short segments.
    interval_seconds : float
        Time from one sample to the next, which the last sample of a window covers.
    total : int, optional
        Samples the whole segment has; needed in ``uniform`` mode only.
    """

    def __init__(
        self, sampling: Sampling, interval_seconds: float, total: int | None = None
    ) -> None:
        if sampling.mode == "uniform" and total is None:
            raise ValueError("uniform windows need the number of samples beforehand")
        self._sampling = sampling
        self._interval = interval_seconds
        self._starts = uniform_starts(total, sampling) if total is not None else []
        keep = None if sampling.mode == "whole" else sampling.window
        self._held: deque[Sample[Image]] = deque(maxlen=keep)
        self._count = 0
        self._first = 0

    def push(self, sample: Sample[Image]) -> Iterator[Window[Image]]:
        """Take the next sample; yield every window that it completes."""
        if not self._count:
            self._first = sample.number
        self._held.append(sample)
        self._count += 1
        sampling = self._sampling
        start = self._count - sampling.window
        if sampling.mode == "centred":
            centre = start + sampling.window // 2
            if centre >= 0 and (self._first + centre) % sampling.stride == 0:
                yield self._centred(centre)
        elif sampling.mode == "dense" and start >= 0 and start % sampling.stride == 0:
            yield self._window(self._held)
        elif sampling.mode == "uniform" and start >= 0:
            for _ in range(self._starts.count(start)):
                yield self._window(self._held)

    def finish(self) -> Iterator[Window[Image]]:
        """Yield what the rules for tails and short segments make of the rest.

        Raises
        ------
        TooShort
            When there was no sample, or too few under ``short="fail"``, or samples are left over
            under ``tail="error"``.
        """
        sampling = self._sampling
        if not self._count:
            raise TooShort(
                "no frame, or for flow no pair of frames, in the segment; check its times against "
                "the video's length"
            )
        if sampling.mode == "whole":
            yield self._window(self._held)
        elif sampling.mode == "centred":
            following = max(0, self._count - sampling.window + sampling.window // 2 + 1)
            following += -(self._first + following) % sampling.stride
            if -self._first % sampling.stride >= self._count:
                raise TooShort(
                    f"the segment has {self._count} samples after its beginning, none of them at "
                    f"the centre of a window (every {sampling.stride} samples)"
                )
            for centre in range(following, self._count, sampling.stride):
                yield self._centred(centre)
        elif self._count < sampling.window:
            yield from self._short()
        elif sampling.mode == "dense":
            yield from self._tail()

    def _short(self) -> Iterator[Window[Image]]:
        sampling = self._sampling
        if sampling.short == "fail":
            raise TooShort(
                f"the segment has {self._count} samples, one window has {sampling.window}; "
                "'short=loop' repeats them"
            )
        looped = [self._held[k % self._count] for k in range(sampling.window)]
        for _ in range(max(1, sampling.count)):
            yield self._window(looped)

    def _tail(self) -> Iterator[Window[Image]]:
        first = self._count - len(self._held)
        try:
            tail = tail_window(range(first, self._count), self._count, self._sampling)
        except ValueError as error:
            raise TooShort(str(error)) from error
        if tail is not None:
            yield self._window([self._held[k - first] for k in tail])

    def _window(self, samples: Sequence[Sample[Image]] | deque[Sample[Image]]) -> Window[Image]:
        times = [sample.seconds for sample in samples]
        images = tuple(sample.image for sample in samples)
        return Window(images, min(times), max(times) + self._interval)

    def _centred(self, centre: int) -> Window[Image]:
        sampling = self._sampling
        first = self._count - len(self._held)
        start = centre - sampling.window // 2
        picked = [
            self._held[min(max(k, 0), self._count - 1) - first]
            for k in range(start, start + sampling.window)
        ]
        begins = self._held[centre - first].seconds
        images = tuple(sample.image for sample in picked)
        return Window(images, begins, begins + sampling.stride * self._interval)
