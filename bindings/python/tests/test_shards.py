from __future__ import annotations

import itemdex
import numpy as np
import pytest

SHARDS = 3


def stage(data, catalog, key, shard, *, model_version="v1", shards=SHARDS):
    own = itemdex.shard_of(data.ids, shards) == shard
    make = lambda path: itemdex.build(  # noqa: E731
        data.items[own],
        data.ids[own],
        out=path,
        model_version=model_version,
        columns={"price": data.ids[own].astype(np.int64) % 10},
    )
    return catalog.stage_shard_made(key, shard, shards, make)


@pytest.fixture
def catalog(data, tmp_path):
    catalog = itemdex.Catalog(tmp_path / "catalog")
    for shard in range(SHARDS):
        stage(data, catalog, "job-1", shard)
    catalog.publish_shards("job-1", SHARDS)
    return catalog


def test_which_shard():
    assert [itemdex.shard_of(id, 4) for id in (7, 8, 9, 10)] == [2, 2, 0, 3]
    of_array = itemdex.shard_of(np.arange(7, 11, dtype=np.uint64), 4)
    assert of_array.dtype == np.uint32 and of_array.tolist() == [2, 2, 0, 3]
    with pytest.raises(itemdex.InputError, match="shards"):
        itemdex.shard_of(7, 0)
    assert itemdex.share_of(100, 4) == 39 and itemdex.share_of(100, 1) == 100


def test_publishing_shards(data, catalog, tmp_path):
    first = catalog.current()
    assert (first.number, first.rows, first.shards, first.path) == (1, 3000, SHARDS, None)
    staged = stage(data, catalog, "job-2", 1)
    assert (staged.shard, staged.shards, staged.model_version) == (1, SHARDS, "v1")
    assert catalog.staged_shards("job-2") == [staged]
    with pytest.raises(itemdex.LiveError, match="2 are not staged: 0, 2") as raised:
        catalog.publish_shards("job-2", SHARDS)
    assert raised.value.kind == "BadShards" and catalog.current() == first
    stage(data, catalog, "job-2", 0)
    stage(data, catalog, "job-2", 2, model_version="v2")
    with pytest.raises(itemdex.LiveError, match="its model version is v2"):
        catalog.publish_shards("job-2", SHARDS)
    stage(data, catalog, "job-2", 2)
    second = catalog.publish_shards("job-2", SHARDS, log_position=5)
    assert second.number == 2 and second.log_position == 5
    assert catalog.publish_shards("job-2", SHARDS) == second
    with pytest.raises(itemdex.LiveError, match="belongs to shard"):
        catalog.stage_shard("job-3", 0, SHARDS, data.path)
    with pytest.raises(itemdex.LiveError, match="published already"):
        stage(data, catalog, "job-2", 2)
    with pytest.raises(itemdex.InputError, match="key"):
        catalog.staged_shards("a/b")
    stage(data, catalog, "job-3", 0)
    assert catalog.discard_shards("job-3") == 1 and catalog.staged_shards("job-3") == []

    def fail(path):
        raise RuntimeError("no dump today")

    with pytest.raises(RuntimeError, match="no dump today"):
        catalog.stage_shard_made("job-3", 0, SHARDS, fail)


def test_all_shards_in_one_process(data, catalog):
    index = itemdex.ShardedIndex.open(catalog, threads=2)
    user = data.users[0]
    assert len(index) == 3000 and index.shards == SHARDS and index.model_version == "v1" and index.dim == 16
    assert index.search(user, 20, recall=1.0).ids.tolist() == data.best(user, 20)
    found = index.search(data.users, 20, recall=1.0)
    assert found.ids.tolist() == [data.best(user, 20) for user in data.users] and found.matching == 3000
    cheap = data.ids[data.ids % 10 < 3]
    best = data.best(user, 20, cheap)
    assert index.search(user, 20, recall=1.0, filter="price < 3").ids.tolist() == best
    made = index.filter("price < $limit", limit=3)
    assert made.matching == len(cheap)
    assert index.search(user, 20, recall=1.0, filter=made).ids.tolist() == best
    denied = data.best(user, 5)
    assert index.search(user, 20, recall=1.0, deny=denied).ids.tolist() == data.best(user, 25)[5:]
    candidates = np.concatenate([data.ids[:100], [1, 1, 2]]).astype(np.uint64)
    ranked = index.rank(user, candidates, 10)
    assert ranked.ids.tolist() == data.best(user, 10, data.ids[:100]) and ranked.unknown.tolist() == [1, 2]
    many = index.rank(data.users, candidates, 10, filter=made)
    few = data.ids[:100][data.ids[:100] % 10 < 3]
    assert many.ids[:, :5].tolist() == [data.best(user, 5, few) for user in data.users]
    assert many.unknown.tolist() == [1, 2] and many.dropped.filtered == 100 - len(few)
    lists = [data.ids[:50], [1]]
    each = index.rank(data.users[:2], lists, 3)
    assert each.ids[0].tolist() == data.best(data.users[0], 3, data.ids[:50])
    assert each.unknown.tolist() == [1] and (each.ids[1] == itemdex.NO_ITEM).all()
    with pytest.raises(itemdex.InputError, match="2 lists for 40 users"):
        index.rank(data.users, lists, 3)
    with pytest.raises(TypeError, match="give ids"):
        index.rank(data.users[:1], [itemdex.Index.open(data.path).look_up([5])], 3)
    np.testing.assert_allclose(index.score(user, data.ids[:9]), data.items[:9] @ user, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(index.get(int(data.ids[0])), data.items[0])
    assert index.get(1) is None and int(data.ids[0]) in index and 1 not in index
    channels = [itemdex.Channel(data.ids[:50], at_most=2), data.ids[50:100]]
    assert index.rank_channels(user, channels, 8).channels.tolist().count(1) == 2
    with pytest.raises(itemdex.LiveError) as raised:
        itemdex.ShardedIndex.open(catalog, 7)
    assert raised.value.kind == "NoGeneration"


def test_shards_in_several_processes_merge(data, catalog):
    lives = [itemdex.LiveIndex.open(catalog.folder, shard=(number, SHARDS)) for number in range(SHARDS)]
    assert [live.shard for live in lives] == [(number, SHARDS) for number in range(SHARDS)]
    views = [live.generation(1) for live in lives]
    k, asked = 100, itemdex.share_of(100, SHARDS)
    for users in (data.users[0], data.users):
        parts = [view.search(users, asked, recall=1.0) for view in views]
        again = itemdex.to_ask_again(parts, asked, k)
        for shard, rows in enumerate(again):
            if len(rows):
                parts[shard] = views[shard].search(users, k, recall=1.0)
        merged = itemdex.merge_found(parts, k)
        best = [data.best(user, k) for user in np.atleast_2d(users)]
        assert np.atleast_2d(merged.ids).tolist() == best and merged.matching == 3000
        assert merged.plan in ("scan", "partitions", "graph")
    # Too little asked for: who may have more is asked again.
    parts = [view.search(data.users, 2, recall=1.0) for view in views]
    assert sum(map(len, itemdex.to_ask_again(parts, 2, k))) == SHARDS * len(data.users)

    index = itemdex.ShardedIndex.open(catalog)
    user = data.users[1]
    candidates = np.concatenate([data.ids[:200], [1, 2]]).astype(np.uint64)
    of = itemdex.shard_of(candidates, SHARDS)
    parts = [view.rank(user, candidates[of == shard], 10) for shard, view in enumerate(views)]
    merged, expected = itemdex.merge_ranked(parts, 10), index.rank(user, candidates, 10)
    assert merged.ids.tolist() == expected.ids.tolist() and merged.unknown.tolist() == [1, 2]
    assert merged.dropped == expected.dropped
    lists = [candidates[:100], candidates[50:]]
    parts = [
        view.rank_channels_part(
            user,
            [
                itemdex.Channel(lists[0][itemdex.shard_of(lists[0], SHARDS) == shard], at_least=2),
                itemdex.Channel(lists[1][itemdex.shard_of(lists[1], SHARDS) == shard], at_most=5),
            ],
            10,
        )
        for shard, view in enumerate(views)
    ]
    merged = itemdex.merge_channels(parts, 10, [(2, None), (0, 5)])
    channels = [itemdex.Channel(lists[0], at_least=2), itemdex.Channel(lists[1], at_most=5)]
    expected = index.rank_channels(user, channels, 10)
    assert merged.ids.tolist() == expected.ids.tolist()
    assert merged.channels.tolist() == expected.channels.tolist()
    with pytest.raises(itemdex.InputError):
        itemdex.merge_channels(parts, 10, [(3, 2), (0, 5)])
    with pytest.raises(ValueError, match="no answers"):
        itemdex.merge_found([], 10)
    with pytest.raises(ValueError, match="different numbers of users"):
        itemdex.merge_found([views[0].search(data.users, 2), views[1].search(user, 2)], 10)
    for live in lives:
        live.close()


def test_holding_a_generation(data, catalog, tmp_path):
    with itemdex.LiveIndex.open(catalog.folder, shard=(1, SHARDS), fed_log=tmp_path / "log") as live:
        live.hold([1])
        for shard in range(SHARDS):
            stage(data, catalog, "job-2", shard)
        catalog.publish_shards("job-2", SHARDS)
        live.refresh()
        assert live.generations() == [2, 1]
        changes = [(n + 1, itemdex.Upsert("v1", n, data.users[0])) for n in range(30)]
        own = int((itemdex.shard_of(np.arange(30), SHARDS) == 1).sum())
        applied = live.apply(changes)
        assert (applied.applied, applied.elsewhere) == (own, 30 - own)
        for number in (1, 2):
            assert len(live.generation(number)) == len(live.current())
        live.hold([])
        live.refresh()
        assert live.generations() == [2]
        with pytest.raises(itemdex.LiveError) as raised:
            live.generation(1)
        assert raised.value.kind == "NoGeneration"
    with pytest.raises(itemdex.LiveError, match="has 3 shards"):
        itemdex.LiveIndex.open(catalog.folder)
    with pytest.raises(itemdex.InputError, match="fed_log"):
        itemdex.LiveIndex.open(catalog.folder, shard=(1, SHARDS), log=tmp_path / "own")
