"""Layers that pad as TensorFlow's ``SAME`` does, in two and in three dimensions.

TensorFlow decides the padding from the size it meets: enough zeros that ``ceil(n / stride)``
outputs exist, the smaller half in front. A fixed symmetric padding, as most PyTorch ports have,
gives other numbers wherever the stride is 2 and the size is even, and again where it is odd.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

TF_BATCH_NORM_EPSILON = 1e-3
HAS_ONEDNN: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return how many zeros go before and after one axis of length `size`.

    Examples
    --------
    >>> same_padding(224, kernel=7, stride=2), same_padding(223, kernel=7, stride=2)
    ((2, 3), (3, 3))
    """
    total = max(kernel - (size % stride or stride), 0)
    return total // 2, total - total // 2


def _pads(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> list[tuple[int, int]]:
    return [same_padding(*axis) for axis in zip(x.shape[2:], kernel, stride, strict=True)]


def _flat(pads: Sequence[tuple[int, int]]) -> list[int]:
    """Return paddings as `torch.nn.functional.pad` wants them: last axis first."""
    return [zeros for pair in reversed(pads) for zeros in pair]


def pad_same(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Return `x` (N, C, ...) with the zeros of ``SAME`` padding around it."""
    pads = _pads(x, kernel, stride)
    if not any(after for _, after in pads):
        return x
    return functional.pad(x, _flat(pads))


def _triple(values: Sequence[int]) -> tuple[int, int, int]:
    depth, height, width = values
    return depth, height, width


@torch.library.custom_op("action_features::onednn_conv3d", mutates_args=())
def _onednn_conv3d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    groups: int,
) -> Tensor:
    """Return oneDNN's 3D convolution, its input and output with the channels last in memory."""
    x = x.contiguous(memory_format=torch.channels_last_3d)
    made: Tensor = torch.mkldnn_convolution(x, weight, bias, padding, stride, (1, 1, 1), groups)
    return made


@_onednn_conv3d.register_fake
def _(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    groups: int,
) -> Tensor:
    sides = zip(x.shape[2:], weight.shape[2:], stride, padding, strict=True)
    made = [(size + 2 * zeros - kernel) // step + 1 for size, kernel, step, zeros in sides]
    shape = (x.shape[0], weight.shape[0], *made)
    return x.new_empty(shape).contiguous(memory_format=torch.channels_last_3d)


def convolve(x: Tensor, conv: nn.Conv3d, padding: tuple[int, int, int] = (0, 0, 0)) -> Tensor:
    """Return the 3D convolution of `x` (N, C, T, H, W) with the filters and strides of `conv`.

    On a CPU oneDNN is called by name: torch hands small inputs, when it has one thread, to another
    implementation of a half to a fifth of the speed (measured on I3D's 1x1x1 units), whose results
    lie otherwise in memory, which makes the pooling behind it many times slower in turn.
    """
    stride = _triple(conv.stride)
    if HAS_ONEDNN and x.device.type == "cpu" and x.dtype == torch.float32:
        made: Tensor = _onednn_conv3d(x, conv.weight, conv.bias, stride, padding, conv.groups)
        return made
    return functional.conv3d(x, conv.weight, conv.bias, stride, padding, groups=conv.groups)


class SameConv2d(nn.Conv2d):
    """`torch.nn.Conv2d` with TensorFlow's ``SAME`` padding; its own `padding` stays 0."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', ceil(H / s), ceil(W / s))."""
        x = pad_same(x, self.kernel_size, self.stride)
        return functional.conv2d(x, self.weight, self.bias, self.stride, groups=self.groups)


class SameConv3d(nn.Conv3d):
    """`torch.nn.Conv3d` with TensorFlow's ``SAME`` padding; its own `padding` stays 0.

    Attributes
    ----------
    hold_edges : bool
        Repeat the first and last frame in time instead of padding with black ones.
    """

    hold_edges = False

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T, H, W) to (N, C', ceil(T / s), ceil(H / s), ceil(W / s))."""
        pads = _pads(x, self.kernel_size, self.stride)
        if self.hold_edges and pads[0][1]:
            x = functional.pad(x, [0, 0, 0, 0, *pads[0]], mode="replicate")
            pads[0] = (0, 0)
        if all(before == after for before, after in pads):
            padding = _triple([before for before, _ in pads])
        else:
            x, padding = functional.pad(x, _flat(pads)), (0, 0, 0)
        return convolve(x, self, padding)


class SameMaxPool2d(nn.MaxPool2d):
    """Max-pooling with ``SAME`` padding, whose places never win; sides of 1 to 3 pixels.

    Nothing is copied into a padded picture: of the two places such a window can hang over, the
    front is torch's own padding and the back is its rounding up.
    """

    def __init__(self, kernel: tuple[int, int], stride: tuple[int, int]) -> None:
        super().__init__(kernel, stride)
        self.window, self.step = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, ceil(H / s), ceil(W / s))."""
        front = [before for before, _ in _pads(x, self.window, self.step)]
        return functional.max_pool2d(x, self.window, self.step, front, ceil_mode=True)


class SameMaxPool3d(nn.MaxPool3d):
    """The same in three dimensions."""

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        super().__init__(kernel, stride)
        self.window, self.step = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T, H, W) to (N, C, ceil(T / s), ceil(H / s), ceil(W / s))."""
        front = [before for before, _ in _pads(x, self.window, self.step)]
        return functional.max_pool3d(x, self.window, self.step, front, ceil_mode=True)


class PerFrame(nn.Module):
    """A 2D network over the frames of a window; the window's row is their mean.

    Parameters
    ----------
    net : nn.Module
        Maps (N, C, H, W) to (N, D).
    """

    channels_last = True

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T, H, W) to (N, D)."""
        windows, frames = x.shape[0], x.shape[2]
        rows: Tensor = self.net(x.transpose(1, 2).flatten(0, 1))  # N*T x D
        return rows.view(windows, frames, -1).mean(1)


def fold_batch_norms(net: nn.Module) -> None:
    """Fold every batch normalisation into the convolution before it, in place.

    Looks inside every `nn.Sequential` for a convolution directly followed by a normalisation;
    the network must be in evaluation mode. Outputs move by about 5e-7 relative.
    """
    for module in net.modules():
        if not isinstance(module, nn.Sequential):
            continue
        names = list(module._modules)
        for conv_name, norm_name in pairwise(names):
            conv, norm = module._modules[conv_name], module._modules[norm_name]
            if isinstance(conv, nn.Conv2d | nn.Conv3d) and isinstance(
                norm, nn.BatchNorm2d | nn.BatchNorm3d
            ):
                module._modules[conv_name] = torch.nn.utils.fuse_conv_bn_eval(conv, norm)
                module._modules[norm_name] = nn.Identity()


def unit(
    channels: tuple[int, int],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    *,
    groups: int = 1,
    activation: nn.Module | None = None,
) -> nn.Sequential:
    """Return convolution, batch normalisation and activation as ``conv``, ``norm``, ``act``.

    Two or three dimensions, as `kernel` has; ``SAME`` padding; epsilon 1e-3 as TensorFlow's.
    """
    settings: dict[str, Any] = {"kernel_size": kernel, "stride": stride, "groups": groups}
    flat = len(kernel) == 2
    conv = (SameConv2d if flat else SameConv3d)(*channels, bias=False, **settings)
    norm = (nn.BatchNorm2d if flat else nn.BatchNorm3d)(channels[1], eps=TF_BATCH_NORM_EPSILON)
    layers = nn.Sequential()
    layers.add_module("conv", conv)
    layers.add_module("norm", norm)
    if activation is not None:
        layers.add_module("act", activation)
    return layers
