"""The two-stream argument in one table: five motions that no single frame gives away.

    python tests/benchmarks/compare_five_motions.py [--work FOLDER] [--per-class N]

Makes the sample (photographs moved by known motions, the photograph is the group), extracts the
embedded RGB and flow features, and compares: a single frame should stay near chance, flow should
be near 1.0. Everything is made and read offline.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

EXTRACTORS = ("efficientnet-lite0", "efficientnet-lite0-flow")
LSTM = "hidden=64,project=64,dropout=0.2,predict=average"
EPOCHS = 20


def pipeline(*arguments: object) -> None:
    """Run a command of the pipeline as a user would, one thread a process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pipeline", *map(str, arguments)]
    subprocess.run(command, check=True, env=environment, cwd=Path(__file__).parents[2])


def main() -> None:
    """Make, extract, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("five-motions"))
    parser.add_argument("--per-class", type=int, default=9)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--extract", nargs=argparse.REMAINDER, default=[])
    flags = parser.parse_args()
    work = flags.work.resolve()
    listed, videos, features = work / "sample_groups.csv", work / "videos", work / "features"
    pipeline("sample", work, "--per-class", flags.per_class)
    wanted = [text for name in EXTRACTORS for text in ("-e", name)]
    pipeline(
        "extract", "--manifest", listed, "--videos", videos, "--out", features, *wanted,
        *flags.extract,
    )  # fmt: skip
    pipeline(
        "compare", "--features", features, "--manifest", listed, "--videos", videos, *wanted,
        "--folds", "group", "--inner", 2, "--lstm", LSTM, "--epochs", EPOCHS, "--batch", 8,
        "--seeds", flags.seeds, "--threads", 1,
        "--csv", work / "table.csv", "--html", work / "table.html",
    )  # fmt: skip


if __name__ == "__main__":
    main()
