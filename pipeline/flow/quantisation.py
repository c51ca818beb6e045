"""Flow as 8 bits: three rules that the field uses, by name, and their inverses.

``centred`` is this project's rule (and that of two-stream I3D code in PyTorch): zero motion is
exactly level 128 and comes back as exactly zero. The other two exist to read and to write other
people's files: ``dense_flow`` spreads ``[-bound, bound]`` over 0..255 and rounds (dense_flow,
denseflow, TSN), so that zero comes back as 0.08 px; ``truncated`` is the same without rounding
(MediaPipe's Kinetics graph, mmaction2's script), zero becomes 127. Mixing them shifts features, so
the rule is written beside every stored flow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError

BOUND_PX = 20.0
"""Displacements are clipped to +-20 px per frame (Carreira & Zisserman 2017, arXiv:1705.07750)."""
LEVELS = 255.0

Depth = Literal["uint8", "float32"]
Levels = NDArray[np.uint8]
Field = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Rule:
    """One way from pixels per frame to levels 0..255 and back."""

    to_levels: Callable[[NDArray[np.float64], float], NDArray[np.float64]]
    to_pixels: Callable[[NDArray[np.float64], float], NDArray[np.float64]]


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "centred": Rule(
            lambda flow, bound: np.rint(128 + flow * (LEVELS / (2 * bound))),
            lambda level, bound: (level - 128) * (2 * bound / LEVELS),
        ),
        "dense_flow": Rule(
            lambda flow, bound: np.rint(LEVELS * (flow + bound) / (2 * bound)),
            lambda level, bound: level * (2 * bound / LEVELS) - bound,
        ),
        "truncated": Rule(
            lambda flow, bound: np.floor(LEVELS * ((flow + bound) / (2 * bound))),
            lambda level, bound: level * (2 * bound / LEVELS) - bound,
        ),
    }
)


def quantise(flow: Field, rule: str = "centred", bound_px: float = BOUND_PX) -> Levels:
    """Clip to ``[-bound_px, bound_px]`` and return levels 0..255.

    Parameters
    ----------
    flow : array of any shape, float32
        Displacements in pixels per frame.
    rule : {"centred", "dense_flow", "truncated"}
        Rounding is half to even.
    bound_px : float
        Largest displacement kept.

    Returns
    -------
    array of the same shape, uint8

    Raises
    ------
    UsageError
        On an unknown rule or a bound that is not positive.
    """
    to_levels = _rule(rule, bound_px).to_levels
    clipped = np.clip(flow, -bound_px, bound_px).astype(np.float64)
    levels = to_levels(clipped, bound_px)
    return np.clip(levels, 0, LEVELS).astype(np.uint8)


def dequantise(levels: Levels, rule: str = "centred", bound_px: float = BOUND_PX) -> Field:
    """Return displacements in pixels per frame, float32: the inverse of `quantise`.

    ``centred`` gives [-20.08, 19.92] at the default bound and exactly 0 for level 128.
    """
    every = np.arange(256, dtype=np.float64)
    table = _rule(rule, bound_px).to_pixels(every, bound_px).astype(np.float32)
    pixels: Field = table[levels]
    return pixels


def as_stored(flow: Field, depth: Depth) -> Field:
    """Return what a network sees at this depth: the same numbers whether cached or not.

    ``uint8`` is quantised and back by the ``centred`` rule, ``float32`` is clipped only.
    """
    if depth == "uint8":
        return dequantise(quantise(flow))
    clipped: Field = np.clip(flow, -BOUND_PX, BOUND_PX)
    return clipped


def _rule(name: str, bound_px: float) -> Rule:
    if not 0 < bound_px < np.inf:
        raise UsageError(f"flow bound is {bound_px} px; expected a positive number")
    if name not in RULES:
        raise UsageError(f"no quantisation rule {name!r}; expected one of {', '.join(RULES)}")
    return RULES[name]
