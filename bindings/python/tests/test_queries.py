from __future__ import annotations

import inspect
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import itemdex
import numpy as np
import pytest


def test_search_finds_the_best_of_all_items(data, index):
    found = index.search(data.users[0], 10, recall=1.0)
    assert found.ids.tolist() == data.best(data.users[0], 10)
    assert found.ids.dtype == np.uint64 and found.scores.dtype == np.float32
    assert found.ids.shape == found.scores.shape == (10,)
    by_id = dict(zip(data.ids.tolist(), data.items))
    expected = [by_id[id] @ data.users[0] for id in found.ids.tolist()]
    np.testing.assert_allclose(found.scores, expected, rtol=1e-4)
    ids, scores, plan, matching = found
    assert ids is found.ids and scores is found.scores and plan in ("graph", "partitions", "scan")
    assert matching == 3000


def test_a_matrix_of_users_gets_what_each_of_them_gets(data, index):
    found = index.search(data.users, 10)
    assert found.ids.shape == found.scores.shape == (40, 10)
    for number, user in enumerate(data.users):
        alone = index.search(user, 10)
        assert found.ids[number].tolist() == alone.ids.tolist()
        assert found.scores[number].tolist() == alone.scores.tolist()
    exact = index.search(data.users, 10, recall=1.0)
    shared = [np.isin(a, b).mean() for a, b in zip(found.ids, exact.ids)]
    assert np.mean(shared) > 0.9


def test_places_without_an_item_are_filled(data, index):
    found = index.search(data.users[:3], 4000)
    assert found.ids.shape == (3, 4000)
    assert (found.ids[:, 3000:] == itemdex.NO_ITEM).all()
    assert (found.ids[:, 3000:].view(np.int64) == -1).all()
    assert np.isnan(found.scores[:, 3000:]).all()
    assert not np.isnan(found.scores[:, :3000]).any()
    # One user needs no filling.
    assert index.search(data.users[0], 4000).ids.shape == (3000,)
    assert index.search(data.users[0], 0).ids.shape == (0,)
    assert index.search(data.users, 0).ids.shape == (40, 0)


def test_plans_and_beams(data, index):
    assert index.info()["plans"] == ["graph", "scan"]
    assert index.search(data.users[0], 10, plan="scan").plan == "scan"
    assert index.search(data.users[0], 10, ef=500, plan="graph").plan == "graph"
    wide = index.search(data.users, 10, ef=3000, plan="graph")
    exact = index.search(data.users, 10, plan="scan")
    assert (wide.ids == exact.ids).mean() > 0.99
    with pytest.raises(itemdex.InputError, match="partitions"):
        index.search(data.users[0], 10, plan="partitions")
    with pytest.raises(ValueError, match='"graph", "partitions"'):
        index.search(data.users[0], 10, plan="hnsw")
    with pytest.raises(ValueError, match="not both"):
        index.search(data.users[0], 10, ef=10, recall=0.9)
    with pytest.raises(itemdex.InputError, match="recall"):
        index.search(data.users[0], 10, recall=1.5)


def test_rank_orders_candidates_by_their_exact_scores(data, index):
    candidates = np.concatenate([data.ids[:500], [3, 1], data.ids[:10]]).astype(np.uint64)
    ranked = index.rank(data.users[0], candidates, 20)
    assert ranked.ids.tolist() == data.best(data.users[0], 20, among=candidates)
    assert ranked.unknown.tolist() == [1, 3]
    assert index.rank(data.users[0], candidates, 20, exact=True).ids.tolist() == ranked.ids.tolist()
    assert index.rank(data.users[0], [], 20).ids.shape == (0,)


def test_rank_of_many_users(data, index):
    shared = index.rank(data.users, data.ids[:100], 5)
    own = index.rank(data.users, np.tile(data.ids[:100], (40, 1)), 5)
    lists = index.rank(data.users, [data.ids[:100]] * 39 + [index.look_up(data.ids[:3])], 5)
    for number, user in enumerate(data.users):
        best = data.best(user, 5, among=data.ids[:100])
        assert shared.ids[number].tolist() == own.ids[number].tolist() == best
    assert lists.ids[:39].tolist() == shared.ids[:39].tolist()
    assert lists.ids[39, 3:].tolist() == [itemdex.NO_ITEM] * 2
    assert np.isnan(lists.scores[39, 3:]).all()
    unknown = index.rank(data.users[:2], [[5, 2], [1, 2]], 5).unknown
    assert unknown.tolist() == [1, 2]
    with pytest.raises(ValueError, match="3 rows of candidates for 40 users"):
        index.rank(data.users, np.ones((3, 5), np.uint64), 5)
    with pytest.raises(itemdex.InputError, match="2 lists for 40 users"):
        index.rank(data.users, [[5], [12]], 5)


def test_row_handles_spare_the_look_up(data, index, tmp_path):
    handles = index.look_up(data.ids[:100])
    assert len(handles) == 100
    by_rows = index.rank(data.users[0], handles, 10)
    assert by_rows.ids.tolist() == index.rank(data.users[0], data.ids[:100], 10).ids.tolist()
    found = index.search_rows(data.users[0], 50, plan="scan")
    best = index.rank(data.users[0], found, 5)
    assert best.ids.tolist() == data.best(data.users[0], 5)
    itemdex.build(data.items[:10], out=tmp_path / "other.itemdex", model_version="v1")
    with pytest.raises(itemdex.InputError) as raised:
        itemdex.Index.open(tmp_path / "other.itemdex").rank(data.users[0], handles, 10)
    assert raised.value.kind == "StaleRows"


def test_channels_keep_their_quotas(data, index):
    new, popular = data.ids[:50], data.ids[40:1000]
    ranked = index.rank_channels(data.users[0], [itemdex.Channel(new, at_least=5), popular], 20)
    assert ranked.ids.shape == ranked.scores.shape == ranked.channels.shape == (20,)
    assert (ranked.channels & 1 != 0).sum() >= 5
    for id, bits in zip(ranked.ids, ranked.channels):
        assert bool(bits & 1) == (id in new) and bool(bits & 2) == (id in popular)
    capped = [itemdex.Channel(index.look_up(new)), itemdex.Channel(popular, at_most=3)]
    ranked = index.rank_channels(data.users[0], capped, 20)
    assert (ranked.channels & 2 != 0).sum() == 3
    with pytest.raises(itemdex.InputError, match="at_least"):
        index.rank_channels(data.users[0], [itemdex.Channel(new, at_least=30)], 20)


def test_scores_stand_in_the_order_of_the_candidates(data, index):
    candidates = np.array([data.ids[3], 1, data.ids[0]], np.uint64)
    scores = index.score(data.users[0], candidates)
    np.testing.assert_allclose(scores[[0, 2]], data.items[[3, 0]] @ data.users[0], rtol=1e-4)
    assert np.isnan(scores[1])
    many = index.score(data.users, candidates)
    assert many.shape == (40, 3) and many[0, 0] == scores[0]
    own = index.score(data.users[:2], [[5, 12], [12, 19]])
    assert own[1, 0] == index.score(data.users[1], [12])[0]


def test_embeddings_by_id(data, index):
    assert index.get(int(data.ids[9])).tolist() == data.items[9].tolist()
    assert index.get(1) is None
    several = index.get([int(data.ids[9]), 1])
    assert several[0].tolist() == data.items[9].tolist() and np.isnan(several[1]).all()
    assert data.ids[9] in index and int(data.ids[9]) in index
    assert 1 not in index and -1 not in index and "shoe" not in index
    assert len(index) == 3000 and index.dim == 16 and index.model_version == "v1"
    assert sorted(index.ids().tolist()) == sorted(data.ids.tolist())


def test_what_an_index_tells(data, index):
    info = index.info()
    assert info["rows"] == 3000 and info["dim"] == 16 and info["model_version"] == "v1"
    assert info["bytes"] == data.path.stat().st_size
    assert sum(info["sections"].values()) <= info["bytes"]
    index.verify()
    assert index.residency() == {"copied": 0, "huge": 0, "locked": False}
    copied = itemdex.Index.open(data.path, resident=True)
    assert copied.residency()["copied"] == info["bytes"]
    assert str(data.path) in repr(index) and "3000 x 16" in repr(index)


def test_closing(data):
    with itemdex.Index.open(data.path) as index:
        index.search(data.users[0], 1)
    with pytest.raises(ValueError, match="closed"):
        index.search(data.users[0], 1)
    assert "closed" in repr(index)
    index.close()


def test_closing_while_threads_search(data):
    """Calls that are under way end as if it were open, and the next say that it is closed."""
    index = itemdex.Index.open(data.path)
    expected = index.search(data.users, 10).ids.tolist()
    began = threading.Barrier(5)

    def search():
        index.search(data.users, 10)
        began.wait()
        while True:
            assert index.search(data.users, 10).ids.tolist() == expected

    with ThreadPoolExecutor(4) as pool:
        searching = [pool.submit(search) for _ in range(4)]
        began.wait()
        index.close()
    for thread in searching:
        with pytest.raises(ValueError, match="closed"):
            thread.result()


def test_pickling_sends_the_path(data, index):
    sent = pickle.dumps(index)
    assert len(sent) < 1000
    again = pickle.loads(sent)
    assert again.path == index.path
    assert again.search(data.users[0], 5).ids.tolist() == index.search(data.users[0], 5).ids.tolist()
    script = "import pickle, sys; print(len(pickle.load(sys.stdin.buffer)))"
    command = [sys.executable, "-c", script]
    other = subprocess.run(command, input=sent, capture_output=True, cwd="/", check=True)
    assert other.stdout.strip() == b"3000"


def test_threads_share_an_index_and_run_beside_each_other(data, index):
    alone = [index.search(user, 10).ids.tolist() for user in data.users]
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda n: index.search(data.users[n % 40], 10).ids.tolist(), range(2000))
        assert list(answers) == alone * 50


def test_the_gil_is_released_while_a_search_works(data, index):
    """Another thread gets on while one call works, and not only between calls."""
    users = np.tile(data.users, (500, 1))
    working, steps = threading.Event(), []

    def search():
        working.set()
        index.search(users, 100, plan="scan", threads=1)
        steps.append("done")

    searching = threading.Thread(target=search)
    searching.start()
    working.wait()
    before = 0
    while searching.is_alive():
        before += 0 if steps else 1
    assert before > 1000


def test_a_file_that_is_none(data, tmp_path):
    with pytest.raises(FileNotFoundError):
        itemdex.Index.open(tmp_path / "missing")
    (tmp_path / "text").write_text("not an index")
    with pytest.raises(itemdex.FileError) as raised:
        itemdex.Index.open(tmp_path / "text")
    assert raised.value.kind == "NotAnIndex"
    cut = data.path.read_bytes()[:-4096]
    (tmp_path / "cut").write_bytes(cut)
    with pytest.raises(itemdex.FileError, match="damaged"):
        itemdex.Index.open(tmp_path / "cut")
    altered = bytearray(data.path.read_bytes())
    altered[-100] ^= 1
    (tmp_path / "altered").write_bytes(altered)
    with pytest.raises(itemdex.FileError, match="damaged"):
        itemdex.Index.open(tmp_path / "altered").verify()


def test_errors_survive_pickling():
    error = pickle.loads(pickle.dumps(itemdex.InputError("wrong", "BadOption")))
    assert isinstance(error, ValueError) and error.kind == "BadOption" and str(error) == "wrong"


def test_help_reads_well():
    for name in itemdex.__all__:
        assert getattr(itemdex, name).__doc__ or name in ("NO_ITEM", "__version__")
    for owner in (itemdex.Index, itemdex.View, itemdex.Catalog, itemdex.LiveIndex):
        methods = [getattr(owner, name) for name in dir(owner) if not name.startswith("_")]
        assert all(method.__doc__ for method in methods)
    assert "users: shape (dim,) for one user, or (n, dim)" in itemdex.Index.search.__doc__
    assert "recall=None" in str(inspect.signature(itemdex.Index.search))
    assert "(dim,)" in itemdex.Index.rank_channels.__doc__
