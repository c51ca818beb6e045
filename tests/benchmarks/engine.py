"""What the engine costs: the same segments in this process, on one worker, and in a plain script.

    python tests/benchmarks/engine.py [--segments 40] [--rounds 3]

Three ways in turn, medians of the rounds, start-up apart (each way first does one segment):
``--workers 0``, ``--workers 1``, and a plain loop over PyAV, OpenCV and the same network. Then the
peak memory of ``--workers 0`` on a 10 s and on a 10 min video. One thread each.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
import cv2
import numpy as np
import torch

import extractors
from manifests import Segment
from pipeline.cluster import open_pool
from pipeline.job import Batch, Item, Job, Settings, Target, make_recipe
from pipeline.pool import ClusterSpec
from pipeline.sources import SourceOptions, Sources
from pipeline.store import RecipeShards, Store
from pipeline.work import extract_batch

SIZE = (256, 340)
FPS = 25
SEGMENT_SECONDS = 2
BATCH = 8


def make_video(path: Path, seconds: int, seed: int) -> None:
    """Encode moving noise of a natural spectrum as H.264."""
    rng = np.random.default_rng(seed)
    canvas = cv2.GaussianBlur(rng.integers(0, 256, (512, 680, 3), dtype=np.uint8), (0, 0), 4)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        for number in range(seconds * FPS):
            x, y = 2 * number % 300, number % 200
            picture = np.ascontiguousarray(canvas[y : y + SIZE[0], x : x + SIZE[1]])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def plain_script(paths: list[Path]) -> int:
    """What a researcher would write: decode, pick every fifth frame, resize, embed."""
    torch.set_num_threads(1)
    spec = extractors.spec("efficientnet-lite0")
    net = extractors.build(spec)
    rows = 0
    for path in paths:
        pending = []
        with av.open(str(path)) as container:
            container.streams.video[0].codec_context.thread_count = 1
            for number, frame in enumerate(container.decode(video=0)):
                if number % 5:
                    continue
                picture = cv2.resize(frame.to_ndarray(format="rgb24"), SIZE[::-1])
                pending.append([picture])
                if len(pending) == spec.batch_windows:
                    rows += len(net(pending))
                    pending = []
        if pending:
            rows += len(net(pending))
    return rows


def engine(paths: list[Path], workers: int) -> float:
    """Seconds for all batches once a first segment has warmed everything up."""
    spec = extractors.spec("efficientnet-lite0")
    target = Target(spec, make_recipe(spec, Settings()))
    videos = Sources([str(paths[0].parent)], SourceOptions())
    segments = [Segment(video=path.name) for path in paths]
    items = [Item(s, videos.locate_on_disk(s), (0,)) for s in segments]
    with tempfile.TemporaryDirectory() as out:
        job = Job(out=Path(out), targets=(target,), settings=Settings(), run="bench")
        Store.create(job.out, 1)
        RecipeShards.create(job.out, target.recipe)
        with open_pool(ClusterSpec(workers=workers), extract_batch, job, lambda e: None) as pool:
            finish(pool, [Batch("warm", 0, tuple(items[:1]))])
            chunks = [items[n : n + BATCH] for n in range(1, len(items), BATCH)]
            began = time.perf_counter()
            finish(pool, [Batch(f"b{n}", 0, tuple(chunk)) for n, chunk in enumerate(chunks)])
            return time.perf_counter() - began


def finish(pool, batches: list[Batch]) -> None:
    for batch in batches:
        pool.submit(batch)
    left = len(batches)
    while left:
        left -= sum(1 for _ in pool.wait(1.0))


def script(paths: list[Path]) -> float:
    plain_script(paths[:1])
    began = time.perf_counter()
    plain_script(paths[1:])
    return time.perf_counter() - began


def peak_megabytes(folder: Path) -> float:
    """Peak resident memory of a whole `pipeline extract --workers 0` on a folder."""
    code = (
        "import sys; from pipeline.cli import main\n"
        "from tests.memory import peak_resident_bytes\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "print(peak_resident_bytes() / 2**20)"
    )
    with tempfile.TemporaryDirectory() as out:
        flags = ["extract", "-m", str(folder), "-o", out, "-w", "0", "-e", "efficientnet-lite0"]
        run = [sys.executable, "-c", code, *flags]
        text = subprocess.run(run, check=True, capture_output=True, text=True).stdout
    return float(text.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--segments", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "videos"
        folder.mkdir()
        paths = [folder / f"v{n:03d}.mp4" for n in range(arguments.segments + 1)]
        for number, path in enumerate(paths):
            make_video(path, SEGMENT_SECONDS, number)
        seconds: dict[str, list[float]] = {"script": [], "workers 0": [], "workers 1": []}
        for _ in range(arguments.rounds):
            seconds["script"].append(script(paths))
            seconds["workers 0"].append(engine(paths, 0))
            seconds["workers 1"].append(engine(paths, 1))
        for name, times in seconds.items():
            ratios = [a / b for a, b in zip(times, seconds["script"], strict=True)]
            print(
                f"{name:10} median {statistics.median(times):6.2f} s, "
                f"ratio to the script {statistics.median(ratios):.3f} "
                f"({min(ratios):.3f} to {max(ratios):.3f})"
            )
        for length in (10, 600):
            long = Path(root) / f"long{length}"
            long.mkdir()
            make_video(long / "v.mp4", length, 1)
            print(f"peak memory, {length} s video: {peak_megabytes(long):.0f} MB")


if __name__ == "__main__":
    main()
