"""Colour follows the stream's tags; planes first is as good as convert-then-resize."""

from __future__ import annotations

import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline import decode, pixels
from pipeline.decode.pyav import picture_of
from pipeline.frames import View
from pipeline.sampling import Grid

COLOURS = ((200, 60, 40), (40, 180, 70), (60, 70, 210), (128, 128, 128), (235, 235, 20))
BT709, BT601 = 1, 5
LIMITED, FULL = 1, 2
SIZE = (96, 128)


def smooth_picture(seed: int, size: tuple[int, int]) -> np.ndarray:
    """RGB with the spectrum of a photograph: slow changes strong, fast ones and colour weak."""
    random = np.random.default_rng(seed)
    height, width = size
    y, x = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :]
    fall = 1.0 / np.maximum(np.hypot(y, x), 1.0 / width) ** 1.5

    def field() -> np.ndarray:
        noise = np.fft.ifft2(np.fft.fft2(random.standard_normal(size)) * fall).real
        return noise / noise.std()

    light = field()
    planes = [128 + 45 * light + 15 * field() for _ in range(3)]
    return np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)


def write_tagged(path: Path, images: list[np.ndarray], matrix: int | None, levels: int) -> None:
    """Encode nearly without loss, converted and tagged (or, with matrix None, 601 and untagged)."""
    height, width = images[0].shape[:2]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, width=width, height=height)
        stream.pix_fmt = "yuv444p" if levels == LIMITED else "yuvj444p"
        stream.options = {"qp": "1", "preset": "veryfast"}
        if matrix is not None:
            stream.codec_context.colorspace = matrix
            stream.codec_context.color_range = levels
        for image in images:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(
                format=stream.pix_fmt, dst_colorspace=matrix or BT601, dst_color_range=levels
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def decoded(path: Path, view: View) -> list[np.ndarray]:
    stream = decode.frames(path, [decode.Request(Grid(Fraction(0), None, None), (view,))])
    return [frame.images[view] for frame in stream]


@pytest.mark.parametrize("levels", [LIMITED, FULL], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", [BT709, BT601, None], ids=["bt709", "bt601", "untagged"])
@pytest.mark.parametrize("size", [SIZE, (48, 50)], ids=["native", "resized"])
def test_colours_come_back_through_any_tags(
    tmp_path: Path, size: tuple[int, int], matrix: int | None, levels: int
) -> None:
    images = [np.full((*SIZE, 3), colour, np.uint8) for colour in COLOURS]
    write_tagged(tmp_path / "tagged.mp4", images, matrix, levels)
    for colour, image in zip(COLOURS, decoded(tmp_path / "tagged.mp4", View(*size)), strict=True):
        off = np.abs(image.astype(int) - colour).max()
        assert off <= 4, f"{colour} came back as {image[5, 5]}"


def test_the_tolerance_above_tells_one_matrix_from_another() -> None:
    rgb601, rgb709 = (
        pixels.render(pixels.Picture(planes(), matrix), [View(4, 4)])[View(4, 4)]
        for matrix in ("bt601", "bt709")
    )
    assert np.abs(rgb601.astype(int) - rgb709).max() > 2 * 4


def planes() -> tuple[np.ndarray, ...]:
    return tuple(np.full((8, 8), level, np.uint8) for level in (120, 90, 190))


@pytest.mark.parametrize("matrix", sorted(pixels.LUMA_WEIGHTS))
@pytest.mark.parametrize("full_range", [False, True])
def test_small_conversion_is_within_a_level_of_the_equations(matrix: str, full_range: bool) -> None:
    random = np.random.default_rng(3)
    y, cb, cr = (random.integers(0, 256, (64, 64), np.uint8) for _ in range(3))
    view = View(64, 64)
    got = pixels.render(pixels.Picture((y, cb, cr), matrix, full_range), [view])[view]
    kr, kb = pixels.LUMA_WEIGHTS[matrix]
    luma = y / 255.0 if full_range else (y - 16.0) / 219.0
    blue, red = ((c - 128.0) / (255.0 if full_range else 224.0) for c in (cb, cr))
    r = luma + 2 * (1 - kr) * red
    b = luma + 2 * (1 - kb) * blue
    g = (luma - kr * r - kb * b) / (1 - kr - kb)
    want = np.clip(np.stack([r, g, b], -1) * 255, 0, 255)
    assert np.abs(got - want).max() <= 1.0


@pytest.mark.parametrize("interpolation", ["bilinear", "area", "bicubic"])
@pytest.mark.parametrize("antialias", [False, True])
def test_planes_first_is_close_to_convert_then_resize(interpolation: str, antialias: bool) -> None:
    frame = av.VideoFrame.from_ndarray(smooth_picture(1, (360, 640)), format="rgb24")
    picture = picture_of(frame.reformat(format="yuv420p"))
    small, whole = View(128, 227, "rgb", interpolation, antialias), View(360, 640)
    quick = pixels.render(picture, [small])[small].astype(int)
    slow = pixels.resize(
        pixels.render(picture, [whole])[whole], (128, 227), interpolation, antialias
    )
    off = np.abs(quick - slow)
    assert off.mean() <= 1.5
    assert np.percentile(off, 99) <= 4


@pytest.mark.parametrize("matrix", [BT709, BT601, None], ids=["bt709", "bt601", "untagged"])
def test_native_size_is_within_a_level_of_the_ffmpeg_command(
    tmp_path: Path, matrix: int | None
) -> None:
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        pytest.skip("the ffmpeg command is not installed")
    path = tmp_path / "tagged.mp4"
    write_tagged(path, [smooth_picture(seed, SIZE) for seed in range(3)], matrix, LIMITED)
    command = [ffmpeg, "-v", "error", "-i", str(path), "-pix_fmt", "rgb24", "-f", "rawvideo", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    theirs = np.frombuffer(raw, np.uint8).reshape(-1, *SIZE, 3).astype(int)
    assert np.abs(np.stack(decoded(path, View(*SIZE))) - theirs).max() <= 1
