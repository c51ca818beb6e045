"""What extraction cost, as the runs of a store recorded it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path


def extraction_times(out: Path, folders: Sequence[str]) -> list[str]:
    """Return, for each set of recipes extracted together, the worker seconds a segment took."""
    done: Counter[tuple[str, ...]] = Counter()
    seconds: dict[tuple[str, ...], Counter[str]] = {}
    for file in sorted(out.glob("runs/*/summary.json")):
        summary = json.loads(file.read_text("utf-8"))
        together = tuple(summary["recipes"])
        if summary["done"] and set(together) & set(folders):
            done[together] += summary["done"]
            spent = seconds.setdefault(together, Counter())
            for activity, value in summary["worker_seconds"].items():
                spent[activity] += value
    return [
        f"extraction of {' and '.join(together)}: "
        f"{total.total() / done[together]:.2f} s a segment ("
        + ", ".join(f"{name} {value / done[together]:.2f}" for name, value in total.most_common())
        + ")"
        for together, total in seconds.items()
    ]
