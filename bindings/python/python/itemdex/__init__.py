"""An embedded item index for two-tower recommenders.

The embeddings of all items stand in one memory-mapped file, searched and ranked by inner product.

>>> import itemdex, numpy as np
>>> items = np.random.default_rng(1).standard_normal((10_000, 64), dtype=np.float32)
>>> itemdex.build(items, out="items.itemdex", model_version="2026-11-24")
>>> index = itemdex.Index.open("items.itemdex")
>>> found = index.search(items[:3], 10)
>>> found.ids.shape, found.scores.shape
((3, 10), (3, 10))

``build`` writes an index file, and ``Index`` answers from it: ``search`` finds the best of all items, and
``rank`` gives the exact order of candidates named by id. A ``Catalog`` publishes files, and a ``LiveIndex``
follows it and takes fresh items. For items that one file does not hold, a catalog publishes shards, and a
``ShardedIndex`` or the ``merge_`` functions answer as one index.
"""

from ._answers import (
    Applied,
    BuildReport,
    Channel,
    Column,
    ColumnInfo,
    Delete,
    Dropped,
    Found,
    Generation,
    GenerationStatus,
    Info,
    Ranked,
    RankedChannels,
    Reservation,
    Residency,
    StagedShard,
    Status,
    Upsert,
)
from ._errors import Error, FileError, InputError, LiveError
from ._itemdex import (
    NO_ITEM,
    Catalog,
    Filter,
    Index,
    Items,
    ItemSet,
    LiveIndex,
    RowHandles,
    ShardedFilter,
    ShardedIndex,
    View,
    ViewRows,
    __version__,
    build,
    merge_channels,
    merge_found,
    merge_ranked,
    shard_of,
    share_of,
    to_ask_again,
)

__all__ = [
    "NO_ITEM",
    "Applied",
    "BuildReport",
    "Catalog",
    "Channel",
    "Column",
    "ColumnInfo",
    "Delete",
    "Dropped",
    "Error",
    "FileError",
    "Filter",
    "Found",
    "Generation",
    "GenerationStatus",
    "Index",
    "Info",
    "InputError",
    "ItemSet",
    "Items",
    "LiveError",
    "LiveIndex",
    "Ranked",
    "RankedChannels",
    "Reservation",
    "Residency",
    "RowHandles",
    "ShardedFilter",
    "ShardedIndex",
    "StagedShard",
    "Status",
    "Upsert",
    "View",
    "ViewRows",
    "__version__",
    "build",
    "merge_channels",
    "merge_found",
    "merge_ranked",
    "shard_of",
    "share_of",
    "to_ask_again",
]
