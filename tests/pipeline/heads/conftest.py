"""Small ragged sequences with a known answer, and a store that holds them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from extractors import spec
from pipeline.frames import Features
from pipeline.heads._examples import Examples
from pipeline.heads._head import Task
from pipeline.provenance import Recipe
from pipeline.store import RecipeShards, SegmentRow, Store

CLASSES = ("fold", "pull", "wave")
GROUPS, PER_GROUP = 5, 6
DIM = 12


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def sequences(noise: float, seed: int, dim: int = DIM) -> tuple[torch.Tensor, ...]:
    """Rows of 30 segments: the class's own mean plus noise, 2 to 6 rows each."""
    random = torch.Generator().manual_seed(seed)
    means = torch.randn(len(CLASSES), dim, generator=torch.Generator().manual_seed(99))
    return tuple(
        means[k % 3] + noise * torch.randn(2 + k % 5, dim, generator=random)
        for k in range(GROUPS * PER_GROUP)
    )


@pytest.fixture
def make_examples() -> Callable[..., Examples]:
    def make(noise: float = 0.5, streams: int = 1, multi_label: bool = False) -> Examples:
        numbers = torch.arange(GROUPS * PER_GROUP)
        targets = numbers % 3
        if multi_label:
            targets = torch.nn.functional.one_hot(targets, 3).float()
            targets[::6, 2] = 1.0
        return Examples(
            keys=tuple(f"v{k:02d}_000000_end" for k in numbers.tolist()),
            groups=tuple(f"g{k // PER_GROUP}" for k in numbers.tolist()),
            splits=("",) * len(numbers),
            task=Task(CLASSES, multi_label),
            targets=targets,
            streams=tuple(f"stream{s}" for s in range(streams)),
            rows=tuple(sequences(noise, s) for s in range(streams)),
        )

    return make


@pytest.fixture
def feature_store(tmp_path: Path) -> Path:
    """A store of an RGB and a flow recipe; flow tells the classes apart, RGB hardly does."""
    out = tmp_path / "features"
    store = Store.create(out, buckets=2)
    for name, noise, seed in (("efficientnet-lite0", 6.0, 0), ("efficientnet-lite0-flow", 0.3, 1)):
        weights = spec(name).weights[0].sha256
        recipe = Recipe(name, {"spec": spec(name).declared(), "weights": weights})
        shards = RecipeShards.create(out, recipe)
        segments = [_segment(k, rows) for k, rows in enumerate(sequences(noise, seed))]
        for bucket in range(2):
            shards.commit(bucket, [s for s in segments if store.bucket(s.key) == bucket], [], {})
    return out


def _segment(number: int, rows: torch.Tensor) -> SegmentRow:
    starts = np.arange(len(rows)) / 5
    return SegmentRow(
        key=f"v{number:02d}_000000_end",
        video=f"v{number:02d}",
        start_seconds=0.0,
        end_seconds=float("nan"),
        label=CLASSES[number % 3],
        group=f"g{number // PER_GROUP}",
        frames_decoded=5 * len(rows),
        features=Features(rows.numpy(), np.stack([starts, starts + 0.2], 1)),
    )
