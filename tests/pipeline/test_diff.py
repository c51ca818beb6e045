"""Comparing with other tools: each kind of difference leaves its own mark."""

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from pipeline.cli.diff import diff
from pipeline.diff import compare, differences, verdict
from pipeline.errors import StoreError, UsageError
from pipeline.frames import Features
from pipeline.provenance import Recipe
from pipeline.store import FeatureStore, RecipeShards, SegmentRow, Store, export
from pipeline.store.foreign import ForeignFeatures, Place, read

DIM = 6


def rows(count, seed):
    return np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)


VIDEOS = {"abc": rows(9, 1), "v_-x y": rows(7, 2)}  # a name that needs escaping in files


def store_of(out, videos, starts=(0,)):
    recipe = Recipe("net", {"dim": DIM})
    Store.create(out, 1)
    segments = []
    for video, vectors in videos.items():
        for start in starts:
            seconds = np.stack([np.arange(len(vectors)), np.arange(len(vectors)) + 1.0], axis=1)
            segments.append(
                SegmentRow(
                    key=f"{video}_{start:06d}_{start + 10:06d}",
                    video=video,
                    start_seconds=float(start),
                    end_seconds=start + 10.0,
                    label="",
                    split="",
                    group="",
                    source_size=1,
                    source_mtime_ns=1,
                    fps_found=25.0,
                    frames_decoded=1,
                    frames_repeated=0,
                    frames_dropped=0,
                    decoded_ratio=1.0,
                    features=Features(vectors, seconds),
                )
            )
    RecipeShards.create(out, recipe).commit(0, segments, [], {})
    return FeatureStore(out)["net"]


@pytest.fixture
def ours(tmp_path):
    return store_of(tmp_path / "ours", VIDEOS)


def save(folder, arrays, suffix=""):
    folder.mkdir()
    for name, array in arrays.items():
        np.save(folder / f"{name}{suffix}.npy", array)
    return ForeignFeatures(folder)


def test_equal_features_are_the_same(ours, tmp_path):
    found = differences(ours, save(tmp_path / "other", VIDEOS))
    assert [c.offset for c in found.compared] == [0, 0]
    assert max(c.distance for c in found.compared) == 0
    assert min(c.lowest_cosine for c in found.compared) == pytest.approx(1)
    assert verdict(found) == "the same features"
    assert found.absent == ()


@pytest.mark.parametrize("shift", [1, 2, -1])
def test_a_shift_of_rows_is_found(ours, tmp_path, shift):
    shifted = {}
    for name, vectors in VIDEOS.items():
        extra = rows(abs(shift), 9)
        shifted[name] = np.concatenate([extra, vectors]) if shift > 0 else vectors[-shift:]
    found = differences(ours, save(tmp_path / "other", shifted))
    assert [c.offset for c in found.compared] == [shift, shift]
    assert all(c.distance == 0 for c in found.compared)
    assert f"their row k{shift:+d}" in verdict(found)
    assert "numbers of rows differ" in verdict(found)


def test_normalised_rows_have_a_cosine_of_one_and_a_distance(ours, tmp_path):
    unit = {k: v / np.linalg.norm(v, axis=1, keepdims=True) for k, v in VIDEOS.items()}
    found = differences(ours, save(tmp_path / "other", unit))
    assert all(c.cosine == pytest.approx(1) and c.distance > 0.3 for c in found.compared)
    assert verdict(found) == "the same directions; theirs are L2-normalised"


def test_scaled_rows_are_told_with_their_factor(ours, tmp_path):
    found = differences(ours, save(tmp_path / "other", {k: v / 4 for k, v in VIDEOS.items()}))
    assert verdict(found) == "the same directions; ours are 4 times as long"


def test_another_network_is_told_by_its_directions(ours, tmp_path):
    other = {name: rows(len(v), 77) for name, v in VIDEOS.items()}
    found = differences(ours, save(tmp_path / "other", other))
    assert max(c.cosine for c in found.compared) < 0.9
    assert verdict(found).startswith("directions differ")


def test_figures_are_those_of_their_definitions():
    a = np.array([[3, 4], [0, 2]], np.float32)
    b = np.array([[4, 3], [0, 1]], np.float32)
    found = compare("key", "place", a, b)
    assert (found.offset, found.compared, found.rows) == (0, 2, (2, 2))
    assert found.cosine == pytest.approx((24 / 25 + 1) / 2)
    assert found.lowest_cosine == pytest.approx(24 / 25)
    assert found.distance == pytest.approx(np.sqrt(1 + 1 + 1) / np.sqrt(25 + 1))
    assert found.scale == pytest.approx(np.sqrt(29 / 26))
    assert not found.theirs_unit


def test_a_still_video_has_no_shift_and_zero_rows_no_division():
    still = np.ones((5, 3), np.float32) + 1e-8
    assert compare("k", "p", still, still).offset == 0
    nothing = np.zeros((2, 3), np.float32)
    found = compare("k", "p", nothing, nothing)
    assert (found.cosine, found.distance, found.scale) == (0, 0, float("inf"))


def test_one_average_vector_is_compared_as_one_row(ours, tmp_path):
    means = {name: v.mean(axis=0) for name, v in VIDEOS.items()}
    found = differences(ours, save(tmp_path / "other", means))
    assert [c.rows for c in found.compared] == [(9, 1), (7, 1)]
    assert all(c.compared == 1 for c in found.compared)


def test_our_own_export_comes_back_equal_from_hdf5_and_npy(ours, tmp_path):
    for form, name in (("hdf5", "all.h5"), ("npy", "all")):
        export(ours, tmp_path / name, form)
        found = differences(ours, ForeignFeatures(tmp_path / name, "features"))
        assert verdict(found) == "the same features"
        assert len(found.compared) == 2


def test_hdf5_in_groups_like_activitynet_is_read_transposed_or_not(ours, tmp_path):
    with h5py.File(tmp_path / "sub.h5", "w") as file:
        for name, vectors in VIDEOS.items():
            file[f"{name}/c3d_features"] = vectors.T
            file[f"{name}/other"] = vectors + 1
            file[f"{name}/title"] = "words"
    found = differences(ours, ForeignFeatures(tmp_path / "sub.h5", "c3d_features"))
    assert verdict(found) == "the same features"


def test_singleton_axes_and_suffixes_of_other_tools_are_understood(ours, tmp_path):
    maps = {name: v.reshape(len(v), 1, 1, DIM) for name, v in VIDEOS.items()}
    found = differences(ours, save(tmp_path / "other", maps, "_rgb"), suffix="_rgb")
    assert verdict(found) == "the same features"


def test_columns_pick_one_network_of_two(ours, tmp_path):
    joined = {n: np.concatenate([v + 5, v], axis=1) for n, v in VIDEOS.items()}
    other = save(tmp_path / "other", joined)
    assert verdict(differences(ours, other, columns="6:12")) == "the same features"
    with pytest.raises(UsageError, match="12 values, ours have 6"):
        differences(ours, other)
    with pytest.raises(UsageError, match="expected FIRST:END"):
        differences(ours, other, columns="6-12")


def test_a_video_of_several_segments_is_matched_by_segment_alone(tmp_path):
    ours = store_of(tmp_path / "ours", {"abc": VIDEOS["abc"]}, starts=(0, 10))
    other = {"abc": rows(9, 5), "abc_000010_000020": VIDEOS["abc"]}
    found = differences(ours, save(tmp_path / "other", other))
    assert [c.key for c in found.compared] == ["abc_000010_000020"]
    assert found.absent == ("abc_000000_000010",)
    assert found.compared[0].distance == 0


def test_several_arrays_of_one_name_must_be_told_apart(ours, tmp_path):
    with h5py.File(tmp_path / "two.h5", "w") as file:
        file["abc/rgb"] = VIDEOS["abc"]
        file["abc/flow"] = VIDEOS["abc"] + 1
    with pytest.raises(UsageError, match=r"2 arrays answer to 'abc'.*--array, e\.g\. flow, rgb"):
        differences(ours, ForeignFeatures(tmp_path / "two.h5"))
    found = differences(ours, ForeignFeatures(tmp_path / "two.h5", "rgb"))
    assert verdict(found) == "the same features"
    assert found.absent == ("v_-x y_000000_000010",)


def test_no_common_name_shows_examples_of_both(ours, tmp_path):
    other = save(tmp_path / "other", {"abc_rgb": VIDEOS["abc"]})
    with pytest.raises(
        UsageError, match=r"ours are like abc_000000_000010.*like abc_rgb.*--suffix"
    ):
        differences(ours, other)


def test_pickles_maps_and_words_are_refused(tmp_path):
    np.save(tmp_path / "code.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "maps.npy", np.zeros((3, 2, 2), np.float32))
    np.save(tmp_path / "words.npy", np.array(["a", "b"]))
    for name, message in (("code", "cannot be read"), ("maps", r"\(3, 2, 2\)"), ("words", "<U1")):
        with pytest.raises(StoreError, match=message):
            read(Place(tmp_path / f"{name}.npy"))


def test_hdf5_that_leads_to_other_files_is_not_followed(tmp_path):
    np.save(tmp_path / "secret.npy", VIDEOS["abc"])
    with h5py.File(tmp_path / "target.h5", "w") as file:
        file["abc"] = VIDEOS["abc"]
    (tmp_path / "links").mkdir()
    with h5py.File(tmp_path / "links" / "links.h5", "w") as file:
        file["linked"] = h5py.ExternalLink(str(tmp_path / "target.h5"), "abc")
        file.create_dataset(
            "external", (9, DIM), "f4", external=[(str(tmp_path / "secret.npy"), 128, 216)]
        )
        layout = h5py.VirtualLayout(shape=(9, DIM), dtype="f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "target.h5"), "abc", shape=(9, DIM))
        file.create_virtual_dataset("virtual", layout)
        file["own"] = VIDEOS["abc"]
    assert ForeignFeatures(tmp_path / "links").names == ("links", "own")


def test_a_folder_without_features_is_a_usage_error(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(UsageError, match="no array of features"):
        ForeignFeatures(tmp_path)


def test_a_damaged_hdf5_file_is_named(tmp_path):
    (tmp_path / "bad.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(StoreError, match=r"bad\.h5: cannot be read as HDF5"):
        ForeignFeatures(tmp_path)


def test_the_command_shows_the_worst_first_and_its_status_follows_min_cosine(ours, tmp_path):
    changed = {**VIDEOS, "abc": VIDEOS["abc"] + 0.5}
    save(tmp_path / "other", changed)
    arguments = [str(tmp_path / "ours"), str(tmp_path / "other")]
    result = CliRunner().invoke(diff, arguments, standalone_mode=False)
    lines = result.output.splitlines()
    assert lines[1].endswith("abc_000000_000010")
    assert lines[2].endswith("v_-x y_000000_000010")
    assert float(lines[1].split()[0]) < 0.99 < float(lines[2].split()[0])
    assert "2 segments compared, 0 of ours not there" in lines[3]
    assert result.return_value == 0
    strict = CliRunner().invoke(diff, [*arguments, "--min-cosine", "0.999"], standalone_mode=False)
    assert strict.return_value == 1


def test_an_empty_array_is_one_that_is_not_there(ours, tmp_path):
    found = differences(
        ours, save(tmp_path / "other", {"abc": np.zeros((0, DIM)), "v_-x y": VIDEOS["v_-x y"]})
    )
    assert found.absent == ("abc_000000_000010",)
    assert len(found.compared) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_no_verdict_on_what_is_not_finite(ours, tmp_path, value):
    spoilt = VIDEOS["abc"].astype(np.float64)
    spoilt[2, 3] = value
    with pytest.raises(StoreError, match="holds NaN or infinity"):
        differences(ours, save(tmp_path / "other", {"abc": spoilt}))


def test_no_verdict_on_ours_that_are_not_finite(tmp_path):
    spoilt = VIDEOS["abc"].copy()
    spoilt[0, 0] = np.nan
    ours = store_of(tmp_path / "ours", {"abc": spoilt})
    with pytest.raises(StoreError, match="our features of abc_000000_000010 are not finite"):
        differences(ours, save(tmp_path / "other", VIDEOS))


def test_an_array_that_claims_more_than_its_file_holds_is_refused(tmp_path):
    path = tmp_path / "v.npy"
    np.save(path, np.zeros((2, DIM)))
    content = path.read_bytes()
    shape, claimed = f"(2, {DIM}), }}".encode(), f"({10**14}, {DIM}), }}".encode()
    path.write_bytes(content.replace(shape.ljust(len(claimed)), claimed))
    with pytest.raises(StoreError, match="cannot be read as an array"):
        read(Place(path))
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_dataset("v", (10**14, DIM), "f4")
    with pytest.raises(StoreError, match="cannot be read as an array"):
        read(Place(tmp_path / "v.h5", "v"))


def test_a_dataset_of_a_type_that_numpy_lacks_is_passed_over(tmp_path):
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["abc"] = VIDEOS["abc"]
        space = h5py.h5s.create_simple((3,))
        h5py.h5d.create(file.id, b"odd", h5py.h5t.UNIX_D32LE, space)
    assert ForeignFeatures(tmp_path).names == ("abc", "v")
