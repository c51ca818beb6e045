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
from typing import Any, Literal, get_args

from extractors._errors import ExtractorError

Modality = Literal["rgb", "flow"]
Mode = Literal["dense", "centred", "whole", "uniform"]
Tail = Literal["drop", "repeat-last", "loop", "re-anchor", "error"]
Short = Literal["loop", "fail"]
Resample = Literal["nearest", "hold"]
Interpolation = Literal["bilinear", "bicubic", "area", "nearest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Which frames make a window; counts are of RGB frames, or of flow frames for flow.

    Attributes
    ----------
    fps : Fraction or None
        Sampling rate; None takes every decoded frame.
    mode : {"dense", "centred", "whole", "uniform"}
        ``dense``: a window every `stride` frames. ``centred``: the same, but frame 0, `stride`,
        ... is each window's middle and edges repeat. ``whole``: the segment is one window.
        ``uniform``: `count` windows spread evenly over the segment.
    window, stride : int
        Frames of a window, and from one window's start to the next.
    count : int
        Windows per segment in ``uniform`` mode.
    tail : {"drop", "repeat-last", "loop", "re-anchor", "error"}
        What becomes of a last window that is not full.
    short : {"loop", "fail"}
        What becomes of a segment shorter than one window.
    resample : {"nearest", "hold"}
        The frame nearest to a sample time, or the last one not after it.
    """

    fps: Fraction | None
    window: int
    stride: int
    mode: Mode = "dense"
    count: int = 0
    tail: Tail = "drop"
    short: Short = "loop"
    resample: Resample = "nearest"

    def __post_init__(self) -> None:
        if self.window < 1 or self.stride < 1:
            raise ExtractorError(
                f"window is {self.window} and stride {self.stride}; both must be at least 1"
            )
        if self.fps is not None and self.fps <= 0:
            raise ExtractorError(f"fps is {self.fps}; it must be positive, or 'native'")
        if self.mode == "uniform" and self.count < 1:
            raise ExtractorError("mode uniform needs a count, as in mode=uniform:25")


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """From the upright picture to what the network sees: resize, then crop.

    Attributes
    ----------
    short_side_px : int or None
        Resize so that the shorter side has this length, keeping the aspect.
    size_px : (int, int) or None
        Resize to (height, width), ignoring the aspect; exactly one of the two is given.
    crop_px : int or None
        Side of the square crop; None takes the whole resized picture.
    crops : {1, 3, 10}
        1: centre. 3: along the longer side. 10: corners and centre, and their mirror images.
    keep_crops : bool
        Each crop makes a row of its own; otherwise a window's row is the mean over its crops.
    centre : {"floor", "round"}
        Where an odd margin goes: the smaller half in front (Caffe, TensorFlow), or rounded half
        to even (torchvision).
    interpolation, antialias
        Rule of the resize, as the network's authors did it.
    """

    short_side_px: int | None = None
    size_px: tuple[int, int] | None = None
    crop_px: int | None = None
    crops: Literal[1, 3, 10] = 1
    keep_crops: bool = False
    centre: Literal["floor", "round"] = "floor"
    interpolation: Interpolation = "bilinear"
    antialias: bool = False

    def __post_init__(self) -> None:
        if (self.short_side_px is None) == (self.size_px is None):
            raise ExtractorError("a geometry has either short_side_px or size_px")
        if self.crops != 1 and self.crop_px is None:
            raise ExtractorError(f"crops is {self.crops}, but this network sees the whole picture")

    def resized(self, height_px: int, width_px: int) -> tuple[int, int]:
        """(height, width) after the resize; the longer side is rounded down, as torchvision.

        Examples
        --------
        >>> Geometry(short_side_px=256).resized(720, 1280)
        (256, 455)
        """
        if self.size_px is not None:
            return self.size_px
        assert self.short_side_px is not None
        if height_px <= width_px:
            return self.short_side_px, max(1, self.short_side_px * width_px // height_px)
        return max(1, self.short_side_px * height_px // width_px), self.short_side_px


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalisation:
    """``(x - mean) / std`` per channel; RGB ``x`` is 0..255, flow ``x`` is px per frame.

    Attributes
    ----------
    channels : {"rgb", "bgr"}
        Order in which an RGB network wants them; flow is always dx, dy.
    mean, std : tuple of float
        One value, or one per channel, in the units of ``x``.
    subtract_mean_flow : bool
        Take each flow frame's mean displacement away first (Simonyan & Zisserman 2014).
    """

    channels: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    subtract_mean_flow: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A weights file: how it is recognised, where it comes from, and whose it is.

    Attributes
    ----------
    name : str
        What ``--set NAME.weights=`` calls it.
    file : str
        File name that is looked for in the weights folder, or inside `package`.
    package : str
        Installed package that brings the file; empty when it is downloaded.
    sha256, git_blob_sha1 : str
        Known digests, or their first characters where no more is published; empty when unknown.
    url, licence, trained_on : str
        Where it is published, under which terms, and on what it was trained.
    classes : str
        Which class names its logits have: ``imagenet1k``, ``kinetics400``, ``sports1m`` or empty.
    """

    name: str
    file: str = ""
    package: str = ""
    sha256: str = ""
    git_blob_sha1: str = ""
    url: str = ""
    licence: str = ""
    trained_on: str = ""
    classes: str = ""


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

    def __reduce__(self) -> tuple[Any, ...]:
        plain = {name: getattr(self, name) for name in self.__slots__}
        for name in ("layers", "options", "presets"):
            plain[name] = {key: value for key, value in plain[name].items()}
        return _restore, (plain,)

    @property
    def dim(self) -> int:
        """D, the length of one row; logits follow the family's ``classes`` option."""
        if self.layer == "logits" and "classes" in self.options:
            return _integer(self, "classes", self.options["classes"])
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

        The choice of weights and the seed are not here: their digest stands for them.
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
            "options": dict(self.options),
            "flow_stack": self.flow_stack,
            "batch_windows": self.batch_windows,
        }


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
