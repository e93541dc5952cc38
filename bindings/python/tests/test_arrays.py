from __future__ import annotations

import contextlib
import threading

import itemdex
import numpy as np
import pytest


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_floats_of_every_width(data, index, dtype):
    user = data.users[0].astype(dtype)
    expected = index.search(user.astype(np.float32), 10)
    assert index.search(user, 10).ids.tolist() == expected.ids.tolist()
    assert index.search(user[None], 10).ids.tolist() == [expected.ids.tolist()]


@pytest.mark.parametrize("dtype", ["uint64", "int64", "uint32", "int32"])
def test_ids_of_every_width(data, index, dtype):
    ids = data.ids[:100].astype(dtype)
    expected = index.rank(data.users[0], data.ids[:100], 10)
    assert index.rank(data.users[0], ids, 10).ids.tolist() == expected.ids.tolist()


def test_views_that_are_not_contiguous(data, index):
    expected = index.search(data.users, 10)
    wide = np.zeros((40, 32), np.float32)
    wide[:, ::2] = data.users
    assert index.search(wide[:, ::2], 10).ids.tolist() == expected.ids.tolist()
    assert index.search(np.asfortranarray(data.users), 10).ids.tolist() == expected.ids.tolist()
    assert index.search(data.users[::-1], 10).ids.tolist() == expected.ids[::-1].tolist()
    ids = np.stack([data.ids, data.ids], axis=1)[:100, 0]
    assert not ids.flags.c_contiguous
    ranked = index.rank(data.users[0], ids, 10)
    assert ranked.ids.tolist() == index.rank(data.users[0], data.ids[:100], 10).ids.tolist()
    assert index.rank(data.users[0], ids.astype(np.int64)[::2], 10).ids.size == 10


def test_read_only_and_misaligned_arrays(data, index):
    users, ids = data.users.copy(), data.ids[:100].copy()
    users.flags.writeable = ids.flags.writeable = False
    expected = index.rank(users[0], ids, 10)
    assert expected.ids.size == 10
    record = np.zeros(100, dtype=[("flag", "u1"), ("id", "u8"), ("user", "f4", 16)])
    record["id"], record["user"] = ids, users[0]
    assert not record["id"].flags.aligned
    assert index.rank(record["user"][0], record["id"], 10).ids.tolist() == expected.ids.tolist()


def test_lists_and_numbers(data, index):
    user = data.users[0].tolist()
    assert index.search(user, 10).ids.tolist() == index.search(data.users[0], 10).ids.tolist()
    assert index.search([1] + [0] * 15, 10).ids.size == 10
    assert index.rank(user, [5, 12, 19], 2).ids.size == 2
    assert index.rank(user, [np.uint64(5), np.uint64(12)], 2).ids.size == 2
    assert index.rank(user, (), 2).ids.size == 0


class Mine(np.ndarray):
    """A subclass of numpy's array, as some libraries have."""


def test_what_is_an_array_by_another_name(data, index):
    user = data.users[0]
    expected = index.search(user, 3).ids.tolist()
    for like in (user.view(Mine), memoryview(user), np.ma.masked_array(user), user[None]):
        assert index.search(like, 3).ids.ravel().tolist() == expected
    assert index.search(np.broadcast_to(user, (3, 16)), 3).ids.tolist() == [expected] * 3
    for k in (np.int64(3), np.uint8(3), np.array(3)):
        assert index.search(user, k).ids.tolist() == expected
    assert type(index.search(user.view(Mine), 3).ids) is np.ndarray


def test_arrays_that_change_while_a_call_reads_them(data, index):
    """The answer is of the old values or the new ones or between; the process survives."""
    users, ids, done = data.users.copy(), data.ids.copy(), threading.Event()

    def change():
        while not done.is_set():
            users[:], ids[:] = np.inf, 2**63
            users[:], ids[:] = data.users, data.ids

    changing = threading.Thread(target=change)
    changing.start()
    try:
        for _ in range(50):
            with contextlib.suppress(itemdex.InputError):
                assert index.search(users, 10).ids.shape == (40, 10)
            assert index.rank(data.users, ids, 10, deny=ids[:5]).ids.shape == (40, 10)
    finally:
        done.set()
        changing.join()


def test_wrong_dtypes(data, index):
    with pytest.raises(TypeError, match="user embeddings are of dtype int64; give float32, float16"):
        index.search(np.ones(16, np.int64), 10)
    with pytest.raises(TypeError, match="dtype >f4"):
        index.search(data.users[0].astype(">f4"), 10)
    with pytest.raises(TypeError, match="dtype complex64"):
        index.search(data.users.astype(np.complex64), 10)
    with pytest.raises(TypeError, match="item ids are of dtype float64; give uint64 or int64"):
        index.rank(data.users[0], np.ones(3), 10)
    with pytest.raises(TypeError, match="dtype >u8"):
        index.rank(data.users[0], data.ids.astype(">u8"), 10)
    with pytest.raises(TypeError, match="item ids are of dtype bool"):
        index.rank(data.users[0], np.ones(3, bool), 10)
    with pytest.raises(TypeError, match="item ids are of dtype"):
        index.rank(data.users[0], ["a"], 10)
    with pytest.raises(ValueError, match="item id -4 at place 1 is negative"):
        index.rank(data.users[0], np.array([5, -4]), 10)


def test_masked_arrays(data, index, tmp_path):
    masked = np.ma.masked_array(data.users.copy(), mask=np.zeros(data.users.shape, bool))
    assert index.search(masked, 10).ids.tolist() == index.search(data.users, 10).ids.tolist()
    masked[0, 3] = masked[1, 2] = np.ma.masked
    with pytest.raises(ValueError, match="2 values of the user embeddings are masked; drop those rows"):
        index.search(masked, 10)
    with pytest.raises(ValueError, match="1 values of the item ids are masked"):
        index.rank(data.users[0], np.ma.masked_equal(data.ids, data.ids[5]), 10)
    with pytest.raises(ValueError, match="are masked"):
        itemdex.build(masked, out=tmp_path / "items.itemdex", model_version="v1")
    assert not list(tmp_path.iterdir())


def test_wrong_shapes(data, index):
    with pytest.raises(itemdex.InputError, match="has 3 values, the index has dim 16"):
        index.search(np.ones(3, np.float32), 10)
    with pytest.raises(itemdex.InputError, match="has 3 values, the index has dim 16"):
        index.search(np.ones((0, 3), np.float32), 10)
    with pytest.raises(ValueError, match=r"shape \[2, 2, 16\]"):
        index.search(np.ones((2, 2, 16), np.float32), 10)
    with pytest.raises(ValueError, match=r"shape \[\]"):
        index.search(np.float32(1), 10)
    with pytest.raises(ValueError, match=r"item ids are of shape \[2, 2\]; give \(n,\)"):
        index.rank(data.users[0], np.ones((2, 2), np.uint64), 10)
    with pytest.raises(ValueError, match=r"the user embedding is of shape \(40, 16\)"):
        index.rank_channels(data.users, [[1]], 10)
    with pytest.raises(OverflowError):
        index.search(data.users[0], -1)
    with pytest.raises(TypeError):
        index.search(data.users[0], 1.5)


def test_values_that_are_not_finite(data, index):
    user = data.users[0].copy()
    user[3] = np.nan
    with pytest.raises(itemdex.InputError, match="value 3 is NaN"):
        index.search(user, 10)
    with pytest.raises(itemdex.InputError, match="value 3 is NaN"):
        index.search(np.stack([data.users[0], user]), 10)
    with pytest.raises(itemdex.InputError, match="value 0 is inf"):
        index.search(np.full(16, 1e300), 10)


def test_empty_arrays(data, index):
    assert index.search(np.ones((0, 16), np.float32), 10).ids.shape == (0, 10)
    assert index.rank(np.ones((0, 16), np.float32), data.ids[:5], 10).ids.shape == (0, 10)
    assert index.score(np.ones((0, 16), np.float32), data.ids[:5]).shape == (0, 5)
    assert index.score(data.users, np.ones(0, np.uint64)).shape == (40, 0)
    assert index.score(data.users, np.ones((40, 0), np.uint64)).shape == (40, 0)
    assert index.get(np.ones(0, np.uint64)).shape == (0, 16)
    assert len(index.look_up([])) == 0


def test_an_answer_too_large_for_memory(data, index):
    with pytest.raises(MemoryError, match="2 x 4611686018427387904"):
        index.search(data.users[:2], 2**62)
