"""The fusion networks against the paper: numbers in float64, sizes of layers, and AlexNet."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import extractors
from extractors import WeightsError, karpathy
from extractors._weights import load_strictly, randomise
from tests.extractors import numpy_layers as reference

THIN = ((8, 11, 3, 0), (6, 5, 1, 2), (9, 3, 1, 1), (9, 3, 1, 1), (7, 3, 1, 1))
PAPER_NAMES = [s.name for s in karpathy.SPECS if not s.name.endswith("-alexnet")]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def thin_network(fusion, layer="logits"):
    parent = replace(karpathy.KARPATHY, convolutions=THIN, hidden=20, classes=5)
    net = karpathy.FusionNet(parent, karpathy.FUSIONS[fusion], layer).eval()
    randomise(net, seed=3)
    for parameter in net.parameters():  # biases too, or a lost bias would not show
        if parameter.ndim == 1:
            parameter.data.uniform_(-0.2, 0.2, generator=torch.Generator().manual_seed(4))
    return net


def paper_column(frames, weights, spans, last_pool):
    """Stretch over time frame by frame: a filter over T frames adds up T convolutions."""
    spans = {1: (1, 1), 2: (1, 1), 3: (1, 1), 4: (1, 1), 5: (1, 1), **spans}
    maps = list(frames)
    for number, (_, _, stride, padding) in enumerate(THIN, start=1):
        weight, bias = weights[f"conv{number}.weight"], weights[f"conv{number}.bias"]
        span, hop = spans[number]
        made = []
        for start in range(0, len(maps) - span + 1, hop):
            total = sum(
                reference.convolve(maps[start + t], weight[:, :, t], 0, stride, padding)
                for t in range(span)
            )
            x = reference.rectify(total + bias[:, None, None])
            if number <= 2:
                x = reference.normalise_across_channels(x, k=2, n=5, alpha=1e-4, beta=0.5)
            if number <= 2 or (number == 5 and last_pool):
                x = reference.pool(x, 2, 2, rounds_up=True)
            made.append(x)
        maps = made
    return maps


def paper_network(fusion, frames, state):
    """Logits of one window (T, 3, H, W) as the paper's section 3 describes them."""

    def of_column(name):
        prefix = f"columns.{name}."
        return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}

    spans = {"early": {1: (10, 1)}, "slow": {1: (4, 2), 2: (2, 2), 3: (2, 2)}}
    time = spans.get(fusion.split("-")[0], {})
    if fusion == "late":
        first, last = (paper_column([frames[k]], of_column("frame"), {}, True)[0] for k in (0, 15))
        maps = [first, last]
    elif "multires" in fusion:
        shrunk = [f.reshape(3, 89, 2, 89, 2).mean(axis=(2, 4)) for f in frames]
        centres = [f[:, 44:133, 44:133] for f in frames]
        maps = paper_column(shrunk, of_column("context"), time, False)
        maps += paper_column(centres, of_column("fovea"), time, False)
    else:
        maps = paper_column(frames, of_column("frame"), time, True)
    assert all(m.shape[1:] == (7, 7) for m in maps)
    x = np.concatenate([m.ravel() for m in maps])
    x = reference.rectify(reference.dense(x, state["fc6.weight"], state["fc6.bias"]))
    x = reference.rectify(reference.dense(x, state["fc7.weight"], state["fc7.bias"]))
    return reference.dense(x, state["logits.weight"], state["logits.bias"])


@pytest.mark.parametrize("fusion", karpathy.FUSIONS)
def test_numbers_are_those_of_the_paper_in_float64(fusion):
    net = thin_network(fusion)
    side = 178 if "multires" in fusion else 170
    window = karpathy.FUSIONS[fusion].window
    frames = np.random.default_rng(5).normal(0, 60, (window, 3, side, side))
    state = {k: v.numpy() for k, v in net.state_dict().items()}
    expected = paper_network(fusion, frames, state)
    x = torch.from_numpy(frames).float().transpose(0, 1).unsqueeze(0)
    with torch.inference_mode():
        found = net(x)[0].numpy()
    assert reference.relative_error(found, expected) < 2e-5


def shapes_of(net, window, side):
    """Shape after every layer, none computed: on the meta device."""
    found = {}
    for name, module in net.named_modules():
        if not list(module.children()):
            module.register_forward_hook(
                lambda _m, _i, out, name=name: found.__setitem__(name, tuple(out.shape[1:]))
            )
    net.to("meta")(torch.empty(1, 3, window, side, side, device="meta"))
    return found


def meta_network(name, layer="logits"):
    spec = extractors.spec(name).with_settings({"layer": layer})
    with torch.device("meta"):
        return karpathy.network(spec), spec


def test_single_frame_has_the_layers_of_the_paper():
    net, spec = meta_network("karpathy-single")
    found = shapes_of(net, 1, spec.geometry.crop_px)
    assert found["columns.frame.conv1"] == (96, 1, 54, 54)
    assert found["columns.frame.pool1"] == (96, 1, 27, 27)
    assert found["columns.frame.conv2"] == (256, 1, 27, 27)
    assert found["columns.frame.pool2"] == (256, 1, 14, 14)
    assert found["columns.frame.conv3"] == found["columns.frame.conv4"] == (384, 1, 14, 14)
    assert found["columns.frame.conv5"] == (256, 1, 14, 14)
    assert found["columns.frame.pool5"] == (256, 1, 7, 7)
    assert (found["fc6"], found["fc7"], found["logits"]) == ((4096,), (4096,), (487,))
    order = [name.removeprefix("columns.frame.") for name in found]
    assert order[:5] == ["conv1", "relu1", "norm1", "pool1", "conv2"]


def test_early_fusion_spans_ten_frames_with_its_first_filters():
    net, spec = meta_network("karpathy-early")
    assert tuple(net.get_parameter("columns.frame.conv1.weight").shape) == (96, 3, 10, 11, 11)
    assert shapes_of(net, 10, spec.geometry.crop_px)["columns.frame.conv1"] == (96, 1, 54, 54)


def test_slow_fusion_turns_ten_frames_into_four_two_and_one():
    net, spec = meta_network("karpathy-slow")
    found = shapes_of(net, 10, spec.geometry.crop_px)
    assert [found[f"columns.frame.conv{n}"][1] for n in (1, 2, 3, 4, 5)] == [4, 2, 1, 1, 1]


def test_late_fusion_joins_two_towers_that_share_their_filters():
    net, _ = meta_network("karpathy-late")
    single, _ = meta_network("karpathy-single")
    assert net.fc6.in_features == 2 * 256 * 7 * 7
    assert sum(p.numel() for p in net.columns.parameters()) == sum(
        p.numel() for p in single.columns.parameters()
    )


def test_both_columns_of_multiresolution_end_in_seven_by_seven():
    net, spec = meta_network("karpathy-multires")
    assert spec.geometry.crop_px == 178
    found = shapes_of(net, 1, 178)
    assert found["columns.context.relu5"] == found["columns.fovea.relu5"] == (256, 1, 7, 7)
    assert found["columns.context.conv1"] == (96, 1, 27, 27)
    assert net.fc6.in_features == 2 * 256 * 7 * 7


# Weights and biases of C(96,11) C(256,5) C(384,3) C(384,3) C(256,3) FC FC 487, added by hand.
SINGLE = 34_944 + 614_656 + 885_120 + 1_327_488 + 884_992 + 51_384_320 + 16_781_312 + 1_995_239


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("karpathy-single", SINGLE),
        ("karpathy-early", SINGLE + 9 * 96 * 363),
        ("karpathy-late", SINGLE + 12_544 * 4096),
        ("karpathy-slow", SINGLE + 3 * 96 * 363 + 256 * 2400 + 384 * 2304),
    ],
)
def test_parameters_are_counted_from_the_layer_list(name, parameters):
    net, _ = meta_network(name)
    assert sum(p.numel() for p in net.parameters()) == parameters


def thin_alexnet():
    from torchvision.models import alexnet

    with torch.device("meta"):
        parent = alexnet(num_classes=9)
    parent.classifier[1] = nn.Linear(9216, 24)
    parent.classifier[4] = nn.Linear(24, 24)
    parent.classifier[6] = nn.Linear(24, 9)
    parent.features.to_empty(device="cpu")
    randomise(parent, seed=6)
    return parent.eval()


@pytest.mark.parametrize("fusion", ["single", "early", "late", "slow"])
def test_an_analogue_on_a_video_constant_in_time_is_alexnet(fusion):
    parent = thin_alexnet()
    shape = replace(karpathy.ALEXNET, hidden=24, classes=9)
    net = karpathy.FusionNet(shape, karpathy.FUSIONS[fusion], "logits").eval()
    inflated = karpathy.inflate_alexnet(parent.state_dict(), karpathy.FUSIONS[fusion])
    load_strictly(net, inflated, "analogue")
    picture = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(7))
    window = karpathy.FUSIONS[fusion].window
    with torch.inference_mode():
        expected = parent(picture)
        found = net(picture.unsqueeze(2).repeat(1, 1, window, 1, 1))
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_analogue_of_multiresolution_shares_the_dense_layer_between_equal_maps():
    parent = thin_alexnet()
    fusion = karpathy.FUSIONS["multires"]
    state = karpathy.inflate_alexnet(parent.state_dict(), fusion)
    left, right = state["fc6.weight"].chunk(2, dim=1)
    assert torch.equal(left, right)
    assert torch.equal(left + right, parent.state_dict()["classifier.1.weight"])
    context, fovea = (state[f"columns.{c}.conv3.weight"] for c in ("context", "fovea"))
    assert torch.equal(context, fovea)
    assert context.shape[2] == 1


def test_halving_is_bilinear_resizing_and_the_centre_is_the_centre():
    x = torch.arange(36.0).view(1, 1, 1, 6, 6)
    resized = nn.functional.interpolate(x[0], size=(3, 3), mode="bilinear")
    torch.testing.assert_close(karpathy.halved(x)[0], resized)
    assert karpathy.centre(x)[0, 0, 0].tolist() == [[7, 8, 9], [13, 14, 15], [19, 20, 21]]


def test_weights_make_the_round_trip_through_a_file(tmp_path):
    net = thin_network("slow")
    other = thin_network("slow")
    with torch.no_grad():
        other.fc7.weight.zero_()
    torch.save(net.state_dict(), tmp_path / "own.pt")
    spec = extractors.spec("karpathy-slow")
    karpathy.load(other, spec, torch.load(tmp_path / "own.pt", weights_only=True))
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))


def test_weights_of_another_fusion_are_refused_with_their_keys():
    state = thin_network("multires").state_dict()
    with pytest.raises(WeightsError, match=r"missing: columns\.frame\.conv1\.bias"):
        karpathy.load(thin_network("single"), extractors.spec("karpathy-single"), state)


def test_a_truncated_alexnet_names_what_is_missing():
    parent = thin_alexnet().state_dict()
    del parent["classifier.4.weight"]
    shape = replace(karpathy.ALEXNET, hidden=24, classes=9)
    net = karpathy.FusionNet(shape, karpathy.FUSIONS["late"], "logits")
    with pytest.raises(WeightsError, match=r"missing: fc7\.weight"):
        karpathy.load(net, extractors.spec("karpathy-late-alexnet"), parent)


def test_no_weights_are_pretended_to_exist():
    for name in PAPER_NAMES:
        with pytest.raises(WeightsError, match="no weights are published"):
            extractors.build(extractors.spec(name))


def test_another_window_is_refused_before_the_network_is_built():
    spec = extractors.spec("karpathy-slow").with_settings({"window": "12", "weights": "random"})
    with pytest.raises(extractors.ExtractorError, match="defined over 10 frames"):
        extractors.build(spec)


def test_rows_through_the_front_door_see_117_as_nothing():
    """A frame of the subtracted mean is an input of zeros: with zero biases all rows are zero."""
    spec = extractors.spec("karpathy-single").with_settings({"weights": "random", "batch": "1"})
    extractor = extractors.build(spec)
    grey = np.full((200, 266, 3), 117, np.uint8)
    assert not extractor([[grey]]).any()
    brighter = grey.copy()
    brighter[:, :48] = 255  # left of the centre crop of 170
    assert not extractor([[brighter]]).any()
    brighter[:, 48] = 255
    assert extractor([[brighter]]).any()
