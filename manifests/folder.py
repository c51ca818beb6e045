"""A folder of video files: every file is one segment, the whole video.

::

    videos/abseiling/0wR5jVB-WPk.mp4            label abseiling
    videos/train/abseiling/0wR5jVB-WPk.mp4      label abseiling, split train
    videos/0wR5jVB-WPk.mp4                      no label

The folder that holds a file is its label, unless it is called ``train``, ``val`` or ``test``; a
first folder so called is the split. Files are taken in the order of their paths, hidden ones
passed over. The video is the path relative to the folder, written with ``/``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from manifests._errors import ManifestError
from manifests._fields import SPLITS, Refusal, labels, make_segment, reject
from manifests._segment import Reject, Segment

NAMES = ("folder",)
LAST_RESORT = True
EXTENSIONS = frozenset(
    [
        ".3g2", ".3gp", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4",
        ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m",
    ]
)  # fmt: skip


def recognises(path: Path, head_text: str) -> bool:
    """Tell a folder."""
    return path.is_dir()


def read(path: Path, detail: str) -> Iterator[Segment | Reject]:
    """Yield one segment for each video file; there is no `detail`."""
    if not path.is_dir():
        raise ManifestError(str(path), "not a folder", "name a folder of videos")
    for relative in videos(path, PurePosixPath(), ()):
        try:
            yield _segment(relative)
        except Refusal as refusal:
            yield reject(path, 0, str(relative), refusal)


def videos(folder: Path, below: PurePosixPath, above: tuple[Path, ...]) -> Iterator[PurePosixPath]:
    """Yield the paths of video files, sorted, following links but never in a circle.

    Parameters
    ----------
    folder : Path
        Where to look.
    below : PurePosixPath
        What the paths begin with.
    above : tuple of Path
        The folders on the way here, links resolved.

    Raises
    ------
    ManifestError
        When a folder cannot be read.
    """
    real = folder.resolve()
    if real in above:
        return
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise ManifestError(str(folder), f"cannot be read: {error}", "check permissions") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if os.path.splitext(entry.name)[1].lower() in EXTENSIONS and entry.is_file():
            yield below / entry.name
        elif entry.is_dir():
            yield from videos(Path(entry.path), below / entry.name, (*above, real))


def _segment(relative: PurePosixPath) -> Segment:
    parents = relative.parent.parts
    split = SPLITS.get(parents[0].lower(), "") if parents else ""
    label = parents[-1] if parents and not (split and len(parents) == 1) else ""
    return make_segment(video=str(relative), labels=labels(label), split=split)
