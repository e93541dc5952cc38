from __future__ import annotations

import os

import itemdex
import numpy as np
import pytest


@pytest.fixture
def catalog(data, tmp_path):
    catalog = itemdex.Catalog(tmp_path / "catalog")
    catalog.publish(data.path)
    return catalog


def test_publishing_rolling_back_and_pruning(data, catalog):
    first = catalog.current()
    assert (first.number, first.model_version, first.rows, first.dim) == (1, "v1", 3000, 16)
    assert itemdex.Index.open(first.path).search(data.users[0], 1).ids.size == 1
    make = lambda path: itemdex.build(data.items[:100], out=path, model_version="v2")  # noqa: E731
    second = catalog.publish_made(make, log_position=12)
    assert second.model_version == "v2" and second.log_position == 12
    assert [one.number for one in catalog.generations()] == [first.number, second.number]
    assert catalog.rollback() == first == catalog.current()
    assert catalog.rollback(to=second.number).number == second.number
    assert [one.number for one in catalog.prune(keep=1, versions=1)] == [first.number]
    assert catalog.reserve(20, hours=2).log_position == 20
    assert [one.log_position for one in catalog.reservations()] == [20]
    with catalog as same:
        assert same is catalog and "catalog" in repr(catalog)


def test_what_cannot_be_published(data, catalog, tmp_path):
    (tmp_path / "text").write_text("not an index")
    with pytest.raises(itemdex.FileError):
        catalog.publish(tmp_path / "text")

    def fail(path):
        raise RuntimeError("no dump today")

    with pytest.raises(RuntimeError, match="no dump today"):
        catalog.publish_made(fail)
    with pytest.raises(itemdex.LiveError) as raised:
        catalog.rollback(to=77)
    assert raised.value.kind == "NoGeneration"
    with pytest.raises(itemdex.InputError, match="hours"):
        catalog.reserve(20, hours=-1)
    assert catalog.current().number == 1
    assert itemdex.Catalog(tmp_path / "empty").current() is None
    with pytest.raises(itemdex.LiveError):
        itemdex.LiveIndex.open(tmp_path / "empty")


def test_following_a_catalog(data, catalog):
    with itemdex.LiveIndex.open(catalog.folder) as live:
        with live.current() as view:
            assert view.generation.number == 1 and len(view) == 3000 and view.model_version == "v1"
            assert view.search(data.users[0], 10, recall=1.0).ids.tolist() == data.best(data.users[0], 10)
        with pytest.raises(ValueError, match="closed"):
            len(view)
        assert "closed" in repr(view)
        make = lambda path: itemdex.build(data.items[:100], out=path, model_version="v2")  # noqa: E731
        catalog.publish_made(make)
        live.refresh()
        assert live.model_versions() == ["v2", "v1"]
        assert live.current().dim == 16 and len(live.current()) == 100
        assert len(live.for_model("v1")) == 3000
        with pytest.raises(itemdex.LiveError) as raised:
            live.for_model("v3")
        assert raised.value.kind == "UnknownModel" and "v2" in str(raised.value)
        kept = live.current()
    assert len(kept) == 100
    with pytest.raises(ValueError, match="closed"):
        live.current()
    live.close()


def test_fresh_items(data, catalog, tmp_path):
    user = data.users[0]
    with itemdex.LiveIndex.open(catalog.folder, log=tmp_path / "log", sync="never") as live:
        before = live.current()
        assert live.upsert("v1", 1, user * 100) == itemdex.Applied(1, 1, 0, 0)
        assert live.upsert("v1", [2, 3], np.stack([user * 90, user * 80])).position == 3
        view = live.current()
        assert len(before) == 3000 and len(view) == 3003
        assert view.search(user, 3).ids.tolist() == [1, 2, 3]
        assert view.search(data.users, 3).ids[0].tolist() == [1, 2, 3]
        assert view.rank(user, [3, 1, 4], 2).ids.tolist() == [1, 3]
        assert view.rank(user, [3, 1, 4], 2).unknown.tolist() == [4]
        assert view.rank_channels(user, [[1], [2]], 2).channels.tolist() == [1, 2]
        np.testing.assert_allclose(view.score(user, [1])[0], user @ user * 100, rtol=1e-4)
        np.testing.assert_allclose(view.get(1), user * 100, rtol=1e-6)
        assert 1 in view and 1 not in before
        live.delete(1)
        live.delete(np.array([2], np.uint64))
        assert live.current().search(user, 1).ids.tolist() == [3]
        changes = [itemdex.Upsert("v1", 9, user), itemdex.Delete(3)]
        assert live.write(changes).applied == 2
        status = live.status()
        assert status["log_position"] == 7 and status["waiting"] == 0
        assert status["generations"][0]["fresh"] == 1 and status["generations"][0]["generation"].number == 1
        assert status["last_error"] is None and status["last_refresh"] is not None
        with pytest.raises(ValueError, match="2 ids for 1 embeddings"):
            live.upsert("v1", [1, 2], user[None])
        with pytest.raises(ValueError, match=r"give \(n, dim\) for ids"):
            live.upsert("v1", [1, 2], user)
        with pytest.raises(itemdex.InputError, match="value 0 is NaN"):
            live.upsert("v1", 1, user * np.nan)
        for change in (
            lambda: live.upsert("v1", -1, user),
            lambda: live.set_values(-1, {}),
            lambda: live.delete(-1),
            lambda: live.write([itemdex.Delete(-1)]),
        ):
            with pytest.raises(ValueError, match="item id -1"):
                change()
        with pytest.raises(TypeError, match="neither an Upsert nor a Delete"):
            live.write(["shoe"])
        with pytest.raises(itemdex.LiveError) as raised:
            live.apply([(9, itemdex.Delete(3))])
        assert raised.value.kind == "Numbering"
    with itemdex.LiveIndex.open(catalog.folder, log=tmp_path / "log") as live:
        assert 9 in live.current()


def test_a_forked_child(data, catalog, tmp_path):
    """It goes on asking; what needs the threads of the parent is an error there."""
    user = data.users[0]
    with itemdex.LiveIndex.open(catalog.folder, log=tmp_path / "log") as live:
        live.upsert("v1", 1, user * 100)
        child = os.fork()
        if child == 0:
            try:
                assert live.current().search(user, 1).ids.tolist() == [1]
                with pytest.raises(itemdex.LiveError) as raised:
                    live.upsert("v1", 2, user)
                os._exit(0 if raised.value.kind == "Forked" else 1)
            except BaseException:
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        assert live.upsert("v1", 2, user).applied == 1


def test_values_of_fresh_items(data, tmp_path):
    catalog = itemdex.Catalog(tmp_path / "catalog")
    columns = {
        "price": np.arange(len(data.items)),
        "author": itemdex.Column(np.arange(len(data.items)), "tag"),
        "region": ["JP"] * len(data.items),
    }
    catalog.publish_made(
        lambda path: itemdex.build(data.items, out=path, model_version="v1", columns=columns)
    )
    user = data.users[0]
    with itemdex.LiveIndex.open(catalog.folder, log=tmp_path / "log", sync="never") as live:
        live.upsert("v1", 900_001, user * 100, {"price": 3, "author": 17, "region": ["JP", "US"]})
        two = [{"price": 4, "region": "US"}, {"author": [17, 18]}]
        live.upsert("v1", [900_002, 900_003], np.stack([user * 90, user * 80]), two)
        view = live.current()
        assert view.values(900_001) == {"price": 3, "author": [17], "region": ["JP", "US"]}
        assert view.search(user, 3, filter='region = "US"').ids.tolist()[:2] == [900_001, 900_002]
        assert view.search(user, 2, filter="author = 17").ids.tolist()[:2] == [900_001, 900_003]
        assert live.set_values(900_002, {"price": 5, "region": None}).applied == 1
        assert live.current().search(user, 1, filter='region = "US"').ids.tolist() == [900_001]
        assert live.current().search(user, 1, filter="price = 5 and region is null").ids.tolist() == [900_002]
        with pytest.raises(ValueError, match="1 dicts of values for 2 items"):
            live.upsert("v1", [1, 2], np.stack([user, user]), [{}])
        with pytest.raises(TypeError, match="column price"):
            live.set_values(1, {"price": object()})


def test_a_log_that_is_fed(data, catalog, tmp_path):
    with itemdex.LiveIndex.open(catalog.folder, fed_log=tmp_path / "log", sync=0.05) as live:
        changes = [(41, itemdex.Upsert("v1", 8, data.users[0])), (44, itemdex.Delete(5))]
        assert live.apply(changes) == itemdex.Applied(44, 2, 0, 0)
        assert live.apply(changes).already_there == 2
        with pytest.raises(itemdex.InputError, match="position"):
            live.apply([(50, itemdex.Delete(1)), (49, itemdex.Delete(1))])
    with pytest.raises(ValueError, match="not both"):
        itemdex.LiveIndex.open(catalog.folder, log=tmp_path / "a", fed_log=tmp_path / "b")
    with pytest.raises(ValueError, match="sync"):
        itemdex.LiveIndex.open(catalog.folder, log=tmp_path / "a", sync="often")
    with pytest.raises(itemdex.InputError, match="sample_recall"):
        itemdex.LiveIndex.open(catalog.folder, sample_recall=2.0)
    with itemdex.LiveIndex.open(catalog.folder) as live, pytest.raises(itemdex.InputError, match="log"):
        live.delete(1)


def test_looked_up_items_of_a_view(data, catalog, tmp_path):
    user = data.users[0]
    with itemdex.LiveIndex.open(catalog.folder, log=tmp_path / "log", sync="never") as live:
        live.upsert("v1", 1, user * 100)
        live.delete(int(data.ids[0]))
        view = live.current()
        items = view.look_up([1, int(data.ids[0]), int(data.ids[1]), 4])
        assert (len(items), len(items.rows), items.fresh.tolist()) == (2, 1, [1])
        assert "1 of them fresh" in repr(items)
        merged = view.rank_channels(user, [items.rows, items.fresh], 10)
        assert merged.ids.tolist() == [1, int(data.ids[1])] and merged.unknown.size == 0
        found = view.search_rows(user, 10, recall=1.0, deny=[1])
        assert len(found) == 10 and found.fresh.size == 0
        best = view.search(user, 10, recall=1.0, deny=[1])
        assert view.rank(user, found.rows, 10).ids.tolist() == best.ids.tolist()
        with pytest.raises(TypeError, match="ids"):
            view.look_up(["a"])
