"""Tables of text: a strict CSV reader with line numbers, and a writer safe for spreadsheets.

Readers of all datasets share the names of columns here, so a list may call its columns as any of
the known lists does. Cells that a spreadsheet would run as a formula are written behind an
apostrophe and read back without it; ids such as ``-0Kz1lwvjdU`` stay as they are, because other
people's tools read them too and no formula without a bracket can do harm.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from manifests._errors import ManifestError
from manifests._fields import Refusal
from manifests._textfile import HEAD_CHARACTERS, head, open_text, raw_lines, written_whole

DELIMITERS = (",", "\t", ";")
MEANINGS = {
    "video": ("video", "youtube_id", "youtubeid", "yt_id", "ytid", "video_id", "videoid",
              "file", "filename", "file_name", "path", "video_path", "name", "id"),
    "start": ("start", "time_start", "start_time", "start_seconds", "t_start"),
    "end": ("end", "time_end", "end_time", "end_seconds", "t_end"),
    "label": ("label", "labels", "class", "class_name", "action", "category"),
    "split": ("split", "subset", "usage"),
    "group": ("group", "group_id"),
    "url": ("url", "link"),
}  # fmt: skip
FORMULA = re.compile(r"'*[=+@\t\r-]")
BARE_ID = re.compile(r"[\w-]+", re.ASCII)
GUARDED = re.compile(r"'+[=+@\t\r-]")


class BrokenRow(list[str]):
    """Lines that the csv module cannot read, as one cell that says which and why."""


class Header:
    """Which cell of a row means what.

    Parameters
    ----------
    cells : sequence of str
        The header row.

    Attributes
    ----------
    names : tuple of str
        The columns as the file calls them.
    """

    def __init__(self, cells: Sequence[str]) -> None:
        self.names = tuple(cell.strip().strip('"').lower() for cell in cells)
        self._at = {
            meaning: next((self.names.index(n) for n in known if n in self.names), -1)
            for meaning, known in MEANINGS.items()
        }

    def __contains__(self, meaning: str) -> bool:
        return self._at[meaning] >= 0

    def name(self, meaning: str) -> str:
        """Return what the file calls the column of this meaning."""
        return self.names[self._at[meaning]] if meaning in self else meaning

    def check(self, row: Sequence[str]) -> None:
        """Raise `Refusal` unless a row has a cell for every column and nothing beyond."""
        if isinstance(row, BrokenRow):
            raise Refusal(row[0], "look for a quote that never ends")
        if len(row) < len(self.names) or any(cell.strip() for cell in row[len(self.names) :]):
            raise Refusal(
                f"the row has {len(row)} columns, the header has {len(self.names)}",
                "quote fields that hold a comma, complete or delete the line",
            )

    def get(self, row: Sequence[str], meaning: str) -> str:
        """Return one cell by its meaning, stripped; empty when there is no such column."""
        at = self._at[meaning]
        if at < 0:
            return ""
        cell = row[at].strip()
        return unguard(cell) if cell.startswith("'") else cell


def delimiter(text: str) -> str:
    """Return the column separator of a table: the one its first line has most of."""
    first = text.lstrip().partition("\n")[0]
    return max(DELIMITERS, key=first.count)


def head_rows(text: str) -> list[list[str]]:
    """Return the rows at the beginning of a table's text, blank ones and a cut last line apart."""
    cut = len(text) == HEAD_CHARACTERS and "\n" in text
    whole = text[: text.rfind("\n")] if cut else text
    found = csv.reader(whole.splitlines(), delimiter=delimiter(text))
    return [row for row in found if any(cell.strip() for cell in row)]


def header_of(text: str) -> Header:
    """Return the header of a table from the beginning of its text."""
    return Header((head_rows(text) or [[]])[0])


def rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield ``(line, cells)`` of every row that is not blank, the header too.

    A row that spans lines (a line end inside quotes) counts as its first line. Lines that are no
    CSV give a `BrokenRow`, which `Header.check` refuses.

    Raises
    ------
    ManifestError
        When the file cannot be read.
    """
    separator = delimiter(head(path))
    with open_text(path, newline="") as file:
        reader = csv.reader(raw_lines(path, file), delimiter=separator)
        while True:
            line = reader.line_num + 1
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                row = BrokenRow([f"lines {line} to {reader.line_num}: {error}"])
            if any(cell.strip() for cell in row):
                yield line, row


def table(path: Path) -> tuple[Header, Iterator[tuple[int, list[str]]]]:
    """Return the header of a file and its rows after the header."""
    found = rows(path)
    first = next(found, None)
    if first is None:
        raise ManifestError(path.name, "the file is empty", "name a list with a header line")
    return Header(first[1]), found


def guard(cell: str) -> str:
    """Return a cell that a spreadsheet shows and does not run; `unguard` is its inverse.

    Examples
    --------
    >>> guard("=1+1"), guard("-0Kz1lwvjdU"), guard("riding a bike")
    ("'=1+1", '-0Kz1lwvjdU', 'riding a bike')
    """
    return f"'{cell}" if FORMULA.match(cell) and not BARE_ID.fullmatch(cell) else cell


def unguard(cell: str) -> str:
    """Return a cell as it was before `guard`."""
    return cell[1:] if GUARDED.match(cell) else cell


def write_table(path: Path, header: Sequence[str], body: Iterable[Iterable[str]]) -> int:
    """Write a CSV file (UTF-8, Unix line ends), every cell guarded; return the number of rows."""
    count = 0
    with written_whole(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for row in body:
            writer.writerow(map(guard, row))
            count += 1
    return count
