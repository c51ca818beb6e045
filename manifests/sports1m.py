"""Sports-1M: YouTube addresses with the numbers of their classes, whole videos, several labels.

::

    https://www.youtube.com/watch?v=UDqivjS-lpI 168,169

Partitions are ``original/train_partition.txt``, ``original/test_partition.txt`` and those of
``cross-validation`` (``sports3_train.txt``), as published gzipped or not; the file name states the
split. Numbers are 0-based lines of ``labels.txt``, which is looked for beside the list and in the
folder above, or given: ``sports1m:path/labels.txt``. Its order is the order of the classes.

Paper: Karpathy et al., CVPR 2014, doi:10.1109/CVPR.2014.223.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from manifests._companions import class_names, split_in_name
from manifests._errors import ManifestError
from manifests._fields import Refusal, checked, make_segment, plain_text
from manifests._segment import Reject, Segment
from manifests._textfile import lines

NAMES = ("sports1m",)
DETAIL = "LABELS"
LINE = re.compile(r"(https?://\S+)\s+(\d{1,6}(?:\s*,\s*\d{1,6})*)", re.ASCII)
ADDRESS = re.compile(
    r"https?://(?:www\.|m\.)?(?:youtube\.com/(?:watch\?(?:\S*&)?v=|embed/|v/|shorts/)|youtu\.be/)"
    r"([A-Za-z0-9_-]{11})(?![A-Za-z0-9_-])"
)


def recognises(path: Path, head_text: str) -> bool:
    """Tell a partition by its first line."""
    return bool(LINE.fullmatch(head_text.lstrip().partition("\n")[0].strip()))


def read(path: Path, detail: str) -> Iterator[Segment | Reject]:
    """Yield one segment for each address; `detail` may name the file of labels."""
    known = class_names(labels_file(path, detail))
    split = split_in_name(path)

    @lru_cache(maxsize=65536)
    def names_of(numbers: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(_name(known, int(number)) for number in numbers.split(",")))

    def parse(line: int, text: str) -> Segment:
        found = LINE.fullmatch(text)
        if found is None:
            raise Refusal(f"found {text[:80]!r}, expected an address, a space, and label numbers")
        address, numbers = found.groups()
        identity = ADDRESS.match(address)
        if identity is None:
            raise Refusal(f"{address!r} is no address of a YouTube video")
        return make_segment(
            video=identity[1],
            labels=names_of(plain_text(numbers, "label numbers")),
            split=split,
            url=plain_text(address, "address"),
            line=line,
        )

    return checked(path, lines(path), parse)


def classes(path: Path, detail: str, found: set[str]) -> tuple[str, ...]:
    """Return the classes in their own order."""
    return class_names(labels_file(path, detail))


def files(path: Path, detail: str) -> list[Path]:
    """Return the list and its labels."""
    return [path, labels_file(path, detail)]


def labels_file(path: Path, detail: str) -> Path:
    """Return where the names of the classes stand.

    Raises
    ------
    ManifestError
        When no file is given and none is near the list.
    """
    if detail:
        return Path(detail)
    for folder in (path.parent, path.parent.parent):
        if (folder / "labels.txt").is_file():
            return folder / "labels.txt"
    raise ManifestError(
        str(path),
        "labels.txt is neither beside the list nor in the folder above",
        "put it there, or say --dataset sports1m:path/labels.txt",
    )


def _name(known: tuple[str, ...], number: int) -> str:
    if number < len(known):
        return known[number]
    raise Refusal(f"label number {number}, expected 0 to {len(known) - 1}", "check labels.txt")
