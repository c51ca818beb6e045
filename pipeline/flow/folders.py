"""Folders of JPEG pictures as dense_flow and TSN write them: for other people's code, and from it.

``flow_x_00001.jpg`` and ``flow_y_00001.jpg`` are the first flow, numbered from 1 (denseflow counts
from 0; both are read). JPEG is lossy: what is read back is near, not equal, to what was written,
so these folders are an exchange format and not the cache.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from pipeline.errors import UsageError
from pipeline.flow._opencv import opencv
from pipeline.flow.backends import Field
from pipeline.flow.quantisation import BOUND_PX, Levels, dequantise, quantise

JPEG_QUALITY = 95
AXES = ("x", "y")
NAME = re.compile(r"flow_([xy])_(\d+)\.jpg")


def write_folder(
    flows: Iterable[Field], folder: Path, rule: str = "dense_flow", bound_px: float = BOUND_PX
) -> int:
    """Write flows as pairs of grey JPEG pictures; return how many flows there were.

    Parameters
    ----------
    flows : iterable of (H, W, 2) float32
        Pixels per frame.
    folder : Path
        Made when it is not there; must not hold flow pictures yet.
    rule, bound_px
        See `pipeline.flow.quantise`; the other side must use the same.

    Raises
    ------
    UsageError
        When the folder holds flow already or a picture cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(NAME.fullmatch(path.name) for path in folder.iterdir()):
        raise UsageError(f"{folder}: holds flow pictures already; expected a new or empty folder")
    count = 0
    for count, flow in enumerate(flows, start=1):
        levels = quantise(flow, rule, bound_px)
        for axis, plane in zip(AXES, np.moveaxis(levels, 2, 0), strict=True):
            path = folder / f"flow_{axis}_{count:05d}.jpg"
            quality = [opencv().IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
            if not opencv().imwrite(str(path), plane, quality):
                raise UsageError(f"{path}: cannot be written")
    return count


def read_folder(
    folder: Path, rule: str = "dense_flow", bound_px: float = BOUND_PX
) -> Iterator[Field]:
    """Yield the flows of a folder in order, ``(H, W, 2)`` float32 pixels per frame.

    Raises
    ------
    UsageError
        When the folder holds none, a number is missing or there twice, or a picture cannot be read,
        is not grey or not of the first one's size.
    """
    found = {axis: _numbers(folder, axis) for axis in AXES}
    numbers = sorted(found["x"])
    if not numbers or set(found["x"]) != set(found["y"]):
        raise UsageError(
            f"{folder}: {len(found['x'])} flow_x and {len(found['y'])} flow_y pictures; expected "
            "as many of both, with the same numbers"
        )
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        raise UsageError(
            f"{folder}: numbers {numbers[0]} to {numbers[-1]} but {len(numbers)} flows; expected "
            "no gaps"
        )
    shape = _read(found["x"][numbers[0]]).shape
    for number in numbers:
        planes = [_read(found[axis][number]) for axis in AXES]
        for axis, plane in zip(AXES, planes, strict=True):
            if plane.shape != shape:
                raise UsageError(
                    f"{found[axis][number]}: height and width are {plane.shape}, the first picture "
                    f"of the folder has {shape}; expected one size"
                )
        yield dequantise(np.stack(planes, axis=2), rule, bound_px)


def _numbers(folder: Path, axis: str) -> dict[int, Path]:
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        match = NAME.fullmatch(path.name)
        if match is None or match[1] != axis:
            continue
        earlier = found.setdefault(int(match[2]), path)
        if earlier is not path:
            raise UsageError(f"{path}: {earlier.name} has the same number; keep one of them")
    return found


def _read(path: Path) -> Levels:
    cv2 = opencv()
    plane: Levels | None = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if plane is None:
        raise UsageError(f"{path}: cannot be read as a picture")
    if plane.ndim == 3 and bool((plane == plane[..., :1]).all()):  # grey, written as colour
        plane = plane[..., 0]
    if plane.ndim != 2 or plane.dtype != np.uint8:
        raise UsageError(
            f"{path}: holds {plane.dtype} {plane.shape}; expected grey of 8 bits: flow written as "
            "one coloured picture is of another tool"
        )
    return plane
