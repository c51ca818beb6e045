"""timm's models through our door, with timm's own evaluation transform as the judge."""

import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch

import extractors
from extractors import ExtractorError, WeightsError, timm_models
from extractors._preprocess import to_tensors

INSTALLED = pytest.mark.skipif(
    find_spec("timm") is None,
    reason="timm is an extra: pip install 'action-features[timm]'",
)
MODEL = "timm:mobilenetv3_small_050.lamb_in1k"


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    timm_models.resolve.cache_clear()
    with pytest.raises(ExtractorError, match=r"pip install 'action-features\[timm\]'"):
        extractors.spec("timm:resnet18")


def picture(height=300, width=420):
    rng = np.random.default_rng(1)
    coarse = torch.from_numpy(rng.uniform(0, 255, (1, 3, height // 10, width // 10)))
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    return fine.clamp(0, 255).round().to(torch.uint8)[0].permute(1, 2, 0).contiguous().numpy()


def resized(image, spec):
    """Resized by Pillow, as timm does it."""
    from PIL import Image

    rules = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    height, width = spec.geometry.resized(*image.shape[:2])
    rule = rules[spec.geometry.interpolation]
    return np.array(Image.fromarray(image).resize((width, height), rule))


@INSTALLED
@pytest.mark.parametrize(
    "name", ["resnet50.a1_in1k", "tf_efficientnet_lite0.in1k", "vit_base_patch16_clip_224.openai"]
)
def test_preprocessing_is_timms_own(name):
    import timm
    from PIL import Image

    spec = extractors.spec(f"timm:{name}")
    configuration = timm.get_pretrained_cfg(name).to_dict()
    preset = timm.data.create_transform(**timm.data.resolve_data_config({}, configuration))
    expected = preset(Image.fromarray(picture()))
    found = to_tensors([resized(picture(), spec)], spec, torch.device("cpu"))[0][:, 0]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@INSTALLED
def test_numbers_are_timms_own_with_and_without_its_classifier(tmp_path):
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(1)
    parent = timm.create_model(MODEL.removeprefix("timm:"), pretrained=False).eval()
    spec = extractors.spec(MODEL).with_settings({"batch": "1"})
    assert spec.weights[0].url.startswith("https://huggingface.co/timm/mobilenetv3_small_050")
    save_file(parent.state_dict(), tmp_path / spec.weights[0].file)
    frame = resized(picture(), spec)
    x = to_tensors([frame], spec, torch.device("cpu"))[0][:, 0].unsqueeze(0)
    with torch.inference_mode():
        features = parent.forward_head(parent.forward_features(x), pre_logits=True)
        logits = parent(x)
    found = extractors.build(spec, weights_dir=tmp_path)([[frame]])[0]
    torch.testing.assert_close(torch.from_numpy(found), features, rtol=1e-4, atol=1e-5)
    spec = spec.with_settings({"layer": "logits"})
    extractor = extractors.build(spec, weights_dir=tmp_path)
    torch.testing.assert_close(
        torch.from_numpy(extractor([[frame]])[0]), logits, rtol=1e-4, atol=1e-5
    )
    assert extractor.class_names[0] == "tench"


@INSTALLED
def test_missing_weights_and_wrong_names_say_where_and_what(tmp_path):
    with pytest.raises(WeightsError, match=r"https://huggingface\.co/timm/"):
        extractors.build(extractors.spec(MODEL), weights_dir=tmp_path)
    with pytest.raises(ExtractorError, match="nearest: timm:resnet50"):
        extractors.spec("timm:resnet50z")
