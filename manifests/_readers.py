"""Finding the reader of a list: public modules of this package, there is no register to edit.

A reader is a module without a leading underscore that has

- ``NAMES``: the names it answers to, its own first;
- ``recognises(path, head_text) -> bool``: whether a file (its first characters given) or a folder
  (no characters) is one of its lists;
- ``read(path, detail) -> Iterator[Segment | Reject]``: its rows in file order, in bounded memory.
  `detail` is what the user wrote after the name and a colon (``hmdb51:2``, ``minikinetics:LIST``),
  else empty;
- if it can use a detail, ``DETAIL``: one word in capitals for what it is;
- if the sorted labels are not its order, ``classes(path, detail, labels) -> tuple[str, ...]``;
- if it reads more than `path`, ``files(path, detail) -> list[Path]``: what the digest is made of;
- ``LAST_RESORT = True`` if it is asked only when no other module recognises the list.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, cast

import manifests
from manifests._errors import ManifestError
from manifests._segment import Reject, Segment
from manifests._textfile import head


class Reader(Protocol):
    """What a reader module offers."""

    __name__: str
    NAMES: tuple[str, ...]

    def recognises(self, path: Path, head_text: str) -> bool: ...

    def read(self, path: Path, detail: str) -> Iterator[Segment | Reject]: ...


@cache
def modules() -> tuple[Reader, ...]:
    """Return every reader module, sorted by name."""
    found = sorted(info.name for info in pkgutil.iter_modules(manifests.__path__))
    return tuple(
        cast(Reader, importlib.import_module(f"manifests.{name}"))
        for name in found
        if not name.startswith("_")
    )


def names() -> tuple[str, ...]:
    """Return every name that a list's dataset may be given by."""
    return tuple(name for module in modules() for name in module.NAMES)


def find(path: Path, dataset: str | None) -> tuple[Reader, str]:
    """Return the reader of a list and what the user told it.

    Parameters
    ----------
    path : Path
        A file or folder.
    dataset : str or None
        A name, ``name:detail``, or None to recognise the list.

    Raises
    ------
    ManifestError
        When the name is unknown, or no reader or more than one recognises the list.
    """
    if not path.exists():
        raise ManifestError(str(path), "there is no such file or folder", "check the path")
    if dataset is not None:
        name, _, detail = dataset.partition(":")
        reader = _by_name(name)
        if detail and not hasattr(reader, "DETAIL"):
            raise ManifestError("--dataset", f"{dataset!r} has a detail", f"say {name} alone")
        return reader, detail
    head_text = head(path)
    found = [module for module in modules() if module.recognises(path, head_text)]
    chosen = [module for module in found if not getattr(module, "LAST_RESORT", False)] or found
    if len(chosen) == 1:
        return chosen[0], ""
    if not chosen:
        problem = "the list looks like none of the known datasets"
    else:
        problem = f"the list could be {' or '.join(module.NAMES[0] for module in chosen)}"
    raise ManifestError(path.name, problem, f"say which with --dataset: {', '.join(names())}")


def _by_name(name: str) -> Reader:
    for module in modules():
        if name in module.NAMES:
            return module
    near = get_close_matches(name, names(), n=3) or names()
    raise ManifestError(
        "--dataset", f"there is no dataset {name!r}", f"did you mean {', '.join(near)}?"
    )


def class_order(reader: Reader, path: Path, detail: str, labels: set[str]) -> tuple[str, ...]:
    """Return every class in its stable index order."""
    order = _optional(reader, "classes")
    return tuple(sorted(labels)) if order is None else tuple(order(path, detail, labels))


def digested_files(reader: Reader, path: Path, detail: str) -> list[Path]:
    """Return the files a list consists of; none for a folder of videos."""
    files = _optional(reader, "files")
    if files is not None:
        return list(files(path, detail))
    return [] if path.is_dir() else [path]


def _optional(reader: Reader, name: str) -> Any:
    return getattr(cast(ModuleType, reader), name, None)
