"""ActivityNet 1.2 and 1.3: one JSON file, several annotated stretches of each video.

::

    {"version": "VERSION 1.3", "taxonomy": [...],
     "database": {"QOlSCBRmfWY": {
         "duration": 82.73, "subset": "training", "url": "https://www.youtube.com/watch?v=...",
         "annotations": [{"segment": [6.75, 53.9], "label": "Drinking coffee"}]}}}

Each annotation is a segment; a video of the withheld test part, which has none, is one segment
without a label. The published files of this dataset are called ``v_QOlSCBRmfWY.mp4``: for those say
``activitynet:v_``. Segments of a video are one group. Paper: Caba Heilbron et al., CVPR 2015.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from manifests._fields import (
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

NAMES = ("activitynet",)
DETAIL = "PREFIX"
START = re.compile(r'\s*\{\s*"(database|taxonomy|version)"\s*:')


def recognises(path: Path, head_text: str) -> bool:
    """Tell the JSON by its first key."""
    return bool(START.match(head_text))


def read(path: Path, detail: str) -> Iterator[Segment | Reject]:
    """Yield the segments of every video; `detail` is what file names have before the id."""
    return checked(path, _annotations(path), lambda line, row: _parse(detail, line, row))


def _annotations(path: Path) -> Iterator[tuple[int, tuple[str, Any, Any]]]:
    """Yield (line, (id, entry, annotation)), the annotation None where a video has none."""
    for line, (identity, entry) in members(path, within="database"):
        annotations = entry.get("annotations") if isinstance(entry, dict) else None
        for annotation in annotations if isinstance(annotations, list) and annotations else [None]:
            yield line, (identity, entry, annotation)


def _parse(prefix: str, line: int, row: tuple[str, Any, Any]) -> Segment:
    identity, entry, annotation = row
    if not isinstance(entry, dict):
        raise Refusal(f"the entry of {identity!r} is {type(entry).__name__}, expected an object")
    stretch: Any = ["0", ""]
    label = ""
    if annotation is not None:
        stretch = annotation.get("segment") if isinstance(annotation, dict) else None
        if not isinstance(stretch, list) or len(stretch) != 2:
            raise Refusal(f"segment of {identity!r} is {stretch!r}, expected [start, end]")
        label = str(annotation.get("label") or "")
    start_ms, end_ms = times(str(stretch[0]), str(stretch[1]))
    return make_segment(
        video=f"{prefix}{youtube_id(identity)}",
        start_ms=start_ms,
        end_ms=end_ms,
        labels=labels(label),
        split=split_name(str(entry.get("subset") or "")),
        group=identity,
        url=plain_text(str(entry.get("url") or ""), "url"),
        line=line,
    )
