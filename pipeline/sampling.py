"""Which frames a segment is sampled at, and which samples make a window: pure arithmetic.

Time is exact: seconds are `Fraction`s from second 0 of the video, never floats, so that a tie is
a tie. Sample ``k`` of a grid stands at ``start + k / fps``. The decoder pushes the timestamps of
successive frames into a `Selector`, which answers with the sample numbers that the *previous*
frame serves: whether a frame is wanted is known before it is converted.

Examples
--------
Frames at 0, 0.04, 0.08 s, sampled at 12.5 fps:

>>> grid = Grid(start=Fraction(0), end=Fraction(1, 5), fps=Fraction(25, 2))
>>> select(grid, [Fraction(0), Fraction(1, 25), Fraction(2, 25)], Fraction(1, 25))
[range(0, 1), range(1, 1), range(1, 2)]

Windows of 4 samples every 2, of 7 samples, the last one completed by its own last sample:

>>> windows(7, Sampling(fps=None, window=4, stride=2, tail="repeat-last"))
[(0, 1, 2, 3), (2, 3, 4, 5), (4, 5, 6, 6)]
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from extractors._spec import Resample, Sampling


@dataclass(frozen=True, slots=True)
class Grid:
    """Sample times of one request: ``start + k / fps`` for every ``k`` before `end`.

    Attributes
    ----------
    start, end : Fraction
        Half-open stretch in seconds from second 0 of the video; `end` None is the video's end.
    fps : Fraction or None
        Sampling rate; None makes every frame inside the stretch a sample.
    resample : {"nearest", "hold"}
        Nearest frame (ties to the later), or the last one not after the sample time.
    """

    start: Fraction
    end: Fraction | None
    fps: Fraction | None
    resample: Resample = "nearest"

    @property
    def expected(self) -> int | None:
        """Number of samples of a video that covers the stretch; None when it cannot be known.

        Examples
        --------
        >>> Grid(Fraction(0), Fraction(10), Fraction(25)).expected
        250
        """
        if self.end is None or self.fps is None:
            return None
        return ceil((self.end - self.start) * self.fps)

    def before(self, seconds: Fraction) -> int:
        """Return how many samples lie strictly before a time."""
        assert self.fps is not None
        return max(0, ceil((seconds - self.start) * self.fps))


class Selector:
    """Tells, frame by frame, which samples of a grid each frame serves.

    Push the timestamp of every frame in presentation order; each call answers for the frame
    pushed *before*. After the last frame, or once `done`, call `finish` for the last one.

    A frame outside ``[start, end)`` serves only when there is none inside. The first frame inside
    stands in for samples at most one frame interval before it, the last frame of a video for
    samples at most one frame interval after it; samples beyond that are `missing`.

    Parameters
    ----------
    grid : Grid
        The samples wanted.
    frame_interval : Fraction
        Nominal seconds from one frame to the next.

    Attributes
    ----------
    done : bool
        True once no later frame can serve a sample.
    served, repeated, dropped, missing : int
        Samples served; samples served by a frame that already serves another; frames inside the
        stretch that serve none; samples that no frame can serve.
    """

    def __init__(self, grid: Grid, frame_interval: Fraction) -> None:
        self.grid = grid
        self.frame_interval = frame_interval
        self.done = False
        self.served = self.repeated = self.dropped = self.missing = 0
        self._next = 0
        self._previous: Fraction | None = None
        self._any_inside = False

    def push(self, pts: Fraction) -> range:
        """Take the next frame's timestamp; return the samples that the previous frame serves."""
        previous, self._previous = self._previous, pts
        beyond = self.grid.end is not None and pts >= self.grid.end
        if beyond:
            self.done = True
        if previous is not None and previous >= self.grid.start:
            return self._serve(self._limit(previous, pts, beyond), inside=True)
        if beyond:
            return self._nothing_inside(previous, pts)
        if pts >= self.grid.start:
            self._any_inside = True
            self._skip_leading(pts)
        return self._serve(self._next, inside=False)

    def finish(self) -> range:
        """Return the samples that the last pushed frame serves."""
        last, self._previous = self._previous, None
        if self.done:
            late = not self._any_inside and last is not None
            return self._serve(self._total() if late else self._next, inside=False)
        self.done = True
        if last is None:
            return self._serve(self._next, inside=False)
        inside = last >= self.grid.start
        if self.grid.fps is None:
            return self._serve(self._next + inside, inside=inside)
        reach = last + self.frame_interval
        if self.grid.end is not None:
            reach = min(reach, self.grid.end)
        found = self._serve(max(self._next, self.grid.before(reach)), inside=inside)
        if self.grid.expected is not None:
            self.missing += self.grid.expected - self._next
        return found

    def _total(self) -> int:
        if self.grid.fps is None:
            return self._next
        expected = self.grid.expected
        assert expected is not None
        return expected

    def _limit(self, previous: Fraction, pts: Fraction, beyond: bool) -> int:
        """First sample that the frame at `previous` no longer serves."""
        if self.grid.fps is None:
            return self._next + 1
        if beyond:
            return self._total()
        edge = pts if self.grid.resample == "hold" else (previous + pts) / 2
        limit = self.grid.before(edge)
        if self.grid.end is not None:
            limit = min(limit, self._total())
        return max(self._next, limit)

    def _nothing_inside(self, previous: Fraction | None, pts: Fraction) -> range:
        """Share the samples between the frame before the stretch and the one after it."""
        if previous is None:
            self._skip_leading(pts)
        if self.grid.fps is None or previous is None:
            return self._serve(self._next, inside=False)
        edge = pts if self.grid.resample == "hold" else (previous + pts) / 2
        limit = min(self._total(), self.grid.before(edge))
        return self._serve(max(self._next, limit), inside=False)

    def _skip_leading(self, first: Fraction) -> None:
        if self.grid.fps is not None:
            skipped = self.grid.before(first - self.frame_interval)
            if self.grid.end is not None:
                skipped = min(skipped, self._total())
            self._next += skipped
            self.missing += skipped

    def _serve(self, limit: int, inside: bool) -> range:
        served = range(self._next, limit)
        self._next = limit
        self.served += len(served)
        self.repeated += max(0, len(served) - 1)
        self.dropped += inside and not served
        return served


def select(grid: Grid, pts: Iterable[Fraction], frame_interval: Fraction) -> list[range]:
    """Return, for each frame of a whole video, the samples that it serves.

    Parameters
    ----------
    grid : Grid
        The samples wanted.
    pts : iterable of Fraction
        Timestamps of all frames in presentation order, in seconds from second 0.
    frame_interval : Fraction
        Nominal seconds from one frame to the next.
    """
    selector = Selector(grid, frame_interval)
    answers: list[range] = []
    frames = 0
    for time in pts:
        answers.append(selector.push(time))
        frames += 1
        if selector.done:
            break
    answers.append(selector.finish())
    return answers[1:] if frames else []


def windows(samples: int, sampling: Sampling) -> list[tuple[int, ...]]:
    """Return every window of a segment as sample numbers.

    Parameters
    ----------
    samples : int
        Samples the segment has (RGB frames, or flow frames for flow).
    sampling : Sampling
        Mode, window, stride, tail and the rule for short segments.

    Raises
    ------
    ValueError
        When the segment has no sample, is shorter than a window under ``short="fail"``, or ends
        in an unfilled window under ``tail="error"``.

    Examples
    --------
    >>> windows(3, Sampling(fps=None, window=5, stride=5))
    [(0, 1, 2, 0, 1)]
    >>> windows(5, Sampling(fps=None, window=2, stride=2, tail="re-anchor"))
    [(0, 1), (2, 3), (3, 4)]
    >>> windows(5, Sampling(fps=None, window=4, stride=2, mode="centred"))
    [(0, 0, 0, 1), (0, 1, 2, 3), (2, 3, 4, 4)]
    >>> windows(9, Sampling(fps=None, window=2, stride=1, mode="uniform", count=3))
    [(0, 1), (3, 4), (7, 8)]
    """
    if samples < 1:
        raise ValueError("the segment has no sample")
    if sampling.mode == "whole":
        return [tuple(range(samples))]
    if sampling.mode == "centred":
        half = sampling.window // 2
        return [
            tuple(min(max(k, 0), samples - 1) for k in range(c - half, c - half + sampling.window))
            for c in range(0, samples, sampling.stride)
        ]
    if samples < sampling.window:
        if sampling.short == "fail":
            raise ValueError(f"the segment has {samples} samples, one window has {sampling.window}")
        return [tuple(k % samples for k in range(sampling.window))] * max(1, sampling.count)
    if sampling.mode == "uniform":
        return [_run(start, sampling.window) for start in uniform_starts(samples, sampling)]
    return _dense(samples, sampling)


def uniform_starts(samples: int, sampling: Sampling) -> list[int]:
    """Return the starts of `sampling.count` windows spread evenly, both ends included."""
    last = samples - sampling.window
    if sampling.count == 1:
        return [last // 2]
    return [k * last // (sampling.count - 1) for k in range(sampling.count)]


def _run(start: int, length: int) -> tuple[int, ...]:
    return tuple(range(start, start + length))


def _dense(samples: int, sampling: Sampling) -> list[tuple[int, ...]]:
    full = (samples - sampling.window) // sampling.stride + 1
    found = [_run(k * sampling.stride, sampling.window) for k in range(full)]
    tail = tail_window(tuple(range(samples))[-sampling.window :], samples, sampling)
    return found if tail is None else [*found, tail]


def tail_window(last: Sequence[int], samples: int, sampling: Sampling) -> tuple[int, ...] | None:
    """Return the last, unfilled window completed by the tail rule, or None.

    Parameters
    ----------
    last : sequence of int
        The last `sampling.window` sample numbers of the segment.
    samples : int
        Samples of the segment, at least one window.
    """
    full = (samples - sampling.window) // sampling.stride + 1
    start = full * sampling.stride
    covered = (full - 1) * sampling.stride + sampling.window
    if covered >= samples or sampling.tail == "drop":
        return None
    if sampling.tail == "error":
        raise ValueError(
            f"{samples - covered} samples after the last full window; choose another tail rule"
        )
    if sampling.tail == "re-anchor":
        return tuple(last)
    if start >= samples:
        return None
    rest = tuple(k for k in last if k >= start)
    missing = sampling.window - len(rest)
    if sampling.tail == "repeat-last":
        return rest + (rest[-1],) * missing
    return tuple(rest[k % len(rest)] for k in range(sampling.window))
