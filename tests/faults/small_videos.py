"""Tiny real videos for servers to serve: quick to make, to send and to decode, each one its own."""

from __future__ import annotations

import io
import struct
from functools import cache

import av
import numpy as np

WIDTH_PX, HEIGHT_PX, FPS = 32, 32, 10


@cache
def film(frames: int = 10) -> bytes:
    """An MP4 of a square that wanders, `frames` / 10 seconds long."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH_PX, HEIGHT_PX, "yuv420p"
        stream.options = {"preset": "ultrafast", "threads": "1"}
        for number in range(frames):
            picture = np.full((HEIGHT_PX, WIDTH_PX, 3), 40, np.uint8)
            picture[8:24, number % 16 : number % 16 + 16] = 200
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def marked(name: str, frames: int = 10) -> bytes:
    """The film with a name in an atom that players skip, so that no two files are equal."""
    text = name.encode()
    return film(frames) + struct.pack(">I4s", 8 + len(text), b"free") + text
