import struct
from pathlib import Path

import numpy as np
import pytest
import torch

import extractors
from extractors import ExtractorError, WeightsError, _extractor, _preprocess, c3d
from tests.extractors import numpy_volumes as reference

CHECKOUT = Path(__file__).resolve().parents[2]
REAL_BLOB = CHECKOUT.parent / "shared" / "data" / "c3d" / "fb_train16_128_mean.binaryproto"
NAMES = ("conv1a", "conv2a", "conv3a", "conv3b", "conv4a", "conv4b", "conv5a", "conv5b")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def spec_of(name="c3d", **settings):
    return extractors.spec(name).with_settings({"weights": "random", **settings})


@pytest.fixture(scope="module")
def net():
    made = _extractor.untrained(c3d, spec_of())
    for layer in made.modules():
        if isinstance(layer, torch.nn.Conv3d):
            layer.bias.data.uniform_(-0.1, 0.1, generator=torch.Generator().manual_seed(2))
    return made


def caffe_pool(x, frames):
    """Caffe's pooling: windows of (frames, 2, 2), sizes round up, the window cut off at the end."""
    kernel = (frames, 2, 2)
    beyond = [(0, -n % k) for n, k in zip(x.shape[1:], kernel, strict=True)]
    return reference.max_pool(x, kernel, kernel, beyond, filling=-np.inf)


@pytest.mark.parametrize("size", [(16, 32, 32), (7, 23, 33)])
def test_every_layer_equals_the_reference(net, size):
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    seen = {}
    handles = [
        module.register_forward_hook(lambda _, __, y, at=name: seen.__setitem__(at, y[0].clone()))
        for name, module in net.features.named_children()
    ]
    x = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        net.features(x)
    for handle in handles:
        handle.remove()
    y = x[0].double().numpy()
    for number, name in enumerate(NAMES):
        y = reference.convolve(y, state[f"features.{name}.weight"], (1, 1, 1), [(1, 1)] * 3)
        y = y + state[f"features.{name}.bias"].astype(np.float64)[:, None, None, None]
        assert reference.relative_error(seen[name], y) < 1e-5, name
        y = np.maximum(y, 0)
        if name not in ("conv3a", "conv4a", "conv5a"):
            y = caffe_pool(y, frames=1 if number == 0 else 2)
            assert seen[f"pool{name[4]}"].shape == y.shape
            assert reference.relative_error(seen[f"pool{name[4]}"], y) < 1e-5, name


def test_pool5_pads_at_right_and_bottom_only():
    column = torch.arange(1.0, 8.0)
    x = (column[:, None] * 10 + column[None, :]).expand(1, 512, 2, 7, 7)
    with torch.device("meta"):  # only the pooling is used, and it has no weights
        exact, port = c3d.network(spec_of()), c3d.network(spec_of("c3d-mmaction2"))
    ours, ports = exact.features.pool5(x)[0, 0, 0], port.features.pool5(x)[0, 0, 0]
    ends = torch.tensor([2.0, 4.0, 6.0, 7.0])
    assert torch.equal(ours, ends[:, None] * 10 + ends[None, :])
    starts = torch.tensor([1.0, 3.0, 5.0, 7.0])
    assert torch.equal(ports, starts[:, None] * 10 + starts[None, :])


def test_rows_are_after_their_relu(net):
    pooled = torch.rand(1, 512, 1, 4, 4, generator=torch.Generator().manual_seed(6))
    features, net.features = net.features, torch.nn.Identity()
    with torch.inference_mode():
        fc6 = (pooled.flatten(1) @ net.fc6.weight.T + net.fc6.bias).clamp(min=0)
        fc7 = (fc6 @ net.fc7.weight.T + net.fc7.bias).clamp(min=0)
        rows = {}
        for layer in ("logits", "fc7", "fc6"):
            net.layer = layer
            rows[layer] = net(pooled)
        expected = {"fc6": fc6, "fc7": fc7, "logits": net.fc8(fc7)}
    net.features = features
    assert all(torch.allclose(rows[k], expected[k], rtol=1e-4, atol=1e-4) for k in rows)
    assert (fc6 == 0).float().mean() > 0.2


def test_parameter_count(net):
    assert sum(p.numel() for p in net.parameters()) == 79_991_015
    assert sum(p.numel() for p in net.features.parameters()) == 27_655_936


def test_windows_must_have_sixteen_frames():
    with pytest.raises(ExtractorError, match="must have 16 frames, got mode=dense window=8"):
        c3d.network(spec_of(window="8"))
    with pytest.raises(ExtractorError, match="must have 16 frames, got mode=whole"):
        c3d.network(spec_of(mode="whole"))


def frames_of(seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 128, 171, 3), dtype=np.uint8)
    return list(pixels)


def test_pixels_are_bgr_minus_the_mean_in_the_centre_crop():
    frames = frames_of()
    (tensor,) = _preprocess.to_tensors(frames, spec_of(), torch.device("cpu"))
    assert tensor.shape == (3, 16, 112, 112)
    blue, red = tensor[0, 5, 0, 0], tensor[2, 5, 0, 0]
    assert float(blue) == pytest.approx(frames[5][8, 29, 2] - 90.25, abs=1e-4)
    assert float(red) == pytest.approx(frames[5][8, 29, 0] - 101.41, abs=1e-4)


# --- the mean cube ---


def varint(number):
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def blob_bytes(cube):
    sizes = (1, *cube.shape)
    head = b"".join(varint(field << 3) + varint(n) for field, n in enumerate(sizes, start=1))
    values = cube.astype("<f4").tobytes()
    return head + varint(6 << 3 | 2) + varint(len(values)) + values


@pytest.fixture
def cube(tmp_path):
    values = np.random.default_rng(9).uniform(80, 120, (3, 16, 128, 171)).astype(np.float32)
    path = tmp_path / c3d.MEAN_CUBE
    path.write_bytes(blob_bytes(values))
    return path, values


def test_mean_cube_is_subtracted_at_each_pixels_own_place(cube):
    path, values = cube
    frames = frames_of()
    volume = c3d.read_mean_cube(path)
    spec = spec_of(mean="cube")
    (tensor,) = _preprocess.to_tensors(frames, spec, torch.device("cpu"), volume)
    place = (slice(None), slice(None), slice(8, 120), slice(29, 141))
    expected = np.stack(frames)[..., ::-1].transpose(3, 0, 1, 2).astype(np.float32) - values
    assert np.array_equal(tensor.numpy(), expected[place])


def test_mean_cube_is_part_of_the_digest(cube):
    path, _ = cube
    plain = extractors.digest_weights(spec_of())
    with_cube = extractors.digest_weights(spec_of(mean="cube"), path.parent)
    assert plain == "random:0"
    assert with_cube.startswith("random:0+")
    assert with_cube == extractors.digest_weights(spec_of(mean=str(path)))
    with pytest.raises(WeightsError, match=r"mean\.binaryproto is not in .* --set c3d\.mean=PATH"):
        extractors.digest_weights(spec_of(mean="cube"), path.parent / "elsewhere")


@pytest.mark.parametrize("damage", [lambda b: b[:-5], lambda b: b"<html>" + b, lambda b: b""])
def test_damaged_mean_cubes_are_refused(cube, damage):
    path, _ = cube
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(WeightsError, match=r"Caffe blob"):
        c3d.read_mean_cube(path)


def test_field_numbers_are_those_of_a_real_file_which_is_another_cube():
    if not REAL_BLOB.is_file():
        pytest.skip("shared/data/c3d is not beside this checkout")
    with pytest.raises(WeightsError, match=r"\(1, 3, 16, 128, 128\), expected"):
        c3d.read_mean_cube(REAL_BLOB)
    raw = REAL_BLOB.read_bytes()
    first = struct.unpack("<f", raw[17:21])[0]
    blob = extractors.c3d._caffe.read_blob(REAL_BLOB)
    assert blob.flatten()[0] == first
    assert 80 < float(blob.mean()) < 130


# --- checkpoint layouts ---


def as_davidea(own):
    short = {"conv1a": "conv1", "conv2a": "conv2"}
    return {
        ".".join(short.get(part, part) for part in key.removeprefix("features.").split(".")): value
        for key, value in own.items()
    }


def as_jfzhang95(own):
    places = dict(zip(NAMES, (0, 3, 6, 8, 11, 13, 16, 18), strict=True))
    theirs = {}
    for key, value in own.items():
        *_, name, part = key.split(".")
        if name in places:
            theirs[f"features.{places[name]}.{part}"] = value
        elif name != "fc8":
            theirs[f"classifier.{ {'fc6': 0, 'fc7': 3}[name] }.{part}"] = value
    return theirs


def as_mmaction2(own):
    theirs = {}
    for key, value in own.items():
        *_, name, part = key.split(".")
        if name != "fc8":
            theirs[f"{name}.conv.{part}" if name in NAMES else f"{name}.{part}"] = value
    return theirs


@pytest.mark.parametrize(
    ("name", "layout"),
    [("c3d", as_davidea), ("c3d", as_jfzhang95), ("c3d-mmaction2", as_mmaction2)],
)
def test_layouts_come_back_tensor_for_tensor(net, name, layout):
    spec = spec_of(name)
    own = {key: value for key, value in net.state_dict().items() if not key.startswith("fc8")}
    theirs = layout(net.state_dict())
    with torch.device("meta"):
        empty = c3d.network(spec)
    loaded = c3d._own(net, spec, theirs)
    assert loaded.keys() == empty.state_dict().keys()
    assert all(loaded[key].data_ptr() == own[key].data_ptr() for key in own)


def test_channel_order_goes_with_the_checkpoint(net):
    with pytest.raises(WeightsError, match=r"use the extractor c3d-mmaction2$"):
        c3d.load(net, spec_of(), as_mmaction2(net.state_dict()))
    with pytest.raises(WeightsError, match=r"use the extractor c3d$"):
        c3d.load(net, spec_of("c3d-mmaction2"), as_davidea(net.state_dict()))


def test_checkpoints_without_logits_and_with_missing_keys_are_refused(net):
    theirs = as_jfzhang95(net.state_dict())
    with pytest.raises(WeightsError, match="has no logits; choose layer fc6 or fc7"):
        c3d.load(net, spec_of(layer="logits"), theirs)
    del theirs["features.8.bias"]
    with pytest.raises(WeightsError, match=r"missing: features\.8\.bias; unexpected: none"):
        c3d.load(net, spec_of(), theirs)
    with pytest.raises(WeightsError, match="begins with what, expected the keys of DavideA"):
        c3d.load(net, spec_of(), {"what": torch.zeros(1)})
