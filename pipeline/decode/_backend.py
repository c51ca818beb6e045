"""What a decoder backend is: a module with ``probe`` and ``decode``. One file adds one.

Backends are the public modules of this package, found by looking; a dotted name is the path of a
module elsewhere (another distribution's, or a test's decoder that hangs).
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fractions import Fraction
from pathlib import Path
from typing import Protocol, cast

from pipeline.decode._video import DecodeOptions, Limits, VideoInfo
from pipeline.errors import UsageError
from pipeline.pixels import Picture
from pipeline.sampling import Grid, Selector

WORTH_SKIPPING = Fraction(4, 5)
"""Frames are skipped only where every request samples slower than this part of the video's rate."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """One frame in presentation order.

    Attributes
    ----------
    seconds : Fraction
        Presentation time from second 0; never less than the frame's before.
    picture : callable or None
        Gives the picture; called only for frames that are wanted, before the next frame is asked
        for. None for a frame that `Wishes` said nobody wants and that was not decoded.
    """

    seconds: Fraction
    picture: Callable[[], Picture] | None


class Follower:
    """A `Selector` that may be pushed past its end, as others of the same pass go on."""

    def __init__(self, grid: Grid, info: VideoInfo) -> None:
        self.selector = Selector(grid, info.frame_interval)
        self._finished = False

    def push(self, seconds: Fraction) -> range:
        """Take the next frame's time; return the samples that the frame before it serves."""
        return self.finish() if self.selector.done else self.selector.push(seconds)

    def finish(self) -> range:
        """Return the samples that the last frame serves."""
        if self._finished:
            return range(0)
        self._finished = True
        return self.selector.finish()


def followers(grids: Sequence[Grid], info: VideoInfo) -> list[Follower]:
    """Return one fresh follower for each grid."""
    return [Follower(grid, info) for grid in grids]


class Wishes:
    """Which frames are wanted: what a backend may use to seek and to leave frames undecoded.

    Parameters
    ----------
    grids : sequence of Grid
        Of all requests.
    info : VideoInfo
        The video.
    may_skip : bool
        False asks for every frame from the start on, wanted or not.

    Attributes
    ----------
    info : VideoInfo
        The video.
    start : Fraction
        The earliest time of any grid.
    sparse : bool
        Every request samples well below the video's rate.
    """

    def __init__(self, grids: Sequence[Grid], info: VideoInfo, may_skip: bool = True) -> None:
        self.start = min(grid.start for grid in grids)
        rates = [grid.fps for grid in grids]
        bound = info.nominal_fps * WORTH_SKIPPING
        self.sparse = may_skip and all(rate is not None and rate <= bound for rate in rates)
        self._grids = grids
        self.info = info

    def judge(self) -> Judge:
        """Return a judge that has seen no frame yet."""
        return Judge(followers(self._grids, self.info))


class Judge:
    """Tells from timestamps alone which frames are wanted, as `Selector` does for one grid."""

    def __init__(self, following: Sequence[Follower]) -> None:
        self._following = following

    def push(self, seconds: Fraction) -> bool:
        """Take the next frame's time; tell whether the frame before it is wanted."""
        return any([follower.push(seconds) for follower in self._following])

    def finish(self) -> bool:
        """Tell whether the last frame is wanted."""
        return any([follower.finish() for follower in self._following])


class Backend(Protocol):
    """What a backend module offers."""

    def probe(self, path: Path, limits: Limits) -> VideoInfo:
        """Read header and first frame; refuse by a `SegmentFailure` what cannot be decoded."""
        ...

    def decode(
        self, path: Path, info: VideoInfo, wishes: Wishes, options: DecodeOptions
    ) -> Iterator[Decoded]:
        """Yield frames in presentation order, one of them at or before ``wishes.start`` if any.

        Raises `DecodeError` where the file is damaged and `Timeout` where the decoder stalls.
        """
        ...


def names() -> tuple[str, ...]:
    """Return the names of the backends of this package."""
    modules = pkgutil.iter_modules([str(Path(__file__).parent)])
    return tuple(sorted(module.name for module in modules if not module.name.startswith("_")))


def load(name: str) -> Backend:
    """Return a backend by name, or by the dotted path of its module.

    Raises
    ------
    UsageError
        When there is none of that name, with the nearest ones that are.
    """
    if "." in name:
        try:
            return cast(Backend, importlib.import_module(name))
        except ModuleNotFoundError as error:
            raise UsageError(f"decoder {name!r} cannot be imported: {error}") from error
    if name not in names():
        near = get_close_matches(name, names()) or names()
        raise UsageError(f"decoder is {name!r}, expected one of {', '.join(near)}")
    return cast(Backend, importlib.import_module(f"pipeline.decode.{name}"))
