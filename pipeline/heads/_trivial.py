"""The trivial baseline: what frame size and length alone give away.

Where a benchmark was cut or filmed differently for each class, a classifier can be right without
looking at a single pixel. If this baseline is far above chance, so is every other figure, for a
reason that has nothing to do with actions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from manifests import Segment
from pipeline import decode
from pipeline.errors import SegmentFailure
from pipeline.heads._examples import Examples
from pipeline.heads._nested import Candidate
from pipeline.sources import SourceOptions, Sources
from pipeline.store import FeatureSet
from pipeline.store.spans import Span

CANDIDATE = Candidate("average", {"pool": "mean"})


def facts(
    features: FeatureSet, keys: Sequence[str], videos: Sequence[str]
) -> tuple[NDArray[np.float64], str]:
    """Return what is known of segments besides their pixels, and what that is.

    Parameters
    ----------
    features : FeatureSet
        Its table of segments gives the length.
    keys : sequence of str
    videos : sequence of str
        ``--videos`` values; without any the frame size stays unknown.

    Returns
    -------
    array (n, F)
        Logarithms of length, and of width, height and their ratio where videos were given, with
        all their products: sizes tell classes apart in more than one direction.
    str
        In words.
    """
    items = features.items
    place = {key: k for k, key in enumerate(items["key"].tolist())}
    chosen = [place[key] for key in keys]
    columns = [
        np.log1p(items["frames_decoded"][chosen].astype(np.float64)),
        np.log1p([_seconds(features, span) for span in features.spans(keys)]),
    ]
    words = "length"
    if videos:
        sizes = _sizes(items, chosen, videos)
        columns += [np.log(sizes[:, 0]), np.log(sizes[:, 1]), np.log(sizes[:, 0] / sizes[:, 1])]
        words = "frame size and length"
    else:
        words += " (give --videos to add the frame size)"
    plain = np.stack(columns, 1)
    plain = plain - plain.mean(0)
    first, second = np.triu_indices(plain.shape[1])
    return np.concatenate([plain, plain[:, first] * plain[:, second]], 1), words


def _seconds(features: FeatureSet, span: NDArray[np.int64]) -> float:
    """From the start of the first row to the end of the last."""
    return float(np.ptp(features.reader.seconds(Span(*span.tolist()))))


def _sizes(
    items: Mapping[str, NDArray[np.generic]], chosen: Sequence[int], videos: Sequence[str]
) -> NDArray[np.float64]:
    """Width and height in px, (n, 2); 1 where the file cannot be found now."""
    sources = Sources(videos, SourceOptions())
    sizes = np.ones((len(chosen), 2))
    for row, k in enumerate(chosen):
        start, end = float(items["start_seconds"][k]), float(items["end_seconds"][k])
        segment = Segment(
            video=str(items["video"][k]),
            start_ms=round(start * 1000),
            end_ms=None if np.isnan(end) else round(end * 1000),
        )
        try:
            with sources.borrowed(segment) as located:
                info = decode.probe(located.path)
        except SegmentFailure:
            continue
        sizes[row] = info.width_px, info.height_px
    return sizes


def as_examples(data: Examples, found: NDArray[np.float64]) -> Examples:
    """Return the same segments with one row each: their facts."""
    rows = tuple(torch.from_numpy(row).float().unsqueeze(0) for row in found)
    known = data.known_of(range(len(data)))
    return Examples(**known, task=data.task, streams=("facts",), rows=(rows,))
