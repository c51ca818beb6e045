"""Dense optical flow by dual TV-L1, as two-stream networks were trained on.

Flow is computed on grey frames *after* resizing, from frame ``t`` to frame ``t + 1``: N frames
give N - 1 flows (Carreira & Zisserman 2017, arXiv:1705.07750). Three backends share OpenCV's
parameters and defaults: ``native`` (the fast one), ``opencv`` (the reference) and ``torch``
(batched, for GPUs).
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any, get_args

import numpy as np

from pipeline.errors import UsageError
from pipeline.flow import backends
from pipeline.flow.backends import BatchedBackend, Field, FlowBackend, Gray, names
from pipeline.flow.parameters import DEFAULTS, PRESETS, Parameters
from pipeline.flow.quantisation import (
    BOUND_PX,
    RULES,
    Depth,
    as_stored,
    dequantise,
    quantise,
)
from pipeline.frames import Flow

__all__ = [
    "BOUND_PX",
    "DEFAULTS",
    "PRESETS",
    "RULES",
    "BatchedBackend",
    "Depth",
    "FlowBackend",
    "FlowStream",
    "Parameters",
    "as_stored",
    "declared",
    "dequantise",
    "names",
    "open_backend",
    "quantise",
    "stacked",
    "stream",
    "tvl1",
    "warm_up",
]


def open_backend(name: str, parameters: Parameters = DEFAULTS, device: str = "cpu") -> FlowBackend:
    """Return a backend; it may be shared by threads, and pickled.

    Raises
    ------
    UsageError
        An unknown name, a device that the backend does not run on, or a library that is missing.
    """
    backend: FlowBackend = backends.module(name).open_backend(parameters, device)
    return backend


def tvl1(
    previous: Gray, following: Gray, parameters: Parameters = DEFAULTS, backend: str = "native"
) -> Flow:
    """Return the flow of one pair of ``(H, W)`` uint8 grey frames, shape ``(1, H, W, 2)``."""
    return Flow(open_backend(backend, parameters)(previous, following)[np.newaxis])


class FlowStream(Iterator[Field]):
    """Flows of consecutive frames, lazily; as many frames are held as the backend takes at once.

    Attributes
    ----------
    pairs : int
        Flows given so far.
    repeated : int
        Pairs read so far whose frames are equal; their flow is zero and is not computed.
    """

    def __init__(self, frames: Iterable[Gray], backend: FlowBackend) -> None:
        self._pairs = itertools.pairwise(frames)
        self._backend = backend
        self._ready: deque[Field] = deque()
        self.pairs = 0
        self.repeated = 0

    def __next__(self) -> Field:
        """Return the next ``(H, W, 2)`` float32."""
        if not self._ready:
            self._ready.extend(self._compute())
        self.pairs += 1
        return self._ready.popleft()

    def _compute(self) -> list[Field]:
        size = self._backend.batch_pairs if isinstance(self._backend, BatchedBackend) else 1
        taken = list(itertools.islice(self._pairs, size))
        if not taken:
            raise StopIteration
        flows = [np.zeros((*following.shape, 2), np.float32) for _, following in taken]
        moving = [k for k, (a, b) in enumerate(taken) if a is not b and not np.array_equal(a, b)]
        self.repeated += len(taken) - len(moving)
        if isinstance(self._backend, BatchedBackend) and moving:
            batch = self._backend.batch(*(np.stack([taken[k][j] for k in moving]) for j in (0, 1)))
            for k, flow in zip(moving, batch, strict=True):
                flows[k] = flow
        else:
            for k in moving:
                flows[k] = self._backend(*taken[k])
        return flows


def stream(frames: Iterable[Gray], backend: FlowBackend) -> FlowStream:
    """Return an iterator over the N - 1 flows of N ``(H, W)`` uint8 frames of one size."""
    return FlowStream(frames, backend)


def stacked(flows: Field) -> Field:
    """Return T flows as channels x1, y1, x2, y2, ... of one image.

    The order of two-stream networks and TSN (Simonyan & Zisserman 2014, arXiv:1406.2199).

    Parameters
    ----------
    flows : array, shape (T, H, W, 2)

    Returns
    -------
    array, shape (H, W, 2 * T)
    """
    steps, height, width, _ = flows.shape
    return flows.transpose(1, 2, 0, 3).reshape(height, width, 2 * steps)


def declared(backend: str, parameters: Parameters, depth: Depth) -> dict[str, Any]:
    """Return what a recipe says of its flow, as plain JSON values."""
    if depth not in get_args(Depth):
        raise UsageError(f"no flow depth {depth!r}; expected one of {', '.join(get_args(Depth))}")
    return {
        "algorithm": "tvl1",
        "backend": backend,
        "numerics": backends.module(backend).numerics(),
        "parameters": asdict(parameters),
        "depth": depth,
        "rule": "centred" if depth == "uint8" else "clipped",
        "bound_px": BOUND_PX,
    }


def warm_up(backend: str = "native") -> None:
    """Compile what the backend compiles, or load it from the disk; call it at worker start."""
    pair = np.zeros((2, 32, 32), np.uint8)
    pair[1, 8:24, 8:24] = 255
    open_backend(backend)(pair[0], pair[1])
