"""Reading training batches: ours against plain h5py, interleaved in one process.

    python -m tests.benchmarks.dataset_batches [--videos 1000] [--rounds 40]

A batch is 64 random videos of 20 to 100 rows of 1024 float32 (about 15 MB), warm in the page
cache. Every way gives equal values; the ratio printed is that of the medians of CPU time (user and
system), which a busy machine moves less than wall time. Ways:

group        one HDF5 group per video, ``f[key]["features"][:]``
by name      our shards through h5py, ``file["features"][first:last]``
handle       the same with the dataset object kept
... + pad    and collated as a network takes them: one (64, T, 1024) tensor, mask, targets
rows         our reader into memory that is used again
batch        `FeatureDataset`: the same tensor, mask and targets

Like is compared with like: `batch` with the ways that pad, `rows` with those that do not.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from pipeline.frames import Features
from pipeline.heads.dataset import FeatureDataset
from pipeline.provenance import Recipe
from pipeline.store import RecipeShards, SegmentRow, Store, buckets_for

BATCH = 64
DIM = 1024
LONGEST = 100
Way = Callable[[list[int], list[str]], Any]


def make(out: Path, videos: int) -> None:
    """Write the same features as a store and as a group per video."""
    random = np.random.default_rng(0)
    store = Store.create(out, buckets_for(videos))
    shards = RecipeShards.create(out, Recipe("x", {}))
    by_bucket: dict[int, list[SegmentRow]] = {}
    for number in range(videos):
        rows = int(random.integers(20, LONGEST + 1))
        vectors = random.standard_normal((rows, DIM), dtype=np.float32)
        seconds = np.stack([np.arange(rows), np.arange(rows) + 1.0], axis=1)
        key = f"video{number:06d}"
        row = SegmentRow(
            key=key,
            video=key,
            start_seconds=0,
            end_seconds=rows,
            label=f"class {number % 10}",
            features=Features(vectors, seconds),
        )
        by_bucket.setdefault(store.bucket(key), []).append(row)
    with h5py.File(out / "groups.h5", "w") as file:
        for bucket, segments in by_bucket.items():
            shards.commit(bucket, segments, [], {})
            for row in segments:
                file.create_group(row.key)["features"] = row.features.vectors


def collated(arrays: Sequence[np.ndarray], targets: Sequence[int]) -> tuple[torch.Tensor, ...]:
    """What anybody's `collate_fn` does with ragged arrays."""
    rows = pad_sequence([torch.from_numpy(array) for array in arrays], batch_first=True)
    lengths = torch.tensor([len(array) for array in arrays])
    return rows, torch.arange(rows.shape[1]) < lengths[:, None], torch.tensor(targets)


def ways_of(out: Path, data: FeatureDataset) -> dict[str, Way]:
    groups = h5py.File(out / "groups.h5", "r")
    places = {}
    for path in sorted((out / data.recipes[0] / "shards").glob("*.h5")):
        file = h5py.File(path, "r")
        offsets = file["offsets"][:]
        for number, key in enumerate(file["items"]["key"]):
            places[key.decode()] = (file, file["features"], *offsets[number : number + 2])
    memory = np.zeros((BATCH, LONGEST, DIM), np.float32)
    reader = data.reader

    def rows(numbers: list[int], keys: list[str]) -> list[np.ndarray]:
        out = [memory[place, : data.lengths[n]] for place, n in enumerate(numbers)]
        for place, number in enumerate(numbers):
            reader.read(0, number, out[place])
        return out

    ways: dict[str, Way] = {
        "group": lambda numbers, keys: [groups[key]["features"][:] for key in keys],
        "by name": lambda numbers, keys: [
            file["features"][first:last] for file, _, first, last in map(places.get, keys)
        ],
        "handle": lambda numbers, keys: [
            kept[first:last] for _, kept, first, last in map(places.get, keys)
        ],
    }
    targets = dict(zip(data.keys, data.targets.tolist(), strict=True))
    ways |= {f"{name} + pad": _then_collate(way, targets) for name, way in ways.items()}
    ways["rows"] = rows
    ways["batch"] = lambda numbers, keys: data.__getitems__(numbers)
    return ways


def _then_collate(way: Way, targets: dict[str, int]) -> Way:
    return lambda numbers, keys: collated(way(numbers, keys), [targets[key] for key in keys])


def check(ways: dict[str, Way], numbers: list[int], keys: list[str]) -> None:
    """All ways give equal values."""
    expected = ways["group"](numbers, keys)
    for name in ("by name", "handle", "rows"):
        for left, right in zip(expected, ways[name](numbers, keys), strict=True):
            np.testing.assert_array_equal(left, right, name)
    batch = ways["batch"](numbers, keys)
    ours = (batch.rows[0], batch.mask, batch.targets)
    for name in ("group + pad", "by name + pad", "handle + pad"):
        for left, right in zip(ours, ways[name](numbers, keys), strict=True):
            assert torch.equal(left, right), name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        make(out, options.videos)
        data = FeatureDataset(out, "x")
        ways = ways_of(out, data)
        random = np.random.default_rng(1)
        cpu: dict[str, list[float]] = {name: [] for name in ways}
        wall: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(options.rounds):
            numbers = random.choice(len(data), BATCH, replace=False).tolist()
            keys = [data.keys[number] for number in numbers]
            if turn == 0:
                check(ways, numbers, keys)
            for name, way in ways.items():
                start, begun = time.perf_counter(), time.process_time()
                result = way(numbers, keys)
                cpu[name].append(time.process_time() - begun)
                wall[name].append(time.perf_counter() - start)
                del result
        report(cpu, wall)


def report(cpu: dict[str, list[float]], wall: dict[str, list[float]]) -> None:
    print(f"{'way':14} {'cpu ms':>8} {'wall ms':>8} {'min ms':>8} {'/ rows':>7} {'/ batch':>8}")
    for name, times in cpu.items():
        median = float(np.median(times))
        against = [median / float(np.median(cpu[ours])) for ours in ("rows", "batch")]
        print(
            f"{name:14} {median * 1e3:8.2f} {np.median(wall[name]) * 1e3:8.2f} "
            f"{min(wall[name]) * 1e3:8.2f} {against[0]:6.1f}x {against[1]:7.1f}x"
        )


if __name__ == "__main__":
    main()
