"""HMDB51: the official three splits, each one file for every class.

::

    21_wave_u_nm_np1_fr_goo_5.avi 1         wave_test_split1.txt: 1 train, 2 test, 0 neither

Give one file, or the folder of all: then the files of a split are read, and where the folder has
several splits the number is said, ``hmdb51:2``. The label is the beginning of the list's name.
The video is the file's stem, so videos are found with or without folders of classes. The group is
the name's part before the class: the film that the scene was cut from.

Paper: Kuehne et al., ICCV 2011, doi:10.1109/ICCV.2011.6126543.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from manifests._companions import official_lists
from manifests._fields import Refusal, checked, make_segment
from manifests._segment import Reject, Segment
from manifests._textfile import lines

NAMES = ("hmdb51",)
DETAIL = "NUMBER"
LIST = re.compile(r"(?P<label>\w+)_test_split(?P<split>\d)\.txt")
LINE = re.compile(r"(?P<stem>\S+)\.\w+\s+(?P<part>\d)")
PARTS = {"0": "", "1": "train", "2": "test"}


def recognises(path: Path, head_text: str) -> bool:
    """Tell a list, or a folder of lists, by its names."""
    return bool(LIST.fullmatch(path.name)) or any(path.glob("*_test_split?.txt"))


def read(path: Path, detail: str) -> Iterator[Segment | Reject]:
    """Yield the videos of one file, or of a split; `detail` is its number."""
    for file in files(path, detail):
        named = LIST.fullmatch(file.name)
        label = named["label"] if named else file.stem

        def parse(line: int, text: str, label: str = label) -> Segment | None:
            return _parse(label, line, text)

        yield from checked(file, lines(file), parse)


def files(path: Path, detail: str) -> list[Path]:
    """Return the files that are read."""
    return official_lists(path, LIST, detail, NAMES[0])


def _parse(label: str, line: int, text: str) -> Segment | None:
    found = LINE.fullmatch(text)
    if found is None or found["part"] not in PARTS:
        raise Refusal(f"found {text[:80]!r}, expected a file name and 0, 1 or 2")
    if found["part"] == "0":
        return None
    before, marker, _ = found["stem"].rpartition(f"_{label}_")
    return make_segment(
        video=found["stem"],
        labels=(label,),
        split=PARTS[found["part"]],
        group=before if marker else "",
        line=line,
    )
