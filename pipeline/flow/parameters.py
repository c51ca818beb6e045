"""Parameters of dual TV-L1, with OpenCV's names, meanings and defaults, and named presets.

Zach, Pock, Bischof, *A Duality Based Approach for Realtime TV-L1 Optical Flow*, DAGM 2007,
doi:10.1007/978-3-540-74936-3_22; Sanchez Perez, Meinhardt-Llopis, Facciolo, *TV-L1 Optical Flow
Estimation*, IPOL 2013, doi:10.5201/ipol.2013.26. OpenCV's ``gamma`` (illumination term) is 0 here,
as in its defaults, and ``useInitialFlow`` is off: a warm start makes a result depend on what was
computed before it.

OpenCV is far from convergence when its stop test fires, so every shortcut shows in the flow. The
faster presets are therefore *other features*, not approximations of the same ones, and a preset's
numbers are part of a recipe. Measured on eight pairs of 340x256, one core of an EPYC (Zen 3), by
``python -m tests.benchmarks.flow presets``; for scale, OpenCV 4.14 and 5 are 0.027 px and 6 % of
the levels apart:

========  ============  ==========================  ============================
preset    ms per pair   mean px from ``faithful``   8-bit levels that differ
========  ============  ==========================  ============================
faithful  40            0                           0 %
quick     16            0.08                        16 %
draft     11            0.11                        21 %
========  ============  ==========================  ============================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

MINIMUM_SIDE_PX = 16
"""A pyramid level with a shorter side is not made (OpenCV's rule)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Settings of TV-L1; the defaults are OpenCV's.

    Attributes
    ----------
    tau : float
        Time step of the dual problem.
    lambda_ : float
        Weight of the data term: smaller is smoother.
    theta : float
        Tightness of the coupling between the two half problems.
    scales : int
        Pyramid levels at most; levels with a side below 16 px are left out.
    warps : int
        Times that the second frame is warped at each level.
    epsilon : float
        Stop when the squared update falls to ``epsilon ** 2`` per pixel.
    inner_iterations, outer_iterations : int
        Iterations at most between two median filters, and median filters per warp.
    scale_step : float
        Size of a level relative to the next finer one, in (0, 1).
    median_px : {1, 5}
        Side of the median filter on the flow; 1 is none.
    """

    tau: float = 0.25
    lambda_: float = 0.15
    theta: float = 0.3
    scales: int = 5
    warps: int = 5
    epsilon: float = 0.01
    inner_iterations: int = 30
    outer_iterations: int = 10
    scale_step: float = 0.8
    median_px: Literal[1, 5] = 5

    def __post_init__(self) -> None:
        for name in ("tau", "lambda_", "theta", "epsilon"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a positive number")
        for name in ("scales", "warps", "inner_iterations", "outer_iterations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if not 0 < self.scale_step < 1:
            raise ValueError(f"scale_step is {self.scale_step}, expected inside (0, 1)")
        if self.median_px not in (1, 5):
            raise ValueError(f"median_px is {self.median_px}, expected 1 (none) or 5")


DEFAULTS = Parameters()

PRESETS: Mapping[str, Parameters] = MappingProxyType(
    {
        "faithful": DEFAULTS,
        "quick": replace(DEFAULTS, outer_iterations=1, inner_iterations=10, warps=3),
        "draft": replace(DEFAULTS, epsilon=0.03, warps=2),
    }
)


def pyramid_shapes(height_px: int, width_px: int, parameters: Parameters) -> list[tuple[int, int]]:
    """Return the ``(height, width)`` of every pyramid level, finest first.

    Each level is the one before times `Parameters.scale_step`, rounded half to even; levels stop
    before one with a side below `MINIMUM_SIDE_PX`, and the finest is always there.
    """
    shapes = [(height_px, width_px)]
    while len(shapes) < parameters.scales:
        height, width = (round(side * parameters.scale_step) for side in shapes[-1])
        if min(height, width) < MINIMUM_SIDE_PX:
            break
        shapes.append((height, width))
    return shapes
