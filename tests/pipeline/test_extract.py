"""``pipeline extract`` as a user types it: plan, run, run again, and what cannot be."""

import csv
import json
from fractions import Fraction
from pathlib import Path

import h5py
import numpy as np
import pytest

from pipeline.store import FeatureStore
from tests.pipeline.command import Result, run
from tests.truth.numbered_video import NumberedVideo, constant, write

RANDOM = ("-e", "efficientnet-lite0", "--set", "efficientnet-lite0.weights=random", "-w", "0")
HEADER = "label,youtube_id,time_start,time_end,split\n"
ROWS = """yoga,-aaaaaaaaaa,0,2,train
"surfing, big",bbbbbbbbbbb,1,3,val
yoga,ccccccccccc,5,15,val
yoga,ddddddddddd,0,10,test
"""


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A Kinetics list of four: one trimmed, one full, one too short, one absent."""
    videos = tmp_path / "videos"
    videos.mkdir()
    made = {"-aaaaaaaaaa_000000_000002": 2, "bbbbbbbbbbb": 4, "ccccccccccc": 2}
    for name, seconds in made.items():
        video = NumberedVideo(name, **constant(seconds * 5, Fraction(5)))
        write(videos / f"{name}.mp4", video)
    (tmp_path / "kinetics400.csv").write_text(HEADER + ROWS)
    return tmp_path


def extract(world: Path, *flags: object) -> Result:
    given = ("-m", world / "kinetics400.csv", "-v", world / "videos", "-o", world / "out")
    return run("extract", *given, *RANDOM, *flags)


def recipe_of(world: Path):
    store = FeatureStore(world / "out")
    (name,) = store.recipes
    return store[name]


def test_a_list_becomes_features_failures_and_a_list_of_the_absent(world: Path) -> None:
    result = extract(world)
    assert result.status == 0, result.output
    assert "2 segments done, 1 failed, 0 left, 1 without a video" in result.output
    assert "--videos trimmed:DIR" in result.output
    features = recipe_of(world)
    assert sorted(features) == ["-aaaaaaaaaa_000000_000002", "bbbbbbbbbbb_000001_000003"]
    vectors, seconds = features["bbbbbbbbbbb_000001_000003"]
    assert vectors.shape == (10, 1280)
    np.testing.assert_allclose(seconds[:, 0], 1 + np.arange(10) / 5)
    np.testing.assert_allclose(seconds[:, 1] - seconds[:, 0], 1 / 5)
    (absent,) = (world / "out" / "runs").glob("*/absent.csv")
    assert "ddddddddddd" in absent.read_text()
    with (world / "out" / "failures.csv").open() as file:
        assert [row["code"] for row in csv.DictReader(file)] == ["outside_video"]
    assert json.loads((world / "out" / "classes.json").read_text()) == ["surfing, big", "yoga"]


def test_the_same_command_again_does_only_what_is_missing(world: Path) -> None:
    extract(world)
    before = sorted((world / "out").glob("*/shards/*.h5"))
    video = NumberedVideo("d", **constant(50, Fraction(5)))
    write(world / "videos" / "ddddddddddd.mp4", video)
    again = extract(world)
    assert "2 done, 2 to do, 1 tried again" in again.output
    assert "1 segments done, 1 failed" in again.output
    assert set(before) < set((world / "out").glob("*/shards/*.h5"))
    assert len(recipe_of(world)) == 3


def test_a_replaced_video_is_made_anew(world: Path) -> None:
    extract(world)
    key = "bbbbbbbbbbb_000001_000003"
    before = recipe_of(world)[key].vectors
    turned = NumberedVideo("b", **constant(20, Fraction(5)), turned_degrees=90)
    write(world / "videos" / "bbbbbbbbbbb.mp4", turned)
    assert "1 with a replaced video" in extract(world).output
    assert not np.array_equal(recipe_of(world)[key].vectors, before)
    assert run("verify", world / "out").status == 0


def test_a_changed_setting_is_another_folder_and_a_changed_label_is_not(world: Path) -> None:
    extract(world)
    extract(world, "--set", "efficientnet-lite0.fps=2.5")
    assert len(FeatureStore(world / "out").recipes) == 2
    (world / "kinetics400.csv").write_text(HEADER + ROWS.replace("yoga", "pilates"))
    assert "2 done, 1 to do, 1 tried again" in extract(world).output


def test_a_dry_run_plans_and_writes_nothing(world: Path) -> None:
    result = extract(world, "--dry-run")
    assert result.status == 0
    assert "4 segments: 3 with a video, 1 without" in result.output
    assert "70 rows expected" in result.output
    assert not (world / "out").exists()


def test_split_and_limit_narrow_the_list(world: Path) -> None:
    assert "2 segments: 2 with" in extract(world, "--split", "val", "--dry-run").output
    assert "1 segments: 1 with" in extract(world, "--limit", "1", "--dry-run").output


def test_two_extractors_share_one_decoding_pass(world: Path) -> None:
    inflated = "efficientnet-lite0-inflated"
    result = extract(
        world, "--split", "train", "-e", inflated, "--set", f"{inflated}.weights=random",
        "--set", f"{inflated}.fps=5", "--set", f"{inflated}.window=4",
        "--set", f"{inflated}.stride=4", "--set", f"{inflated}.batch=1",
    )  # fmt: skip
    assert result.status == 0, result.output
    (summary,) = (world / "out" / "runs").glob("*/summary.json")
    counts = json.loads(summary.read_text())["counts"]
    assert counts == {"frames": 10, "windows": 12}


def test_the_h5_layout_is_the_documented_one(world: Path) -> None:
    extract(world)
    for path in (world / "out").glob("*/shards/*.h5"):
        with h5py.File(path) as file:
            for number, key in enumerate(file["items"]["key"]):
                first, last = file["offsets"][number : number + 2]
                vectors = recipe_of(world)[key.decode()].vectors
                np.testing.assert_array_equal(file["features"][first:last], vectors)


def test_bad_rows_are_reported_and_kept_beside_the_run(world: Path) -> None:
    bad = "yoga,eeeeeeeeeee,10,5,train\n"
    (world / "kinetics400.csv").write_text(HEADER + ROWS + bad)
    result = extract(world)
    assert "kinetics400.csv:6" in result.output
    (rejects,) = (world / "out" / "runs").glob("*/rejects.csv")
    assert "eeeeeeeeeee" in rejects.read_text()
    strict = extract(world, "--strict")
    assert strict.status == 2
    assert "kinetics400.csv:6" in strict.output


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["-v", "nowhere"], "nowhere"),
        (["--extractor", "i3d-rgv"], "i3d-rgb"),
        (["--set", "efficientnet-lite0.fps=fast"], "expected a number"),
        (["--set", "efficientnet-lite0.speed=1"], "expected one of"),
        (["--set", "i3d-rgb.stride=8"], "add --extractor i3d-rgb"),
        (["--set", "stride"], "expected NAME.KEY=VALUE"),
        (["--decoder", "ffmpg"], "pyav"),
        (["--flow-preset", "hasty"], "faithful"),
        (["--split", "holiday"], "check --split"),
        (["--wrong"], "No such option"),
        (["--device", "tpu"], "tpu"),
    ],
)
def test_what_cannot_be_is_said_with_the_remedy(world: Path, flags: list[str], said: str) -> None:
    result = extract(world, *flags)
    assert result.status == 2, result.output
    assert said in result.output
    assert "Traceback" not in result.output
    assert not list((world / "out").glob("*/shards/*.h5"))


def test_missing_weights_say_where_to_get_them(world: Path) -> None:
    result = extract(world, "-e", "i3d-rgb", "--weights", world)
    assert result.status == 2
    assert "pipeline weights fetch i3d-rgb" in result.output


def test_not_one_video_is_a_usage_error(world: Path) -> None:
    (world / "empty").mkdir()
    given = ("-m", world / "kinetics400.csv", "-o", world / "out", "-v", world / "empty")
    result = run("extract", *given, *RANDOM)
    assert result.status == 2
    assert "not one of 4 videos" in result.output


def test_doctor_and_lists_speak(tmp_path: Path) -> None:
    doctor = run("doctor", "--out", tmp_path)
    assert "efficientnet-lite0" in doctor.output
    assert "pyav: here" in doctor.output
    for what in ("extractors", "manifests", "sources"):
        assert run("list", what).status == 0
    assert run("list", "extractors", "--markdown").output.startswith("| name |")
