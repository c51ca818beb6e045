"""Scratch space for downloads, under one budget for all processes of a machine.

A million videos pass through a disk that holds a few hundred: a download first reserves its bytes,
waits while others hold them, and gives them back when its file is released. Each process has a
folder of its own below the scratch folder, with a lock that ends with the process, so what a
killed worker left behind is recognised and removed by whoever needs room next. Reservations are
small files beside the downloads: the disk is the only truth, and no server keeps count.
"""

from __future__ import annotations

import atexit
import errno
import fcntl
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import DiskFull, TooLarge

FOLDER = f"action-features-scratch-{os.getuid()}"
POLL_SECONDS = 0.1
RESERVED = ".reserved"
LOCK = ".lock"


class Scratch:
    """A process's share of the scratch folder.

    Parameters
    ----------
    folder : Path or None
        Shared by all processes of this machine and of one user; None takes one under the
        system's temporary folder.
    budget_bytes : int
        Most bytes that may be reserved at a time, over all processes.
    """

    def __init__(self, folder: Path | None, budget_bytes: int) -> None:
        self.root = folder or Path(tempfile.gettempdir()) / FOLDER
        self.budget_bytes = budget_bytes
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.root.stat().st_uid != os.getuid():
            raise DiskFull(f"scratch folder {self.root} belongs to another user; give another one")
        with self._turn():
            self.own = Path(tempfile.mkdtemp(prefix="process-", dir=self.root))
            self._alive = os.open(self.own / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(self._alive, fcntl.LOCK_EX)
        self._owner = os.getpid()
        atexit.register(self.close)

    def close(self) -> None:
        """Remove this process's folder with all that is in it; done at exit at the latest."""
        atexit.unregister(self.close)
        if os.getpid() == self._owner:  # and not a fork of it
            shutil.rmtree(self.own, ignore_errors=True)
        os.close(self._alive)

    def reserve(self, size: int, *, extension: str, wait_seconds: float) -> Path:
        """Return the path of a file to be written, once there is room for `size` bytes.

        Raises
        ------
        TooLarge
            When the whole budget would not hold it.
        DiskFull
            When no room came free in `wait_seconds`; the work is to be handed back.
        """
        if size > self.budget_bytes:
            raise TooLarge(
                f"{size} bytes do not fit the scratch budget of {self.budget_bytes}; "
                "give more with --scratch-bytes"
            )
        path = self.own / f"{uuid.uuid4().hex}{extension}"
        until = time.monotonic() + wait_seconds
        while not self._reserved(path, size):
            if time.monotonic() > until:
                raise DiskFull(
                    f"no {size} bytes of scratch space in {self.root} came free in "
                    f"{wait_seconds:.0f} s; give more with --scratch-bytes or use fewer workers"
                )
            time.sleep(POLL_SECONDS)
        return path

    def _reserved(self, path: Path, size: int) -> bool:
        with self._turn():
            self._remove_the_dead()
            if self.used_bytes() + size > self.budget_bytes:
                return False
            path.with_name(path.name + RESERVED).write_text(str(size))
            return True

    def used_bytes(self) -> int:
        """Bytes reserved now, over all processes."""
        total = 0
        for reservation in self.root.glob(f"process-*/*{RESERVED}"):
            try:
                total += int(reservation.read_text() or 0)
            except FileNotFoundError:  # released meanwhile
                continue
        return total

    def _remove_the_dead(self) -> None:
        for folder in self.root.glob("process-*"):
            if folder != self.own and _is_dead(folder):
                shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Hold the lock that processes take turns by."""
        descriptor = os.open(self.root / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a full disk into `DiskFull` while `path` is written."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                f"no room on the disk of {path.parent}: {error.strerror}; free some space and run "
                "the same command again"
            ) from error
        raise


def _is_dead(folder: Path) -> bool:
    """Whether nobody holds the lock of a process's folder."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def release(path: Path) -> None:
    """Delete a scratch file and its reservation."""
    path.unlink(missing_ok=True)
    path.with_name(path.name + RESERVED).unlink(missing_ok=True)
