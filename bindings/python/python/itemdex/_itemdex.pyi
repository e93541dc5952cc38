import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, final, overload, type_check_only

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import Self

from ._answers import (
    Applied,
    BuildReport,
    Channel,
    Delete,
    Found,
    Generation,
    Info,
    Ranked,
    RankedChannels,
    Reservation,
    Residency,
    StagedShard,
    Status,
    Upsert,
)

__all__ = [
    "Items",
    "Index",
    "RowHandles",
    "Filter",
    "ItemSet",
    "Catalog",
    "LiveIndex",
    "View",
    "ShardedIndex",
    "ShardedFilter",
    "shard_of",
    "share_of",
    "to_ask_again",
    "merge_found",
    "merge_ranked",
    "merge_channels",
    "ViewRows",
    "build",
    "_open",
    "_run",
    "NO_ITEM",
    "__version__",
]

__version__: str
NO_ITEM: int

_Path = str | os.PathLike[str]
_Plan = Literal["graph", "partitions", "scan"]

@type_check_only
class _RecordBatches(Protocol):
    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...

@type_check_only
class _Bar(Protocol):
    def update(self, n: int) -> object: ...
    def close(self) -> object: ...

@final
class RowHandles:
    def __len__(self) -> int: ...

@final
class Filter:
    @property
    def matching(self) -> int: ...

@final
class ItemSet:
    def __len__(self) -> int: ...

class Items:
    def search(
        self,
        users: ArrayLike,
        k: int,
        *,
        recall: float | None = None,
        filter: str | Filter | None = None,
        deny: ArrayLike | ItemSet | None = None,
        allow: ArrayLike | ItemSet | None = None,
        now: int | None = None,
        ef: int | None = None,
        plan: _Plan | None = None,
        approximate_scores: bool = False,
        threads: int | None = None,
    ) -> Found: ...
    def rank(
        self,
        users: ArrayLike,
        candidates: ArrayLike | RowHandles | Sequence[ArrayLike | RowHandles],
        k: int,
        *,
        filter: str | Filter | None = None,
        deny: ArrayLike | ItemSet | None = None,
        allow: ArrayLike | ItemSet | None = None,
        now: int | None = None,
        exact: bool = False,
        threads: int | None = None,
    ) -> Ranked: ...
    def rank_channels(
        self,
        user: ArrayLike,
        channels: Iterable[ArrayLike | RowHandles | Channel],
        k: int,
        *,
        filter: str | Filter | None = None,
        deny: ArrayLike | ItemSet | None = None,
        allow: ArrayLike | ItemSet | None = None,
        now: int | None = None,
        exact: bool = False,
    ) -> RankedChannels: ...
    def rank_channels_part(
        self,
        user: ArrayLike,
        channels: Iterable[ArrayLike | RowHandles | Channel],
        k: int,
        *,
        filter: str | Filter | None = None,
        deny: ArrayLike | ItemSet | None = None,
        allow: ArrayLike | ItemSet | None = None,
        now: int | None = None,
        exact: bool = False,
    ) -> RankedChannels: ...
    def score(
        self,
        users: ArrayLike,
        candidates: ArrayLike,
        *,
        filter: str | Filter | None = None,
        deny: ArrayLike | ItemSet | None = None,
        allow: ArrayLike | ItemSet | None = None,
        now: int | None = None,
    ) -> NDArray[np.float32]: ...
    @overload
    def get(self, ids: Sequence[int] | NDArray[np.integer[Any]]) -> NDArray[np.float32]: ...
    @overload
    def get(self, ids: int | np.integer[Any]) -> NDArray[np.float32] | None: ...
    def filter(
        self, text: str, **parameters: bool | float | str | Sequence[bool | float | str] | NDArray[Any]
    ) -> Filter: ...
    def item_set(self, ids: ArrayLike) -> ItemSet: ...
    def __len__(self) -> int: ...
    def __contains__(self, key: object, /) -> bool: ...
    @property
    def dim(self) -> int: ...
    @property
    def model_version(self) -> str: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        *_exception: type[BaseException] | BaseException | TracebackType | None,
    ) -> None: ...

@final
class Index(Items):
    @staticmethod
    def open(path: _Path, *, resident: bool = False, prefault: bool = False, lock: bool = False) -> Index: ...
    @property
    def path(self) -> Path: ...
    def ids(self) -> NDArray[np.uint64]: ...
    def info(self) -> Info: ...
    def verify(self) -> None: ...
    def values(self, id: int) -> dict[str, list[str] | list[int] | float | bool | None] | None: ...
    def residency(self) -> Residency: ...
    def look_up(self, ids: ArrayLike) -> RowHandles: ...
    def search_rows(
        self,
        user: ArrayLike,
        k: int,
        *,
        recall: float | None = None,
        filter: str | Filter | None = None,
        deny: ArrayLike | ItemSet | None = None,
        allow: ArrayLike | ItemSet | None = None,
        now: int | None = None,
        ef: int | None = None,
        plan: _Plan | None = None,
        approximate_scores: bool = False,
    ) -> RowHandles: ...
    def __reduce__(self) -> tuple[Callable[..., Index], tuple[Path, bool, bool, bool]]: ...

@final
class View(Items):
    @property
    def generation(self) -> Generation: ...
    def values(self, id: int) -> dict[str, list[str] | list[int] | float | bool | None] | None: ...
    def look_up(self, ids: ArrayLike) -> ViewRows: ...
    def search_rows(
        self,
        user: ArrayLike,
        k: int,
        *,
        recall: float | None = None,
        filter: str | Filter | None = None,
        deny: ArrayLike | ItemSet | None = None,
        allow: ArrayLike | ItemSet | None = None,
        now: int | None = None,
        ef: int | None = None,
        plan: _Plan | None = None,
        approximate_scores: bool = False,
    ) -> ViewRows: ...

@final
class ViewRows:
    @property
    def rows(self) -> RowHandles: ...
    @property
    def fresh(self) -> NDArray[np.uint64]: ...
    def __len__(self) -> int: ...

@final
class Catalog:
    def __new__(cls, folder: _Path) -> Self: ...
    @property
    def folder(self) -> Path: ...
    def publish(
        self, index: _Path, *, log_position: int | None = None, keep: int = 2, versions: int = 2
    ) -> Generation: ...
    def publish_made(
        self,
        make: Callable[[Path], object],
        *,
        log_position: int | None = None,
        keep: int = 2,
        versions: int = 2,
    ) -> Generation: ...
    def stage_shard(self, key: str, shard: int, shards: int, index: _Path) -> StagedShard: ...
    def stage_shard_made(
        self, key: str, shard: int, shards: int, make: Callable[[Path], object]
    ) -> StagedShard: ...
    def staged_shards(self, key: str) -> list[StagedShard]: ...
    def publish_shards(
        self, key: str, shards: int, *, log_position: int | None = None, keep: int = 2, versions: int = 2
    ) -> Generation: ...
    def discard_shards(self, key: str) -> int: ...
    def generations(self) -> list[Generation]: ...
    def current(self) -> Generation | None: ...
    def rollback(self, to: int | None = None) -> Generation: ...
    def prune(self, *, keep: int = 2, versions: int = 2) -> list[Generation]: ...
    def reserve(self, log_position: int, *, hours: float = 24.0) -> Reservation: ...
    def reservations(self) -> list[Reservation]: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        *_exception: type[BaseException] | BaseException | TracebackType | None,
    ) -> None: ...

@final
class LiveIndex:
    @staticmethod
    def open(
        catalog: _Path,
        *,
        log: _Path | None = None,
        fed_log: _Path | None = None,
        sync: Literal["always", "never"] | float | None = None,
        poll: float = 2.0,
        fresh_limit: int = 100_000,
        sample_recall: float = 0.0,
        shard: tuple[int, int] | None = None,
        resident: bool = False,
        prefault: bool = False,
        lock: bool = False,
    ) -> LiveIndex: ...
    def current(self) -> View: ...
    def for_model(self, model_version: str) -> View: ...
    def generation(self, number: int) -> View: ...
    def generations(self) -> list[int]: ...
    def hold(self, generations: Sequence[int]) -> None: ...
    @property
    def shard(self) -> tuple[int, int]: ...
    def model_versions(self) -> list[str]: ...
    def refresh(self) -> bool: ...
    def upsert(
        self,
        model_version: str,
        ids: ArrayLike,
        embeddings: ArrayLike,
        values: Mapping[str, object] | Iterable[Mapping[str, object]] | None = None,
    ) -> Applied: ...
    def set_values(self, id: int, values: Mapping[str, object]) -> Applied: ...
    def delete(self, ids: ArrayLike) -> Applied: ...
    def write(self, changes: Iterable[Upsert | Delete]) -> Applied: ...
    def apply(self, changes: Iterable[tuple[int, Upsert | Delete]]) -> Applied: ...
    def status(self) -> Status: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        *_exception: type[BaseException] | BaseException | TracebackType | None,
    ) -> None: ...

@final
class ShardedFilter:
    @property
    def matching(self) -> int: ...

@final
class ShardedIndex:
    @staticmethod
    def open(
        catalog: Catalog,
        generation: int | None = None,
        *,
        threads: int = 1,
        resident: bool = False,
        prefault: bool = False,
        lock: bool = False,
    ) -> ShardedIndex: ...
    def search(
        self,
        users: ArrayLike,
        k: int,
        *,
        recall: float | None = None,
        filter: str | ShardedFilter | None = None,
        deny: ArrayLike | None = None,
        allow: ArrayLike | None = None,
        now: int | None = None,
        ef: int | None = None,
        plan: _Plan | None = None,
        approximate_scores: bool = False,
    ) -> Found: ...
    def rank(
        self,
        users: ArrayLike,
        candidates: ArrayLike | Sequence[ArrayLike],
        k: int,
        *,
        filter: str | ShardedFilter | None = None,
        deny: ArrayLike | None = None,
        allow: ArrayLike | None = None,
        now: int | None = None,
        exact: bool = False,
    ) -> Ranked: ...
    def rank_channels(
        self,
        user: ArrayLike,
        channels: Iterable[ArrayLike | Channel],
        k: int,
        *,
        filter: str | ShardedFilter | None = None,
        deny: ArrayLike | None = None,
        allow: ArrayLike | None = None,
        now: int | None = None,
        exact: bool = False,
    ) -> RankedChannels: ...
    def score(self, user: ArrayLike, candidates: ArrayLike) -> NDArray[np.float32]: ...
    def get(self, id: int) -> NDArray[np.float32] | None: ...
    def filter(
        self, text: str, **parameters: bool | float | str | Sequence[bool | float | str] | NDArray[Any]
    ) -> ShardedFilter: ...
    def __len__(self) -> int: ...
    def __contains__(self, key: object, /) -> bool: ...
    @property
    def dim(self) -> int: ...
    @property
    def model_version(self) -> str: ...
    @property
    def shards(self) -> int: ...

@overload
def shard_of(ids: int | np.integer[Any], shards: int) -> int: ...
@overload
def shard_of(ids: Sequence[int] | NDArray[np.integer[Any]], shards: int) -> NDArray[np.uint32]: ...
def share_of(k: int, shards: int) -> int: ...
def to_ask_again(parts: Iterable[Found], asked: int, k: int) -> list[NDArray[np.int64]]: ...
def merge_found(parts: Iterable[Found], k: int) -> Found: ...
def merge_ranked(parts: Iterable[Ranked], k: int) -> Ranked: ...
def merge_channels(
    parts: Iterable[RankedChannels], k: int, quotas: Sequence[tuple[int, int | None]]
) -> RankedChannels: ...
def build(
    items: ArrayLike | _RecordBatches | _Path,
    ids: ArrayLike | _Path | None = None,
    users: ArrayLike | _RecordBatches | _Path | None = None,
    *,
    out: _Path,
    model_version: str,
    columns: Mapping[str, object] | None = None,
    id_column: str | None = "id",
    embedding_column: str = "embedding",
    plans: Sequence[Literal["graph", "partitions"]] | None = None,
    rows: Literal["f16", "f32"] | None = None,
    quantize: Literal["i8", "none"] | None = None,
    m: int = 16,
    ef_construction: int = 200,
    threads: int | None = None,
    progress: Callable[[str, int, int], object] | type[_Bar] | None = None,
) -> BuildReport: ...
def _open(path: _Path, resident: bool, prefault: bool, lock: bool) -> Index: ...
def _run(args: Sequence[str]) -> int: ...
