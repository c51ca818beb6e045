"""Each kernel against the operation of OpenCV or NumPy that it stands for."""

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.flow import DEFAULTS
from pipeline.flow.kernels import compiled, solver, stages
from pipeline.flow.kernels.layout import FLOW_X, FLOW_Y, GRADIENT_X, RESIDUAL
from pipeline.flow.kernels.pyramid import interleave
from pipeline.flow.parameters import pyramid_shapes
from tests.pipeline.flow.textures import texture

SHAPES = [(16, 16), (23, 37), (30, 65), (41, 24)]


def _entered(shape: tuple[int, int]) -> tuple[solver.Workspace, solver.Level]:
    work = solver.workspace([shape])
    return work, solver._enter(0, work)


def _rows(work: solver.Workspace, level: solver.Level, array: int) -> np.ndarray:
    """Return a view of one array of the field, H x W."""
    start = level.first + array * level.stride
    pitch = 10 * level.stride
    whole = np.lib.stride_tricks.as_strided(
        work.field[start:], (level.height, level.width), (4 * pitch, 4)
    )
    return whole


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("array", [FLOW_X, FLOW_Y])
def test_median_equals_opencv(shape: tuple[int, int], array: int) -> None:
    work, level = _entered(shape)
    values = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    _rows(work, level, array)[:] = values
    stages.filter_level(level, array, work)
    assert np.array_equal(_rows(work, level, array), cv2.medianBlur(values, 5))


def test_pyramid_equals_opencv_to_the_bit() -> None:
    frame = texture(97, 131).astype(np.uint8)
    work = solver.workspace(pyramid_shapes(97, 131, DEFAULTS))
    solver._build(frame, work.previous, work.levels, DEFAULTS.scale_step)
    theirs = frame.astype(np.float32)
    for number, (height, width, first) in enumerate(work.levels):
        if number:
            theirs = cv2.resize(theirs, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_LINEAR)
        pitch = -(-width // 8) * 8
        ours = work.previous[first : first + height * pitch].reshape(height, pitch)[:, :width]
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("shape", SHAPES)
def test_warp_samples_like_opencv_to_the_bit_and_is_zero_outside(
    shape: tuple[int, int],
) -> None:
    height, width = shape
    work, level = _entered(shape)
    image = texture(height, width, 5)
    pitch = level.blocks * 8
    padded = np.zeros((height, pitch), np.float32)
    padded[:, :width] = image
    interleave(padded.ravel(), shape, pitch, work.taps)
    work.previous[:] = 0
    rng = np.random.default_rng(7)
    u, v = (rng.normal(0, 8, shape).astype(np.float32) for _ in range(2))
    _rows(work, level, FLOW_X)[:], _rows(work, level, FLOW_Y)[:] = u, v
    stages.warp_level(level, 0, work)
    at_x = np.arange(width, dtype=np.float32) + u
    at_y = np.arange(height, dtype=np.float32)[:, None] + v
    edged = np.pad(image, 1, mode="edge")
    gx = np.float32(0.5) * (edged[1:-1, 2:] - edged[1:-1, :-2])
    gy = np.float32(0.5) * (edged[2:, 1:-1] - edged[:-2, 1:-1])
    warped, warped_x, warped_y = (
        cv2.remap(plane, at_x, at_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT)
        for plane in (image, gx, gy)
    )
    inside = (at_x > 2) & (at_x < width - 4) & (at_y > 2) & (at_y < height - 4)
    ours = _rows(work, level, GRADIENT_X)
    assert np.array_equal(ours[inside], warped_x[inside])
    assert np.abs(ours - warped_x).max() < 1e-3
    residual = warped - warped_x * u - warped_y * v
    assert np.abs(_rows(work, level, RESIDUAL) - residual).max() < 2e-2
    far = (at_x < -3) | (at_x > width + 1)
    assert not ours[far].any()


def _iterations(
    data: tuple[np.ndarray, ...], bound: float, ratio: float, tau: float, count: int
) -> tuple[np.ndarray, list[float]]:
    """Return the flow and errors of some iterations, written as the paper writes them."""
    gx, gy, residual = (plane.astype(np.float64) for plane in data)
    square = np.maximum(gx * gx + gy * gy, 1e-12)
    flow = np.zeros((2, *gx.shape))
    dual = np.zeros((2, 2, *gx.shape))
    errors = []
    for _ in range(count):
        change = np.clip(-(residual + gx * flow[0] + gy * flow[1]) / square, -bound, bound)
        left = np.pad(dual[:, 0], ((0, 0), (0, 0), (1, 0)))[..., :-1]
        above = np.pad(dual[:, 1], ((0, 0), (1, 0), (0, 0)))[:, :-1]
        divergence = dual[:, 0] - left + dual[:, 1] - above
        moved = flow + change * np.stack((gx, gy)) + tau * divergence
        errors.append(float(((moved - flow) ** 2).sum()))
        flow = moved
        along_x = np.diff(flow, axis=2, append=flow[:, :, -1:])
        along_y = np.diff(flow, axis=1, append=flow[:, -1:])
        gradient = np.stack((along_x, along_y), axis=1)
        norm = np.hypot(along_x, along_y)[:, None]
        dual = (dual + gradient) * ratio / (ratio + norm)
    return flow, errors


@pytest.mark.parametrize("shape", [*SHAPES, (3, 5), (1, 1)])
@pytest.mark.parametrize("block", [1, 2, 4])
def test_wavefront_equals_the_paper(shape: tuple[int, int], block: int) -> None:
    work, level = _entered(shape)
    rng = np.random.default_rng(11)
    data = tuple(rng.normal(0, 3, shape).astype(np.float32) for _ in range(3))
    square = np.maximum(data[0] ** 2 + data[1] ** 2, np.float32(1e-12))
    for array, plane in enumerate((*data, -1 / square)):
        _rows(work, level, GRADIENT_X + array)[:] = plane
    work.step[:] = 0
    work.step[: shape[1]] = 0.25
    settings = solver.Settings(0.25, 0.045, 1.2, 0.01, 0.8, 1, 30, 1, True)
    errors = np.zeros(4)
    made = []
    for _ in range(8 // block):
        solver._wavefront(level, block, settings, work, errors)
        made += list(errors[:block])
    flow, expected = _iterations(data, 0.045, 1.2, 0.25, 8)
    assert np.allclose(made, expected, rtol=1e-4)
    assert np.abs(_rows(work, level, FLOW_X) - flow[0]).max() < 1e-5
    assert np.abs(_rows(work, level, FLOW_Y) - flow[1]).max() < 1e-5


def test_the_cache_folder_carries_the_sources_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(compiled.CACHE_VARIABLE, str(tmp_path))
    folder = compiled.cache_folder()
    assert folder == tmp_path / f"flow-{compiled.sources_digest()[:16]}"
    assert folder.is_dir()


def test_without_a_writable_folder_it_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(compiled.CACHE_VARIABLE, str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        assert compiled.cache_folder() is None
    assert "compiled anew by every process" in caplog.text
