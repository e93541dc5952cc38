"""itemdex.ray on a local cluster of two nodes: answers as of one index, deaths, swaps, bad input."""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import shutil
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path

import itemdex
import numpy as np
import pytest

ray = pytest.importorskip("ray")
pa = pytest.importorskip("pyarrow")

from itemdex.ray import Busy, Serving, ShardsMissing, build_sharded  # noqa: E402
from pyarrow import parquet  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402

SHARDS = 3


@pytest.fixture(scope="module")
def cluster():
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4})
    cluster.add_node(num_cpus=4)
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def dump(data, folder, scale=1.0, rows=slice(None)):
    """Parquet of several files; a generation of another scale has other scores."""
    folder.mkdir()
    for part, own in enumerate(np.array_split(np.arange(len(data.ids))[rows], 4)):
        embeddings = pa.FixedSizeListArray.from_arrays((scale * data.items[own]).ravel(), data.items.shape[1])
        price = data.ids[own].astype(np.int64) % 10
        table = pa.table({"id": data.ids[own], "embedding": embeddings, "price": price})
        parquet.write_table(table, folder / f"{part}.parquet")
    return ray.data.read_parquet(str(folder))


def publish(data, tmp, key, scale=1.0, version="v1"):
    dataset = dump(data, tmp / key, scale)
    return build_sharded(dataset, tmp / "catalog", SHARDS, version, key=key, columns=["price"])


@pytest.fixture(scope="module")
def tmp(tmp_path_factory):
    return tmp_path_factory.mktemp("ray")


@pytest.fixture(scope="module")
def serving(cluster, data, tmp):
    first = publish(data, tmp, "job-1")
    assert (first.rows, first.shards, first.model_version) == (3000, SHARDS, "v1")
    assert sorted(path.name for path in tmp.iterdir()) == ["catalog", "job-1"], "parts are gone"
    with Serving(tmp / "catalog", cores=0.5, patience=60) as serving:
        yield serving


def test_answers_are_those_of_one_index(serving, data):
    found = serving.search(data.users, 50, recall=1.0)
    assert found.answer.ids.tolist() == [data.best(user, 50) for user in data.users] and not found.partial
    user = data.users[0]
    cheap = data.ids[data.ids % 10 < 3]
    found = serving.search(user, 20, recall=1.0, filter="price < 3", deny=data.best(user, 3, cheap))
    assert found.answer.ids.tolist() == data.best(user, 23, cheap)[3:]
    assert found.answer.matching == len(cheap) - 3
    candidates = np.concatenate([data.ids[:300], [1, 2]]).astype(np.uint64)
    ranked = serving.rank(user, candidates, 10).answer
    assert ranked.ids.tolist() == data.best(user, 10, data.ids[:300]) and ranked.unknown.tolist() == [1, 2]
    scores = serving.score(user, candidates).answer
    np.testing.assert_allclose(scores[:-2], data.items[:300] @ user, rtol=1e-4, atol=1e-4)
    assert np.isnan(scores[-2:]).all()
    with pytest.raises(itemdex.InputError):
        serving.search(user[:3], 10)
    assert [len(replicas) for replicas in serving.status()] == [1] * SHARDS


def test_a_dead_process_comes_back(serving, data):
    user = data.users[1]
    ray.kill(serving._replicas[1][0], no_restart=False)
    some = serving.search(user, 20, recall=1.0, partial=True)
    others = data.ids[~np.isin(itemdex.shard_of(data.ids, SHARDS), some.missing)]
    assert some.answer.ids.tolist() == data.best(user, 20, others) and some.missing in ([], [1])
    assert serving.search(user, 20, recall=1.0).answer.ids.tolist() == data.best(user, 20), "it waits"


def test_fresh_items_reach_every_process(serving, data, tmp):
    user, best = data.users[1], data.best(data.users[1], 20)
    position = len(best)
    changes = [(number, itemdex.Delete(id)) for number, id in enumerate(best[5:], 1)]
    changes += [(position, itemdex.Upsert("v1", 2**63, 100 * user))]
    logs = {"fed_log": tmp / "fresh.log"}
    with Serving(tmp / "catalog", replicas=2, cores=0.1, patience=60, live=logs) as live:
        applied = live.apply(changes)
        assert sum(one.applied for one in applied) == 2 * len(changes)
        expected = [2**63, *best[:5], *data.best(user, 24)[20:]]
        for _ in range(2):  # By the one replica of a shard and by the other.
            assert live.search(user, 10, recall=1.0).answer.ids.tolist() == expected
            ranked = live.rank(user, np.array([2**63, *best], np.uint64), 10).answer
            assert ranked.ids.tolist() == expected[:6] and ranked.unknown.tolist() == sorted(best[5:])
        ray.kill(live._replicas[0][0], no_restart=False)
        statuses = [one for replicas in live.status() for one in replicas]
        assert all(one["log_position"] is not None for one in statuses), "a feeder goes on behind the lowest"
        live.apply(changes)
        for _ in range(2):
            assert live.search(user, 10, recall=1.0).answer.ids.tolist() == expected
    assert serving.search(user, 20, recall=1.0).answer.ids.tolist() == best, "it has no log"


def test_an_endpoint(cluster, serving, data, tmp):
    from ray import serve

    example = runpy.run_path(str(Path(__file__).parent.parent / "examples" / "endpoint.py"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    endpoint = example["Endpoint"].options(ray_actor_options={"num_cpus": 0.1})
    serve.run(endpoint.bind(str(tmp / "catalog"), cores=0.1))

    def ask(path, **fields):
        body = json.dumps(fields).encode()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", body, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    try:
        user = data.users[0]
        status, found = ask("/search", users=user.tolist(), k=10, recall=1.0, filter="price < 3")
        cheap = data.ids[data.ids % 10 < 3]
        assert status == 200, found
        assert (found["ids"], found["missing"]) == (data.best(user, 10, cheap), [])
        assert found["generation"] == serving.generation
        best = data.items[data.ids == found["ids"][0]] @ user
        np.testing.assert_allclose(found["scores"][0], best, rtol=1e-4)
        status, ranked = ask("/rank", user=user.tolist(), candidates=data.ids[:50].tolist(), k=5)
        assert (status, ranked["ids"]) == (200, data.best(user, 5, data.ids[:50]))
        bad = [("/search", {"users": [1.0], "k": 3}, 400), ("/search", {}, 400), ("/other", {}, 404)]
        for path, fields, code in bad:
            status, said = ask(path, **fields)
            assert status == code and said["error"]
    finally:
        serve.shutdown()


def test_no_answer_mixes_generations(serving, data, tmp):
    """Scores of the second generation are three times those of the first."""
    user, stop, answers, errors = data.users[2], threading.Event(), [], []
    best = np.sort(data.items @ user)[::-1][:30]

    def ask():
        while not stop.is_set():
            try:
                answers.append(serving.search(user, 30, recall=1.0))
            except Exception as error:  # noqa: BLE001
                errors.append(error)

    first = serving.generation
    asking = [threading.Thread(target=ask) for _ in range(3)]
    [one.start() for one in asking]
    second = publish(data, tmp, "job-2", scale=3.0, version="v2").number
    assert serving.refresh() == second > first
    until = time.monotonic() + 30
    while answers[-1].generation == first and time.monotonic() < until:
        time.sleep(0.01)
    stop.set()
    [one.join() for one in asking]
    assert not errors
    assert {one.generation for one in answers} == {first, second}
    for one in answers:
        scale = 1 if one.generation == first else 3
        np.testing.assert_allclose(one.answer.scores, scale * best, rtol=1e-4)


def test_a_rollback_is_taken_up(serving, data, tmp):
    catalog, user = itemdex.Catalog(tmp / "catalog"), data.users[2]
    first, second = sorted(one.number for one in catalog.generations())
    for number, scale in ((first, 1), (second, 3)):
        catalog.rollback(number)
        assert serving.refresh() == number
        answered = serving.search(user, 1, recall=1.0)
        assert answered.generation == number
        np.testing.assert_allclose(answered.answer.scores, scale * (data.items @ user).max(), rtol=1e-4)


def publish_here(data, catalog, key, scale=1.0):
    """Without Ray."""
    published = itemdex.Catalog(catalog)
    for shard in range(SHARDS):
        own = itemdex.shard_of(data.ids, SHARDS) == shard
        items = scale * data.items[own]
        make = partial(itemdex.build, items, data.ids[own], model_version="v1")
        published.stage_shard_made(key, shard, SHARDS, lambda path, make=make: make(out=path))
    published.publish_shards(key, SHARDS)


def test_a_generation_that_is_not_whole_is_not_taken_up(cluster, data, tmp):
    """A shard of another catalog, a shard that is missing, and a list of another catalog."""
    user, catalog, other = data.users[3], tmp / "one", tmp / "other"
    publish_here(data, catalog, "job-1")
    later = shutil.copytree(catalog, tmp / "later")
    for number in range(4):
        publish_here(data, other, f"other-{number}", 2.0)

    def publish_without(number, in_its_place=None):
        """The list comes last: a process may see it at once."""
        publish_here(data, later, f"job-{number}", 3.0)
        new = [path for path in later.iterdir() if not (catalog / path.name).exists()]
        for path in sorted(new, key=lambda path: path.name.startswith("catalog-")):
            source = in_its_place if path.name.startswith("shard-1-of-3") else path
            if source:
                shutil.copy(source, catalog / path.name)

    with Serving(catalog, cores=0.1, patience=30, live={"poll": 0.05}) as serving:

        def is_refused(match):
            with pytest.raises((OSError, itemdex.Error), match=match):
                serving.refresh()
            assert serving.generation == 1
            assert serving.search(user, 5, recall=1.0).answer.ids.tolist() == data.best(user, 5)

        publish_without(2, next(other.glob("shard-1-of-3-*")))
        is_refused("shard-1-of-3")
        publish_without(3)
        is_refused("No such file")
        shutil.copy(max(other.glob("catalog-*")), catalog)
        is_refused("No such file")


def test_what_fails_leaves_the_old_generation(serving, data, tmp):
    catalog = itemdex.Catalog(tmp / "catalog")
    before = catalog.current()
    own = np.nonzero(itemdex.shard_of(data.ids, SHARDS) != 1)[0]
    with pytest.raises(Exception, match="shard 1 of 3 has no item"):
        build_sharded(dump(data, tmp / "job-3", rows=own), tmp / "catalog", SHARDS, "v1", key="job-3")
    bad = dump(data, tmp / "job-4", scale=np.nan)
    with pytest.raises(Exception, match="NaN|finite"):
        build_sharded(bad, tmp / "catalog", SHARDS, "v1", key="job-4")
    assert catalog.current() == before
    assert catalog.staged_shards("job-3") == [] and catalog.staged_shards("job-4") == []
    assert not [path for path in tmp.iterdir() if path.name.startswith("catalog-")]
    user = data.users[3]
    assert serving.search(user, 5, recall=1.0).answer.ids.tolist() == data.best(user, 5)
    with pytest.raises(ValueError, match="no generation"):
        Serving(itemdex.Catalog(tmp / "empty").folder)


def test_too_many_requests_and_shards_that_are_gone_are_errors(serving, data, tmp):
    user = data.users[4]
    with Serving(tmp / "catalog", cores=0.1, max_waiting=1, patience=0.0) as small:
        busy, answered = [], []

        def ask():
            for _ in range(30):
                try:
                    answered.append(small.search(user, 5, recall=1.0).answer.ids.tolist())
                except Busy as error:
                    busy.append(error)

        asking = [threading.Thread(target=ask) for _ in range(8)]
        [one.start() for one in asking]
        [one.join() for one in asking]
        assert busy and answered and all(one == data.best(user, 5) for one in answered)
        ray.kill(small._replicas[2][0])
        with pytest.raises(ShardsMissing) as raised:
            for _ in range(1_000):
                with contextlib.suppress(Busy):
                    small.search(user, 5)
        assert raised.value.missing == [2]


def test_a_worker_that_is_killed_while_it_builds_is_replaced(cluster, data, tmp):
    killed = tmp / "killed"

    def kill_once(stage, done, total):
        if stage == "graph" and done < total:
            with contextlib.suppress(FileExistsError):
                killed.touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)

    built = build_sharded(
        dump(data, tmp / "job-killed"),
        tmp / "killed-catalog",
        SHARDS,
        "v1",
        key="job-killed",
        build={"progress": kill_once},
    )
    catalog = itemdex.Catalog(tmp / "killed-catalog")
    assert killed.exists() and catalog.current() == built and built.rows == len(data.ids)
    assert not [path for path in tmp.iterdir() if path.name.startswith("killed-catalog-")], "parts are gone"
    with Serving(catalog.folder, cores=0.1, patience=60) as serving:
        user = data.users[3]
        assert serving.search(user, 3_000, recall=1.0).answer.ids.tolist() == data.best(user, 3_000)


class NoSpace:
    """An option that leaves the worker which reads it no room for files, and is the number 1."""

    def __reduce__(self):
        return eval, ("__import__('resource').setrlimit(1, (50_000, -1)) or 1",)


def test_a_worker_without_space_leaves_the_old_generation(serving, data, tmp):
    catalog = itemdex.Catalog(tmp / "catalog")
    before = catalog.current()
    with pytest.raises(Exception, match="File too large"):
        build_sharded(
            dump(data, tmp / "job-full"),
            tmp / "catalog",
            SHARDS,
            "v1",
            key="job-full",
            retries=1,
            build={"threads": NoSpace()},
        )
    assert catalog.current() == before and catalog.staged_shards("job-full") == []
    assert serving.search(data.users[3], 5, recall=1.0).answer.ids.tolist() == data.best(data.users[3], 5)
