"""What became of one segment: how much of it decoded, and its row or its failure in the store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from manifests._segment import MILLISECONDS_PER_SECOND, Segment
from pipeline import decode
from pipeline.decode import FrameStream, VideoInfo
from pipeline.embedding import Rows
from pipeline.errors import OutsideVideo, SegmentFailure, Truncated
from pipeline.job import Failed, Item, Job
from pipeline.sources import Located
from pipeline.store import FailureRow, SegmentRow
from pipeline.streams import Placement


@dataclass(slots=True)
class Outcome:
    """What is known of one segment once its frames are through."""

    item: Item
    rows: dict[str, Rows]
    located: Located | None = None
    info: VideoInfo | None = None
    ratio: float = 0.0
    decoded: int = 0
    counts: dict[str, decode.Counts] = field(default_factory=dict)
    failures: dict[str, SegmentFailure] = field(default_factory=dict)


def check_coverage(
    outcome: Outcome, placement: Placement, stream: FrameStream, min_coverage: float
) -> None:
    """Raise `Truncated` or `OutsideVideo` when less than `min_coverage` of the samples decoded."""
    assert outcome.info is not None and outcome.located is not None
    unknown_length = placement.end is None and outcome.info.duration_seconds is None
    if outcome.ratio >= min_coverage and not (unknown_length and stream.damage):
        return
    name = outcome.located.path.name
    share = f"{outcome.ratio:.2f} of the segment decoded, --min-coverage asks for {min_coverage:g}"
    if stream.damage is not None:
        raise Truncated(
            f"{name}: decoding stopped early ({stream.damage.detail}); {share}; "
            "fetch the video again"
        )
    length = outcome.info.duration_seconds
    ends = "the file ends early" if length is None else f"the file ends at {float(length):.1f} s"
    found = f"{name}: {ends}, the segment is {_interval(placement)} s; {share}"
    if placement.trimmed:
        raise Truncated(f"{found}; fetch the video again")
    raise OutsideVideo(
        f"{found}; if this folder holds videos already cut to their segments, declare it: "
        "--videos trimmed:DIR"
    )


def _interval(placement: Placement) -> str:
    end = "end" if placement.end is None else f"{float(placement.end):g}"
    return f"[{float(placement.start):g}, {end})"


def segment_row(outcome: Outcome, digest: str, job: Job) -> SegmentRow:
    """Return what the store keeps of a segment that has its vectors."""
    assert outcome.located is not None and outcome.info is not None
    counts = outcome.counts[digest]
    return SegmentRow(
        **described(outcome.item.segment),
        source_size=outcome.located.size,
        source_mtime_ns=outcome.located.mtime_ns,
        fps_found=float(outcome.info.nominal_fps),
        frames_decoded=outcome.decoded,
        frames_repeated=counts.repeated,
        frames_dropped=counts.dropped,
        decoded_ratio=outcome.ratio,
        width_px=outcome.info.width_px,
        height_px=outcome.info.height_px,
        stream_index=outcome.info.stream_index,
        video_streams=outcome.info.video_streams,
        features=outcome.rows[digest].features(job.settings.store_dtype),
    )


def failure_row(outcome: Outcome, digest: str) -> FailureRow:
    """Return what the store keeps of a segment that has none."""
    failure = outcome.failures[digest]
    located = outcome.located
    return FailureRow(
        **described(outcome.item.segment),
        code=failure.code,
        detail=failure.detail,
        attempts=outcome.item.attempts + 1,
        source_size=0 if located is None else located.size,
        source_mtime_ns=0 if located is None else located.mtime_ns,
    )


def described(segment: Segment) -> dict[str, Any]:
    """Return what the manifest says of a segment, as the store's rows name it."""
    end_ms = segment.end_ms
    return {
        "key": segment.key,
        "video": segment.video,
        "start_seconds": segment.start_ms / MILLISECONDS_PER_SECOND,
        "end_seconds": float("nan") if end_ms is None else end_ms / MILLISECONDS_PER_SECOND,
        "label": "|".join(segment.labels),
        "split": segment.split,
        "group": segment.group,
    }


def failed(outcome: Outcome) -> Failed:
    """Return the failure as the driver reports it."""
    failure = next(iter(outcome.failures.values()))
    return Failed(outcome.item.segment.key, failure.code, failure.detail)
