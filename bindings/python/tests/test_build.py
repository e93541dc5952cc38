from __future__ import annotations

import os
import signal
import threading

import itemdex
import numpy as np
import pytest

VERSION = {"model_version": "v1"}


def same(data, path):
    """Whether a file holds the items of the data."""
    index = itemdex.Index.open(path)
    index.verify()
    np.testing.assert_array_equal(index.get(data.ids), data.items)
    assert len(index) == len(data.ids)
    return True


def test_what_a_build_reports(data, tmp_path):
    report = itemdex.build(data.items, data.ids, out=str(tmp_path / "a"), **VERSION)
    assert (report.rows, report.dim, report.copies) == (3000, 16, 0)
    assert report.bytes == (tmp_path / "a").stat().st_size
    assert report.seconds >= report.graph_seconds > 0


def test_arrays_of_every_dtype_and_order(data, tmp_path):
    out = tmp_path / "out"
    wide = np.zeros((3000, 20), np.float32)
    wide[:, 2:18] = data.items
    reversed_rows = data.items[::-1]
    for items in (data.items, np.asfortranarray(data.items), wide[:, 2:18], data.items.astype(np.float64)):
        itemdex.build(items, data.ids, out=out, threads=1, **VERSION)
        assert same(data, out) and out.read_bytes() == data.path.read_bytes() or same(data, out)
    itemdex.build(reversed_rows, data.ids[::-1].astype(np.int64), out=out, **VERSION)
    assert same(data, out)
    half = data.items.astype(np.float16)
    itemdex.build(half, data.ids, out=out, **VERSION)
    index = itemdex.Index.open(out)
    assert index.info()["row_format"] == "f16"
    np.testing.assert_array_equal(index.get(data.ids), half.astype(np.float32))
    itemdex.build(half, data.ids, out=out, rows="f32", **VERSION)
    wide = itemdex.Index.open(out)
    assert wide.info()["row_format"] == "f32"
    found, expected = [one.search(data.users[:5], 20, recall=1.0) for one in (index, wide)]
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_row_numbers_are_the_ids_by_default(data, tmp_path):
    itemdex.build(data.items, out=tmp_path / "out", **VERSION)
    assert sorted(itemdex.Index.open(tmp_path / "out").ids().tolist()) == list(range(3000))


def test_a_user_sample_and_options(data, tmp_path):
    options = {"m": 8, "ef_construction": 50, "quantize": "i8", "plans": ["graph", "partitions"]}
    itemdex.build(data.items, data.ids, data.users, out=tmp_path / "out", **options, **VERSION)
    info = itemdex.Index.open(tmp_path / "out").info()
    assert info["m"] == 8 and info["ef_construction"] == 50 and info["quantized"]
    assert info["plans"] == ["graph", "partitions", "scan"]


@pytest.mark.parametrize("kind", ["pyarrow", "batch", "reader", "polars", "pandas", "duckdb", "lists"])
def test_record_batches_of_every_library(data, tmp_path, kind):
    pa = pytest.importorskip("pyarrow")
    flat = pa.array(data.items.reshape(-1))
    columns = {"other": pa.array(["x"] * 3000), "id": pa.array(data.ids)}
    table = pa.table({**columns, "embedding": pa.FixedSizeListArray.from_arrays(flat, 16)})
    if kind == "pyarrow":
        items = table
    elif kind == "batch":
        items = table.to_batches()[0]
    elif kind == "reader":
        # A generator of batches, of which some are empty and some are slices.
        parts = [table.slice(start, 700) for start in range(0, 3000, 700)] + [table.slice(0, 0)]
        batches = (batch for part in parts for batch in part.to_batches())
        items = pa.RecordBatchReader.from_batches(table.schema, batches)
    elif kind == "lists":
        lists = pa.ListArray.from_arrays(np.arange(0, 48_001, 16, dtype=np.int32), flat.cast(pa.float64()))
        table = pa.table({**columns, "embedding": lists})
        items = pa.concat_tables([table.slice(0, 10), table.slice(10)])
    elif kind == "polars":
        items = pytest.importorskip("polars").from_arrow(table)
    elif kind == "pandas":
        pd = pytest.importorskip("pandas")
        items = pd.DataFrame({"id": data.ids, "embedding": list(data.items)})
    else:
        items = pytest.importorskip("duckdb").connect().from_arrow(table)
    report = itemdex.build(items, out=tmp_path / "out", **VERSION)
    assert report.rows == 3000 and same(data, tmp_path / "out")


def test_columns_of_other_names(data, tmp_path):
    pa = pytest.importorskip("pyarrow")
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(data.items.reshape(-1)), 16)
    table = pa.table({"sku": pa.array(data.ids.astype(np.int64)), "vector": vectors})
    names = {"id_column": "sku", "embedding_column": "vector"}
    itemdex.build(table, users=table.slice(0, 100), out=tmp_path / "out", **names, **VERSION)
    assert same(data, tmp_path / "out")
    itemdex.build(table, data.ids, out=tmp_path / "out", embedding_column="vector", **VERSION)
    assert same(data, tmp_path / "out")
    itemdex.build(table, out=tmp_path / "out", id_column=None, embedding_column="vector", **VERSION)
    assert 0 in itemdex.Index.open(tmp_path / "out")
    with pytest.raises(itemdex.InputError, match="no column embedding, but sku, vector"):
        itemdex.build(table, out=tmp_path / "out", **VERSION)
    with pytest.raises(itemdex.InputError, match="column of embeddings is of type Int64"):
        itemdex.build(table, out=tmp_path / "out", id_column="sku", embedding_column="sku", **VERSION)


def test_bad_record_batches_leave_nothing(data, tmp_path):
    pa = pytest.importorskip("pyarrow")
    out = tmp_path / "out"

    def refused(match, ids=None, **columns):
        with pytest.raises(itemdex.InputError, match=match):
            itemdex.build(pa.table(columns), ids, out=out, **VERSION)
        assert list(tmp_path.iterdir()) == []

    two = pa.array([[1.0, 2.0], [3.0, 4.0]])
    refused("row 1: it has no embedding", id=[1, 2], embedding=pa.array([[1.0, 2.0], None]))
    refused("row 1: its embedding holds a null", id=[1, 2], embedding=pa.array([[1.0, 2.0], [3.0, None]]))
    refused("row 1: it has 1 values", id=[1, 2], embedding=pa.array([[1.0, 2.0], [3.0]]))
    refused("row 0: its id is null", id=pa.array([None, 2]), embedding=two)
    refused("row 1: its id is null or negative", id=[1, -2], embedding=two)
    refused("ids are integers", id=["a", "b"], embedding=two)
    refused("item id 1 stands at row 0 and again", id=[1, 1], embedding=two)
    refused("more rows than the 1 ids", ids=[1], id=[1, 2], embedding=two)
    refused("fewer rows than the 3 ids", ids=[1, 2, 3], id=[1, 2], embedding=two)
    refused("no rows", id=pa.array([], pa.int64()), embedding=pa.array([], pa.list_(pa.float32())))

    twice = pa.table([[1, 2], two, [3, 4]], names=["id", "embedding", "id"])
    with pytest.raises(itemdex.InputError, match="2 columns named id; rename the others"):
        itemdex.build(twice, out=out, **VERSION)
    assert list(tmp_path.iterdir()) == []

    def failing():
        yield pa.record_batch({"id": [1], "embedding": pa.array([[1.0, 2.0]])})
        raise RuntimeError("the warehouse is down")

    schema = pa.schema({"id": pa.int64(), "embedding": pa.list_(pa.float64())})
    with pytest.raises(itemdex.InputError, match="the warehouse is down"):
        itemdex.build(pa.RecordBatchReader.from_batches(schema, failing()), out=out, **VERSION)
    assert list(tmp_path.iterdir()) == []


def test_a_stream_can_be_read_once(data, tmp_path):
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"id": [1, 2], "embedding": pa.array([[1.0, 2.0], [3.0, 4.0]])})
    reader = table.to_reader()
    itemdex.build(reader, out=tmp_path / "out", **VERSION)
    with pytest.raises((itemdex.InputError, ValueError, OSError)):
        itemdex.build(reader, out=tmp_path / "out", **VERSION)

    class Once:
        """Gives the same capsule again and again, which the interface forbids."""

        def __init__(self):
            self.capsule = table.__arrow_c_stream__()

        def __arrow_c_stream__(self, requested_schema=None):
            return self.capsule

    once = Once()
    itemdex.build(once, out=tmp_path / "out", **VERSION)
    with pytest.raises(itemdex.InputError, match="released"):
        itemdex.build(once, out=tmp_path / "out", **VERSION)

    class Other:
        def __arrow_c_stream__(self, requested_schema=None):
            return table.schema.__arrow_c_schema__()

    with pytest.raises(ValueError):
        itemdex.build(Other(), out=tmp_path / "out", **VERSION)


def test_files(data, tmp_path):
    np.save(tmp_path / "items.npy", data.items)
    np.save(tmp_path / "ids.npy", data.ids)
    np.save(tmp_path / "users.npy", data.users)
    out = tmp_path / "out"
    ids, users = str(tmp_path / "ids.npy"), tmp_path / "users.npy"
    itemdex.build(tmp_path / "items.npy", ids, users, out=out, **VERSION)
    assert same(data, out)
    with pytest.raises(TypeError, match="the ids of a file are a file"):
        itemdex.build(tmp_path / "items.npy", data.ids, out=out, **VERSION)
    with pytest.raises(FileNotFoundError):
        itemdex.build(tmp_path / "missing.npy", out=out, **VERSION)
    pq = pytest.importorskip("pyarrow.parquet")
    pa = pytest.importorskip("pyarrow")
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(data.items.reshape(-1)), 16)
    pq.write_table(pa.table({"sku": data.ids, "vector": vectors}), tmp_path / "items.parquet")
    names = {"id_column": "sku", "embedding_column": "vector"}
    itemdex.build(tmp_path / "items.parquet", out=out, **names, **VERSION)
    assert same(data, out)


def test_bad_input_leaves_what_was_there(data, tmp_path):
    out = tmp_path / "out"
    out.write_text("before")
    bad = data.items.copy()
    bad[7, 2] = np.inf
    for match, items, options in [
        ("row 7: value 2 is inf", bad, {}),
        ("dim", np.ones((3, 0), np.float32), {}),
        ("no rows", np.ones((0, 3), np.float32), {}),
        ("m: 1 is not within 2", data.items, {"m": 1}),
        ("threads: 0 is not within", data.items, {"threads": 0}),
        ("user sample: its dim is 3", data.items, {"users": np.ones((2, 3))}),
        ("plans: name the graph", data.items, {"plans": ["scan"]}),
        ("model version", data.items, {"model_version": ""}),
    ]:
        with pytest.raises(itemdex.InputError, match=match):
            itemdex.build(items, out=out, **{**VERSION, **options})
    for match, items, options in [
        ("2 ids for 3000 items", data.items, {"ids": [1, 2]}),
        ("quantize", data.items, {"quantize": "i4"}),
        ("rows", data.items, {"rows": "bf16"}),
        (r"shape \[16\]; give \(n, dim\)", data.items[0], {}),
        (r"user sample is of one dimension", data.items, {"users": data.users[0]}),
    ]:
        with pytest.raises(ValueError, match=match):
            itemdex.build(items, out=out, **options, **VERSION)
    with pytest.raises(TypeError, match="item embeddings are of dtype int64"):
        itemdex.build(np.ones((3, 4), np.int64), out=out, **VERSION)
    with pytest.raises(TypeError, match="model_version"):
        itemdex.build(data.items, out=out)
    assert out.read_text() == "before" and list(tmp_path.iterdir()) == [out]
    with pytest.raises(FileNotFoundError):
        itemdex.build(data.items, out=tmp_path / "no" / "folder", **VERSION)


def test_progress_by_a_function(data, tmp_path):
    calls = []
    itemdex.build(
        data.items, data.ids, out=tmp_path / "out", progress=lambda *call: calls.append(call), **VERSION
    )
    stages = list(dict.fromkeys(stage for stage, _, _ in calls))
    assert stages[0] == "rows" and stages[-1] == "publish" and "graph" in stages
    assert ("rows", 0, 3000) in calls
    assert all(done <= total for _, done, total in calls)


def test_progress_by_a_bar(data, tmp_path):
    tqdm = pytest.importorskip("tqdm")
    shown = []

    class Bar(tqdm.tqdm):
        def close(self):
            shown.append((self.desc, self.n))
            super().close()

    itemdex.build(data.items, data.ids, out=tmp_path / "out", progress=Bar, **VERSION)
    assert ("rows", 3000) in shown or ("rows", 0) in shown
    assert any(stage == "graph" for stage, _ in shown)


def test_an_exception_of_the_callback_stops_the_build(data, tmp_path):
    def fail(stage, done, total):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        itemdex.build(data.items, data.ids, out=tmp_path / "out", progress=fail, **VERSION)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stage", ["rows", "graph"])
def test_an_interrupt_stops_a_build_and_leaves_nothing(data, tmp_path, stage):
    seen = []

    def interrupt(now, done, total):
        seen.append(now)
        if now == stage and seen.count(stage) == 1:
            os.kill(os.getpid(), signal.SIGINT)

    items = np.tile(data.items, (10, 1)) + np.arange(30_000)[:, None] * 1e-4
    with pytest.raises(KeyboardInterrupt):
        itemdex.build(items, out=tmp_path / "out", progress=interrupt, **VERSION)
    assert list(tmp_path.iterdir()) == []
    assert "publish" not in seen


def test_an_interrupt_without_a_callback(data, tmp_path):
    items = np.tile(data.items, (20, 1)) + np.arange(60_000)[:, None] * 1e-4
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        itemdex.build(items, out=tmp_path / "out", ef_construction=2000, **VERSION)
    assert list(tmp_path.iterdir()) == []


def test_other_threads_get_on_while_a_build_works(data, tmp_path):
    done = threading.Event()

    def build():
        itemdex.build(data.items, data.ids, out=tmp_path / "out", **VERSION)
        done.set()

    building = threading.Thread(target=build)
    building.start()
    steps = 0
    while not done.is_set():
        steps += 1
    building.join()
    assert steps > 1000 and same(data, tmp_path / "out")
