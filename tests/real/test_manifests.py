"""The published lists themselves: they load whole, with the counts they are known for."""

from collections import Counter
from pathlib import Path

import pytest

import manifests

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
LISTS = DATA / "manifests"
KINETICS = LISTS / "kinetics"

pytestmark = pytest.mark.skipif(
    not LISTS.is_dir(), reason="the published lists are not beside the checkout (../shared/data)"
)


@pytest.mark.parametrize(
    ("name", "rows", "split", "classes", "dashes"),
    [
        ("activitynet_kinetics-400_test.csv", 38_685, "test", 0, 548),
        ("activitynet_kinetics-400_val.csv", 19_906, "val", 400, 644),
        ("activitynet_kinetics-600_val.csv", 30_000, "val", 600, 744),
        ("deepmind_kinetics400_test.csv", 35_308, "test", 400, 499),
        ("deepmind_kinetics400_validate.csv", 18_009, "val", 400, 579),
        ("deepmind_kinetics700_validate.csv", 33_909, "val", 700, 316),
    ],
)
def test_kinetics(name, rows, split, classes, dashes):
    manifest = manifests.load(KINETICS / name)
    assert (manifest.dataset, len(manifest), manifest.rejects) == ("kinetics", rows, ())
    assert {s.split for s in manifest} == {split}
    assert len(manifest.classes) == classes
    assert sum(s.video.startswith("-") for s in manifest) == dashes
    assert len({s.key for s in manifest}) == rows


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("activitynet_kinetics-400_val.csv", "label_map_k400.txt"),
        ("activitynet_kinetics-400_val.csv", "i3d_label_map.txt"),
        ("activitynet_kinetics-600_val.csv", "label_map_k600.txt"),
        ("deepmind_kinetics700_validate.csv", "label_map_k700.txt"),
    ],
)
def test_sorted_labels_are_the_published_order(name, labels):
    alone = manifests.load(KINETICS / name)
    mapped = manifests.load(KINETICS / name, f"kinetics:{KINETICS / labels}", strict=True)
    assert alone.classes == mapped.classes
    assert alone.classes == tuple((KINETICS / labels).read_text().splitlines())


def test_mini_kinetics():
    path = LISTS / "minikinetics" / "val_ytid_list.txt"
    whole = manifests.load(path, f"minikinetics:{KINETICS / 'activitynet_kinetics-400_val.csv'}")
    assert (len(whole), whole.rejects, len(whole.classes)) == (5_000, (), 200)
    assert set(Counter(s.labels for s in whole).values()) == {25}
    part = manifests.load(path, f"minikinetics:{KINETICS / 'deepmind_kinetics400_validate.csv'}")
    assert (len(part), len(part.rejects)) == (4_610, 390)


def test_ucf101_with_windows_line_ends():
    manifest = manifests.load(LISTS / "ucf101", strict=True)
    assert Counter(s.split for s in manifest) == Counter(train=9_537, test=3_783)
    assert len(manifest.classes) == 101
    assert manifest.classes[0] == "ApplyEyeMakeup" and manifest.classes[100] == "YoYo"
    groups = {split: {s.group for s in manifest if s.split == split} for split in ("train", "test")}
    assert not groups["train"] & groups["test"]
    one = manifests.load(LISTS / "ucf101" / "trainlist01.txt", strict=True)
    assert len(one) == 9_537


def test_hmdb51():
    manifest = manifests.load(LISTS / "hmdb51", strict=True)
    counts = Counter((s.labels[0], s.split) for s in manifest)
    assert counts == {
        (label, split): number
        for label in ("cartwheel", "run", "turn", "wave")
        for split, number in (("train", 70), ("test", 30))
    }
    assert all(s.group for s in manifest)


def test_sports_1m_labels(tmp_path):
    labels = LISTS / "sports1m" / "labels.txt"
    partition = tmp_path / "test_partition.txt"
    partition.write_text("https://www.youtube.com/watch?v=UDqivjS-lpI 0,486\n")
    manifest = manifests.load(partition, f"sports1m:{labels}", strict=True)
    assert manifest.segments[0].labels == ("boomerang", "model aircraft")
    assert len(manifest.classes) == 487


def test_folder_of_videos():
    manifest = manifests.load(DATA / "videos", strict=True)
    assert len(manifest) == 53
    assert manifest.classes == ("edge_cases", "hmdb51", "kinetics", "misc", "ucf101")


def test_generic_table_of_the_labelled_set():
    manifest = manifests.load(DATA / "labelled" / "ut_interaction" / "clips.csv", strict=True)
    assert (manifest.dataset, len(manifest), len(manifest.classes)) == ("generic", 60, 6)
    sizes = Counter(s.group for s in manifest)
    assert sizes == {f"seq{k:02d}": 6 for k in range(1, 11)} | {"seq06": 5, "seq08": 7}
    divided = manifests.split(manifest.segments, {"train": 0.8, "test": 0.2})
    assert Counter(s.split for s in divided) == Counter(train=48, test=12)


def test_kinetics_subset_is_balanced():
    manifest = manifests.load(KINETICS / "activitynet_kinetics-400_val.csv")
    drawn = manifests.balanced(manifest, 3, seed=1)
    assert set(Counter(s.labels for s in drawn).values()) == {3}
    assert len(drawn) == 1_200
