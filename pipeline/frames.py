"""Checked value types for what moves through the pipeline: views, frames, flow and features.

Arrays are checked once, on creation; nothing after that re-checks them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Vectors = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class View:
    """How a decoded frame is wanted: resized to a size, as RGB or as grey.

    Attributes
    ----------
    height_px, width_px : int
        Size after resizing the upright picture (rotation applied).
    mode : {"rgb", "gray"}
        ``gray`` is the grey of the resized RGB picture (BT.601 weights, as OpenCV).
    interpolation : {"bilinear", "bicubic", "area", "nearest"}
        Rule of the resize.
    antialias : bool
        Low-pass before shrinking, as Pillow and torchvision do; OpenCV's ``resize`` does not.
    """

    height_px: int
    width_px: int
    mode: Literal["rgb", "gray"] = "rgb"
    interpolation: Literal["bilinear", "bicubic", "area", "nearest"] = "bilinear"
    antialias: bool = False

    def __post_init__(self) -> None:
        if self.height_px < 1 or self.width_px < 1:
            raise ValueError(f"view is {self.height_px}x{self.width_px}, expected at least 1x1")


@dataclass(frozen=True, slots=True)
class SampledFrame:
    """One decoded frame that at least one request wants.

    Attributes
    ----------
    pts_seconds : Fraction
        Presentation time from second 0 of the video.
    samples : tuple of range
        For each request, in the order given, the sample numbers that this frame serves; empty
        when the request does not want it, longer than one where a low frame rate repeats it.
    images : Mapping of View to array
        ``(H, W, 3)`` RGB or ``(H, W)`` grey, uint8, for each view of each request that wants it.
    """

    pts_seconds: Fraction
    samples: tuple[range, ...]
    images: Mapping[View, Pixels]


@dataclass(frozen=True, slots=True)
class Flow:
    """Dense optical flow of N consecutive frame pairs.

    Attributes
    ----------
    data : array, shape (N, H, W, 2), float32
        ``dx`` then ``dy`` in pixels per frame; flow ``t`` leads from frame ``t`` to ``t + 1``.
    """

    data: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.data.ndim != 4 or self.data.shape[3] != 2 or self.data.dtype != np.float32:
            raise ValueError(
                f"flow is {self.data.dtype} {self.data.shape}, expected float32 (N, H, W, 2)"
            )


@dataclass(frozen=True, slots=True)
class Features:
    """The rows of one segment under one recipe.

    Attributes
    ----------
    vectors : array, shape (N, D), float32 or float16
        One row per window.
    seconds : array, shape (N, 2), float64
        What each row covers, ``[start, end)``, in source-video time.
    """

    vectors: Vectors
    seconds: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or self.seconds.shape != (len(self.vectors), 2):
            raise ValueError(
                f"features are {self.vectors.shape} with seconds {self.seconds.shape}, "
                "expected (N, D) with (N, 2)"
            )

    def __len__(self) -> int:
        return len(self.vectors)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Unpack as ``vectors, seconds = features``."""
        return iter((self.vectors, self.seconds))
