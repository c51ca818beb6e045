"""Remakes ``flow_opencv4_to_5.json``: how far the flows of OpenCV 4.14 and 5 are apart.

Two versions of OpenCV cannot share an environment, so the pairs and the flows go through a folder::

    python -m tests.real.flow_versions pairs FOLDER          in the project's environment
    python flow_versions.py solve FOLDER four                where OpenCV 4.14 and NumPy are
    python -m tests.real.flow_versions solve FOLDER five     in the project's environment
    python -m tests.real.flow_versions compare FOLDER        writes the summary beside this file

About four minutes of one core.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np

SUMMARY = Path(__file__).with_name("flow_opencv4_to_5.json")
BOUND_PX = 20.0


def write_pairs(folder: Path) -> None:
    """Write every real pair."""
    from tests.real.flow_pairs import pairs, videos

    frames = {name: np.stack(both) for name, *both in pairs(videos())}
    np.savez(folder / "pairs.npz", names=list(frames), **_numbered(list(frames.values())))


def solve(folder: Path, version: str) -> None:
    """Write the flow of every pair by the OpenCV that is installed here."""
    cv2.setNumThreads(1)
    flows = []
    with np.load(folder / "pairs.npz") as stored:
        for number in range(len(stored["names"])):
            solver = cv2.optflow.DualTVL1OpticalFlow_create()
            flows.append(solver.calc(*stored[str(number)], None))
    np.savez(folder / f"{version}.npz", version=cv2.__version__, **_numbered(flows))


def compare(folder: Path) -> None:
    """Write mean, p99 and the share of 8-bit levels that differ, pair by pair."""
    names = ("pairs.npz", "four.npz", "five.npz")
    stored, four, five = (np.load(folder / name) for name in names)
    rows = {
        str(name): summary(four[str(k)], five[str(k)]) for k, name in enumerate(stored["names"])
    }
    versions = [str(flows["version"]) for flows in (four, five)]
    SUMMARY.write_text(json.dumps({"versions": versions, "pairs": rows}, indent=0) + "\n")


def summary(a: np.ndarray, b: np.ndarray) -> list[float]:
    """Return mean and p99 of the difference in pixels, and the share of levels that differ."""
    apart = np.hypot(a[..., 0] - b[..., 0], a[..., 1] - b[..., 1])
    levels = [
        np.clip(np.rint(128 + np.clip(flow, -BOUND_PX, BOUND_PX) * 255 / (2 * BOUND_PX)), 0, 255)
        for flow in (a, b)
    ]
    differ = np.mean(levels[0] != levels[1])
    figures = (apart.mean(), np.percentile(apart, 99), differ)
    return [round(float(figure), 5) for figure in figures]


def _numbered(arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
    return {str(number): array for number, array in enumerate(arrays)}


if __name__ == "__main__":
    step, where = sys.argv[1], Path(sys.argv[2])
    {"pairs": write_pairs, "compare": compare}[step](where) if step != "solve" else solve(
        where, sys.argv[3]
    )
