"""Putting a whole file in its place, once: the only way anything enters a store.

The bytes go to a temporary name in the same folder, then ``fsync``, then ``os.link`` to the final
name, then ``fsync`` of the folder. A link refuses when the name is taken, so of several attempts
the first wins, and a process killed at any instruction leaves either nothing or everything under
the final name. HDF5 itself never calls ``fsync`` and does not survive a killed writer.

File systems without hard links (some FUSE and SMB mounts) go through a claim: ``NAME.claim`` is
created exclusively, the temporary file is renamed, the claim is removed. Whoever finds a claim
waits for its end; a claim that outlasts `CLAIM_SECONDS` belonged to a process that died, and its
name counts as taken.
"""

from __future__ import annotations

import errno
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import DiskFull, StoreError
from pipeline.store import faults

TEMPORARY_SUFFIX = ".tmp"
CLAIM_SUFFIX = ".claim"
STALE_SECONDS = 3600.0
CLAIM_SECONDS = 30.0
POLL_SECONDS = 0.05

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_NO_RIGHT = {errno.EACCES, errno.EPERM, errno.EROFS}


def publish(content: bytes | memoryview, final: Path) -> None:
    """Write a file that did not exist, atomically and durably.

    Parameters
    ----------
    content : bytes-like
        The whole file.
    final : Path
        Its name; the folder exists.

    Raises
    ------
    FileExistsError
        When the name is taken: another attempt won, and nothing was changed.
    DiskFull
        When there is no room; nothing was published and the temporary file is gone.
    StoreError
        When the folder may not be written.
    """
    with _room(final, len(content)), _temporary(content, final) as temporary:
        _name_once(temporary, final)
        faults.reach("after_link")
        _sync_folder(final.parent)


def replace(content: bytes | memoryview, final: Path) -> None:
    """Write a derived file over the one before it, atomically.

    Raises
    ------
    DiskFull
        When there is no room; the file before it is untouched.
    StoreError
        When the folder may not be written.
    """
    with _room(final, len(content)), _temporary(content, final) as temporary:
        os.replace(temporary, final)


def make_folder(folder: Path) -> None:
    """Make a folder, with those above it, unless it is there.

    Raises
    ------
    StoreError
        When it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise StoreError(f"{folder}: a file is in its way; choose another folder") from error
    except OSError as error:
        raise not_writable(folder, error) from error


def temporary_name(final: Path) -> Path:
    """Return a name beside `final` that no other process uses, for a file being written."""
    unique = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex}"
    return final.with_name(f".{final.name}.{unique}{TEMPORARY_SUFFIX}")


def leftovers(folder: Path) -> list[Path]:
    """Return the temporary and claim files of a folder, of running and of dead processes."""
    with os.scandir(folder) as entries:
        return sorted(
            Path(entry.path)
            for entry in entries
            if entry.name.endswith(CLAIM_SUFFIX)
            or (entry.name.startswith(".") and entry.name.endswith(TEMPORARY_SUFFIX))
        )


def is_stale(path: Path) -> bool:
    """Tell whether a temporary file is older than any commit can be."""
    try:
        return time.time() - path.stat().st_mtime > STALE_SECONDS
    except FileNotFoundError:
        return False


def sweep(folder: Path) -> list[Path]:
    """Remove what dead processes left behind, judged by age; return what was removed.

    Raises
    ------
    StoreError
        When the folder may not be written.
    """
    stale = [path for path in leftovers(folder) if is_stale(path)]
    for path in stale:
        remove(path)
    return stale


def remove(path: Path) -> None:
    """Remove a file, unless another process was faster.

    Raises
    ------
    StoreError
        When its folder may not be written.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise not_writable(path.parent, error) from error


@contextmanager
def _temporary(content: bytes | memoryview, final: Path) -> Iterator[Path]:
    """Give a durable file beside `final` that is gone afterwards."""
    temporary = temporary_name(final)
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            faults.reach("after_tmp_write")
            file.flush()
            os.fsync(file.fileno())
        faults.reach("after_fsync")
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _room(final: Path, size: int) -> Iterator[None]:
    """Turn the errors of a full disk into `DiskFull`, of a read-only one into `StoreError`."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_RIGHT:
            raise not_writable(final.parent, error) from error
        if error.errno not in _NO_ROOM:
            raise
        raise DiskFull(
            f"{final.parent}: no room for {size} bytes of {final.name}; nothing was published, "
            "free some space and run the same command again"
        ) from error


def not_writable(folder: Path, error: OSError) -> StoreError:
    """Return the error that says that a folder cannot be written."""
    return StoreError(
        f"{folder}: cannot be written ({error.strerror}); make it writable, or choose another "
        "folder"
    )


def _name_once(temporary: Path, final: Path) -> None:
    try:
        os.link(temporary, final)
    except FileExistsError:
        if temporary.stat().st_nlink < 2:  # else NFS repeated a link that had succeeded
            raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _claim(final, lambda: os.replace(temporary, final))


def _claim(final: Path, put: Callable[[], None]) -> None:
    """Run `put` unless the name is taken, on file systems that cannot link."""
    claim = final.with_name(final.name + CLAIM_SUFFIX)
    try:
        os.close(os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        _await_claim(claim)
        raise FileExistsError(errno.EEXIST, "claimed by another attempt", str(final)) from None
    try:
        if final.exists():
            raise FileExistsError(errno.EEXIST, "another attempt won", str(final))
        faults.reach("after_claim")
        put()
    finally:
        claim.unlink(missing_ok=True)


def _await_claim(claim: Path) -> None:
    deadline = time.monotonic() + CLAIM_SECONDS
    while claim.exists() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # some network file systems refuse fsync on a folder
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
