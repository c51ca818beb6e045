"""Names of the classes behind a network's logits, where they are known."""

from __future__ import annotations

from pathlib import Path

from extractors import _weights
from extractors._errors import WeightsError
from extractors._spec import Spec

LABELS = ".labels.txt"


def names(spec: Spec, weights_dir: Path | None = None) -> tuple[str, ...] | None:
    """Return the class names of the logits of `spec`, or None.

    Of weights given by a path, a file of that name with ``.labels.txt`` added (one name a line)
    says them. Otherwise ``<classes>.labels.txt`` in the weights folder does, where ``<classes>`` is
    what the first known weights were trained on; torchvision's metadata knows ImageNet-1k and
    Kinetics-400. Random weights have no classes.

    Raises
    ------
    WeightsError
        When the file beside the weights cannot be read or has another number of names than the
        network has logits.
    """
    if spec.layer != "logits" or spec.weights_choice == _weights.RANDOM:
        return None
    chosen = _weights.chosen(spec)
    if isinstance(chosen, Path):
        beside = chosen.with_name(chosen.name + LABELS)
        if beside.is_file():
            return _fitting(beside, spec)
        chosen = spec.weights[0] if spec.weights else None
    if chosen is None or not chosen.classes:
        return None
    file = (weights_dir or _weights.default_folder()) / f"{chosen.classes}{LABELS}"
    found = _lines(file) if file.is_file() else _of_torchvision(chosen.classes)
    return found if len(found) == spec.dim else None


def _fitting(file: Path, spec: Spec) -> tuple[str, ...]:
    found = _lines(file)
    if len(found) != spec.dim:
        raise WeightsError(
            f"{file}: has {len(found)} names, {spec.name} has {spec.dim} logits; give one name a "
            f"line, or say --set {spec.name}.classes={len(found)} if the weights have so many"
        )
    return found


def _lines(file: Path) -> tuple[str, ...]:
    """Return a file's lines; every one is a name, blank ones may only end it."""
    try:
        found = file.read_text(encoding="utf-8-sig").rstrip().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{file}: cannot be read as UTF-8 text ({error})") from error
    for number, name in enumerate(found, start=1):
        if not name.strip() or not name.strip().isprintable():
            raise WeightsError(f"{file}:{number}: found {name!r}, expected the name of a class")
    return tuple(name.strip() for name in found)


def _of_torchvision(classes: str) -> tuple[str, ...]:
    if classes == "imagenet1k":
        from torchvision.models import ResNet18_Weights

        return tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])
    if classes == "kinetics400":
        from torchvision.models.video import R3D_18_Weights

        return tuple(R3D_18_Weights.KINETICS400_V1.meta["categories"])
    return ()
