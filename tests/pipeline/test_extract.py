"""``pipeline extract`` as a user types it: plan, run, run again, and what cannot be."""

import csv
import json
from fractions import Fraction
from pathlib import Path

import h5py
import numpy as np
import pytest

from manifests import Segment
from pipeline.cli.extract import _sources
from pipeline.cli.extract import extract as extract_command
from pipeline.errors import Ambiguous, DiskFull, VideoMissing
from pipeline.session import _locator
from pipeline.sources import SourceOptions, Sources
from pipeline.store import FeatureStore, RecipeShards
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
    assert "1, listed in" in rejects.with_name("report.html").read_text()
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


def test_without_videos_the_default_is_named(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path / "videos")
    result = run("extract", "-m", world / "kinetics400.csv", *RANDOM)
    assert result.status == 2
    assert "no --videos was given, and there is no folder 'videos' here" in result.output


def test_a_gpu_that_is_not_there_is_said_before_anything_else(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    result = extract(world, "--device", "cuda")
    assert result.status == 2
    assert "--device cpu" in result.output
    assert len(result.output.splitlines()) == 1


def test_out_that_is_a_file_is_a_usage_error(world: Path) -> None:
    (world / "out").write_text("not a folder")
    result = extract(world)
    assert result.status == 2
    assert "is a file" in result.output


def test_a_path_that_cannot_be_written_is_one_line(world: Path) -> None:
    listed = world / "kinetics400.csv"
    result = run("manifest", "convert", listed, "-o", world / "nowhere" / "list.csv")
    assert result.status == 2
    assert "no such folder" in result.output
    result = run("manifest", "convert", listed, "-o", "/proc/list.csv")
    assert result.status == 1
    assert result.output.startswith("error: /proc/")
    assert len(result.output.splitlines()) == 1


def test_the_page_of_the_run_is_there_and_keeps_secrets(world: Path) -> None:
    secret = "https://me:pa55word@host.example/{id}.mp4?token=51gnature"
    result = extract(world, "--split", "train", "-v", secret)
    assert result.status == 0, result.output
    (page,) = (world / "out" / "runs").glob("*/report.html")
    assert f"report: {page}" in result.output
    text = page.read_text()
    assert "https://host.example/{id}.mp4" in text
    for file in page.parent.iterdir():
        assert "pa55word" not in file.read_text() and "51gnature" not in file.read_text()


def test_a_full_disk_ends_the_run_with_its_report(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise DiskFull("no room for the shard")

    monkeypatch.setattr(RecipeShards, "commit", full)
    result = extract(world)
    assert result.status == 1
    assert "0 segments done, 0 failed, 3 left" in result.output
    assert result.output.splitlines()[-1] == "error: no room for the shard"
    (page,) = (world / "out" / "runs").glob("*/report.html")
    assert "Stopped by an error: no room for the shard" in page.read_text()


def test_a_report_without_room_is_work_left_and_no_traceback(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", str(world / "out" / "failures.csv"))

    monkeypatch.setattr("pipeline.report.write_state", full)
    result = extract(world)
    assert result.status == 1
    assert "2 segments done" in result.output
    assert "no report of this run could be written (No space left on device)" in result.output


def test_several_files_for_one_video_are_no_reason_to_download(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.mp4").touch()
    sources = Sources([str(tmp_path)], SourceOptions())
    with pytest.raises(Ambiguous):
        _locator(sources, remote=True)(Segment(video="x"))
    assert _locator(sources, remote=True)(Segment(video="y")) is None
    with pytest.raises(VideoMissing):
        _locator(sources, remote=False)(Segment(video="y"))


def test_the_flags_for_servers_reach_the_sources(world: Path) -> None:
    flags = {"rate": 0.5, "per-host": 2, "attempts": 7, "max-bytes": 99, "deadline": 5}
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    given = ["-m", str(world / "kinetics400.csv"), "-v", str(world / "videos"), *words]
    with extract_command.make_context("extract", given) as context:
        _, _, options = _sources(context.params)
    assert options.requests_per_second == 0.5
    assert (options.requests_at_a_time, options.attempts, options.max_bytes) == (2, 7, 99)
    assert options.deadline_seconds == 5


def test_doctor_and_lists_speak(tmp_path: Path) -> None:
    doctor = run("doctor", "--out", tmp_path)
    assert "efficientnet-lite0" in doctor.output
    assert "pyav: here" in doctor.output
    for what in ("extractors", "manifests", "sources"):
        assert run("list", what).status == 0
    assert run("list", "extractors", "--markdown").output.startswith("| name |")
