"""Archives of videos, as CVDF publishes Kinetics: ``tar:DIR``, ``tar:FILE.tar.gz``, ``tar:https://…``.

A compressed archive has no random access, so it is read from front to back, once. ``pipeline
fetch`` does just that, one part a task, and is the way for a part of a list or for many workers.
`TarSource.locate` serves ``extract`` from the same stream: what it passes on its way to the wanted
member is staged in scratch space while the budget holds, so a budget as large as the archives makes
one pass of each in every worker process; with less, members are passed over and their part is read
again later, which is logged.

Members are found by the last part of their name: ``ID_000010_000020.mp4`` is that segment, a bare
``ID.mp4`` the full video (``trimmed:tar:`` declares it trimmed). Archives with *replacement* in
their name come first, so CVDF's ``replacement_for_corrupted_k400.tgz`` overrides the parts. Only
regular files with a video's extension count; no member's name ever becomes a path. A ``.txt`` is a
list of archives, one address a line.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import IO
from urllib.parse import urljoin

from manifests._segment import Segment
from pipeline.errors import (
    CutShort,
    DiskFull,
    NotInMirror,
    NotVideo,
    SegmentFailure,
    TooLarge,
    UsageError,
)
from pipeline.sources._address import redacted
from pipeline.sources._archive import COPY_BYTES, Member, bare_name, walk
from pipeline.sources._download import Stream
from pipeline.sources._http import Client
from pipeline.sources._remote import Remote, delivered
from pipeline.sources._scratch import release
from pipeline.sources._source import (
    Located,
    Source,
    SourceOptions,
    trimmed_name,
)

SCHEMES = ("tar:", "trimmed:tar:")
SYNTAX = "tar:DIR, tar:FILE.tar.gz, tar:https://HOST/list.txt: archives of ID_SSSSSS_EEEEEE videos"

REMOTE = ("http://", "https://")
SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
OVERRIDES = "replacement"
LIST_BYTES = 1 << 24

log = logging.getLogger(__name__)


class TarSource:
    """Videos inside archives.

    Parameters
    ----------
    text : str
        What follows ``tar:``: a folder, an archive, a list, or an address of the last two.
    trimmed : bool
        Whether members under bare names are trimmed.

    Raises
    ------
    UsageError
        When there is no archive.
    """

    local = False

    def __init__(self, text: str, options: SourceOptions, *, trimmed: bool = False) -> None:
        self._text = text
        self._trimmed = trimmed
        self._remote = Remote(options)
        self._shelf = _Shelf(self._remote)
        self._turn = threading.Lock()
        self._part_of: dict[str, str] = {}
        self._damaged: list[str] = []
        if not text.startswith(REMOTE):
            self.parts()

    def __reduce__(self) -> tuple[object, tuple[str, SourceOptions]]:
        """Travel as text and options."""
        scheme = "trimmed:tar:" if self._trimmed else "tar:"
        return make, (scheme + self._text, self._remote.options)

    @cached_property
    def _client(self) -> Client:
        return Client(self._remote.options, self._remote.accounts, self._remote.manners)

    def parts(self) -> tuple[tuple[str, ...], ...]:
        """Return the archives: those that override first, then the others.

        Raises
        ------
        UsageError
            When there is none.
        """
        if self._text.startswith(REMOTE):
            found = self._listed() if self._text.endswith(".txt") else [self._text]
        else:
            found = _archives(Path(self._text))
        first = tuple(part for part in found if OVERRIDES in part.rpartition("/")[2].lower())
        return tuple(filter(None, (first, tuple(part for part in found if part not in first))))

    def members(self, part: str, names: Mapping[str, bool]) -> Iterator[tuple[str, Located]]:
        """Read one archive once and yield the wanted members.

        Parameters
        ----------
        names : Mapping of str to bool
            Names without folders and extension, and whether each is a segment's own.

        Yields
        ------
        name : str
            The member's.
        located : Located
            In scratch space; to be released before many others are asked for.

        Raises
        ------
        SegmentFailure
            `CutShort` when the archive is damaged: what came before was yielded.
        """
        shelf = _Shelf(self._remote)  # parts may be read side by side
        for member in self._walk(part):
            if member.name not in names:
                continue
            try:
                shelf.put(member, patient=True)
            except (NotVideo, TooLarge) as failure:
                log.warning("%s: %s", redacted(part), failure)
            else:
                path = shelf.take(member.name)
                yield member.name, self._delivered(path, is_own=names[member.name])

    def locate(self, segment: Segment) -> Located:
        """Return the segment's member, reading on until it comes.

        Raises
        ------
        SegmentFailure
            `NotInMirror`; `NotVideo` for an empty member; `CutShort` when it is not in what could
            be read of a damaged archive.
        """
        own = trimmed_name(segment)
        names = [bare_name(name) for name in (own, segment.video) if name]
        with self._turn:
            found = self._found(names)
            is_own = own is not None and found == names[0]
            return self._delivered(self._shelf.take(found), is_own=is_own)

    def _delivered(self, path: Path, *, is_own: bool) -> Located:
        """Return a member's file; its own name, or ``trimmed:``, says that it is trimmed."""
        trimmed = is_own or self._trimmed
        return delivered(path, trimmed=trimmed, bare=trimmed and not is_own)

    def _found(self, names: list[str]) -> str:
        """Bring one of the names to the shelf, and return it."""
        for name in names:
            if name in self._shelf:
                return name
        for name in names:
            if name in self._part_of:
                return self._again(name)
        for part, member in self._passing:
            self._part_of[member.name] = part
            if member.name in names:
                self._shelf.put(member, patient=True)
                return member.name
            try:
                self._shelf.put(member, patient=False)
            except (NotVideo, TooLarge, DiskFull, CutShort) as failure:
                log.debug("%s is passed over: %s", member.name, failure)  # its turn says why
        raise self._refusal(names[0])

    def _again(self, wanted: str) -> str:
        """Read a part once more for a member that was passed over or used already."""
        part = self._part_of[wanted]
        log.warning(
            "%s is read again for %s: give a --scratch-bytes of its unpacked size, or run "
            "`pipeline fetch` first", redacted(part), wanted,
        )  # fmt: skip
        for member in self._walk(part):
            if member.name == wanted:
                self._shelf.put(member, patient=True)
                return wanted
        raise CutShort(f"{redacted(part)} held {wanted} before and does not now")

    def _refusal(self, name: str) -> SegmentFailure:
        if self._damaged:
            return CutShort(f"{name} is in no archive, but {self._damaged[0]}")
        return NotInMirror(f"{name} is in none of the archives of tar:{redacted(self._text)}")

    @cached_property
    def _passing(self) -> Iterator[tuple[str, Member]]:
        """Every part's members, once, skipping what an earlier one holds already."""
        return self._all_members(self.parts())

    def _all_members(self, parts: tuple[tuple[str, ...], ...]) -> Iterator[tuple[str, Member]]:
        for part in chain(*parts):
            try:
                for member in self._walk(part):
                    if member.name not in self._part_of:
                        yield part, member
            except SegmentFailure as failure:  # of the part, not of one segment
                self._damaged.append(failure.detail)

    def _walk(self, part: str) -> Iterator[Member]:
        with self._opened(part) as stream:
            yield from walk(stream, redacted(part))

    def _opened(self, part: str) -> Stream | IO[bytes]:
        if part.startswith(REMOTE):
            return Stream(self._client, part)
        try:
            return Path(part).open("rb")
        except OSError as error:
            raise CutShort(f"{part} cannot be read: {error.strerror}") from error

    def _listed(self) -> list[str]:
        """Return the archives that a remote list names: remote ones, never a file of this disk."""
        text = b""
        with Stream(self._client, self._text) as stream:
            while chunk := stream.read(COPY_BYTES):
                text += chunk
                if len(text) > LIST_BYTES:
                    raise UsageError(
                        f"{redacted(self._text)} is longer than {LIST_BYTES} bytes; expected a "
                        "list of archives, one address a line"
                    )
        lines = [line.strip() for line in text.decode(errors="replace").splitlines()]
        found = [self._address(line) for line in lines if line.endswith(SUFFIXES)]
        if not found:
            raise UsageError(f"{redacted(self._text)} lists no archive ({', '.join(SUFFIXES)})")
        return found

    def _address(self, line: str) -> str:
        try:
            address = urljoin(self._text, line)
        except ValueError:
            address = ""
        if not address.startswith(REMOTE):
            raise UsageError(
                f"{redacted(self._text)} lists {line!r}; expected addresses of http or https"
            )
        return address


class _Shelf:
    """Members in scratch space, waiting to be asked for; the oldest make way."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._paths: dict[str, Path] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._paths

    def take(self, name: str) -> Path:
        """Return a member's file and leave it to the caller."""
        return self._paths.pop(name)

    def put(self, member: Member, *, patient: bool) -> None:
        """Copy a member to scratch.

        Raises
        ------
        NotVideo, TooLarge
            When it is empty or beyond the limits.
        CutShort
            When the archive is damaged here.
        DiskFull
            When there is no room; a `patient` caller has older members put away first.
        """
        if member.size == 0:
            raise NotVideo(f"{member.name} is empty (0 bytes) in the archive")
        options = self._remote.options
        if member.size > options.largest_bytes:
            raise TooLarge(f"{member.name} has {member.size} bytes, more than is accepted")
        path = self._room(member, patient)
        try:
            member.copy(path)
        except BaseException:
            release(path)
            raise
        self._paths[member.name] = path

    def _room(self, member: Member, patient: bool) -> Path:
        while True:
            try:
                wait = self._remote.options.deadline_seconds if not self._paths and patient else 0
                return self._remote.scratch.reserve(
                    member.size, extension=member.extension, wait_seconds=wait
                )
            except DiskFull:
                if not patient or not self._paths:
                    raise
                release(self._paths.pop(next(iter(self._paths))))


def _archives(path: Path) -> list[str]:
    """Return the archives that a folder holds, a list names, or the one given."""
    if path.is_dir():
        found = sorted(str(file) for file in path.iterdir() if file.name.endswith(SUFFIXES))
    elif path.suffix == ".txt" and path.is_file():
        lines = [line.strip() for line in path.read_text().splitlines()]
        found = [
            line if line.startswith(REMOTE) else str(path.parent / line)
            for line in lines
            if line.endswith(SUFFIXES)
        ]
        for part in found:
            if not part.startswith(REMOTE) and not Path(part).is_file():
                raise UsageError(
                    f"--videos tar:{path} lists {part}, which is not there; bring it, or take it "
                    "off the list"
                )
    else:
        found = [str(path)] if path.is_file() else []
    if not found:
        raise UsageError(
            f"--videos tar:{path} names no archive; expected a folder of {', '.join(SUFFIXES)}, "
            "one of them, or a .txt that lists them"
        )
    return found


def make(text: str, options: SourceOptions) -> Source:
    """Open archives.

    Parameters
    ----------
    text : str
        ``tar:`` with a folder, an archive, a list, or an address of the last two.
    """
    bare = text.removeprefix("trimmed:")
    return TarSource(bare.removeprefix("tar:"), options, trimmed=bare != text)
