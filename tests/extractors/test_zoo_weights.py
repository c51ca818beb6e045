"""torchvision's weights: declared, found, checked, loaded as published, refused."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import extractors
from extractors import WeightsError, _weights, zoo
from tests.extractors.torchvision_reference import (
    parent_of,
    resized,
    rows_of_file,
    video,
)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


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
