from __future__ import annotations

import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from pipeline.errors import DamagedShard
from pipeline.store import (
    FailureRow,
    FeatureStore,
    RecipeShards,
    compact,
    compaction,
    intake,
    layout,
    publish,
    verify,
)


@pytest.fixture
def scattered(shards, make_row):
    """Six parts: failures that came right, one that did not, a replaced video."""
    for number in range(3):
        failures = [FailureRow(f"late{number}", "timeout", "slow", 1, source_size=1)]
        shards.commit(0, [make_row(f"v{number}", rows=number)], failures, {"run": number % 2})
    shards.commit(0, [make_row("late0"), make_row("late1")], [], {"run": 2})
    shards.commit(0, [make_row("v1", rows=7, source_size=11)], [], {"run": 2})
    shards.commit(0, [], [FailureRow("late2", "timeout", "slow", 2, source_size=1)], {"run": 3})
    return shards


def contents(shards: RecipeShards) -> dict[str, tuple[bytes, bytes]]:
    features = FeatureStore(shards.folder.parent)[shards.folder.name]
    return {key: tuple(array.tobytes() for array in features[key]) for key in features}


def test_parts_become_one_with_equal_content(scattered):
    before, failures = contents(scattered), scattered.committed().failures.keys()
    done = compact(scattered)
    assert (done.before, done.after) == (6, 1)
    assert os.listdir(scattered.shards) == ["00000.0006.h5"]
    assert contents(scattered) == before and len(before) == 5
    assert scattered.committed().failures.keys() == failures == {"late2"}
    assert scattered.committed().failures["late2"].attempts == 2
    assert not verify(scattered.folder.parent).findings
    with h5py.File(scattered.shards / "00000.0006.h5", "r") as file:
        assert len(json.loads(file.attrs["replaces"])) == 6
        footers = json.loads(file.attrs["footer"])["merged"]
    assert sorted(footer["run"] for footer in footers) == [0, 1, 2, 3]


def test_compacting_again_changes_nothing_and_later_parts_go_on(scattered, make_row):
    compact(scattered)
    names = os.listdir(scattered.shards)
    compact(scattered)
    assert os.listdir(scattered.shards) == names
    assert scattered.commit(0, [make_row("v0", rows=0)], [], {}).already == ("v0",)
    assert scattered.commit(0, [make_row("new")], [], {}).shard == "00000.0007.h5"
    compact(scattered)
    with h5py.File(scattered.shards / "00000.0008.h5", "r") as file:
        footers = json.loads(file.attrs["footer"])["merged"]
    assert len(footers) == 5, "the merged footers are unfolded, not nested"


def test_one_part_whose_rows_all_count_is_left_alone(shards, make_row):
    shards.commit(0, [make_row("a")], [], {})
    assert compact(shards).after == 1
    assert os.listdir(shards.shards) == ["00000.0000.h5"]


def test_parts_that_were_taken_over_no_longer_count(scattered, monkeypatch):
    before = contents(scattered)
    monkeypatch.setattr("pipeline.store.compaction._remove", lambda parts: None)
    compact(scattered)
    assert len(os.listdir(scattered.shards)) == 7
    assert contents(scattered) == before
    report = verify(scattered.folder.parent)
    assert not report.damaged
    assert [finding.found for finding in report.findings] == ["superseded by a compacted shard"] * 6
    monkeypatch.undo()
    compact(scattered)
    assert os.listdir(scattered.shards) == ["00000.0006.h5"]


def test_a_part_committed_meanwhile_is_merged_too(scattered, make_row, monkeypatch):
    real = publish.publish

    def raced(content: bytes, final: object) -> None:
        monkeypatch.setattr(publish, "publish", real)
        scattered.commit(0, [make_row("raced")], [], {})
        real(content, final)

    before = contents(scattered)
    monkeypatch.setattr(publish, "publish", raced)
    compact(scattered)
    assert os.listdir(scattered.shards) == ["00000.0007.h5"]
    assert contents(scattered).keys() == {*before, "raced"}


def test_another_compaction_that_was_faster_is_no_error(scattered, monkeypatch):
    real = compaction._segment_rows

    def overtaken(*args: object) -> object:
        monkeypatch.setattr(compaction, "_segment_rows", real)
        compact(scattered)
        return real(*args)

    before = contents(scattered)
    monkeypatch.setattr(compaction, "_segment_rows", overtaken)
    compact(scattered)
    assert os.listdir(scattered.shards) == ["00000.0006.h5"] and contents(scattered) == before


def test_verify_beside_a_compaction_reports_no_damage(scattered, monkeypatch):
    real = intake.read_tables

    def compacting(path: Path) -> layout.ShardTables:
        monkeypatch.setattr(intake, "read_tables", real)
        compact(scattered)
        return real(path)

    monkeypatch.setattr(intake, "read_tables", compacting)
    report = verify(scattered.folder.parent)
    assert not report.damaged
    assert {finding.found for finding in report.findings} == {"gone while it was read"}


def test_a_reader_survives_compaction(scattered):
    features = FeatureStore(scattered.folder.parent)["zoo:net"]
    before = features["v2"].vectors
    compact(scattered)
    np.testing.assert_array_equal(features["v2"].vectors, before)


def test_damage_stops_compaction_before_anything_is_removed(scattered):
    path = scattered.shards / "00000.0003.h5"
    with h5py.File(path, "r") as file:
        offset = file["features"].id.get_offset()
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)
    names = sorted(os.listdir(scattered.shards))
    with pytest.raises(DamagedShard, match="does not match its checksum"):
        compact(scattered)
    assert sorted(os.listdir(scattered.shards)) == names
