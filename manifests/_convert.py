"""Writing lists: the Kinetics and the generic form of any manifest, and what was refused."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from manifests._csvfile import write_table
from manifests._segment import MILLISECONDS_PER_SECOND, Reject, Segment

KINETICS_COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split")
GENERIC_COLUMNS = ("video", "start", "end", "label", "split", "group", "url")
REJECT_COLUMNS = ("where", "found", "remedy", "text")


def seconds_text(ms: int | None) -> str:
    """Return milliseconds as decimal seconds without needless zeros; empty for None.

    Examples
    --------
    >>> seconds_text(417000), seconds_text(10050), seconds_text(None)
    ('417', '10.05', '')
    """
    if ms is None:
        return ""
    whole, rest = divmod(ms, MILLISECONDS_PER_SECOND)
    return f"{whole}.{rest:03d}".rstrip("0") if rest else str(whole)


def write_kinetics(path: Path | str, segments: Iterable[Segment]) -> int:
    """Write the columns of Kinetics; several labels are joined by ``|``, group and url are lost.

    A whole video has an empty ``time_end``. Returns the number of rows.
    """
    body = (
        ("|".join(s.labels), s.video, seconds_text(s.start_ms), seconds_text(s.end_ms), s.split)
        for s in segments
    )
    return write_table(Path(path), KINETICS_COLUMNS, body)


def write_generic(path: Path | str, segments: Iterable[Segment]) -> int:
    """Write every field of the segments as a table that `load` reads back; return the rows."""
    body = (_generic(segment) for segment in segments)
    return write_table(Path(path), GENERIC_COLUMNS, body)


def write_jsonl(path: Path | str, segments: Iterable[Segment]) -> int:
    """Write every field of the segments as one JSON object a line; return the rows."""
    count = 0
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        for segment in segments:
            row: dict[str, object] = dict(zip(GENERIC_COLUMNS, _generic(segment), strict=True))
            row["label"] = list(segment.labels)
            file.write(json.dumps({k: v for k, v in row.items() if v}, ensure_ascii=False) + "\n")
            count += 1
    return count


def write_rejects(path: Path | str, rejects: Iterable[Reject]) -> int:
    """Write refused rows as ``where,found,remedy,text``; with none, write nothing.

    Cells that a spreadsheet would run as a formula stand behind an apostrophe.

    Returns
    -------
    int
        Number of rows written.
    """
    rejects = iter(rejects)
    first = next(rejects, None)
    if first is None:
        return 0
    body = ((r.where, r.found, r.remedy, r.text) for r in chain([first], rejects))
    return write_table(Path(path), REJECT_COLUMNS, body)


def _generic(segment: Segment) -> Iterator[str]:
    yield segment.video
    yield seconds_text(segment.start_ms)
    yield seconds_text(segment.end_ms)
    yield "|".join(segment.labels)
    yield segment.split
    yield segment.group
    yield segment.url
