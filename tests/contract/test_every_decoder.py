"""What every decoder owes: the right frames, or a refusal by name, and typed failures only."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipeline import decode
from pipeline.errors import (
    FAILURES,
    NotVideo,
    NoVideoStream,
    SegmentFailure,
    TooLarge,
    Unsupported,
    UsageError,
    VideoMissing,
)
from pipeline.frames import View
from pipeline.sampling import Grid
from tests.truth.numbered_video import NumberedVideo, constant, copy_from, number_in, write

DECODERS = decode.names()
CLOSED = {"preset": "veryfast", "g": "24", "bf": "3", "flags": "+cgop"}
OPEN = {
    "preset": "veryfast",
    "x264-params": "keyint=12:min-keyint=12:bframes=3:open-gop=1:b-adapt=0",
}
VIEW = View(32, 48, "gray", "area")
SOUND = (
    NumberedVideo("closed.mp4", **constant(100), options=CLOSED),
    NumberedVideo("closed.mkv", **constant(100), options=CLOSED),
    NumberedVideo(
        "variable.mp4", (0, 3, 4, 9, 10, 11, 20, 30, 31), Fraction(1, 30), options=CLOSED
    ),
    NumberedVideo("turned.mp4", **constant(20), turned_degrees=90, options=CLOSED),
    NumberedVideo("upside_down.mp4", **constant(20), turned_degrees=180, options=CLOSED),
    NumberedVideo("odd.mp4", **constant(20), size=(65, 97), codec="mpeg4"),
    NumberedVideo("one.mp4", **constant(1), options=CLOSED),
    NumberedVideo("vp9.webm", **constant(40), codec="libvpx-vp9", options={"cpu-used": "8"}),
)
TREACHEROUS = (
    NumberedVideo("open.mp4", **constant(100), options=OPEN),
    NumberedVideo("closed.ts", **constant(60), options=CLOSED),
    NumberedVideo("b_frames.avi", **constant(60), codec="mpeg4", options={"bf": "2"}),
)
AV1 = NumberedVideo(
    "av1.mkv", **constant(30), codec="libsvtav1", options={"preset": "8", "crf": "20", "g": "20"}
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("decoders")
    for video in (*SOUND, *TREACHEROUS, AV1):
        write(made / video.name, video)
    copy_from(made / "closed.mp4", made / "edit_list.mp4", Fraction(6, 5))
    return made


def numbers(path: Path, grid: Grid, decoder: str) -> list[int]:
    options = decode.DecodeOptions(decoder=decoder)
    stream = decode.frames(path, [decode.Request(grid, (VIEW,))], options=options)
    return [number_in(frame.images[VIEW]) for frame in stream for _ in frame.samples[0]]


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("video", SOUND, ids=lambda video: video.name)
def test_sound_files_give_the_right_frames(
    folder: Path, video: NumberedVideo, decoder: str
) -> None:
    whole = Grid(Fraction(0), None, None)
    assert numbers(folder / video.name, whole, decoder) == list(range(len(video.ticks)))


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_middle_of_a_file_is_found(folder: Path, decoder: str) -> None:
    grid = Grid(Fraction(61, 25), Fraction(68, 25), Fraction(25))
    assert numbers(folder / "closed.mp4", grid, decoder) == list(range(61, 68))
    slow = Grid(Fraction(2), None, Fraction(5))
    assert numbers(folder / "closed.mkv", slow, decoder) == list(range(50, 100, 5))


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(
    "name", [*(video.name for video in TREACHEROUS), "edit_list.mp4", "av1.mkv"]
)
def test_treacherous_files_give_the_right_frames_or_a_refusal(
    folder: Path, name: str, decoder: str
) -> None:
    first = 30 if name.startswith("edit") else 0
    grid = Grid(Fraction(0), None, None)
    try:
        found = numbers(folder / name, grid, decoder)
    except Unsupported as refusal:
        assert decoder != "pyav"
        assert "--decoder pyav" in refusal.detail
    else:
        assert found == list(range(first, first + len(found)))
        assert len(found) >= 30


def test_decord_refuses_by_name_what_it_gets_wrong(folder: Path) -> None:
    pytest.importorskip("decord", reason="decord has no wheel for this platform")
    for name, reason in {
        "open.mp4": "open group", "closed.ts": "mpegts", "edit_list.mp4": "edit list",
        "av1.mkv": "AV1",
    }.items():  # fmt: skip
        with pytest.raises(Unsupported, match=reason):
            decode.probe(folder / name, decoder="decord")


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(
    ("make", "failure"),
    [
        (lambda path: None, VideoMissing),
        (lambda path: path.write_bytes(b""), NotVideo),
        (lambda path: path.write_text("<html>429 Too Many Requests</html>"), NotVideo),
        (lambda path: path.write_text("#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1/a.ts\n"), NotVideo),
        (lambda path: path.write_text("ffconcat version 1.0\nfile 'other.mp4'\n"), NotVideo),
        (lambda path: path.mkdir(), NotVideo),
    ],
    ids=["missing", "empty", "html", "playlist", "concat", "folder"],
)
def test_what_is_no_video_is_named(
    tmp_path: Path, make: Callable[[Path], object], failure: type[SegmentFailure], decoder: str
) -> None:
    path = tmp_path / "video.mp4"
    make(path)
    with pytest.raises(failure) as caught:
        decode.probe(path, decoder=decoder)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), again.detail) == (failure, caught.value.detail)
    assert caught.value.code in FAILURES


@pytest.mark.parametrize("decoder", DECODERS)
def test_limits_hold_before_decoding(folder: Path, decoder: str) -> None:
    for limits in (
        decode.Limits(pixels=96 * 64 - 1), decode.Limits(seconds=3), decode.Limits(fps=24),
        decode.Limits(bytes=1000),
    ):  # fmt: skip
        with pytest.raises(TooLarge):
            decode.probe(folder / "closed.mp4", limits=limits, decoder=decoder)


@pytest.mark.parametrize("decoder", DECODERS)
def test_views_are_made_as_asked(folder: Path, decoder: str) -> None:
    views = (View(40, 30), View(40, 30, "gray"), View(64, 96))
    options = decode.DecodeOptions(decoder=decoder)
    requests = [
        decode.Request(Grid(Fraction(0), None, Fraction(5)), views[:2]),
        decode.Request(Grid(Fraction(1), Fraction(2), None), views[1:]),
    ]
    for frame in decode.frames(folder / "closed.mp4", requests, options=options):
        wanted = {
            view
            for request, samples in zip(requests, frame.samples, strict=True)
            for view in request.views
            if samples
        }
        assert frame.images.keys() == wanted
        for view, image in frame.images.items():
            channels = () if view.mode == "gray" else (3,)
            assert image.shape == (view.height_px, view.width_px, *channels)
            assert image.dtype == np.uint8
            assert image.flags.c_contiguous


def test_an_unknown_decoder_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="pyav"):
        decode.probe(Path("video.mp4"), decoder="pyva")
    with pytest.raises(UsageError, match="cannot be imported"):
        decode.probe(Path("video.mp4"), decoder="no.such.module")


def test_audio_alone_is_no_video_stream(tmp_path: Path) -> None:
    import wave

    path = tmp_path / "sound.mp4"
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(16_000))
    with pytest.raises(NoVideoStream):
        decode.probe(path)
