"""Any classification model of torchvision, image or video, with its weights' own preprocessing.

``torchvision:resnet50`` has its default weights, ``torchvision:resnet50@IMAGENET1K_V1`` others of
its list. Resize, crop, interpolation, antialias, mean and std are read from the weights' metadata,
because they differ between the weights of one model (256 or 232 pixels before the crop; bicubic
for some); torchvision's video presets do not antialias, its image presets do.
A row is what enters the last dense (or 1x1 convolutional) layer, or the logits.

Weights are found by file name and checked against the first characters of their sha256, which
torchvision publishes in the name; nothing is downloaded while features are computed.

Image models look at 5 frames a second by default, as the ConvNet+LSTM of Carreira and Zisserman:
``torchvision:googlenet`` is its ConvNet with torchvision's padding and weights (`inception-v1` has
TensorFlow's). Video models get the frame rate and length that torchvision measured them with.

References
----------
TorchVision, doi:10.1145/1873951.1874254. Carreira and Zisserman, arXiv:1705.07750.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from torch import Tensor, nn

from extractors._errors import ExtractorError
from extractors._layers import PerFrame
from extractors._spec import Sampling, Spec
from extractors._torchvision import (
    ParametersWithoutData,
    construct,
    declare_weights,
    final_layer,
    geometry,
    load_checkpoint,
    normalisation,
    without_final_layer,
)

PREFIX = "torchvision:"
IMAGE_FPS = Fraction(5)


@dataclass(frozen=True, slots=True)
class Protocol:
    """How torchvision measured a video model: frames per second, frames, and the fewest frames."""

    fps: Fraction
    window: int
    fewest: int
    batch_windows: int


RESNET3D = Protocol(Fraction(15), window=16, fewest=1, batch_windows=4)
VIDEO = {
    "mvit": Protocol(Fraction(15, 2), window=16, fewest=16, batch_windows=1),
    "s3d": Protocol(Fraction(15), window=128, fewest=14, batch_windows=1),
    "swin3d": Protocol(Fraction(15), window=32, fewest=1, batch_windows=1),
}


def _model(name: str) -> tuple[str, str]:
    """Split ``torchvision:MODEL@WEIGHTS``."""
    model, _, chosen = name.removeprefix(PREFIX).partition("@")
    return model, chosen


def _listed() -> dict[str, Literal["image", "video"]]:
    from torchvision import models

    images = dict.fromkeys(models.list_models(module=models), "image")
    return images | dict.fromkeys(models.list_models(module=models.video), "video")


def _weights_entry(model: str, chosen: str) -> Any:
    from torchvision.models import get_model_weights

    entries = [w for w in get_model_weights(model) if w.meta.get("categories")]
    if not chosen:
        default = get_model_weights(model).DEFAULT
        return default if default in entries else entries[0]
    for entry in entries:
        if entry.name == chosen:
            return entry
    raise ExtractorError(
        f"{PREFIX}{model} has no weights {chosen!r}, expected one of "
        f"{', '.join(entry.name for entry in entries)}"
    )


def _protocol(model: str) -> Protocol:
    family = next((name for name in VIDEO if model.startswith(name)), "")
    return VIDEO.get(family, RESNET3D)


def _sampling(model: str, kind: str) -> Sampling:
    if kind == "image":
        return Sampling(fps=IMAGE_FPS, window=1, stride=1)
    protocol = _protocol(model)
    return Sampling(fps=protocol.fps, window=protocol.window, stride=protocol.window)


@functools.lru_cache(maxsize=256)
def resolve(name: str) -> Spec:
    """Return the `Spec` of ``torchvision:MODEL`` or ``torchvision:MODEL@WEIGHTS``.

    Raises
    ------
    ExtractorError
        When torchvision has no such classification model or weights.
    """
    model, chosen = _model(name)
    listed = _listed()
    if model not in listed:
        near = difflib.get_close_matches(model, listed, n=3, cutoff=0.4)
        raise ExtractorError(
            f"torchvision has no classification model {model!r}; "
            f"nearest: {', '.join(PREFIX + n for n in near) or 'none'}"
        )
    entry = _weights_entry(model, chosen)
    preset = entry.transforms()
    classes = len(entry.meta["categories"])
    with ParametersWithoutData():
        features = final_layer(construct(model, classes))[1]
    kind = listed[model]
    return Spec(
        name=name,
        modality="rgb",
        sampling=_sampling(model, kind),
        geometry=geometry(preset),
        normalisation=normalisation(tuple(preset.mean), tuple(preset.std)),
        layer="features",
        layers={"features": features, "logits": classes},
        weights=(declare_weights(entry),),
        options={"classes": str(classes)},
        batch_windows=8 if kind == "image" else _protocol(model).batch_windows,
        paper="doi:10.1145/1873951.1874254",
        summary=f"torchvision {kind} model, {entry.name}",
    )


def network(spec: Spec) -> nn.Module:
    """Build the untrained model; image models take every frame of a window and average."""
    model = _model(spec.name)[0]
    is_video = _listed()[model] == "video"
    if is_video:
        _check_window(model, spec)
    net = construct(model, int(spec.options["classes"]))
    if spec.layer == "features":
        net = without_final_layer(net)
    return net if is_video else PerFrame(net)


def _check_window(model: str, spec: Spec) -> None:
    fewest, window = _protocol(model).fewest, spec.sampling.window
    if window < fewest:
        raise ExtractorError(f"{spec.name}: window is {window}, expected at least {fewest} frames")
    if model.startswith("mvit") and (window > fewest or spec.sampling.mode == "whole"):
        raise ExtractorError(
            f"{spec.name}: its position embeddings are made for windows of {fewest} frames; "
            f"found window {window}, mode {spec.sampling.mode}"
        )


def load(net: nn.Module, spec: Spec, state: Mapping[str, Tensor]) -> None:
    """Put torchvision's own checkpoint, or a fine-tuned one, into the network."""
    inner = net.net if isinstance(net, PerFrame) else net
    load_checkpoint(inner, _model(spec.name)[0], state, spec.name)
