"""timm's models through our door, with timm's own evaluation transform as the judge."""

import hashlib
import inspect
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import extractors
from extractors import ExtractorError, Weights, WeightsError, timm_models
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


KNOWN = Weights(
    name="lamb_in1k",
    file="small.lamb_in1k.safetensors",
    url="https://huggingface.co/timm/small.lamb_in1k/resolve/main/model.safetensors",
)


class Hub:
    """Stands for ``huggingface_hub``: the three functions that are used, as it documents them."""

    def __init__(self, cache, etag):
        self.cache, self.etag, self.asked = cache, etag, []

    def hf_hub_url(self, repo_id, filename):
        return f"https://hub/{repo_id}/{filename}"

    def get_hf_file_metadata(self, url):
        self.asked.append(url)
        return SimpleNamespace(etag=self.etag, commit_hash="abc")

    def hf_hub_download(self, repo_id, filename, *, revision):
        self.asked.append((repo_id, filename, revision))
        path = self.cache / "blob"
        path.write_bytes(b"tensors")
        return str(path)


def test_weights_come_through_the_hub_and_are_compared_with_its_digest(tmp_path, monkeypatch):
    hub = Hub(tmp_path, hashlib.sha256(b"tensors").hexdigest())
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    path = timm_models.fetch(KNOWN, tmp_path / "weights")
    assert path == tmp_path / "weights" / KNOWN.file
    assert path.read_bytes() == b"tensors"
    assert hub.asked == [
        "https://hub/timm/small.lamb_in1k/model.safetensors",
        ("timm/small.lamb_in1k", "model.safetensors", "abc"),
    ]
    hub.etag = "0" * 64
    path.unlink()
    with pytest.raises(WeightsError, match=f"the hub says {'0' * 64}; delete it"):
        timm_models.fetch(KNOWN, tmp_path / "weights")
    assert not list((tmp_path / "weights").iterdir())


def test_a_hub_that_is_out_of_reach_or_absent_tells_what_to_do(tmp_path, monkeypatch):
    told = f"put {KNOWN.url} into {tmp_path} as {KNOWN.file}"
    hub = SimpleNamespace(hf_hub_url=lambda page, file: 1 / 0)
    for module, reason in ((hub, "could not bring it"), (None, "cannot be imported")):
        monkeypatch.setitem(sys.modules, "huggingface_hub", module)
        with pytest.raises(WeightsError, match=reason) as refusal:
            timm_models.fetch(KNOWN, tmp_path)
        assert told in str(refusal.value)


@INSTALLED
def test_the_stand_in_has_the_hubs_own_signatures():
    import huggingface_hub

    for name in ("hf_hub_url", "get_hf_file_metadata", "hf_hub_download"):
        real = inspect.signature(getattr(huggingface_hub, name)).parameters
        assert set(inspect.signature(getattr(Hub, name)).parameters) - {"self"} <= set(real)
