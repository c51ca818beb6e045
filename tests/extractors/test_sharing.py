from dataclasses import replace

import numpy as np
import pytest
import torch

import extractors
from extractors import Geometry, _extractor, _preprocess, _sharing, i3d
from tests.extractors.numpy_volumes import relative_error


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def spec_of(window, stride, name="i3d-rgb", crops=1, **settings):
    spec = extractors.spec(name).with_settings(
        {"weights": "random", "window": str(window), "stride": str(stride), **settings}
    )
    return replace(spec, geometry=Geometry(short_side_px=36, crop_px=32, crops=crops))


def video(frames, seed=0, flow=False):
    generator = np.random.default_rng(seed)
    if flow:
        return list(generator.uniform(-20, 20, (frames, 36, 40, 2)).astype(np.float32))
    return list(generator.integers(0, 256, (frames, 36, 40, 3), dtype=np.uint8))


def windows_of(frames, spec):
    length, stride = spec.sampling.window, spec.sampling.stride
    return [frames[k : k + length] for k in range(0, len(frames) - length + 1, stride)]


def plain_row(spec, window):
    net = _extractor.untrained(i3d, spec)
    (x,) = _preprocess.to_tensors(window, spec, torch.device("cpu"))
    with torch.inference_mode():
        return net(x[None]).numpy()


@pytest.mark.parametrize(
    ("window", "stride", "name", "layer"),
    [
        (32, 8, "i3d-rgb", "pool"),
        (40, 16, "i3d-flow", "steps"),
        (64, 8, "i3d-rgb", "logits"),
    ],
)
def test_shared_rows_are_those_of_the_plain_network(window, stride, name, layer):
    spec = spec_of(window, stride, name, layer=layer)
    extractor = extractors.build(spec)
    assert extractor._shared is not None
    for part in windows_of(video(window + 2 * stride, flow=name == "i3d-flow"), spec):
        found, expected = extractor([part])[0], plain_row(spec, part)
        assert relative_error(found, expected.reshape(found.shape).astype(float)) < 1e-5


def test_bits_do_not_depend_on_what_came_before():
    spec = spec_of(32, 8, batch="4")
    one, other = windows_of(video(56), spec), windows_of(video(56, seed=1), spec)
    alone = [extractors.build(spec)([window])[0] for window in one]
    in_order = extractors.build(spec)
    assert np.array_equal(in_order(one), alone)
    assert np.array_equal(in_order(one[::-1]), alone[::-1])
    mixed = in_order([one[2], other[0], one[3], other[1]])
    assert np.array_equal(mixed[[0, 2]], [alone[2], alone[3]])


def test_work_is_really_shared():
    spec = spec_of(32, 8)
    extractor = extractors.build(spec)
    computed = []
    run = extractor._shared.__closure__
    (trunk,) = [c.cell_contents for c in run if hasattr(c.cell_contents, "_layers")]
    for number, layer in enumerate(trunk._layers):
        layer.register_forward_hook(lambda _, __, y, n=number: computed.append((n, y.shape[2])))
    positions = []
    for window in windows_of(video(48), spec):
        computed.clear()
        extractor([window])
        positions.append([sum(p for n, p in computed if n == k) for k in range(4)])
    assert positions[0] == [16] * 4
    assert positions[1] == positions[2] == [7, 9, 11, 13]  # 4 new ones, and the borders


def test_crops_share_with_themselves_only():
    spec = spec_of(32, 8, crops=3)
    extractor = extractors.build(spec)
    first, second = windows_of(video(40), spec)
    extractor([first])
    assert np.array_equal(extractor([second]), extractors.build(spec)([second]))


def test_equal_pictures_in_other_objects_give_equal_rows():
    spec = spec_of(32, 8)
    extractor = extractors.build(spec)
    window = video(32)
    row = extractor([window])
    assert np.array_equal(extractor([[frame.copy() for frame in window]]), row)
    still = [window[0]] * 32  # a looped or frozen segment: one object many times
    assert np.array_equal(extractor([still]), extractors.build(spec)([still]))


@pytest.mark.parametrize(
    ("window", "stride", "shared"),
    [
        (64, 8, True), (64, 16, True), (64, 32, True), (64, 64, False), (64, 4, False),
        (16, 8, False), (60, 8, False), (32, 16, True), (32, 24, False),
    ],
)  # fmt: skip
def test_what_is_worthwhile(window, stride, shared):
    assert _sharing.worthwhile(window, stride) == shared


def test_whole_segments_share_nothing():
    spec = extractors.spec("i3d-rgb").with_settings({"weights": "random", "mode": "whole"})
    assert i3d.sharing(i3d.network(spec), spec, compile=False) is None


def test_compiled_windows_are_whole_graphs_for_several_networks_at_once(monkeypatch):
    """Where torch gives up it runs uncompiled, in silence: a row's bits would tell of the company.

    The compiler proper is left out; what it is handed, and how often, is what counts.
    """
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, **how: real(model, backend="eager", **how))
    torch._dynamo.reset()
    for name, length in (("i3d-rgb", 32), ("i3d-flow", 32), ("i3d-rgb", 40)):
        spec = spec_of(length, 8, name)
        frames = video(length + 16, flow=name == "i3d-flow")
        plain, compiled = extractors.build(spec), extractors.build(spec, compile=True)
        for window in windows_of(frames, spec):
            assert np.array_equal(compiled([window]), plain([window]))
    torch._dynamo.reset()
