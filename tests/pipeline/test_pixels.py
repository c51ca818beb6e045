"""Resizing rules, orientation, and what views share."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline import pixels
from pipeline.frames import View
from pipeline.pixels import Orientation, Picture


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(
    ("interpolation", "flag"),
    [
        ("bilinear", cv2.INTER_LINEAR), ("bicubic", cv2.INTER_CUBIC),
        ("area", cv2.INTER_AREA), ("nearest", cv2.INTER_NEAREST),
    ],
)  # fmt: skip
def test_plain_rules_are_opencvs(interpolation: str, flag: int) -> None:
    image = noise(60, 90, 3)
    assert np.array_equal(
        pixels.resize(image, (21, 40), interpolation),
        cv2.resize(image, (40, 21), interpolation=flag),
    )


def test_antialias_is_pillows_and_averages_what_plain_bilinear_skips() -> None:
    image = noise(64, 64)
    small = pixels.resize(image, (16, 16), "bilinear", antialias=True)
    assert np.array_equal(small, Image.fromarray(image).resize((16, 16), Image.Resampling.BILINEAR))
    plain = pixels.resize(image, (16, 16), "bilinear")
    assert small.std() < 0.7 * plain.std()


def test_the_same_size_is_the_same_image() -> None:
    image = noise(5, 6, 3)
    assert pixels.resize(image, (5, 6)) is image


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("mirror_x", [False, True])
@pytest.mark.parametrize("mirror_y", [False, True])
def test_orientation_moves_every_pixel_where_it_says(
    transpose: bool, mirror_x: bool, mirror_y: bool
) -> None:
    stored = noise(4, 7, 3)
    orientation = Orientation(transpose, mirror_x, mirror_y)
    upright = orientation.apply(stored)
    height, width = orientation.upright(4, 7)
    assert upright.shape == (height, width, 3)
    for y in range(height):
        for x in range(width):
            at = (height - 1 - y if mirror_y else y, width - 1 - x if mirror_x else x)
            assert np.array_equal(upright[y, x], stored[at[::-1] if transpose else at])


def test_turned_pictures_are_resized_to_the_upright_size() -> None:
    stored = noise(40, 60, 3)
    view = View(30, 20)
    got = pixels.render(Picture((stored,), orientation=Orientation(transpose=True)), [view])[view]
    assert np.array_equal(got, pixels.resize(stored, (20, 30)).swapaxes(0, 1))


def test_grey_is_that_of_the_resized_rgb_and_shares_its_work() -> None:
    planes = (noise(64, 96), noise(32, 48), noise(32, 48))
    rgb, gray = View(20, 30), View(20, 30, "gray")
    images = pixels.render(Picture(planes), [gray, rgb, gray])
    assert np.array_equal(images[gray], cv2.cvtColor(images[rgb], cv2.COLOR_RGB2GRAY))
    assert np.array_equal(pixels.render(Picture(planes), [gray])[gray], images[gray])


def test_native_size_uses_the_decoders_own_conversion() -> None:
    planes = (noise(8, 8), noise(4, 4), noise(4, 4))
    own = noise(8, 8, 3)
    picture = Picture(planes, native=lambda: own)
    assert np.array_equal(pixels.render(picture, [View(8, 8)])[View(8, 8)], own)
    assert not np.array_equal(pixels.render(picture, [View(4, 8)])[View(4, 8)], own[::2])


def test_odd_sizes_keep_chroma_over_its_luma() -> None:
    """A vertical colour edge stays where it is although chroma reaches a column further."""
    luma = np.full((9, 9), 128, np.uint8)
    blue = np.where(np.arange(5) < 2, 60, 200).astype(np.uint8)[None, :].repeat(5, 0)
    neutral = np.full((5, 5), 128, np.uint8)
    view = View(27, 27, "rgb", "nearest")
    shown = pixels.render(Picture((luma, blue, neutral)), [view])[view][:, :, 2]
    assert (shown[:, :12] < 100).all()
    assert (shown[:, 12:] > 150).all()


def test_views_of_rgb_pictures_own_their_memory() -> None:
    stored = noise(6, 6, 3)
    image = pixels.render(Picture((stored,)), [View(6, 6)])[View(6, 6)]
    assert np.array_equal(image, stored)
    assert not np.may_share_memory(image, stored)
