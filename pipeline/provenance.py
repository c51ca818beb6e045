"""What made these numbers: a recipe as plain JSON, its digest, and the versions beside it.

A recipe holds every declared setting that can change a number. Library versions, device and
threads are recorded beside it, not in it: they move the last bits, not the meaning.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

RECORDED_LIBRARIES = (
    "torch", "torchvision", "av", "opencv-contrib-python", "numba", "numpy", "h5py", "dask",
    "distributed", "action-features",
)  # fmt: skip
GIBIBYTE = 1 << 30


def canonical_json(value: object) -> str:
    """Return JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Every declared setting that can change a number of one extractor's rows.

    Attributes
    ----------
    extractor : str
        Its name on the command line.
    settings : Mapping
        Plain JSON values, nested: spec, weights digest, decoding, flow, dtype, versions of rules.
    """

    extractor: str
    settings: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """sha256 of the canonical JSON, in hexadecimal."""
        text = canonical_json({"extractor": self.extractor, "settings": self.settings})
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def folder(self) -> str:
        """Name of the recipe's folder, ``<extractor>-<first 8 of the digest>``."""
        return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', self.extractor)}-{self.digest[:8]}"

    def to_json(self) -> dict[str, Any]:
        """Return what ``recipe.json`` holds."""
        return {"extractor": self.extractor, "settings": self.settings, "digest": self.digest}


@cache  # 14 ms, and every commit writes them down
def versions() -> dict[str, str]:
    """Return the versions of Python and of every library that touches a number."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in RECORDED_LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def hardware() -> dict[str, str]:
    """Return processor, memory and GPUs of this machine, as far as Linux tells."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIBIBYTE
    usable = len(os.sched_getaffinity(0))
    found = {"system": platform.platform(), "processors": f"{usable} of {os.cpu_count()}"}
    models = _values(Path("/proc/cpuinfo"), "model name")
    if models:
        found["processor"] = models[0]
    found["memory"] = f"{memory:.1f} GiB"
    cards = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    gpus = [name for card in cards for name in _values(card, "Model")]
    return found | {"gpus": ", ".join(gpus) or "none"}


def _values(path: Path, name: str) -> list[str]:
    """Return the values of one name in a file of ``name : value`` lines, if there is one."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return []
    pairs = (line.partition(":") for line in lines)
    return [value.strip() for key, _, value in pairs if key.strip() == name]
