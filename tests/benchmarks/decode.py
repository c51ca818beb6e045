"""How fast decoding is, as ratios measured side by side: ``python -m tests.benchmarks.decode``.

Each round runs every contender once, so that a noisy machine is noisy for all; the figure is the
median of the rounds' ratios, of elapsed time and of processor time (which is what can be trusted on
a machine that others use). The video is a 720p H.264 with B-frames, made from a file that is given
or from moving synthetic pictures.

* ``command / ours``: the ``ffmpeg`` command decoding and scaling to raw RGB, short side 256;
* ``ours / decoding``: PyAV decoding alone, no picture touched;
* ``every frame / skipping``: 25 to 5 frames a second, all decoded against unwanted ones left out.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from pipeline import decode
from pipeline.decode import pyav
from pipeline.decode._backend import Wishes
from pipeline.frames import View
from pipeline.sampling import Grid

HEIGHT_PX, WIDTH_PX, FRAMES, FPS = 720, 1280, 250, 25
VIEW = View(256, 455)
SLOW_FPS = Fraction(5)


def synthetic_video(path: Path) -> None:
    """Smooth shapes that move over a textured ground, encoded as x264 does by default."""
    random = np.random.default_rng(0)
    ground = cv2.resize(
        random.integers(0, 256, (HEIGHT_PX // 4, WIDTH_PX // 2, 3), np.uint8),
        (WIDTH_PX * 2, HEIGHT_PX),
        interpolation=cv2.INTER_CUBIC,
    )
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, width=WIDTH_PX, height=HEIGHT_PX)
        stream.pix_fmt = "yuv420p"
        for number in range(FRAMES):
            left = int((1 + np.sin(number / 40)) * WIDTH_PX / 2)
            image = ground[:, left : left + WIDTH_PX].copy()
            cv2.circle(image, (100 + 4 * number, 360), 120, (220, 60, 40), -1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def ours(path: Path, threads: int) -> None:
    options = decode.DecodeOptions(threads=threads)
    request = decode.Request(Grid(Fraction(0), None, None), (VIEW,))
    for frame in decode.frames(path, [request], options=options, info=decode.probe(path)):
        assert frame.images[VIEW].shape == (256, 455, 3)


def decoding(path: Path, threads: int) -> None:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = threads
        stream.codec_context.thread_type = "AUTO"
        assert sum(1 for _ in container.decode(stream)) > 0


def command(path: Path, threads: int) -> None:
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise SystemExit("the ffmpeg command is not installed; this benchmark compares with it")
    arguments = [ffmpeg, "-v", "error", "-threads", str(threads), "-i", str(path)]
    arguments += ["-vf", f"scale={VIEW.width_px}:{VIEW.height_px}", "-filter_threads", str(threads)]
    arguments += ["-pix_fmt", "rgb24", "-f", "rawvideo", "-"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while process.stdout.read(1 << 20):
            pass


def slow_rate(path: Path, threads: int, may_skip: bool) -> None:
    """Decode for a slow sampling, unwanted frames left out or not."""
    info = decode.probe(path)
    wishes = Wishes([Grid(Fraction(0), None, SLOW_FPS)], info, may_skip)
    options = decode.DecodeOptions(threads=threads)
    assert sum(1 for _ in pyav.decode(path, info, wishes, options)) > 0


def seconds(run: Callable[[], None]) -> tuple[float, float]:
    """Elapsed time and processor time, that of finished children included."""
    begun, used = time.perf_counter(), processor_seconds()
    run()
    return time.perf_counter() - begun, processor_seconds() - used


def processor_seconds() -> float:
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(r.ru_utime + r.ru_stime for r in map(resource.getrusage, whose))


def compare(path: Path, threads: int, rounds: int) -> None:
    contenders: dict[str, Callable[[], None]] = {
        "command": lambda: command(path, threads),
        "ours": lambda: ours(path, threads),
        "decoding": lambda: decoding(path, threads),
        "every frame": lambda: slow_rate(path, threads, may_skip=False),
        "skipping": lambda: slow_rate(path, threads, may_skip=True),
    }
    taken = [{name: seconds(run) for name, run in contenders.items()} for _ in range(rounds)]
    for kind, label in ((0, "elapsed"), (1, "processor")):
        medians = {n: round(1e3 * statistics.median(t[n][kind] for t in taken)) for n in contenders}
        print(f"{threads} thread(s), {label} ms, median of {rounds} rounds: {medians}")
        for above, below in (
            ("command", "ours"), ("ours", "decoding"), ("every frame", "skipping"),
        ):  # fmt: skip
            ratios = [t[above][kind] / t[below][kind] for t in taken]
            print(
                f"  {above} / {below}: {statistics.median(ratios):.2f} "
                f"({min(ratios):.2f} to {max(ratios):.2f})"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--video", type=Path, help="a 720p H.264 file; synthetic when not given")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.video or Path(folder) / "synthetic.mp4"
        if arguments.video is None:
            synthetic_video(path)
        for threads in (1, 2):
            compare(path, threads, arguments.rounds)


if __name__ == "__main__":
    main()
