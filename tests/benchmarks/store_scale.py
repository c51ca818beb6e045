"""What a large store costs to plan: index made, opened, asked; commits of one batch.

    python -m tests.benchmarks.store_scale [--segments 100000] [--out FOLDER]

Shards of 64 segments with one row each are written first (kept in FOLDER when it is given). Then,
each in a process of its own: the index made from nothing, and opened again, with every segment
looked up. Times are CPU seconds; memory is what the process needs beyond its imports.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from pipeline.frames import Features
from pipeline.provenance import Recipe
from pipeline.store import FeatureStore, RecipeShards, SegmentRow, Store, buckets_for

DIM = 4
RECIPE = Recipe("x", {})


def key_of(number: int) -> str:
    return f"abcdefg{number:07d}_000010_000020"


def make(out: Path, segments: int) -> None:
    store = Store.create(out, buckets_for(segments))
    shards = RecipeShards.create(out, RECIPE)
    features = Features(np.zeros((1, DIM), np.float32), np.array([[10.0, 20.0]]))
    by_bucket: dict[int, list[str]] = {}
    for number in range(segments):
        by_bucket.setdefault(store.bucket(key_of(number)), []).append(key_of(number))
    begun, start = time.process_time(), time.perf_counter()
    for bucket, keys in by_bucket.items():
        rows = [
            SegmentRow(
                key=key,
                video=key[:14],
                start_seconds=10,
                end_seconds=20,
                label="playing cricket",
                split="train",
                source_size=1,
                source_mtime_ns=2,
                features=features,
            )
            for key in keys
        ]
        shards.commit(bucket, rows, [], {})
    count = len(by_bucket)
    print(
        f"commit   {(time.process_time() - begun) / count * 1e3:7.2f} ms cpu, "
        f"{(time.perf_counter() - start) / count * 1e3:7.2f} ms wall each, {count} shards"
    )


def ask(out: Path, segments: int, title: str) -> None:
    before = peak_mb()
    begun = time.process_time()
    known = RecipeShards.open(out, FeatureStore(out).recipes[0]).committed()
    opened = time.process_time()
    assert all(known.done[key_of(number)] == (1, 2) for number in range(segments))
    asked = time.process_time()
    print(
        f"{title:8} {opened - begun:7.2f} s, {segments} look-ups {asked - opened:6.2f} s, "
        f"{peak_mb() - before:6.0f} MB"
    )


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--segments", type=int, default=100_000)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--ask", metavar="TITLE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        ask(options.out, options.segments, options.ask)
        return
    with tempfile.TemporaryDirectory() as folder:
        out = options.out or Path(folder)
        if not (out / "store.json").exists():
            make(out, options.segments)
        (out / RECIPE.folder / "index.npz").unlink(missing_ok=True)
        for title in ("made", "opened"):
            arguments = ["--segments", str(options.segments), "--out", str(out), "--ask", title]
            command = [sys.executable, "-m", "tests.benchmarks.store_scale", *arguments]
            subprocess.run(command, check=True)
        size = os.path.getsize(out / RECIPE.folder / "index.npz")
        print(f"index    {size / 1e6:7.1f} MB, {size / options.segments:.0f} bytes a segment")


if __name__ == "__main__":
    main()
