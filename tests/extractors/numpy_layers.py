"""Layers in float64 NumPy, written from their definitions and sharing nothing with torch."""

import math

import numpy as np


def convolve(x, weight, bias, stride, padding):
    """Correlate (C, H, W) with (O, C, k, k)."""
    x = np.pad(x.astype(np.float64), ((0, 0), (padding, padding), (padding, padding)))
    side = weight.shape[-1]
    patches = np.lib.stride_tricks.sliding_window_view(x, (side, side), axis=(1, 2))
    patches = patches[:, ::stride, ::stride]
    rows = patches.transpose(1, 2, 0, 3, 4).reshape(-1, weight[0].size)
    out = rows @ weight.astype(np.float64).reshape(len(weight), -1).T + bias
    return out.T.reshape(len(weight), patches.shape[1], patches.shape[2])


def rectify(x):
    return np.maximum(x, 0)


def normalise_across_channels(x, k, n, alpha, beta):
    """Krizhevsky 2012, section 3.3: the sum runs over n channels around each one."""
    out = np.empty_like(x)
    for channel in range(len(x)):
        low, high = max(0, channel - n // 2), min(len(x) - 1, channel + n // 2)
        energy = (x[low : high + 1] ** 2).sum(axis=0)
        out[channel] = x[channel] / (k + alpha * energy) ** beta
    return out


def pool(x, side, stride, rounds_up):
    """Take the maximum over windows, those over the border cut off where sizes round up."""
    round_ = math.ceil if rounds_up else math.floor
    height, width = (round_((n - side) / stride) + 1 for n in x.shape[1:])
    out = np.empty((len(x), height, width))
    for i in range(height):
        for j in range(width):
            top, left = i * stride, j * stride
            out[:, i, j] = x[:, top : top + side, left : left + side].max(axis=(1, 2))
    return out


def dense(x, weight, bias):
    return weight.astype(np.float64) @ x + bias


def relative_error(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()
