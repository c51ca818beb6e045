"""Kinetics-400, -600, -700 and -700-2020, as CSV or JSON, in every dialect seen in the wild.

::

    label,youtube_id,time_start,time_end,split,is_cc        ActivityNet's and CVDF's CSV
    "abseiling",0wR5jVB-WPk,417,427,val,0

    label,youtube_id,time_start,time_end,split              DeepMind's CSV (split says validate)
    javelin throw,--07WQ2iBlw,1,11,validate

    youtube_id,time_start,time_end,split                    test lists without labels
    --6bJUbfpnQ,17,27,test

    {"0wR5jVB-WPk": {"annotations": {"label": "abseiling", "segment": [417.0, 427.0]},
                     "duration": 10.0, "subset": "train", "url": "..."}}

Columns may stand in any order, be separated by commas, tabs or semicolons, and have no header
line. Times are seconds; both empty mean the whole video. Classes are the sorted labels, which is
the order of every published label map (i3d's ``label_map.txt`` among them); for a list that holds
only some of the classes, give the map: ``kinetics:label_map_k400.txt``. Then a label that is not
in it is refused.

Papers: arXiv:1705.06950 (400), 1808.01340 (600), 1907.06987 (700), 2010.10864 (700-2020).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from manifests._companions import class_names
from manifests._csvfile import Header, head_rows, rows
from manifests._errors import ManifestError
from manifests._fields import (
    YOUTUBE_ID,
    Refusal,
    checked,
    labels,
    make_segment,
    plain_text,
    split_name,
    times,
    youtube_id,
)
from manifests._jsonfile import members
from manifests._segment import Reject, Segment
from manifests._textfile import head

NAMES = ("kinetics", "kinetics400", "kinetics600", "kinetics700", "kinetics700-2020")
DETAIL = "LABEL_MAP"
BARE_COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split", "is_cc")
BARE_LENGTHS = (4, 5, 6)
JSON_START = re.compile(r'\s*\{\s*"[A-Za-z0-9_-]{11}"\s*:\s*\{')


def recognises(path: Path, head_text: str) -> bool:
    """Tell a Kinetics list by its columns, or by its JSON keys, holding YouTube ids."""
    if JSON_START.match(head_text):
        return True
    found = head_rows(head_text)
    if not found:
        return False
    header = Header(found[0])
    if "video" not in header:
        return _bare(found[0])
    known = "start" in header and "end" in header and header.name("video") != "video"
    return known and any(_has_youtube_id(header, row) for row in found[1:])


def read(path: Path, detail: str) -> Iterator[Segment | Reject]:
    """Yield the segments of a list; `detail` may name a label map."""
    known = frozenset(class_names(Path(detail))) if detail else frozenset()
    if head(path).lstrip().startswith("{"):
        return checked(path, members(path), lambda line, row: _parse_json(known, line, row))
    header, found = _table(path)
    return checked(path, found, lambda line, row: _parse_row(header, known, line, row))


def files(path: Path, detail: str) -> list[Path]:
    """Return the list, and the label map where one is given: it decides which rows are refused."""
    return [path, Path(detail)] if detail else [path]


def classes(path: Path, detail: str, found: set[str]) -> tuple[str, ...]:
    """Return the classes in index order: those of the label map, or the sorted labels."""
    return class_names(Path(detail)) if detail else tuple(sorted(found))


def _table(path: Path) -> tuple[Header, Iterator[tuple[int, list[str]]]]:
    """Return header and rows; a first row that is data already stands under `BARE_COLUMNS`."""
    found = rows(path)
    line, first = next(found, (1, []))
    header = Header(first)
    if "video" not in header and _bare(first):
        return Header(BARE_COLUMNS[: len(first)]), chain([(line, first)], found)
    for meaning, wanted in (("video", "youtube_id"), ("start", "time_start"), ("end", "time_end")):
        if meaning not in header:
            raise ManifestError(
                f"{path.name}:{line}",
                f"no column {wanted} among {', '.join(header.names) or 'none'}",
                f"give the list the columns {', '.join(BARE_COLUMNS[:5])}",
            )
    return header, found


def _bare(row: list[str]) -> bool:
    return len(row) in BARE_LENGTHS and _has_youtube_id(Header(BARE_COLUMNS[: len(row)]), row)


def _has_youtube_id(header: Header, row: list[str]) -> bool:
    return len(row) >= len(header.names) and bool(YOUTUBE_ID.fullmatch(header.get(row, "video")))


def _parse_row(header: Header, known: frozenset[str], line: int, row: list[str]) -> Segment:
    header.check(row)
    start, end = header.get(row, "start"), header.get(row, "end")
    names = (header.name("start"), header.name("end"))
    if bool(start) != bool(end):
        raise Refusal(f"{names[1] if start else names[0]} is empty, expected seconds")
    start_ms, end_ms = times(start, end, names)
    return make_segment(
        video=youtube_id(header.get(row, "video")),
        start_ms=start_ms,
        end_ms=end_ms,
        labels=_known(labels(header.get(row, "label")), known),
        split=split_name(header.get(row, "split")),
        url=plain_text(header.get(row, "url"), "url"),
        line=line,
    )


def _parse_json(known: frozenset[str], line: int, row: tuple[str, Any]) -> Segment:
    identity, entry = row
    if not isinstance(entry, dict) or not isinstance(entry.get("annotations"), dict):
        raise Refusal(f"the entry of {identity!r} has no object 'annotations'")
    annotation = entry["annotations"]
    stretch = annotation.get("segment")
    if not isinstance(stretch, list) or len(stretch) != 2:
        raise Refusal(f"segment of {identity!r} is {stretch!r}, expected [start, end]")
    start_ms, end_ms = times(str(stretch[0]), str(stretch[1]), ("segment start", "segment end"))
    return make_segment(
        video=youtube_id(identity),
        start_ms=start_ms,
        end_ms=end_ms,
        labels=_known(labels(str(annotation.get("label") or "")), known),
        split=split_name(str(entry.get("subset") or "")),
        url=plain_text(str(entry.get("url") or ""), "url"),
        line=line,
    )


def _known(found: tuple[str, ...], known: frozenset[str]) -> tuple[str, ...]:
    for name in found:
        if known and name not in known:
            raise Refusal(f"label {name!r} is not in the label map", "check the map")
    return found
