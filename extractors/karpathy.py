"""The fusion networks of Karpathy et al. 2014 (Sports-1M), in the paper's widths and as analogues.

One single-frame network, ``C(96,11,3)-N-P-C(256,5,1)-N-P-C(384,3,1)-C(384,3,1)-C(256,3,1)-P-
FC(4096)-FC(4096)-487``, is stretched over time in four ways. *Single frame* is the network itself.
*Early fusion* lets the first filters span all 10 frames. *Late fusion* runs the convolutions, with
shared filters, on two frames 15 apart and joins them at the first dense layer. *Slow fusion* spans
4 frames every 2 in the first convolution and 2 every 2 in the second and third, so that 10 frames
become 4, then 2, then 1. *Multiresolution* replaces the picture by two columns of half its side:
the whole picture shrunk (context) and its centre (fovea).

The paper leaves padding open but says that both resolutions end in 7x7x256. A first convolution
without padding, the others keeping their size, and pools that round up (as in Krizhevsky's
cuda-convnet, whose normalisation the paper takes) give that for 170 and for 89 pixels. No weights
were ever published: these serve a user's own, or ``random``. With ``layer=logits`` the names of the
classes are read from a file beside the weights, one a line: for ``slow.pt`` copy Sports-1M's
``labels.txt`` (487 lines) to ``slow.pt.labels.txt``.

The ``-alexnet`` names are analogues, not the paper's networks: torchvision's AlexNet (its own
widths, 3x3 pools, no normalisation) fused in the same ways. Its ImageNet filters are repeated over
time and divided by their number, its first dense layer is shared among the joined columns, so on
a video constant in time each fused network equals AlexNet.

References
----------
Karpathy et al., Large-scale video classification with convolutional neural networks, CVPR 2014,
doi:10.1109/CVPR.2014.223. Krizhevsky, One weird trick, arXiv:1404.5997 (AlexNet's widths).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from extractors._errors import ExtractorError
from extractors._inflate import inflate
from extractors._spec import Geometry, Normalisation, Sampling, Spec
from extractors._torchvision import IMAGENET, IMAGENET_GEOMETRY, imagenet_weights
from extractors._weights import load_strictly

PAPER = "doi:10.1109/CVPR.2014.223"
SPORTS1M_CLASSES = 487
IMAGENET_CLASSES = 1000
PIXEL_MEAN = 117.0  # subtracted from every value of every channel
LATE_FRAMES_APART = 15
ROWS_EVERY = 10  # frames; the same for all, so that rows of several networks can be averaged

NORMALISED_OVER = 5  # channels
# Krizhevsky adds squares up, torch takes their mean: its alpha is 5 times the paper's 1e-4.
NORM_ALPHA, NORM_BETA, NORM_K = NORMALISED_OVER * 1e-4, 0.5, 2.0

ALEXNET_WEIGHTS = imagenet_weights("alexnet-owt-7be5be79.pth")


@dataclass(frozen=True, slots=True)
class Parent:
    """The single-frame network that is stretched over time.

    Attributes
    ----------
    convolutions : tuple of (width, kernel, stride, padding)
        Five of them; pools follow the first, the second and the fifth.
    pool : (kernel, stride, rounds_up)
        Every pool of the network.
    normalised : bool
        Whether local response normalisation stands before the first two pools.
    side : int
        Height and width of the last map.
    classes, hidden : int
        Widths of the output and of the two dense layers before it.
    """

    convolutions: tuple[tuple[int, int, int, int], ...]
    pool: tuple[int, int, bool]
    normalised: bool
    side: int
    classes: int
    hidden: int = 4096


@dataclass(frozen=True, slots=True)
class Fusion:
    """How the single-frame network is stretched over time.

    Attributes
    ----------
    window : int
        Frames it looks at.
    spans : tuple of (kernel, stride)
        Extent over time of the first convolutions; those not named look at one frame.
    picked : tuple of int
        Frames of the window that are used; empty for all.
    multiresolution : bool
        Context and fovea columns in place of one.
    """

    window: int
    spans: tuple[tuple[int, int], ...] = ()
    picked: tuple[int, ...] = ()
    multiresolution: bool = False

    @property
    def joined(self) -> int:
        """Number of feature maps that meet at the first dense layer."""
        return max(1, len(self.picked)) * (2 if self.multiresolution else 1)


KARPATHY = Parent(
    convolutions=((96, 11, 3, 0), (256, 5, 1, 2), (384, 3, 1, 1), (384, 3, 1, 1), (256, 3, 1, 1)),
    pool=(2, 2, True),
    normalised=True,
    side=7,
    classes=SPORTS1M_CLASSES,
)
ALEXNET = Parent(
    convolutions=((64, 11, 4, 2), (192, 5, 1, 2), (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1)),
    pool=(3, 2, False),
    normalised=False,
    side=6,
    classes=IMAGENET_CLASSES,
)
SLOW_SPANS = ((4, 2), (2, 2), (2, 2))
FUSIONS = {
    "single": Fusion(window=1),
    "early": Fusion(window=10, spans=((10, 1),)),
    "late": Fusion(window=LATE_FRAMES_APART + 1, picked=(0, LATE_FRAMES_APART)),
    "slow": Fusion(window=10, spans=SLOW_SPANS),
    "multires": Fusion(window=1, multiresolution=True),
    "slow-multires": Fusion(window=10, spans=SLOW_SPANS, multiresolution=True),
}


def _column(parent: Parent, fusion: Fusion) -> nn.Sequential:
    """Build the convolutions; shapes in comments are of `KARPATHY` on one 170-pixel frame."""
    kernel, stride, rounds_up = parent.pool
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = 3
    for number, (width, side, step, padding) in enumerate(parent.convolutions, start=1):
        span, hop = (*fusion.spans, *[(1, 1)] * len(parent.convolutions))[number - 1]
        layers[f"conv{number}"] = nn.Conv3d(
            channels, width, (span, side, side), (hop, step, step), (0, padding, padding)
        )  # N x 96 x 1 x 54 x 54, N x 256 x 1 x 27 x 27, N x 384|384|256 x 1 x 14 x 14
        layers[f"relu{number}"] = nn.ReLU(inplace=True)
        if number <= 2 and parent.normalised:
            layers[f"norm{number}"] = nn.LocalResponseNorm(
                NORMALISED_OVER, NORM_ALPHA, NORM_BETA, NORM_K
            )
        if number <= 2 or (number == 5 and not fusion.multiresolution):
            layers[f"pool{number}"] = nn.MaxPool3d(
                (1, kernel, kernel), (1, stride, stride), ceil_mode=rounds_up
            )  # N x 96 x 1 x 27 x 27, N x 256 x 1 x 14 x 14, N x 256 x 1 x 7 x 7
        channels = width
    return nn.Sequential(layers)


class FusionNet(nn.Module):
    """A single-frame network stretched over time.

    Parameters
    ----------
    parent : Parent
        Widths of the single-frame network.
    fusion : Fusion
        How it is stretched.
    layer : {"fc6", "fc7", "logits"}
        What the forward pass returns; the dense layers after their ReLU.
    """

    def __init__(self, parent: Parent, fusion: Fusion, layer: str) -> None:
        super().__init__()
        self.fusion = fusion
        self.layer = layer
        names = ("context", "fovea") if fusion.multiresolution else ("frame",)
        self.columns = nn.ModuleDict({name: _column(parent, fusion) for name in names})
        flat = parent.convolutions[-1][0] * parent.side**2
        self.fc6 = nn.Linear(fusion.joined * flat, parent.hidden)
        self.fc7 = nn.Linear(parent.hidden, parent.hidden)
        self.logits = nn.Linear(parent.hidden, parent.classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, 3, T, H, W)`` to ``(N, D)``."""
        if self.fusion.picked:
            x = x[:, :, list(self.fusion.picked)]  # N x 3 x 2 x 170 x 170
        pictures = [x] if not self.fusion.multiresolution else [halved(x), centre(x)]
        maps = [column(p) for column, p in zip(self.columns.values(), pictures, strict=True)]
        # Frame by frame, so that the dense layer's weights are one block per joined map.
        joined = torch.cat([m.transpose(1, 2).flatten(1) for m in maps], dim=1)
        x = functional.relu(self.fc6(joined))  # N x 4096
        if self.layer == "fc6":
            return x
        x = functional.relu(self.fc7(x))  # N x 4096
        return x if self.layer == "fc7" else self.logits(x)  # N x 487


def halved(x: Tensor) -> Tensor:
    """Shrink to half the side: the mean of 2x2 pixels, which bilinear resizing is at this ratio."""
    return functional.avg_pool3d(x, (1, 2, 2))


def centre(x: Tensor) -> Tensor:
    """Cut the centre of half the side, at full resolution."""
    height, width = x.shape[-2] // 2, x.shape[-1] // 2
    top, left = (x.shape[-2] - height) // 2, (x.shape[-1] - width) // 2
    return x[..., top : top + height, left : left + width]


ALEXNET_CONVOLUTIONS = {f"features.{at}": n for n, at in enumerate((0, 3, 6, 8, 10), start=1)}
ALEXNET_DENSE = {"classifier.1": "fc6", "classifier.4": "fc7", "classifier.6": "logits"}


def inflate_alexnet(state: Mapping[str, Tensor], fusion: Fusion) -> dict[str, Tensor]:
    """Turn torchvision's AlexNet into the weights of its fused analogue.

    Parameters
    ----------
    state : Mapping of str to Tensor
        ``features.{0,3,6,8,10}`` and ``classifier.{1,4,6}``, each with weight and bias.
    fusion : Fusion
        How the analogue is stretched.

    Returns
    -------
    dict of str to Tensor
        Filters repeated over time and divided by their span; the first dense layer's weights
        once per joined map and divided by their number.
    """
    columns = ("context", "fovea") if fusion.multiresolution else ("frame",)
    spans = dict(enumerate((span for span, _ in fusion.spans), start=1))
    inflated: dict[str, Tensor] = {}
    for key, tensor in state.items():
        layer, _, kind = key.rpartition(".")
        if layer in ALEXNET_CONVOLUTIONS:
            number = ALEXNET_CONVOLUTIONS[layer]
            if kind == "weight":
                tensor = inflate(tensor, spans.get(number, 1))
            inflated |= {f"columns.{column}.conv{number}.{kind}": tensor for column in columns}
        else:
            inflated[f"{ALEXNET_DENSE.get(layer, layer)}.{kind}"] = tensor
    if "fc6.weight" in inflated:
        shared = inflated["fc6.weight"] / fusion.joined
        inflated["fc6.weight"] = shared.repeat(1, fusion.joined)
    return inflated


def _parts(spec: Spec) -> tuple[Parent, Fusion]:
    name = spec.name.removeprefix("karpathy-")
    parent = ALEXNET if name.endswith("-alexnet") else KARPATHY
    parent = replace(parent, classes=int(spec.options["classes"]))
    return parent, FUSIONS[name.removesuffix("-alexnet")]


def network(spec: Spec) -> nn.Module:
    """Build the untrained network of one of `SPECS`."""
    parent, fusion = _parts(spec)
    if spec.sampling.mode == "whole" or spec.sampling.window != fusion.window:
        raise ExtractorError(
            f"{spec.name}: mode is {spec.sampling.mode!r} and window {spec.sampling.window}, but "
            f"this fusion is defined over {fusion.window} frames; leave window as it is, and "
            "choose dense, centred or uniform:N"
        )
    return FusionNet(parent, fusion, spec.layer)


def load(net: nn.Module, spec: Spec, state: Mapping[str, Tensor]) -> None:
    """Put weights into the network: its own keys, or torchvision's AlexNet for the analogues."""
    if spec.name.endswith("-alexnet") and "features.0.weight" in state:
        state = inflate_alexnet(state, _parts(spec)[1])
    load_strictly(net, state, spec.name)


def _spec(fusion_name: str, alexnet: bool) -> Spec:
    parent, fusion = (ALEXNET if alexnet else KARPATHY), FUSIONS[fusion_name]
    side_px = 178 if fusion.multiresolution else 170
    of_paper = Geometry(short_side_px=200, crop_px=side_px)
    return Spec(
        name=f"karpathy-{fusion_name}" + ("-alexnet" if alexnet else ""),
        modality="rgb",
        sampling=Sampling(fps=None, window=fusion.window, stride=ROWS_EVERY),
        geometry=IMAGENET_GEOMETRY if alexnet else of_paper,
        normalisation=IMAGENET if alexnet else Normalisation(mean=(PIXEL_MEAN,)),
        layer="fc7",
        layers={"fc6": parent.hidden, "fc7": parent.hidden, "logits": parent.classes},
        weights=(ALEXNET_WEIGHTS,) if alexnet else (),
        options={"classes": str(parent.classes)},
        presets={"20-per-video": {"mode": "uniform:20"}},
        paper=PAPER,
        summary=SUMMARIES[fusion_name]
        + ("; analogue on torchvision's AlexNet" if alexnet else "; own or random weights"),
    )


SUMMARIES = {
    "single": "Sports-1M network on one frame",
    "early": "first filters span 10 frames",
    "late": "two frames 15 apart, joined at the first dense layer",
    "slow": "10 frames become 4, 2, 1 through the first three convolutions",
    "multires": "one frame as context and fovea at half the side",
    "slow-multires": "slow fusion of context and fovea",
}
SPECS = tuple(_spec(name, alexnet) for alexnet in (False, True) for name in FUSIONS)
