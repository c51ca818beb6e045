"""The feature store: immutable HDF5 shards, written atomically, read safely.

Writing: `Store`, `RecipeShards`. Reading: `FeatureStore`. Keeping: `verify`, `export`,
`export_descriptors`, `compact`.
"""

from pipeline.store.committed import Committed
from pipeline.store.compaction import Compacted, compact
from pipeline.store.exporting import Exported, export, export_descriptors
from pipeline.store.reading import FeatureSet, FeatureStore
from pipeline.store.rows import FailureRow, Receipt, SegmentRow
from pipeline.store.shards import RecipeShards, Store, buckets_for
from pipeline.store.verification import Finding, Report, verify

__all__ = [
    "Committed",
    "Compacted",
    "Exported",
    "FailureRow",
    "FeatureSet",
    "FeatureStore",
    "Finding",
    "Receipt",
    "RecipeShards",
    "Report",
    "SegmentRow",
    "Store",
    "buckets_for",
    "compact",
    "export",
    "export_descriptors",
    "verify",
]
