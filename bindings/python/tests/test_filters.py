from __future__ import annotations

import itemdex
import numpy as np
import pytest

REGIONS = ["JP", "US", "BR"]


class Shop:
    """An index whose items have columns."""

    def __init__(self, data, folder):
        random = np.random.default_rng(7)
        self.region = [None if n % 10 == 0 else REGIONS[n % 3] for n in range(3000)]
        self.authors = [[n % 50, 1000 + n % 7] for n in range(3000)]
        self.price = random.uniform(1, 100, 3000).astype(np.float32)
        self.stock = random.integers(0, 5, 3000)
        self.new = random.random(3000) < 0.1
        self.until = [2_000_000_000 if n % 2 else None for n in range(3000)]
        self.columns = {
            "region": self.region,
            "author": [np.array(authors) for authors in self.authors],
            "price": self.price,
            "stock": self.stock,
            "new": self.new,
            "until": itemdex.Column(self.until, "expires"),
        }
        self.path = folder / "shop.itemdex"
        itemdex.build(data.items, data.ids, out=self.path, model_version="v1", columns=self.columns)
        self.index = itemdex.Index.open(self.path)

    def best(self, data, user, k, passes):
        return data.best(user, k, among=data.ids[np.asarray(passes, bool)])


@pytest.fixture(scope="module")
def shop(data, tmp_path_factory):
    return Shop(data, tmp_path_factory.mktemp("shop"))


def test_columns_of_arrays_and_lists(data, shop):
    info = {column["name"]: (column["kind"], column["type"]) for column in shop.index.info()["columns"]}
    assert info == {
        "region": ("tag", "string"),
        "author": ("tag", "u64"),
        "price": ("number", "f32"),
        "stock": ("number", "i64"),
        "new": ("flag", "bool"),
        "until": ("expires", "i64"),
    }
    assert shop.index.values(int(data.ids[4])) == {
        "region": ["US"],
        "author": [4, 1004],
        "price": float(shop.price[4]),
        "stock": int(shop.stock[4]),
        "new": bool(shop.new[4]),
        "until": None,
    }
    assert shop.index.values(int(data.ids[0]))["region"] is None
    assert shop.index.values(1) is None
    shop.index.verify()


def test_a_filter_keeps_what_it_says(data, shop):
    user = data.users[0]
    cheap = shop.price < 30
    for text, passes in [
        ("price < 30", cheap),
        ('region = "JP" and price < 30', np.array([region == "JP" for region in shop.region]) & cheap),
        ("new = true or stock in (0, 4)", shop.new | np.isin(shop.stock, [0, 4])),
        ("region is null", np.array([region is None for region in shop.region])),
        ("author in (3, 1005)", [3 in authors or 1005 in authors for authors in shop.authors]),
    ]:
        found = shop.index.search(user, 20, filter=text, recall=1.0)
        assert found.ids.tolist() == shop.best(data, user, 20, passes)
        assert found.matching == np.sum(passes)
        prepared = shop.index.filter(text)
        assert prepared.matching == np.sum(passes) and text in repr(prepared).replace("\\", "")
        many = shop.index.search(data.users, 20, filter=prepared, recall=1.0)
        for number, user_of_many in enumerate(data.users):
            assert many.ids[number].tolist() == shop.best(data, user_of_many, 20, passes)


def test_parameters_of_a_filter(data, shop):
    for blocked in ([3, 1005], np.array([3, 1005]), np.array([3, 1005], np.uint64)):
        passes = [not (3 in authors or 1005 in authors) for authors in shop.authors]
        kept = shop.index.filter("not author in $blocked", blocked=blocked)
        assert kept.matching == np.sum(passes)
    assert shop.index.filter("region in $of", of=["JP"]).matching == shop.region.count("JP")
    assert shop.index.filter("region = $of", of="JP").matching == shop.region.count("JP")
    assert shop.index.filter("price <= $most", most=np.float32(30)).matching == (shop.price <= 30).sum()
    assert shop.index.filter("new = $new", new=True).matching == shop.new.sum()
    with pytest.raises(TypeError, match="a filter compares with"):
        shop.index.filter("price <= $most", most=object())


def test_filters_that_cannot_work(data, shop, index, tmp_path):
    for text, match in [
        ("price <", "at character"),
        ("colour = 1", "colour"),
        ('price = "cheap"', "price"),
        ("price < $most", "most"),
    ]:
        with pytest.raises(itemdex.InputError, match=match) as raised:
            shop.index.search(data.users[0], 10, filter=text)
        assert raised.value.kind == "BadFilter"
    with pytest.raises(itemdex.InputError) as raised:
        index.search(data.users[0], 10, filter=shop.index.filter("price < 30"))
    assert raised.value.kind == "StaleFilter"
    with pytest.raises(itemdex.InputError) as raised:
        index.search(data.users[0], 10, deny=shop.index.item_set([1]))
    assert raised.value.kind == "StaleRows"
    with pytest.raises(TypeError):
        shop.index.search(data.users[0], 10, filter=7)


def test_what_is_denied_and_allowed(data, index):
    user = data.users[0]
    seen = np.array(data.best(user, 5) + [1], np.uint64)
    rest = ~np.isin(data.ids, seen)
    for deny in (seen, seen.astype(np.int64), seen.tolist(), index.item_set(seen)):
        found = index.search(user, 10, deny=deny, recall=1.0)
        assert found.ids.tolist() == data.best(user, 10, among=data.ids[rest]) and found.matching == 2995
    assert len(index.item_set(seen)) == 5 and "5 items" in repr(index.item_set(seen))
    page = data.ids[:40]
    allowed = index.search(user, 50, allow=page, deny=seen, recall=1.0)
    assert allowed.ids.tolist() == data.best(user, 50, among=page[~np.isin(page, seen)])
    many = index.search(data.users[:2], 50, allow=index.item_set(page))
    assert (many.ids[:, 40:] == itemdex.NO_ITEM).all() and np.isnan(many.scores[:, 40:]).all()


def test_ranks_and_channels_leave_out(data, shop):
    user, candidates = data.users[0], np.append(data.ids[:500], [1]).astype(np.uint64)
    cheap = shop.price[:500] < 30
    ranked = shop.index.rank(user, candidates, 20, filter="price < 30", deny=data.ids[:10])
    kept = data.ids[:500][cheap & (np.arange(500) >= 10)]
    assert ranked.ids.tolist() == data.best(user, 20, among=kept)
    assert ranked.unknown.tolist() == [1]
    assert ranked.dropped == itemdex.Dropped(0, 10, int((~cheap[10:]).sum()))
    many = shop.index.rank(data.users, candidates, 20, allow=kept)
    assert many.ids[0].tolist() == ranked.ids.tolist() and many.dropped.filtered == 500 - len(kept)
    merged = shop.index.rank_channels(user, [candidates], 20, filter="price < 30", deny=data.ids[:10])
    assert merged.ids.tolist() == ranked.ids.tolist() and merged.dropped == ranked.dropped
    handles = shop.index.search_rows(user, 30, filter="price < 30", recall=1.0)
    assert shop.index.rank(user, handles, 3).ids.tolist() == shop.best(data, user, 3, shop.price < 30)


def test_items_expire(data, shop):
    assert shop.index.search(data.users[0], 10, now=1_999_999_999).matching == 3000
    assert shop.index.search(data.users[0], 10, now=2_000_000_000).matching == 1500
    assert shop.index.rank(data.users[0], data.ids, 10, now=2_000_000_000).dropped.expired == 1500


def test_columns_of_record_batches(data, shop, tmp_path):
    pa = pytest.importorskip("pyarrow")
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(data.items.reshape(-1)), 16)
    table = pa.table(
        {
            "id": data.ids,
            "embedding": vectors,
            "place": pa.array(shop.region).dictionary_encode(),
            "by": pa.array(shop.authors),
            "price": shop.price,
            "stock": shop.stock,
            "new": shop.new,
            "until": pa.array(shop.until).cast(pa.timestamp("s")),
        }
    )
    columns = {
        "region": "place",
        "author": "by",
        "price": "price",
        "stock": shop.stock,
        "new": "new",
        "until": itemdex.Column("until", "expires"),
    }
    # In one stream, which can be read once, and in batches that do not end where arrays do.
    for items in (table, table.to_reader(max_chunksize=700), pa.concat_tables([table[:10], table[10:]])):
        itemdex.build(items, out=tmp_path / "out", model_version="v1", columns=columns)
        index = itemdex.Index.open(tmp_path / "out")
        for id in data.ids[:50].tolist():
            assert index.values(id) == shop.index.values(id)
    ids = {"author": itemdex.Column("stock", "tag")}
    itemdex.build(table, out=tmp_path / "out", model_version="v1", columns=ids)
    assert itemdex.Index.open(tmp_path / "out").info()["columns"][0]["type"] == "u64"


def test_columns_of_files(data, shop, tmp_path):
    np.save(tmp_path / "items.npy", data.items)
    np.save(tmp_path / "price.npy", shop.price)
    (tmp_path / "region.txt").write_text("".join(f"{region or ''}\n" for region in shop.region))
    columns = {
        "price": itemdex.Column(tmp_path / "price.npy", "number"),
        "region": itemdex.Column(tmp_path / "region.txt", "tag"),
    }
    for items in (tmp_path / "items.npy", data.items):
        itemdex.build(items, out=tmp_path / "out", model_version="v1", columns=columns)
        index = itemdex.Index.open(tmp_path / "out")
        assert index.values(4) == {"price": float(shop.price[4]), "region": ["US"]}
    for name in ("price.npy", "items.npy"):
        users = {"users": tmp_path / "items.npy"} if name == "items.npy" else {"columns": columns}
        with pytest.raises(itemdex.InputError, match="name another"):
            itemdex.build(data.items, out=tmp_path / name, model_version="v1", **users)
    with pytest.raises(TypeError, match="say the kind"):
        paths = {"price": tmp_path / "price.npy"}
        itemdex.build(data.items, out=tmp_path / "out", model_version="v1", columns=paths)
    with pytest.raises(TypeError, match="the items are no record batches"):
        names = {"price": "price"}
        itemdex.build(tmp_path / "items.npy", out=tmp_path / "out", model_version="v1", columns=names)


def test_views_heed_filters_and_fresh_items(data, shop, tmp_path):
    catalog = itemdex.Catalog(tmp_path / "catalog")
    catalog.publish(shop.path)
    with itemdex.LiveIndex.open(catalog.folder, log=tmp_path / "log") as live, live.current() as view:
        user = data.users[0]
        kept = view.filter("price < 30")
        found = view.search(user, 20, filter=kept, recall=1.0)
        assert found.ids.tolist() == shop.best(data, user, 20, shop.price < 30)
        live.upsert("v1", 1, user * 100)
        view = live.current()
        # What was upserted has no values, so that no comparison of a column is true of it.
        assert view.search(user, 1).ids.tolist() == [1]
        assert view.search(user, 20, filter="price < 30", recall=1.0).ids.tolist() == found.ids.tolist()
        assert view.search(user, 1, filter="price is null").ids.tolist() == [1]
        assert view.search(user, 1, deny=[1], recall=1.0).ids.tolist() == data.best(user, 1)
        ranked = view.rank(user, [1, int(data.ids[0])], 2, allow=view.item_set([1]))
        assert ranked.ids.tolist() == [1] and ranked.dropped.filtered == 1


def test_columns_of_polars_and_pandas(data, shop, tmp_path):
    pl, pd = pytest.importorskip("polars"), pytest.importorskip("pandas")
    frames = {"id": data.ids, "region": shop.region, "price": shop.price}
    schema = {"embedding": pl.Array(pl.Float32, 16)}
    polars = pl.DataFrame({**frames, "embedding": data.items}, schema_overrides=schema)
    pandas = pd.DataFrame({**frames, "embedding": list(data.items)})
    for frame in (polars, pandas):
        columns = {"region": "region", "price": "price"}
        itemdex.build(frame, out=tmp_path / "out", model_version="v1", columns=columns)
        index = itemdex.Index.open(tmp_path / "out")
        assert index.filter('region = "JP" and price < 30').matching == sum(
            region == "JP" and price < 30 for region, price in zip(shop.region, shop.price)
        )


def test_columns_that_cannot_work(data, tmp_path):
    def refused(error, match, **columns):
        with pytest.raises(error, match=match):
            itemdex.build(data.items, out=tmp_path / "out", model_version="v1", columns=columns)
        assert list(tmp_path.iterdir()) == []

    ones = np.ones(3000)
    refused(itemdex.InputError, "2 values for the 3000 items", price=[1.0, 2.0])
    refused(itemdex.InputError, "row 1", price=[1.0, "a"] + [2.0] * 2998)
    refused(itemdex.InputError, "NaN", price=ones * np.nan)
    refused(itemdex.InputError, "cannot name a column", **{"the price": ones})
    refused(ValueError, "none of", price=itemdex.Column(ones, "real"))
    refused(TypeError, "a column holds str, bool", price=[object()] * 3000)
    refused(TypeError, "the items are no record batches", price="price")
    refused(OverflowError, "negative", author=itemdex.Column([-1] * 3000, "tag"))
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"id": [1, 2], "embedding": pa.array([[1.0], [2.0]]), "by": [1, -1]})
    for match, columns in [
        ("no column price", {"price": "price"}),
        ("does not fit into UInt64", {"author": itemdex.Column("by", "tag")}),
    ]:
        with pytest.raises(itemdex.InputError, match=match):
            itemdex.build(table, out=tmp_path / "out", model_version="v1", columns=columns)


def test_scores_of_what_a_filter_keeps(data, shop):
    user, ids = data.users[0], data.ids[:60]
    scores = shop.index.score(user, ids, filter='region = "JP"', deny=ids[:9], now=1)
    kept = np.array([region == "JP" for region in shop.region[:60]])
    kept[:9] = False
    assert (np.isnan(scores) == ~kept).all()
    assert (scores[kept] == shop.index.score(user, ids)[kept]).all()
    many = shop.index.score(data.users[:2], ids, allow=shop.index.item_set(ids[20:30]), now=1)
    assert np.isnan(many[:, :20]).all() and np.isnan(many[:, 30:]).all()
    assert not np.isnan(many[:, 20:30]).any()
    with pytest.raises(itemdex.InputError):
        shop.index.score(user, ids, filter="region >")
