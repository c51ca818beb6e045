"""The reference: OpenCV's own DualTVL1, one object per thread, made anew for another frame size.

An object keeps its work arrays, is not thread-safe, and lowers its own number of scales for good
when it meets a small frame, so that later flows of larger frames would change; hence it serves one
thread and one size, and only that of the last size is kept: a data set has hundreds. OpenCV 5
samples the cubic warp at exact positions, 4.x rounds them to 1/32 px: they differ by about 0.03 px,
so the major version is part of the numerics name.
"""

from __future__ import annotations

import threading
from typing import Any

from pipeline.errors import UsageError
from pipeline.flow._opencv import MISSING, opencv
from pipeline.flow.backends import Field, Gray, check_pair, require_cpu
from pipeline.flow.parameters import Parameters


def numerics() -> str:
    """Return ``opencv-`` and the major version."""
    return f"opencv-{_cv2().__version__.split('.')[0]}"


def open_backend(parameters: Parameters, device: str) -> OpenCVBackend:
    """Return the reference backend; raise `UsageError` when OpenCV contrib is not to be had."""
    require_cpu("opencv", device)
    _cv2()
    return OpenCVBackend(parameters)


class OpenCVBackend:
    """OpenCV's DualTVL1 as a callable; any thread may call it."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self._own = threading.local()

    def __reduce__(self) -> tuple[type[OpenCVBackend], tuple[Parameters]]:
        return type(self), (self.parameters,)

    def __call__(self, previous: Gray, following: Gray, /) -> Field:
        """Return ``(H, W, 2)`` float32, pixels per frame, of two ``(H, W)`` uint8 frames."""
        check_pair(previous, following)
        flow: Field = self._solver(previous.shape).calc(previous, following, None)
        return flow

    def _solver(self, shape: tuple[int, ...]) -> Any:
        own = self._own
        if getattr(own, "shape", None) != shape:
            given = self.parameters
            own.solver = _cv2().optflow.DualTVL1OpticalFlow_create(
                tau=given.tau,
                lambda_=given.lambda_,
                theta=given.theta,
                nscales=given.scales,
                warps=given.warps,
                epsilon=given.epsilon,
                innnerIterations=given.inner_iterations,
                outerIterations=given.outer_iterations,
                scaleStep=given.scale_step,
                medianFiltering=given.median_px,
            )
            own.shape = shape
        return own.solver


def _cv2() -> Any:
    cv2 = opencv()
    if not hasattr(cv2, "optflow"):
        raise UsageError(MISSING.format(reason="this one has no contrib modules"))
    return cv2
