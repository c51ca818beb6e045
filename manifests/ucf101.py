"""UCF101: the official three splits, each a list for training and one for testing.

::

    ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1         trainlist01.txt
    ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi           testlist01.txt

Give one list, or the folder of all: then both lists of a split are read, and where the folder has
several splits the number is said, ``ucf101:2``. The label is the folder in the list; numbers are
1-based lines of ``classInd.txt``, and where that file is beside the list they are checked and its
order is the order of the classes. The video is the file's stem, so videos are found with or without
folders of classes. The group is class and ``gNN``: videos of one group show the same people.

Paper: Soomro et al., arXiv:1212.0402.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from manifests._companions import class_names, official_lists
from manifests._fields import Refusal, checked, make_segment
from manifests._segment import Reject, Segment
from manifests._textfile import lines

NAMES = ("ucf101",)
DETAIL = "NUMBER"
LIST = re.compile(r"(train|test)list0?(?P<split>\d)\.txt")
LINE = re.compile(
    r"(?P<label>\w+)/(?P<stem>v_\w+_(?P<group>g\d+)_c\d+)\.\w+(?:\s+(?P<number>\d{1,4}))?"
)
CLASSES_FILE = "classInd.txt"


def recognises(path: Path, head_text: str) -> bool:
    """Tell a list, or a folder of lists, by its names."""
    return bool(LIST.fullmatch(path.name)) or any(path.glob("trainlist0?.txt"))


def read(path: Path, detail: str) -> Iterator[Segment | Reject]:
    """Yield the videos of one list, or of a split; `detail` is its number."""
    known = classes(path, detail, set())
    for file in files(path, detail):
        split = "train" if file.name.startswith("train") else "test"

        def parse(line: int, text: str, split: str = split) -> Segment:
            return _parse(known, split, line, text)

        yield from checked(file, lines(file), parse)


def files(path: Path, detail: str) -> list[Path]:
    """Return the lists that are read."""
    return official_lists(path, LIST, detail, NAMES[0])


def classes(path: Path, detail: str, found: set[str]) -> tuple[str, ...]:
    """Return the classes in the order of ``classInd.txt``, or sorted where it is absent."""
    file = (path if path.is_dir() else path.parent) / CLASSES_FILE
    if not file.is_file():
        return tuple(sorted(found))
    return tuple(name.split(maxsplit=1)[-1] for name in class_names(file))


def _parse(known: tuple[str, ...], split: str, line: int, text: str) -> Segment:
    found = LINE.fullmatch(text)
    if found is None:
        raise Refusal(f"found {text[:80]!r}, expected Class/v_Class_gNN_cNN.avi and a class number")
    label, number = found["label"], found["number"]
    if known and label not in known:
        raise Refusal(f"class {label!r} is not in {CLASSES_FILE}")
    if known and number and known.index(label) + 1 != int(number):
        raise Refusal(f"class number {number}, but {label} is {known.index(label) + 1}")
    return make_segment(
        video=found["stem"],
        labels=(label,),
        split=split,
        group=f"{label}_{found['group']}",
        line=line,
    )
