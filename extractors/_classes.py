"""Names of the classes behind a network's logits, where they are known."""

from __future__ import annotations

from pathlib import Path

from extractors import _weights
from extractors._spec import Spec

LABELS = "{classes}.labels.txt"


def names(spec: Spec, weights_dir: Path | None = None) -> tuple[str, ...] | None:
    """Return the class names of the logits of `spec`, or None.

    A file ``<classes>.labels.txt`` in the weights folder, one name a line, comes first;
    torchvision's metadata knows ImageNet-1k and Kinetics-400. Random weights have no classes,
    and weights given by a path have those of the first known weights if the count fits.
    """
    if spec.layer != "logits" or spec.weights_choice == _weights.RANDOM or not spec.weights:
        return None
    known = {w.name: w for w in spec.weights}.get(spec.weights_choice, spec.weights[0])
    file = (weights_dir or _weights.default_folder()) / LABELS.format(classes=known.classes)
    if known.classes and file.is_file():
        found = tuple(file.read_text(encoding="utf-8").splitlines())
    elif known.classes in ("imagenet1k", "kinetics400"):
        found = _of_torchvision(known.classes)
    else:
        return None
    return found if len(found) == spec.dim else None


def _of_torchvision(classes: str) -> tuple[str, ...]:
    if classes == "imagenet1k":
        from torchvision.models import ResNet18_Weights

        return tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])
    from torchvision.models.video import R3D_18_Weights

    return tuple(R3D_18_Weights.KINETICS400_V1.meta["categories"])
