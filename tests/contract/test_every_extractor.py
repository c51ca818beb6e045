"""What every extractor promises, over `extractors.names()`; one of each family in the fast tier.

Random weights: the promises are about shapes, types, bits and refusals, not about meaning. A
family is a module; its other names differ in settings and run in the slow tier.
"""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

import extractors
from extractors import ExtractorError, Geometry

FAST = {"efficientnet-lite0-flow", "inception-v1"}


EVERY_NAME = [
    pytest.param(name, marks=() if name in FAST else pytest.mark.slow)
    for name in extractors.names()
]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def small(name):
    """Return the spec with random weights and few windows a call."""
    return extractors.spec(name).with_settings({"weights": "random", "batch": "2"})


def window_of(spec, seed, height_px=270, width_px=330):
    generator = np.random.default_rng(seed)
    height, width = spec.geometry.resized(height_px, width_px)
    shape = (spec.sampling.window, height, width)
    if spec.modality == "rgb":
        return list(generator.integers(0, 256, (*shape, 3), dtype=np.uint8))
    return list(generator.uniform(-20, 20, (*shape, 2)).astype(np.float32))


@pytest.mark.parametrize("name", EVERY_NAME)
def test_rows(name):
    spec = small(name)
    extractor = extractors.build(spec)
    one, other = window_of(spec, 1), window_of(spec, 2)
    alone = extractor([one])
    assert alone.shape == (1, 1, spec.dim)
    assert alone.dtype == np.float32
    assert np.isfinite(alone).all()
    assert alone.std() > 0
    assert np.array_equal(extractor([one]), alone), "the same window twice gives other bits"
    pair = extractor([other, one])
    assert np.array_equal(pair[1], alone[0]), "a row depends on the company of its window"
    assert not np.array_equal(pair[0], pair[1])
    assert extractor.weights_digest == extractors.digest_weights(spec) == "random:0"


@pytest.mark.parametrize("name", EVERY_NAME)
def test_refusals(name):
    spec = small(name)
    extractor = extractors.build(spec)
    window = window_of(spec, 1)
    with pytest.raises(ExtractorError, match="windows in one call, expected at most 2"):
        extractor([window] * 3)
    with pytest.raises(ExtractorError, match="expected"):
        extractor([window + window])
    with pytest.raises(ExtractorError, match="expected"):
        extractor([[frame.astype(np.float64) for frame in window]])
    with pytest.raises(ExtractorError, match="expected"):
        extractor([[frame[..., :1] for frame in window]])
    assert extractor([]).shape == (0, 1, spec.dim)


@pytest.mark.parametrize("name", extractors.names())
def test_spec_is_a_whole_description(name):
    spec = extractors.spec(name)
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert spec.paper
    assert spec.summary
    for preset in spec.presets:
        assert spec.with_settings({"preset": preset}).name == name
    for layer, width in spec.layers.items():
        assert spec.with_settings({"layer": layer}).dim == width
    for weights in spec.weights:
        assert weights.name
        assert weights.licence
        assert weights.trained_on
        assert weights.url
    with pytest.raises(ExtractorError, match="has no setting 'colour'"):
        spec.with_settings({"colour": "red"})
    with pytest.raises(ExtractorError, match="layer is 'fc9'"):
        spec.with_settings({"layer": "fc9"})


def tiny(**settings):
    """Return EfficientNet-Lite0 on 64 pixels: for promises that belong to the machinery."""
    spec = extractors.spec("efficientnet-lite0").with_settings({"batch": "3", **settings})
    crops, keep = spec.geometry.crops, spec.geometry.keep_crops
    geometry = Geometry(short_side_px=72, crop_px=64, crops=crops, keep_crops=keep)
    return replace(spec, geometry=geometry)


def test_rows_do_not_depend_on_place_or_company():
    spec = tiny()
    extractor = extractors.build(spec)
    windows = [window_of(spec, seed) for seed in range(3)]
    alone = [extractor([window])[0] for window in windows]
    for order in ((0, 1, 2), (2, 0, 1), (1, 2)):
        together = extractor([windows[k] for k in order])
        for place, k in enumerate(order):
            assert np.array_equal(together[place], alone[k])


def test_frames_of_other_sizes_share_a_call():
    spec = tiny()
    extractor = extractors.build(spec)
    wide, tall = window_of(spec, 1, 100, 200), window_of(spec, 2, 200, 100)
    together = extractor([wide, tall])
    assert np.array_equal(together[0], extractor([wide])[0])
    assert np.array_equal(together[1], extractor([tall])[0])


def test_crops_are_averaged_or_kept():
    window = window_of(tiny(), 1)
    mean = extractors.build(tiny(crops="10"))([window])
    kept = extractors.build(tiny(crops="10:kept"))([window])
    assert mean.shape == (1, 1, 1280)
    assert kept.shape == (1, 10, 1280)
    assert np.allclose(kept.mean(axis=1), mean[:, 0], rtol=1e-5, atol=1e-6)
    centre = extractors.build(tiny())([window])
    assert np.allclose(kept[:, 4], centre[:, 0], rtol=1e-4, atol=1e-5)
    assert extractors.build(tiny(crops="3:kept"))([window]).shape == (1, 3, 1280)


def test_precision_and_device_are_never_exchanged():
    exact = extractors.build(tiny())([window_of(tiny(), 1)])
    rough = extractors.build(tiny(), precision="bf16")([window_of(tiny(), 1)])
    assert rough.dtype == np.float32
    assert 1e-4 < np.abs(rough - exact).max() / np.abs(exact).max() < 0.1
    with pytest.raises(ExtractorError, match="fp16 needs a GPU"):
        extractors.build(tiny(), precision="fp16")
    with pytest.raises(ExtractorError, match="expected one of fp32, bf16, fp16"):
        extractors.build(tiny(), precision="int8")
    with pytest.raises(ExtractorError, match="device 'abacus' is not to be had here"):
        extractors.build(tiny(), device="abacus")
    if not torch.cuda.is_available():
        with pytest.raises(ExtractorError, match="device 'cuda' is not to be had here"):
            extractors.build(tiny(), device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_device_placement():
    extractor = extractors.build(tiny(), device="cuda")
    assert extractor.device.type == "cuda"
    close = extractors.build(tiny())([window_of(tiny(), 1)])
    assert np.allclose(extractor([window_of(tiny(), 1)]), close, rtol=1e-2, atol=1e-2)


def test_folding_and_layout_change_rows_by_less_than_a_ten_thousandth():
    from extractors import _extractor, _preprocess, efficientnet_lite

    spec = tiny()
    window = window_of(spec, 1)
    eager = _extractor.network_with_weights(efficientnet_lite, spec, None)
    (x,) = _preprocess.to_tensors(window, spec, torch.device("cpu"))
    with torch.inference_mode():
        plain = eager(x[None]).numpy()
    fast = extractors.build(spec)([window])[:, 0]
    assert 0 < np.abs(fast - plain).max() / np.abs(plain).max() < 1e-4


def test_wrong_names_show_the_nearest_right_ones():
    with pytest.raises(ExtractorError, match="'i3d-rbg'; the nearest are i3d-rgb"):
        extractors.spec("i3d-rbg")
    with pytest.raises(ExtractorError, match="torchvision:NAME"):
        extractors.spec("resnet")


def test_names_are_unique_and_prefixes_open_other_lists():
    names = extractors.names()
    assert len(set(names)) == len(names)
    assert "torchvision:" in extractors.prefixes()


def test_listing_errors_does_not_import_torch():
    import subprocess
    import sys

    code = "import sys, extractors, extractors._spec; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_compiled_rows_are_the_same_to_a_ten_thousandth():
    spec = tiny()
    window = window_of(spec, 1)
    plain = extractors.build(spec)([window])
    compiled = extractors.build(spec, compile=True)([window])
    assert np.abs(compiled - plain).max() / np.abs(plain).max() < 1e-4
