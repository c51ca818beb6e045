"""Memory for batches, used again once nobody holds the batch that was in it."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

BUFFERS_KEPT = 4
_PROBE = [np.empty(0, np.uint8)]
REFERENCES_OF_A_FREE_BUFFER = sys.getrefcount(_PROBE[0])
"""What `sys.getrefcount` says of an array that one list holds and nobody else."""


class Buffers:
    """Memory for batches, used again once nobody holds the batch that was in it.

    The first touch of fresh memory costs several times the reading of a cached file, so memory
    is kept. A buffer is free when this object holds the only reference to it; tensors and views
    made of it each hold another.
    """

    def __init__(self) -> None:
        self._kept: list[NDArray[np.uint8]] = []

    def take(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return an array with undefined content."""
        size = math.prod(shape) * dtype.itemsize
        for number in range(len(self._kept)):
            free = sys.getrefcount(self._kept[number]) == REFERENCES_OF_A_FREE_BUFFER
            if free and len(self._kept[number]) >= size:
                return self._kept[number][:size].view(dtype).reshape(shape)
        fresh = np.empty(size + size // 4, np.uint8)
        self._kept = [*self._kept, fresh][-BUFFERS_KEPT:]
        return fresh[:size].view(dtype).reshape(shape)

    def __getstate__(self) -> dict[str, Any]:
        return {"_kept": []}
