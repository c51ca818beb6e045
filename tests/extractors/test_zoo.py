"""torchvision's models: the same numbers as torchvision with its own presets, from our door."""

from fractions import Fraction

import pytest
import torch
from torch import nn

import extractors
from extractors import ExtractorError, zoo
from extractors._preprocess import to_tensors
from extractors._torchvision import ParametersWithoutData, construct, final_layer
from tests.extractors.torchvision_reference import (
    entering_last_layer,
    entry,
    parent_of,
    relative_error,
    resized,
    rows_of_file,
    video,
)

CPU = torch.device("cpu")
ACCURACY = 1e-4  # of the largest value: batch norms are folded, which moves the last bits


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


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
