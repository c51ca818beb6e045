import json
from pathlib import Path

import numpy as np
import pytest
import torch

import extractors
from extractors import _extractor, efficientnet_lite
from tests.extractors import numpy_volumes as reference

CHECKOUT = Path(__file__).resolve().parents[2]
CLASS_INDEX = CHECKOUT.parent / "shared" / "data" / "manifests" / "imagenet_class_index.json"
EPSILON = 1e-3

# MnasNet-style table of EfficientNet-B0 (arXiv 1905.11946, table 1), written down anew:
# kernel, stride, expansion, out, repeats
PAPER = [
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def plain(name="efficientnet-lite0", **settings):
    spec = extractors.spec(name).with_settings(settings)
    return _extractor.network_with_weights(efficientnet_lite, spec, None)


class Reference:
    """The network from its paper, float64; flat pictures are windows of one frame."""

    def __init__(self, state, spans=1, strides=(1,) * 7):
        self.state = state
        self.spans = spans  # frames of the first depthwise filter of a stage
        self.strides = strides  # stride in time of each stage
        self.blocks = []

    def weight(self, name):
        weight = self.state[f"{name}.conv.weight"]
        return weight if weight.ndim == 5 else weight[:, :, None]

    def unit(self, name, x, stride=1, ceiling=6.0):
        weight = self.weight(name)
        steps = (1, stride, stride)
        y = reference.convolve(x, weight, steps, reference.same(x, weight.shape[2:], steps))
        y = reference.batch_norm(y, self.state, f"{name}.norm", EPSILON)
        return np.clip(y, 0, ceiling) if ceiling else y

    def depthwise(self, name, x, steps):
        weight = self.weight(name)
        pads = reference.same(x, weight.shape[2:], steps)
        y = reference.depthwise(x, weight, steps, pads, ("edge", "constant", "constant"))
        return np.clip(reference.batch_norm(y, self.state, f"{name}.norm", EPSILON), 0, 6)

    def rows(self, x):
        x = self.unit("stem", x, 2)
        number = 0
        for (_, stride, expansion, out, repeats), hold in zip(PAPER, self.strides, strict=True):
            for repeat in range(repeats):
                name = f"blocks.{number}"
                y = self.unit(f"{name}.expand", x) if expansion > 1 else x
                steps = (1, 1, 1) if repeat else (hold, stride, stride)
                y = self.depthwise(f"{name}.depthwise", y, steps)
                y = self.unit(f"{name}.project", y, ceiling=None)
                x = x + y if y.shape == x.shape and len(x) == out and max(steps) == 1 else y
                self.blocks.append(x)
                number += 1
        return self.unit("head", x).mean(axis=(1, 2, 3))


def captured_blocks(net):
    seen = []
    for block in net.blocks:
        block.register_forward_hook(lambda _, __, y: seen.append(y[0].numpy().copy()))
    return seen


def state_of(net):
    return {key: value.numpy() for key, value in net.state_dict().items()}


@pytest.mark.parametrize("size", [(64, 64), (75, 49)])
def test_every_block_equals_the_reference(size):
    net = plain().net
    seen = captured_blocks(net)
    x = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found = net(x)[0]
    truth = Reference(state_of(net))
    expected = truth.rows(x[0].numpy()[:, None])
    assert len(seen) == len(truth.blocks) == 16
    for number, (ours, theirs) in enumerate(zip(seen, truth.blocks, strict=True)):
        assert reference.relative_error(ours, theirs[:, 0]) < 2e-5, number
    assert reference.relative_error(found, expected) < 2e-5


def test_inflated_equals_its_own_reference():
    net = plain("efficientnet-lite0-inflated")
    seen = captured_blocks(net)
    x = torch.randn(1, 3, 5, 33, 32, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        found = net(x)[0]
    truth = Reference(state_of(net), spans=3, strides=(1, 1, 2, 2, 1, 2, 1))
    expected = truth.rows(x[0].numpy())
    for number, (ours, theirs) in enumerate(zip(seen, truth.blocks, strict=True)):
        assert reference.relative_error(ours, theirs) < 2e-5, number
    assert reference.relative_error(found, expected) < 2e-5


def test_inflated_equals_its_parent_on_a_video_that_does_not_move():
    parent, child = plain().net, plain("efficientnet-lite0-inflated")
    flat, deep = captured_blocks(parent), captured_blocks(child)
    picture = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        row = parent(picture)
        grown = child(picture.unsqueeze(2).expand(-1, -1, 16, -1, -1))
    for number, (ours, theirs) in enumerate(zip(deep, flat, strict=True)):
        for frame in range(ours.shape[1]):  # edges are held, so no frame is on a border
            assert reference.relative_error(ours[:, frame], theirs.astype(float)) < 1e-5, number
    assert [d.shape[1] for d in deep] == [16] * 3 + [8] * 2 + [4] * 6 + [2] * 5
    assert reference.relative_error(grown, row.double().numpy()) < 1e-5


def test_inflated_tells_time():
    child = plain("efficientnet-lite0-inflated")
    frames = torch.randn(1, 3, 16, 64, 64, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        forwards, backwards = child(frames), child(frames.flip(2))
        shuffled = child(
            frames[:, :, torch.randperm(16, generator=torch.Generator().manual_seed(1))]
        )
    assert reference.relative_error(shuffled, forwards.double().numpy()) > 1e-2
    assert reference.relative_error(backwards, forwards.double().numpy()) > 1e-3


def test_parameter_counts():
    assert sum(p.numel() for p in plain().parameters()) == 4_652_008
    flow = plain("efficientnet-lite0-flow")
    assert sum(p.numel() for p in flow.parameters()) == 4_652_008 + 17 * 32 * 9


@pytest.mark.parametrize("motion_px", [(0.6, 0), (-0.6, 0), (0, 0.6), (0, -0.6), (0.3, -0.15)])
@pytest.mark.parametrize("frames", [10, 4])
def test_motion_in_x_is_red_and_in_y_green(motion_px, frames):
    """0.6 px a frame is a full red or green; blue and stillness are the middle of the range."""
    spec = extractors.spec("efficientnet-lite0-flow")
    rgb, flow = plain().net.stem.conv, plain(spec.name, window=str(frames)).net.stem.conv
    colour = torch.tensor([motion_px[0] / 0.6, motion_px[1] / 0.6, 0.0])
    stack = torch.tensor(motion_px * frames) / spec.normalisation.std[0]
    with torch.inference_mode():
        seen = rgb(colour.view(1, 3, 1, 1).expand(1, 3, 8, 8))
        assert torch.allclose(flow(stack.view(1, -1, 1, 1).expand(1, -1, 8, 8)), seen, atol=1e-5)


def test_motions_of_one_sum_are_told_apart():
    """Filters averaged over the colours, as networks to be trained start from, cannot do it."""
    extractor = extractors.build(extractors.spec("efficientnet-lite0-flow"))

    def row(x, y):
        field = np.broadcast_to(np.array([x, y], np.float32), (256, 256, 2))
        return extractor([[field] * 10])[0, 0].astype(np.float64)

    right = row(1, 0)
    for other in (row(0, 1), row(2, -1), row(-1, 0)):
        assert reference.relative_error(right, other) > 0.1


def test_filters_of_flow_are_taken_as_they_are():
    own = plain("efficientnet-lite0-flow").net.state_dict()
    own["stem.conv.weight"] = torch.randn(own["stem.conv.weight"].shape)
    spec = extractors.spec("efficientnet-lite0-flow")
    net = efficientnet_lite.network(spec)
    efficientnet_lite.load(net, spec, own)
    assert torch.equal(net.net.stem.conv.weight, own["stem.conv.weight"])


# PROVENANCE.md's figures: the registry package's own network on the authors' still-picture
# geometry, seen again here with ours to the third decimal
@pytest.mark.parametrize(
    ("photograph", "best", "label"),
    [("chelsea", 282, "tiger cat"), ("coffee", 967, "espresso"), ("rocket", 657, "missile")],
)
def test_photographs_are_recognised(photograph, best, label):
    import skimage.data
    from PIL import Image

    picture = getattr(skimage.data, photograph)()
    spec = extractors.spec("efficientnet-lite0").with_settings({"layer": "logits", "batch": "1"})
    height, width = spec.geometry.resized(*picture.shape[:2])
    resized = np.asarray(
        Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR)
    )
    extractor = extractors.build(spec)
    scores = extractor([[resized]])[0, 0]
    assert int(scores.argmax()) == best
    assert extractor.class_names[best] == label


def test_class_names_are_those_of_the_data_folder():
    if not CLASS_INDEX.is_file():
        pytest.skip("shared/data is not beside this checkout")
    index = json.loads(CLASS_INDEX.read_text())
    spec = extractors.spec("efficientnet-lite0").with_settings({"layer": "logits"})
    names = _extractor._classes.names(spec)
    same = [names[int(k)].replace(" ", "_") == label for k, (_, label) in index.items()]
    assert sum(same) > 960  # a few are spelt or shortened differently


def test_flow_rows_stand_at_the_rgb_rows_times():
    rgb = extractors.spec("efficientnet-lite0").sampling
    flow = extractors.spec("efficientnet-lite0-flow").sampling
    assert flow.mode == "centred"
    assert flow.stride / flow.fps == rgb.stride / rgb.fps
