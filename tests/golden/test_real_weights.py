"""Published numbers, where the published files are given by environment variables.

``I3D_RGB_WEIGHTS``, ``I3D_FLOW_WEIGHTS``
    checkpoints of any layout that `extractors.i3d` knows
``I3D_RGB_SAMPLE``, ``I3D_FLOW_SAMPLE``
    DeepMind's ``v_CricketShot_g04_c01_{rgb,flow}.npy``, (1, 79, 224, 224, 3 or 2) in [-1, 1]
``C3D_WEIGHTS``, ``C3D_MEAN_CUBE``, ``C3D_SAMPLE``
    Sports-1M weights, ``sport1m_train16_128_mean.binaryproto``, and 16 RGB frames as
    ``.npy`` (16, H, W, 3) uint8 (Lasagne/Recipes' ``example_snip.npy``)
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

import extractors
from extractors import _extractor, i3d

pytestmark = pytest.mark.real_weights


def given(variable):
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"set {variable} to run this")
    return Path(value)


def i3d_logits(stream):
    weights = given(f"I3D_{stream.upper()}_WEIGHTS")
    sample = np.load(given(f"I3D_{stream.upper()}_SAMPLE"), allow_pickle=False)
    spec = extractors.spec(f"i3d-{stream}").with_settings(
        {"weights": str(weights), "mode": "whole", "layer": "logits"}
    )
    net = _extractor.network_with_weights(i3d, spec, None)
    x = torch.from_numpy(sample.astype(np.float32)).permute(0, 4, 1, 2, 3)
    with torch.inference_mode():
        return net(x)[0].numpy(), _extractor._classes.names(spec)


@pytest.mark.parametrize(("stream", "expected"), [("rgb", 25.856646), ("flow", 15.957031)])
def test_i3d_on_deepminds_sample(stream, expected):
    logits, names = i3d_logits(stream)
    assert names[int(logits.argmax())] == "playing cricket"
    assert logits.max() == pytest.approx(expected, abs=1e-3)


def test_i3d_sum_of_streams():
    total = i3d_logits("rgb")[0] + i3d_logits("flow")[0]
    assert total.max() == pytest.approx(41.813675, abs=1e-3)
    assert np.linalg.norm(total) == pytest.approx(138.468643, abs=1e-2)


def test_c3d_sees_a_wiffle_ball():
    import cv2

    settings = {
        "weights": str(given("C3D_WEIGHTS")),
        "mean": str(given("C3D_MEAN_CUBE")),
        "layer": "logits",
        "batch": "1",
    }
    frames = np.load(given("C3D_SAMPLE"), allow_pickle=False)
    window = [cv2.resize(frame, (171, 128), interpolation=cv2.INTER_LINEAR) for frame in frames]
    logits = extractors.build(extractors.spec("c3d").with_settings(settings))([window])[0, 0]
    chances = np.exp(logits - logits.max())
    assert chances.max() / chances.sum() == pytest.approx(0.2991, abs=2e-3)
