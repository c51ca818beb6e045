"""One archive, read from front to back: its video members, and whether it ended as it should.

``tarfile`` takes a header that is cut off or garbled, past the first, for the end of the archive. A
whole archive ends in a block of zeros, so that block is watched for: without it the archive is
damaged, and what is missing may have been in it. And ``tarfile`` reads a long name or a header of
further fields whole into memory, however long it says it is, so those have a limit here.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Protocol

from pipeline.errors import CutShort
from pipeline.sources._scratch import writing
from pipeline.sources._source import extension_of, without_extension

COPY_BYTES = 1 << 20
HEADER_BYTES = 1 << 20
IN_MEMORY = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
DAMAGE = (tarfile.TarError, EOFError, zlib.error, OSError, ValueError)


class Readable(Protocol):
    """What is read from front to back: a file, or a remote one."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, none at the end."""
        ...


class Member:
    """A member under the reading head: it is copied now or not in this pass.

    Attributes
    ----------
    name : str
        Without folders and extension.
    extension : str
        A video's, in lower case.
    size : int
        In bytes.
    damage : CutShort or None
        Why copying failed.
    """

    def __init__(self, shown: str, archive: tarfile.TarFile, info: tarfile.TarInfo) -> None:
        self._shown = shown
        self._archive = archive
        self._info = info
        self.name = bare_name(info.name)
        self.extension = extension_of(info.name)
        self.size = info.size
        self.damage: CutShort | None = None

    def copy(self, path: Path) -> None:
        """Write the member's bytes.

        Raises
        ------
        CutShort
            When the archive is damaged here.
        """
        with writing(path), path.open("wb") as target:
            try:
                for chunk in self._chunks():
                    target.write(chunk)
            except CutShort as failure:
                self.damage = failure
                raise

    def _chunks(self) -> Iterator[bytes]:
        with _damage(self._shown, f"within {self._info.name!r}"):
            source: IO[bytes] | None = self._archive.extractfile(self._info)
            assert source is not None, "only regular members come here"
            left = self.size
            while left:
                chunk = source.read(COPY_BYTES)
                if not chunk:
                    raise EOFError(f"{left} of its {self.size} bytes are missing")
                left -= len(chunk)
                yield chunk


def walk(stream: Readable, shown: str) -> Iterator[Member]:
    """Yield the regular members of an archive that have a video's extension.

    Parameters
    ----------
    stream : Readable
        The archive's bytes, compressed or not.
    shown : str
        Its name in messages.

    Raises
    ------
    CutShort
        When it is damaged; what came before was yielded.
    """
    ended = False

    class Watching(tarfile.TarInfo):
        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Watching:
            nonlocal ended
            ended = ended or (len(buf) == tarfile.BLOCKSIZE and not any(buf))
            header = super().frombuf(buf, encoding, errors)
            if header.type in IN_MEMORY and header.size > HEADER_BYTES:
                raise tarfile.ReadError(f"a header says that it has {header.size} bytes")
            return header

    read = 0
    with ExitStack() as stack:
        with _damage(shown, "at its beginning"):
            archive = stack.enter_context(
                tarfile.open(fileobj=stream, mode="r|*", tarinfo=Watching)  # type: ignore[call-overload]
            )
        while True:
            with _damage(shown, f"after {read} members"):
                info = archive.next()
                if info is None and not ended:
                    raise EOFError("it has no end mark")
            if info is None:
                return
            read += 1
            if info.isreg() and extension_of(info.name):
                member = Member(shown, archive, info)
                yield member
                if member.damage is not None:
                    raise member.damage


def bare_name(name: str) -> str:
    """Return the last part of a name, without a video's extension.

    Examples
    --------
    >>> bare_name("./train/-ab_000010_000020.mp4")
    '-ab_000010_000020'
    """
    return without_extension(name.rpartition("/")[2])


@contextmanager
def _damage(shown: str, place: str) -> Iterator[None]:
    try:
        yield
    except DAMAGE as error:
        raise CutShort(f"{shown} is damaged {place} ({error}); bring it anew") from error
