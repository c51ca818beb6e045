"""Any classification model of timm (``pip install 'action-features[timm]'``).

``timm:resnet50.a1_in1k`` names architecture and weights as timm does, ``timm:resnet50`` the
architecture with its default weights. Input size, crop fraction, interpolation, mean and std are
read from the weights' own configuration. A row is the pooled vector before the classifier, or the
logits. Weights are the file of their page on the Hugging Face hub, kept under the model's name;
``pipeline weights fetch`` brings it through ``huggingface_hub`` (which knows mirrors and tokens)
and compares it with the sha256 that the hub publishes. Nothing is downloaded while features are
computed.

References
----------
Wightman, PyTorch Image Models, doi:10.5281/zenodo.4414861.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import math
import shutil
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any

from torch import Tensor, nn

from extractors import _weights
from extractors._errors import ExtractorError, WeightsError
from extractors._layers import PerFrame
from extractors._spec import Geometry, Interpolation, Sampling, Spec, Weights
from extractors._torchvision import ParametersWithoutData, normalisation

PREFIX = "timm:"
PAPER = "doi:10.5281/zenodo.4414861"
HUB = "https://huggingface.co/"
IMAGE_FPS = Fraction(5)
IMAGENET_CLASSES = 1000
INTERPOLATIONS: dict[str, Interpolation] = {"bilinear": "bilinear", "bicubic": "bicubic"}


def _timm() -> Any:
    try:
        import timm
    except ImportError as absent:
        raise ExtractorError(
            "timm: models need the timm package, which is not installed; "
            "pip install 'action-features[timm]'"
        ) from absent
    return timm


def _configuration(name: str) -> Any:
    """Return timm's configuration of a model and its weights."""
    timm = _timm()
    model = name.removeprefix(PREFIX)
    known = timm.list_models() + timm.list_pretrained()
    if model not in known:
        near = difflib.get_close_matches(model, known, n=3, cutoff=0.4)
        raise ExtractorError(
            f"timm has no model {model!r}; nearest: {', '.join(PREFIX + n for n in near) or 'none'}"
        )
    return timm.get_pretrained_cfg(model)


def _geometry(name: str, configuration: Any) -> Geometry:
    """Translate timm's evaluation transform: resize to side / fraction, then the centre."""
    channels, height, width = configuration.input_size
    mode, rule = configuration.crop_mode, configuration.interpolation
    if channels != 3 or height != width or mode not in ("center", "squash"):
        raise ExtractorError(
            f"{name}: takes {channels}x{height}x{width} with crop mode {mode!r}; "
            "expected 3 channels, a square and mode 'center' or 'squash'"
        )
    if rule not in INTERPOLATIONS:
        raise ExtractorError(
            f"{name}: interpolation is {rule!r}, expected {' or '.join(INTERPOLATIONS)}"
        )
    resized = math.floor(height / configuration.crop_pct)
    return Geometry(
        short_side_px=resized if mode == "center" else None,
        size_px=(resized, resized) if mode == "squash" else None,
        crop_px=height,
        centre="round",
        interpolation=INTERPOLATIONS[rule],
        antialias=True,
    )


def _published(model: str, configuration: Any) -> tuple[Weights, ...]:
    hub = configuration.hf_hub_id
    if not hub:
        return ()
    file = configuration.hf_hub_filename or "model.safetensors"
    return (
        Weights(
            name=configuration.tag or "default",
            file=f"{model}{PurePosixPath(file).suffix}",
            url=f"{HUB}{hub}/resolve/main/{file}",
            licence=configuration.license or "",
            trained_on=configuration.tag,
            classes="imagenet1k" if configuration.num_classes == IMAGENET_CLASSES else "",
        ),
    )


@functools.lru_cache(maxsize=64)
def resolve(name: str) -> Spec:
    """Return the `Spec` of ``timm:MODEL`` or ``timm:MODEL.WEIGHTS``.

    Raises
    ------
    ExtractorError
        When timm is not installed, has no such model, or prepares its input in a way that has no
        counterpart here.
    """
    configuration = _configuration(name)
    model = name.removeprefix(PREFIX)
    with ParametersWithoutData():
        net = _timm().create_model(model, pretrained=False, num_classes=0)
    return Spec(
        name=name,
        modality="rgb",
        sampling=Sampling(fps=IMAGE_FPS, window=1, stride=1),
        geometry=_geometry(name, configuration),
        normalisation=normalisation(configuration.mean, configuration.std),
        layer="features",
        layers={
            "features": getattr(net, "head_hidden_size", net.num_features),
            "logits": configuration.num_classes,
        },
        weights=_published(model, configuration),
        options={"classes": str(configuration.num_classes)},
        paper=configuration.paper_ids or PAPER,
        summary=f"timm image model, {configuration.tag or 'no published weights'}",
    )


def network(spec: Spec) -> nn.Module:
    """Build the untrained model, without its classifier where rows are features."""
    classes = int(spec.options["classes"]) if spec.layer == "logits" else 0
    model = spec.name.removeprefix(PREFIX)
    return PerFrame(_timm().create_model(model, pretrained=False, num_classes=classes))


def load(net: nn.Module, spec: Spec, state: Mapping[str, Tensor]) -> None:
    """Put a checkpoint in timm's layout into the model."""
    assert isinstance(net, PerFrame)
    classifier = _configuration(spec.name).classifier
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier or ())
    dropped = tuple(f"{head}." for head in heads) if spec.layer == "features" else ()
    wanted = {key: tensor for key, tensor in state.items() if not key.startswith(dropped)}
    _weights.load_strictly(net.net, wanted, spec.name)


def fetch(known: Weights, folder: Path) -> Path:
    """Bring a model's weights from the Hugging Face hub into `folder`.

    Parameters
    ----------
    known : Weights
        As `resolve` declares them.
    folder : Path
        Where the file goes, under ``known.file``; it is made when it is not there.

    Raises
    ------
    WeightsError
        When the hub does not give the file, or gives another than it says.
    """
    try:
        hub: Any = importlib.import_module("huggingface_hub")
    except ImportError as absent:
        raise WeightsError(
            f"{known.file}: huggingface_hub, which timm brings, cannot be imported ({absent}); "
            f"pip install 'action-features[timm]', or put {known.url} into {folder} as {known.file}"
        ) from absent
    page, _, file = known.url.removeprefix(HUB).partition("/resolve/main/")
    try:
        said = hub.get_hf_file_metadata(hub.hf_hub_url(page, file))
        cached = Path(hub.hf_hub_download(page, file, revision=said.commit_hash))
    except Exception as trouble:  # of its own, of the network and of its HTTP library
        raise WeightsError(
            f"{known.file}: huggingface_hub could not bring it from {page} ({trouble}); try again, "
            f"or put {known.url} into {folder} as {known.file}"
        ) from trouble
    if (found := _weights.sha256(cached)) != said.etag:
        raise WeightsError(
            f"{cached}: sha256 is {found}, the hub says {said.etag}; delete it and fetch it again"
        )
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".fetching-{known.file}"
    try:
        shutil.copyfile(cached, unfinished)
        _weights.settle(unfinished, folder / known.file)
    finally:
        unfinished.unlink(missing_ok=True)
    return folder / known.file
