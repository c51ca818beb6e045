"""What the families built on torchvision's models share: building, cutting, loading, metadata.

Everything heavy is imported where it is used, so that listing extractors stays quick.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from extractors._spec import Geometry, Interpolation, Normalisation, Weights
from extractors._weights import load_strictly

PIXEL_MAX = 255.0
LICENCE = "BSD-3-Clause (torchvision); the data set's terms apply"
CLASSES = {"ImageNet-1K": "imagenet1k", "Kinetics-400": "kinetics400"}
PUBLISHED_DIGEST = re.compile(r"-([0-9a-f]{8,})\.pth$")
DENSENET_OLD_KEY = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")


class ParametersWithoutData(TorchFunctionMode):
    """Inside this context new parameters have a shape but no memory: a look at a model is cheap.

    Unlike ``torch.device("meta")`` it leaves alone the small tensors that some constructors
    compute their widths with.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Send `torch.empty`, which all parameters come from, to the ``meta`` device."""
        chosen = dict(kwargs or {})
        if func is torch.empty:
            chosen["device"] = "meta"
        return func(*args, **chosen)


def construct(model: str, classes: int, *, of_flow: bool = False) -> nn.Module:
    """Build a torchvision model without weights, as it stands once its weights are loaded."""
    from torchvision.models import get_model

    settings: dict[str, Any] = {"num_classes": classes}
    if model in ("googlenet", "inception_v3"):
        # As its weights want it: RGB's ImageNet statistics are exchanged for 0.5 inside.
        settings |= {"transform_input": not of_flow, "aux_logits": False, "init_weights": False}
    net: nn.Module = get_model(model, weights=None, **settings)
    return net


def final_layer(net: nn.Module) -> tuple[str, int]:
    """Return the name of the last dense or convolutional layer, and how many inputs it has."""
    name, layer = [
        (name, module)
        for name, module in net.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d)
    ][-1]
    return name, layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels


def without_final_layer(net: nn.Module) -> nn.Module:
    """Replace the last layer by the identity: the network returns what would have entered it."""
    parent, _, child = final_layer(net)[0].rpartition(".")
    setattr(net.get_submodule(parent), child, nn.Identity())
    return net


def load_checkpoint(net: nn.Module, model: str, state: Mapping[str, Tensor], owner: str) -> None:
    """Put a torchvision checkpoint into a model, whole or without its final layer.

    Auxiliary classifiers are left out, DenseNet's old key names are translated, and weights of
    the final layer are left out where the network has none.

    Raises
    ------
    WeightsError
        Naming every missing, unexpected and misshapen key.
    """
    with ParametersWithoutData():
        last = final_layer(construct(model, classes=1))[0]
    headless = f"{last}.weight" not in net.state_dict()
    wanted = {
        DENSENET_OLD_KEY.sub(r"\1\2", key): tensor
        for key, tensor in state.items()
        if not key.startswith(AUXILIARY) and not (headless and key.startswith(f"{last}."))
    }
    if model.startswith("mnasnet"):
        # MNASNet itself refuses a state without the version number that only pickles carry.
        net = nn.ModuleDict(dict(net.named_children()))
    load_strictly(net, wanted, owner)


def declare_weights(entry: Any) -> Weights:
    """Translate one entry of torchvision's weights lists; its file name holds part of a sha256."""
    file = entry.url.rpartition("/")[2]
    published = PUBLISHED_DIGEST.search(file)
    trained_on = next(iter(entry.meta["_metrics"]))
    return Weights(
        name=entry.name,
        file=file,
        sha256=published[1] if published else "",
        url=entry.url,
        licence=entry.meta.get("license", LICENCE),
        trained_on=trained_on,
        classes=CLASSES.get(trained_on, ""),
    )


def geometry(preset: Any) -> Geometry:
    """Translate the resize and crop of a torchvision preset."""
    resize = preset.resize_size
    rule: Interpolation = preset.interpolation.value
    return Geometry(
        short_side_px=resize[0] if len(resize) == 1 else None,
        size_px=(resize[0], resize[1]) if len(resize) == 2 else None,
        crop_px=preset.crop_size[0],
        centre="round",
        interpolation=rule,
        antialias=getattr(preset, "antialias", False),  # the video preset never does
    )


def normalisation(mean: tuple[float, ...], std: tuple[float, ...]) -> Normalisation:
    """Translate mean and std of values 0..1 to values 0..255."""
    return Normalisation(
        mean=tuple(PIXEL_MAX * value for value in mean),
        std=tuple(PIXEL_MAX * value for value in std),
    )


IMAGENET = normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
IMAGENET_GEOMETRY = Geometry(short_side_px=256, crop_px=224, centre="round", antialias=True)


def imagenet_weights(file: str) -> Weights:
    """Declare torchvision's first ImageNet weights of a model by file name."""
    published = PUBLISHED_DIGEST.search(file)
    return Weights(
        name="IMAGENET1K_V1",
        file=file,
        sha256=published[1] if published else "",
        url=f"https://download.pytorch.org/models/{file}",
        licence=LICENCE,
        trained_on="ImageNet-1K",
        classes="imagenet1k",
    )
