from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from pipeline.errors import UsageError
from pipeline.heads._convex import Problem
from pipeline.heads._head import build
from pipeline.heads._splits import hold_out
from pipeline.heads._train import Job, Plan, best, fit, predict

FAST = Plan(epochs=12, patience=4, batch=8, learning_rate=3e-3)
SMALL = {"hidden": "8"}


def new_lstm(data, settings=SMALL, seed=0):
    torch.manual_seed(seed)
    return build("lstm", data.task, data.dims, settings)


def job_of(data, **more) -> Job:
    fold = hold_out(data.groups, 0.2)
    return Job(data, fold.train, fold.test, **more)


@pytest.mark.parametrize("segments", [6, 30])
def test_the_convex_head_is_at_the_optimum(make_examples, segments):
    """Compared with SciPy on the full problem; 6 segments of 24 columns take the reduced path."""
    data = make_examples(noise=1.0)
    head = build("average", data.task, data.dims, {"pool": "mean+diff", "l2": "0.01"})
    chosen = list(range(segments))
    fit(head, Job(data, chosen), Plan())
    x = head.examples(data.batch(chosen))[0].double().numpy()
    onehot = np.eye(3)[data.targets[chosen].numpy()]

    def objective(flat):
        w, b = flat[:-3].reshape(-1, 3), flat[-3:]
        scores = x @ w + b
        scores = scores - scores.max(1, keepdims=True)
        logs = scores - np.log(np.exp(scores).sum(1, keepdims=True))
        gradient = (np.exp(logs) - onehot) / len(x)
        value = -(onehot * logs).sum() / len(x) + 0.005 * (w**2).sum()
        slope = np.concatenate([(x.T @ gradient + 0.01 * w).ravel(), gradient.sum(0)])
        return value, slope

    flat = np.zeros(3 * x.shape[1] + 3)
    optimum = minimize(objective, flat, jac=True, method="BFGS", options={"gtol": 1e-8})
    ours = np.concatenate(
        [head.linear.weight.detach().double().numpy().T.ravel(), head.linear.bias.detach().numpy()]
    )
    assert objective(ours)[0] == pytest.approx(optimum.fun, abs=1e-6)


def test_reduced_and_full_problems_agree(make_examples):
    data = make_examples(noise=1.0)
    heads = []
    for pool in ("mean", "windows"):
        head = build("average", data.task, data.dims, {"pool": pool})
        problem = Problem.of(head, [data.batch(range(10))])
        assert (problem.basis is not None) == (pool == "mean")
        first = problem.solve(0.01)
        assert problem.solve(0.01) == pytest.approx(first, abs=1e-4)
        heads.append(head)
    assert all(torch.isfinite(head.linear.weight).all() for head in heads)


def test_class_weights_move_predictions_to_the_rare_class(make_examples):
    data = make_examples(noise=4.0)
    few = [k for k in range(30) if int(data.targets[k]) != 2 or k < 6]
    plain = build("average", data.task, data.dims, {"l2": "0.1"})
    weighted = build(
        "average", replace(data.task, class_weights=(1.0, 1.0, 8.0)), data.dims, {"l2": "0.1"}
    )
    for head in (plain, weighted):
        fit(head, Job(data, few), Plan())
    before = predict(plain, data, few, Plan())[0][:, 2].mean()
    assert predict(weighted, data, few, Plan())[0][:, 2].mean() > 2 * before


def test_the_penalty_of_least_validation_loss_is_chosen(make_examples):
    data = make_examples(noise=2.0)
    head = build("average", data.task, data.dims, {})
    history = fit(head, job_of(data), Plan())[0]
    assert history.unit == "l2"
    assert history.chosen == best(history.points).at
    assert len({p.at for p in history.points}) == len(history.points) > 3


def test_descent_learns_stops_early_and_keeps_the_best_epoch(make_examples):
    data = make_examples(noise=0.5)
    head = new_lstm(data)
    job = job_of(data)
    history = fit(head, job, replace(FAST, epochs=40))[0]
    assert len(history.points) in (history.chosen + FAST.patience, 40)
    probabilities, targets = predict(head, data, job.validation, FAST)
    loss = -np.log(probabilities[np.arange(len(targets)), targets]).mean()
    assert loss == pytest.approx(best(history.points).validation_loss, rel=1e-5)
    assert (probabilities.argmax(1) == targets).mean() == 1.0


def test_equal_seeds_give_equal_weights_and_other_seeds_do_not(make_examples):
    data = make_examples()
    found = []
    for seed in (3, 3, 4):
        head = new_lstm(data, seed=1)
        fit(head, job_of(data), replace(FAST, epochs=3, seed=seed))
        found.append(head.linear.weight.detach().clone())
        torch.rand(5)  # what others draw must not matter
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


class Stop(Exception):
    """Stands for a killed process."""


def test_an_interrupted_descent_goes_on_bit_for_bit(make_examples, tmp_path):
    data = make_examples()
    whole = new_lstm(data)
    history = fit(whole, job_of(data), FAST)[0]

    def stop_at_five(part, point):
        if point.at == 5:
            raise Stop

    state = tmp_path / "state.safetensors"
    with pytest.raises(Stop):
        fit(new_lstm(data), job_of(data, state=state, watch=stop_at_five), FAST)
    resumed = new_lstm(data, seed=8)
    seen = []
    again = fit(resumed, job_of(data, state=state, watch=lambda _, p: seen.append(p.at)), FAST)[0]
    assert seen[0] == 5.0, "epochs 1 to 4 were saved"
    assert again.points == history.points
    for one, other in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_a_state_that_is_none_is_refused(make_examples, tmp_path):
    state = tmp_path / "state.safetensors"
    state.write_bytes(b"half a fi")
    with pytest.raises(UsageError, match="not the state of a training"):
        fit(new_lstm(make_examples()), job_of(make_examples(), state=state), FAST)


def test_a_state_of_another_plan_is_refused(make_examples, tmp_path):
    data = make_examples()
    state = tmp_path / "state.safetensors"
    fit(new_lstm(data), job_of(data, state=state), replace(FAST, epochs=2))
    with pytest.raises(UsageError, match="other settings"):
        fit(new_lstm(data), job_of(data, state=state), replace(FAST, learning_rate=0.5))


def test_without_validation_it_trains_as_long_as_was_chosen(make_examples):
    data = make_examples()
    history = fit(new_lstm(data), Job(data, range(30)), replace(FAST, chosen=(3.0,)))[0]
    assert [p.at for p in history.points] == [1, 2, 3]
    assert all(math.isnan(p.validation_loss) for p in history.points)


def test_the_lstm_is_trained_on_all_steps_and_answers_with_the_last(make_examples):
    data = make_examples()
    head = new_lstm(data).eval()
    batch = data.batch([0, 4])  # 2 and 6 rows
    steps = head.steps(batch)
    log_p = steps.log_softmax(-1)
    targets = data.targets[[0, 4]]
    by_hand = [-log_p[0, :2, targets[0]].mean(), -log_p[1, :6, targets[1]].mean()]
    assert head.loss(batch).item() == pytest.approx(sum(by_hand).item() / 2, rel=1e-5)
    assert torch.allclose(head(batch)[0], steps[0, 1].softmax(-1))
    assert torch.allclose(head(batch)[1], steps[1, 5].softmax(-1))
    lrcn = new_lstm(data, {**SMALL, "predict": "average"}).eval()
    lrcn.load_state_dict(head.state_dict())
    assert torch.allclose(lrcn(batch)[0], steps[0, :2].softmax(-1).mean(0))


def test_the_projection_spans_the_leading_axes(make_examples):
    data = make_examples(noise=0.1)
    head = new_lstm(data, {**SMALL, "project": "2"})
    head.settle([data.batch(range(30))])
    rows = torch.cat(list(data.rows[0]))
    normal = (rows - rows.mean(0)) / rows.std(0, correction=0)
    directions = head.axes / head.axes.norm(dim=0)
    kept = (normal @ directions).square().sum() / normal.square().sum()
    assert kept > 0.95, "three class means span two axes"
    assert (normal @ head.axes).var(0, correction=0).mean() == pytest.approx(1.0, rel=1e-3)


def test_late_fusion_trains_each_stream_by_itself(make_examples):
    data = make_examples(streams=2)
    fused = build("late-fusion", data.task, data.dims, {"weights": "1:3", "l2": "0.01"})
    fit(fused, Job(data, range(30)), Plan())
    each = []
    for number in (0, 1):
        alone = build("average", data.task, data.dims[:1], {"l2": "0.01"})
        fit(alone, Job(data.stream(number), range(30)), Plan())
        each.append(predict(alone, data.stream(number), range(30), Plan())[0])
    found = predict(fused, data, range(30), Plan())[0]
    np.testing.assert_allclose(found, 0.25 * each[0] + 0.75 * each[1], atol=1e-6)


def test_late_fusion_of_logits_is_the_softmax_of_their_mean(make_examples):
    data = make_examples(streams=2)
    settings = {"average": "logits", "l2": "0.01"}
    fused = build("late-fusion", data.task, data.dims, settings)
    fit(fused, Job(data, range(30)), Plan())
    batch = data.batch(range(4))
    scores = [head.linear(head.examples(batch.stream(k))[0]) for k, head in fused.parts]
    wanted = (0.5 * scores[0] + 0.5 * scores[1]).softmax(-1)
    assert torch.allclose(fused(batch), wanted, atol=1e-6)


def test_several_labels_are_learned_with_sigmoids(make_examples):
    data = make_examples(noise=0.2, multi_label=True)
    for name, settings in (("average", {"l2": "0.001"}), ("lstm", {"hidden": "16"})):
        torch.manual_seed(0)
        head = build(name, data.task, data.dims, settings)
        history = fit(head, job_of(data), replace(FAST, epochs=60, patience=60))[0]
        assert best(history.points).validation_score > 0.8, name
        assert (predict(head, data, range(30), FAST)[0].sum(1) > 1.2).any()
