"""What calls cost from Python: the wheels of itemdex, hnswlib, faiss and usearch in one process, in turns.

    python benches/peers/python.py items.fbin users.fbin --rows 100000

For each: the time of a call that finds 10 of 1,000 items, which is mostly the way in and out; and users a second of
one call for all users, on one thread, at the first effort whose recall@100 is 0.95 or more.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median

import faiss
import hnswlib
import itemdex
import numpy as np
from data import read_vectors
from usearch.index import Index as Usearch

K, RECALL, EFFORTS = 100, 0.95, (100, 150, 200, 300, 400, 600, 800, 1200)
TURNS, CALLS = 15, 2000


class Itemdex:
    efforts = (RECALL,)

    def __init__(self, items, folder, sample):
        path = folder / f"{len(items)}.itemdex"
        itemdex.build(items, users=sample, out=path, model_version="v1")
        self.index = itemdex.Index.open(path)

    def search(self, users, k, recall):
        return self.index.search(users, k, recall=recall, threads=1).ids


class Hnswlib:
    efforts = EFFORTS

    def __init__(self, items, folder, sample):
        self.index = hnswlib.Index("ip", items.shape[1])
        self.index.init_index(len(items), ef_construction=200, M=16, random_seed=1)
        self.index.add_items(items)

    def search(self, users, k, ef):
        self.index.set_ef(ef)
        return self.index.knn_query(users, k, num_threads=1)[0]


class Faiss:
    efforts = EFFORTS

    def __init__(self, items, folder, sample):
        self.index = faiss.IndexHNSWFlat(items.shape[1], 16, faiss.METRIC_INNER_PRODUCT)
        self.index.hnsw.efConstruction = 200
        self.index.add(items)
        faiss.omp_set_num_threads(1)

    def search(self, users, k, ef):
        self.index.hnsw.efSearch = ef
        return self.index.search(users.reshape(-1, users.shape[-1]), k)[1]


class UsearchIp:
    efforts = EFFORTS

    def __init__(self, items, folder, sample):
        self.index = Usearch(ndim=items.shape[1], metric="ip", dtype="f32", connectivity=16, expansion_add=200)
        self.index.add(np.arange(len(items)), items)

    def search(self, users, k, ef):
        self.index.expansion_search = ef
        return self.index.search(users, k, threads=1).keys


KINDS = {"itemdex": Itemdex, "hnswlib": Hnswlib, "faiss": Faiss, "usearch": UsearchIp}


def timed(call):
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def overheads(items, users, folder):
    """Microseconds of a small call, by kind."""
    indexes = {name: kind(items[:1000], folder, None) for name, kind in KINDS.items()}
    times = {name: [] for name in KINDS}
    for turn in range(TURNS):
        for name, index in indexes.items():
            effort = index.efforts[0] if name == "itemdex" else 10
            took = timed(lambda: [index.search(users[n % len(users)], 10, effort) for n in range(CALLS)])
            times[name].append(took / CALLS * 1e6)
    return {name: round(median(took), 2) for name, took in times.items()}


def batches(items, users, sample, folder):
    """Users a second and the recall of one call for all users, by kind."""
    scores = users @ items.T
    bars = np.partition(scores, -K, axis=1)[:, -K]
    indexes = {name: kind(items, folder, sample) for name, kind in KINDS.items()}
    chosen = {}
    for name, index in indexes.items():
        for effort in index.efforts:
            found = index.search(users, K, effort).astype(np.int64)
            recall = float((np.take_along_axis(scores, found, 1) >= bars[:, None] - 1e-4).mean())
            chosen[name] = effort, recall
            if recall >= RECALL:
                break
    times = {name: [] for name in KINDS}
    for turn in range(TURNS):
        for name, index in indexes.items():
            times[name].append(timed(lambda: index.search(users, K, chosen[name][0])))
    return {
        name: {"users/s": round(len(users) / median(took)), "recall": round(chosen[name][1], 4), "effort": chosen[name][0]}
        for name, took in times.items()
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("items", type=Path)
    parser.add_argument("users", type=Path)
    parser.add_argument("--sample", type=Path, help="users for the build of itemdex")
    parser.add_argument("--rows", type=int, default=100_000)
    options = parser.parse_args()
    items, users = read_vectors(options.items)[: options.rows], read_vectors(options.users)
    sample = read_vectors(options.sample)[:10_000] if options.sample else None
    with tempfile.TemporaryDirectory() as folder:
        calls = overheads(items, users, Path(folder))
        print(json.dumps({"call, us": calls, "batch": batches(items, users, sample, Path(folder))}, indent=1))


if __name__ == "__main__":
    main()
