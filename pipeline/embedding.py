"""From windows to rows: full network calls that mix windows of different segments.

A network call is expensive and its batch size fixed, so windows wait until a call is full or the
batch of segments ends. Rows come back in the order of their windows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import NotFinite
from pipeline.frames import Features
from pipeline.monitor import Monitor
from pipeline.windowing import Window

if TYPE_CHECKING:
    from extractors._extractor import Extractor

Image = NDArray[Any]


@dataclass(slots=True)
class Rows:
    """Rows of one segment under one recipe, as the network gives them back."""

    vectors: list[NDArray[np.float32]] = field(default_factory=list)
    seconds: list[tuple[float, float]] = field(default_factory=list)

    def add(self, rows: NDArray[np.float32], window: Window[Image], crops_kept: int) -> None:
        """Add one window's ``(R, D)`` rows: kept crops share its time, time steps divide it."""
        steps = len(rows) // crops_kept
        edges = np.linspace(window.start_seconds, window.end_seconds, steps + 1)
        self.vectors.extend(rows)
        self.seconds.extend(list(pairwise(edges)) * crops_kept)

    def features(self, dtype: str) -> Features:
        """Return all rows as `Features`, ``(N, D)`` of `dtype`."""
        seconds: NDArray[np.float64] = np.array(self.seconds, dtype=np.float64)
        return Features(np.stack(self.vectors).astype(dtype), seconds)


class Embedder:
    """Collects windows of one extractor, of whatever segment, into full network calls."""

    def __init__(self, extractor: Extractor, monitor: Monitor) -> None:
        spec = extractor.spec
        self._extractor = extractor
        self._monitor = monitor
        self._pending: list[tuple[Rows, Window[Any]]] = []
        self._full = 1 if spec.sampling.mode == "whole" else spec.batch_windows
        self._crops_kept = spec.geometry.crops if spec.geometry.keep_crops else 1

    def add(self, rows: Rows, window: Window[Any]) -> None:
        """Take a window whose rows belong to `rows`; run the network when a call is full."""
        self._pending.append((rows, window))
        if len(self._pending) == self._full:
            self.flush()

    def flush(self) -> None:
        """Run the network on what waits."""
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        with self._monitor.meter("embed"):
            answers = self._extractor([window.images for _, window in pending])
        if not np.isfinite(answers).all():
            raise NotFinite(
                f"{self._extractor.spec.name}: the network gave NaN or infinity; nothing of this "
                "batch is stored; check the weights, or take --precision fp32"
            )
        for (rows, window), answer in zip(pending, answers, strict=True):
            rows.add(answer, window, self._crops_kept)
        self._monitor.count("windows", len(pending))
        self._monitor.alive()
