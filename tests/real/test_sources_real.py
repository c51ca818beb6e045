"""Sources and fetch over the real lists and videos beside the checkout."""

import csv
import io
import json
import tarfile
import tempfile
from fractions import Fraction
from pathlib import Path

import pytest

import manifests
from pipeline import decode
from pipeline.cli.fetch import fetch as command
from pipeline.errors import VideoMissing
from pipeline.sampling import Grid
from pipeline.sources import SourceOptions, Sources
from tests.faults.http_server import Server

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
KINETICS = DATA / "videos" / "kinetics"
VALIDATION = DATA / "manifests" / "kinetics" / "activitynet_kinetics-400_val.csv"
THERE = {
    "R6llTwEh07w_000000_000010": 863543,
    "SOX5yA1l24A_000299_000309": 560305,
    "WUzgd7C1pWA_000101_000111": 889619,
}

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the shared real data is not there")


@pytest.fixture(autouse=True)
def own_accounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))


def fetched(into: Path, *videos: str, flags: tuple[str, ...] = ()) -> dict[str, int]:
    sources = [word for text in videos for word in ("--videos", text)]
    command_line = ["-m", str(VALIDATION), "--into", str(into), "--allow-private", *sources]
    assert command.main([*command_line, "--rate", "100000", *flags], standalone_mode=False) == 0
    assert json.loads((into / "coverage.json").read_text())["done"] == len(THERE)
    return {path.stem: path.stat().st_size for path in into.glob("*.mp4")}


def test_three_of_the_validation_list_are_found_and_the_rest_is_absent() -> None:
    source = Sources([f"trimmed:{KINETICS}"], SourceOptions())
    found = set()
    for segment in manifests.load(VALIDATION):
        try:
            located = source.locate(segment)
        except VideoMissing:
            continue
        assert located.trimmed
        found.add(segment.key)
    assert found == set(THERE)


def test_every_ucf_video_that_is_there_is_found_by_its_list() -> None:
    source = Sources([str(DATA / "videos" / "ucf101")], SourceOptions())
    found = set()
    for segment in manifests.load(DATA / "manifests" / "ucf101" / "trainlist01.txt"):
        try:
            found.add(source.locate(segment).path.name)
        except VideoMissing:
            continue
    listed = (DATA / "manifests" / "ucf101" / "trainlist01.txt").read_text()
    there = {path.name for path in (DATA / "videos" / "ucf101").iterdir()}
    assert found == {name for name in there if f"/{name} " in listed}
    assert len(found) == 3


def test_a_list_of_20000_is_fetched_from_a_folder(tmp_path: Path) -> None:
    assert fetched(tmp_path / "videos", f"trimmed:{KINETICS}") == THERE
    with (tmp_path / "videos" / "failures.csv").open(newline="") as file:
        assert sum(1 for _ in csv.DictReader(file)) == 19_906 - len(THERE)


def test_cvdf_style_parts_of_real_videos(tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    parts.mkdir()
    for number, key in enumerate(THERE):
        content = (KINETICS / f"{key[:11]}.mp4").read_bytes()
        broken = number == 1
        with tarfile.open(parts / f"part_{number}.tar.gz", "w:gz") as archive:
            info = tarfile.TarInfo(f"./{key}.mp4")
            info.size = 0 if broken else len(content)
            archive.addfile(info, io.BytesIO(content))
        if broken:
            with tarfile.open(parts / "replacement_for_corrupted_k400.tgz", "w:gz") as archive:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    assert fetched(tmp_path / "videos", f"tar:{parts}") == THERE


def test_full_videos_of_a_server_are_cut_exactly(tmp_path: Path) -> None:
    listed = tmp_path / "list.csv"
    listed.write_text("video,start,end\nR6llTwEh07w,2,4\nflipping,3.5,5\n")
    with Server() as server:
        for name, file in (
            ("R6llTwEh07w", "R6llTwEh07w.mp4"),
            ("flipping", "flipping_a_pancake.mkv"),
        ):
            server.files[f"/{name}.mp4"] = (KINETICS / file).read_bytes()
        into = tmp_path / "videos"
        command_line = ["-m", str(listed), "--into", str(into), "--allow-private", "--trim"]
        command_line += ["--videos", server.url + "/{id}.mp4"]
        assert command.main(command_line, standalone_mode=False) == 0
    for name, frames in (("R6llTwEh07w_000002_000004", 60), ("flipping_3500ms_5000ms", 45)):
        whole = Grid(Fraction(0), None, None)
        assert decode.count_samples(into / f"{name}.mp4", whole) == frames
