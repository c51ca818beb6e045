"""TV-L1 in PyTorch, batched over pairs, on any device: for GPUs, where no wheel of OpenCV has one.

The same algorithm as the native backend in whole-array operations, about half OpenCV's time on one
CPU core; it is verified there, and its speed on GPUs is unmeasured. Each pair of a batch stops by
itself: a pair that met the stop test is frozen by a mask, and the processor asks the device only
every `ITERATIONS_PER_LOOK` iterations whether any is left, so that its queue never runs dry.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pipeline.errors import UsageError
from pipeline.flow.backends import Field, Gray, check_pair
from pipeline.flow.parameters import Parameters, pyramid_shapes

NUMERICS = "torch-1"
ITERATIONS_PER_LOOK = 10
BATCH_PAIRS = {"cpu": 1, "cuda": 32}
"""Pairs that a stream hands over at once; on a CPU one pair fits the cache best."""
SMALLEST_SQUARE = 1e-12
BORDER = 4
CUBIC_A = -0.75


def numerics() -> str:
    """Return the version of the numbers."""
    return NUMERICS


def open_backend(parameters: Parameters, device: str) -> TorchBackend:
    """Return the batched backend on a torch device; raise `UsageError` if there is none such."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"flow device {device!r} cannot be used: {error}") from error
    return TorchBackend(parameters, device)


class TorchBackend:
    """Batched TV-L1; it keeps no state, so any thread may call it."""

    def __init__(self, parameters: Parameters, device: str) -> None:
        self.parameters = parameters
        self.device = device
        self.batch_pairs = BATCH_PAIRS.get(torch.device(device).type, 1)

    def __call__(self, previous: Gray, following: Gray, /) -> Field:
        """Return ``(H, W, 2)`` float32, pixels per frame, of two ``(H, W)`` uint8 frames."""
        check_pair(previous, following)
        flow: Field = self.batch(previous[np.newaxis], following[np.newaxis])[0]
        return flow

    def batch(self, previous: NDArray[np.uint8], following: NDArray[np.uint8]) -> Field:
        """Return ``(N, H, W, 2)`` float32 of two ``(N, H, W)`` uint8 arrays."""
        with torch.inference_mode():
            first, second = (
                torch.from_numpy(np.array(frames)).to(self.device, torch.float32)
                for frames in (previous, following)
            )
            flow = _solve(first, second, self.parameters).permute(0, 2, 3, 1).cpu()
            result: Field = flow.contiguous().numpy()
            return result


class _State(NamedTuple):
    """Flow N x 2 x H x W; dual over tau / theta, N x 2 (of x, y) x 2 (along x, y) x H x W."""

    flow: Tensor
    dual: Tensor


class _Data(NamedTuple):
    """The linearised data term: gradient N x 2 x H x W, residual and 1 / |gradient|^2 N x H x W."""

    gradient: Tensor
    residual: Tensor
    inverse: Tensor


def _solve(previous: Tensor, following: Tensor, parameters: Parameters) -> Tensor:
    shapes = pyramid_shapes(previous.shape[1], previous.shape[2], parameters)
    shrink = 1 / parameters.scale_step
    firsts, seconds = [previous], [following]
    for shape in shapes[1:]:
        for levels in (firsts, seconds):
            levels.append(_resize(levels[-1], shape, (shrink, shrink)))
    flow = previous.new_zeros(len(previous), 2, *shapes[-1])
    for first, second in zip(reversed(firsts), reversed(seconds), strict=True):
        height, width = first.shape[1:]
        if flow.shape[2:] != first.shape[1:]:
            scale = (flow.shape[2] / height, flow.shape[3] / width)
            flow = _resize(flow, (height, width), scale) * shrink
        flow = _relax(first, second, flow, parameters)
    return flow


def _resize(planes: Tensor, shape: tuple[int, int], scale: tuple[float, float]) -> Tensor:
    """Resize the last two axes bilinearly, as OpenCV does: pixel centres aligned, edges held."""
    for axis, (size, step) in enumerate(zip(shape, scale, strict=True), start=planes.ndim - 2):
        at = (np.arange(size) + 0.5) * step - 0.5
        low = np.floor(at)
        part = np.where((low < 0) | (low >= planes.shape[axis] - 1), 0, at - low)
        ends = (np.clip(low + k, 0, planes.shape[axis] - 1).astype(np.int64) for k in range(2))
        left, right = (planes.index_select(axis, torch.tensor(e).to(planes.device)) for e in ends)
        weights = torch.tensor(part, dtype=planes.dtype).to(planes.device)
        if axis == planes.ndim - 2:
            weights = weights[:, None]
        planes = torch.lerp(left, right, weights)
    return planes


def _relax(first: Tensor, second: Tensor, flow: Tensor, parameters: Parameters) -> Tensor:
    """Solve one level for all pairs."""
    height, width = first.shape[1:]
    threshold = parameters.epsilon**2 * height * width
    padded = functional.pad(second[:, None], (1, 1, 1, 1), mode="replicate")
    images = torch.cat(
        (
            second[:, None],
            (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]) / 2,
            (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]) / 2,
        ),
        dim=1,
    )  # N x 3 x H x W: second frame, its x and its y gradient
    state = _State(flow, flow.new_zeros(len(flow), 2, 2, height, width))
    for _ in range(parameters.warps):
        data = _linearise(images, first, state.flow)
        active = torch.arange(len(flow), device=flow.device)
        for _ in range(parameters.outer_iterations):
            part = _State(*(tensor[active] for tensor in state))
            if parameters.median_px > 1:
                part = part._replace(flow=_median(part.flow))
            chosen = _Data(*(tensor[active] for tensor in data))
            part, error = _iterate(part, chosen, threshold, parameters)
            for whole, piece in zip(state, part, strict=True):
                whole[active] = piece
            active = active[error > threshold]
            if not len(active):
                break
    return state.flow


def _linearise(images: Tensor, first: Tensor, flow: Tensor) -> _Data:
    height, width = first.shape[1:]
    x = torch.arange(width, device=flow.device) + flow[:, 0]
    y = torch.arange(height, device=flow.device)[:, None] + flow[:, 1]
    warped = _sample(images, x.clamp(-3, width + 1), y.clamp(-3, height + 1))
    image, gradient = warped[:, 0], warped[:, 1:]
    residual = image - (gradient * flow).sum(1) - first
    inverse = 1 / (gradient * gradient).sum(1).clamp_min(SMALLEST_SQUARE)
    return _Data(gradient, residual, inverse)


def _sample(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Interpolate N x C x H x W cubically at positions N x H x W; outside is 0.

    Written out because ``grid_sample`` works on normalised positions, whose rounding makes the flow
    of two identical frames differ from zero.
    """
    padded = functional.pad(images, (BORDER,) * 4)
    pitch = padded.shape[3]
    left, top = x.floor(), y.floor()
    corner = (top.long() + BORDER - 1) * pitch + left.long() + BORDER - 1
    across, down = _cubic_weights(x - left), _cubic_weights(y - top)
    flat = padded.flatten(2)
    total = torch.zeros_like(images)
    for row in range(4):
        line = torch.zeros_like(images)
        for column in range(4):
            index = (corner + row * pitch + column).flatten(1)[:, None].expand(-1, 3, -1)
            line += across[column][:, None] * flat.gather(2, index).view_as(images)
        total += down[row][:, None] * line
    return total


def _cubic_weights(t: Tensor) -> list[Tensor]:
    rest, square = 1 - t, t * t
    first = CUBIC_A * (t * (rest * rest))
    second = ((CUBIC_A + 2) * t - (CUBIC_A + 3)) * square + 1
    last = CUBIC_A * (square * rest)
    return [first, second, 1 - first - second - last, last]


def _median(flow: Tensor) -> Tensor:
    """5x5 median with repeated edges."""
    windows = functional.pad(flow, (2, 2, 2, 2), mode="replicate").unfold(2, 5, 1).unfold(3, 5, 1)
    return windows.flatten(4).median(dim=-1).values


def _iterate(
    state: _State, data: _Data, threshold: float, parameters: Parameters
) -> tuple[_State, Tensor]:
    """Iterate; a pair stands still from the iteration at which it met the stop test."""
    flow, dual = state
    bound = parameters.lambda_ * parameters.theta
    ratio = parameters.theta / parameters.tau
    error = flow.new_full((len(flow),), torch.inf)
    look = 1 if flow.device.type == "cpu" else ITERATIONS_PER_LOOK
    for k in range(parameters.inner_iterations):
        running = error > threshold
        if k % look == 0 and not bool(running.any()):
            break
        residual = data.residual + (data.gradient * flow).sum(1)
        change = (-residual * data.inverse).clamp(-bound, bound)
        divergence = dual[:, :, 0] + dual[:, :, 1]
        divergence[..., 1:] -= dual[:, :, 0, :, :-1]
        divergence[..., 1:, :] -= dual[:, :, 1, :-1]
        moved = flow + change[:, None] * data.gradient + parameters.tau * divergence
        gradient = torch.zeros_like(dual)
        gradient[:, :, 0, :, :-1] = moved[..., 1:] - moved[..., :-1]
        gradient[:, :, 1, :-1] = moved[..., 1:, :] - moved[..., :-1, :]
        norm = torch.hypot(gradient[:, :, 0], gradient[:, :, 1])
        turned = (dual + gradient) * (ratio / (norm + ratio))[:, :, None]
        error = torch.where(running, (moved - flow).square().sum((1, 2, 3)), error)
        flow = torch.where(running[:, None, None, None], moved, flow)
        dual = torch.where(running[:, None, None, None, None], turned, dual)
    return _State(flow, dual), error
