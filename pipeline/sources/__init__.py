"""Where videos come from: a folder, tar archives, a web server, object storage, YouTube.

One ``--videos`` value is one source, recognised by what it begins with; several are tried in
order. A source is one module of this package (see ``_source`` for what it declares).

Examples
--------
>>> names()  # doctest: +SKIP
('fsspec', 'http', 'local', 'tar', 'youtube')
>>> videos = Sources(["videos", "https://host/{id}.mp4"], SourceOptions())  # doctest: +SKIP
>>> with videos.borrowed(segment) as located:  # doctest: +SKIP
...     decode.probe(located.path)
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from manifests._segment import Segment
from pipeline.errors import (
    AgeRestricted,
    Forbidden,
    GeoBlocked,
    Gone,
    MembersOnly,
    NotInMirror,
    NotVideo,
    Private,
    Removed,
    SegmentFailure,
    UsageError,
    VideoMissing,
)
from pipeline.sources._address import safe_name
from pipeline.sources._scratch import release, writing
from pipeline.sources._source import (
    Located,
    Sequential,
    Source,
    SourceOptions,
    check_is_one,
    trimmed_name,
    without_extension,
)

__all__ = [
    "ASK_THE_NEXT",
    "Located",
    "Sequential",
    "Source",
    "SourceOptions",
    "Sources",
    "check_is_one",
    "names",
    "open_source",
    "release",
    "safe_name",
    "syntax",
    "trimmed_name",
    "without_extension",
    "writing",
]

ASK_THE_NEXT = (
    *(VideoMissing, NotInMirror, Gone, Private, Removed, AgeRestricted, MembersOnly),
    *(GeoBlocked, Forbidden, NotVideo),
)
"""A source that answers so will not give the video; another may. What may pass is waited for."""


@cache
def names() -> tuple[str, ...]:
    """Return the names of all sources: the public modules of this package."""
    return tuple(
        sorted(found.name for found in iter_modules(__path__) if not found.name.startswith("_"))
    )


def syntax() -> dict[str, str]:
    """Return, for each source, how its ``--videos`` value is written."""
    return {name: _module(name).SYNTAX for name in names()}


def open_source(text: str, options: SourceOptions) -> Source:
    """Return the source that one ``--videos`` value names.

    Raises
    ------
    UsageError
        On an unknown scheme (the nearest ones are named), a folder that is not there, or a
        missing extra (the command that installs it is named).
    """
    schemes = {scheme: name for name in names() for scheme in _module(name).SCHEMES}
    beginning = [scheme for scheme in schemes if text.startswith(scheme)]
    chosen = max(beginning, key=len)  # the local source's "" is always there
    unknown = re.match(r"[a-z][a-z0-9+]+:", text)
    if not chosen and unknown:
        known = sorted(filter(None, schemes))
        near = difflib.get_close_matches(unknown[0], known, n=3) or known
        raise UsageError(
            f"--videos {text.partition('?')[0]!r} begins with {unknown[0]!r}, which no source "
            f"knows; did you mean {', '.join(near)}? (a folder of that name: ./{unknown[0]}…)"
        )
    source: Source = _module(schemes[chosen]).make(text, options)
    return source


class Sources:
    """Several sources, asked in the order given; travels to a worker as its texts and options.

    Parameters
    ----------
    texts : sequence of str
        ``--videos`` values, at least one.
    options : SourceOptions
        The same for all.

    Raises
    ------
    UsageError
        As `open_source`.
    """

    def __init__(self, texts: Sequence[str], options: SourceOptions) -> None:
        if not texts:
            raise UsageError("no --videos given; expected a folder or another source of videos")
        self.texts = tuple(texts)
        self.options = options
        self._members = tuple(open_source(text, options) for text in texts)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        """Travel as texts and options: indexes and connections are made anew where it arrives."""
        return type(self), (self.texts, self.options)

    @property
    def local(self) -> bool:
        """Whether every source is a cheap look-up, so that `locate` never downloads."""
        return all(source.local for source in self._members)

    def locate(self, segment: Segment) -> Located:
        """Return the segment's video from the first source that gives it.

        Raises
        ------
        SegmentFailure
            Of the last source asked: a source that will never give the video lets the next one
            try, a failure that may pass does not.
        """
        return _first(self._members, segment)

    def locate_on_disk(self, segment: Segment) -> Located:
        """Ask the local sources only: no network, cheap enough for plan time.

        Raises
        ------
        VideoMissing, Ambiguous
            As a local source does; with a remote source in the list, a missing video is then
            one to be brought by `locate` on a worker.
        """
        return _first([source for source in self._members if source.local], segment)

    def release(self, located: Located) -> None:
        """Delete a download after use, which gives its bytes back to the scratch budget."""
        if located.scratch:
            release(located.path)

    @contextmanager
    def borrowed(self, segment: Segment) -> Iterator[Located]:
        """Locate for the length of a block, and release at its end."""
        located = self.locate(segment)
        try:
            yield located
        finally:
            self.release(located)


def _first(members: Sequence[Source], segment: Segment) -> Located:
    failure: SegmentFailure = VideoMissing("no local source is given")
    for source in members:
        try:
            return source.locate(segment)
        except ASK_THE_NEXT as refusal:
            failure = refusal
    raise failure


@cache
def _module(name: str) -> ModuleType:
    return import_module(f"{__name__}.{name}")
