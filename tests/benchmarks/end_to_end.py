"""Two-stream I3D features of one video, the whole way: this pipeline against the usual scripts.

    python -m tests.benchmarks.end_to_end [--video FILE] [--seconds 4] [--rounds 1] [--compile]

The usual chain is what people glue together today: decord decodes at 25 fps, OpenCV resizes and
computes TV-L1 on grey frames, a plain I3D (as the public PyTorch ports are) takes every window of
64 frames by itself, h5py writes a dataset a video. Ours is ``pipeline extract --workers 0`` for
both streams. Both start from the file, with one thread each, networks already built (random
weights: their values cost nothing). Given are the seconds of each part, and the ratios for steps of
8 and of 64 frames; the flows of both ways differ as TV-L1 of two makers does, the rest is the same.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import decord
import h5py
import numpy as np
import torch

import extractors
from extractors import Spec
from manifests import Segment
from pipeline import flow
from pipeline.cluster import open_pool
from pipeline.job import Batch, Item, Job, Settings, Target, make_recipe
from pipeline.pool import ClusterSpec
from pipeline.sources import SourceOptions, Sources
from pipeline.store import FeatureStore, RecipeShards, Store
from pipeline.work import extract_batch
from tests.benchmarks.engine import FPS, finish, make_video
from tests.benchmarks.extractors_inference import Plain, as_ported

STREAMS = ("i3d-rgb", "i3d-flow")
SHORT_SIDE_PX, CROP_PX = 256, 224
CLIP_PX = 20.0


def specs(step: int) -> list[Spec]:
    preset = "64/64" if step == 64 else "64/8"
    settings = {"weights": "random", "preset": preset, "stride": str(step), "batch": "1"}
    return [extractors.spec(name).with_settings(settings) for name in STREAMS]


class UsualChain:
    """decord, OpenCV, a plain I3D and h5py, one after the other."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.nets = {spec.modality: Plain(spec, as_ported) for spec in specs(step)}
        self.parts: dict[str, float] = {}

    @contextmanager
    def timed(self, part: str):
        began = time.perf_counter()
        yield
        self.parts[part] = self.parts.get(part, 0.0) + time.perf_counter() - began

    def __call__(self, path: Path, out: Path) -> None:
        with self.timed("decode"):
            reader = decord.VideoReader(str(path), num_threads=1)
            frames = [self.resized(reader[n].asnumpy()) for n in range(len(reader))]
        with self.timed("flow"):
            flows = self.flows([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames])
        with self.timed("networks"):
            rows = {"rgb": self.rows("rgb", frames), "flow": self.rows("flow", flows)}
        with self.timed("write"), h5py.File(out, "w") as file:
            for modality, vectors in rows.items():
                file[f"{path.stem}/{modality}"] = vectors

    @staticmethod
    def resized(frame: np.ndarray) -> np.ndarray:
        height, width = frame.shape[:2]
        scale = SHORT_SIDE_PX / min(height, width)
        return cv2.resize(frame, (round(width * scale), round(height * scale)))

    @staticmethod
    def flows(grey: list[np.ndarray]) -> list[np.ndarray]:
        solver = cv2.optflow.DualTVL1OpticalFlow_create()
        found = [solver.calc(a, b, None) for a, b in pairwise(grey)]
        return [np.clip(field, -CLIP_PX, CLIP_PX) for field in found]

    def rows(self, modality: str, pictures: list[np.ndarray]) -> np.ndarray:
        starts = range(0, len(pictures) - 63, self.step)
        windows = (pictures[start : start + 64] for start in starts)
        return np.concatenate([self.nets[modality]([window])[0] for window in windows])


class Ours:
    """The engine in this process, its networks built before the clock starts."""

    def __init__(self, step: int, compile_networks: bool) -> None:
        self.settings = Settings(compile=compile_networks)
        self.targets = tuple(Target(spec, make_recipe(spec, self.settings)) for spec in specs(step))

    def __call__(self, path: Path, out: Path) -> None:
        job = Job(out=out, targets=self.targets, settings=self.settings, run="bench")
        Store.create(out, 1)
        for target in self.targets:
            RecipeShards.create(out, target.recipe)
        segment = Segment(video=path.name)
        located = Sources([str(path.parent)], SourceOptions()).locate_on_disk(segment)
        batch = Batch("one", 0, (Item(segment, located, (0, 1)),))
        with open_pool(ClusterSpec(workers=0), extract_batch, job, lambda event: None) as pool:
            finish(pool, [batch])
        store = FeatureStore(out)
        assert all(len(store[recipe]) == 1 for recipe in store)


def seconds(run: Callable[[Path, Path], None], path: Path, out: Path) -> float:
    began = time.perf_counter()
    run(path, out)
    return time.perf_counter() - began


def measure(path: Path, short: Path, step: int, rounds: int, compile_networks: bool) -> None:
    ours, usual = Ours(step, compile_networks), UsualChain(step)
    with tempfile.TemporaryDirectory() as folder:
        seconds(ours, short, Path(folder) / "warm")  # builds the networks, loads the kernels
        ratios = []
        for number in range(rounds):
            usual.parts.clear()
            mine = seconds(ours, path, Path(folder) / f"ours{number}")
            theirs = seconds(usual, path, Path(folder) / f"usual{number}.h5")
            ratios.append(theirs / mine)
            parts = ", ".join(f"{part} {taken:.1f}" for part, taken in usual.parts.items())
            print(f"step {step}: usual {theirs:.1f} s ({parts}), ours {mine:.1f} s", flush=True)
        print(f"step {step}: {np.median(ratios):.1f} times as fast", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--video", type=Path, help="25 fps; synthetic when not given")
    parser.add_argument("--seconds", type=int, default=4, help="of the synthetic video")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="torch.compile, as the flag does")
    given = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    flow.warm_up()
    with tempfile.TemporaryDirectory() as folder:
        path, short = given.video or Path(folder) / "video.mp4", Path(folder) / "short.mp4"
        make_video(short, seconds=3, seed=1)
        if given.video is None:
            make_video(path, given.seconds, seed=0)
        assert decord.VideoReader(str(path)).get_avg_fps() == FPS
        for step in (8, 64):
            measure(path, short, step, given.rounds, given.compile)


if __name__ == "__main__":
    main()
