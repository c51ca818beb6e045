"""Our own ``failures.csv``: run again exactly what failed.

::

    video,start,end,label,split,group,code,detail,attempts,will_be_retried,recipe
    0wR5jVB-WPk,417.0,427.0,abseiling,val,,gone,HTTP 404,1,False,efficientnet-lite0-1f3a9c02

``video`` and ``code`` tell the file. A segment that failed under several recipes stands there
several times and is read once.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from manifests._csvfile import header_of, table
from manifests._fields import checked
from manifests._segment import Reject, Segment
from manifests.generic import parse_row

NAMES = ("failures",)


def recognises(path: Path, head_text: str) -> bool:
    """Tell the table by its columns."""
    header = header_of(head_text)
    return "video" in header.names and "code" in header.names


def read(path: Path, detail: str) -> Iterator[Segment | Reject]:
    """Yield what failed; there is no `detail`."""
    header, found = table(path)
    seen: set[str] = set()

    def parse(line: int, row: list[str]) -> Segment | None:
        segment = parse_row(header, line, row)
        if segment.key in seen:
            return None
        seen.add(segment.key)
        return segment

    return checked(path, found, parse)
