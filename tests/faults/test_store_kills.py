"""SIGKILL, full disks and racing processes against the store: nothing lost, nothing twice."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import DiskFull, UsageError
from pipeline.frames import Features
from pipeline.provenance import Recipe
from pipeline.store import (
    FeatureStore,
    RecipeShards,
    SegmentRow,
    Store,
    compact,
    faults,
    publish,
    verify,
)

ROOT = Path(__file__).resolve().parents[2]
RECIPE = Recipe("net", {})
POINTS = ["before_publish", "after_tmp_write", "after_fsync", "after_link"]
BATCHES = 60
SEGMENTS_PER_BATCH = 4
ROUNDS = 8

COMMIT = """
import sys
from collections.abc import Iterator
sys.path.insert(0, {root!r})
from tests.faults.test_store_kills import RECIPE, row_of
from pipeline.store import RecipeShards, compact
shards = RecipeShards.open({out!r}, RECIPE.folder)
{action}
"""


def row_of(key: str) -> SegmentRow:
    seed = np.frombuffer(key.encode(), np.uint8)
    vectors = np.random.default_rng(seed).random((2 + len(key) % 3, 5), np.float32)
    seconds = np.tile([0.0, 1.0], (len(vectors), 1))
    features = Features(vectors, seconds)
    return SegmentRow(key=key, video=key, start_seconds=0.0, end_seconds=1.0, features=features)


def commit_keys(shards: RecipeShards, bucket: int, keys: list[str]) -> None:
    shards.commit(bucket, [row_of(key) for key in keys], [], {"pid": os.getpid()})


def assert_exactly(out: Path, keys: set[str]) -> None:
    """Each segment is there once, with its numbers, and verify finds no damage."""
    report = verify(out)
    assert not [str(finding) for finding in report.findings if finding.damage]
    features = FeatureStore(out)["net"]
    assert set(features.keys()) == keys
    for key in keys:
        np.testing.assert_array_equal(features[key].vectors, row_of(key).features.vectors)


def run_python(out: Path, action: str, fault: str) -> int:
    code = COMMIT.format(root=str(ROOT), out=str(out), action=action)
    environment = {**os.environ, faults.VARIABLE: fault}
    return subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode


@pytest.fixture
def out(tmp_path: Path) -> Path:
    Store.create(tmp_path, buckets=1)
    RecipeShards.create(tmp_path, RECIPE)
    return tmp_path


@pytest.mark.parametrize("point", POINTS)
def test_a_commit_killed_anywhere_is_whole_or_absent(out, point):
    shards = RecipeShards.open(out, RECIPE.folder)
    commit_keys(shards, 0, ["before"])
    action = "shards.commit(0, [row_of('a'), row_of('b')], [], {})"
    assert run_python(out, action, f"{point}:kill") == -signal.SIGKILL
    there = {"a", "b"} if point == "after_link" else set()
    assert_exactly(out, {"before"} | there)
    commit_keys(shards, 0, ["a", "b", "c"])
    assert_exactly(out, {"before", "a", "b", "c"})
    for path in publish.leftovers(shards.shards):
        os.utime(path, (1, 1))
    publish.sweep(shards.shards)
    assert not publish.leftovers(shards.shards)
    assert_exactly(out, {"before", "a", "b", "c"})


@pytest.mark.parametrize("point", ["after_link", "before_remove", "between_removals"])
def test_a_compaction_killed_anywhere_loses_nothing(out, point):
    shards = RecipeShards.open(out, RECIPE.folder)
    keys = {f"v{n}" for n in range(3)}
    for key in keys:
        commit_keys(shards, 0, [key])
    assert run_python(out, "compact(shards)", f"{point}:kill") == -signal.SIGKILL
    assert_exactly(out, keys)
    commit_keys(shards, 0, ["v0", "later"])
    compact(shards)
    assert_exactly(out, {*keys, "later"})
    assert len([n for n in os.listdir(shards.shards) if n.endswith(".h5")]) == 1


def attempt(out: str, seed: int) -> None:
    """Commit every batch, in an order of its own, half of them in two parts."""
    shards = RecipeShards.open(out, RECIPE.folder)
    store = Store.open(out)
    by_bucket: dict[int, list[str]] = {}
    for key in batch_keys():
        by_bucket.setdefault(store.bucket(key), []).append(key)
    order = random.Random(seed)
    batches = list(by_bucket.items())
    order.shuffle(batches)
    for bucket, keys in batches:
        if order.random() < 0.5:
            order.shuffle(keys)
            commit_keys(shards, bucket, keys[: len(keys) // 2])
        commit_keys(shards, bucket, keys)


def batch_keys() -> list[str]:
    return [f"video{n}_000000_000010" for n in range(BATCHES * SEGMENTS_PER_BATCH)]


def race(out: Path, attempts: int, kills: int) -> None:
    """Run several attempts at everything at once, killing some at random moments."""
    spawn = multiprocessing.get_context("fork")
    chance = random.Random(0)
    running = [spawn.Process(target=attempt, args=(str(out), n)) for n in range(attempts)]
    for process in running:
        process.start()
    for victim in chance.sample(running, kills):
        victim.join(timeout=chance.uniform(0.02, 0.3))
        victim.kill()
    for process in running:
        process.join()


def test_racing_attempts_store_each_segment_once(tmp_path):
    Store.create(tmp_path, buckets=BATCHES)
    RecipeShards.create(tmp_path, RECIPE)
    race(tmp_path, attempts=2, kills=0)
    assert_exactly(tmp_path, set(batch_keys()))


def test_racing_attempts_of_which_some_are_killed_lose_nothing(tmp_path):
    Store.create(tmp_path, buckets=BATCHES)
    RecipeShards.create(tmp_path, RECIPE)
    race(tmp_path, attempts=3, kills=2)
    assert not [finding for finding in verify(tmp_path).findings if finding.damage]
    attempt(str(tmp_path), 9)
    assert_exactly(tmp_path, set(batch_keys()))


@pytest.mark.slow
def test_many_rounds_of_races_kills_and_compactions(tmp_path):
    for round_number in range(ROUNDS):
        out = tmp_path / str(round_number)
        Store.create(out, buckets=BATCHES)
        shards = RecipeShards.create(out, RECIPE)
        race(out, attempts=4, kills=3)
        compacting = multiprocessing.get_context("fork").Process(target=compact, args=(shards,))
        compacting.start()
        attempt(str(out), round_number)
        compacting.join()
        assert compacting.exitcode == 0
        assert_exactly(out, set(batch_keys()))


def test_a_full_disk_publishes_nothing_and_says_so(out):
    shards = RecipeShards.open(out, RECIPE.folder)
    commit_keys(shards, 0, ["before"])
    for point in POINTS[1:3]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(faults.VARIABLE, f"{point}:enospc")
            with pytest.raises(DiskFull, match="free some space and run the same command again"):
                commit_keys(shards, 0, ["a"])
    assert not publish.leftovers(shards.shards)
    assert_exactly(out, {"before"})
    commit_keys(shards, 0, ["a"])
    assert_exactly(out, {"before", "a"})


def test_a_folder_without_room_for_a_name_is_a_full_disk_too(out, monkeypatch):
    def refuse(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    shards = RecipeShards.open(out, RECIPE.folder)
    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(DiskFull):
        commit_keys(shards, 0, ["a"])
    assert os.listdir(shards.shards) == []


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount command")
    if done.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_really_full_disk_loses_nothing(tiny_disk):
    Store.create(tiny_disk, buckets=1)
    shards = RecipeShards.create(tiny_disk, RECIPE)
    stored: set[str] = set()
    with pytest.raises(DiskFull):
        for number in range(1000):
            commit_keys(shards, 0, [f"v{number}"])
            stored.add(f"v{number}")
    assert stored and not publish.leftovers(shards.shards)
    assert_exactly(tiny_disk, stored)


def test_a_fault_with_a_token_happens_once(tmp_path, monkeypatch):
    monkeypatch.setenv(faults.VARIABLE, f"here:enospc:{tmp_path / 'token'}")
    faults.reach("elsewhere")
    with pytest.raises(OSError, match="No space left"):
        faults.reach("here")
    faults.reach("here")
    monkeypatch.setenv(faults.VARIABLE, "here:explode")
    with pytest.raises(UsageError, match="expected POINT:kill"):
        faults.reach("here")
