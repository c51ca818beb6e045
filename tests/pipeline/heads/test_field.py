from __future__ import annotations

from dataclasses import replace

import pytest

import extractors
from pipeline.errors import UsageError
from pipeline.heads._field import CHOSEN, Effort, Stream, count_parameters, entries, pairs


def stream(name: str, weights: str | None = None) -> Stream:
    spec = extractors.spec(name)
    digest = spec.weights[0].sha256 if weights is None and spec.weights else weights
    settings = {"spec": spec.declared(), "weights": digest}
    return Stream(f"{name}-0", {"extractor": name, "settings": settings})


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("efficientnet-lite0", "two-stream, RGB"),
        ("efficientnet-lite0-flow", "two-stream, flow"),
        ("i3d-rgb", "I3D, RGB"),
        ("i3d-flow", "I3D, flow"),
        ("c3d", "3D-ConvNet"),
        ("karpathy-single", "single frame"),
        ("karpathy-early-alexnet", "early fusion"),
        ("karpathy-late", "late fusion"),
        ("karpathy-slow", "slow fusion"),
        ("karpathy-slow-multires", "multiresolution"),
        ("karpathy-multires-alexnet", "multiresolution"),
        ("two-stream-rgb", "two-stream, RGB"),
        ("two-stream-flow", "two-stream, flow"),
    ],
)
def test_each_system_stands_in_its_row_of_the_field(name, row):
    assert stream(name, "x").row == row


def test_a_network_that_never_saw_its_input_says_so():
    assert stream("efficientnet-lite0-flow").trained_on == (
        "ImageNet-1k; never saw flow in training"
    )
    assert stream("efficientnet-lite0").trained_on.endswith("never saw video in training")
    assert stream("i3d-flow", "random:0").trained_on == "nothing (random weights)"
    assert stream("i3d-rgb", "0" * 64).trained_on == "unknown (the user's own weights)"


def test_a_network_trained_on_video_does_not():
    spec = extractors.spec("i3d-rgb")
    known = [w for w in spec.weights if w.sha256]
    for weights in known:
        assert "never" not in stream("i3d-rgb", weights.sha256).trained_on


def test_parameters_are_those_of_the_network():
    assert count_parameters(extractors.spec("efficientnet-lite0")) == 4_652_008
    unknown = replace(extractors.spec("efficientnet-lite0"), name="no-such-network")
    assert count_parameters(unknown) is None


def test_an_extractor_that_is_not_installed_leaves_its_column_empty():
    gone = stream("efficientnet-lite0")
    gone = Stream("gone-0", {**gone.recipe, "extractor": "gone"})
    assert gone.parameters is None
    assert gone.trained_on == "unknown (the user's own weights)"


def test_rgb_pairs_with_flow_of_its_own_kind():
    names = ("efficientnet-lite0", "efficientnet-lite0-flow", "i3d-rgb", "i3d-flow", "c3d")
    found = [(a.extractor, b.extractor) for a, b in pairs([stream(n, "x") for n in names])]
    assert found == [(names[0], names[1]), (names[2], names[3])]


def test_every_head_is_tried_and_fusions_point_at_their_parts():
    streams = [stream("efficientnet-lite0"), stream("efficientnet-lite0-flow")]
    listed = entries(streams, Effort())
    assert [e.row for e in listed] == (
        ["single frame", "ConvNet+LSTM"] + ["two-stream, RGB"] * 2
        + ["two-stream, flow"] * 3 + ["two-stream, both"] * 9
    )  # fmt: skip
    for entry in listed:
        assert bool(entry.candidates) != bool(entry.fused)
        for k in entry.fused:
            assert set(listed[k].streams) < set(entry.streams)
    four = next(e for e in listed if "four scores" in e.head)
    assert sorted(listed[k].head for k in four.fused) == (
        ["LSTM", "LSTM", "pooled, chosen inside", "pooled, chosen inside"]
    )


def test_weights_of_a_fusion_stand_beside_equal_ones():
    streams = [stream("i3d-rgb", "x"), stream("i3d-flow", "x")]
    effort = Effort(heads=("average", "late-fusion"), fusion=("1:1.5", CHOSEN))
    means = [e for e in entries(streams, effort) if e.fused and e.head.startswith("mean;")]
    assert [(e.weights, e.head) for e in means] == [
        ("", "mean; scores averaged"),
        ("1:1.5", "mean; scores averaged 1:1.5"),
        (CHOSEN, "mean; weights chosen inside"),
    ]


@pytest.mark.parametrize("wrong", [{"heads": ("svm",)}, {"heads": ()}, {"fusion": ("1:2:3",)}])
def test_an_effort_that_means_nothing_is_refused(wrong):
    with pytest.raises(UsageError, match=r"expected (some of average|2 numbers)"):
        Effort(**wrong)


def test_heads_can_be_left_out():
    listed = entries([stream("i3d-rgb", "x")], Effort(heads=("average",)))
    assert {c.head for e in listed for c in e.candidates} == {"average"}
