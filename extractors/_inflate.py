"""Inflation: a 2D network's filters repeated over time (Carreira & Zisserman, arXiv 1705.07750).

A filter repeated over T frames and divided by T answers to a video constant in time as its 2D
parent answers to the picture (away from temporal borders that are padded with zeros), so a 3D
network can start from ImageNet weights.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from extractors._errors import WeightsError


def inflate(filters: Tensor, frames: int) -> Tensor:
    """Return 2D filters (O, I, h, w) repeated over time and divided: (O, I, frames, h, w).

    Examples
    --------
    >>> import torch
    >>> inflate(torch.ones(1, 1, 1, 1), 4).flatten().tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    return filters.unsqueeze(2).repeat(1, 1, frames, 1, 1) / frames


def inflate_state(state: Mapping[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """Return the 2D tensors as a 3D network of the same keys wants them.

    Parameters
    ----------
    state : Mapping of str to Tensor
        State dict of the 2D parent.
    net : nn.Module
        The 3D network; how many frames a filter spans is read from its tensors.

    Raises
    ------
    WeightsError
        When a filter of the parent differs from the network's in more than its frames.
    """
    own = net.state_dict()
    inflated = {}
    for key, tensor in state.items():
        wanted = own.get(key)
        if wanted is not None and wanted.ndim == tensor.ndim + 1 == 5:
            tensor = inflate(tensor, wanted.shape[2])
            if tensor.shape != wanted.shape:
                raise WeightsError(
                    f"{key}: inflated it is {tuple(tensor.shape)}, expected {tuple(wanted.shape)}"
                )
        inflated[key] = tensor
    return inflated


def across_modalities(filters: Tensor, channels: int) -> Tensor:
    """Return first-layer filters (O, 3, ...) as their mean repeated over `channels`.

    Cross-modality initialisation of Wang et al., arXiv 1608.00859.
    """
    repeats = [1, channels] + [1] * (filters.ndim - 2)
    return filters.mean(dim=1, keepdim=True).repeat(repeats)
