"""A decoder that hangs in native code or kills its process on files named so; else it is PyAV."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from pipeline.decode import DecodeOptions, Limits, VideoInfo, pyav
from pipeline.decode._backend import Decoded, Wishes


def probe(path: Path, limits: Limits) -> VideoInfo:
    return pyav.probe(path, limits)


def decode(
    path: Path, info: VideoInfo, wishes: Wishes, options: DecodeOptions
) -> Iterator[Decoded]:
    frames = pyav.decode(path, info, wishes, options)
    yield next(frames)
    if path.name.startswith("hang"):
        ctypes.PyDLL(None).pause()  # in C, holding the GIL: not even a heartbeat comes through
    if path.name.startswith("die"):
        os.kill(os.getpid(), signal.SIGSEGV)
    yield from frames
