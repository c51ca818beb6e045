"""Cutting a segment out of a full video, exactly, by decoding and encoding it anew.

Copying the stream instead is quicker and wrong: it can only begin at a key frame, so it begins up
to seconds early, or hides the surplus behind an edit list that not every decoder honours (decord
gives 30 frames twice for one). The frames written here are those that `pipeline.decode` gives for
the segment, upright, at their own times; the result is H.264 without sound, without B frames (so
that time begins at 0 without an edit list), and of even size (a last odd row or column is left out,
since 4:2:0 has none).
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

from pipeline import decode
from pipeline.errors import TooShort
from pipeline.frames import View
from pipeline.sampling import Grid

TIME_BASE = Fraction(1, 90_000)
QUALITY = {"crf": "16", "preset": "veryfast", "bf": "0", "threads": "1"}


def trim(source: Path, target: Path, start: Fraction, end: Fraction) -> int:
    """Write the frames of ``[start, end)`` to a new file and return their number.

    Parameters
    ----------
    source : Path
        A full video.
    target : Path
        The file to write, MP4.
    start, end : Fraction
        In seconds from second 0 of the video.

    Raises
    ------
    SegmentFailure
        As `pipeline.decode`; `TooShort` when the segment holds no frame.
    """
    import av

    info = decode.probe(source)
    height, width = info.height_px // 2 * 2, info.width_px // 2 * 2
    view = View(info.height_px, info.width_px)
    stream = decode.frames(source, [decode.Request(Grid(start, end, None), (view,))], info=info)
    written = 0
    first: Fraction | None = None
    with av.open(str(target), "w", format="mp4") as container:
        output: Any = container.add_stream("libx264", rate=info.nominal_fps)
        output.width, output.height, output.pix_fmt = width, height, "yuv420p"
        output.codec_context.time_base = TIME_BASE
        output.options = QUALITY
        for frame in stream:
            if frame.pts_seconds < start or frame.pts_seconds >= end:
                continue  # stands in for a segment that has no frame of its own
            first = frame.pts_seconds if first is None else first
            picture = av.VideoFrame.from_ndarray(
                frame.images[view][:height, :width].copy(), format="rgb24"
            )
            picture.pts = round((frame.pts_seconds - first) / TIME_BASE)
            picture.time_base = TIME_BASE
            container.mux(output.encode(picture))
            written += 1
        container.mux(output.encode(None))
    if not written:
        raise TooShort(f"no frame between {float(start):g} s and {float(end):g} s")
    return written
