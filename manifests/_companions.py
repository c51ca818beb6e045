"""What a list says by its name and by the files beside it: split, classes, official splits."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from manifests._errors import ManifestError
from manifests._fields import SPLITS
from manifests._textfile import open_text, raw_lines

MOST_CLASSES = 1_000_000


@lru_cache(maxsize=16)
def _class_names(path: Path, _modified_ns: int) -> tuple[str, ...]:
    found: dict[str, None] = {}
    blank = 0
    with open_text(path) as file:
        for line in raw_lines(path, file):
            name = line.strip()
            if not name:  # blank lines may end the file, and stand nowhere else
                blank += 1
                continue
            number = len(found) + 1
            if blank or not name.isprintable() or name in found or number > MOST_CLASSES:
                raise ManifestError(
                    f"{path.name}:{number}",
                    f"class name is {'' if blank else name!r}, expected a new name on every line",
                    "fix the file: the line is the number of the class",
                )
            found[name] = None
    return tuple(found)


def class_names(path: Path) -> tuple[str, ...]:
    """Return the class names in a file, one a line; the line is the number.

    Raises
    ------
    ManifestError
        When the file is absent, a line is blank, or a name is repeated.
    """
    if not path.is_file():
        raise ManifestError(str(path), "there is no such file of class names", "check the path")
    return _class_names(path, path.stat().st_mtime_ns)


def split_in_name(path: Path) -> str:
    """Return the split that a file name states (``kinetics_val_list.txt``), or nothing.

    Examples
    --------
    >>> split_in_name(Path("ucf101_train_split_1_videos.txt")), split_in_name(Path("all_urls.txt"))
    ('train', '')
    """
    words = re.split(r"[^a-z]+", path.name.lower())
    stated = {SPLITS[word] for word in words if word in SPLITS}
    return stated.pop() if len(stated) == 1 else ""


def official_lists(path: Path, pattern: re.Pattern[str], detail: str, name: str) -> list[Path]:
    """Return the files of one official split.

    Parameters
    ----------
    path : Path
        One list, or the folder of all.
    pattern : re.Pattern
        What lists are called; its group ``split`` is the number.
    detail : str
        The number of the split; may be empty where there is only one.
    name : str
        The dataset, for messages.

    Raises
    ------
    ManifestError
        When the folder has no list, or several splits and none is said.
    """
    if not path.is_dir():
        return [path]
    numbered: dict[str, list[Path]] = {}
    for file in sorted(path.iterdir()):
        found = pattern.fullmatch(file.name)
        if found:
            numbered.setdefault(found["split"], []).append(file)
    number = detail or (next(iter(numbered)) if len(numbered) == 1 else "")
    if number in numbered:
        return numbered[number]
    there = " and ".join(sorted(numbered)) or "none"
    raise ManifestError(
        str(path),
        f"official splits in the folder: {there}; wanted: {number or 'not said'}",
        f"say one: --dataset {name}:1",
    )
