"""How much faster the native TV-L1 is than OpenCV's, side by side in one run.

    python -m tests.benchmarks.flow cores [1] 1 core pinned and 2 cores, four sizes, a still pair;
                                              one pair a film instead of two
    python -m tests.benchmarks.flow presets   speed and difference of each preset
    python -m tests.benchmarks.flow sizes     time against pixels, 128 px to 720p
    python -m tests.benchmarks.flow compile   first call of a process, without and with the cache

Each ratio is of one pair, both ways computed one after the other; the median over pairs is given
with the extremes. On one core the processor time is taken, which other processes disturb less
than the clock on the wall; on two cores the clock on the wall, OpenCV with its two threads and the
native one with two pairs at a time.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import cv2
import numpy as np

from pipeline import flow
from tests.pipeline.flow.textures import end_point_difference
from tests.real.flow_pairs import VIDEOS, consecutive

SIZES = ((340, 256), (256, 256), (455, 256), (224, 224))
VIDEO_NAMES = (
    "kinetics/R6llTwEh07w.mp4",
    "kinetics/flipping_a_pancake.mkv",
    "ucf101/v_BenchPress_g01_c01.avi",
    "edge_cases/cvx_big_buck_bunny.mp4",
)
PLACES = (60, 10)
AREAS = ((128, 96), (171, 128), (340, 256), (640, 360), (1280, 720))
COLD = "import time; t = time.process_time(); w = time.time(); from pipeline import flow; "
COLD += "flow.warm_up(); print(f'{time.process_time() - t:.1f} s of processor', end=', '); "
COLD += "print(f'{time.time() - w:.1f} s on the wall')"

Pair = tuple[np.ndarray, np.ndarray]


def pairs(size: tuple[int, int], places: int) -> list[Pair]:
    """Return pairs of four films, from one or two places of each; no repeated frames."""
    found = [
        pair for name in VIDEO_NAMES for pair in consecutive(VIDEOS / name, PLACES[:places], size)
    ]
    return [pair for pair in found if not np.array_equal(*pair)]


def best(work: Callable[[], object], clock: Callable[[], float], repeats: int = 3) -> float:
    """Return the least of some times, in seconds."""
    times = []
    for _ in range(repeats):
        start = clock()
        work()
        times.append(clock() - start)
    return min(times)


def told(ratios: list[float]) -> str:
    """Return median and extremes."""
    return f"median {np.median(ratios):.1f}x, {min(ratios):.1f}x to {max(ratios):.1f}x"


def cores(places: int) -> None:
    """Compare on one pinned core, then on two."""
    native, opencv = flow.open_backend("native"), flow.open_backend("opencv")
    flow.warm_up()
    every = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(every)})
    cv2.setNumThreads(1)
    for size in SIZES:
        ratios, ours = [], []
        for pair in pairs(size, places):
            theirs = best(partial(opencv, *pair), time.process_time, 1)
            ours.append(best(partial(native, *pair), time.process_time))
            ratios.append(theirs / ours[-1])
        print(f"1 core  {size}: {told(ratios)}; {np.median(ours) * 1e3:.1f} ms", flush=True)
    pair = nearly_still(pairs(SIZES[0], 1)[0][0])
    theirs = best(partial(opencv, *pair), time.process_time)
    ratio = theirs / best(partial(native, *pair), time.process_time)
    print(f"1 core  {SIZES[0]}, nearly still: {ratio:.1f}x")
    os.sched_setaffinity(0, every)
    cv2.setNumThreads(len(every))
    ratios = []
    with ThreadPoolExecutor(2) as pool:
        for pair in pairs(SIZES[0], places):
            theirs = best(partial(opencv, *pair), time.perf_counter, 1)
            both = best(partial(in_threads, pool, native, pair), time.perf_counter)
            ratios.append(2 * theirs / both)
    print(f"2 cores {SIZES[0]}: {told(ratios)}")


def in_threads(pool: ThreadPoolExecutor, backend: flow.FlowBackend, pair: Pair) -> None:
    """Compute a pair twice, in two threads."""
    for future in [pool.submit(backend, *pair) for _ in range(2)]:
        future.result()


def nearly_still(frame: np.ndarray) -> Pair:
    """Return a frame and itself with noise of one level: 25 warps, few iterations."""
    noise = np.random.default_rng(0).integers(0, 2, frame.shape, dtype=np.uint8)
    return frame, np.minimum(frame, 254) + noise


def presets() -> None:
    """Print speed and difference of each preset against the faithful one, as a table."""
    given = pairs(SIZES[0], 2)
    faithful = [flow.open_backend("native")(*pair) for pair in given]
    print("preset      ms/pair  mean px apart  8-bit levels that differ")
    for name, parameters in flow.PRESETS.items():
        backend = flow.open_backend("native", parameters)
        times = [best(lambda p=pair, b=backend: b(*p), time.process_time) for pair in given]
        found = [backend(*pair) for pair in given]
        apart = [end_point_difference(a, b).mean() for a, b in zip(found, faithful, strict=True)]
        levels = np.mean(flow.quantise(np.array(found)) != flow.quantise(np.array(faithful)))
        print(f"{name:10} {np.mean(times) * 1e3:8.1f} {np.mean(apart):14.3f} {levels:12.1%}")


def sizes() -> None:
    """Print time and memory against pixels."""
    from pipeline.flow.kernels.solver import workspace
    from pipeline.flow.parameters import pyramid_shapes

    backend = flow.open_backend("native", flow.Parameters(epsilon=1e-6, outer_iterations=1))
    for width, height in AREAS:
        (pair,) = consecutive(VIDEOS / VIDEO_NAMES[0], PLACES[:1], (width, height))
        seconds = best(lambda p=pair: backend(*p), time.process_time)
        work = workspace(pyramid_shapes(height, width, flow.DEFAULTS))
        held = sum(array.nbytes for array in work)
        print(
            f"{width:5}x{height:<4} {seconds * 1e3:8.1f} ms, "
            f"{seconds / width / height * 1e9:6.0f} ns a pixel at 750 iterations, "
            f"{held / 1e6:6.1f} MB, {held / width / height:4.0f} bytes a pixel"
        )


def compilation() -> None:
    """Print what the first call of a process costs."""
    with tempfile.TemporaryDirectory() as folder:
        for state in ("cold", "cached"):
            print(state, end=": ", flush=True)
            environment = {**os.environ, "NUMBA_CACHE_DIR": folder}
            subprocess.run([sys.executable, "-c", COLD], env=environment, check=True)


if __name__ == "__main__":
    what = sys.argv[1] if len(sys.argv) > 1 else "cores"
    actions = {"presets": presets, "sizes": sizes, "compile": compilation}
    actions[what]() if what in actions else cores(int(sys.argv[2]) if len(sys.argv) > 2 else 2)
