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
line. Times are seconds. Classes are the sorted labels, which is the order of every published
label map (i3d's ``label_map.txt`` among them); for a list that holds only some of the classes,
give the map: ``kinetics:label_map_k400.txt``. Then a label that is not in it is refused.

Papers: arXiv:1705.06950 (400), 1808.01340 (600), 1907.06987 (700), 2010.10864 (700-2020).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from manifests._csvfile import header_of, table_or_bare
from manifests._fields import checked, labels, make_segment, split_name, times, youtube_id
from manifests._segment import Reject, Segment
from manifests._textfile import lines

NAMES = ("kinetics", "kinetics400", "kinetics600", "kinetics700", "kinetics700-2020")
BARE_COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split", "is_cc")
ID_CELL = re.compile(r"(^|[,;\t])\s*\"?[A-Za-z0-9_-]{11}\"?\s*([,;\t]|$)", re.MULTILINE)
JSON_START = re.compile(r'\s*\{\s*"[A-Za-z0-9_-]{11}"\s*:\s*\{')


def recognises(path: Path, head_text: str) -> bool:
    """Tell a Kinetics list by its columns, or by its JSON keys, holding YouTube ids."""
    if JSON_START.match(head_text):
        return True
    header = header_of(head_text)
    known = all(meaning in header for meaning in ("video", "start", "end"))
    return known and header.name("video") != "video" and bool(ID_CELL.search(head_text))


def read(path: Path, detail: str) -> Iterator[Segment | Reject]:
    """Yield the segments of a list; `detail` may name a label map."""
    header, found = table_or_bare(path, BARE_COLUMNS)
    names = (header.name("start"), header.name("end"))

    def parse(_line: int, row: list[str]) -> Segment:
        header.check(row)
        start_ms, end_ms = times(header.get(row, "start"), header.get(row, "end"), names)
        return make_segment(
            video=youtube_id(header.get(row, "video")),
            start_ms=start_ms,
            end_ms=end_ms,
            labels=labels(header.get(row, "label")),
            split=split_name(header.get(row, "split")),
            url=header.get(row, "url"),
            line=_line,
        )

    return checked(path, found, parse)


def classes(path: Path, detail: str, found: set[str]) -> tuple[str, ...]:
    """Return the classes in index order: those of the label map, or the sorted labels."""
    return tuple(text for _, text in lines(Path(detail))) if detail else tuple(sorted(found))
