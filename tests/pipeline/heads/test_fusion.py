from __future__ import annotations

import numpy as np
import pytest

from pipeline.heads._fusion import best_share, mixed

TARGETS = np.array([0, 1, 0, 1])
KNOWS = np.array([[0.6, 0.4], [0.4, 0.6], [0.7, 0.3], [0.45, 0.55]])
WRONG = np.array([[0.1, 0.9], [0.9, 0.1], [0.1, 0.9], [0.9, 0.1]])


def test_a_stream_that_misleads_is_turned_down_no_further_than_it_must_be():
    share = best_share(WRONG, KNOWS, TARGETS)
    assert (mixed(WRONG, KNOWS, share).argmax(1) == TARGETS).all()
    assert not (mixed(WRONG, KNOWS, share - 0.1).argmax(1) == TARGETS).all()
    assert best_share(KNOWS, WRONG, TARGETS) == pytest.approx(1 - share)


def test_streams_that_agree_share_evenly():
    assert best_share(KNOWS, KNOWS, TARGETS) == 0.5


def test_one_true_label_of_several_counts():
    several = np.array([[1, 0, 1], [0, 1, 1]], np.float32)
    knows, wrong = np.array([[0.1, 0.2, 0.9], [0.2, 0.9, 0.1]]), np.array([[0, 1, 0], [1, 0, 0.0]])
    assert best_share(wrong, knows, several) > 0.5


def test_each_row_may_have_its_share():
    found = mixed(KNOWS, WRONG, np.array([0.0, 1.0, 0.0, 1.0]))
    np.testing.assert_array_equal(found, np.stack([KNOWS[0], WRONG[1], KNOWS[2], WRONG[3]]))
