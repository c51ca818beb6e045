"""Mini-Kinetics-200: lists of ids only, joined with the Kinetics-400 list that has their times.

::

    zkyy5cC7SL4
    -7tDxxH2g6I

The lists are ``train_ytid_list.txt`` (80,000 ids) and ``val_ytid_list.txt`` (5,000); the file name
states the split. Times and labels come from the Kinetics list that is given:
``minikinetics:kinetics400_train.csv``. An id that it lacks is refused; one that it has several
times gives as many segments. Paper: Xie et al., arXiv:1712.04851.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from manifests import kinetics
from manifests._companions import split_in_name
from manifests._errors import ManifestError
from manifests._fields import YOUTUBE_ID, Refusal, reject, youtube_id
from manifests._segment import Reject, Segment
from manifests._textfile import lines

NAMES = ("minikinetics",)
DETAIL = "KINETICS_LIST"
LISTED = re.compile(rf"({YOUTUBE_ID.pattern}\s*\n)+")


def recognises(path: Path, head_text: str) -> bool:
    """Tell a list that has nothing but YouTube ids."""
    whole_lines = head_text[: head_text.rfind("\n") + 1]
    return bool(LISTED.fullmatch(whole_lines.lstrip()))


def read(path: Path, detail: str) -> Iterator[Segment | Reject]:
    """Yield the Kinetics segments of each id; `detail` names the Kinetics list."""
    if not detail:
        raise ManifestError(
            path.name,
            "the list has ids only, no times and no labels",
            "give the Kinetics list that has them: --dataset minikinetics:KINETICS_LIST",
        )
    wanted = {text for _, text in lines(path)}
    known: dict[str, list[Segment]] = {}
    for item in kinetics.read(Path(detail), ""):
        if isinstance(item, Segment) and item.video in wanted:
            known.setdefault(item.video, []).append(item)
    split = split_in_name(path)
    for line, text in lines(path):
        try:
            found = known.get(youtube_id(text), [])
            if not found:
                raise Refusal(f"{text} is not in {Path(detail).name}", "give the list that has it")
        except Refusal as refusal:
            yield reject(path, line, text, refusal)
        else:
            for segment in found:
                yield replace(segment, split=split or segment.split, line=line)


def files(path: Path, detail: str) -> list[Path]:
    """Return both lists."""
    return [path, Path(detail)]
