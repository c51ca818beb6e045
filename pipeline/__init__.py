"""Moves data: manifests in, frames and flow through frozen networks, HDF5 features out.

Map of the code, top floor first (imports go down only)::

    cli         flags, and nothing else
    run         the driver: submit, collect, watch, report
    plan work cluster report      what is left, what a worker does, where it runs, what came of it
    heads       light models trained on the features
    store decode flow sources     HDF5 shards, frames, TV-L1, where videos come from
    provenance pixels             what made these numbers; resizing and colour
    sampling    which frames, which windows: pure arithmetic
    frames      checked value types
    errors      what can go wrong
"""

__version__ = "0.1.0"
