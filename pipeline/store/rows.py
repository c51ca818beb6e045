"""What goes into the store and what comes back from a commit: checked value types.

One segment under one recipe ends as exactly one of two things: a `SegmentRow` with its features,
or a `FailureRow` with the reason. Both carry what the manifest said, so that a list of either is
itself a manifest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pipeline.frames import Features

FEATURE_DTYPES = (np.dtype("<f4"), np.dtype("<f2"))

Source = tuple[int, int]
"""Size in bytes and modification time in nanoseconds of the file that was read; (0, 0) unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRow:
    """The features of one segment with its bookkeeping.

    Attributes
    ----------
    key : str
        The segment's identity, `manifests.Segment.key`.
    video : str
        What the source looked up.
    start_seconds, end_seconds : float
        The stretch in source-video time; the end is NaN when it runs to the end of the video.
    label : str
        Class names joined by ``|``; empty when there is none.
    split, group : str
        As in the manifest; a convenience, training takes them from a manifest when given one.
    source_size, source_mtime_ns : int
        Of the file that was decoded, so that a replaced video is noticed.
    fps_found : float
        Nominal frame rate of the file.
    frames_decoded, frames_repeated, frames_dropped : int
        Frames the decoder gave, samples served by a frame used before, frames inside the stretch
        that served no sample.
    decoded_ratio : float
        Samples served over samples wanted, 0..1.
    width_px, height_px : int
        Of the upright decoded picture; 0 unknown.
    stream_index, video_streams : int
        The stream that was decoded, and how many video streams the file has; 0 of 0 unknown.
    features : Features
        ``(N, D)`` float32 or float16 vectors and ``(N, 2)`` seconds; N may be 0.

    Raises
    ------
    ValueError
        On an empty key, negative counts, or vectors of another type.
    """

    key: str
    video: str
    start_seconds: float
    end_seconds: float
    label: str = ""
    split: str = ""
    group: str = ""
    source_size: int = 0
    source_mtime_ns: int = 0
    fps_found: float = math.nan
    frames_decoded: int = 0
    frames_repeated: int = 0
    frames_dropped: int = 0
    decoded_ratio: float = 1.0
    width_px: int = 0
    height_px: int = 0
    stream_index: int = 0
    video_streams: int = 0
    features: Features

    def __post_init__(self) -> None:
        _check_key(self.key)
        if self.features.vectors.dtype not in FEATURE_DTYPES:
            raise ValueError(
                f"{self.key}: vectors are {self.features.vectors.dtype}, "
                "expected float32 or float16"
            )
        counts = (self.source_size, self.frames_decoded, self.frames_repeated, self.frames_dropped)
        if min(counts) < 0:
            raise ValueError(f"{self.key}: a size or a frame count is negative")

    @property
    def source(self) -> Source:
        """Size and modification time of the file that was read."""
        return self.source_size, self.source_mtime_ns


@dataclass(frozen=True, slots=True)
class FailureRow:
    """Why a segment has no features.

    Attributes
    ----------
    key : str
        The segment's identity.
    code : str
        Code of the `SegmentFailure`, a key of `pipeline.errors.FAILURES`.
    detail : str
        What was found, what was expected, and what to do.
    attempts : int
        Runs that have tried it so far, at least 1.
    video, start_seconds, end_seconds, label, split, group
        As in `SegmentRow`, so that the list of failures is a manifest to run again.
    source_size, source_mtime_ns : int
        Of the file that failed, 0 where none was found: another file is tried afresh.
    """

    key: str
    code: str
    detail: str
    attempts: int
    video: str = ""
    start_seconds: float = 0.0
    end_seconds: float = math.nan
    label: str = ""
    split: str = ""
    group: str = ""
    source_size: int = 0
    source_mtime_ns: int = 0

    def __post_init__(self) -> None:
        _check_key(self.key)
        if not self.code or self.attempts < 1:
            raise ValueError(f"{self.key}: a failure needs a code and at least one attempt")

    @property
    def source(self) -> Source:
        """Size and modification time of the file that failed."""
        return self.source_size, self.source_mtime_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What one commit did; small, it travels back to the driver.

    Attributes
    ----------
    shard : str
        Name of the published file; empty when there was nothing left to publish.
    done, failed : tuple of str
        Keys published by this commit.
    already : tuple of str
        Keys left out because an earlier commit holds them.
    rows, size : int
        Feature rows and bytes of the file.
    """

    shard: str
    done: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    already: tuple[str, ...] = ()
    rows: int = 0
    size: int = 0


def _check_key(key: str) -> None:
    if not key or "\0" in key:
        raise ValueError(f"segment key is {key!r}, expected text without NUL")
