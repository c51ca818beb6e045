from __future__ import annotations

import numpy as np
import pytest

from pipeline.heads import _evaluate

P = np.array([[0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.3, 0.3, 0.4], [0.1, 0.8, 0.1]])
T = np.array([0, 0, 2, 2])
SEVERAL = np.array([[1, 0, 1], [1, 1, 0], [0, 1, 0], [0, 1, 0]], np.float32)


def test_one_true_label_of_several_is_correct():
    assert _evaluate.correct(P, SEVERAL).tolist() == [1, 1, 0, 1]
    assert _evaluate.correct(P, T).tolist() == [1, 0, 1, 0]


def test_the_figure_over_classes_suits_the_labels():
    assert _evaluate.over_classes(P, T) == pytest.approx((0.5 + 0.5) / 2)
    assert _evaluate.over_classes(P, SEVERAL) == _evaluate.summary(P, SEVERAL)["map"]


def test_a_single_group_leaves_everything_within_noise():
    found = _evaluate.bootstrap(np.array([1.0, 0.0, 1.0]), ["a", "a", "a"])
    assert found.value == pytest.approx(2 / 3) and np.isnan([found.low, found.high]).all()
    assert found.holds_zero


def test_top_k_by_hand():
    assert _evaluate.hits(P, T).tolist() == [1, 0, 1, 0]
    assert _evaluate.hits(P, T, top=2).tolist() == [1, 1, 1, 0]


def test_a_constant_prediction_hits_one_class_only():
    targets = np.array([0, 1, 2, 0])
    assert _evaluate.hits(np.full((4, 3), 1 / 3), targets).tolist() == [1, 0, 0, 1]


def test_mean_class_accuracy_weighs_classes_not_segments():
    hit = np.array([1.0, 1.0, 1.0, 0.0])
    assert _evaluate.mean_class_accuracy(hit, np.array([0, 0, 0, 1])) == 0.5


def test_average_precision_by_hand():
    # ranks of the relevant ones are 1 and 3: (1/1 + 2/3) / 2
    scores, relevant = np.array([0.9, 0.8, 0.7, 0.1]), np.array([True, False, True, False])
    assert _evaluate.average_precision(scores, relevant) == pytest.approx(5 / 6)


def test_average_precision_of_ties_does_not_depend_on_the_order():
    scores = np.array([0.5, 0.5, 0.5, 0.1])
    relevant = np.array([True, False, False, True])
    assert _evaluate.average_precision(scores, relevant) == pytest.approx((1 / 3 + 2 / 4) / 2)
    turned = relevant[[2, 1, 0, 3]]
    assert _evaluate.average_precision(scores, turned) == pytest.approx((1 / 3 + 2 / 4) / 2)


def test_classes_without_a_segment_do_not_enter_the_mean():
    targets = np.array([[1, 0], [0, 0]], bool)
    assert _evaluate.mean_average_precision(np.array([[0.9, 0.1], [0.2, 0.3]]), targets) == 1.0


def test_summary_of_several_labels():
    targets = np.array([[1, 0, 1], [0, 1, 0]], np.float32)
    found = _evaluate.summary(np.array([[0.9, 0.8, 0.1], [0.1, 0.2, 0.9]]), targets)
    assert found["hit1"] == 0.5
    assert found["hit5"] == 1.0
    assert found["map"] == pytest.approx((1.0 + 0.5 + 0.5) / 3)


def test_confusion_rows_are_true_classes():
    assert _evaluate.confusion(P, T, 3).tolist() == [[1, 1, 0], [0, 0, 0], [0, 1, 1]]


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    random = np.random.default_rng(0)
    truth, covered = 0.7, 0
    for trial in range(30):
        hit = (random.random(40) < truth).astype(float)
        interval = _evaluate.bootstrap(hit, [str(k) for k in range(40)], seed=trial)
        covered += interval.low <= truth <= interval.high
    assert 25 <= covered <= 30


def test_groups_that_move_together_widen_the_interval():
    hit = np.repeat([1.0, 0.0, 1.0, 1.0, 0.0], 20)
    alone = _evaluate.bootstrap(hit, [str(k) for k in range(100)])
    together = _evaluate.bootstrap(hit, [str(k // 20) for k in range(100)])
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_pairing_finds_a_difference_that_two_intervals_hide():
    random = np.random.default_rng(1)
    second = (random.random(100) < 0.5).astype(float)
    first = second.copy()
    first[np.flatnonzero(second == 0)[:8]] = 1.0
    groups = [str(k) for k in range(100)]
    one, two = _evaluate.bootstrap(first, groups), _evaluate.bootstrap(second, groups)
    assert one.low < two.high
    assert not _evaluate.paired(first, second, groups).holds_zero
    assert _evaluate.paired(first, first, groups).holds_zero


def test_many_groups_need_little_memory():
    hit = np.tile([1.0, 0.0, 1.0], 10_000)
    interval = _evaluate.bootstrap(hit, [str(k) for k in range(30_000)])
    assert interval.low < 2 / 3 < interval.high
    assert interval.high - interval.low == pytest.approx(
        2 * 1.96 * (2 / 9 / 30_000) ** 0.5, rel=0.2
    )
