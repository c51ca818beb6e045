"""Remake ``extractors.json``: rows of seeded random weights on seeded windows.

Run from the checkout, ``python -m tests.golden.regenerate_extractors``, after a change that is
meant to move numbers, and say in the commit why they moved. Stored are the first values, mean and
standard deviation of one row; networks and windows are small in space so that this stays quick.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import extractors
from extractors import Geometry

STORED = Path(__file__).with_name("extractors.json")
FIRST = 6
SMALL = Geometry(short_side_px=72, crop_px=64)

# name and settings: one of each machinery; C3D keeps its size, which its dense layers fix
CASES = {
    "efficientnet-lite0": {"weights": "random"},
    "efficientnet-lite0 imagenet": {},
    "efficientnet-lite0-flow imagenet": {},
    "efficientnet-lite0-inflated imagenet": {},
    "inception-v1": {"weights": "random"},
    "i3d-rgb": {"weights": "random", "window": "16"},
    "i3d-flow": {"weights": "random", "window": "16"},
}


def spec_of(case):
    spec = extractors.spec(case.partition(" ")[0]).with_settings({**CASES[case], "batch": "1"})
    return replace(spec, geometry=SMALL)


def window(spec, seed=11):
    """Smooth pictures, or smooth flow, that move: what networks meet, made without a file."""
    generator = np.random.default_rng(seed)
    height, width = spec.geometry.resized(72, 90)
    channels = 3 if spec.modality == "rgb" else 2
    waves = generator.uniform(0.02, 0.3, (channels, 3))
    t, y, x = np.meshgrid(
        np.arange(spec.sampling.window), np.arange(height), np.arange(width), indexing="ij"
    )
    smooth = np.stack([np.sin(a * t + b * y + c * x) for a, b, c in waves], axis=-1)
    if spec.modality == "rgb":
        return list(np.round(127.5 + 127.5 * smooth).astype(np.uint8))
    return list((8 * smooth).astype(np.float32))


def row_of(case):
    spec = spec_of(case)
    return extractors.build(spec)([window(spec)])[0, 0].astype(np.float64)


def summary(row):
    numbers = {"first": row[:FIRST].tolist(), "mean": row.mean(), "std": row.std()}
    return {key: np.round(value, 7).tolist() for key, value in numbers.items()}


def main():
    torch.set_num_threads(1)
    STORED.write_text(json.dumps({case: summary(row_of(case)) for case in CASES}, indent=1) + "\n")


if __name__ == "__main__":
    main()
