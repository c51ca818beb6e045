"""What a `Spec` is made of: sampling, geometry, normalisation, weights."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

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
