"""Which features and which head, on 60 real videos: UT-Interaction, six classes, ten groups.

    python tests/benchmarks/compare_ut_interaction.py DATA [--work FOLDER] [--extract ARGUMENT ...]

``DATA`` is the folder with ``clips.csv`` (file, label, group) and the videos. Extracts the embedded
RGB and flow features once (later runs go on where they are), then trains every head on every
recipe with leave-one-group-out and hyper-parameters chosen inside the training groups, and prints
the table with the trivial baseline (the videos are boxes cut around the people, so frame size and
length tell much). The page and the CSV stand in the working folder.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
from pathlib import Path

EXTRACTORS = ("efficientnet-lite0", "efficientnet-lite0-flow")
LSTM = "hidden=128,project=256,dropout=0.2,predict=average"
EPOCHS = 25


def pipeline(*arguments: object) -> None:
    """Run a command of the pipeline as a user would, one thread a process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pipeline", *map(str, arguments)]
    subprocess.run(command, check=True, env=environment, cwd=Path(__file__).parents[2])


def manifest(data: Path, file: Path) -> Path:
    """Write the labelled list as the generic table that any tool reads."""
    with (data / "clips.csv").open(encoding="utf-8", newline="") as source:
        rows = list(csv.DictReader(source))
    with file.open("w", encoding="utf-8", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(["video", "label", "group"])
        writer.writerows([row["file"], row["label"], row["group"]] for row in rows)
    return file


def main() -> None:
    """Extract, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, default=Path("ut-interaction"))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--extract", nargs=argparse.REMAINDER, default=[])
    flags = parser.parse_args()
    work = flags.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    data = flags.data.resolve()
    listed = manifest(data, work / "list.csv")
    features = work / "features"
    wanted = [text for name in EXTRACTORS for text in ("-e", name)]
    pipeline(
        "extract", "--manifest", listed, "--videos", data, "--out", features, *wanted,
        *flags.extract,
    )  # fmt: skip
    pipeline(
        "compare", "--features", features, "--manifest", listed, "--videos", data, *wanted,
        "--folds", "group", "--inner", 2, "--lstm", LSTM, "--epochs", EPOCHS,
        "--seeds", flags.seeds, "--threads", 1,
        "--csv", work / "table.csv", "--html", work / "table.html",
    )  # fmt: skip


if __name__ == "__main__":
    main()
