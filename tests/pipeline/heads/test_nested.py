from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from pipeline.heads._evaluate import hits
from pipeline.heads._nested import Candidate, Scheme, agreed, nested
from pipeline.heads._splits import leave_one_group_out
from pipeline.heads._train import History, Plan, Point

CANDIDATES = (Candidate("average", {"pool": "mean"}), Candidate("average", {"pool": "diff"}))


def test_the_candidate_that_carries_the_class_is_chosen(make_examples):
    data = make_examples(noise=0.3)
    scheme = Scheme(tuple(leave_one_group_out(data.groups)[:2]), inner=2)
    outcome = nested(data, CANDIDATES, scheme)
    assert all(text.startswith("average pool=mean") for text in outcome.chosen)
    assert hits(outcome.probabilities[0], data.targets.numpy()[scheme.tested]).mean() > 0.9


def test_labels_of_test_segments_decide_nothing(make_examples):
    """Turn the labels of the one group that is tested: choice and prediction stay bit for bit."""
    data = make_examples(noise=1.5)
    fold = leave_one_group_out(data.groups)[0]
    scheme = Scheme((fold,), inner=2, seeds=(0, 1))
    lstm = Candidate("lstm", {"hidden": "4"}, Plan(epochs=4, patience=2))
    turned = data.targets.clone()
    turned[list(fold.test)] = (turned[list(fold.test)] + 1) % 3
    honest = nested(data, (*CANDIDATES, lstm), scheme, with_inner=True)
    poisoned = nested(replace(data, targets=turned), (*CANDIDATES, lstm), scheme, with_inner=True)
    np.testing.assert_array_equal(honest.inner[0], poisoned.inner[0])
    assert honest.chosen == poisoned.chosen
    np.testing.assert_array_equal(honest.probabilities, poisoned.probabilities)


def test_nothing_is_learned_from_nothing(make_examples):
    """Features that do not depend on the class give chance, also after choosing the penalty."""
    data = make_examples()
    random = torch.Generator().manual_seed(5)
    noise = (tuple(torch.randn(r.shape, generator=random) for r in data.rows[0]),)
    scheme = Scheme(tuple(leave_one_group_out(data.groups)), inner=2)
    outcome = nested(replace(data, rows=noise), CANDIDATES[:1], scheme)
    accuracy = hits(outcome.probabilities[0], data.targets.numpy()).mean()
    assert 0.05 < accuracy < 0.6, "chance is 0.33, two deviations of 30 segments are 0.17"


def test_inner_predictions_come_from_fits_without_the_group(make_examples):
    """Rows of pure noise cannot be told apart by a head that has not seen them."""
    data = make_examples()
    random = torch.Generator().manual_seed(5)
    rows = (tuple(torch.randn(r.shape, generator=random) for r in data.rows[0]),)
    fold = leave_one_group_out(data.groups)[0]
    outcome = nested(
        replace(data, rows=rows), CANDIDATES, Scheme((fold,), inner=2), with_inner=True
    )
    (inner,) = outcome.inner
    assert inner.shape == (len(fold.train), 3) and not np.isnan(inner).any()
    np.testing.assert_allclose(inner.sum(1), 1, atol=1e-5)
    right = hits(inner, data.targets.numpy()[list(fold.train)]).mean()
    assert right < 0.67, "fitted on themselves they would be near 1"


def test_agreement_is_the_least_mean_loss_that_all_folds_reached():
    long = History("epoch", [Point(k + 1, 0, loss, 0) for k, loss in enumerate([3, 1, 2, 0])])
    short = History("epoch", [Point(k + 1, 0, loss, 0) for k, loss in enumerate([3, 2, 2])])
    assert agreed([long, short]) == (2, 1.5)
