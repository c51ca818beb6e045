"""Damaged files, many of them, in a child process: typed failures, no crash, no hang, bounded."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline import decode
from pipeline.errors import SegmentFailure
from pipeline.frames import View
from pipeline.sampling import Grid
from tests.memory import peak_resident_bytes
from tests.truth.numbered_video import NumberedVideo, constant, picture, write

ROOT = Path(__file__).resolve().parents[2]
LIMITS = decode.Limits(pixels=1 << 20, seconds=3600)
STALL_SECONDS = 5.0
MAX_CASE_SECONDS = 10.0
MAX_RESIDENT_BYTES = 1 << 30
X264 = {"preset": "veryfast", "g": "12", "bf": "2"}
X265 = {"x265-params": "log-level=none"}
SEEDS = (
    NumberedVideo("h264.mp4", **constant(40), options=X264),
    NumberedVideo("h264.mkv", **constant(40), options=X264),
    NumberedVideo("h264.ts", **constant(40), options=X264),
    NumberedVideo("h264.flv", **constant(40), options=X264),
    NumberedVideo("hevc.mp4", **constant(20), codec="libx265", options=X265),
    NumberedVideo("vp9.webm", **constant(20), codec="libvpx-vp9", options={"cpu-used": "8"}),
    NumberedVideo("av1.mkv", **constant(20), codec="libsvtav1", options={"preset": "10"}),
    NumberedVideo("mpeg4.avi", **constant(40), codec="mpeg4", options={"bf": "2"}),
    NumberedVideo("mpeg1.mpg", **constant(40), codec="mpeg1video"),
)  # fmt: skip


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    """One of: cut short, bytes changed, a stretch zeroed, doubled or taken out, header changed."""
    kind = random.integers(6)
    at, length = int(random.integers(len(data))), int(random.integers(1, len(data) // 4))
    if kind == 0:
        return data[:at]
    if kind == 1:
        changed = np.frombuffer(data, np.uint8).copy()
        places = random.integers(len(data), size=int(random.integers(1, 60)))
        changed[places] = random.integers(256, size=places.size)
        return changed.tobytes()
    if kind == 2:
        return data[:at] + bytes(len(data[at : at + length])) + data[at + length :]
    if kind == 3:
        return data[:at] + data[at : at + length] * 2 + data[at + length :]
    if kind == 4:
        return data[:at] + data[at + length :]
    changed = np.frombuffer(data, np.uint8).copy()
    head = min(len(data), 1500)
    places = random.integers(head, size=4)
    changed[places] = random.integers(256, size=4)
    return changed.tobytes()


def child(folder: Path, cases: int, seed: int) -> None:
    """Probe and decode mutated copies; print what became of them as JSON."""
    random = np.random.default_rng(seed)
    originals = sorted(path for path in folder.iterdir() if path.stem != "case")
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    for number in range(cases):
        original = originals[number % len(originals)]
        case = folder / f"case{original.suffix}"
        case.write_bytes(mutated(original.read_bytes(), random))
        begun = time.monotonic()
        outcomes[_outcome(case, number)] += 1
        slowest = max(slowest, time.monotonic() - begun)
    peak = peak_resident_bytes()
    print(json.dumps({"outcomes": outcomes, "slowest": slowest, "peak": peak}))


def _outcome(path: Path, number: int) -> str:
    fps = (None, Fraction(5))[number % 2]
    start = (Fraction(0), Fraction(6, 5))[number // 2 % 2]
    request = decode.Request(Grid(start, None, fps), (View(24, 32), View(24, 32, "gray")))
    options = decode.DecodeOptions(limits=LIMITS, stall_seconds=STALL_SECONDS)
    try:
        info = decode.probe(path, limits=LIMITS)
        stream = decode.frames(path, [request], info=info, options=options)
        last = Fraction(-1)
        for frame in stream:
            assert frame.pts_seconds >= last
            last = frame.pts_seconds
    except SegmentFailure as failure:
        return failure.code
    return "damaged" if stream.damage else "whole"


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz")
    for video in SEEDS:
        write(folder / video.name, video)
    with av.open(str(folder / "moving.gif"), "w") as container:
        stream = container.add_stream("gif", rate=10, width=96, height=64, pix_fmt="rgb8")
        for number in range(8):
            frame = av.VideoFrame.from_ndarray(picture(number, (64, 96)), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="rgb8")))
        container.mux(stream.encode(None))
    return folder


def run(folder: Path, cases: int, seed: int) -> None:
    code = f"from pathlib import Path; from {__name__} import child; "
    code += f"child(Path({str(folder)!r}), {cases}, {seed})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60 + cases * MAX_CASE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert sum(report["outcomes"].values()) == cases
    assert report["outcomes"].keys() > {"whole", "damaged"}, (
        "the mutations are too tame or too wild"
    )
    assert report["slowest"] < MAX_CASE_SECONDS
    assert report["peak"] < MAX_RESIDENT_BYTES


def test_a_hundred_damaged_files(originals: Path) -> None:
    run(originals, cases=100, seed=1)


@pytest.mark.slow
def test_two_thousand_damaged_files(originals: Path) -> None:
    run(originals, cases=2000, seed=2)
