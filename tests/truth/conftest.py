"""Numbered videos made once per session: one of each kind that decoders get wrong."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from tests.truth.numbered_video import NumberedVideo, constant, copy_from, variable, write

NTSC = Fraction(30000, 1001)
X264 = {"preset": "veryfast", "g": "24", "bf": "3"}
X264_OPEN = {
    "preset": "veryfast",
    "x264-params": "keyint=12:min-keyint=12:bframes=3:open-gop=1:scenecut=0:b-adapt=0:b-pyramid=2",
}
X265_OPEN = {
    "preset": "ultrafast",
    "x265-params": "keyint=12:min-keyint=12:bframes=3:open-gop=1:log-level=none:pools=none",
}
AV1 = {"preset": "8", "crf": "20", "g": "20", "svtav1-params": "lp=1"}
VP9 = {"g": "20", "deadline": "realtime", "cpu-used": "8"}

VIDEOS = (
    NumberedVideo("h264.mp4", **constant(150), options=X264),
    NumberedVideo("h264_thirty.mkv", **constant(150, NTSC), options=X264),
    NumberedVideo("h264.ts", **constant(100), options=X264),
    NumberedVideo("open_gop.mp4", **constant(150), options=X264_OPEN),
    NumberedVideo("open_gop.mkv", **constant(150), options=X264_OPEN),
    NumberedVideo("open_gop_hevc.mp4", **constant(150), codec="libx265", options=X265_OPEN),
    NumberedVideo("vp9_milliseconds.webm", **constant(150, NTSC), codec="libvpx-vp9", options=VP9),
    NumberedVideo("av1.mkv", **constant(100), codec="libsvtav1", options=AV1),
    NumberedVideo("mpeg4.avi", **constant(100), codec="mpeg4", options={"bf": "2", "g": "12"}),
    NumberedVideo("mpeg4.mp4", **constant(100), codec="mpeg4", options={"bf": "2", "g": "12"}),
    NumberedVideo("variable.mp4", variable(150, 1), Fraction(1, 90), options=X264),
    NumberedVideo("variable.mkv", variable(150, 2), Fraction(1, 90), options=X264),
    NumberedVideo("late_start.mkv", **constant(150, first=125), options=X264),
    NumberedVideo("turned.mp4", **constant(60), turned_degrees=90, options=X264),
    NumberedVideo("odd.mp4", **constant(60), size=(65, 97), codec="mpeg4"),
    NumberedVideo("ten_bits.mp4", **constant(60), pixel_format="yuv420p10le", options=X264),
    NumberedVideo("wide_pixels.mp4", **constant(60), sample_aspect=Fraction(4, 3), options=X264),
    NumberedVideo("one.mp4", **constant(1), options=X264),
)
CUT_SECONDS = Fraction(30, 25)
NAMES = (*(video.name for video in VIDEOS), "edit_list.mp4", "edit_list_open.mp4")


@pytest.fixture(scope="session")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with every video of `NAMES`."""
    folder = tmp_path_factory.mktemp("numbered")
    for video in VIDEOS:
        write(folder / video.name, video)
    copy_from(folder / "h264.mp4", folder / "edit_list.mp4", CUT_SECONDS)
    copy_from(folder / "open_gop.mp4", folder / "edit_list_open.mp4", CUT_SECONDS)
    return folder
