"""The two streams of Simonyan and Zisserman 2014, in the paper's network and on later ones.

The spatial stream sees one RGB frame, the temporal stream the flow of the L = 10 frame pairs that
begin there, stacked as 20 channels x1, y1, x2, y2, ... Both are CNN-M-2048 (Chatfield 2014) and
differ by one layer: the temporal stream has no second normalisation. Its flow stays in pixels per
frame, each field's mean displacement taken away, as in the paper. Padding and rounding of pools,
which the paper leaves out, are those of CNN-M's published Caffe definition. The authors never
published these weights in a form that can be read here: a user's own or ``random`` serve.

A spatial window may be longer than one frame; the first is seen. In ``uniform:25`` it has to be
L + 1 frames long, so that both streams have equally many places to start and start together: the
presets ``paper`` (L = 10) and ``tsn`` (L = 5) do that with 10 crops, ``carreira`` (L = 10) at 25
frames a second with the centre.

The names ending in a torchvision model are analogues: that model with its ImageNet weights on the
RGB frame, and, for the temporal stream, TSN's cross-modality initialisation (the first filters
averaged over RGB and repeated for every flow channel) with TSN's scaling of flow. Such a temporal
stream is initialised from images and not trained on flow: give fine-tuned weights by path.
GoogLeNet is Inception-v1, the network of Carreira and Zisserman's two-stream row.

References
----------
Simonyan and Zisserman, arXiv:1406.2199. Chatfield et al., arXiv:1405.3531. Wang et al. (TSN),
arXiv:1608.00859. Carreira and Zisserman, arXiv:1705.07750.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from extractors._errors import ExtractorError
from extractors._inflate import across_modalities
from extractors._spec import Geometry, Modality, Normalisation, Sampling, Spec
from extractors._torchvision import (
    IMAGENET,
    IMAGENET_GEOMETRY,
    construct,
    imagenet_weights,
    load_checkpoint,
    without_final_layer,
)
from extractors._weights import load_strictly

PAPER = "arXiv:1406.2199"
TSN_PAPER = "arXiv:1608.00859"
FLOW_FRAMES = 10
TSN_FLOW_FRAMES = 5
ROWS_EVERY = 10  # frames, both streams
UCF101_CLASSES = 101
IMAGENET_CLASSES = 1000

NORMALISED_OVER = 5  # channels
# Krizhevsky adds squares up, torch takes their mean: its alpha is 5 times the paper's 1e-4.
NORM_ALPHA, NORM_BETA, NORM_K = NORMALISED_OVER * 1e-4, 0.75, 2.0

IMAGENET_MEAN = (123.68, 116.779, 103.939)  # of RGB values 0..255, CNN-M's own
BOUND_PX = 20.0  # flow is clipped to +-20 px per frame and stored in 8 bits
QUANTUM_PX = 2 * BOUND_PX / 255

FILES = {
    "googlenet": "googlenet-1378be20.pth",
    "resnet18": "resnet18-f37072fd.pth",
    "resnet50": "resnet50-0676ba61.pth",
}
FEATURES = {"googlenet": 1024, "resnet18": 512, "resnet50": 2048}
# TSN on ResNets: (q/255 - 0.5) / 0.226 of 8-bit flow q, in which 128 stands for no motion.
TSN_FLOW = Normalisation(mean=(-QUANTUM_PX / 2,), std=(0.226 * 2 * BOUND_PX,))
# GoogLeNet's filters were trained on values from -1 to 1.
GOOGLENET_FLOW = Normalisation(std=(BOUND_PX,))


class CnnM(nn.Module):
    """CNN-M-2048.

    Parameters
    ----------
    channels : int
        3 for an RGB frame, 2 L for stacked flow.
    second_norm : bool
        The spatial stream normalises after its second convolution too.
    classes : int
        Width of the output.
    layer : {"fc6", "fc7", "logits"}
        What the forward pass returns; the dense layers after their ReLU.
    """

    def __init__(self, channels: int, second_norm: bool, classes: int, layer: str) -> None:
        super().__init__()
        norm = (NORMALISED_OVER, NORM_ALPHA, NORM_BETA, NORM_K)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["conv1"] = nn.Conv2d(channels, 96, 7, stride=2)  # N x 96 x 109 x 109
        layers["relu1"] = nn.ReLU(inplace=True)
        layers["norm1"] = nn.LocalResponseNorm(*norm)
        layers["pool1"] = nn.MaxPool2d(3, 2, ceil_mode=True)  # N x 96 x 54 x 54
        layers["conv2"] = nn.Conv2d(96, 256, 5, stride=2, padding=1)  # N x 256 x 26 x 26
        layers["relu2"] = nn.ReLU(inplace=True)
        if second_norm:
            layers["norm2"] = nn.LocalResponseNorm(*norm)
        layers["pool2"] = nn.MaxPool2d(3, 2, ceil_mode=True)  # N x 256 x 13 x 13
        for number, width in ((3, 256), (4, 512), (5, 512)):
            layers[f"conv{number}"] = nn.Conv2d(width, 512, 3, padding=1)  # N x 512 x 13 x 13
            layers[f"relu{number}"] = nn.ReLU(inplace=True)
        layers["pool5"] = nn.MaxPool2d(3, 2, ceil_mode=True)  # N x 512 x 6 x 6
        layers["flat"] = nn.Flatten()
        layers["fc6"] = nn.Linear(512 * 6 * 6, 4096)  # N x 4096
        layers["relu6"] = nn.ReLU(inplace=True)
        layers["fc7"] = nn.Linear(4096, 2048)  # N x 2048
        layers["relu7"] = nn.ReLU(inplace=True)
        layers["logits"] = nn.Linear(2048, classes)  # N x 101
        self.layers = nn.Sequential(layers)
        self.last = {"fc6": "relu6", "fc7": "relu7", "logits": "logits"}[layer]

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, 224, 224)`` to ``(N, D)``."""
        for name, layer in self.layers.named_children():
            x = layer(x)
            if name == self.last:
                break
        return x


class FirstFrame(nn.Module):
    """A 2D network on the first frame of a window, or on its stacked flow.

    Parameters
    ----------
    net : nn.Module
        Maps (N, C, H, W) to (N, D).
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, T, H, W)`` to ``(N, D)``."""
        rows: Tensor = self.net(x[:, :, 0])
        return rows


def first_convolution(net: nn.Module) -> tuple[str, nn.Conv2d]:
    """Return the convolution that sees the picture, and its name."""
    return next((n, m) for n, m in net.named_modules() if isinstance(m, nn.Conv2d))


def widened(net: nn.Module, channels: int) -> nn.Module:
    """Replace the first convolution by one over `channels` channels."""
    name, old = first_convolution(net)
    assert isinstance(old.padding, tuple)
    new = nn.Conv2d(
        channels,
        old.out_channels,
        (old.kernel_size[0], old.kernel_size[1]),
        (old.stride[0], old.stride[1]),
        (old.padding[0], old.padding[1]),
        bias=old.bias is not None,
    )
    parent, _, child = name.rpartition(".")
    setattr(net.get_submodule(parent), child, new)
    return net


def _backbone(spec: Spec) -> str:
    """Name of the torchvision model, empty for the paper's own network."""
    return spec.name.removeprefix(f"two-stream-{spec.modality}").removeprefix("-")


def network(spec: Spec) -> nn.Module:
    """Build the untrained network of one of `SPECS`; L is the window of the temporal stream."""
    if spec.flow_stack and spec.sampling.mode == "whole":
        raise ExtractorError(
            f"{spec.name}: mode is 'whole', but its first filters are made for a fixed number of "
            f"stacked flow fields; choose dense or uniform:N"
        )
    model, classes = _backbone(spec), int(spec.options["classes"])
    channels = 2 * spec.sampling.window if spec.flow_stack else 3
    if not model:
        return FirstFrame(CnnM(channels, spec.modality == "rgb", classes, spec.layer))
    net = construct(model, classes, of_flow=spec.flow_stack)
    if spec.flow_stack:
        net = widened(net, channels)
    return FirstFrame(net if spec.layer == "logits" else without_final_layer(net))


def load(net: nn.Module, spec: Spec, state: Mapping[str, Tensor]) -> None:
    """Put a checkpoint into the network; RGB filters initialise a temporal stream."""
    assert isinstance(net, FirstFrame)
    name, convolution = first_convolution(net.net)
    weight = state.get(f"{name}.weight")
    if spec.flow_stack and weight is not None and weight.shape[1] == 3:
        state = {**state, f"{name}.weight": across_modalities(weight, convolution.in_channels)}
    if model := _backbone(spec):
        load_checkpoint(net.net, model, state, spec.name)
    else:
        load_strictly(net.net, state, spec.name)


def _sampling(modality: Modality) -> Sampling:
    window = 1 if modality == "rgb" else FLOW_FRAMES
    return Sampling(fps=None, window=window, stride=ROWS_EVERY)


def _presets(modality: Modality) -> dict[str, dict[str, str]]:
    more = 1 if modality == "rgb" else 0  # L flow fields lie between L + 1 frames
    test = {"mode": "uniform:25", "crops": "10"}
    return {
        "paper": {"window": str(FLOW_FRAMES + more), **test},
        "tsn": {"window": str(TSN_FLOW_FRAMES + more), **test},
        "carreira": {"window": str(FLOW_FRAMES + more), "mode": "uniform:25", "fps": "25"},
    }


def _of_paper(modality: Modality) -> Spec:
    stream = "spatial" if modality == "rgb" else "temporal"
    flow = Normalisation(subtract_mean_flow=True)
    return Spec(
        name=f"two-stream-{modality}",
        modality=modality,
        sampling=_sampling(modality),
        geometry=Geometry(short_side_px=256, crop_px=224),
        normalisation=Normalisation(mean=IMAGENET_MEAN) if modality == "rgb" else flow,
        layer="fc7",
        layers={"fc6": 4096, "fc7": 2048, "logits": UCF101_CLASSES},
        options={"classes": str(UCF101_CLASSES)},
        presets=_presets(modality),
        flow_stack=modality == "flow",
        paper=PAPER,
        summary=f"{stream} stream, CNN-M-2048; own or random weights",
    )


def _on_torchvision(modality: Modality, model: str) -> Spec:
    weights = imagenet_weights(FILES[model])
    if modality == "rgb":
        rule, summary = IMAGENET, f"spatial stream on torchvision's {model}"
    else:
        rule = GOOGLENET_FLOW if model == "googlenet" else TSN_FLOW
        summary = f"temporal stream on {model}, initialised from ImageNet, not trained on flow"
        weights = replace(weights, trained_on="ImageNet-1K images, no flow", classes="")
    return Spec(
        name=f"two-stream-{modality}-{model}",
        modality=modality,
        sampling=_sampling(modality),
        geometry=IMAGENET_GEOMETRY,
        normalisation=rule,
        layer="features",
        layers={"features": FEATURES[model], "logits": IMAGENET_CLASSES},
        weights=(weights,),
        options={"classes": str(IMAGENET_CLASSES)},
        presets=_presets(modality),
        flow_stack=modality == "flow",
        paper=TSN_PAPER,
        summary=summary,
    )


STREAMS: tuple[Modality, ...] = ("rgb", "flow")
SPECS = tuple(
    spec
    for modality in STREAMS
    for spec in (_of_paper(modality), *(_on_torchvision(modality, model) for model in FILES))
)
