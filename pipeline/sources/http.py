"""A web server: ``https://host/{id}_{start:06d}_{end:06d}.mp4``, resumed, checked and polite.

The template says what the server holds: with ``{start}`` or ``{end}`` in it a file is the segment
alone, without them the full video (``trimmed:https://…`` declares that it is trimmed all the same).
``{url}`` takes the address from the manifest. Downloads go through `_download` (resume, tries),
`_http` (checks) and `_pace` (manners); a plain HTTP mirror needs no more than that, and fsspec's
HTTP file system has neither tries nor resume.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from manifests._segment import Segment
from pipeline.sources._address import redacted
from pipeline.sources._download import download
from pipeline.sources._http import Client, Reply
from pipeline.sources._remote import Remote, check_template, delivered, filled
from pipeline.sources._scratch import release
from pipeline.sources._source import Located, Source, SourceOptions, extension_of

SCHEMES = ("http://", "https://", "trimmed:http://", "trimmed:https://", "{url}")
SYNTAX = "https://HOST/{id}_{start:06d}_{end:06d}.mp4: a web server; {url}: as the manifest says"

TRIMMED = "trimmed:"
OTHERWISE = ".mp4"
"""Extension of a file whose address has none; decoders look at the content."""


class HttpSource:
    """Videos of a web server, under names made from a template.

    Parameters
    ----------
    text : str
        The template, with ``trimmed:`` before it or not.

    Raises
    ------
    UsageError
        When the template has unknown fields or none.
    """

    local = False

    def __init__(self, text: str, options: SourceOptions) -> None:
        self.template = text.removeprefix(TRIMMED)
        self._names_segments = check_template(self.template)
        self.trimmed = self._names_segments or self.template != text
        self._remote = Remote(options)

    def __reduce__(self) -> tuple[object, tuple[str, SourceOptions]]:
        """Travel as text and options."""
        return make, (f"{TRIMMED if self.trimmed else ''}{self.template}", self._remote.options)

    @cached_property
    def _client(self) -> Client:
        return Client(self._remote.options, self._remote.accounts, self._remote.manners)

    def locate(self, segment: Segment) -> Located:
        """Download the segment's file.

        Raises
        ------
        SegmentFailure
            `Gone`, `Forbidden`, `RateLimited`, `NetworkError`, `CutShort`, `Timeout`, `NotVideo`,
            `TooLarge`, `Blocked` and their kin, as the server answers.
        """
        url = filled(self.template, segment)
        place = _Place(self._remote, extension_of(redacted(url)) or OTHERWISE)
        try:
            path, reply = download(self._client, url, self._remote.parts, place.admit)
        except BaseException:
            place.give_up()
            raise
        bare = self.trimmed and not self._names_segments
        return delivered(place.take(path, reply), trimmed=self.trimmed, bare=bare)


class _Place:
    """The scratch space of one download, reserved once its size is known."""

    def __init__(self, remote: Remote, extension: str) -> None:
        self._remote = remote
        self._extension = extension
        self._path: Path | None = None

    def admit(self, size: int | None) -> None:
        """Reserve room; a further try of the same download has it already."""
        if self._path is None:
            self._path = self._remote.room(size, self._extension)

    def give_up(self) -> None:
        """Give the room back."""
        if self._path is not None:
            release(self._path)

    def take(self, path: Path, reply: Reply) -> Path:
        """Move a whole file to its reserved place and return that."""
        assert self._path is not None, f"{reply.url} was admitted before it was written"
        return path.replace(self._path)


def make(text: str, options: SourceOptions) -> Source:
    """Open a web server.

    Parameters
    ----------
    text : str
        A template with ``{id}``, ``{start:06d}``, ``{end:06d}``, ``{split}``; or ``{url}``.
    """
    return HttpSource(text, options)
