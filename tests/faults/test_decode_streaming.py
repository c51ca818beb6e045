"""Memory does not grow with the length of a video, and its middle is as near as its start."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline import decode
from pipeline.frames import View
from pipeline.sampling import Grid

ROOT = Path(__file__).resolve().parents[2]
FPS = 5
GOP_FRAMES = 50
ALLOWED_GROWTH_BYTES = 24 * 1024**2
CHILD = """
import json, sys
from fractions import Fraction
from pathlib import Path
from pipeline import decode
from pipeline.frames import View
from pipeline.sampling import Grid
from tests.memory import peak_resident_bytes
rate = Fraction(sys.argv[2]) if sys.argv[2] != "all" else None
views = (View(64, 64), View(64, 64, "gray"))
stream = decode.frames(Path(sys.argv[1]), [decode.Request(Grid(Fraction(0), None, rate), views)])
count = sum(1 for _ in stream)
print(json.dumps({"count": count, "peak": peak_resident_bytes()}))
"""


def long_video(path: Path, seconds: int) -> Path:
    """A low-resolution video, encoded once for ten seconds and its packets repeated."""
    frames = 10 * FPS
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, width=160, height=120)
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": "ultrafast", "g": str(GOP_FRAMES), "bf": "0"}
        packets = []
        random = np.random.default_rng(0)
        for number in range(frames):
            image = random.integers(0, 256, (120, 160, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = number
            packets += [(bytes(p), p.is_keyframe) for p in stream.encode(frame)]
        packets += [(bytes(p), p.is_keyframe) for p in stream.encode(None)]
        for number in range(seconds * FPS):
            data, keyframe = packets[number % frames]
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, Fraction(1, FPS)
            packet.pts = packet.dts = number
            packet.is_keyframe = keyframe
            container.mux(packet)
    return path


def measured(path: Path, rate: str) -> tuple[int, int]:
    command = [sys.executable, "-c", CHILD, str(path), rate]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    return report["count"], report["peak"]


@pytest.mark.parametrize("rate", ["all", pytest.param("1", marks=pytest.mark.slow)])
def test_ten_minutes_take_the_memory_of_ten_seconds(tmp_path: Path, rate: str) -> None:
    short, short_peak = measured(long_video(tmp_path / "short.mp4", 10), rate)
    long, long_peak = measured(long_video(tmp_path / "long.mp4", 600), rate)
    assert (short, long) == ((50, 3000) if rate == "all" else (10, 600))
    assert long_peak - short_peak < ALLOWED_GROWTH_BYTES


@pytest.mark.slow
def test_two_hours_take_the_memory_of_ten_seconds(tmp_path: Path) -> None:
    _, short_peak = measured(long_video(tmp_path / "short.mp4", 10), "all")
    count, long_peak = measured(long_video(tmp_path / "long.mp4", 7200), "all")
    assert count == 36_000
    assert long_peak - short_peak < ALLOWED_GROWTH_BYTES


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_the_middle_of_two_hours_costs_about_one_group_of_pictures(
    tmp_path: Path, suffix: str
) -> None:
    path = long_video(tmp_path / f"long{suffix}", 7200)
    start = Fraction(5437)
    grid = Grid(start, start + 2, Fraction(FPS))
    stream = decode.frames(path, [decode.Request(grid, (View(16, 16),))])
    times = [frame.pts_seconds for frame in stream]
    assert times == [start + Fraction(k, FPS) for k in range(2 * FPS)]
    assert stream.decoded <= GOP_FRAMES + 2 * FPS + 1
