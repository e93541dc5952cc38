from __future__ import annotations

import itemdex
import numpy as np
import pytest
from itemdex import convert

VERSION = ["--model-version", "v1", "--out"]


def answers_alike(data, path, ids):
    """Whether a file answers by the items of the data with these ids."""
    index = itemdex.Index.open(path)
    found = index.search(data.users, 10, recall=1.0)
    order = np.argsort(-(data.users @ data.items[: len(ids)].T), axis=1)[:, :10]
    assert (found.ids == ids[order]).mean() > 0.99
    return True


@pytest.mark.parametrize("kind", ["IndexFlatIP", "IndexHNSWFlat", "IndexIDMap"])
def test_faiss(data, tmp_path, kind):
    faiss = pytest.importorskip("faiss")
    ids = np.arange(3000, dtype=np.uint64)
    if kind == "IndexHNSWFlat":
        index = faiss.IndexHNSWFlat(16, 16, faiss.METRIC_INNER_PRODUCT)
    else:
        index = faiss.IndexFlatIP(16)
    if kind == "IndexIDMap":
        ids = data.ids
        index = faiss.IndexIDMap(index)
        index.add_with_ids(data.items, ids.astype(np.int64))
    else:
        index.add(data.items)
    faiss.write_index(index, str(tmp_path / "faiss"))
    assert convert.main(["faiss", str(tmp_path / "faiss"), *VERSION, str(tmp_path / "out")]) == 0
    assert answers_alike(data, tmp_path / "out", ids)


def test_faiss_indexes_that_do_not_fit(data, tmp_path, capsys):
    faiss = pytest.importorskip("faiss")
    index = faiss.IndexFlatL2(16)
    index.add(data.items)
    with pytest.raises(itemdex.InputError, match="by L2 and its norms differ"):
        convert.from_faiss(index)
    assert convert.from_faiss(index, any_metric=True)[1].shape == (3000, 16)
    unit = faiss.IndexFlatL2(16)
    unit.add(data.items / np.linalg.norm(data.items, axis=1, keepdims=True))
    assert convert.from_faiss(unit)[0].tolist() == list(range(3000))
    codes = faiss.IndexScalarQuantizer(16, faiss.ScalarQuantizer.QT_8bit)
    codes.train(data.items)
    codes.add(data.items)
    faiss.write_index(codes, str(tmp_path / "faiss"))
    assert convert.main(["faiss", str(tmp_path / "faiss"), *VERSION, str(tmp_path / "out")]) == 1
    assert "IndexScalarQuantizer does not keep embeddings" in capsys.readouterr().err


def test_hnswlib(data, tmp_path):
    hnswlib = pytest.importorskip("hnswlib")
    index = hnswlib.Index(space="ip", dim=16)
    index.init_index(4000)
    index.add_items(data.items, data.ids)
    index.save_index(str(tmp_path / "hnswlib"))
    assert convert.main(["hnswlib", str(tmp_path / "hnswlib"), *VERSION, str(tmp_path / "out")]) == 0
    assert answers_alike(data, tmp_path / "out", data.ids)
    index.mark_deleted(int(data.ids[7]))
    ids, items = convert.from_hnswlib(index)
    assert len(ids) == 2999 and items.shape == (2999, 16) and data.ids[7] not in ids
    by_id = dict(zip(data.ids.tolist(), data.items))
    np.testing.assert_array_equal(items[5], by_id[int(ids[5])])
    flat = hnswlib.Index(space="l2", dim=16)
    flat.init_index(10)
    flat.add_items(data.items[:10])
    with pytest.raises(itemdex.InputError, match="norms differ"):
        convert.from_hnswlib(flat)


def test_files_that_are_not_of_hnswlib(data, tmp_path, capsys):
    (tmp_path / "short").write_bytes(b"hnsw")
    for path in (tmp_path / "short", data.path):
        command = ["hnswlib", str(path), "--model-version", "v1", "--out", str(tmp_path / "out")]
        assert convert.main(command) == 1
        assert "is not a file of hnswlib's save_index" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
