"""The fast one: fused vector kernels on the CPU, as close to OpenCV as OpenCV's versions are.

Why it is fast is told in `pipeline.flow.kernels`. A call holds no lock of the interpreter, keeps no
state and allocates its own memory (about 80 bytes a pixel: 7 MB at 340x256, 75 MB at 1280x720), so
frame pairs run in as many threads as there are cores.
"""

from __future__ import annotations

import numpy as np

from pipeline.flow.backends import Field, Gray, check_pair, require_cpu
from pipeline.flow.parameters import Parameters, pyramid_shapes

NUMERICS = "native-1"


def numerics() -> str:
    """Return the version of the numbers; raised when a change moves them beyond rounding."""
    return NUMERICS


def open_backend(parameters: Parameters, device: str) -> NativeBackend:
    """Return the native backend."""
    require_cpu("native", device)
    return NativeBackend(parameters)


class NativeBackend:
    """The native TV-L1 as a callable; any number of threads may call it at once."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters

    def __call__(self, previous: Gray, following: Gray, /) -> Field:
        """Return ``(H, W, 2)`` float32, pixels per frame, of two ``(H, W)`` uint8 frames.

        The first call of a process compiles the kernels or loads them from the disk. Equal frames
        have zero flow, which is not computed.
        """
        check_pair(previous, following)
        if np.array_equal(previous, following):
            return np.zeros((*previous.shape, 2), np.float32)
        flow, _, _ = self.solve(previous, following)
        return flow

    def solve(self, previous: Gray, following: Gray) -> tuple[Field, int, int]:
        """Return the flow, the iterations made, and those past the stop test inside a block."""
        from pipeline.flow.kernels import solver

        given = self.parameters
        settings = solver.Settings(
            step=given.tau,
            bound=given.lambda_ * given.theta,
            ratio=given.theta / given.tau,
            epsilon=given.epsilon,
            scale_step=given.scale_step,
            warps=given.warps,
            inner_iterations=given.inner_iterations,
            outer_iterations=given.outer_iterations,
            median=given.median_px > 1,
        )
        flow = np.empty((*previous.shape, 2), np.float32)
        work = solver.workspace(pyramid_shapes(previous.shape[0], previous.shape[1], given))
        frames = np.ascontiguousarray(previous), np.ascontiguousarray(following)
        iterations, overshoots = solver.solve(*frames, flow, settings, work)
        return flow, iterations, overshoots
