"""From frames to a network's tensor: crops, mirror images, channel order, normalisation.

This is the only place that turns ``uint8`` frames (or flow in pixels per frame) into what a
network sees. Frames come resized but not cropped, ``(H, W, C)``; out comes
``(N, C, T, H, W)`` float32, one item per window and crop, windows first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from extractors._errors import ExtractorError
from extractors._spec import Geometry, Spec

Frame = NDArray[Any]
Window = Sequence[Frame]
Crop = tuple[int, int, int, int, bool]
"""Top, left, height, width, and whether the crop is mirrored."""

EXPECTED = {"rgb": (3, np.dtype(np.uint8)), "flow": (2, np.dtype(np.float32))}


def check(windows: Sequence[Window], spec: Spec) -> None:
    """Refuse windows that are not what `spec` asks for, saying what was found and expected.

    Raises
    ------
    ExtractorError
        On a wrong number of frames, shape, dtype, or a frame smaller than the crop.
    """
    channels, dtype = EXPECTED[spec.modality]
    for number, window in enumerate(windows):
        where = f"{spec.name}: window {number}"
        if spec.sampling.mode != "whole" and len(window) != spec.sampling.window:
            raise ExtractorError(
                f"{where} has {len(window)} frames, expected {spec.sampling.window}"
            )
        if not len(window):
            raise ExtractorError(f"{where} has no frame, expected at least one")
        first = window[0].shape
        for frame in window:
            if frame.ndim != 3 or frame.shape[2] != channels or frame.dtype != dtype:
                raise ExtractorError(
                    f"{where} holds a frame of {frame.dtype} {frame.shape}, "
                    f"expected {dtype} (H, W, {channels}) for {spec.modality}"
                )
            if frame.shape != first:
                raise ExtractorError(
                    f"{where} mixes frames of {first} and {frame.shape}, expected one size"
                )
        side = spec.geometry.crop_px
        if side is not None and min(first[:2]) < side:
            raise ExtractorError(
                f"{where} has frames of {first[0]}x{first[1]}, expected at least "
                f"{side}x{side} for the crop; resize to spec.geometry.resized(h, w) first"
            )


def crops(geometry: Geometry, height_px: int, width_px: int) -> list[Crop]:
    """Return where a resized frame is cropped, in the order of the rows that are kept.

    Examples
    --------
    >>> crops(Geometry(short_side_px=256, crop_px=224, crops=3), 256, 340)
    [(16, 0, 224, 224, False), (16, 58, 224, 224, False), (16, 116, 224, 224, False)]
    """
    if geometry.crop_px is None:
        return [(0, 0, height_px, width_px, False)]
    side = geometry.crop_px
    bottom, right = height_px - side, width_px - side
    rounding = round if geometry.centre == "round" else int
    middle, centre = rounding(bottom / 2), rounding(right / 2)
    corners = [(middle, centre)]
    if geometry.crops == 3:
        across = height_px <= width_px
        ends = [(middle, 0), (middle, right)] if across else [(0, centre), (bottom, centre)]
        corners = [ends[0], (middle, centre), ends[1]]
    elif geometry.crops == 10:
        corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (middle, centre)]
    mirrors = (False, True) if geometry.crops == 10 else (False,)
    return [(top, left, side, side, mirror) for mirror in mirrors for top, left in corners]


def to_tensors(
    window: Window, spec: Spec, device: torch.device, mean_cube: Tensor | None = None
) -> list[Tensor]:
    """Return one network input ``(C, T, h, w)`` float32 per crop of a checked window.

    Parameters
    ----------
    window : sequence of T arrays
        ``(H, W, 3)`` uint8 RGB, or ``(H, W, 2)`` float32 flow in pixels per frame.
    spec : Spec
        Crop, normalisation, channel order and flow stacking.
    device : torch.device
        Where the arithmetic is done; pixels travel as they are.
    mean_cube : Tensor, shape (C, T, H, W), optional
        Subtracted at each pixel's own place before the crop, instead of ``normalisation.mean``.
    """
    return [
        _normalised(_cut(window, crop), crop, spec, device, _mean(window, crop, spec, mean_cube))
        for crop in crops(spec.geometry, *window[0].shape[:2])
    ]


def _cut(window: Window, crop: Crop) -> Frame:
    """Crop every frame, not yet mirrored: (T, h, w, C)."""
    top, left, height, width, _ = crop
    return np.stack([frame[top : top + height, left : left + width] for frame in window])


def _mean(window: Window, crop: Crop, spec: Spec, mean_cube: Tensor | None) -> Tensor:
    """Return what is subtracted from a crop; broadcasts against (C, T, h, w)."""
    if mean_cube is not None:
        top, left, height, width, _ = crop
        return mean_cube[:, :, top : top + height, left : left + width]
    if spec.normalisation.subtract_mean_flow:
        displacement = np.stack([frame.mean(axis=(0, 1), dtype=np.float64) for frame in window])
        return torch.from_numpy(displacement.T.astype(np.float32))[:, :, None, None]
    return _per_channel(spec.normalisation.mean)


def _normalised(
    frames: Frame, crop: Crop, spec: Spec, device: torch.device, mean: Tensor
) -> Tensor:
    x = torch.from_numpy(frames).to(device).permute(3, 0, 1, 2).float()  # C x T x h x w
    if spec.modality == "rgb" and spec.normalisation.channels == "bgr":
        x = x.flip(0)
    x.sub_(mean.to(device))  # in place: `_cut` made a copy, and fresh memory costs as much again
    if crop[4]:
        x = _mirrored(x, spec)
    x.div_(_per_channel(spec.normalisation.std).to(device))
    if spec.flow_stack:
        x = x.transpose(0, 1).flatten(0, 1).unsqueeze(1)  # 2T x 1 x h x w: x1, y1, x2, y2, ...
    return x


def _mirrored(x: Tensor, spec: Spec) -> Tensor:
    """Flip left and right; a flow that went right now goes left."""
    x = x.flip(3)
    return torch.cat([-x[:1], x[1:]]) if spec.modality == "flow" else x


def _per_channel(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1, 1)
