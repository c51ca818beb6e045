"""Inception-v1 with TensorFlow's padding, flat over pictures or inflated over windows.

GoogLeNet (Szegedy et al., arXiv 1409.4842) with batch normalisation, as TensorFlow-Slim trains it,
and I3D (Carreira & Zisserman, arXiv 1705.07750), which inflates it. One definition serves both,
so that the 3D network and its 2D parent cannot drift apart: only the temporal extents differ.
Convolutions have no bias; normalisation has epsilon 1e-3 and, in the original, no gamma (an inert
gamma of ones is kept, because every PyTorch checkpoint carries one).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from extractors._layers import SameMaxPool2d, SameMaxPool3d, unit

FEATURES = 1024

# branch 0: 1x1 | branch 1: 1x1, 3x3 | branch 2: 1x1, 3x3 | branch 3: 1x1 after a max-pool
Widths = tuple[int, int, int, int, int, int]
MIXED: dict[str, Widths] = {
    "mixed_3b": (64, 96, 128, 16, 32, 32),
    "mixed_3c": (128, 128, 192, 32, 96, 64),
    "mixed_4b": (192, 96, 208, 16, 48, 64),
    "mixed_4c": (160, 112, 224, 24, 64, 64),
    "mixed_4d": (128, 128, 256, 24, 64, 64),
    "mixed_4e": (112, 144, 288, 32, 64, 64),
    "mixed_4f": (256, 160, 320, 32, 128, 128),
    "mixed_5b": (256, 160, 320, 32, 128, 128),
    "mixed_5c": (384, 192, 384, 48, 128, 128),
}
BRANCHES = ("b0", "b1a", "b1b", "b2a", "b2b", "b3")


def unit_names() -> Iterator[str]:
    """Yield the name of each of the 57 units of convolution and normalisation, in order."""
    yield from ("conv1a", "conv2b", "conv2c")
    for block in MIXED:
        yield from (f"{block}.{branch}" for branch in BRANCHES)


def unit_layout(rename: Callable[[str], str], conv: str, norm: Mapping[str, str]) -> dict[str, str]:
    """Return a checkpoint layout's key for each of our keys of the 57 units.

    Parameters
    ----------
    rename : callable
        From our name of a unit to the layout's.
    conv : str
        End of the key of a unit's filters.
    norm : Mapping of str to str
        End of the key of each part of a unit's normalisation that the layout has.
    """
    layout = {}
    for name in unit_names():
        theirs = rename(name)
        layout[f"trunk.{name}.conv.weight"] = theirs + conv
        layout |= {f"trunk.{name}.norm.{part}": theirs + end for part, end in norm.items()}
    return layout


def _extent(frames: int, side: int, flat: bool) -> tuple[int, ...]:
    return (side, side) if flat else (frames, side, side)


def _conv(channels: tuple[int, int], side: int, stride: int, flat: bool) -> nn.Sequential:
    return unit(
        channels,
        _extent(side, side, flat),
        _extent(stride, stride, flat),
        activation=nn.ReLU(inplace=True),
    )


def _pool(extent: tuple[int, int], stride: tuple[int, int], flat: bool) -> nn.Module:
    """Max-pool of (frames, side), which a flat network pools over its side alone."""
    if flat:
        return SameMaxPool2d((extent[1],) * 2, (stride[1],) * 2)
    return SameMaxPool3d((extent[0], extent[1], extent[1]), (stride[0], stride[1], stride[1]))


class Mixed(nn.Module):
    """Four branches side by side, concatenated over channels."""

    def __init__(self, channels: int, widths: Widths, flat: bool) -> None:
        super().__init__()
        b0, b1a, b1b, b2a, b2b, b3 = widths
        self.b0 = _conv((channels, b0), 1, 1, flat)
        self.b1a = _conv((channels, b1a), 1, 1, flat)
        self.b1b = _conv((b1a, b1b), 3, 1, flat)
        self.b2a = _conv((channels, b2a), 1, 1, flat)
        self.b2b = _conv((b2a, b2b), 3, 1, flat)
        self.pool = _pool((3, 3), (1, 1), flat)
        self.b3 = _conv((channels, b3), 1, 1, flat)
        self.channels = b0 + b1b + b2b + b3

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, ...) to (N, C', ...) of the same extent."""
        parts = [
            self.b0(x),
            self.b1b(self.b1a(x)),
            self.b2b(self.b2a(x)),
            self.b3(self.pool(x)),
        ]
        return torch.cat(parts, dim=1)


class Trunk(nn.Sequential):
    """Everything before the average pool; extents in the comments are of 64 frames of 224x224.

    Parameters
    ----------
    input_channels : int
        3 for RGB, 2 for flow.
    flat : bool
        Over pictures (N, C, H, W) instead of windows (N, C, T, H, W).
    """

    def __init__(self, input_channels: int, flat: bool = False) -> None:
        super().__init__()
        self._flat = flat
        self._width = input_channels
        self._add_conv("conv1a", 64, 7, 2)  # N x 64 x 32 x 112 x 112
        self.add_module("pool2a", _pool((1, 3), (1, 2), flat))  # N x 64 x 32 x 56 x 56
        self._add_conv("conv2b", 64, 1, 1)  # N x 64 x 32 x 56 x 56
        self._add_conv("conv2c", 192, 3, 1)  # N x 192 x 32 x 56 x 56
        self.add_module("pool3a", _pool((1, 3), (1, 2), flat))  # N x 192 x 32 x 28 x 28
        self._add_mixed("3b", "3c")  # N x 480 x 32 x 28 x 28
        self.add_module("pool4a", _pool((3, 3), (2, 2), flat))  # N x 480 x 16 x 14 x 14
        self._add_mixed("4b", "4c", "4d", "4e", "4f")  # N x 832 x 16 x 14 x 14
        self.add_module("pool5a", _pool((2, 2), (2, 2), flat))  # N x 832 x 8 x 7 x 7
        self._add_mixed("5b", "5c")  # N x 1024 x 8 x 7 x 7

    def _add_conv(self, name: str, width: int, side: int, stride: int) -> None:
        self.add_module(name, _conv((self._width, width), side, stride, self._flat))
        self._width = width

    def _add_mixed(self, *names: str) -> None:
        for name in names:
            block = Mixed(self._width, MIXED[f"mixed_{name}"], self._flat)
            self.add_module(f"mixed_{name}", block)
            self._width = block.channels
