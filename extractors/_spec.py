"""One extractor as one frozen value: what it looks at, how, through which layer, and whose it is.

A `Spec` stands beside its network in the family's own file and says everything that decides the
numbers except the weights' bytes, which `extractors._weights` digests. ``with_settings`` gives the
variant that ``--set NAME.key=value`` asks for; there is no other way to change one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from types import MappingProxyType
from typing import Any, get_args

from extractors._errors import ExtractorError
from extractors._parts import (
    Geometry,
    Interpolation,
    Modality,
    Mode,
    Normalisation,
    Resample,
    Sampling,
    Short,
    Tail,
    Weights,
)

MOST_WINDOWS = 4096  # of one network call
MOST_CLASSES = 1_000_000
LARGEST_SEED = 2**63 - 1

__all__ = [
    "Geometry",
    "Interpolation",
    "Modality",
    "Mode",
    "Normalisation",
    "Resample",
    "Sampling",
    "Short",
    "Spec",
    "Tail",
    "Weights",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A frozen network with its preprocessing, sampling protocol and weights.

    Attributes
    ----------
    name : str
        Name on the command line; its module is the part before the first ``-`` or ``:``, or
        whichever public module offers it.
    modality : {"rgb", "flow"}
        What a window holds.
    sampling, geometry, normalisation
        See those classes.
    layer : str
        Which activations become rows.
    layers : Mapping of str to int
        Every layer that can be asked for, with its dimension D.
    weights : tuple of Weights
        Known files, the default first; empty when only ``random`` or a path can serve.
    weights_choice : str
        Name or path of the weights in force, or ``random``.
    seed : int
        Seed of ``random`` weights.
    options : Mapping of str to str
        Settings of this family alone (declared with their defaults).
    file_options : Mapping of str to tuple of str
        Those options that take a file, with their words; any other value is a path, for which the
        last word stands in a recipe (the file's own digest is part of that of the weights).
    presets : Mapping of str to Mapping
        Named bundles of settings, as ``--set NAME.preset=16/8``.
    flow_stack : bool
        True when the flow frames of a window are stacked as channels x1, y1, x2, y2, ...
    batch_windows : int
        Windows of one network call; fixed, because another batch size moves the last bits.
    paper, summary : str
        Reference (arXiv id or DOI) and one line for lists.
    """

    name: str
    modality: Modality
    sampling: Sampling
    geometry: Geometry
    normalisation: Normalisation
    layer: str
    layers: Mapping[str, int]
    weights: tuple[Weights, ...] = ()
    weights_choice: str = ""
    seed: int = 0
    options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    file_options: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    presets: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: MappingProxyType({}))
    flow_stack: bool = False
    batch_windows: int = 8
    paper: str = ""
    summary: str = ""

    def __post_init__(self) -> None:
        if self.layer not in self.layers:
            raise ExtractorError(
                f"{self.name}: layer is {self.layer!r}, expected one of {', '.join(self.layers)}"
            )
        for key, value, least, most in (
            ("batch", self.batch_windows, 1, MOST_WINDOWS),
            ("seed", self.seed, 0, LARGEST_SEED),
            (
                "classes",
                _integer(self, "classes", self.options.get("classes", "1")),
                1,
                MOST_CLASSES,
            ),
        ):
            if not least <= value <= most:
                raise ExtractorError(f"{self.name}.{key} is {value}, expected {least} to {most}")

    def __reduce__(self) -> tuple[Any, ...]:
        plain = {name: getattr(self, name) for name in self.__slots__}
        for name in ("layers", "options", "file_options", "presets"):
            plain[name] = {key: value for key, value in plain[name].items()}
        return _restore, (plain,)

    @property
    def dim(self) -> int:
        """D, the length of one row; logits follow the family's ``classes`` option."""
        if self.layer == "logits" and "classes" in self.options:
            return int(self.options["classes"])
        return self.layers[self.layer]

    def with_settings(self, settings: Mapping[str, str]) -> Spec:
        """Return the variant that ``--set NAME.key=value`` pairs ask for.

        Parameters
        ----------
        settings : Mapping of str to str
            ``preset``, ``fps`` (a number, ``30000/1001`` or ``native``), ``window``, ``stride``,
            ``mode`` (``dense``, ``centred``, ``whole``, ``uniform:N``), ``tail``, ``short``,
            ``resample``, ``crops`` (``1``, ``3``, ``10``, ``10:kept``), ``layer``,
            ``weights``, ``seed``, ``batch``, or a key of this family's `options`.

        Raises
        ------
        ExtractorError
            On an unknown key or a value outside its choices.
        """
        spec = self
        settings = dict(settings)
        if "preset" in settings:
            chosen = settings.pop("preset")
            if chosen not in self.presets:
                raise ExtractorError(
                    f"{self.name}: preset is {chosen!r}, expected one of "
                    f"{', '.join(self.presets) or '(this extractor has none)'}"
                )
            settings = {**self.presets[chosen], **settings}
        for key, value in settings.items():
            spec = _apply(spec, key, value)
        return spec

    def declared(self) -> dict[str, Any]:
        """Return every declared setting that can change a number, as plain JSON values.

        The choice of weights and the seed are not here: their digest stands for them, and for the
        files of `file_options`, so the same bytes at another path are the same recipe.
        """
        sampling = asdict(self.sampling)
        sampling["fps"] = "native" if self.sampling.fps is None else str(self.sampling.fps)
        return {
            "name": self.name,
            "modality": self.modality,
            "sampling": sampling,
            "geometry": asdict(self.geometry),
            "normalisation": asdict(self.normalisation),
            "layer": self.layer,
            "dim": self.dim,
            "options": {key: self._declared_option(key) for key in self.options},
            "flow_stack": self.flow_stack,
            "batch_windows": self.batch_windows,
        }

    def _declared_option(self, key: str) -> str:
        value = self.options[key]
        words = self.file_options.get(key, (value,))
        return value if value in words else words[-1]


def _restore(plain: dict[str, Any]) -> Spec:
    return Spec(**plain)


def _choice(spec: Spec, key: str, value: str, allowed: tuple[Any, ...]) -> Any:
    for option in allowed:
        if str(option) == value:
            return option
    raise ExtractorError(
        f"{spec.name}.{key} is {value!r}, expected one of {', '.join(map(str, allowed))}"
    )


def _integer(spec: Spec, key: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise ExtractorError(f"{spec.name}.{key} is {value!r}, expected a whole number") from None


def _fps(spec: Spec, value: str) -> Fraction | None:
    if value == "native":
        return None
    try:
        return Fraction(value)
    except (ValueError, ZeroDivisionError):
        raise ExtractorError(
            f"{spec.name}.fps is {value!r}, expected a number, a ratio like 30000/1001, or 'native'"
        ) from None


def _mode(spec: Spec, value: str) -> Sampling:
    name, _, count = value.partition(":")
    mode = _choice(spec, "mode", name, get_args(Mode))
    if count and mode != "uniform":
        raise ExtractorError(f"{spec.name}.mode is {value!r}, but only uniform takes a number")
    return replace(spec.sampling, mode=mode, count=_integer(spec, "mode", count) if count else 0)


def _crops(spec: Spec, value: str) -> Geometry:
    number, _, kept = value.partition(":")
    if kept:
        _choice(spec, "crops", kept, ("kept",))
    crops = _choice(spec, "crops", number, (1, 3, 10))
    return replace(spec.geometry, crops=crops, keep_crops=bool(kept))


def _apply(spec: Spec, key: str, value: str) -> Spec:
    """Return `spec` with one setting changed."""
    choices = {"tail": get_args(Tail), "short": get_args(Short), "resample": get_args(Resample)}
    change: dict[str, Any]
    if key in ("window", "stride"):
        number = _integer(spec, key, value)
        change = {"sampling": _changed(spec.sampling, key, number)}
    elif key in choices:
        change = {"sampling": _changed(spec.sampling, key, _choice(spec, key, value, choices[key]))}
    elif key == "fps":
        change = {"sampling": replace(spec.sampling, fps=_fps(spec, value))}
    elif key == "mode":
        change = {"sampling": _mode(spec, value)}
    elif key == "crops":
        change = {"geometry": _crops(spec, value)}
    elif key == "layer":
        change = {"layer": _choice(spec, key, value, tuple(spec.layers))}
    elif key == "weights":
        change = {"weights_choice": value}
    elif key in ("seed", "batch"):
        change = {"batch_windows" if key == "batch" else key: _integer(spec, key, value)}
    elif key in spec.options:
        change = {"options": {**spec.options, key: value}}
    else:
        known = ["preset", "fps", "mode", "window", "stride", *choices, "crops", "layer"]
        raise ExtractorError(
            f"{spec.name} has no setting {key!r}, expected one of "
            f"{', '.join([*known, 'weights', 'seed', 'batch', *spec.options])}"
        )
    return replace(spec, **change)


def _changed(sampling: Sampling, key: str, value: Any) -> Sampling:
    change: dict[str, Any] = {key: value}
    return replace(sampling, **change)
