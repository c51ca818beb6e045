"""Files that end early, stall, or are no files: what is whole is used, the rest has a name."""

from __future__ import annotations

import os
import time
from fractions import Fraction
from pathlib import Path

import av
import pytest

from pipeline import decode
from pipeline.errors import (
    DecodeError,
    NotVideo,
    NoVideoStream,
    Timeout,
    TooLarge,
    TooShort,
    Truncated,
)
from pipeline.frames import View
from pipeline.sampling import Grid
from tests.truth.numbered_video import NumberedVideo, constant, number_in, write

VIEW = View(32, 48, "gray", "area")
X264 = {"preset": "veryfast", "g": "24", "bf": "3"}
WHOLE = Grid(Fraction(0), None, None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("damage")
    for name in ("video.mp4", "video.mkv"):
        write(made / name, NumberedVideo(name, **constant(150), options=X264))
    return made


def shortened(path: Path, part: float, target: Path) -> Path:
    data = path.read_bytes()
    target.write_bytes(data[: int(len(data) * part)])
    return target


def numbers(stream: decode.FrameStream) -> list[int]:
    return [number_in(frame.images[VIEW]) for frame in stream for _ in frame.samples[0]]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("part", [0.6, 0.63, 0.67, 0.7])
@pytest.mark.parametrize("fps", [None, Fraction(25), Fraction(5)])
def test_what_comes_before_the_damage_is_used_and_measured(
    folder: Path, tmp_path: Path, suffix: str, part: float, fps: Fraction | None
) -> None:
    path = shortened(folder / f"video{suffix}", part, tmp_path / f"part{suffix}")
    grid = Grid(Fraction(0), Fraction(6), fps)
    stream = decode.frames(path, [decode.Request(grid, (VIEW,))])
    found = numbers(stream)
    step = 25 // int(fps or 25)
    assert found == list(range(0, step * len(found), step))
    whole = round(stream.coverage[0] * 150)
    assert 30 < whole < 130
    assert len(found) == -(-whole // step)
    if fps is not None:
        assert stream.counts[0].missing == grid.expected - len(found)
    assert stream.coverage[0] < 0.95


def test_a_cut_mp4_says_where_it_stops(folder: Path, tmp_path: Path) -> None:
    path = shortened(folder / "video.mp4", 0.6, tmp_path / "half.mp4")
    stream = decode.frames(path, [decode.Request(WHOLE, (VIEW,))])
    found = numbers(stream)
    assert isinstance(stream.damage, DecodeError)
    assert "incomplete" in stream.damage.detail
    assert found == list(range(stream.decoded))
    assert stream.coverage[0] == pytest.approx(len(found) / 150)


def test_damage_after_the_stretch_does_not_matter(folder: Path, tmp_path: Path) -> None:
    path = shortened(folder / "video.mp4", 0.8, tmp_path / "half.mp4")
    grid = Grid(Fraction(1), Fraction(2), Fraction(25))
    stream = decode.frames(path, [decode.Request(grid, (VIEW,))])
    assert numbers(stream) == list(range(25, 50))
    assert (stream.coverage, stream.damage) == ((1.0,), None)


def test_a_stretch_beyond_the_end_is_not_covered(folder: Path) -> None:
    grid = Grid(Fraction(100), Fraction(110), Fraction(25))
    stream = decode.frames(folder / "video.mp4", [decode.Request(grid, (VIEW,))])
    assert numbers(stream) == []
    assert stream.counts[0].missing == 250
    assert stream.coverage == (0.0,)


def test_a_trimmed_file_is_measured_against_its_own_length(folder: Path) -> None:
    stream = decode.frames(folder / "video.mp4", [decode.Request(WHOLE, (VIEW,))])
    assert len(numbers(stream)) == 150
    assert stream.coverage == (1.0,)


def test_an_mp4_without_its_index_is_truncated(folder: Path, tmp_path: Path) -> None:
    with (
        av.open(str(folder / "video.mp4")) as reader,
        av.open(str(tmp_path / "late_index.mp4"), "w") as writer,
    ):
        copied = writer.add_stream_from_template(reader.streams.video[0])
        for packet in reader.demux(reader.streams.video[0]):
            if packet.dts is not None:
                packet.stream = copied
                writer.mux(packet)
    path = shortened(tmp_path / "late_index.mp4", 0.5, tmp_path / "half.mp4")
    with pytest.raises(Truncated, match="index cannot be read"):
        decode.probe(path)


@pytest.mark.parametrize(("name", "codec"), [("none.mp4", "libx264"), ("none.avi", "mpeg4")])
def test_a_file_without_frames_has_a_name(tmp_path: Path, name: str, codec: str) -> None:
    path = tmp_path / name
    write(path, NumberedVideo(name, **constant(0), codec=codec))
    with pytest.raises((TooShort, NoVideoStream, NotVideo)):
        decode.probe(path)


def test_a_decoder_without_a_new_frame_in_time_is_a_timeout(folder: Path) -> None:
    options = decode.DecodeOptions(stall_seconds=0.0)
    stream = decode.frames(folder / "video.mp4", [decode.Request(WHOLE, (VIEW,))], options=options)
    with pytest.raises(Timeout, match="no frame for"):
        numbers(stream)


def test_a_slow_consumer_is_no_stall(folder: Path) -> None:
    options = decode.DecodeOptions(stall_seconds=0.5)
    stream = decode.frames(folder / "video.mp4", [decode.Request(WHOLE, (VIEW,))], options=options)
    frames = iter(stream)
    next(frames)
    time.sleep(0.7)
    assert len(list(frames)) == 149


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "video.mp4")
    with pytest.raises(NotVideo, match="no regular file"):
        decode.probe(tmp_path / "video.mp4")


@pytest.mark.parametrize(
    "name", ["a:b.mp4", "-i.mp4", "100%d.mp4", "ein Vidéo ✂.mp4", "subfile,,.mp4"]
)
def test_any_file_name_is_a_file_name(folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes((folder / "video.mp4").read_bytes())
    assert decode.probe(tmp_path / name).width_px == 96


def test_a_bomb_is_refused_before_its_first_frame(tmp_path: Path) -> None:
    """A small file that declares pictures beyond the limit; its frames are never looked at."""
    path = tmp_path / "bomb.mp4"
    write(path, NumberedVideo("bomb.mp4", **constant(1), size=(4096, 4096), codec="mpeg4"))
    with pytest.raises(TooLarge, match="4096x4096"):
        decode.probe(path)
