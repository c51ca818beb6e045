"""Rows of one video without a store, and the classes they speak for.

What everyone does first with new weights is to show them one video and look at the classes. This
takes the very same way as ``extract`` (decoder, streams, windows, flow, networks), only that the
rows stay in memory. Logits of several extractors are added where their windows start together, as
I3D fuses its two streams (Carreira and Zisserman 2017, arXiv:1705.07750); the whole video is the
mean of its windows' logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from extractors import Spec
from manifests import Segment
from pipeline import decode
from pipeline.embedding import Embedder, Rows
from pipeline.errors import UsageError
from pipeline.frames import Features
from pipeline.job import Settings, Target, make_recipe
from pipeline.monitor import Monitor
from pipeline.streams import Image, Placement, SegmentStreams, StreamContext
from pipeline.windowing import Window

MICROSECONDS_PER_SECOND = 1e6
LOGITS = "logits"


@dataclass(frozen=True, slots=True)
class VideoRows:
    """What the extractors make of one video.

    Attributes
    ----------
    streams : tuple of Features
        One for each extractor, in the order asked for.
    class_names : tuple of str or None
        Names of the columns of logits, where they are known.
    info : decode.VideoInfo
        The file.
    damage : str
        Why decoding stopped before the end; empty when it did not.
    """

    streams: tuple[Features, ...]
    class_names: tuple[str, ...] | None
    info: decode.VideoInfo
    damage: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """The best classes of one stretch of video, the best first.

    Attributes
    ----------
    start_seconds, end_seconds : float
        The stretch.
    classes : tuple of (str, float, float)
        Name, probability and logit of each.
    """

    start_seconds: float
    end_seconds: float
    classes: tuple[tuple[str, float, float], ...]


def with_logits(spec: Spec) -> Spec:
    """Return the extractor set to give class scores.

    Raises
    ------
    UsageError
        When the network has none.
    """
    if LOGITS not in spec.layers:
        raise UsageError(
            f"{spec.name} has no logits, only {', '.join(spec.layers)}; choose an extractor that "
            "was trained to classify, or a head that was trained on its rows"
        )
    return spec.with_settings({"layer": LOGITS})


def video_rows(
    video: Path,
    specs: Sequence[Spec],
    settings: Settings | None = None,
    stretch_ms: tuple[int, int | None] = (0, None),
) -> VideoRows:
    """Run extractors over one video file, in one decoding pass.

    Parameters
    ----------
    video : Path
        A local video file.
    specs : sequence of Spec
        The extractors; they share decoder, pictures and flow.
    settings : Settings, optional
        Decoder, flow, device, precision, weights folder.
    stretch_ms : (int, int or None)
        Half-open stretch of the video in milliseconds; None is its end.

    Raises
    ------
    SegmentFailure
        When the file cannot be used, or is shorter than the extractors take.
    ExtractorError
        When weights are missing or a network cannot take its input.
    """
    settings = settings or Settings()
    start_ms, end_ms = stretch_ms
    segment = Segment(video=video.name, start_ms=start_ms, end_ms=end_ms)
    info = decode.probe(video, limits=settings.limits, decoder=settings.decoder)
    monitor = Monitor("predict", lambda _event: None)
    networks = [settings.build(spec) for spec in specs]
    sinks = {
        target.recipe.digest: _Sink(target, Embedder(network, monitor), Rows())
        for target, network in zip(_targets(specs, settings), networks, strict=True)
    }
    context = StreamContext(
        settings,
        monitor,
        lambda target, window: sinks[target.recipe.digest].add(window),
        settings.open_flow(specs),
    )
    placement = Placement.of(segment, info, trimmed=False)
    damage = _stream(video, list(sinks.values()), info, placement, context)
    return VideoRows(
        tuple(sink.rows.features("float32") for sink in sinks.values()),
        next((n.class_names for n in networks if n.class_names is not None), None),
        info,
        damage,
    )


@dataclass(frozen=True, slots=True)
class _Sink:
    """Where the windows of one extractor go, and its rows come out."""

    target: Target
    embedder: Embedder
    rows: Rows

    def add(self, window: Window[Image]) -> None:
        self.embedder.add(self.rows, window)


def _targets(specs: Sequence[Spec], settings: Settings) -> list[Target]:
    targets = [Target(spec, make_recipe(spec, settings)) for spec in specs]
    if len({target.recipe.digest for target in targets}) < len(targets):
        raise UsageError("an extractor was given twice with the same settings; give it once")
    return targets


def _stream(
    video: Path,
    sinks: Sequence[_Sink],
    info: decode.VideoInfo,
    placement: Placement,
    context: StreamContext,
) -> str:
    """Decode once and fill all rows; return why decoding stopped early, if it did."""
    settings = context.settings
    targets = [sink.target for sink in sinks]
    totals = settings.totals(video, [target.spec for target in targets], placement.grid)
    streams = SegmentStreams(targets, info, placement, totals, context)
    stream = decode.frames(video, streams.requests, info=info, options=settings.decode_options())
    for frame in stream:
        streams.push(frame)
    for failure in streams.finish().values():
        raise failure
    for sink in sinks:
        sink.embedder.flush()
    return "" if stream.damage is None else stream.damage.detail


def fused(streams: Sequence[Features]) -> Features:
    """Add the rows of several streams where they start at the same microsecond.

    Raises
    ------
    UsageError
        When they differ in their number of classes, or no two rows start together.
    """
    if len(streams) == 1:
        return streams[0]
    widths = {stream.vectors.shape[1] for stream in streams}
    if len(widths) > 1:
        raise UsageError(
            f"the extractors have {', '.join(map(str, sorted(widths)))} classes, expected the "
            "same number of all; predict with one of them"
        )
    together = joined(streams)
    total = sum(stream.vectors for stream in together)
    ends = np.max([stream.seconds[:, 1] for stream in together], axis=0)
    begins = together[0].seconds[:, 0]
    return Features(np.asarray(total), np.stack([begins, ends], axis=1))


def joined(streams: Sequence[Features]) -> tuple[Features, ...]:
    """Return the rows of several streams that start at the same microsecond.

    Raises
    ------
    UsageError
        When no two rows start together.
    """
    starts = [_starts(stream) for stream in streams]
    common = reduce(np.intersect1d, starts)
    if not common.size:
        raise UsageError(
            "no two windows of the extractors start together; give them the same fps and stride "
            "with --set"
        )
    picked = [np.searchsorted(start, common) for start in starts]
    return tuple(
        Features(stream.vectors[rows], stream.seconds[rows])
        for stream, rows in zip(streams, picked, strict=True)
    )


def _starts(stream: Features) -> NDArray[np.int64]:
    return np.rint(stream.seconds[:, 0] * MICROSECONDS_PER_SECOND).astype(np.int64)


def best_classes(
    logits: Features, class_names: Sequence[str] | None, count: int
) -> tuple[Prediction, list[Prediction]]:
    """Return the best classes of the whole video, and of each window.

    Parameters
    ----------
    logits : Features
        Vectors of shape (N, classes).
    class_names : sequence of str or None
        Names of the columns; without them a class is called by its number.
    count : int
        How many classes of each stretch.
    """

    def best(scores: NDArray[np.float64], start: float, end: float) -> Prediction:
        shifted = np.exp(scores - scores.max())
        probabilities = shifted / shifted.sum()
        order = np.argsort(-scores, kind="stable")[:count]
        names = [class_names[k] if class_names else f"class {k}" for k in order]
        values = zip(names, probabilities[order].tolist(), scores[order].tolist(), strict=True)
        return Prediction(start, end, tuple(values))

    rows, seconds = logits.vectors.astype(np.float64), logits.seconds
    whole = best(rows.mean(axis=0), float(seconds[:, 0].min()), float(seconds[:, 1].max()))
    each = [best(row, float(a), float(b)) for row, (a, b) in zip(rows, seconds, strict=True)]
    return whole, each
