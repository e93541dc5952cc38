"""Checked by `mypy --strict` and pyright, and run: what a user's program looks like to a type checker."""

from __future__ import annotations

import sys
from pathlib import Path

import itemdex
import numpy as np
from numpy.typing import NDArray


def recommend(index: itemdex.Items, users: NDArray[np.float32]) -> NDArray[np.uint64]:
    ids, scores, plan, matching = index.search(users, 10, recall=0.9, deny=[3], filter="price < 50")
    kept: itemdex.Filter = index.filter("price < $most and region in $of", most=50, of=["JP"])
    assert 0 < kept.matching < matching <= len(index)
    assert scores.dtype == np.float32 and plan in ("graph", "partitions", "scan", "mixed")
    ranked: itemdex.Ranked = index.rank(users, ids[0], 5)
    channels = [itemdex.Channel(ids[0], at_least=1), index_handles(index, ids[0])]
    merged = index.rank_channels(users[0], channels, 5)
    bits: NDArray[np.uint32] = merged.channels
    assert bits.size == 5
    embedding = index.get(int(ids[0, 0]))
    assert embedding is not None and embedding.shape == (index.dim,)
    several: NDArray[np.float32] = index.get(ids.ravel())
    assert several.shape == (ids.size, index.dim) and int(ids[0, 0]) in index
    return ranked.ids


def index_handles(index: itemdex.Items, ids: NDArray[np.uint64]) -> itemdex.RowHandles | NDArray[np.uint64]:
    return index.look_up(ids) if isinstance(index, itemdex.Index) else ids


def report(stage: str, done: int, total: int) -> None:
    print(stage, done, total)


def main(folder: Path) -> None:
    items = np.random.default_rng(1).standard_normal((1000, 8)).astype(np.float32)
    path = folder / "items.itemdex"
    regions = ["JP" if number % 2 else "US" for number in range(1000)]
    columns = {"price": np.arange(1000) / 10, "region": itemdex.Column(regions, "tag")}
    built = itemdex.build(
        items, users=items[:10], out=path, model_version="v1", columns=columns, progress=report
    )
    seconds: float = built.seconds
    with itemdex.Index.open(path) as index:
        info: itemdex.Info = index.info()
        print(recommend(index, items[:3]), seconds, info["plans"], index.path.name)
    with itemdex.Catalog(folder / "catalog") as catalog:
        generation = catalog.publish(path)
        assert generation.log_position is None
    try:
        with itemdex.LiveIndex.open(folder / "catalog", log=folder / "log") as live:
            applied: itemdex.Applied = live.write([itemdex.Upsert("v1", 7, items[0]), itemdex.Delete(8)])
            with live.current() as view:
                print(recommend(view, items[:3]), applied.position, view.generation.number)
            status: itemdex.Status = live.status()
            print(status["waiting"])
    except itemdex.Error as error:
        print(error.kind)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
