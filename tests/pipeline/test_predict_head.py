"""``pipeline predict --head``: a head on a new video, from the very recipe it was trained on."""

import json
from fractions import Fraction
from pathlib import Path

import pytest

from tests.pipeline.command import run
from tests.truth.numbered_video import NumberedVideo, constant, write

NAME = "efficientnet-lite0"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of two classes that differ in their numbers, their features, and a head."""
    root = tmp_path_factory.mktemp("trained")
    lines = ["video,label,split,group"]
    for kind, first in (("low", 0), ("high", 4000)):
        for number in range(4):
            name = f"{kind}{number}"
            ticks = constant(5, Fraction(5), first + 5 * number)
            (root / "videos").mkdir(exist_ok=True)
            write(root / "videos" / f"{name}.mp4", NumberedVideo(name, **ticks))
            split = "test" if number == 3 else "train"
            lines.append(f"{name}.mp4,{kind},{split},{name}")
    (root / "list.csv").write_text("\n".join(lines))
    random = ("--set", f"{NAME}.weights=random", "-w", "0")
    store = ("-m", root / "list.csv", "-v", root / "videos", "-o", root / "features")
    assert run("extract", *store, "-e", NAME, *random).status == 0
    result = run("train", "-f", root / "features", "--head", "average", "-c", root / "head")
    assert result.status == 0, result.output
    return root


def test_a_head_names_its_classes_on_a_new_video(trained: Path) -> None:
    video = trained / "videos" / "high3.mp4"
    result = run("predict", video, "--head", trained / "head", "--json")
    assert result.status == 0, result.output
    whole = json.loads(result.output)["whole"]
    assert (whole["start_seconds"], whole["end_seconds"]) == pytest.approx((0.0, 1.0))
    names = [name for name, _, _ in whole["classes"]]
    assert sorted(names) == ["high", "low"]
    assert sum(p for _, p, _ in whole["classes"]) == pytest.approx(1.0)


def test_other_weights_are_refused_by_name(trained: Path) -> None:
    video = trained / "videos" / "low3.mp4"
    note = trained / "head" / "head.json"
    plain = json.loads(note.read_text())
    plain["recipes"][0]["settings"]["min_coverage"] = 0.5
    other = trained / "other"
    other.mkdir()
    (other / "head.json").write_text(json.dumps(plain))
    (other / "head.safetensors").write_bytes((trained / "head" / "head.safetensors").read_bytes())
    result = run("predict", video, "--head", other)
    assert result.status == 2
    assert "not the recipe the head was trained on" in result.output
