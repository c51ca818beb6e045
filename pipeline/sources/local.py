"""A folder of videos on disk: ``videos`` (full, or trimmed by name) and ``trimmed:DIR``.

File names say what a file is; nothing is guessed from its length:

- ``ID_000010_000020.ext`` (``ID_500ms_2000ms.ext`` for times that are no whole seconds) is the
  segment alone, its first frame at the segment's start;
- ``ID.ext`` is the full video, to be cut by time;
- in a folder given as ``trimmed:DIR`` a bare ``ID.ext`` is a trimmed file too: of one segment, so
  it serves no list that has several of the video (`check_is_one`).

Where both are there the trimmed one is taken: its name is the more exact. Folders between the
root and the file (labels, splits) may be there or not: a manifest's path and a file's path agree
when one of them is the tail of the other.

The folder is read once, in one `os.scandir` pass (300,000 files: about a second and 60 MB), and
manifest text is only looked up in what was found, never joined to a path. Links to files count
while they stay under the root; links to folders are not followed, since inside the root their
files are found where they are. Hidden folders are not read: unfinished downloads are kept there.
Why one scan and no `Path.exists` for each row: a real list is
mostly dead links, and on a network file system each question costs milliseconds.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from manifests._segment import Segment
from pipeline.errors import Ambiguous, UsageError, VideoMissing
from pipeline.sources._source import (
    VIDEO_EXTENSIONS,
    Located,
    Source,
    SourceOptions,
    trimmed_name,
    without_extension,
)

SCHEMES = ("trimmed:", "")
SYNTAX = "DIR: a folder of full or ID_SSSSSS_EEEEEE videos; trimmed:DIR: all are trimmed"

TRIMMED = "trimmed:"


class LocalSource:
    """Videos below one folder.

    Parameters
    ----------
    root : Path
        The folder; it must exist.
    trimmed : bool
        Whether files under bare names are trimmed.

    Raises
    ------
    UsageError
        When `root` is no folder.
    """

    local = True

    def __init__(self, root: Path, *, trimmed: bool = False) -> None:
        if not root.is_dir():
            what = "is a file" if root.exists() else "is not there"
            raise UsageError(f"--videos {root} {what}; expected a folder of videos")
        self.root = root.resolve()
        self.trimmed = trimmed
        self._links: set[str] = set()

    def __reduce__(self) -> tuple[object, tuple[str, SourceOptions]]:
        """Travel as the ``--videos`` text: the other side reads the folder itself."""
        return make, (f"{TRIMMED if self.trimmed else ''}{self.root}", SourceOptions())

    def locate(self, segment: Segment) -> Located:
        """Return the one file that the segment's names agree with.

        Raises
        ------
        VideoMissing
            When no file does.
        Ambiguous
            When several do.
        """
        exact = trimmed_name(segment)
        for name, trimmed in ((exact, True), (segment.video, self.trimmed)):
            found = self._matching(name) if name else []
            if len(found) > 1:
                raise Ambiguous(
                    f"{len(found)} files under {self.root} answer to {name!r} ({found[0]}, "
                    f"{found[1]}); keep one, or write its path in the manifest"
                )
            if found:
                return self._located(found[0], trimmed, bare=trimmed and name != exact)
        raise VideoMissing(
            f"no file under {self.root} is named {segment.video!r} or {exact!r} with a video's "
            "extension"
        )

    def _located(self, relative: str, trimmed: bool, *, bare: bool) -> Located:
        path = self.root / relative
        try:
            real = path.resolve() if relative in self._links else path
        except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
            raise VideoMissing(f"{path} is a link that leads nowhere") from error
        if not real.is_relative_to(self.root):
            raise VideoMissing(
                f"{path} is a link to {real}, outside the folder; give that folder as another "
                "--videos"
            )
        try:
            status = real.stat()
        except OSError as error:
            raise VideoMissing(f"{path} cannot be read: {error.strerror}") from error
        if not stat.S_ISREG(status.st_mode):  # a link to a folder, a pipe, a device
            raise VideoMissing(f"{path} is a link to {real}, which is no regular file")
        return Located(real, trimmed, status.st_size, status.st_mtime_ns, bare=bare)

    def _matching(self, name: str) -> list[str]:
        """Return the files whose path agrees with `name`; with its extension, if one has it."""
        bare = without_extension(name)
        candidates = self._index.get(bare.rpartition("/")[2], ())
        if isinstance(candidates, str):
            if "/" not in bare:  # nearly always, and nothing is left to compare
                return [candidates]
            candidates = (candidates,)
        agreeing = [path for path in candidates if _one_is_tail(bare, without_extension(path))]
        same_extension = [path for path in agreeing if path.endswith(name[len(bare) :])]
        agreeing = same_extension or agreeing
        same_path = [path for path in agreeing if without_extension(path) == bare]
        agreeing = sorted(same_path or agreeing)
        if len(agreeing) > 1:  # a file and links to it are one file
            agreeing = list(
                {os.path.realpath(self.root / path): path for path in agreeing}.values()
            )
        return agreeing

    @cached_property
    def _index(self) -> dict[str, str | tuple[str, ...]]:
        """Paths below the root by stem: one text, or a tuple of several (memory matters)."""
        index: dict[str, str | tuple[str, ...]] = {}
        for path, is_link in _video_files(self.root):
            if is_link:
                self._links.add(path)
            stem = without_extension(path.rpartition("/")[2])
            before = index.get(stem)
            if before is None:
                index[stem] = path
            else:
                index[stem] = (*((before,) if isinstance(before, str) else before), path)
        return index


def _one_is_tail(one: str, other: str) -> bool:
    return f"/{one}".endswith(f"/{other}") or f"/{other}".endswith(f"/{one}")


def _video_files(root: Path) -> Iterator[tuple[str, bool]]:
    """Yield the path of each video below `root`, relative to it, and whether it is a link."""
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            listing = os.scandir(root / folder)
        except OSError as error:
            raise UsageError(
                f"--videos {root / folder}: {error.strerror}; expected a folder that can be read"
            ) from error
        with listing as entries:
            for entry in entries:
                name = folder + entry.name
                if entry.is_dir(follow_symlinks=False):
                    if not entry.name.startswith("."):
                        folders.append(f"{name}/")
                elif os.path.splitext(entry.name)[1].lower() in VIDEO_EXTENSIONS and (
                    entry.is_symlink() or entry.is_file()
                ):
                    yield name, entry.is_symlink()


def make(text: str, options: SourceOptions) -> Source:
    """Open a folder.

    Parameters
    ----------
    text : str
        ``DIR`` or ``trimmed:DIR``.
    options : SourceOptions
        Not used: nothing is downloaded.
    """
    bare = text.removeprefix(TRIMMED)
    return LocalSource(Path(bare), trimmed=bare != text)
