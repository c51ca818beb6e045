"""Any list of videos as CSV or as one JSON object a line; only the column ``video`` is required.

::

    video,start,end,label,split,group,url
    cooking/pan-01.mp4,0,12.5,flip|fry,train,kitchen 1,

    {"video": "pan-01", "start": 0, "end": 12.5, "label": ["flip", "fry"], "split": "train"}

Times are seconds; without them a row is a whole video. Several labels are joined by ``|`` (a list
in JSON). The column names of the known datasets (``youtube_id``, ``time_start``, ``file`` ...)
are understood, other columns are passed over. ``video`` is what a source looks up: an id, a file
name, or a path relative to the folder of videos, written with ``/``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from manifests._csvfile import MEANINGS, Header, header_of, table
from manifests._errors import ManifestError
from manifests._fields import Refusal, checked, labels, make_segment, plain_text, split_name, times
from manifests._segment import Reject, Segment
from manifests._textfile import head, lines

NAMES = ("generic",)
LAST_RESORT = True
JSON_LINE = re.compile(r"\s*\{.*\}\s*$")


def recognises(path: Path, head_text: str) -> bool:
    """Tell a table with a column of videos, or lines of JSON objects."""
    first = head_text.lstrip().partition("\n")[0]
    return bool(JSON_LINE.match(first)) or "video" in header_of(head_text)


def read(path: Path, detail: str) -> Iterator[Segment | Reject]:
    """Yield the segments of a list; there is no `detail`."""
    if JSON_LINE.match(head(path).lstrip().partition("\n")[0]):
        return checked(path, lines(path), _parse_json)
    header, found = table(path)
    if "video" not in header:
        raise ManifestError(
            f"{path.name}:1",
            f"no column of videos among {', '.join(header.names)}",
            f"call it {' or '.join(MEANINGS['video'][:3])}",
        )
    return checked(path, found, lambda line, row: parse_row(header, line, row))


def parse_row(header: Header, line: int, row: list[str]) -> Segment:
    """Return the segment of one row of a table."""
    header.check(row)
    return _segment(line, {meaning: header.get(row, meaning) for meaning in MEANINGS})


def _parse_json(line: int, text: str) -> Segment:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refusal(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise Refusal(f"found {type(value).__name__}, expected a JSON object")
    header = Header(list(value))
    cells = list(value.values())
    fields = {}
    for meaning in MEANINGS:
        cell = cells[header.names.index(header.name(meaning))] if meaning in header else None
        fields[meaning] = _text(cell, meaning)
    return _segment(line, fields)


def _text(value: object, meaning: str) -> str:
    """Return a JSON value as the cell of a table would say it."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value)
    if meaning == "label" and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return "|".join(value)
    raise Refusal(f"{meaning} is {value!r}, expected text or a number")


def _segment(line: int, fields: dict[str, str]) -> Segment:
    start_ms, end_ms = times(fields["start"], fields["end"])
    return make_segment(
        video=fields["video"],
        start_ms=start_ms,
        end_ms=end_ms,
        labels=labels(fields["label"]),
        split=split_name(fields["split"]),
        group=plain_text(fields["group"], "group"),
        url=plain_text(fields["url"], "url"),
        line=line,
    )
