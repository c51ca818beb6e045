"""Light models trained on features, one module each, and the data they are trained on.

A public module that defines `build` is a head, and its name is the module's with hyphens. Adding
a head is adding its file; there is no list to edit. `FeatureDataset` with `collate` feeds anybody's
own PyTorch model; `load` brings back a head that ``pipeline train`` made.
"""

from pipeline.heads._head import build, names
from pipeline.heads.checkpoint import load
from pipeline.heads.dataset import FeatureDataset, ShardSampler, collate

__all__ = ["FeatureDataset", "ShardSampler", "build", "collate", "load", "names"]
