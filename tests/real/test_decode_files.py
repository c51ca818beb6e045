"""Every real file gives exactly FFmpeg's frames, or one typed failure."""

from __future__ import annotations

import shutil
import subprocess
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline import decode
from pipeline.errors import NoVideoStream, Unsupported
from pipeline.frames import View
from pipeline.sampling import Grid

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "videos"
FILES = sorted(path for path in FOLDER.rglob("*") if path.is_file())
WHOLE = Grid(Fraction(0), None, None)
WITHOUT_VIDEO = "tc_nasa_13013.mp4.audio.mp3"
SPARSE = Fraction(5)

pytestmark = pytest.mark.skipif(not FILES, reason="../shared/data/videos is not on this machine")
EVERY_FIFTH = set(FILES[::5])
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
each_file_in_the_slow_tier = pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=() if path in EVERY_FIFTH else pytest.mark.slow) for path in FILES],
    ids=lambda path: path.name,
)


def times_of(path: Path, info: decode.VideoInfo) -> list[Fraction]:
    stream = decode.frames(path, [decode.Request(WHOLE, ())], info=info)
    times = [frame.pts_seconds for frame in stream]
    assert stream.damage is None
    return times


def linear_frames(path: Path, info: decode.VideoInfo) -> tuple[list[int], list[Fraction]]:
    """PyAV's plain decoding from the start: checksum of the luma and pts or dts of each frame."""
    with av.open(str(path), metadata_errors="ignore") as container:
        stream = container.streams[info.stream_index]
        unit = stream.time_base
        packed = info.container == "avi" and info.codec == "mpeg4"
        sums, times = [], []
        for frame in container.decode(stream):
            ticks = frame.dts if packed else frame.pts
            sums.append(zlib.crc32(bytes(frame.planes[0])))
            times.append(None if ticks is None else ticks * unit - info.start_seconds)
    return sums, times


@each_file
def test_frames_are_those_of_ffmpegs_library(path: Path) -> None:
    if path.name == WITHOUT_VIDEO:
        with pytest.raises(NoVideoStream):
            decode.probe(path)
        return
    info = decode.probe(path)
    times = times_of(path, info)
    sums, expected = linear_frames(path, info)
    assert len(times) == len(sums)
    differing = [n for n, (a, b) in enumerate(zip(times, expected, strict=True)) if a != b]
    assert all(expected[n] is None for n in differing), "a time is ours only where FFmpeg has none"
    assert times == sorted(times)


@each_file_in_the_slow_tier
def test_frames_are_those_of_the_ffmpeg_command(path: Path) -> None:
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        pytest.skip("the ffmpeg command is not installed")
    if path.name == WITHOUT_VIDEO:
        pytest.skip("no video in it")
    info = decode.probe(path)
    command = [ffmpeg, "-v", "error", "-i", str(path), "-map", f"0:{info.stream_index}"]
    command += ["-fps_mode", "passthrough", "-enc_time_base", "-1", "-f", "framecrc", "-"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    unit = Fraction(next(line for line in lines if line.startswith("#tb")).split()[-1])
    ticks = [int(line.split(",")[2]) for line in lines if not line.startswith("#")]
    theirs = [(tick - ticks[0]) * unit for tick in ticks]
    times = times_of(path, info)
    ours = [time - times[0] for time in times]  # versions of FFmpeg differ on where an Opus starts
    assert len(ours) == len(theirs)
    tolerance = max(unit, Fraction(1, 1000))
    assert all(abs(a - b) <= tolerance for a, b in zip(ours, theirs, strict=True))


@each_file_in_the_slow_tier
def test_sparse_and_sought_frames_are_those_of_a_linear_pass(path: Path) -> None:
    """Skipping and seeking change no bit of what is returned."""
    if path.name == WITHOUT_VIDEO:
        pytest.skip("no video in it")
    info = decode.probe(path)
    view = View(48, 64)
    end = times_of(path, info)[-1]
    grids = [Grid(Fraction(0), None, SPARSE), Grid(end * Fraction(3, 5), end, Fraction(3))]
    together = decode.frames(
        path,
        [*(decode.Request(grid, (view,)) for grid in grids), decode.Request(WHOLE, ())],
        info=info,
    )
    exact = [dict[int, tuple[Fraction, np.ndarray]]() for _ in grids]
    for frame in together:
        for number, samples in enumerate(frame.samples[: len(grids)]):
            exact[number].update((k, (frame.pts_seconds, frame.images[view])) for k in samples)
    for grid, wanted in zip(grids, exact, strict=True):
        alone = decode.frames(path, [decode.Request(grid, (view,))], info=info)
        found = {
            k: (frame.pts_seconds, frame.images[view]) for frame in alone for k in frame.samples[0]
        }
        assert found.keys() == wanted.keys()
        for k, (time, image) in found.items():
            assert time == wanted[k][0]
            assert np.array_equal(image, wanted[k][1])


def test_the_larger_of_two_video_streams_is_taken_and_recorded() -> None:
    info = decode.probe(FOLDER / "edge_cases" / "tc_nasa_13013.mp4")
    assert (info.stream_index, info.video_streams) == (3, 2)
    assert (info.width_px, info.height_px) == (480, 270)


def test_headers_that_count_wrong_are_not_trusted() -> None:
    for path in sorted((FOLDER / "hmdb51").glob("*.avi")):
        info = decode.probe(path)
        assert not info.header_frames_trusted
        assert info.header_frames == len(times_of(path, info)) + 1


def test_a_turned_mov_is_turned_as_the_ffmpeg_command_turns_it() -> None:
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        pytest.skip("the ffmpeg command is not installed")
    path = FOLDER / "edge_cases" / "decord_video_90.mov"
    view = View(568, 320)
    ours = [f.images[view] for f in decode.frames(path, [decode.Request(WHOLE, (view,))])]
    command = [ffmpeg, "-v", "error", "-i", str(path), "-pix_fmt", "rgb24", "-f", "rawvideo", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    theirs = np.frombuffer(raw, np.uint8).reshape(-1, 568, 320, 3)
    assert np.abs(np.stack(ours).astype(int) - theirs).max() <= 1


@each_file_in_the_slow_tier
def test_decord_gives_the_same_frames_or_refuses(path: Path) -> None:
    pytest.importorskip("decord", reason="decord has no wheel for this platform")
    if path.name == WITHOUT_VIDEO:
        pytest.skip("no video in it")
    view = View(48, 64, "gray", "area")
    grid = Grid(Fraction(1), Fraction(2), Fraction(4))
    requests = [decode.Request(grid, (view,))]
    ours = [f for f in decode.frames(path, requests)]
    try:
        theirs = list(decode.frames(path, requests, options=decode.DecodeOptions(decoder="decord")))
    except Unsupported as refusal:
        assert "--decoder pyav" in refusal.detail
        return
    assert [f.samples for f in theirs] == [f.samples for f in ours]
    for a, b in zip(theirs, ours, strict=True):
        assert np.abs(a.images[view].astype(int) - b.images[view]).mean() < 4
