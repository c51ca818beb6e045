"""Light models trained on features, one module each, found by looking at the modules.

A head's module declares ``NAME``, what ``--head`` calls it (``late-fusion`` for
``late_fusion.py``). Adding a head is adding its file; there is no list to edit.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from types import ModuleType

from pipeline.errors import UsageError

__all__ = ["module", "names"]


def names() -> tuple[str, ...]:
    """Return the name of every head, sorted."""
    return tuple(sorted(_modules()))


def module(name: str) -> ModuleType:
    """Return the module that offers a head.

    Raises
    ------
    UsageError
        When there is none; the message has the nearest names.
    """
    found = _modules()
    if name not in found:
        near = difflib.get_close_matches(name, found, n=3, cutoff=0.4) or sorted(found)
        raise UsageError(f"no head {name!r}; did you mean {', '.join(near) or '(none installed)'}?")
    return found[name]


def _modules() -> dict[str, ModuleType]:
    """Import every public module of this package; those with a ``NAME`` are heads."""
    found = {}
    for entry in pkgutil.iter_modules(__path__):
        if not entry.name.startswith("_"):
            loaded = importlib.import_module(f"{__name__}.{entry.name}")
            name = getattr(loaded, "NAME", None)
            if isinstance(name, str):
                found[name] = loaded
    return found
