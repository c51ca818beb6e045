"""A trained head on a new video: the very recipes it was trained on, made again, then the head.

The checkpoint holds each stream's ``recipe.json``. The extractors are set up from it, and the
digest of the recipe that results must be the one the head was trained on; otherwise the numbers
would be another network's, and the difference is named.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import extractors
from extractors import Geometry, Normalisation, Sampling, Spec
from pipeline import flow
from pipeline.errors import UsageError
from pipeline.heads.checkpoint import Trained
from pipeline.job import Settings, make_recipe
from pipeline.predict import Prediction, joined, video_rows

RANDOM = "random:"


@dataclass(frozen=True, slots=True)
class HeadPrediction:
    """What a head says of a video.

    Attributes
    ----------
    whole : Prediction
        The best classes of the whole stretch; the logit is the logarithm of the probability.
    rows : int
        Rows that the head saw of each stream.
    """

    whole: Prediction
    rows: int


def set_up(
    trained: Trained, settings: Settings, weights: Mapping[str, str]
) -> tuple[list[Spec], Settings]:
    """Return the extractors and settings under which a head was trained.

    Parameters
    ----------
    trained : Trained
        The head with its recipes.
    settings : Settings
        Device, threads and weights folder of this run; the rest comes from the recipes.
    weights : Mapping of str to str
        Weights by extractor, where they are not the default ones.

    Raises
    ------
    UsageError
        When a recipe cannot be made again here; the settings that differ are named.
    """
    try:
        settings = _settings(trained.recipes, settings)
        declared_specs = [
            _spec(extractors.spec(recipe["extractor"]), recipe["settings"]["spec"])
            for recipe in trained.recipes
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"the head's note holds a recipe that no release wrote ({error!r}); train again"
        ) from None
    specs = []
    for recipe, spec in zip(trained.recipes, declared_specs, strict=True):
        name, declared = recipe["extractor"], recipe["settings"]
        if name in weights:
            spec = spec.with_settings({"weights": weights[name]})
        elif declared["weights"].startswith(RANDOM):
            seed = declared["weights"].removeprefix(RANDOM)
            spec = spec.with_settings({"weights": "random", "seed": seed})
        made = make_recipe(spec, settings)
        if made.digest != recipe["digest"]:
            differing = ", ".join(_differences(declared, made.settings)) or "the release"
            raise UsageError(
                f"{name}: this is not the recipe the head was trained on; it differs in "
                f"{differing}. Name the same weights with --set {name}.weights=FILE, or train "
                "the head again on features of this release"
            )
        specs.append(spec)
    return specs, settings


def predict_video(
    video: Path,
    trained: Trained,
    specs: Sequence[Spec],
    settings: Settings,
    stretch_ms: tuple[int, int | None] = (0, None),
    top: int = 5,
) -> HeadPrediction:
    """Run extractors and head over one video.

    Raises
    ------
    SegmentFailure
        When the file cannot be used.
    """
    streams = joined(video_rows(video, specs, settings, stretch_ms).streams)
    probabilities = trained.probabilities(streams)
    order = (-probabilities).argsort(kind="stable")[:top]
    classes = tuple(
        (trained.classes[k], float(probabilities[k]), _logarithm(probabilities[k])) for k in order
    )
    seconds = streams[0].seconds
    whole = Prediction(float(seconds[:, 0].min()), float(seconds[:, 1].max()), classes)
    return HeadPrediction(whole, len(seconds))


def _logarithm(probability: float) -> float:
    return math.log(probability) if probability > 0 else -math.inf


def _spec(spec: Spec, declared: Mapping[str, Any]) -> Spec:
    """Return an extractor's Spec with every declared setting of a recipe."""
    sampling = dict(declared["sampling"])
    fps = sampling["fps"]
    sampling["fps"] = None if fps == "native" else Fraction(fps)
    geometry = dict(declared["geometry"])
    if geometry["size_px"] is not None:
        geometry["size_px"] = tuple(geometry["size_px"])
    normalisation = dict(declared["normalisation"])
    for name in ("mean", "std"):
        normalisation[name] = tuple(normalisation[name])
    return replace(
        spec,
        sampling=Sampling(**sampling),
        geometry=Geometry(**geometry),
        normalisation=Normalisation(**normalisation),
        layer=declared["layer"],
        options=dict(declared["options"]),
        batch_windows=declared["batch_windows"],
    )


def _settings(recipes: Sequence[Mapping[str, Any]], settings: Settings) -> Settings:
    declared = recipes[0]["settings"]
    settings = replace(
        settings,
        decoder=declared["decode"]["decoder"],
        min_coverage=declared["min_coverage"],
        store_dtype=declared["dtype"],
        precision=declared["precision"],
        compile=declared["compile"],
    )
    for recipe in recipes:
        of_flow = recipe["settings"].get("flow")
        if of_flow is not None:
            settings = replace(
                settings,
                flow_backend=of_flow["backend"],
                flow_depth=of_flow["depth"],
                flow_preset=_preset(of_flow["parameters"]),
            )
    return settings


def _preset(parameters: Mapping[str, Any]) -> str:
    for name, known in flow.PRESETS.items():
        if asdict(known) == dict(parameters):
            return name
    raise UsageError(
        "the head was trained on flow whose parameters are no preset of this release; train it "
        "again on features of this release"
    )


def _differences(found: Mapping[str, Any], made: Mapping[str, Any], path: str = "") -> list[str]:
    """Names of the settings in which two recipes differ."""
    names: list[str] = []
    for name in sorted({*found, *made}):
        here, there = found.get(name), made.get(name)
        if isinstance(here, Mapping) and isinstance(there, Mapping):
            names += _differences(here, there, f"{path}{name}.")
        elif _plain(here) != _plain(there):
            names.append(f"{path}{name}")
    return names


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
