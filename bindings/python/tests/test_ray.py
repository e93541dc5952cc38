"""itemdex.ray on a local cluster of two nodes: answers beside one index with all items, deaths, swaps, bad input."""

from __future__ import annotations

import contextlib
import threading
import time

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
        table = pa.table({"id": data.ids[own], "embedding": embeddings, "price": data.ids[own].astype(np.int64) % 10})
        parquet.write_table(table, folder / f"{part}.parquet")
    return ray.data.read_parquet(str(folder))


def publish(data, tmp, key, scale=1.0, version="v1"):
    return build_sharded(dump(data, tmp / key, scale), tmp / "catalog", SHARDS, version, key=key, columns=["price"])


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
    partial = serving.search(user, 20, recall=1.0, partial=True)
    others = data.ids[~np.isin(itemdex.shard_of(data.ids, SHARDS), partial.missing)]
    assert partial.answer.ids.tolist() == data.best(user, 20, others) and partial.missing in ([], [1])
    assert serving.search(user, 20, recall=1.0).answer.ids.tolist() == data.best(user, 20), "it waits"


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
