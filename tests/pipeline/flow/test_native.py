"""The native and torch backends against OpenCV 5, on made-up frames of all kinds of sizes."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pipeline import flow
from pipeline.flow.backends.native import NativeBackend
from tests.pipeline.flow.textures import end_point_difference, moved_pair, texture

SIZES = [(2, 9), (7, 5), (16, 16), (17, 33), (24, 8), (31, 64), (48, 65), (40, 127)]
STOP_APART_PX = 0.05
"""Rounding lets the stop test fire an iteration apart, and tiny frames have few pixels."""
ODDITIES = {
    "flat": np.full((40, 52), 90, np.uint8),
    "black": np.zeros((40, 52), np.uint8),
    "saturated": np.full((40, 52), 255, np.uint8),
    "noise": np.random.default_rng(1).integers(0, 256, (40, 52), dtype=np.uint8),
    "texture": texture(40, 52).astype(np.uint8),
}


@pytest.mark.parametrize("shape", SIZES)
def test_any_size_is_near_opencv(shape: tuple[int, int]) -> None:
    first, second = moved_pair(*shape, 0.7, -0.4)
    ours = flow.tvl1(first, second).data
    theirs = flow.tvl1(first, second, backend="opencv").data
    assert ours.shape == (1, *shape, 2)
    assert ours.dtype == np.float32
    assert end_point_difference(ours, theirs).mean() < STOP_APART_PX


@pytest.mark.parametrize("name", ["native", "torch"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1)])
def test_a_single_row_or_column_is_finite(name: str, shape: tuple[int, int]) -> None:
    moved = flow.tvl1(*moved_pair(*shape, 0.7, -0.4), backend=name).data
    assert moved.shape == (1, *shape, 2)
    assert np.isfinite(moved).all()


@pytest.mark.parametrize("name", ["native", "torch"])
def test_few_iterations_are_equal_to_rounding(name: str) -> None:
    first, second = moved_pair(61, 83, 1.5, -0.8)
    parameters = flow.Parameters(scales=2, warps=2, outer_iterations=2, inner_iterations=5)
    ours = flow.tvl1(first, second, parameters, name).data
    theirs = flow.tvl1(first, second, parameters, "opencv").data
    assert end_point_difference(ours, theirs).max() < 1e-3
    assert end_point_difference(ours, theirs).mean() < 1e-5


@pytest.mark.parametrize("name", ["native", "torch"])
@pytest.mark.parametrize(
    "parameters",
    [
        flow.Parameters(median_px=1, warps=2),
        flow.Parameters(scale_step=0.5, scales=3, warps=2),
        flow.Parameters(tau=0.1, theta=0.2, lambda_=0.3, warps=1, inner_iterations=7),
    ],
)
def test_parameters_mean_what_they_mean_to_opencv(name: str, parameters: flow.Parameters) -> None:
    first, second = moved_pair(40, 56, 1.0, 0.5)
    ours = flow.tvl1(first, second, parameters, name).data
    theirs = flow.tvl1(first, second, parameters, "opencv").data
    assert end_point_difference(ours, theirs).mean() < 0.005


@pytest.mark.parametrize("name", ["native", "torch"])
@pytest.mark.parametrize("kind", ODDITIES)
def test_identical_frames_give_exactly_zero(name: str, kind: str) -> None:
    frame = ODDITIES[kind]
    assert not flow.open_backend(name)(frame, frame.copy()).any()


@pytest.mark.parametrize("kind", ODDITIES)
def test_the_solver_itself_gives_zero_for_identical_frames(kind: str) -> None:
    moved, _, _ = NativeBackend(flow.DEFAULTS).solve(ODDITIES[kind], ODDITIES[kind])
    assert not moved.any()


@pytest.mark.parametrize("kind", ODDITIES)
@pytest.mark.parametrize("other", ODDITIES)
def test_nothing_makes_it_other_than_finite(kind: str, other: str) -> None:
    moved = flow.tvl1(ODDITIES[kind], ODDITIES[other]).data
    assert np.isfinite(moved).all()


def test_threads_share_a_backend_and_get_the_same_bits() -> None:
    pairs = [moved_pair(40 + k, 50 + 3 * k, 1, 0, seed=k) for k in range(6)]
    backend = flow.open_backend("native")
    alone = [backend(*pair) for pair in pairs]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda pair: backend(*pair), pairs * 3))
    for k, moved in enumerate(together):
        assert np.array_equal(moved, alone[k % len(pairs)])


def test_strided_and_read_only_frames_are_taken() -> None:
    first, second = moved_pair(60, 80, 1, 1)
    plain = flow.tvl1(first[::2, ::2].copy(), second[::2, ::2].copy()).data
    strided = first[::2, ::2]
    strided.flags.writeable = False
    assert np.array_equal(flow.tvl1(strided, second[::2, ::2]).data, plain)


def test_blocks_of_iterations_rarely_run_past_the_stop_test() -> None:
    pairs = [moved_pair(64, 80, 1 + k, -k, seed=k) for k in range(4)]
    results = [NativeBackend(flow.DEFAULTS).solve(*pair) for pair in pairs]
    iterations = sum(made for _, made, _ in results)
    overshoots = sum(missed for _, _, missed in results)
    assert iterations > 200
    assert overshoots <= 0.02 * iterations


def test_a_batch_is_its_pairs_one_by_one() -> None:
    pairs = [moved_pair(33, 47, 2 * k, 0, seed=k) for k in range(3)]
    backend = flow.open_backend("torch")
    batch = backend.batch(*(np.stack(frames) for frames in zip(*pairs, strict=True)))
    for pair, moved in zip(pairs, batch, strict=True):
        assert np.allclose(backend(*pair), moved, atol=1e-6)
