from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Optional, TypedDict, Union

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from ._itemdex import RowHandles


class Found(NamedTuple):
    """What ``search`` found: of shape (h,) for one user, (n, k) for n users, best first."""

    ids: NDArray[np.uint64]
    scores: NDArray[np.float32]
    #: "graph", "partitions" or "scan"; "mixed" where users differ.
    plan: str
    #: How many items the answer is among: those that are neither denied nor filtered out nor expired.
    matching: int


class Dropped(NamedTuple):
    """How many candidates of a rank were left out, each for the first reason that holds."""

    expired: int
    denied: int
    #: Those that the filter does not keep, and those that are not among the allowed.
    filtered: int


class Ranked(NamedTuple):
    """What ``rank`` chose: of shape (h,) for one user, (n, k) for n users, best first."""

    ids: NDArray[np.uint64]
    scores: NDArray[np.float32]
    #: The candidates that are not in the index, ascending, each once.
    unknown: NDArray[np.uint64]
    #: How many candidates were left out.
    dropped: Dropped


class RankedChannels(NamedTuple):
    """What ``rank_channels`` chose, of shape (h,), best first."""

    ids: NDArray[np.uint64]
    scores: NDArray[np.float32]
    #: A bit for each channel that brought the item, the lowest for the first.
    channels: NDArray[np.uint32]
    #: The candidates that are not in the index, ascending, each once.
    unknown: NDArray[np.uint64]
    #: How many candidates were left out.
    dropped: Dropped


class Channel(NamedTuple):
    """A recall channel: its candidates, and how many hits it is to have at least and at most."""

    candidates: Union[ArrayLike, RowHandles]
    at_least: int = 0
    at_most: Optional[int] = None


class Column(NamedTuple):
    """A column for ``build``: a value for each item, the name of a column of record batches, or a path."""

    values: Union[Sequence[object], NDArray[Any], str, os.PathLike[str]]
    #: "tag", "number", "flag" or "expires"; None where the values tell.
    kind: Optional[str] = None


class BuildReport(NamedTuple):
    """What a build did."""

    rows: int
    dim: int
    #: The file's length.
    bytes: int
    #: Rows whose embedding equals an earlier row's.
    copies: int
    #: Rows the builder had left unreachable, which were then linked in.
    linked: int
    #: Seconds for reading rows, ordering and writing them.
    rows_seconds: float
    #: Seconds for the graph.
    graph_seconds: float
    #: Seconds from start to finish.
    seconds: float


class Generation(NamedTuple):
    """A generation as its catalog lists it."""

    #: The later one published has the higher number.
    number: int
    model_version: str
    rows: int
    dim: int
    bytes: int
    #: The position of the log at which its dump was taken, where the publisher gave one.
    log_position: Optional[int]
    #: Whether a rollback took it out of service.
    withdrawn: bool
    #: Its file; None in what a ``View`` or a ``LiveIndex`` tells, and of a generation of several shards.
    path: Optional[Path]
    #: How many files have its items.
    shards: int = 1


class StagedShard(NamedTuple):
    """A shard that waits in a catalog's folder for its publication."""

    #: Its number, from 0 on.
    shard: int
    #: How many shards there are.
    shards: int
    path: Path
    model_version: str
    rows: int
    dim: int
    bytes: int


class Reservation(NamedTuple):
    """A position of the log that a generation to come will be published with."""

    log_position: int
    #: Until when it holds, in seconds since 1970.
    until: int


class Upsert(NamedTuple):
    """Puts an item in, or replaces its embedding, for one model version."""

    model_version: str
    id: int
    embedding: ArrayLike


class Delete(NamedTuple):
    """Takes an item out of every model version."""

    id: int


class Applied(NamedTuple):
    """What became of changes."""

    #: The position of the last change in the log.
    position: int
    #: Changes that were logged.
    applied: int
    #: Changes at positions that the log had come to before.
    already_there: int
    #: Upserts of retired model versions, which were not logged.
    retired: int
    #: Changes of items that belong to other shards, which were not logged.
    elsewhere: int = 0


class ColumnInfo(TypedDict):
    """What an index file holds of a column."""

    name: str
    kind: str
    type: str
    distinct: int
    nulls: int
    bytes: int


class Info(TypedDict):
    """What an index file holds."""

    rows: int
    dim: int
    model_version: str
    bytes: int
    format_version: int
    plans: list[str]
    clusters: int
    sections: dict[str, int]
    columns: list[ColumnInfo]
    row_format: str
    quantized: bool
    builder: str
    m: int
    ef_construction: int
    layers: list[int]
    #: For each measured beam its recall@10, recall@100 and recall@1000.
    calibration: list[tuple[int, list[float]]]
    norm_variation: float
    augmentation: float
    degree: tuple[int, float, int]


class Residency(TypedDict):
    """Where an index is in memory."""

    copied: int
    huge: int
    locked: bool


class GenerationStatus(TypedDict):
    """A generation that serves."""

    generation: Generation
    items: int
    fresh: int
    queries: int
    #: The mean recall of the last sampled searches, and how many there were.
    recall: Optional[tuple[float, int]]


class Status(TypedDict):
    """What a ``LiveIndex`` is doing."""

    generations: list[GenerationStatus]
    last_refresh: Optional[datetime]
    last_error: Optional[str]
    refused: list[tuple[int, str]]
    log_position: Optional[int]
    log_dropped_to: Optional[int]
    log_error: Optional[str]
    waiting: int
