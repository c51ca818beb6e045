"""The feature store: immutable HDF5 shards, written atomically, read safely.

Writing: `Store`, `RecipeShards`. Reading: `FeatureStore`.
"""

from pipeline.store.index import Committed
from pipeline.store.reading import FeatureSet, FeatureStore
from pipeline.store.rows import FailureRow, Receipt, SegmentRow
from pipeline.store.shards import RecipeShards, Store, buckets_for

__all__ = [
    "Committed",
    "FailureRow",
    "FeatureSet",
    "FeatureStore",
    "Receipt",
    "RecipeShards",
    "SegmentRow",
    "Store",
    "buckets_for",
]
