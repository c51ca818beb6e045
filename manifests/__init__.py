"""Annotations of video datasets, read strictly and quickly: standard library only.

`load` reads a whole list, `stream` its rows one by one in bounded memory, `inspect` counts them.
A dataset is one module of this package (``kinetics.py``, ``sports1m.py`` ...); ``_readers.py`` says
what it must offer.
"""

from manifests._convert import write_generic, write_jsonl, write_kinetics, write_rejects
from manifests._errors import ManifestError, RowError
from manifests._inspect import Summary, inspect, rejects
from manifests._load import load, stream
from manifests._readers import names
from manifests._segment import Manifest, Reject, Segment
from manifests._select import balanced, split

__all__ = [
    "Manifest",
    "ManifestError",
    "Reject",
    "RowError",
    "Segment",
    "Summary",
    "balanced",
    "inspect",
    "load",
    "names",
    "rejects",
    "split",
    "stream",
    "write_generic",
    "write_jsonl",
    "write_kinetics",
    "write_rejects",
]
