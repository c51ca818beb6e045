"""Native TV-L1 against OpenCV 5 on real pairs, judged by what OpenCV 4.14 and 5 differ in."""

import json

import cv2
import numpy as np
import pytest

from pipeline import flow
from tests.real.flow_pairs import pairs, videos
from tests.real.flow_versions import SUMMARY, summary

NEAR_PX = 0.02
NEAR_SHARE = 0.85
PAIRS_IN_CI = 12
FILMS_IN_CI = slice(3, None, 19)

needs_data = pytest.mark.skipif(
    not videos(), reason="the shared data folder is not beside the checkout"
)
needs_five = pytest.mark.skipif(
    not cv2.__version__.startswith("5."), reason="the figures are of OpenCV 5"
)


def _rows(chosen: list, limit: int) -> dict[str, list[float]]:
    """Return, by pair, how far native and OpenCV are apart."""
    native, opencv = flow.open_backend("native"), flow.open_backend("opencv")
    rows = {}
    for (name, first, second), _ in zip(pairs(chosen), range(limit), strict=False):
        rows[name] = summary(native(first, second), opencv(first, second))
    return rows


@needs_data
@needs_five
def test_twelve_pairs_are_near() -> None:
    rows = np.array(list(_rows(videos()[FILMS_IN_CI], PAIRS_IN_CI).values()))
    assert len(rows) == PAIRS_IN_CI
    assert (rows[:, 0] <= NEAR_PX).mean() >= 0.75
    assert rows[:, 0].mean() <= NEAR_PX


@pytest.mark.slow
@needs_data
@needs_five
def test_over_two_hundred_pairs_are_twice_as_near_as_versions_of_opencv() -> None:
    versions = json.loads(SUMMARY.read_text())["pairs"]
    rows = _rows(videos(), 10_000)
    assert len(rows) >= 200
    assert set(rows) == set(versions)
    ours, theirs = (np.array([found[name] for name in rows]) for found in (rows, versions))
    assert (ours[:, 0] <= NEAR_PX).mean() >= NEAR_SHARE
    assert (ours.mean(axis=0) <= theirs.mean(axis=0) / 2).all()
