"""Implementations of TV-L1, one module each, found by looking at the modules of this package.

A backend module declares ``numerics() -> str``, which names the version of its numbers and changes
when a change of code or library moves them beyond rounding, and
``open_backend(parameters, device) -> FlowBackend``.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from types import ModuleType
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError

Gray = NDArray[np.uint8]
Field = NDArray[np.float32]


class FlowBackend(Protocol):
    """A callable that gives the flow of one frame pair; any thread may call it at any time."""

    def __call__(self, previous: Gray, following: Gray, /) -> Field:
        """Return ``(H, W, 2)`` float32: dx, dy in pixels from `previous` to `following`."""
        ...


@runtime_checkable
class BatchedBackend(FlowBackend, Protocol):
    """A backend that does better with several pairs of one size at once."""

    batch_pairs: int

    def batch(self, previous: Gray, following: Gray) -> Field:
        """Return ``(N, H, W, 2)`` float32 of two ``(N, H, W)`` uint8 arrays."""
        ...


def names() -> tuple[str, ...]:
    """Return the names of the backends, sorted."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in found if not name.startswith("_")))


def module(name: str) -> ModuleType:
    """Return the backend's module, or raise `UsageError` with the nearest names."""
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"no flow backend {name!r}; expected one of {', '.join(names())}{hint}")
    return importlib.import_module(f"{__name__}.{name}")


def check_pair(previous: Gray, following: Gray) -> None:
    """Raise `ValueError` unless both are 2-D uint8 arrays of one shape, not empty."""
    for image in (previous, following):
        if image.ndim != 2 or image.dtype != np.uint8 or not image.size:
            raise ValueError(
                f"frame is {image.dtype} {image.shape}, expected grey uint8 (height, width)"
            )
    if previous.shape != following.shape:
        raise ValueError(f"frames differ in shape: {previous.shape} and {following.shape}")


def require_cpu(name: str, device: str) -> None:
    """Raise `UsageError` when a CPU backend is asked to run elsewhere."""
    if device != "cpu":
        raise UsageError(f"flow backend {name!r} runs on the cpu, not on {device!r}; use 'torch'")
