"""What every head promises, whatever it is; a new head is tested by being there."""

from __future__ import annotations

import pytest
import torch

from pipeline.errors import UsageError
from pipeline.heads import build, names
from pipeline.heads._head import Batch, Task
from pipeline.heads._train import Job, Plan, fit, predict

CLASSES = ("open", "close")
DIMS = (6, 5)
PLAN = Plan(batch=16, learning_rate=3e-2, chosen=(12.0, 12.0))
CHEAP = {"lstm": {"hidden": "8"}}


class Segments:
    """Two classes told apart by the mean of both streams; lengths from 1 to 4."""

    def __init__(self, streams: int = 2) -> None:
        random = torch.Generator().manual_seed(0)
        self.dims = DIMS[:streams]
        self.targets = torch.arange(16) % 2
        self.rows = [
            [torch.randn(1 + k % 4, d, generator=random) + 2.0 * (k % 2) for k in range(16)]
            for d in self.dims
        ]

    def batches(self, chosen, size, shuffle_seed=None):
        for first in range(0, len(chosen), size):
            yield self.batch(list(chosen)[first : first + size])

    def batch(self, chosen, pad: int = 0) -> Batch:
        longest = max(len(self.rows[0][k]) for k in chosen) + pad
        mask = torch.zeros(len(chosen), longest, dtype=torch.bool)
        rows = tuple(torch.zeros(len(chosen), longest, d) for d in self.dims)
        for place, k in enumerate(chosen):
            mask[place, : len(self.rows[0][k])] = True
            for stream, found in zip(rows, self.rows, strict=True):
                stream[place, : len(found[k])] = found[k]
        return Batch(rows, mask, self.targets[list(chosen)])

    def stream(self, number: int):
        alone = Segments()
        alone.dims, alone.rows = (self.dims[number],), [self.rows[number]]
        return alone


def trained(name: str, data: Segments):
    torch.manual_seed(0)
    settings = dict(CHEAP.get(name, {}))
    if name != "lstm":
        settings["l2"] = "0.01"
    head = build(name, Task(CLASSES), data.dims, settings)
    fit(head, Job(data, range(16)), PLAN)
    return head


@pytest.fixture(params=names())
def name(request):
    return request.param


@pytest.fixture
def data():
    return Segments()


def test_it_learns_and_gives_probabilities(name, data):
    probabilities, targets = predict(trained(name, data), data, range(16), PLAN)
    assert (probabilities.argmax(1) == targets).mean() >= 15 / 16
    assert probabilities.shape == (16, 2)
    assert abs(probabilities.sum(1) - 1).max() < 1e-6


def test_padding_and_company_change_nothing(name, data):
    head = trained(name, data)
    with torch.inference_mode():
        alone = head(data.batch([2]))[0]
        padded = head(data.batch([2], pad=3))[0]
        accompanied = head(data.batch([7, 2, 4]))[1]
    assert torch.allclose(alone, padded, atol=1e-6)
    assert torch.allclose(alone, accompanied, atol=1e-6)


def test_what_stands_in_the_padding_is_never_read(name, data):
    head = trained(name, data)
    batch = data.batch([0, 3], pad=2)
    spoiled = tuple(torch.where(batch.mask.unsqueeze(-1), x, 1e6) for x in batch.rows)
    with torch.inference_mode():
        assert torch.allclose(head(batch), head(batch._replace(rows=spoiled)), atol=1e-6)


def test_equal_seeds_give_equal_heads(name, data):
    one, other = trained(name, data), trained(name, data)
    for key, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[key]), key


def test_its_state_is_whole(name, data):
    head = trained(name, data)
    settings = {**CHEAP.get(name, {})}
    fresh = build(name, Task(CLASSES), data.dims, settings)
    fresh.load_state_dict(head.state_dict())
    fresh.eval()
    with torch.inference_mode():
        assert torch.equal(fresh(data.batch(range(16))), head(data.batch(range(16))))


def test_a_wrong_setting_is_refused_with_the_right_ones(name):
    with pytest.raises(UsageError, match="expected one of"):
        build(name, Task(CLASSES), DIMS, {"colour": "red"})


def test_a_wrong_name_shows_the_nearest():
    with pytest.raises(UsageError, match="did you mean late-fusion"):
        build("late-fussion", Task(CLASSES), DIMS, {})


@pytest.mark.parametrize(
    ("head", "settings", "message"),
    [
        ("average", {"pool": "median"}, "pool is 'median', expected one of mean"),
        ("average", {"l2": "-1"}, "l2 is -1.0"),
        ("lstm", {"hidden": "many"}, "expected a value of type int"),
        ("lstm", {"project": "99"}, "project 99"),
        ("late-fusion", {"weights": "1:2:3"}, "expected 2 numbers"),
    ],
)
def test_a_value_that_cannot_be_taken_says_what_can(head, settings, message):
    with pytest.raises(UsageError, match=message):
        build(head, Task(CLASSES), DIMS, settings)


def test_fusion_needs_two_streams():
    with pytest.raises(UsageError, match="at least two streams"):
        build("late-fusion", Task(CLASSES), DIMS[:1], {})
