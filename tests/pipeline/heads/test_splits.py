from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UsageError
from pipeline.heads import _splits

grouped = st.lists(st.sampled_from("abcdefg"), min_size=8, max_size=60).filter(
    lambda groups: len(set(groups)) >= 4
)


def sides_share_a_group(groups, fold) -> bool:
    return bool({groups[k] for k in fold.train} & {groups[k] for k in fold.test})


@given(grouped, st.integers(2, 4), st.integers(0, 5))
def test_k_fold_tests_each_segment_once_and_never_splits_a_group(groups, folds, seed):
    found = _splits.k_fold(groups, folds, seed)
    assert sorted(k for fold in found for k in fold.test) == list(range(len(groups)))
    for fold in found:
        assert fold.train and fold.test
        assert not sides_share_a_group(groups, fold)
        assert len(fold.train) + len(fold.test) == len(groups)


@given(grouped, st.floats(0.05, 0.5), st.integers(0, 5))
def test_hold_out_keeps_groups_whole_and_both_sides_filled(groups, share, seed):
    fold = _splits.hold_out(groups, share, seed)
    assert fold.train and fold.test
    assert not sides_share_a_group(groups, fold)


def test_hold_out_takes_about_the_share_asked_for():
    groups = [f"g{k // 4}" for k in range(100)]
    assert len(_splits.hold_out(groups, 0.2, seed=3).test) == 20


def test_folds_are_of_about_equal_size():
    groups = ["big"] * 10 + [f"small{k}" for k in range(10)]
    assert sorted(len(fold.test) for fold in _splits.k_fold(groups, 2)) == [10, 10]


def test_leave_one_group_out_names_the_group_left_out():
    folds = _splits.leave_one_group_out(["a", "b", "a", "c"])
    assert [(fold.name, fold.test) for fold in folds] == [("a", (0, 2)), ("b", (1,)), ("c", (3,))]


def test_too_few_groups_is_an_error_that_names_them():
    with pytest.raises(UsageError, match=r"at least 3 groups, found 2 \(a, b\).*--group-column"):
        _splits.k_fold(["a", "b", "a"], 3)


def test_the_manifests_own_split_prefers_test_and_accepts_both_names_of_validation():
    assert _splits.by_manifest(["train", "validate", "val"]).test == (1, 2)
    assert _splits.by_manifest(["train", "val", "test"]).test == (2,)
    assert _splits.by_manifest(["train", "validate", "test"], "val").test == (1,)


def test_an_empty_split_is_an_error_that_counts_what_there_is():
    with pytest.raises(UsageError, match="2 train; expected segments of 'train' and of 'val'"):
        _splits.by_manifest(["train", "train"])


def test_a_class_of_one_segment_is_named_with_its_segment():
    folds = _splits.leave_one_group_out(["a", "a", "b"])
    labels = [[0], [1], [0]]
    with pytest.raises(UsageError, match=r"class 'rare' .* all of its 1 segments .*\(k1\)"):
        _splits.check_classes(folds, labels, ["k0", "k1", "k2"], ["common", "rare"])
