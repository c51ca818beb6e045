"""Small stores to try things on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.frames import Features
from pipeline.provenance import Recipe
from pipeline.store import RecipeShards, SegmentRow, Store

Make = Callable[..., SegmentRow]
RECIPE = Recipe("zoo:net", {"layer": "pool", "fps": "5"})
DIM = 6


@pytest.fixture
def make_row() -> Make:
    """Rows whose numbers follow from their key alone."""

    def make(key: str, rows: int = 3, dtype: str = "float32", **more: object) -> SegmentRow:
        seed = np.frombuffer(key.encode(), np.uint8)
        vectors = np.random.default_rng(seed).standard_normal((rows, DIM)).astype(dtype)
        starts = np.arange(rows) * 0.2
        features = Features(vectors, np.stack([starts, starts + 0.2], axis=1))
        fields = {
            "video": key,
            "start_seconds": 0.0,
            "end_seconds": 1.0,
            "label": "walk",
            "split": "train",
            "group": "g1",
            "source_size": 10,
            "source_mtime_ns": 20,
        }
        return SegmentRow(key=key, features=features, **{**fields, **more})

    return make


@pytest.fixture
def shards(tmp_path: Path) -> RecipeShards:
    """An empty recipe in a store of one bucket."""
    Store.create(tmp_path / "out", buckets=1)
    return RecipeShards.create(tmp_path / "out", RECIPE)
