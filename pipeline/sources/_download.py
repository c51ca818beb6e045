"""Bringing one file whole: resumed where it broke off, tried again where that may help.

What has come is kept beside a note of which version it belongs to (ETag or date). The next try asks
for the rest with ``If-Range``; a server that has another version by then, or that does not keep to
the rules, makes it begin anew, so bytes of two versions are never joined.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import random
import time
import uuid
from collections.abc import Callable, Iterator
from io import BufferedWriter
from pathlib import Path

from pipeline.errors import CutShort, NetworkError, RateLimited, Timeout
from pipeline.sources._address import redacted
from pipeline.sources._http import Client, Reply
from pipeline.sources._scratch import writing

MAY_PASS = (NetworkError, CutShort, Timeout)
LONGEST_BACKOFF_SECONDS = 60.0


def backoff(attempt: int, base_seconds: float) -> float:
    """Return the pause before try `attempt` + 1: doubled each time, with jitter, at most a minute.

    Jitter keeps workers that failed together from coming back together.
    """
    longest = min(base_seconds * 2.0**attempt, LONGEST_BACKOFF_SECONDS)
    return random.uniform(longest / 2, longest)


def download(
    client: Client, url: str, folder: Path, admit: Callable[[int | None], None]
) -> tuple[Path, Reply]:
    """Bring a file.

    Parameters
    ----------
    folder : Path
        Where an unfinished file stands, and is found again by the next try or run.
    admit : callable
        Called with the size, None if unknown, before the first byte is written; it may wait for
        room, or raise.

    Returns
    -------
    path : Path
        The whole file, under a name of no meaning; to be moved to its place.
    reply : Reply
        The last reply: where it came from.

    Raises
    ------
    SegmentFailure
        Of the last try.
    """
    options = client.options
    until = time.monotonic() + options.deadline_seconds
    failures = pauses = 0
    with _Part(folder, url) as part:
        while True:
            try:
                reply = client.get(url, offset=part.size, validator=part.validator, until=until)
                try:
                    part.receive(reply, admit)
                finally:
                    reply.close()
                return part.finished(), reply
            except RateLimited:  # the pause itself is waited out, or refused, by the next get
                pauses += 1
                if pauses >= options.attempts:
                    raise
            except MAY_PASS:
                failures += 1
                if failures >= options.attempts or time.monotonic() > until:
                    raise
                time.sleep(backoff(failures - 1, options.backoff_seconds))


class Stream:
    """A remote file read from front to back, once, across broken connections.

    Parameters
    ----------
    client : Client
        Who asks.
    url : str
        The file.
    """

    def __init__(self, client: Client, url: str) -> None:
        self._client = client
        self._url = url
        self._position = 0
        self._validator = ""
        self._failures = 0
        self._reply: Reply | None = None
        self._chunks: Iterator[bytes] = iter(())
        self._rest = b""

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes, none at the end.

        Raises
        ------
        SegmentFailure
            When the rest cannot be had, or belongs to another version.
        """
        while not self._rest:
            try:
                if self._reply is None:
                    self._connect()
                chunk = next(self._chunks, b"")
            except MAY_PASS:
                self._failures += 1
                self.close()
                if self._failures >= self._client.options.attempts:
                    raise
                time.sleep(backoff(self._failures - 1, self._client.options.backoff_seconds))
                continue
            if not chunk:
                return b""
            self._failures = 0
            self._position += len(chunk)
            self._rest = chunk
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece

    def close(self) -> None:
        """Give the connection up."""
        if self._reply is not None:
            self._reply.close()
            self._reply = None

    def _connect(self) -> None:
        until = time.monotonic() + self._client.options.deadline_seconds
        reply = self._client.get(
            self._url, offset=self._position, validator=self._validator, until=until
        )
        same = (reply.offset, reply.validator) == (self._position, self._validator)
        if self._position and not (same and self._validator):
            reply.close()
            raise CutShort(
                f"{redacted(self._url)} changed while it was read, or does not say its version; "
                "begin it anew"
            )
        self._validator = reply.validator
        self._reply = reply
        self._chunks = reply.chunks()


class _Part:
    """An unfinished file with the note of its version; locked while it is written."""

    def __init__(self, folder: Path, url: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.url = url
        self._is_shared = True
        self._is_finished = False
        self.path = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.part"

    def __enter__(self) -> _Part:
        self._file = self._locked() or self._another()
        self._note = self.path.with_suffix(".note")
        try:
            self.validator = str(json.loads(self._note.read_text())["validator"])
        except (OSError, ValueError, KeyError, TypeError):
            self.validator = ""
        if not self.validator:
            self.forget()
        return self

    def __exit__(self, *_: object) -> None:
        can_be_resumed = self.validator and self._is_shared
        if not can_be_resumed and not self._is_finished:  # its name may be another's by then
            self.path.unlink(missing_ok=True)
            self._note.unlink(missing_ok=True)
        self._file.close()

    @property
    def size(self) -> int:
        """Bytes that are here."""
        return self._file.tell()

    def forget(self) -> None:
        """Begin anew."""
        self._file.truncate(0)
        self._file.seek(0)
        self._note.unlink(missing_ok=True)
        self.validator = ""

    def receive(self, reply: Reply, admit: Callable[[int | None], None]) -> None:
        """Append a reply's body, or begin anew where the server does.

        Raises
        ------
        CutShort
            When the reply does not fit what is here, or ends too early.
        """
        if reply.offset < 0 or (reply.offset > 0 and reply.validator != self.validator):
            self.forget()
            raise CutShort(f"{redacted(self.url)} has changed since it was begun; it begins anew")
        if reply.offset != self.size:
            self.forget()
        admit(reply.total)
        if reply.validator != self.validator:
            self.validator = reply.validator
            self._note.write_text(json.dumps({"validator": self.validator}))
        try:
            for chunk in reply.chunks():
                with writing(self.path):
                    self._file.write(chunk)
                    self._file.flush()  # what has come outlives the process
        except MAY_PASS:
            if not self.validator:
                self.forget()
            raise

    def finished(self) -> Path:
        """Return the file under a name that no other try takes."""
        whole = self.path.with_name(f"{uuid.uuid4().hex}.whole")
        self._note.unlink(missing_ok=True)
        self.path.replace(whole)
        self._is_finished = True
        return whole

    def _locked(self) -> BufferedWriter | None:
        """Open and lock the file, unless another worker is writing it."""
        while True:
            file = self.path.open("ab")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(file.fileno()), self.path.stat()):
                    return file
            except BlockingIOError:
                file.close()
                return None
            except FileNotFoundError:
                pass
            file.close()  # finished by another worker between opening and locking

    def _another(self) -> BufferedWriter:
        """Open a file of our own, which no later try finds: two workers do not share a pen."""
        self._is_shared = False
        self.path = self.path.with_name(f"{uuid.uuid4().hex}.part")
        return self.path.open("ab")
