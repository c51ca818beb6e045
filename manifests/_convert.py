"""Writing lists: the Kinetics and the generic form of any manifest, and what was refused."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from manifests._csvfile import write_table
from manifests._errors import ManifestError
from manifests._segment import MILLISECONDS_PER_SECOND, Reject, Segment
from manifests._textfile import written_whole

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

    Whole videos have empty times.

    Returns
    -------
    int
        Number of rows written.

    Raises
    ------
    ManifestError
        At a segment that begins late and has no end: Kinetics has no way to say so.
    """
    return write_table(Path(path), KINETICS_COLUMNS, map(_kinetics, segments))


def write_generic(path: Path | str, segments: Iterable[Segment]) -> int:
    """Write every field of the segments as a table that `load` reads back; return the rows."""
    return write_table(Path(path), GENERIC_COLUMNS, map(_generic, segments))


def write_jsonl(path: Path | str, segments: Iterable[Segment]) -> int:
    """Write every field of the segments as one JSON object a line; return the rows."""
    count = 0
    with written_whole(Path(path)) as file:
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


def _kinetics(segment: Segment) -> tuple[str, ...]:
    start, end = seconds_text(segment.start_ms), seconds_text(segment.end_ms)
    if segment.end_ms is None:
        if segment.start_ms:
            raise ManifestError(
                segment.key, "the segment has a start and no end", "write a generic list instead"
            )
        start = ""
    return "|".join(segment.labels), segment.video, start, end, segment.split


def _generic(segment: Segment) -> tuple[str, ...]:
    return (
        segment.video,
        seconds_text(segment.start_ms),
        seconds_text(segment.end_ms),
        "|".join(segment.labels),
        segment.split,
        segment.group,
        segment.url,
    )
