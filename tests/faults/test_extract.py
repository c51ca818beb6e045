"""Runs that are hit: hanging and dying decoders, SIGKILL of the driver, Ctrl-C. Nothing is lost."""

import csv
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipeline.store import FeatureStore
from tests.truth.numbered_video import NumberedVideo, constant, write

COMMAND = [sys.executable, "-m", "pipeline", "extract"]
EXTRACTOR = ["-e", "efficientnet-lite0", "--set", "efficientnet-lite0.weights=random"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}


def make_videos(folder: Path, names: list[str], seconds: int = 1) -> None:
    folder.mkdir()
    for name in names:
        write(folder / f"{name}.mp4", NumberedVideo(name, **constant(seconds * 5, Fraction(5))))


def extract(out: Path, videos: Path, *flags: str, **options) -> subprocess.Popen:
    command = [*COMMAND, "-m", str(videos), "-o", str(out), *EXTRACTOR, *flags]
    return subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        **options,
    )  # fmt: skip


def features_of(out: Path) -> dict:
    store = FeatureStore(out)
    (recipe,) = store.recipes
    return {key: tuple(store[recipe][key]) for key in store[recipe].keys()}  # noqa: SIM118


def assert_equal(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for key, (vectors, seconds) in expected.items():
        np.testing.assert_array_equal(found[key][0], vectors)
        np.testing.assert_array_equal(found[key][1], seconds)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """Eight videos and their features from a run that nothing hit."""
    root = tmp_path_factory.mktemp("reference")
    make_videos(root / "videos", [f"v{n}" for n in range(8)])
    run = extract(root / "out", root / "videos", "-w", "0")
    assert run.wait() == 0, run.stdout.read()
    run.stdout.close()
    return root / "videos", features_of(root / "out")


def wait_for_shards(out: Path, number: int, run: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while len(list(out.glob("*/shards/*.h5"))) < number:
        assert run.poll() is None, run.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow  # two minutes on a busy machine: each restart imports torch again
def test_hanging_and_dying_decoders_cost_only_their_own_segments(tmp_path: Path) -> None:
    make_videos(tmp_path / "videos", ["a", "b", "c", "die", "hang"])
    run = extract(
        tmp_path / "out", tmp_path / "videos", "-w", "2", "--stall-seconds", "4",
        "--decoder", "tests.faults.treacherous_decoder",
    )  # fmt: skip
    text, _ = run.communicate(timeout=400)
    assert run.returncode == 0, text
    assert sorted(features_of(tmp_path / "out")) == [f"{n}.mp4_000000_end" for n in "abc"]
    with (tmp_path / "out" / "failures.csv").open() as file:
        failures = {row["video"]: row["code"] for row in csv.DictReader(file)}
    assert failures == {"die.mp4": "poison", "hang.mp4": "poison"}
    assert "no sign of life on hang.mp4_000000_end" in text


def test_a_killed_driver_loses_nothing_and_the_next_run_is_bitwise_equal(
    tmp_path: Path, reference: tuple[Path, dict]
) -> None:
    videos, expected = reference
    run = extract(tmp_path / "out", videos, "-w", "0")
    wait_for_shards(tmp_path / "out", 1, run)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    before = features_of(tmp_path / "out")
    assert 1 <= len(before) < 8
    again = extract(tmp_path / "out", videos, "-w", "0")
    text, _ = again.communicate(timeout=120)
    assert again.returncode == 0, text
    assert f"{len(before)} done, {8 - len(before)} to do" in text
    assert_equal(features_of(tmp_path / "out"), expected)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_ctrl_c_finishes_the_segment_in_hand_and_commits(
    tmp_path: Path, reference: tuple[Path, dict], workers: str
) -> None:
    videos, expected = reference
    # A session of its own, so that workers get the SIGINT of the terminal too.
    run = extract(tmp_path / "out", videos, "-w", workers, start_new_session=True)
    wait_for_shards(tmp_path / "out", 1, run)
    os.killpg(run.pid, signal.SIGINT)
    text, _ = run.communicate(timeout=60)
    assert run.returncode == 130, text
    assert "run the same command to go on" in text
    assert "Traceback" not in text
    again = extract(tmp_path / "out", videos, "-w", "1")
    text, _ = again.communicate(timeout=120)
    assert again.returncode == 0, text
    assert_equal(features_of(tmp_path / "out"), expected)


def hanging(tmp_path: Path, stall_seconds: str) -> subprocess.Popen:
    """Start a run, in a session of its own, and return once its only worker hangs."""
    make_videos(tmp_path / "videos", ["a", "hang"])
    run = extract(
        tmp_path / "out", tmp_path / "videos", "-w", "1", "--stall-seconds", stall_seconds,
        "--decoder", "tests.faults.treacherous_decoder", start_new_session=True,
    )  # fmt: skip
    wait_for_shards(tmp_path / "out", 1, run)
    time.sleep(1.0)
    return run


def test_ctrl_c_does_not_wait_for_ever_for_a_worker_that_hangs(tmp_path: Path) -> None:
    run = hanging(tmp_path, "4")
    os.killpg(run.pid, signal.SIGINT)
    text, _ = run.communicate(timeout=60)
    assert run.returncode == 130, text
    assert "1 segments done, 0 failed, 1 left" in text
    assert "Traceback" not in text


def test_a_second_ctrl_c_ends_at_once_and_leaves_no_process(tmp_path: Path) -> None:
    run = hanging(tmp_path, "300")
    os.killpg(run.pid, signal.SIGINT)
    time.sleep(1.0)
    os.killpg(run.pid, signal.SIGINT)
    text, _ = run.communicate(timeout=60)
    assert run.returncode == 130, text
    assert "Ctrl-C again ends at once" in text
    assert "what was committed is kept" in text
    assert "Traceback" not in text
    assert_gone(run.pid)


def assert_gone(group: int) -> None:
    """Wait until no process of a session is left, not even one that is not yet reaped."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError("a process of the run is still there")
