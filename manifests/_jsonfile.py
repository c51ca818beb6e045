"""Members of a large JSON object one by one, with the line each begins at, in bounded memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from manifests._errors import ManifestError
from manifests._textfile import open_text

BLOCK_CHARACTERS = 1 << 16
LONGEST_VALUE = 1 << 24  # characters of one entry; beyond it the text is damaged
DECODER = json.JSONDecoder()


class _Window:
    """A stretch of a text file, from the next value on."""

    def __init__(self, file: TextIO) -> None:
        self.line = 1
        self._file = file
        self._text = ""
        self._at = 0

    def next_character(self) -> str:
        """Pass over white space; return the character after it, empty at the end of the file."""
        while True:
            while self._at < len(self._text) and self._text[self._at].isspace():
                self._advance(self._at + 1)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._grow():
                return ""

    def take(self, expected: str) -> str:
        """Return the next character and step over it; it must be one of `expected`."""
        found = self.next_character()
        if not found or found not in expected:
            raise json.JSONDecodeError(
                f"{found or 'the end of the file'!r}, expected {' or '.join(expected)}", "", 0
            )
        self._advance(self._at + 1)
        return found

    def value(self) -> Any:
        """Return the next JSON value, whole, and step over it."""
        self.next_character()
        while True:
            try:
                found, end = DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError:
                if self._grow():
                    continue
                raise
            if end == len(self._text) and self._grow():
                continue  # a number may go on
            self._advance(end)
            return found

    def _advance(self, to: int) -> None:
        self.line += self._text.count("\n", self._at, to)
        self._at = to

    def _grow(self) -> bool:
        self._text = self._text[self._at :]
        self._at = 0
        if len(self._text) > LONGEST_VALUE:
            raise ValueError(f"a value of more than {LONGEST_VALUE} characters")
        block = self._file.read(max(BLOCK_CHARACTERS, len(self._text)))
        self._text += block
        return bool(block)


def members(path: Path, within: str = "") -> Iterator[tuple[int, tuple[str, Any]]]:
    """Yield ``(line, (key, value))`` of the object that is a file, or of one of its members.

    Parameters
    ----------
    path : Path
        A file that holds one JSON object.
    within : str
        Yield the members of the object under this key; empty for those of the whole.

    Raises
    ------
    ManifestError
        Where the text is no JSON, ends early, or has no member `within`.
    """
    with open_text(path) as file:
        window = _Window(file)
        try:
            yield from _members(window, within)
        except (ValueError, RecursionError) as error:
            problem = error.msg if isinstance(error, json.JSONDecodeError) else error
            raise ManifestError(
                f"{path.name}:{window.line}", f"not JSON: {problem}", "fetch the file again"
            ) from error


def _members(window: _Window, within: str) -> Iterator[tuple[int, tuple[str, Any]]]:
    window.take("{")
    seen = not within
    while window.next_character() != "}":
        line = window.line
        key = window.value()
        window.take(":")
        if within and key == within:
            seen = True
            yield from _members(window, "")
        else:
            value = window.value()
            if not within:
                yield line, (str(key), value)
        if window.next_character() == "}":
            break
        window.take(",")
    window.take("}")
    if not seen:
        raise json.JSONDecodeError(f"no member {within!r}", "", 0)
