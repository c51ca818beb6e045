import re
from dataclasses import replace

import numpy as np
import pytest
import torch

import extractors
from extractors import ExtractorError, WeightsError, _extractor, i3d, inception
from extractors._inception import MIXED, unit_names
from tests.extractors import numpy_volumes as reference

# Table of GoogLeNet (arXiv 1409.4842, table 1) as DeepMind's I3D has it, written down anew
PAPER_WIDTHS = {
    "3b": (64, 96, 128, 16, 32, 32),
    "3c": (128, 128, 192, 32, 96, 64),
    "4b": (192, 96, 208, 16, 48, 64),
    "4c": (160, 112, 224, 24, 64, 64),
    "4d": (128, 128, 256, 24, 64, 64),
    "4e": (112, 144, 288, 32, 64, 64),
    "4f": (256, 160, 320, 32, 128, 128),
    "5b": (256, 160, 320, 32, 128, 128),
    "5c": (384, 192, 384, 48, 128, 128),
}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def spec_of(name="i3d-rgb", **settings):
    return extractors.spec(name).with_settings({"weights": "random", **settings})


def lively(net, seed=3):
    """Give batch normalisation statistics that are not 0 and 1, so that every term counts."""
    generator = torch.Generator().manual_seed(seed)
    for layer in net.modules():
        if isinstance(layer, torch.nn.BatchNorm3d | torch.nn.BatchNorm2d):
            for tensor, low, high in (
                (layer.weight, 0.5, 1.5),
                (layer.bias, -0.2, 0.2),
                (layer.running_mean, -0.3, 0.3),
                (layer.running_var, 0.3, 2.0),
            ):
                tensor.data.uniform_(low, high, generator=generator)
    return net.eval()


def numpy_state(net):
    return {key: value.numpy() for key, value in net.state_dict().items()}


class Reference:
    """I3D from its paper and DeepMind's description, in float64, one layer at a time."""

    def __init__(self, state):
        self.state = state
        self.layers = {}

    def unit(self, name, x, stride=(1, 1, 1)):
        weight = self.state[f"trunk.{name}.conv.weight"]
        pads = reference.same(x, weight.shape[2:], stride)
        y = reference.convolve(x, weight, stride, pads)
        y = np.maximum(reference.batch_norm(y, self.state, f"trunk.{name}.norm", 1e-3), 0)
        self.layers[name] = y
        return y

    def pool(self, x, kernel, stride):
        pads = reference.same(x, kernel, stride)
        return reference.max_pool(x, kernel, stride, pads, filling=0.0)

    def mixed(self, name, x):
        n = f"mixed_{name}"
        parts = [
            self.unit(f"{n}.b0", x),
            self.unit(f"{n}.b1b", self.unit(f"{n}.b1a", x)),
            self.unit(f"{n}.b2b", self.unit(f"{n}.b2a", x)),
            self.unit(f"{n}.b3", self.pool(x, (3, 3, 3), (1, 1, 1))),
        ]
        self.layers[n] = np.concatenate(parts)
        return self.layers[n]

    def steps(self, x):
        x = self.unit("conv1a", x, (2, 2, 2))
        x = self.pool(x, (1, 3, 3), (1, 2, 2))
        x = self.unit("conv2c", self.unit("conv2b", x))
        x = self.pool(x, (1, 3, 3), (1, 2, 2))
        x = self.mixed("3c", self.mixed("3b", x))
        x = self.pool(x, (3, 3, 3), (2, 2, 2))
        for name in ("4b", "4c", "4d", "4e", "4f"):
            x = self.mixed(name, x)
        x = self.pool(x, (2, 2, 2), (2, 2, 2))
        x = self.mixed("5c", self.mixed("5b", x))
        space = x.mean(axis=(2, 3))  # 1024 x T'
        return ((space[:, :-1] + space[:, 1:]) / 2).T


@pytest.mark.parametrize(
    ("name", "size"),
    [("i3d-rgb", (9, 32, 32)), ("i3d-rgb", (17, 47, 33)), ("i3d-flow", (16, 33, 64))],
)
def test_every_layer_equals_the_reference(name, size):
    net = lively(_extractor.untrained(i3d, spec_of(name)))
    seen = {}
    for layer, module in net.trunk.named_modules():
        if layer in MIXED or layer in set(unit_names()):
            module.register_forward_hook(
                lambda _, __, y, layer=layer: seen.__setitem__(layer, y[0].numpy().copy())
            )
    channels = 2 if name == "i3d-flow" else 3
    x = torch.randn(channels, *size, generator=torch.Generator().manual_seed(1))
    truth = Reference(numpy_state(net))
    expected = truth.steps(x.numpy())
    net.layer = "steps"
    with torch.inference_mode():
        found = net(x[None])[0].numpy()
    assert found.shape == expected.shape
    assert len(seen) == 57 + 9
    errors = {layer: reference.relative_error(seen[layer], truth.layers[layer]) for layer in seen}
    assert max(errors.values()) < 2e-5, errors
    assert reference.relative_error(found, expected) < 2e-5


def test_row_is_the_mean_of_its_steps_and_logits_the_mean_of_theirs():
    net = lively(_extractor.untrained(i3d, spec_of()))
    x = torch.randn(1, 3, 32, 32, 32)
    with torch.inference_mode():
        net.layer = "steps"
        steps = net(x)
        net.layer = "pool"
        row = net(x)
        net.layer = "logits"
        logits = net(x)
        expected = (steps @ net.logits.weight.T + net.logits.bias).mean(1)
    assert torch.allclose(row, steps.mean(1))
    assert torch.allclose(logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("settings", [{"window": "16"}, {"window": "32", "stride": "8"}])
def test_bf16_rows_are_near_those_of_fp32(settings):
    geometry = extractors.Geometry(short_side_px=36, crop_px=32)
    spec = replace(spec_of(layer="logits", **settings), geometry=geometry)
    frames = np.random.default_rng(0).integers(0, 256, (32, 36, 40, 3), dtype=np.uint8)
    window = list(frames[: spec.sampling.window])
    exact = extractors.build(spec)([window])
    rough = extractors.build(spec, precision="bf16")([window])
    assert 0 < reference.relative_error(rough, exact.astype(float)) < 0.05


@pytest.mark.parametrize(
    ("frames", "steps"), [(9, 1), (16, 1), (17, 2), (24, 2), (25, 3), (64, 7), (65, 8), (79, 9)]
)
def test_steps_of_a_window(frames, steps):
    net = _extractor.untrained(i3d, spec_of(layer="steps", mode="whole"))
    with torch.inference_mode():
        assert net(torch.zeros(1, 3, frames, 32, 32)).shape == (1, steps, 1024)


def test_too_few_frames_are_refused():
    with pytest.raises(ExtractorError, match="window is 8, expected at least 9"):
        extractors.build(spec_of(window="8"))
    net = _extractor.untrained(i3d, spec_of(mode="whole"))
    with pytest.raises(ExtractorError, match="given 8 frames, expected at least 9"):
        net(torch.zeros(1, 3, 8, 32, 32))


@pytest.mark.parametrize(
    ("name", "with_logits", "without_gamma", "without_logits"),
    [
        ("i3d-rgb", 12_697_264, 12_689_984, 12_287_264),
        ("i3d-flow", 12_675_312, 12_668_032, 12_265_312),
    ],
)
def test_parameter_counts(name, with_logits, without_gamma, without_logits):
    net = _extractor.untrained(i3d, spec_of(name))
    count = sum(p.numel() for p in net.parameters())
    gammas = sum(m.weight.numel() for m in net.modules() if isinstance(m, torch.nn.BatchNorm3d))
    logits = sum(p.numel() for p in net.logits.parameters())
    assert (count, count - gammas, count - logits) == (with_logits, without_gamma, without_logits)
    assert {f"mixed_{k}": v for k, v in PAPER_WIDTHS.items()} == MIXED


# --- checkpoint layouts: a net's own tensors written down as each author would, and read back ---


def as_piergiaj(own):
    return _as_torch(own, i3d._piergiaj, "conv3d", "bn", "logits.conv3d")


def as_hassony2(own):
    return _as_torch(own, i3d._hassony2, "conv3d", "batch3d", "conv3d_0c_1x1.conv3d")


def _as_torch(own, rename, conv, norm, logits):
    theirs = {}
    for key, tensor in own.items():
        if key.startswith("logits."):
            part = key.removeprefix("logits.")
            theirs[f"{logits}.{part}"] = (
                tensor[..., None, None, None] if part == "weight" else tensor
            )
            continue
        unit, kind, part = re.fullmatch(r"trunk\.(.+)\.(conv|norm)\.(\w+)", key).groups()
        theirs[f"{rename(unit)}.{conv if kind == 'conv' else norm}.{part}"] = tensor
    return theirs


def as_tensorflow(own, prefix="RGB/inception_i3d/"):
    names = {"bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    theirs = {}
    for key, tensor in own.items():
        if key == "logits.weight":
            theirs["Logits/Conv3d_0c_1x1/conv_3d/w"] = tensor.T[None, None, None]
        elif key == "logits.bias":
            theirs["Logits/Conv3d_0c_1x1/conv_3d/b"] = tensor
        elif key.endswith("conv.weight"):
            scope = i3d._tensorflow(key[len("trunk.") : -len(".conv.weight")])
            theirs[f"{scope}/conv_3d/w"] = tensor.permute(2, 3, 4, 1, 0)
        elif (part := key.rpartition(".")[2]) in names:
            scope = i3d._tensorflow(key[len("trunk.") :].partition(".norm.")[0])
            theirs[f"{scope}/batch_norm/{names[part]}"] = tensor.view(1, 1, 1, 1, -1)
    return {prefix + key: tensor.contiguous() for key, tensor in theirs.items()}


def donor(spec):
    net = lively(_extractor.untrained(i3d, spec))
    for layer in net.modules():
        if isinstance(layer, torch.nn.BatchNorm3d):
            torch.nn.init.ones_(layer.weight)  # DeepMind's networks have no gamma
    return {k: v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}


@pytest.mark.parametrize(
    ("name", "layout"),
    [("i3d-rgb", as_piergiaj), ("i3d-flow", as_hassony2), ("i3d-rgb", as_tensorflow)],
)
def test_layouts_come_back_tensor_for_tensor(name, layout):
    spec = spec_of(name)
    own = donor(spec)
    net = _extractor.untrained(i3d, spec)
    i3d.load(net, spec, layout(own))
    loaded = net.state_dict()
    assert all(torch.equal(loaded[key], own[key]) for key in own)


def test_known_keys_of_each_layout():
    piergiaj, hassony2, tensorflow = i3d.LAYOUTS.values()
    assert piergiaj["trunk.mixed_3b.b3.norm.running_var"] == "Mixed_3b.b3b.bn.running_var"
    assert piergiaj["trunk.conv1a.conv.weight"] == "Conv3d_1a_7x7.conv3d.weight"
    assert hassony2["trunk.mixed_3b.b1b.norm.bias"] == "mixed_3b.branch_1.1.batch3d.bias"
    assert hassony2["logits.bias"] == "conv3d_0c_1x1.conv3d.bias"
    assert (
        tensorflow["trunk.mixed_5b.b2b.conv.weight"] == "Mixed_5b/Branch_2/Conv3d_0a_3x3/conv_3d/w"
    )
    assert (
        tensorflow["trunk.mixed_5c.b2b.conv.weight"] == "Mixed_5c/Branch_2/Conv3d_0b_3x3/conv_3d/w"
    )
    assert len(tensorflow) == 230  # variables of DeepMind's rgb_imagenet/model.ckpt.index


def test_optimiser_slots_and_a_missing_prefix_are_fine_in_tensorflow():
    spec = spec_of()
    own = donor(spec)
    theirs = as_tensorflow(own, prefix="")
    theirs["Conv3d_1a_7x7/conv_3d/w/Momentum"] = torch.zeros(1)
    net = _extractor.untrained(i3d, spec)
    i3d.load(net, spec, theirs)
    assert torch.equal(net.state_dict()["logits.bias"], own["logits.bias"])


def test_errors_name_exactly_the_keys_of_the_checkpoint():
    spec = spec_of()
    theirs = as_piergiaj(donor(spec))
    del theirs["Mixed_4c.b2a.bn.running_mean"]
    theirs["Mixed_9z.b0.conv3d.weight"] = torch.zeros(1)
    with pytest.raises(WeightsError) as refusal:
        i3d.load(_extractor.untrained(i3d, spec), spec, theirs)
    assert str(refusal.value).endswith(
        "missing: Mixed_4c.b2a.bn.running_mean; unexpected: Mixed_9z.b0.conv3d.weight"
    )
    with pytest.raises(
        WeightsError, match=r"logits\.weight is \(157, 1024\), expected \(400, 1024\)"
    ):
        i3d.load(
            _extractor.untrained(i3d, spec),
            spec,
            as_piergiaj(donor(spec_of(preset="charades", weights="random"))),
        )
    with pytest.raises(WeightsError, match="begins with backbone, expected the keys of piergiaj"):
        i3d.load(_extractor.untrained(i3d, spec), spec, {"backbone": torch.zeros(1)})


def test_flow_weights_do_not_go_into_the_rgb_network():
    flow = as_hassony2(donor(spec_of("i3d-flow")))
    spec = spec_of()
    with pytest.raises(WeightsError, match=r"trunk\.conv1a\.conv\.weight is \(64, 2, 7, 7, 7\)"):
        i3d.load(_extractor.untrained(i3d, spec), spec, flow)


# --- inflation ---


def slim_variables(state):
    theirs = {}
    for own, key in inception.slim_layout().items():
        tensor = state[own]
        if own == "logits.weight":
            tensor = tensor.T[None, None]
        elif tensor.ndim == 4:
            tensor = tensor.permute(2, 3, 1, 0)
        theirs[key] = tensor.contiguous()
    return theirs


def test_inflated_inception_equals_its_parent_on_a_video_that_does_not_move():
    flat_spec = extractors.spec("inception-v1").with_settings({"weights": "random"})
    parent = lively(_extractor.untrained(inception, flat_spec)).net
    for layer in parent.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(layer.weight)
    spec = spec_of(mode="whole")
    child = _extractor.untrained(i3d, spec)
    i3d.load(child, spec, slim_variables(parent.state_dict()))
    seen = {}
    names = [name for name, _ in parent.trunk.named_children()]
    for kind, net in (("parent", parent), ("child", child)):
        for name, module in net.trunk.named_children():
            module.register_forward_hook(
                lambda _, __, y, at=(kind, name): seen.__setitem__(at, y[0])
            )
    picture = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        parent(picture)
        child(picture.unsqueeze(2).expand(-1, -1, 240, -1, -1))
    for name in names:
        flat, deep = seen["parent", name], seen["child", name]
        middle = deep[:, deep.shape[1] // 2]  # far from both temporal borders
        assert reference.relative_error(middle, flat.double().numpy()) < 1e-5, name
    assert len(names) == 16


def test_inflated_inception_has_no_action_classes():
    spec = spec_of(layer="logits")
    parent = {"trunk.conv1a.conv.weight": torch.zeros(64, 3, 7, 7)}
    with pytest.raises(WeightsError, match="no action classes"):
        i3d.load(_extractor.untrained(i3d, spec), spec, parent)
