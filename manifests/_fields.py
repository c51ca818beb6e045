"""What the fields of a row mean, whatever list it stands in: times, labels, splits, ids.

Every function here either returns a checked value or raises `Refusal`, which says what was found,
what was expected and what to do; `checked` turns refusals into `Reject`s that say where.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from manifests._segment import LONGEST_FIELD, MILLISECONDS_PER_SECOND, Reject, Segment

LATEST_SECONDS = 999_999
LONGEST_TEXT = 500  # characters of a report
LONGEST_NUMBER = 40  # characters; the pattern of a number takes quadratic time on more
FIX_OR_DELETE = "fix or delete the line"
YOUTUBE_ID = re.compile(r"[A-Za-z0-9_-]{11}")
DECIMAL_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
SPLITS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validate": "val", "validation": "val", "validating": "val",
    "test": "test", "testing": "test",
}  # fmt: skip

Row = TypeVar("Row")


class Refusal(Exception):
    """A field that cannot be used.

    Parameters
    ----------
    found : str
        What was found, and what was expected instead.
    remedy : str
        What to do.
    """

    def __init__(self, found: str, remedy: str = FIX_OR_DELETE) -> None:
        super().__init__(found, remedy)
        self.found, self.remedy = found, remedy

    def __str__(self) -> str:
        return f"{self.found}; {self.remedy}"


def checked(
    path: Path, rows: Iterable[tuple[int, Row]], parse: Callable[[int, Row], Segment | None]
) -> Iterator[Segment | Reject]:
    """Yield the segment of every row, or the row's `Reject`.

    Parameters
    ----------
    path : Path
        File the rows stand in.
    rows : iterable of (int, row)
        Line number and content, as text or as a list of cells.
    parse : callable
        Makes the segment of one row; None for a row that rightly gives none.
    """
    for line, row in rows:
        try:
            segment = parse(line, row)
        except Refusal as refusal:
            yield reject(path, line, row, refusal)
        else:
            if segment is not None:
                yield segment


def reject(path: Path, line: int, row: object, refusal: Refusal) -> Reject:
    """Return the report of one refused row."""
    cells = row if isinstance(row, list) else [row]
    text = ",".join(str(cell) for cell in cells)[:LONGEST_TEXT]
    return Reject(f"{path.name}:{line}", refusal.found[:LONGEST_TEXT], refusal.remedy, text)


def make_segment(**fields: Any) -> Segment:
    """Return a `Segment`; raise `Refusal` where its own checks do not pass."""
    try:
        return Segment(**fields)
    except ValueError as error:
        raise Refusal(str(error)) from error


def youtube_id(text: str) -> str:
    """Return a YouTube id, checked: 11 letters, digits, ``-`` or ``_``."""
    if YOUTUBE_ID.fullmatch(text):
        return text
    raise Refusal(
        f"youtube_id is {text!r}, expected 11 letters, digits, '-' or '_'",
        "take the id from the original list (spreadsheets change ids that begin with '-')",
    )


def milliseconds(text: str, name: str) -> int:
    """Return a time in seconds, written as text, as whole milliseconds.

    Raises
    ------
    Refusal
        When it is no finite number between 0 and `LATEST_SECONDS`.

    Examples
    --------
    >>> milliseconds("417", "time_start"), milliseconds("10.0625", "time_end")
    (417000, 10063)
    """
    if text.isascii() and text.isdigit() and len(text) <= len(str(LATEST_SECONDS)):
        return int(text) * MILLISECONDS_PER_SECOND
    if len(text) > LONGEST_NUMBER or not DECIMAL_NUMBER.fullmatch(text):
        raise Refusal(f"{name} is {text[:LONGEST_NUMBER]!r}, expected seconds as a finite number")
    seconds = Decimal(text)
    if seconds < 0:
        raise Refusal(f"{name} {text} is negative")
    if seconds > LATEST_SECONDS:
        raise Refusal(
            f"{name} {text} is later than {LATEST_SECONDS} s",
            "times are seconds, not milliseconds or frames",
        )
    return int((seconds * MILLISECONDS_PER_SECOND).to_integral_value(ROUND_HALF_UP))


def times(
    start: str, end: str, names: tuple[str, str] = ("start", "end")
) -> tuple[int, int | None]:
    """Return ``(start_ms, end_ms)``; both empty is the whole video, an empty end its rest."""
    start_ms = milliseconds(start, names[0]) if start else 0
    return start_ms, milliseconds(end, names[1]) if end else None


@lru_cache(maxsize=65536)
def labels(text: str) -> tuple[str, ...]:
    """Return the class names in a label field: none when empty, several when joined by ``|``."""
    _short(text, "label")
    found = tuple(dict.fromkeys(part.strip().strip('"').strip() for part in text.split("|")))
    if found == ("",):
        return ()
    for name in found:
        if not name:
            raise Refusal(f"label is {text!r}, one of its names is empty")
        if not name.isprintable():
            raise Refusal(f"label is {name!r}, expected printable UTF-8 text", "save it as UTF-8")
    return found


@lru_cache(maxsize=1024)
def split_name(text: str) -> str:
    """Return ``train``, ``val`` or ``test`` for its usual spellings, other names as they are."""
    name = text.strip()
    return SPLITS.get(name.lower(), plain_text(name, "split"))


def plain_text(text: str, name: str) -> str:
    """Return text that is printable and not overlong, or raise `Refusal`."""
    _short(text, name)
    if text.isprintable():
        return text
    raise Refusal(f"{name} is {text!r}, expected printable UTF-8 text")


def _short(text: str, name: str) -> None:
    if len(text) > LONGEST_FIELD:
        raise Refusal(
            f"{name} has {len(text)} characters, expected at most {LONGEST_FIELD}",
            "look for a quote that never ends, or delete the line",
        )
