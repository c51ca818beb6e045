"""The two streams against the paper in float64, their timing, and TSN's conventions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import extractors
from extractors import ExtractorError, WeightsError, _weights, two_stream
from extractors._extractor import untrained
from extractors._inflate import across_modalities
from extractors._preprocess import to_tensors
from pipeline.sampling import windows
from tests.extractors import numpy_layers as reference

CPU = torch.device("cpu")
STREAMS = two_stream.STREAMS


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def random_flow(count, height, width, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(1.5, 4, (height, width, 2)).astype(np.float32) for _ in range(count)]


def cnn_m(x, state, second_norm):
    """CNN-M-2048 of one input (C, 224, 224), every layer by its definition."""

    def block(x, number, stride, padding, norm, pooled):
        x = reference.convolve(
            x, state[f"conv{number}.weight"], state[f"conv{number}.bias"], stride, padding
        )
        x = reference.rectify(x)
        if norm:
            x = reference.normalise_across_channels(x, k=2, n=5, alpha=1e-4, beta=0.75)
        return reference.pool(x, 3, 2, rounds_up=True) if pooled else x

    x = block(x, 1, 2, 0, norm=True, pooled=True)
    x = block(x, 2, 2, 1, norm=second_norm, pooled=True)
    x = block(x, 3, 1, 1, norm=False, pooled=False)
    x = block(x, 4, 1, 1, norm=False, pooled=False)
    x = block(x, 5, 1, 1, norm=False, pooled=True)
    assert x.shape == (512, 6, 6)
    rows = {}
    x = rows["fc6"] = reference.rectify(
        reference.dense(x.ravel(), state["fc6.weight"], state["fc6.bias"])
    )
    x = rows["fc7"] = reference.rectify(reference.dense(x, state["fc7.weight"], state["fc7.bias"]))
    rows["logits"] = reference.dense(x, state["logits.weight"], state["logits.bias"])
    return rows


@pytest.mark.parametrize("modality", STREAMS)
def test_numbers_are_those_of_the_paper_in_float64(modality):
    spec = extractors.spec(f"two-stream-{modality}")
    spec = spec.with_settings({"weights": "random", "seed": "2"})
    net = untrained(two_stream, spec)
    generator = torch.Generator().manual_seed(3)
    for parameter in net.parameters():
        if parameter.ndim == 1:
            parameter.data.uniform_(-0.5, 0.5, generator=generator)
    rng = np.random.default_rng(4)
    if modality == "rgb":
        frames = [rng.integers(0, 256, (256, 340, 3), dtype=np.uint8)]
        # RGB, 0..255, the channel means away; centre crop of 224
        x = frames[0][16:240, 58:282].transpose(2, 0, 1) - np.array(
            [123.68, 116.779, 103.939]
        ).reshape(3, 1, 1)
    else:
        frames = random_flow(10, 256, 340)
        # each displacement field's own mean away, then the crop; x and y interleaved
        fields = [f - f.mean(axis=(0, 1), dtype=np.float64) for f in frames]
        x = np.stack([f[16:240, 58:282, c] for f in fields for c in (0, 1)])
    state = {k.removeprefix("net.layers."): v.numpy() for k, v in net.state_dict().items()}
    expected = cnn_m(x, state, second_norm=modality == "rgb")
    tensor = to_tensors(frames, spec, CPU)[0].unsqueeze(0)
    for layer, last in (("fc6", "relu6"), ("fc7", "relu7"), ("logits", "logits")):
        net.net.last = last
        with torch.inference_mode():
            found = net(tensor)[0].numpy()
        assert reference.relative_error(found, expected[layer]) < 2e-5


def layers_of(name, **settings):
    spec = extractors.spec(name).with_settings(settings)
    with torch.device("meta"):
        return two_stream.network(spec)


def test_the_streams_differ_by_the_first_filters_and_one_normalisation():
    spatial, temporal = layers_of("two-stream-rgb"), layers_of("two-stream-flow")
    assert tuple(spatial.net.layers.conv1.weight.shape) == (96, 3, 7, 7)
    assert tuple(temporal.net.layers.conv1.weight.shape) == (96, 20, 7, 7)
    left = [name for name, _ in spatial.net.layers.named_children()]
    right = [name for name, _ in temporal.net.layers.named_children()]
    assert [name for name in left if name not in right] == ["norm2"]
    for name in right:
        ours, theirs = (n.net.layers.get_submodule(name) for n in (temporal, spatial))
        if name != "conv1" and hasattr(ours, "weight"):
            assert ours.weight.shape == theirs.weight.shape


def test_parameters_are_counted_from_the_layer_list():
    convolutions = 14_208 + 614_656 + 1_180_160 + 2_359_808 + 2_359_808
    dense = 18_432 * 4096 + 4096 + 4096 * 2048 + 2048 + 2048 * 101 + 101
    spatial, temporal = layers_of("two-stream-rgb"), layers_of("two-stream-flow")
    assert sum(p.numel() for p in spatial.parameters()) == convolutions + dense
    assert sum(p.numel() for p in temporal.parameters()) == convolutions + dense + 17 * 96 * 49


@pytest.mark.parametrize(
    ("preset", "length", "crops"), [("paper", 10, 10), ("tsn", 5, 10), ("carreira", 10, 1)]
)
@pytest.mark.parametrize("samples", [30, 250, 301])
def test_streams_of_a_preset_start_together(preset, length, crops, samples):
    settings = {"preset": preset}
    rgb, flow = (extractors.spec(f"two-stream-{m}").with_settings(settings) for m in STREAMS)
    assert (rgb.geometry.crops, flow.geometry.crops) == (crops, crops)
    assert rgb.sampling.fps == flow.sampling.fps
    spatial = windows(samples, rgb.sampling)
    temporal = windows(samples - 1, flow.sampling)
    assert len(spatial) == 25
    assert [w[0] for w in spatial] == [w[0] for w in temporal]
    assert {len(w) for w in temporal} == {length}


def test_dense_rows_start_together():
    rgb, flow = (extractors.spec(f"two-stream-{m}") for m in STREAMS)
    spatial = [w[0] for w in windows(100, rgb.sampling)]
    temporal = [w[0] for w in windows(99, flow.sampling)]
    assert spatial[: len(temporal)] == temporal == list(range(0, 90, 10))


def test_a_longer_spatial_window_shows_its_first_frame():
    rng = np.random.default_rng(8)
    frames = [rng.integers(0, 256, (256, 256, 3), dtype=np.uint8) for _ in range(11)]
    settings = {"weights": "random", "batch": "1"}
    spec = extractors.spec("two-stream-rgb-resnet18").with_settings(settings)
    alone = extractors.build(spec)([frames[:1]])
    long = extractors.build(spec.with_settings({"window": "11"}))([frames])
    assert np.array_equal(alone, long)
    assert alone.any()


def test_first_filters_are_averaged_over_rgb_and_repeated_for_flow():
    weight = torch.randn(4, 3, 7, 7, generator=torch.Generator().manual_seed(1))
    made = across_modalities(weight, 20)
    for channel in range(20):
        expected = (weight[:, 0] + weight[:, 1] + weight[:, 2]) / 3
        torch.testing.assert_close(made[:, channel], expected)
    picture = torch.randn(1, 1, 20, 20, generator=torch.Generator().manual_seed(2))
    of_rgb = torch.conv2d(picture.repeat(1, 3, 1, 1), weight)
    of_flow = torch.conv2d(picture.repeat(1, 20, 1, 1), made)
    torch.testing.assert_close(of_flow, of_rgb * 20 / 3, rtol=1e-4, atol=1e-4)


def resnet18_checkpoint(path: Path, classes=1000, seed=5):
    from torchvision.models import resnet18

    parent = resnet18(num_classes=classes)
    _weights.randomise(parent, seed)
    torch.save(parent.state_dict(), path)
    return parent.eval()


def test_the_spatial_analogue_is_torchvisions_model(tmp_path):
    parent = resnet18_checkpoint(tmp_path / "mine.pth")
    settings = {"weights": str(tmp_path / "mine.pth"), "batch": "2", "layer": "logits"}
    spec = extractors.spec("two-stream-rgb-resnet18").with_settings(settings)
    frames = [np.random.default_rng(k).integers(0, 256, (256, 300, 3), np.uint8) for k in (1, 2)]
    found = extractors.build(spec)([[f] for f in frames])[:, 0]
    with torch.inference_mode():
        x = torch.stack([to_tensors([f], spec, CPU)[0][:, 0] for f in frames])
        expected = parent(x).numpy()
    assert reference.relative_error(found, expected) < 1e-5


def test_the_temporal_analogue_is_the_same_model_on_averaged_filters(tmp_path):
    parent = resnet18_checkpoint(tmp_path / "mine.pth")
    settings = {"weights": str(tmp_path / "mine.pth"), "window": "5", "batch": "1"}
    spec = extractors.spec("two-stream-flow-resnet18").with_settings(settings)
    frames = random_flow(5, 256, 256)
    found = extractors.build(spec)([frames])[0, 0]
    # A filter averaged over RGB sees each flow field as a grey picture, and adds all ten up.
    x = to_tensors(frames, spec, CPU)[0][:, 0].sum(0) / 3
    parent.fc = torch.nn.Identity()
    with torch.inference_mode():
        expected = parent(x.repeat(1, 3, 1, 1))[0].numpy()
    assert reference.relative_error(found, expected) < 1e-4


def test_fine_tuned_flow_filters_are_taken_as_they_are(tmp_path):
    spec = extractors.spec("two-stream-flow-resnet18")
    spec = spec.with_settings({"classes": "51", "layer": "logits"})
    tuned = untrained(two_stream, spec.with_settings({"seed": "9"}))
    net = untrained(two_stream, spec)
    two_stream.load(net, spec, tuned.net.state_dict())
    assert torch.equal(net.net.conv1.weight, tuned.net.conv1.weight)
    assert net.net.conv1.in_channels == 20
    assert net.net.fc.out_features == spec.dim == 51


def test_flow_filters_of_another_length_are_refused():
    spec = extractors.spec("two-stream-flow-resnet18")
    five = untrained(two_stream, spec.with_settings({"window": "5"}))
    with pytest.raises(WeightsError, match=r"conv1\.weight is \(64, 10, 7, 7\), expected"):
        two_stream.load(untrained(two_stream, spec), spec, five.net.state_dict())


def test_flow_is_scaled_as_in_tsn():
    quantised = np.arange(256, dtype=np.float64)
    pixels = ((quantised - 128) * 40 / 255).astype(np.float32).reshape(16, 16, 1)
    spec = replace(
        extractors.spec("two-stream-flow-resnet50"),
        geometry=extractors.Geometry(size_px=(16, 16)),
    )
    found = to_tensors([np.concatenate([pixels, pixels], axis=2)], spec, CPU)[0]
    expected = (quantised / 255 - 0.5) / 0.226
    np.testing.assert_allclose(found[1, 0].numpy().ravel(), expected, atol=1e-6)


def test_flow_for_googlenet_spans_minus_one_to_one():
    spec = replace(
        extractors.spec("two-stream-flow-googlenet"), geometry=extractors.Geometry(size_px=(1, 3))
    )
    field = np.array([[[-20, 20], [0, 5], [20, -10]]], dtype=np.float32)
    found = to_tensors([field], spec, CPU)[0]
    assert found[:, 0, 0].tolist() == [[-1, 0, 1], [1, 0.25, -0.5]]


def test_googlenet_takes_twenty_channels_of_flow():
    settings = {"weights": "random", "batch": "1"}
    spec = extractors.spec("two-stream-flow-googlenet").with_settings(settings)
    rows = extractors.build(spec)([random_flow(10, 256, 256)])
    assert rows.shape == (1, 1, 1024)
    assert rows.any()


def test_ten_crops_show_the_mirrored_video_with_horizontal_flow_reversed():
    settings = {"weights": "random", "window": "2", "crops": "10:kept", "batch": "5"}
    spec = extractors.spec("two-stream-flow-resnet18").with_settings(settings)
    spec = replace(spec, normalisation=two_stream.GOOGLENET_FLOW)
    frames = random_flow(2, 256, 256)
    mirrored = [f[:, ::-1] * np.array([-1, 1], np.float32) for f in frames]
    extractor = extractors.build(spec)
    rows, of_mirror = extractor([frames])[0], extractor([mirrored])[0]
    assert rows.shape == (10, 512)
    # top left of the one is top right of the other, mirrored
    np.testing.assert_allclose(rows[0], of_mirror[6], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(rows[4], of_mirror[9], rtol=1e-4, atol=1e-5)
    assert not np.allclose(rows[0], rows[5], rtol=1e-3)


def test_missing_weights_say_where_they_are(tmp_path):
    spec = extractors.spec("two-stream-rgb-resnet50")
    with pytest.raises(WeightsError) as caught:
        extractors.build(spec, weights_dir=tmp_path)
    message = str(caught.value)
    assert "pipeline weights fetch two-stream-rgb-resnet50" in message
    assert "https://download.pytorch.org/models/resnet50-0676ba61.pth" in message


def test_a_file_of_the_right_name_and_wrong_bytes_is_refused(tmp_path):
    resnet18_checkpoint(tmp_path / "resnet18-f37072fd.pth")
    spec = extractors.spec("two-stream-flow-resnet18")
    with pytest.raises(WeightsError, match="expected f37072fd"):
        extractors.build(spec, weights_dir=tmp_path)


def test_weights_are_found_by_name_and_their_first_characters(tmp_path):
    resnet18_checkpoint(tmp_path / "resnet18-f37072fd.pth")
    digest = _weights.sha256(tmp_path / "resnet18-f37072fd.pth")
    spec = extractors.spec("two-stream-rgb-resnet18")
    spec = replace(spec, weights=(replace(spec.weights[0], sha256=digest[:8]),))
    assert extractors.build(spec, weights_dir=tmp_path).weights_digest == digest


def test_a_whole_segment_cannot_be_one_stack_of_flow():
    spec = extractors.spec("two-stream-flow").with_settings({"mode": "whole"})
    with pytest.raises(ExtractorError, match="fixed number of stacked flow fields"):
        two_stream.network(spec)
