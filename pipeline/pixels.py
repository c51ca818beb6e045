"""Everything that turns a decoded picture into the pixels that a network or TV-L1 sees.

What: a `Picture` holds the planes as the decoder left them; `render` gives the views wanted of it.

Why this way. Converting a 720p frame to RGB and then shrinking it costs more than decoding it, and
most of those pixels are thrown away. So each plane is resized first and the colour is computed at
the small size; on natural video the result stays within a mean of 1.5 and a 99th percentile of 4
levels of convert-then-resize (``tests/truth/test_decode_colour.py``). A picture that keeps its size
is converted by its decoder (`Picture.native`), so that it is what FFmpeg itself gives.

Decisions, each part of `PIXELS_VERSION`:

* range and matrix follow the stream's tags; an untagged stream is limited range BT.601, as FFmpeg
  assumes, whatever its size;
* chroma is taken as centred between its luma samples (siting is at most half a pixel);
* grey is the grey of the resized RGB picture, with OpenCV's weights, because the flow networks'
  authors made it so; there is no shortcut through the luma plane;
* ``antialias`` is Pillow's resize (a low-pass that grows with the shrink, as torchvision's), the
  other rules are OpenCV's; rotation and mirroring are applied after the resize;
* pictures that are not 8-bit planar YUV reach this module as RGB, converted by their decoder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.frames import Pixels, View

PIXELS_VERSION = 1
"""Changes whenever the same file and view could give other pixels; part of every recipe."""

# Luma weights (Kr, Kb) of the matrices that tags name; ITU-T H.273, table 4.
LUMA_WEIGHTS = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "fcc": (0.30, 0.11),
    "smpte240m": (0.212, 0.087),
    "bt2020": (0.2627, 0.0593),
}

LUMA_LEVELS_LIMITED = 219.0
CHROMA_LEVELS_LIMITED = 224.0
LEVELS_FULL = 255.0
BLACK_LIMITED = 16.0
CHROMA_ZERO = 128.0


@dataclass(frozen=True, slots=True)
class Orientation:
    """How the stored picture becomes the upright one: first transpose, then mirror.

    Attributes
    ----------
    transpose : bool
        Rows become columns.
    mirror_x, mirror_y : bool
        Then reversed from left to right, from top to bottom.
    """

    transpose: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    def upright(self, height_px: int, width_px: int) -> tuple[int, int]:
        """(height, width) of the upright picture, or of the stored one: it is its own inverse."""
        return (width_px, height_px) if self.transpose else (height_px, width_px)

    def apply(self, image: Pixels) -> Pixels:
        """Return the image upright, contiguous in memory."""
        if self.transpose:
            image = image.swapaxes(0, 1)
        image = image[:: -1 if self.mirror_y else 1, :: -1 if self.mirror_x else 1]
        return np.ascontiguousarray(image)


UPRIGHT = Orientation()


@dataclass(frozen=True, slots=True)
class Picture:
    """One decoded picture, not yet converted; its planes may be views of a decoder's buffer.

    Attributes
    ----------
    planes : tuple of array, uint8
        ``(H, W)`` luma and two chroma planes that cover it, or one ``(H, W, 3)`` RGB.
    matrix : str
        Key of `LUMA_WEIGHTS`; without meaning for RGB.
    full_range : bool
        Levels are 0..255 rather than 16..235 (240 for chroma).
    orientation : Orientation
        What makes it upright.
    native : callable or None
        Gives ``(H, W, 3)`` RGB by the decoder's own conversion; used where nothing is resized.
    """

    planes: tuple[Pixels, ...]
    matrix: str = "bt601"
    full_range: bool = False
    orientation: Orientation = UPRIGHT
    native: Callable[[], Pixels] | None = None


def render(picture: Picture, views: Iterable[View]) -> dict[View, Pixels]:
    """Return each view of a picture; views that differ only in mode share the work.

    Parameters
    ----------
    picture : Picture
        What the decoder gave.
    views : iterable of View
        Sizes are those of the upright picture.

    Returns
    -------
    dict of View to array
        ``(H, W, 3)`` RGB or ``(H, W)`` grey, uint8, contiguous, owning their memory.
    """
    colours: dict[tuple[object, ...], Pixels] = {}
    images: dict[View, Pixels] = {}
    for view in views:
        if view in images:
            continue
        geometry = (view.height_px, view.width_px, view.interpolation, view.antialias)
        if geometry not in colours:
            colours[geometry] = _rgb(picture, view)
        rgb = colours[geometry]
        images[view] = rgb if view.mode == "rgb" else gray(rgb)
    return images


def cap_threads(threads: int) -> None:
    """Limit the threads that OpenCV starts in this process; workers call it, libraries do not."""
    import cv2

    cv2.setNumThreads(threads)


def gray(rgb: Pixels) -> Pixels:
    """Return the grey of an RGB image: ``0.299 R + 0.587 G + 0.114 B``, as OpenCV rounds it."""
    import cv2

    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)


def resize(
    image: Pixels,
    size: tuple[int, int],
    interpolation: Literal["bilinear", "bicubic", "area", "nearest"] = "bilinear",
    antialias: bool = False,
) -> Pixels:
    """Return an image or plane at another size, by a named rule.

    Parameters
    ----------
    image : array, shape (H, W) or (H, W, 3), uint8
        The source; rows may be padded.
    size : (int, int)
        Height and width wanted.
    interpolation, antialias
        As in `View`; ``area`` averages by itself and ``nearest`` never does, so `antialias`
        matters to neither.

    Returns
    -------
    array, shape (*size,) or (*size, 3), uint8
        The image itself where it already has that size.
    """
    if image.shape[:2] == size:
        return image
    height, width = size
    if antialias and interpolation in ("bilinear", "bicubic"):
        from PIL import Image

        rule = Image.Resampling[interpolation.upper()]
        return np.asarray(Image.fromarray(image).resize((width, height), rule))
    import cv2

    rules = {
        "bilinear": cv2.INTER_LINEAR,
        "bicubic": cv2.INTER_CUBIC,
        "area": cv2.INTER_AREA,
        "nearest": cv2.INTER_NEAREST,
    }
    return np.asarray(cv2.resize(image, (width, height), interpolation=rules[interpolation]))


def _rgb(picture: Picture, view: View) -> Pixels:
    size = picture.orientation.upright(view.height_px, view.width_px)
    if picture.native is not None and picture.planes[0].shape[:2] == size:
        return picture.orientation.apply(picture.native())
    planes = [
        resize(plane, size, view.interpolation, view.antialias)
        for plane in _covering(picture.planes)
    ]
    if len(planes) == 3:
        return picture.orientation.apply(_coloured(planes, picture.matrix, picture.full_range))
    upright = picture.orientation.apply(planes[0])
    return upright.copy() if np.may_share_memory(upright, picture.planes[0]) else upright


def _covering(planes: tuple[Pixels, ...]) -> tuple[Pixels, ...]:
    """Grow chroma to its luma's extent where an odd size lets it reach beyond."""
    luma, *chroma = planes
    if not chroma:
        return planes
    height, width = luma.shape
    down, right = -(-height // chroma[0].shape[0]), -(-width // chroma[0].shape[1])
    if height % down == 0 and width % right == 0:
        return planes
    grown = (
        resize(plane, (plane.shape[0] * down, plane.shape[1] * right), "nearest")[:height, :width]
        for plane in chroma
    )
    return (luma, *grown)


def _coloured(planes: list[Pixels], matrix: str, full_range: bool) -> Pixels:
    import cv2

    return np.asarray(cv2.transform(cv2.merge(planes), _to_rgb(matrix, full_range)))


@cache
def _to_rgb(matrix: str, full_range: bool) -> NDArray[Any]:
    """3 x 4 affine map from Y, Cb, Cr levels to R, G, B levels (ITU-T H.273, equations 38-40)."""
    red, blue = LUMA_WEIGHTS[matrix]
    green = 1.0 - red - blue
    luma = 1.0 if full_range else LEVELS_FULL / LUMA_LEVELS_LIMITED
    chroma = 1.0 if full_range else LEVELS_FULL / CHROMA_LEVELS_LIMITED
    linear = np.array(
        [
            [luma, 0.0, 2.0 * (1.0 - red) * chroma],
            [
                luma,
                -2.0 * (1.0 - blue) * blue / green * chroma,
                -2.0 * (1.0 - red) * red / green * chroma,
            ],
            [luma, 2.0 * (1.0 - blue) * chroma, 0.0],
        ]
    )
    black = np.array([0.0 if full_range else BLACK_LIMITED, CHROMA_ZERO, CHROMA_ZERO])
    return np.hstack([linear, -(linear @ black)[:, None]])
