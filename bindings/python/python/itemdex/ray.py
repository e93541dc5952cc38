"""Shards on `Ray <https://docs.ray.io>`_: built in parallel, published all or nothing, asked by fan-out.

Ray schedules, restarts and moves data; what a shard is and how answers merge is the library's
(docs/scale.md). Needs ``pip install itemdex[ray]``, and a folder for the catalog that all hosts share.

    import ray
    from itemdex.ray import Serving, build_sharded

    build_sharded(ray.data.read_parquet("items/"), "catalog", 8, "2026-11-28", key="job-17")
    serving = Serving("catalog", replicas=2)
    answer = serving.search(user, 100).answer
"""

from __future__ import annotations

import shutil
import time
import uuid
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional, Union

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import ray
from pyarrow import dataset as files_of, parquet
from ray.exceptions import PendingCallsLimitExceeded, RayActorError, RayTaskError

import itemdex

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

#: What a dead actor gets to come back, in seconds, and how often it is asked meanwhile.
_PATIENCE = 30.0
_PAUSE = 0.05

#: What is wrong with a shard, its file or its catalog, and not with what was asked of it.
_OF_THE_SHARD = (itemdex.FileError, itemdex.LiveError, OSError)


class Busy(Exception):
    """More requests wait for a shard than ``max_waiting`` allows: try later or elsewhere."""


class ShardsMissing(Exception):
    """Shards did not answer, their processes being gone or failing. ``missing`` has their numbers."""

    def __init__(self, missing: Sequence[int], cause: object) -> None:
        super().__init__(f"shards {', '.join(map(str, missing))} did not answer: {cause}")
        self.missing = list(missing)


class Answered(NamedTuple):
    """The answer of all shards to one request, or of those that answered where ``missing`` names others."""

    #: As the wheel's own call gives it: ``Found``, ``Ranked``, or an array of scores.
    answer: Any
    #: The generation that every shard answered from.
    generation: int
    #: The shards whose items are not among the answer.
    missing: list[int]

    @property
    def partial(self) -> bool:
        """Whether the items of some shards are not among the answer."""
        return bool(self.missing)


def build_sharded(
    dataset: ray.data.Dataset,
    catalog: Union[str, os.PathLike[str]],
    shards: int,
    model_version: str,
    *,
    key: str,
    id: str = "id",
    embedding: str = "embedding",
    columns: Sequence[str] = (),
    cores: int = 1,
    memory: Optional[int] = None,
    retries: int = 3,
    log_position: Optional[int] = None,
    build: Optional[Mapping[str, Any]] = None,
) -> itemdex.Generation:
    """Builds a generation of several shards from a Ray Dataset, and publishes it when the last one is staged.

    Rows are divided by ``shard_of(id)`` into files beside the catalog, which take as much room as the dump
    and go when all is built. One task a shard then builds it with ``cores`` and, if given, ``memory`` in
    bytes. A task that fails is run again by Ray, up to ``retries`` times. No process holds more than a block
    of the dataset, or one shard.

    ``key`` names this dump, such as a job's id: calling again with the key of a generation that was published
    gives that generation. ``columns`` are carried from the dataset, and ``build`` are other options of
    ``itemdex.build``.

    Where anything fails, an exception says what, the generation that was current stays so, and what was
    staged is removed.
    """
    catalog = Path(catalog).absolute()
    published = itemdex.Catalog(catalog)
    parts = catalog.parent / f"{catalog.name}-{key}-{uuid.uuid4().hex}"
    parts.mkdir()
    wanted = [id, embedding, *columns]
    try:
        divide: Any = _divide
        divided = dataset.select_columns(wanted).map_batches(
            divide,
            batch_size=None,  # A block: one file of each shard.
            fn_kwargs={"shards": shards, "id": id, "folder": str(parts)},
            batch_format="pyarrow",
        )
        files: list[list[str]] = [[] for _ in range(shards)]
        for row in divided.iter_rows():
            files[row["shard"]].append(row["file"])
        options: dict[str, Any] = {"model_version": model_version, "id_column": id}
        options |= {"embedding_column": embedding}
        options |= {"threads": cores, "columns": {name: name for name in columns}, **(build or {})}
        task = _build_shard.options(
            num_cpus=cores, memory=memory, max_retries=retries, retry_exceptions=[OSError]
        )
        tasks = [
            task.remote(str(catalog), key, shard, shards, files[shard], options) for shard in range(shards)
        ]
        # Where one fails the others end first, so that nothing is staged later.
        ray.wait(tasks, num_returns=shards)
        ray.get(tasks)
        return published.publish_shards(key, shards, log_position=log_position)
    except BaseException:
        published.discard_shards(key)
        raise
    finally:
        shutil.rmtree(parts, ignore_errors=True)


def _divide(batch: pa.Table, shards: int, id: str, folder: str) -> pa.Table:
    """Writes the rows of each shard to a file of its own, and names it.

    Files of an attempt that failed are never named.
    """
    of = itemdex.shard_of(np.asarray(batch[id]).astype(np.uint64), shards)
    written = []
    for shard in np.unique(of):
        file = f"{folder}/{shard}-{uuid.uuid4().hex}.parquet"
        parquet.write_table(batch.filter(pa.array(of == shard)), file)
        written.append((int(shard), file))
    return pa.table({"shard": [shard for shard, _ in written], "file": [file for _, file in written]})


@ray.remote
def _build_shard(
    catalog: str, key: str, shard: int, shards: int, files: list[str], options: dict[str, Any]
) -> None:
    if not files:
        raise ValueError(f"shard {shard} of {shards} has no item; divide the dump among fewer shards")

    def make(path: Path) -> object:
        # By itself a scanner reads ahead some two million rows.
        rows = files_of.dataset(files).scanner(batch_readahead=1, fragment_readahead=1).to_reader()
        return itemdex.build(rows, out=path, **options)

    itemdex.Catalog(catalog).stage_shard_made(key, shard, shards, make)


class _Shard:
    """A process that holds one shard of the newest generation, and of those that it is told to hold."""

    def __init__(self, catalog: str, shard: int, shards: int, options: dict[str, Any]) -> None:
        self.opened_by = (catalog, (shard, shards), options)

    @cached_property
    def live(self) -> itemdex.LiveIndex:
        """Opened by the first call: Ray gives up a process for good that fails while it starts."""
        catalog, shard, options = self.opened_by
        return itemdex.LiveIndex.open(catalog, shard=shard, **options)

    def generations(self, refresh: bool) -> list[int]:
        if refresh:
            self.live.refresh()
        return self.live.generations()

    def hold(self, generation: int) -> None:
        self.live.hold([generation])
        if generation not in self.live.generations():
            self.live.refresh()

    def ask(self, generation: int, call: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if generation not in self.live.generations():
            self.hold(generation)  # Started anew, when a newer one was current.
        return getattr(self.live.generation(generation), call)(*args, **options)

    def apply(self, changes: list[tuple[int, Any]]) -> Any:
        return self.live.apply(changes)

    def status(self) -> Any:
        return self.live.status()


_Actor: Any = ray.remote(max_restarts=-1, max_task_retries=0)(_Shard)


class Serving:
    """Asks all shards of one generation, each in processes of its own, and merges what they answer.

    Starts ``replicas`` actors a shard, with ``cores`` each. An actor maps its shard's file, so that replicas
    on one host share memory. Ray restarts an actor that dies; meanwhile its requests go to another replica,
    or wait for it up to ``patience`` seconds. ``max_waiting`` requests may wait for an actor; one more is
    ``Busy``.

    Every request is answered by all shards from one generation, which ``refresh`` changes; so no answer mixes
    model versions. ``live`` are other options of ``LiveIndex.open``; for ``fed_log="logs/fresh.log"`` shard 2
    of 8 has ``logs/fresh-2-of-8.log``, and its second replica ``logs/fresh-2-of-8-replica-1.log``.
    """

    def __init__(
        self,
        catalog: Union[str, os.PathLike[str]],
        *,
        replicas: int = 1,
        cores: float = 1,
        max_waiting: int = 1_000,
        patience: float = _PATIENCE,
        live: Optional[Mapping[str, Any]] = None,
    ) -> None:
        folder = Path(catalog).absolute()
        current = itemdex.Catalog(folder).current()
        if current is None:
            raise ValueError(f"{folder} has no generation; publish one first")
        self.shards, self.patience = current.shards, patience
        actor = _Actor.options(num_cpus=cores, max_pending_calls=max_waiting)
        self._replicas = [
            [
                actor.remote(str(folder), shard, self.shards, _options(live or {}, of, number))
                for number in range(replicas)
            ]
            for shard, of in enumerate(f"{shard}-of-{self.shards}" for shard in range(self.shards))
        ]
        self._asked = 0
        self.generation = current.number
        try:
            self.refresh()
        except BaseException:
            self.close()
            raise

    def refresh(self) -> int:
        """Takes up the catalog's current generation when every process has it, and returns its number.

        Requests that are under way keep theirs. Where a process cannot take it up, its error is raised, and
        the generation stays what it was.
        """
        have = self._everyone(lambda one: one.generations.remote(True))
        common = [number for number in have[0] if all(number in numbers for numbers in have)]
        if not common:
            raise ShardsMissing(range(self.shards), "no generation is on all of them")
        # The current one is the first, which after a rollback is not the highest.
        self.generation = common[0]
        self._everyone(lambda one: one.hold.remote(self.generation))
        return self.generation

    def search(
        self, users: ArrayLike, k: int, *, partial: bool = False, now: Optional[int] = None, **options: Any
    ) -> Answered:
        """The best ``k`` items of each user; options are those of ``View.search``.

        Each shard is asked for what it is likely to have of them, and once more where it may have more. With
        ``partial`` the items of shards that do not answer are left out; otherwise that is ``ShardsMissing``.
        """
        users, options = np.asanyarray(users), options | {"now": int(time.time()) if now is None else now}
        generation, share = self.generation, itemdex.share_of(k, self.shards)
        everyone = {shard: ("search", (users, share), options) for shard in range(self.shards)}
        found, missing = self._ask(generation, everyone, partial)
        shards = sorted(found)
        rows = itemdex.to_ask_again([found[shard] for shard in shards], share, k) if share < k else []
        again = {shard: ("search", (users, k), options) for shard, asked in zip(shards, rows) if len(asked)}
        more, late = self._ask(generation, again, partial)
        found |= more
        merged = itemdex.merge_found([found[shard] for shard in shards], k)
        return Answered(merged, generation, missing + late)

    def rank(
        self, user: ArrayLike, candidates: ArrayLike, k: int, *, partial: bool = False, **options: Any
    ) -> Answered:
        """The best ``k`` of the candidates; options are those of ``View.rank``. Each shard scores its own."""
        ids, generation = np.asanyarray(candidates, np.uint64), self.generation
        asked = {shard: ("rank", (user, ids[own], k), options) for shard, own in self._own(ids).items()}
        ranked, missing = self._ask(generation, asked or {0: ("rank", (user, ids, k), options)}, partial)
        return Answered(itemdex.merge_ranked(list(ranked.values()), k), generation, missing)

    def score(
        self, user: ArrayLike, candidates: ArrayLike, *, partial: bool = False, **options: Any
    ) -> Answered:
        """The score of each candidate; NaN where no shard has it, or its shard is missing."""
        ids, generation = np.asanyarray(candidates, np.uint64), self.generation
        own = self._own(ids)
        asked = {shard: ("score", (user, ids[of_shard]), options) for shard, of_shard in own.items()}
        scored, missing = self._ask(generation, asked, partial)
        scores = np.full(len(ids), np.nan, np.float32)
        for shard, part in scored.items():
            scores[own[shard]] = part
        return Answered(scores, generation, missing)

    def apply(self, changes: Sequence[tuple[int, Any]]) -> list[Any]:
        """Feeds changes to every process, as ``LiveIndex.apply``: each logs those of its own items."""
        return self._everyone(lambda one: one.apply.remote(list(changes)))

    def status(self) -> list[list[Any]]:
        """The status of each replica of each shard, as ``LiveIndex.status`` gives it."""
        statuses = iter(self._everyone(lambda one: one.status.remote()))
        return [[next(statuses) for _ in actors] for actors in self._replicas]

    def close(self) -> None:
        """Ends the processes."""
        for actor in self._actors():
            ray.kill(actor)

    def __enter__(self) -> Serving:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _own(self, ids: NDArray[np.uint64]) -> dict[int, NDArray[np.bool_]]:
        """Which of the ids belong to each shard that has some."""
        of = itemdex.shard_of(ids, self.shards)
        return {int(shard): of == shard for shard in np.unique(of)}

    def _actors(self) -> list[Any]:
        return [actor for actors in self._replicas for actor in actors]

    def _everyone(self, call: Callable[[Any], Any]) -> list[Any]:
        """What every process answers, the ones that died when Ray has started them anew."""
        asked = [(actor, self._try(actor, call)) for actor in self._actors()]
        return [self._wait(actor, call, answer) for actor, answer in asked]

    def _try(self, actor: Any, call: Callable[[Any], Any]) -> Any:
        """The answer to come, or None where as many requests wait as may."""
        try:
            return call(actor)
        except PendingCallsLimitExceeded:
            return None

    def _wait(self, actor: Any, call: Callable[[Any], Any], answer: Any) -> Any:
        until = time.monotonic() + self.patience
        while True:
            try:
                if answer is not None:
                    return ray.get(answer)
            except RayTaskError as error:
                raise _cause(error) from error
            except RayActorError:
                if time.monotonic() > until:
                    raise
            time.sleep(_PAUSE)
            answer = self._try(actor, call)

    def _ask(
        self, generation: int, asked: Mapping[int, tuple[str, tuple[Any, ...], dict[str, Any]]], partial: bool
    ) -> tuple[dict[int, Any], list[int]]:
        """What shards answer, and those that do not."""
        self._asked += 1
        waiting = {shard: self._send(shard, generation, request) for shard, request in asked.items()}
        with suppress(RayTaskError, RayActorError):  # One by one then.
            return dict(zip(waiting, ray.get(list(waiting.values())))), []
        answers, failed, cause = {}, [], None
        for shard, answer in waiting.items():
            try:
                answers[shard] = self._receive(shard, answer, generation, asked[shard], partial)
            except (RayActorError, *_OF_THE_SHARD) as error:
                failed.append(shard)
                cause = error
        if failed and not (partial and answers):
            raise ShardsMissing(failed, cause) from cause
        return answers, failed

    def _send(self, shard: int, generation: int, request: tuple[Any, ...], attempt: int = 0) -> Any:
        replicas = self._replicas[shard]
        try:
            return replicas[(self._asked + attempt) % len(replicas)].ask.remote(generation, *request)
        except PendingCallsLimitExceeded as error:
            raise Busy(f"shard {shard} has as many waiting requests as it may; try later") from error

    def _receive(
        self, shard: int, answer: Any, generation: int, request: tuple[Any, ...], partial: bool
    ) -> Any:
        """An answer, asked for again while processes that died come back.

        With `partial` only of the other replicas.
        """
        until, attempt = time.monotonic() + self.patience, 0
        while True:
            failed: Exception
            try:
                return ray.get(answer)
            except RayTaskError as error:
                failed = _cause(error)
                if not isinstance(failed, _OF_THE_SHARD):
                    raise failed from error
            except RayActorError as error:
                failed = error
            attempt += 1
            if attempt >= len(self._replicas[shard]):
                if partial or time.monotonic() > until:
                    raise failed
                time.sleep(_PAUSE)
            answer = self._send(shard, generation, request, attempt)


def _options(live: Mapping[str, Any], shard: str, replica: int) -> dict[str, Any]:
    """The options of a process, with a log of its own."""
    if live.get("fed_log") is None:
        return dict(live)
    log = Path(live["fed_log"])
    own = f"{log.stem}-{shard}" + (f"-replica-{replica}" if replica else "")
    return {**live, "fed_log": str(log.with_name(own + log.suffix))}


def _cause(error: RayTaskError) -> Exception:
    """What went wrong in another process, as it would be raised in this one."""
    return error.cause if isinstance(error.cause, Exception) else error


__all__ = ["Answered", "Busy", "Serving", "ShardsMissing", "build_sharded"]
