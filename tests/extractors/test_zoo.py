"""torchvision's models: the same numbers as torchvision with its own presets, from our door."""

import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import extractors
from extractors import ExtractorError, WeightsError, _weights, zoo
from extractors._preprocess import to_tensors
from extractors._torchvision import ParametersWithoutData, construct, final_layer

CPU = torch.device("cpu")
ACCURACY = 1e-4  # of the largest value: batch norms are folded, which moves the last bits


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def entry(model, name=""):
    from torchvision.models import get_model_weights

    weights = get_model_weights(model)
    return weights[name] if name else weights.DEFAULT


def parent_of(model, classes=None, seed=1, **settings):
    """torchvision's own model, its normalisation layers given statistics that matter."""
    from torchvision.models import get_model

    if classes is not None:
        settings["num_classes"] = classes
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = get_model(model, weights=None, **settings)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    return net.eval()


def video(frames, height, width, seed=0):
    """Smooth pictures: noise would not tell a wrong interpolation from a right one."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(0, 255, (frames, 3, height // 8, width // 8)))
    fine = nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    return fine.clamp(0, 255).round().to(torch.uint8)  # T x 3 x H x W


def resized(frames, spec):
    """What the pipeline hands over: resized by the rule of the spec, not cropped."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as transforms

    size = spec.geometry.resized(*frames.shape[2:])
    rule = InterpolationMode(spec.geometry.interpolation)
    small = transforms.resize(frames, size, rule, antialias=spec.geometry.antialias)
    return list(small.permute(0, 2, 3, 1).contiguous().numpy())


def relative_error(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize(
    "name",
    [
        "resnet50@IMAGENET1K_V1",
        "resnet50@IMAGENET1K_V2",
        "efficientnet_b0",
        "efficientnet_v2_s",
        "inception_v3",
        "swin_v2_t",
        "vit_b_16@IMAGENET1K_SWAG_LINEAR_V1",
        "r3d_18",
        "s3d",
        "mvit_v2_s",
        "swin3d_b@KINETICS400_IMAGENET22K_V1",
    ],
)
@pytest.mark.parametrize(("height", "width"), [(360, 480), (601, 405)])
def test_preprocessing_is_the_preset_of_the_weights(name, height, width):
    spec = zoo.resolve(f"torchvision:{name}")
    frames = video(2, height, width)
    preset = entry(*name.split("@")).transforms()
    is_video = spec.sampling.window > 1
    expected = preset(frames) if is_video else preset(frames[:1]).transpose(0, 1)
    found = to_tensors(resized(frames if is_video else frames[:1], spec), spec, CPU)[0]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def rows_of_file(spec, state, tmp_path, frames):
    torch.save(state, tmp_path / "weights.pth")
    spec = spec.with_settings({"weights": str(tmp_path / "weights.pth"), "batch": "1"})
    return extractors.build(spec)([resized(frames, spec)])[0, 0]


def entering_last_layer(net, x):
    """What the reference model feeds to its classifier, caught on the way."""
    caught = []
    name, layer = [
        (n, m) for n, m in net.named_modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.Conv3d)
    ][-1]
    assert name.split(".")[0] in ("fc", "classifier", "head", "heads")
    layer.register_forward_pre_hook(lambda _m, inputs: caught.append(inputs[0]))
    logits = net(x)
    return caught[0], logits


@pytest.mark.parametrize(
    "model",
    ["shufflenet_v2_x0_5", "mnasnet0_5", "mobilenet_v3_small", "regnet_y_400mf", "googlenet"],
)
def test_an_image_model_gives_the_numbers_of_torchvision(model, tmp_path):
    settings = {"transform_input": True, "init_weights": False} if model == "googlenet" else {}
    parent = parent_of(model, **settings)
    frames = video(1, 300, 260)
    preset = entry(model).transforms()
    with torch.inference_mode():
        features, logits = entering_last_layer(parent, preset(frames))
    spec = zoo.resolve(f"torchvision:{model}")
    found = rows_of_file(spec, parent.state_dict(), tmp_path, frames)
    assert relative_error(found, features[0].numpy()) < ACCURACY
    spec = spec.with_settings({"layer": "logits"})
    found = rows_of_file(spec, parent.state_dict(), tmp_path, frames)
    assert relative_error(found, logits[0].numpy()) < ACCURACY


def test_squeezenet_whose_classifier_is_a_convolution_gives_pooled_features(tmp_path):
    parent = parent_of("squeezenet1_1")
    frames = video(1, 256, 256)
    with torch.inference_mode():
        maps = parent.features(entry("squeezenet1_1").transforms()(frames))
    spec = zoo.resolve("torchvision:squeezenet1_1")
    found = rows_of_file(spec, parent.state_dict(), tmp_path, frames)
    assert found.shape == (512,)
    assert relative_error(found, maps[0].mean((1, 2)).numpy()) < ACCURACY


def test_a_video_model_gives_the_numbers_of_torchvision(tmp_path):
    parent = parent_of("r3d_18")
    frames = video(4, 128, 180)
    with torch.inference_mode():
        x = entry("r3d_18").transforms()(frames).unsqueeze(0)
        features, logits = entering_last_layer(parent, x)
    spec = zoo.resolve("torchvision:r3d_18").with_settings({"window": "4"})
    found = rows_of_file(spec, parent.state_dict(), tmp_path, frames)
    assert relative_error(found, features[0].numpy()) < ACCURACY
    spec = spec.with_settings({"layer": "logits"})
    found = rows_of_file(spec, parent.state_dict(), tmp_path, frames)
    assert relative_error(found, logits[0].numpy()) < ACCURACY


def test_s3d_whose_classifier_is_a_convolution_averages_what_enters_it():
    parent = parent_of("s3d")
    spec = zoo.resolve("torchvision:s3d").with_settings({"window": "14"})
    net = zoo.network(spec).eval()
    zoo.load(net, spec, parent.state_dict())
    x = torch.randn(1, 3, 14, 64, 64, generator=torch.Generator().manual_seed(2))
    # a picture that a test can afford leaves 2 x 2 positions to the pool made for 7 x 7
    parent.avgpool = net.avgpool = nn.AvgPool3d((2, 2, 2), stride=1)
    with torch.inference_mode():
        features, _ = entering_last_layer(parent, x)
        found = net(x)[0].numpy()
    assert relative_error(found, features[0].mean((1, 2, 3)).numpy()) < ACCURACY


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mvit_v2_s", "swin3d_t", "r2plus1d_18", "mc3_18"])
def test_larger_video_models_give_the_numbers_of_torchvision(model, tmp_path):
    parent = parent_of(model)
    spec = zoo.resolve(f"torchvision:{model}")
    frames = video(spec.sampling.window, 280, 300)
    with torch.inference_mode():
        x = entry(model).transforms()(frames).unsqueeze(0)
        features, _ = entering_last_layer(parent, x)
    found = rows_of_file(spec, parent.state_dict(), tmp_path, frames)
    assert relative_error(found, features[0].numpy()) < ACCURACY


@pytest.mark.slow
@pytest.mark.parametrize("model", ["inception_v3", "vit_b_32", "swin_t", "convnext_tiny", "vgg11"])
def test_larger_image_models_give_the_numbers_of_torchvision(model, tmp_path):
    settings = {"transform_input": True, "init_weights": False} if model == "inception_v3" else {}
    parent = parent_of(model, **settings)
    frames = video(1, 360, 400)
    with torch.inference_mode():
        features, _ = entering_last_layer(parent, entry(model).transforms()(frames))
    found = rows_of_file(zoo.resolve(f"torchvision:{model}"), parent.state_dict(), tmp_path, frames)
    assert relative_error(found, features[0].numpy()) < ACCURACY


def test_densenet_loads_the_key_names_it_was_published_with(tmp_path):
    parent = parent_of("densenet121", seed=3)
    published = {}
    for key, tensor in parent.state_dict().items():
        if "denselayer" in key:
            for part in ("norm1", "norm2", "conv1", "conv2"):
                key = key.replace(f".{part}.", f".{part[:-1]}.{part[-1]}.")
        published[key] = tensor
    assert "features.denseblock1.denselayer1.norm.1.weight" in published
    spec = zoo.resolve("torchvision:densenet121").with_settings({"layer": "logits"})
    net = zoo.network(spec)
    zoo.load(net, spec, published)
    for key, tensor in net.net.state_dict().items():
        assert torch.equal(tensor, parent.state_dict()[key]), key


def test_auxiliary_classifiers_of_a_published_file_are_left_out():
    parent = parent_of("googlenet", aux_logits=True, init_weights=False)
    assert any(key.startswith("aux1.") for key in parent.state_dict())
    spec = zoo.resolve("torchvision:googlenet").with_settings({"layer": "logits"})
    net = zoo.network(spec)
    zoo.load(net, spec, parent.state_dict())
    assert torch.equal(net.net.fc.weight, parent.fc.weight)


def test_googlenet_is_the_convnet_of_convnet_lstm():
    spec = extractors.spec("torchvision:googlenet")
    assert spec.sampling.fps == 5
    assert (spec.sampling.window, spec.sampling.stride, spec.dim) == (1, 1, 1024)
    assert spec.geometry.resized(240, 320) == (256, 341)
    assert zoo.network(spec).net.transform_input is True


def test_weights_of_one_model_differ_in_their_resize():
    first, second = (
        zoo.resolve(f"torchvision:resnet50@IMAGENET1K_{v}").geometry.short_side_px
        for v in ("V1", "V2")
    )
    assert (first, second) == (256, 232)
    assert zoo.resolve("torchvision:resnet50").weights[0].name == "IMAGENET1K_V2"


@pytest.mark.parametrize(
    "model", ["r3d_18", "mc3_18", "r2plus1d_18", "s3d", "mvit_v1_b", "swin3d_s"]
)
def test_video_protocols_are_those_torchvision_measured_with(model):
    documented = " ".join(entry(model).meta["_docs"].split())
    spec = zoo.resolve(f"torchvision:{model}")
    assert f"`clip_len={spec.sampling.window}`" in documented
    rate = documented.partition("`frame_rate=")[2].partition("`")[0]
    assert spec.sampling.fps == Fraction(rate)


def test_weights_are_declared_with_what_torchvision_publishes():
    weights = zoo.resolve("torchvision:regnet_y_16gf@IMAGENET1K_SWAG_LINEAR_V1").weights[0]
    assert weights.file == "regnet_y_16gf_lc_swag-f3ec0043.pth"
    assert weights.sha256 == "f3ec0043"
    assert weights.url.endswith("/models/" + weights.file)
    assert "SWAG" in weights.licence
    assert (weights.trained_on, weights.classes) == ("ImageNet-1K", "imagenet1k")


def test_missing_weights_are_never_downloaded_but_named(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", None)
    with pytest.raises(WeightsError) as caught:
        extractors.build(zoo.resolve("torchvision:r3d_18"), weights_dir=tmp_path)
    message = str(caught.value)
    assert "r3d_18-b3b3357e.pth is not in" in message
    assert "pipeline weights fetch torchvision:r3d_18" in message
    assert "https://download.pytorch.org/models/r3d_18-b3b3357e.pth" in message


def test_a_file_is_found_by_name_and_refused_by_its_bytes(tmp_path):
    spec = zoo.resolve("torchvision:shufflenet_v2_x0_5")
    file = tmp_path / spec.weights[0].file
    torch.save(parent_of("shufflenet_v2_x0_5").state_dict(), file)
    with pytest.raises(WeightsError, match="expected f707e7126e"):
        extractors.build(spec, weights_dir=tmp_path)
    known = replace(spec.weights[0], sha256=_weights.sha256(file)[:10])
    spec = replace(spec, weights=(known,), layer="logits")
    extractor = extractors.build(spec, weights_dir=tmp_path)
    assert extractor.class_names[0] == "tench"
    assert len(extractor.class_names) == spec.dim


def test_a_model_fine_tuned_on_other_classes_is_taken(tmp_path):
    parent = parent_of("squeezenet1_1", classes=7)
    spec = zoo.resolve("torchvision:squeezenet1_1")
    spec = spec.with_settings({"layer": "logits", "classes": "7"})
    assert rows_of_file(spec, parent.state_dict(), tmp_path, video(1, 256, 256)).shape == (7,)


def test_weights_of_another_model_are_refused_with_their_keys():
    spec = zoo.resolve("torchvision:shufflenet_v2_x0_5")
    other = parent_of("squeezenet1_1").state_dict()
    with pytest.raises(WeightsError, match=r"missing: conv1\.0\.weight.*unexpected: classifier"):
        zoo.load(zoo.network(spec), spec, other)


def test_random_weights_depend_on_the_seed_alone():
    frame = resized(video(1, 256, 256), zoo.resolve("torchvision:squeezenet1_1"))
    rows = []
    for seed in ("1", "1", "2"):
        settings = {"weights": "random", "seed": seed, "batch": "1"}
        spec = zoo.resolve("torchvision:squeezenet1_1").with_settings(settings)
        rows.append(extractors.build(spec)([frame]))
    assert np.array_equal(rows[0], rows[1])
    assert not np.array_equal(rows[0], rows[2])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torchvision:resnet51", "nearest: torchvision:resnet50"),
        ("torchvision:fcos_resnet50_fpn", "no classification model"),
        ("torchvision:resnet50@IMAGENET1K_V3", "expected one of IMAGENET1K_V1, IMAGENET1K_V2"),
    ],
)
def test_a_wrong_name_shows_the_right_ones(name, message):
    with pytest.raises(ExtractorError, match=message):
        extractors.spec(name)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("s3d", {"window": "8"}, "at least 14 frames"),
        ("mvit_v2_s", {"window": "32"}, "windows of 16 frames"),
        ("mvit_v2_s", {"mode": "whole"}, "windows of 16 frames"),
    ],
)
def test_a_video_model_refuses_windows_it_cannot_take(name, settings, message):
    spec = zoo.resolve(f"torchvision:{name}").with_settings(settings)
    with pytest.raises(ExtractorError, match=message):
        zoo.network(spec)


def test_a_look_at_a_model_allocates_no_weights():
    with ParametersWithoutData():
        net = construct("vgg16", 1000)
    assert all(p.device.type == "meta" for p in net.parameters())
    assert final_layer(net) == ("classifier.6", 4096)


@pytest.mark.slow
def test_every_model_of_torchvision_resolves_and_every_dimension_is_true():
    from torchvision import models

    listed = models.list_models(module=models) + models.list_models(module=models.video)
    assert len(listed) > 80
    for model in listed:
        for weights in models.get_model_weights(model):
            if weights.meta["categories"]:
                spec = zoo.resolve(f"torchvision:{model}@{weights.name}")
                assert spec.layers["logits"] == len(weights.meta["categories"])
                assert len(spec.weights[0].sha256) >= 8
                assert spec.geometry.crop_px <= min(spec.geometry.resized(500, 500))


ANALOGUES = {
    "alexnet": [f"karpathy-{fusion}-alexnet" for fusion in ("single", "early", "late", "slow")],
    "googlenet": ["two-stream-rgb-googlenet"],
    "resnet18": ["two-stream-rgb-resnet18"],
    "resnet50": ["two-stream-rgb-resnet50"],
}


@pytest.mark.real_weights
@pytest.mark.parametrize("model", ["alexnet", "googlenet", "resnet18", "resnet50", "densenet121"])
def test_published_weights_see_a_cat_and_analogues_see_it_too(model):
    """``TORCHVISION_WEIGHTS`` names a folder of torchvision's own files."""
    skimage = pytest.importorskip("skimage")
    folder = os.environ.get("TORCHVISION_WEIGHTS")
    spec = zoo.resolve(f"torchvision:{model}@IMAGENET1K_V1").with_settings({"layer": "logits"})
    if not folder or not (Path(folder) / spec.weights[0].file).is_file():
        pytest.skip(f"set TORCHVISION_WEIGHTS to a folder that holds {spec.weights[0].file}")
    cat = torch.from_numpy(skimage.data.chelsea()).permute(2, 0, 1).unsqueeze(0)
    frame = resized(cat, spec)[0]
    for name in (spec.name, *ANALOGUES.get(model, ())):
        spec = extractors.spec(name).with_settings({"layer": "logits", "batch": "1"})
        extractor = extractors.build(spec, weights_dir=Path(folder))
        logits = extractor([[frame] * spec.sampling.window])[0, 0]
        assert extractor.class_names[int(logits.argmax())] in ("tabby", "tiger cat", "Egyptian cat")
