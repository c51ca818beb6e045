"""Layers over (C, T, H, W) in float64 NumPy, from their definitions; nothing shared with torch."""

from itertools import product
from math import ceil

import numpy as np


def tensorflow_same(size, kernel, stride):
    """Pad so that ceil(size / stride) outputs exist, the odd zero behind (TensorFlow's SAME)."""
    needed = max((ceil(size / stride) - 1) * stride + kernel - size, 0)
    return needed // 2, needed - needed // 2


def pad(x, pads, mode="constant"):
    return np.pad(x, ((0, 0), *pads), mode=mode)


def convolve(x, weight, stride, pads, groups=1):
    """Correlate (C, T, H, W) with (O, C / groups, t, h, w), one kernel position at a time."""
    x = pad(x.astype(np.float64), pads)
    weight = weight.astype(np.float64)
    kernel = weight.shape[2:]
    out_sizes = [(n - k) // s + 1 for n, k, s in zip(x.shape[1:], kernel, stride, strict=True)]
    out = np.zeros((len(weight), *out_sizes))
    width_in, width_out = len(x) // groups, len(weight) // groups
    for offset in product(*map(range, kernel)):
        cut = tuple(
            slice(o, o + (n - 1) * s + 1, s)
            for o, n, s in zip(offset, out_sizes, stride, strict=True)
        )
        seen = x[(slice(None), *cut)]
        for g in range(groups):
            rows = slice(g * width_out, (g + 1) * width_out)
            columns = slice(g * width_in, (g + 1) * width_in)
            out[rows] += np.tensordot(weight[(rows, slice(None), *offset)], seen[columns], 1)
    return out


def depthwise(x, weight, stride, pads, mode=("constant",) * 3):
    """Filter each channel by itself: weight (C, 1, t, h, w)."""
    for axis, (before_after, how) in enumerate(zip(pads, mode, strict=True)):
        only = [(0, 0)] * 3
        only[axis] = before_after
        x = pad(x.astype(np.float64), only, "edge" if how == "edge" else "constant")
    kernel = weight.shape[2:]
    out = 0.0
    for offset in product(*map(range, kernel)):
        cut = tuple(
            slice(o, n - k + o + 1, s)
            for o, n, k, s in zip(offset, x.shape[1:], kernel, stride, strict=True)
        )
        taps = weight[(slice(None), 0, *offset)].astype(np.float64)
        out = out + taps[:, None, None, None] * x[(slice(None), *cut)]
    return out


def same(x, kernel, stride):
    return [tensorflow_same(*axis) for axis in zip(x.shape[1:], kernel, stride, strict=True)]


def batch_norm(x, state, name, epsilon):
    """Normalise with the moving statistics; gamma and beta as stored."""
    gamma, beta, mean, variance = (
        state[f"{name}.{part}"].astype(np.float64)[:, None, None, None]
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - mean) / np.sqrt(variance + epsilon) * gamma + beta


def max_pool(x, kernel, stride, pads, filling):
    """Take the maximum over windows of an input padded with `filling`."""
    x = np.pad(x, ((0, 0), *pads), constant_values=filling)
    sizes = [(n - k) // s + 1 for n, k, s in zip(x.shape[1:], kernel, stride, strict=True)]
    out = np.full((len(x), *sizes), -np.inf)
    for offset in product(*map(range, kernel)):
        cut = tuple(
            slice(o, o + (n - 1) * s + 1, s) for o, n, s in zip(offset, sizes, stride, strict=True)
        )
        out = np.maximum(out, x[(slice(None), *cut)])
    return out


def relative_error(found, expected):
    return float(np.abs(np.asarray(found) - expected).max() / np.abs(expected).max())
