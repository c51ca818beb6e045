"""TV-L1 against fields that are known because the test made them, and Middlebury's RubberWhale."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline import flow
from tests.pipeline.flow.textures import end_point_difference, moved_pair

RUBBER_WHALE = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "flow"
UNKNOWN = 1e8
FLO_HEADER = 12
INSIDE = np.s_[8:-8, 8:-8]


@pytest.mark.parametrize("name", ["native", "torch"])
@pytest.mark.parametrize(("dx", "dy"), [(1.0, 0.0), (0.0, -1.0), (2.5, 1.5), (-4.0, 0.5)])
def test_a_shift_is_found_with_its_sign_and_axis(name: str, dx: float, dy: float) -> None:
    first, second = moved_pair(64, 80, dx, dy)
    moved = flow.tvl1(first, second, backend=name).data[0][INSIDE]
    assert moved[..., 0].mean() == pytest.approx(dx, abs=0.1)
    assert moved[..., 1].mean() == pytest.approx(dy, abs=0.1)


def test_error_to_made_up_truth_is_at_most_one_per_cent_above_opencvs() -> None:
    errors = {"native": [], "opencv": []}
    for seed, (dx, dy) in enumerate([(0.6, 0.2), (1.7, -1.1), (-3.0, 2.0)]):
        first, second = moved_pair(72, 96, dx, dy, seed)
        truth = np.broadcast_to(np.array((dx, dy), np.float32), (72, 96, 2))
        for name, found in errors.items():
            moved = flow.tvl1(first, second, backend=name).data[0]
            found.append(end_point_difference(moved, truth).mean())
    assert np.mean(errors["native"]) <= 1.01 * np.mean(errors["opencv"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["native", "torch"])
def test_error_on_rubber_whale_is_within_one_per_cent_of_opencvs(name: str) -> None:
    if not RUBBER_WHALE.exists():
        pytest.skip("the shared data folder is not beside the checkout")
    frames = [
        cv2.imread(str(RUBBER_WHALE / f"RubberWhale{k}.png"), cv2.IMREAD_GRAYSCALE) for k in (1, 2)
    ]
    content = (RUBBER_WHALE / "RubberWhale.flo").read_bytes()
    truth = np.frombuffer(content, "<f4", offset=FLO_HEADER).reshape(*frames[0].shape, 2)
    known = (np.abs(truth) < UNKNOWN).all(axis=2)
    ours, theirs = (
        end_point_difference(flow.tvl1(*frames, backend=b).data[0], truth)[known].mean()
        for b in (name, "opencv")
    )
    assert ours == pytest.approx(theirs, rel=0.01)
    assert ours < 0.17
