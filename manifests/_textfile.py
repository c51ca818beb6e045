"""Text files as they come from the world: compressed or not, any line ends, with or without BOM.

Bytes that are not UTF-8 do not stop a reading: they become lone surrogates, which no field check
lets through, so just the row that holds them is refused, with its line.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TextIO, cast

from manifests._errors import ManifestError

HEAD_CHARACTERS = 8192
LONGEST_LINE = 1 << 20  # characters; beyond it the file is no list, and memory must stay bounded
COMPRESSED: dict[str, Callable[[Path], IO[bytes]]] = {
    ".gz": cast(Callable[[Path], IO[bytes]], gzip.GzipFile),
    ".bz2": cast(Callable[[Path], IO[bytes]], bz2.BZ2File),
    ".xz": cast(Callable[[Path], IO[bytes]], lzma.LZMAFile),
}
UTF16_MARKS = ("\udcff\udcfe", "\udcfe\udcff")


@contextmanager
def open_text(path: Path, newline: str | None = None) -> Iterator[TextIO]:
    """Open a text file for reading, through gzip, bzip2 or xz by its suffix.

    Parameters
    ----------
    path : Path
        The file.
    newline : str or None
        As for `open`: None makes every line end a line feed, csv wants ``""``.

    Raises
    ------
    ManifestError
        When the file is absent, unreadable, or its compressed data are damaged.
    """
    try:
        with COMPRESSED.get(path.suffix.lower(), _open_plain)(path) as raw:
            yield io.TextIOWrapper(raw, "utf-8-sig", errors="surrogateescape", newline=newline)
    except FileNotFoundError as error:
        raise ManifestError(str(path), "there is no such file", "check the path") from error
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise ManifestError(
            str(path), f"reading stopped: {error}", "check permissions, or fetch the file again"
        ) from error


def _open_plain(path: Path) -> IO[bytes]:
    return path.open("rb")


@contextmanager
def written_whole(path: Path) -> Iterator[TextIO]:
    """Open a text file for writing that appears under its name only when it is complete."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with unfinished.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            yield file
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def head(path: Path) -> str:
    """Return the first `HEAD_CHARACTERS` of a text file, nothing for a folder.

    Raises
    ------
    ManifestError
        When it is not UTF-8 text: UTF-16, or binary.
    """
    if path.is_dir():
        return ""
    with open_text(path) as file:
        text = file.read(HEAD_CHARACTERS)
    if text.startswith(UTF16_MARKS):
        raise ManifestError(path.name, "the text is UTF-16, expected UTF-8", "save it as UTF-8")
    if "\0" in text:
        raise ManifestError(path.name, "the file is binary, expected text", "name a list or folder")
    return text


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield ``(line number, text)`` of every line that is not blank, without its line end."""
    with open_text(path) as file:
        for number, line in enumerate(raw_lines(path, file), start=1):
            text = line.strip()
            if text:
                yield number, text


def raw_lines(path: Path, file: TextIO) -> Iterator[str]:
    """Yield the lines of an open file as they are.

    Raises
    ------
    ManifestError
        At a line longer than `LONGEST_LINE`.
    """
    number = 0
    while line := file.readline(LONGEST_LINE):
        number += 1
        if len(line) == LONGEST_LINE:
            raise ManifestError(
                f"{path.name}:{number}",
                f"the line is longer than {LONGEST_LINE} characters",
                "name a list with a segment a line",
            )
        yield line
