from __future__ import annotations

import json
import math
import os
import pickle
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from pipeline.errors import StoreError, UsageError
from pipeline.provenance import Recipe
from pipeline.store import FailureRow, FeatureStore, RecipeShards, Store, buckets_for, publish


def test_number_of_buckets_is_written_once(tmp_path):
    first = Store.create(tmp_path, buckets=7)
    again = Store.create(tmp_path, buckets=99)
    assert first.buckets == again.buckets == Store.open(tmp_path).buckets == 7
    assert json.loads((tmp_path / "store.json").read_text())["buckets"] == 7


@pytest.mark.parametrize("content", ["{}", "[]", "no json", '{"format": "action-features store"}'])
def test_a_foreign_store_file_is_refused(tmp_path, content):
    (tmp_path / "store.json").write_text(content)
    with pytest.raises(StoreError, match=r"store\.json"):
        Store.open(tmp_path)


def test_no_store_and_no_buckets_are_refused(tmp_path):
    with pytest.raises(StoreError, match="not there"):
        Store.open(tmp_path)
    with pytest.raises(UsageError, match="at least one bucket"):
        Store.create(tmp_path, buckets=0)


def test_buckets_are_even_and_stable():
    store = Store(Path("x"), buckets_for(6400))
    assert store.buckets == 100
    counts = np.bincount([store.bucket(f"video{n}_000000_000010") for n in range(6400)])
    assert len(counts) == 100 and counts.min() > 30 and counts.max() < 105
    assert store.bucket("-3B32lodo2M_000059_000069") == 36


def test_recipe_of_another_digest_in_the_same_folder_is_refused(tmp_path, shards):
    path = shards.folder / "recipe.json"
    content = json.loads(path.read_text())
    content["settings"]["fps"] = "25"
    path.write_text(json.dumps(content))
    with pytest.raises(StoreError, match="was edited"):
        RecipeShards.open(shards.folder.parent, shards.folder.name)


def test_recipe_can_be_opened_again_and_pickled(shards):
    again = RecipeShards.create(
        shards.folder.parent, Recipe("zoo:net", {"layer": "pool", "fps": "5"})
    )
    assert again == shards == pickle.loads(pickle.dumps(shards))


def test_rows_come_back_as_they_went_in(shards, make_row):
    rows = [
        make_row("a/é.mp4_000000_end", end_seconds=math.nan, label="walk|run", fps_found=29.97),
        make_row("-b_000001_000002", rows=0, label="", split="", group=""),
        make_row("c", rows=5, frames_decoded=7, frames_repeated=1, frames_dropped=2),
    ]
    receipt = shards.commit(0, rows, [], {"host": "here"})
    assert (receipt.shard, receipt.rows, receipt.already) == ("00000.0000.h5", 8, ())
    assert receipt.size == (shards.shards / receipt.shard).stat().st_size
    features = FeatureStore(shards.folder.parent)["zoo:net"]
    assert features.keys() == tuple(sorted(row.key for row in rows))
    for row in rows:
        vectors, seconds = features[row.key]
        assert vectors.dtype == np.float32
        np.testing.assert_array_equal(vectors, row.features.vectors)
        np.testing.assert_array_equal(seconds, row.features.seconds)
    items = features.items
    assert items["label"].tolist() == ["", "walk|run", "walk"]
    assert items["rows"].tolist() == [0, 3, 5]
    assert items["frames_decoded"].tolist() == [0, 0, 7]
    assert math.isnan(items["end_seconds"][1]) and items["fps_found"][1] == 29.97
    assert "nothing" not in features and "c" in features and len(features) == 3
    with pytest.raises(KeyError):
        features["nothing"]


def test_float16_is_kept_and_mixed_types_are_refused(shards, make_row):
    shards.commit(0, [make_row("a", dtype="float16")], [], {})
    features = FeatureStore(shards.folder.parent)["zoo:net"]
    assert features["a"].vectors.dtype == np.float16
    with pytest.raises(ValueError, match="several kinds"):
        shards.commit(0, [make_row("b"), make_row("c", dtype="float16")], [], {})
    with pytest.raises(ValueError, match="expected float32 or float16"):
        make_row("d", dtype="float64")
    shards.commit(0, [make_row("e")], [], {})
    with pytest.raises(StoreError, match="several kinds"):
        FeatureStore(shards.folder.parent)["zoo:net"]


def test_plain_h5py_reads_the_documented_layout(shards, make_row):
    row = make_row("b", rows=4)
    failure = FailureRow("z", "gone", "404", 1, video="z", label="run")
    shards.commit(0, [make_row("a"), row], [failure], {"host": "here"})
    with h5py.File(shards.shards / "00000.0000.h5", "r") as file:
        first, last = file["offsets"][1:3]
        np.testing.assert_array_equal(file["features"][first:last], row.features.vectors)
        np.testing.assert_array_equal(file["seconds"][first:last], row.features.seconds)
        assert file["items"]["key"].tolist() == [b"a", b"b"]
        assert file["failures"]["code"].tolist() == [b"gone"]
        assert file.attrs["complete"] == 1
        assert json.loads(file.attrs["footer"]) == {"host": "here"}
        assert file["features"].chunks is None and file["features"].compression is None


def test_a_segment_is_stored_once(shards, make_row):
    shards.commit(0, [make_row("a")], [], {})
    receipt = shards.commit(0, [make_row("a"), make_row("b")], [], {})
    assert (receipt.done, receipt.already) == (("b",), ("a",))
    nothing = shards.commit(0, [make_row("a"), make_row("b")], [], {})
    assert (nothing.shard, nothing.already) == ("", ("a", "b"))
    assert sorted(os.listdir(shards.shards)) == ["00000.0000.h5", "00000.0001.h5"]


def test_success_supersedes_failure_and_never_the_other_way(shards, make_row):
    failure = FailureRow(
        "a", "timeout", "slow", 1, end_seconds=1.0, source_size=10, source_mtime_ns=20
    )
    shards.commit(0, [], [failure], {})
    assert shards.committed().failures == {"a": failure}
    assert not shards.committed().done
    shards.commit(0, [make_row("a")], [], {})
    for late in (failure, replace(failure, attempts=2), FailureRow("a", "network", "down", 5)):
        assert shards.commit(0, [], [late], {}).already == ("a",)
    known = shards.committed()
    assert dict(known.done) == {"a": (10, 20)} and not known.failures


def test_attempts_grow_and_a_raced_failure_is_not_counted_twice(shards):
    first = FailureRow("a", "timeout", "slow", 1)
    assert shards.commit(0, [], [first], {}).failed == ("a",)
    assert shards.commit(0, [], [first], {}).already == ("a",)
    assert shards.commit(0, [], [replace(first, attempts=2)], {}).failed == ("a",)
    assert shards.committed().failures["a"].attempts == 2


def test_a_replaced_video_is_noticed_and_its_old_features_stay_until_then(shards, make_row):
    old, new = make_row("a", rows=3), make_row("a", rows=4, source_mtime_ns=21)
    shards.commit(0, [old], [], {})
    broken = FailureRow(
        "a", "not_video", "html", 1, end_seconds=1.0, source_size=5, source_mtime_ns=5
    )
    assert shards.commit(0, [], [broken], {}).failed == ("a",)
    known = shards.committed()
    assert known.done["a"] == (10, 20) and known.failures == {"a": broken}
    assert shards.commit(0, [new], [], {}).done == ("a",)
    assert dict(shards.committed().done) == {"a": (10, 21)}
    assert not shards.committed().failures
    features = FeatureStore(shards.folder.parent)["zoo:net"]
    assert len(features["a"]) == 4 and len(features) == 1


def test_keys_of_other_buckets_and_keys_given_twice_are_refused(tmp_path, make_row):
    store = Store.create(tmp_path, buckets=2)
    shards = RecipeShards.create(tmp_path, Recipe("n", {}))
    with pytest.raises(ValueError, match="does not belong"):
        shards.commit(1 - store.bucket("a"), [make_row("a")], [], {})
    with pytest.raises(ValueError, match="given twice"):
        shards.commit(store.bucket("a"), [make_row("a")], [FailureRow("a", "gone", "", 1)], {})


def test_committed_in_one_bucket_is_what_all_shards_say(tmp_path, make_row):
    store = Store.create(tmp_path, buckets=3)
    shards = RecipeShards.create(tmp_path, Recipe("n", {}))
    keys = [f"v{n}" for n in range(30)]
    for key in keys:
        shards.commit(store.bucket(key), [make_row(key)], [], {})
    assert set(shards.committed().done) == set(keys)
    for bucket in range(3):
        assert set(shards.committed_in(bucket).done) == {
            k for k in keys if store.bucket(k) == bucket
        }


def test_recipes_answer_to_folder_and_to_unambiguous_extractor_names(tmp_path):
    Store.create(tmp_path, buckets=1)
    for name, fps in (("i3d", 25), ("i3d", 5), ("c3d", 25)):
        RecipeShards.create(tmp_path, Recipe(name, {"fps": fps}))
    store = FeatureStore(tmp_path)
    assert len(store) == 3 and store["c3d"].recipe["settings"] == {"fps": 25}
    assert store[store.recipes[1]].name == store.recipes[1]
    with pytest.raises(StoreError, match="several recipes of extractor 'i3d'"):
        store["i3d"]
    with pytest.raises(StoreError, match="no recipe or extractor 'x'"):
        store["x"]


def test_file_systems_without_hard_links_publish_through_a_claim(shards, make_row, monkeypatch):
    def no_links(*args: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    assert shards.commit(0, [make_row("a")], [], {}).done == ("a",)
    assert shards.commit(0, [make_row("b")], [], {}).shard == "00000.0001.h5"
    with pytest.raises(FileExistsError):
        publish.publish(b"x", shards.shards / "00000.0001.h5")
    assert sorted(os.listdir(shards.shards)) == ["00000.0000.h5", "00000.0001.h5"]


def test_a_dead_claim_costs_its_number_only(shards, make_row, monkeypatch):
    def no_links(*args: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(publish, "CLAIM_SECONDS", 0.1)
    (shards.shards / "00000.0000.h5.claim").touch()
    assert shards.commit(0, [make_row("a")], [], {}).shard == "00000.0001.h5"
    assert set(shards.committed().done) == {"a"}


def test_a_link_that_the_server_repeated_counts_as_won(tmp_path, monkeypatch):
    link = os.link

    def linked_twice(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", linked_twice)
    publish.publish(b"content", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"content"
    assert os.listdir(tmp_path) == ["file"]


def test_old_leftovers_are_swept_when_a_recipe_is_opened_for_writing(shards):
    old, fresh = (shards.shards / f".00000.0000.h5.{age}.tmp" for age in ("old", "fresh"))
    old.touch()
    fresh.touch()
    os.utime(old, (1, 1))
    RecipeShards.create(shards.folder.parent, Recipe("zoo:net", {"layer": "pool", "fps": "5"}))
    assert publish.leftovers(shards.shards) == [fresh]
