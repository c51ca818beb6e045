"""A trimmed file under its video's bare name is one segment; it never stands for two."""

import csv
from fractions import Fraction
from pathlib import Path

import pytest

from pipeline.store import FeatureStore
from tests.faults.http_server import Server
from tests.pipeline.command import Result, run
from tests.truth.numbered_video import NumberedVideo, constant, write

RANDOM = ("-e", "efficientnet-lite0", "--set", "efficientnet-lite0.weights=random", "-w", "0")
ROWS = "video,start,end\nboth,0,2\nboth,4,6\nalone,0,2\n"


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("both", "alone"):
        write(folder / f"{name}.mp4", NumberedVideo(name, **constant(10, Fraction(5))))
    (tmp_path / "list.csv").write_text(ROWS)
    return folder


def extract(listed: Path, source: str, *flags: object) -> Result:
    out = listed.parent / "out"
    return run("extract", "-m", listed, "-v", source, "-o", out, *RANDOM, *flags)


def check(out: Path) -> None:
    features = FeatureStore(out)["efficientnet-lite0"]
    assert features.keys() == ("alone_000000_000002",)
    assert features.items["width_px"][0] > 0 and features.items["video_streams"][0] == 1
    with (out / "failures.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["video"], row["code"]) for row in rows] == [("both", "ambiguous")] * 2
    assert "name the file of this one 'both_000004_000006'" in rows[1]["detail"]


def test_in_a_folder(videos: Path, tmp_path: Path) -> None:
    result = extract(tmp_path / "list.csv", f"trimmed:{videos}")
    assert "1 segments done, 2 failed" in result.output
    check(tmp_path / "out")
    for start in (0, 4):
        name = f"both_{start:06d}_{start + 2:06d}.mp4"
        (videos / name).write_bytes((videos / "both.mp4").read_bytes())
    assert "2 segments done, 0 failed" in extract(tmp_path / "list.csv", f"trimmed:{videos}").output


def test_from_a_server(videos: Path, tmp_path: Path) -> None:
    with Server() as server:
        server.files = {f"/{path.name}": path.read_bytes() for path in videos.iterdir()}
        source = f"trimmed:{server.url}/{{id}}.mp4"
        extract(tmp_path / "list.csv", source, "--allow-private")
    check(tmp_path / "out")
