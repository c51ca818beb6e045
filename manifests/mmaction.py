"""Lists of mmaction2 and of Temporal Segment Networks: a path and numbers, without times.

::

    abseiling/0wR5jVB-WPk.mp4 0              videos: path, then one or more class numbers
    v_ApplyEyeMakeup_g08_c01 120 0           frame folders: path, number of frames, class number

A path that ends as a video file does is a video, any other a folder of frames, whose video has
the same path with an extension. The file name states the split
(``kinetics400_val_list_videos.txt``). Labels are the class numbers as text unless a file with a
class name a line is given: ``mmaction:label_map_k400.txt``; its order is the order of the classes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from manifests._companions import class_names, split_in_name
from manifests._fields import Refusal, checked, make_segment, plain_text
from manifests._segment import Reject, Segment
from manifests._textfile import lines
from manifests.folder import EXTENSIONS

NAMES = ("mmaction", "tsn")
DETAIL = "LABELS"
NAME = re.compile(r"\w*(_videos|_rawframes)\.txt|(\w+_)?(rgb|flow)_\w*(split|list)\w*\.txt")
DIGITS = "0123456789"
SEPARATORS = " \t,"
LONGEST_NUMBER = 9  # digits


def recognises(path: Path, head_text: str) -> bool:
    """Tell a list by its name and first line."""
    first = head_text.lstrip().partition("\n")[0].strip()
    return bool(NAME.fullmatch(path.name) and divided(first)[1])


def read(path: Path, detail: str) -> Iterator[Segment | Reject]:
    """Yield one whole video for each line; `detail` may name a file of class names."""
    known = class_names(Path(detail)) if detail else ()
    split = split_in_name(path)

    def parse(line: int, text: str) -> Segment:
        video, numbers = divided(plain_text(text, "line"))
        if not numbers:
            raise Refusal(f"found {text[:80]!r}, expected a path and a class number")
        if PurePosixPath(video).suffix.lower() not in EXTENSIONS:
            if len(numbers) != 2:
                raise Refusal(
                    f"{len(numbers)} numbers after a folder of frames, expected frames and class"
                )
            del numbers[0]
        names = tuple(dict.fromkeys(_name(known, number) for number in numbers))
        return make_segment(video=video, labels=names, split=split, line=line)

    return checked(path, lines(path), parse)


def files(path: Path, detail: str) -> list[Path]:
    """Return the list, and the class names where they are given."""
    return [path, Path(detail)] if detail else [path]


def divided(text: str) -> tuple[str, list[int]]:
    """Return the path at the beginning of a line and the numbers that end it.

    Examples
    --------
    >>> divided("riding a bike/-a b.mkv 10, 2"), divided("no number.mp4")
    (('riding a bike/-a b.mkv', [10, 2]), ('no number.mp4', []))
    """
    numbers: list[int] = []
    while True:
        before = text.rstrip(DIGITS)
        path, digits = before.rstrip(SEPARATORS), text[len(before) :]
        if not path or path == before or not 1 <= len(digits) <= LONGEST_NUMBER:
            return text, numbers[::-1]
        numbers.append(int(digits))
        text = path


def classes(path: Path, detail: str, found: set[str]) -> tuple[str, ...]:
    """Return the given class names, or the class numbers in order."""
    return class_names(Path(detail)) if detail else tuple(sorted(found, key=int))


def _name(known: tuple[str, ...], number: int) -> str:
    if not known:
        return str(number)
    if number < len(known):
        return known[number]
    raise Refusal(f"class number {number}, expected 0 to {len(known) - 1}", "check the class names")
