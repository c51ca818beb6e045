from __future__ import annotations

import csv
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cli import cli
from pipeline.cli.store import COMMANDS
from pipeline.errors import StoreError, UsageError
from pipeline.provenance import Recipe
from pipeline.store import (
    FailureRow,
    FeatureStore,
    RecipeShards,
    export,
    export_descriptors,
)
from pipeline.store.exporting import safe_names

for command in COMMANDS:
    cli.add_command(command)

HOSTILE = ["../../etc/passwd_000000_end", "/abs.mp4_000000_end", "a/b.avi_000000_end", "..", "é"]


@pytest.fixture
def features(shards, make_row):
    rows = [make_row(key, video=key.split("_")[0]) for key in HOSTILE]
    rows += [make_row("v_000000_000001"), make_row("V_000000_000001", rows=0)]
    rows += [make_row("w_000000_000001", video="w"), make_row("w_000001_000002", 5, video="w")]
    shards.commit(0, rows, [], {})
    return FeatureStore(shards.folder.parent)["zoo:net"]


def mapping(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@given(st.lists(st.text(min_size=1), unique=True, max_size=20))
@settings(max_examples=50, deadline=None)
def test_names_are_safe_and_unique_whatever_the_keys(keys):
    names = safe_names(keys)
    assert len({name.lower() for name in names}) == len(keys)
    for name in names:
        assert os.path.basename(name) == name and name not in (".", "..", "")
        assert len(name) <= 220 and name.isascii() and name.isprintable()


def test_ordinary_keys_keep_their_names():
    keys = ["-3B32lodo2M_000059_000069", "v_Biking_g01_c01.avi_000000_end"]
    assert safe_names(keys) == keys


def test_hdf5_has_a_dataset_per_segment(features, tmp_path):
    done = export(features, tmp_path / "to" / "x.h5")
    assert (done.written, done.empty) == (len(features), ("V_000000_000001",))
    lines = mapping(done.mapping)
    assert sorted(line["key"] for line in lines) == sorted(features.keys())
    with h5py.File(done.path, "r") as file:
        assert len(file["features"]) == len(file["seconds"]) == len(features)
        for line in lines:
            vectors, seconds = features[line["key"]]
            np.testing.assert_array_equal(file["features"][line["name"]][:], vectors)
            np.testing.assert_array_equal(file["seconds"][line["name"]][:], seconds)
            assert file["features"][line["name"]].attrs["label"] == "walk"


def test_npy_files_stay_in_their_folder(features, tmp_path):
    inside = tmp_path / "deep" / "er"
    done = export(features, inside / "x", "npy")
    assert sorted(os.listdir(inside)) == ["x", "x.csv"]
    assert sorted(os.listdir(inside / "x")) == ["features", "seconds"]
    for line in mapping(done.mapping):
        read = np.load(inside / "x" / "features" / f"{line['name']}.npy", allow_pickle=False)
        np.testing.assert_array_equal(read, features[line["key"]].vectors)
        assert len(read) == int(line["rows"])


@pytest.mark.parametrize("form", ["hdf5", "npy"])
def test_descriptors_are_the_unit_average_of_all_rows_of_a_video(features, tmp_path, form):
    done = export_descriptors(features, tmp_path / "d", form)
    lines = mapping(done.mapping)
    if form == "npy":
        descriptors = np.load(done.path, allow_pickle=False)
    else:
        with h5py.File(done.path, "r") as file:
            descriptors = file["descriptors"][:]
            assert file["videos"].asstr()[:].tolist() == [line["video"] for line in lines]
    np.testing.assert_allclose(np.linalg.norm(descriptors, axis=1), 1, rtol=1e-6)
    (line,) = (line for line in lines if line["video"] == "w")
    assert line["rows"] == "8"
    rows = np.concatenate([features[f"w_00000{n}_00000{n + 1}"].vectors for n in range(2)])
    expected = rows.mean(axis=0) / np.linalg.norm(rows.mean(axis=0))
    np.testing.assert_allclose(descriptors[int(line["index"])], expected, rtol=1e-5)
    assert done.empty == ("V_000000_000001",)


def test_nothing_is_overwritten_and_nothing_half_written_is_left(features, tmp_path, monkeypatch):
    (tmp_path / "there").touch()
    with pytest.raises(UsageError, match="it exists"):
        export(features, tmp_path / "there")

    def fail(*args: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(StoreError, match=r"full: not written .*No space.*nothing is left of it"):
        export(features, tmp_path / "full", "npy")
    assert not [name for name in os.listdir(tmp_path) if "full" in name]


def test_the_command_asks_for_a_recipe_when_there_are_several(features, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert not cli.main(["export", out, str(tmp_path / "x.h5")], standalone_mode=False)
    assert "names in" in capsys.readouterr().out
    RecipeShards.create(out, Recipe("other", {}))
    with pytest.raises(Exception, match="choose with --recipe one of: other-"):
        cli.main(["export", out, str(tmp_path / "y.h5")], standalone_mode=False)
    arguments = ["export", out, str(tmp_path / "y.npy"), "--recipe", "zoo:net", "--format", "npy"]
    assert not cli.main([*arguments, "--per-video"], standalone_mode=False)
    assert len(np.load(tmp_path / "y.npy")) == len(HOSTILE) + 2


def test_a_key_made_to_look_like_another_ones_name_gets_one_of_its_own():
    (name,) = safe_names(["a{b"])
    keys = [name, f"{name}-2", "a{b"]
    names = safe_names(keys)
    assert len({name.lower() for name in names}) == len(keys)
    assert names[:2] == keys[:2]


def test_a_mapping_that_cannot_be_written_leaves_nothing(features, tmp_path, monkeypatch):
    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(csv, "writer", fail)
    for form in ("hdf5", "npy"):
        for write in (export, export_descriptors):
            with pytest.raises(StoreError, match="nothing is left of it"):
                write(features, tmp_path / "full", form)
    assert not [name for name in os.listdir(tmp_path) if "full" in name]


def test_the_name_in_the_way_is_the_one_that_is_named(features, tmp_path):
    (tmp_path / "x.h5.csv").touch()
    with pytest.raises(UsageError, match=r"x\.h5\.csv: it exists"):
        export(features, tmp_path / "x.h5")


def test_a_store_without_rows_has_no_descriptors_and_names_as_texts(shards, tmp_path):
    shards.commit(0, [], [FailureRow("d", "gone", "404", 1)], {})
    empty = FeatureStore(shards.folder.parent)["zoo:net"]
    done = export_descriptors(empty, tmp_path / "d.h5")
    with h5py.File(done.path) as file:
        assert file["videos"].shape == (0,) and h5py.check_string_dtype(file["videos"].dtype)


def test_a_wrong_recipe_is_a_wrong_use(features, tmp_path):
    out = str(tmp_path / "out")
    for arguments in (["export", out, "x.h5", "--recipe", "nope"], ["status", str(tmp_path)]):
        with pytest.raises(UsageError):
            cli.main(arguments, standalone_mode=False)
