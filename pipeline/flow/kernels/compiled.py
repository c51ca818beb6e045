"""Compilation settings, and a cache on the disk that cannot go stale.

Numba keys its cache by the time stamp of the file that holds the compiled function alone: an edited
kernel in another file would leave the old machine code in use. Our cache folder therefore carries
the digest of all kernel sources and of Numba's version. Numba itself adds the processor's model to
the key, so a shared home folder serves different machines.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba import njit

LOGGER = logging.getLogger(__name__)
CACHE_VARIABLE = "NUMBA_CACHE_DIR"


def kernel(function: Callable[..., Any]) -> Any:
    """Compile on first call, without the interpreter lock, bounds checks or fast-math rewriting."""
    return njit(nogil=True, boundscheck=False, error_model="numpy")(function)


def cached_kernel(function: Callable[..., Any]) -> Any:
    """Compile as `kernel` and keep the machine code on the disk, with all that it calls."""
    compiled = kernel(function)
    folder = cache_folder()
    if folder is None:
        return compiled
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(folder)
    try:
        compiled.enable_caching()
    finally:
        numba.config.CACHE_DIR = before
    return compiled


def cache_folder() -> Path | None:
    """Return a writable folder of this version's own, or None after a word to the log.

    It stands under ``$NUMBA_CACHE_DIR`` where that is set, otherwise under ``$XDG_CACHE_HOME`` or
    ``~/.cache``.
    """
    folder = _cache_root() / f"flow-{sources_digest()[:16]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        LOGGER.warning(
            "the flow kernels are compiled anew by every process, which takes some seconds: their "
            "cache %s cannot be written (%s); set %s to a writable folder",
            folder,
            error.strerror,
            CACHE_VARIABLE,
        )
        return None


def sources_digest() -> str:
    """Return the sha256 of every kernel source and of the compiler's versions."""
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _cache_root() -> Path:
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "action-features"
