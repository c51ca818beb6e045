"""Folders of JPEG pairs, and pictures of flow."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from pipeline import flow
from pipeline.cli.flow import flow as command
from pipeline.errors import UsageError
from pipeline.flow import pictures
from pipeline.flow.folders import read_folder, write_folder
from tests.pipeline.flow.textures import texture


def _flows(count: int = 3) -> list[np.ndarray]:
    smooth = texture(40, 48) / 64
    return [np.stack((smooth - k, k - smooth), axis=2) for k in range(count)]


@pytest.mark.parametrize("rule", sorted(flow.RULES))
def test_a_folder_comes_back_within_jpeg_loss(tmp_path: Path, rule: str) -> None:
    assert write_folder(_flows(), tmp_path / "f", rule) == 3
    assert sorted(path.name for path in (tmp_path / "f").iterdir())[::3] == [
        "flow_x_00001.jpg",
        "flow_y_00001.jpg",
    ]
    back = list(read_folder(tmp_path / "f", rule))
    assert np.abs(np.array(back) - np.array(_flows())).mean() < 0.2


def test_a_folder_that_counts_from_zero_is_read(tmp_path: Path) -> None:
    for axis, level in (("x", 128), ("y", 134)):
        cv2.imwrite(str(tmp_path / f"flow_{axis}_00000.jpg"), np.full((8, 8), level, np.uint8))
    (only,) = read_folder(tmp_path, "dense_flow")
    assert only[..., 0].mean() == pytest.approx(0.078, abs=0.01)
    assert only[..., 1].mean() == pytest.approx(1.02, abs=0.01)


@pytest.mark.parametrize(
    ("gone", "said"), [("flow_y_00002.jpg", "same numbers"), ("*_00002.jpg", "no gaps")]
)
def test_a_folder_with_gaps_is_refused(tmp_path: Path, gone: str, said: str) -> None:
    write_folder(_flows(), tmp_path / "f")
    for path in (tmp_path / "f").glob(gone):
        path.unlink()
    with pytest.raises(UsageError, match=said):
        list(read_folder(tmp_path / "f"))


def test_flow_is_not_written_over_flow(tmp_path: Path) -> None:
    write_folder(_flows(), tmp_path)
    with pytest.raises(UsageError, match="already"):
        write_folder(_flows(), tmp_path)


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    for axis in "xy":
        (tmp_path / f"flow_{axis}_00001.jpg").write_bytes(b"no picture")
    with pytest.raises(UsageError, match="flow_x_00001"):
        list(read_folder(tmp_path))


def test_pictures_of_several_sizes_or_colours_are_refused(tmp_path: Path) -> None:
    write_folder(_flows(), tmp_path)
    second = tmp_path / "flow_y_00002.jpg"
    for picture, said in (
        (np.zeros((8, 9), np.uint8), r"flow_y_00002.*are \(8, 9\), the first .* has \(40, 48\)"),
        (np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8), "expected grey"),
    ):
        cv2.imwrite(str(second), picture)
        with pytest.raises(UsageError, match=said):
            list(read_folder(tmp_path))
    cv2.imwrite(str(second), np.full((40, 48, 3), 128, np.uint8))  # grey, written as colour
    assert len(list(read_folder(tmp_path))) == 3


def test_two_pictures_of_one_number_are_refused(tmp_path: Path) -> None:
    write_folder(_flows(), tmp_path)
    (tmp_path / "flow_x_1.jpg").write_bytes((tmp_path / "flow_x_00001.jpg").read_bytes())
    with pytest.raises(UsageError, match=r"flow_x_1\.jpg: flow_x_00001\.jpg has the same number"):
        list(read_folder(tmp_path))


@pytest.mark.parametrize("bound", [0.0, -20.0, float("nan"), float("inf")])
def test_a_bound_that_is_none_is_refused(bound: float) -> None:
    with pytest.raises(UsageError, match="expected a positive number"):
        flow.quantise(_flows()[0], bound_px=bound)
    with pytest.raises(UsageError, match="expected a positive number"):
        flow.dequantise(np.zeros(3, np.uint8), bound_px=bound)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    "flags",
    [("--fps", "fast"), ("--fps", "0"), ("--fps", "1/0"), ("--start", "nan"), ("--start", "-1"),
     ("--seconds", "0"), ("--seconds", "inf"), ("--short-side", "0"), ("--short-side", "-256")],
)  # fmt: skip
def test_flags_that_mean_nothing_are_refused_as_such(tmp_path: Path, flags: tuple) -> None:
    video = tmp_path / "v.mp4"
    video.touch()
    refused = run("show", video, *flags)
    assert refused.exit_code == 2
    assert f"Invalid value for '{flags[0]}'" in refused.output


def test_a_folder_is_imported_under_the_very_name_that_was_given(tmp_path: Path) -> None:
    write_folder(_flows(), tmp_path / "f")
    told = run("import", tmp_path / "f", tmp_path / "levels")
    assert told.output == f"{tmp_path / 'levels'}: 3 flows of 48x40\n"
    assert np.load(tmp_path / "levels").shape == (3, 40, 48, 2)
    refused = run("import", tmp_path / "f", tmp_path / "absent" / "levels.npy")
    assert "there is no folder" in str(refused.exception)


@pytest.mark.parametrize(
    ("dx", "dy", "rgb"),
    [(1, 0, (255, 0, 0)), (-1, 0, (0, 255, 255)), (0, 0, (255, 255, 255)), (9, 0, (255, 0, 0))],
)
def test_hue_is_direction_and_still_is_white(dx: float, dy: float, rgb: tuple) -> None:
    moved = np.array([[[dx, dy]]], np.float32)
    assert tuple(pictures.colours(moved, 1.0)[0, 0]) == rgb


def test_panels_stand_side_by_side_and_are_written(tmp_path: Path) -> None:
    frame = np.repeat(texture(40, 48)[..., None], 3, 2).astype(np.uint8)
    panels = [pictures.side_by_side(frame, moved, 4.0) for moved in _flows()]
    assert panels[0].shape == (40, 144, 3)
    assert np.array_equal(panels[0][:, :48], frame)
    pictures.write_picture(panels[0], tmp_path / "p.png")
    assert cv2.imread(str(tmp_path / "p.png")).shape == (40, 144, 3)
    assert pictures.write_video(iter(panels), tmp_path / "p.mp4", 25.0) == 3
    film = cv2.VideoCapture(str(tmp_path / "p.mp4"))
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    film.release()
