"""itemdex and its peers ranking candidates on the same rows, in one run: the k best of random candidates, one thread.

itemdex takes ids and looks them up, by `itemdex eval --rank`, whose figures include that, or row handles; the peers get rows for
free. Users are the same. eval draws the candidates of each call anew by a seed, and so does this script, the same for each peer: they
may name a row twice in both, and uniform sets of one size are equally dear. A peer returns rows and scores in any order,
which its first calls compare with the exact ones. It has --seconds for its calls. Writes rank.json and rank.md to --out.

The peers' ways, the fastest that their Python interfaces offer for this: numpy takes rows into a buffer that is kept; faiss
searches its flat index with an IDSelectorArray, which it goes through, where with a batch or a bitmap of ids it would go
through all rows; usearch has the users under keys too and compares pairs of keys, in a graph of the fewest links, which does
not matter here, or searches rows that numpy gathered.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

from environment import CORES, PROGRAM, build_program  # noqa: E402  Goes on in the environment of the peers.

import numpy as np  # noqa: E402

from data import read_vectors  # noqa: E402
from generate import Family, generate  # noqa: E402

WARM_UP = 20
WAYS = {"two_step": "i8 bounds first, by ids", "exact": "exact(), by ids", "by_rows": "i8 bounds first, by row handles"}


def best(rows, scores, k):
    places = np.argpartition(scores, -k)[-k:]
    return rows[places], scores[places]


def numpy_gather(items, users, args):
    gathered = np.empty((args.candidates, items.shape[1]), "f4")

    def rank(user, rows):
        np.take(items, rows, axis=0, out=gathered, mode="clip")  # Other modes copy once more.
        return best(rows, gathered @ users[user], args.k)

    return rank


def faiss_flat(items):
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(items.shape[1])
    index.add(items)
    return faiss, index


def faiss_subset(items, users, args):
    faiss, index = faiss_flat(items)

    def rank(user, rows):
        scores = np.empty(len(rows), "f4")
        index.compute_distance_subset(1, faiss.swig_ptr(users[user]), len(rows), faiss.swig_ptr(scores), faiss.swig_ptr(rows))
        return best(rows, scores, args.k)

    return rank


def faiss_selector(items, users, args):
    faiss, index = faiss_flat(items)

    def rank(user, rows):
        params = faiss.SearchParameters(sel=faiss.IDSelectorArray(rows))
        scores, found = index.search(users[user : user + 1], args.k, params=params)
        return found[0], scores[0]

    return rank


def usearch_keys(items, users, args):
    from usearch.index import Index

    index = Index(ndim=items.shape[1], metric="ip", dtype="f32", connectivity=2, expansion_add=1)
    index.add(np.arange(len(items) + len(users)), np.concatenate([items, users]), threads=CORES)

    def rank(user, rows):
        distances = index.pairwise_distance(np.full(len(rows), len(items) + user), rows)
        return best(rows, 1 - distances, args.k)

    return rank


def usearch_gathered(items, users, args):
    from usearch.index import MetricKind, search

    def rank(user, rows):
        found = search(items[rows], users[user], args.k, MetricKind.IP, exact=True, threads=1)
        return rows[found.keys.astype("i8")], 1 - found.distances

    return rank


PEERS = {
    "numpy: take, matmul, argpartition": numpy_gather,
    "faiss: compute_distance_subset, argpartition": faiss_subset,
    "faiss: flat search, IDSelectorArray": faiss_selector,
    "usearch: pairwise_distance by keys, argpartition": usearch_keys,
    "usearch: exact search of gathered rows": usearch_gathered,
}


def check(items, user, rows, found, scores):
    exact = np.sort(items[rows] @ user)[-len(scores) :]
    assert np.isin(found, rows).all(), "a row that is no candidate"
    assert np.allclose(items[found] @ user, scores, rtol=1e-4, atol=0), "a score that is not its row's"
    assert np.allclose(np.sort(scores), exact, rtol=1e-4, atol=0), "not the best"


def measure(peer, items, users, args):
    """The times of a peer's calls in milliseconds, after some that are checked."""
    rank, times = peer(items, users, args), []
    started = time.perf_counter()
    for call in range(WARM_UP + args.calls):
        rows = np.random.default_rng(call).integers(len(items), size=args.candidates)
        user = call % len(users)
        asked = time.perf_counter()
        found, scores = rank(user, rows)
        took = time.perf_counter() - asked
        if call < WARM_UP:
            check(items, users[user], rows, found, scores)
        else:
            times.append(took * 1e3)
        if times and time.perf_counter() - started > args.seconds:
            break
    return times


def run_peers(items, users, args):
    results = []
    for name, peer in PEERS.items():
        try:
            times = measure(peer, items, users, args)
        except Exception as error:  # One peer that fails must not cost the others' results.
            print(f"{name} failed: {error!r}", flush=True)
            continue
        p50, p99 = np.quantile(times, [0.5, 0.99])
        results.append({"name": name, "p50_ms": p50, "p99_ms": p99, "calls": len(times)})
        print(f"{name}: {p50:.2f} ms", flush=True)
    return results


def run_itemdex(index, users, args):
    results, details = [], {}
    for residence, option in (("mapped", []), ("resident", ["--resident"])):
        command = [PROGRAM, "eval", index, "--users", users, "--rank", str(args.candidates), "-k", str(args.k)]
        command += ["--calls", str(args.calls), "--json", *option]
        rank = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["rank"]
        details[residence] = rank
        for way, name in WAYS.items():
            p50, p99 = rank[way]["p50_us"] / 1e3, rank[way]["p99_us"] / 1e3
            name = f"itemdex: {name}, {residence}"
            results.append({"name": name, "p50_ms": p50, "p99_ms": p99, "calls": args.calls})
            print(f"{name}: {p50:.2f} ms", flush=True)
    return results, details


def build(data, folder, rows):
    """An index with scattered ids, of a graph that takes little time to build: a rank does not look at it."""
    np.save(f"{folder}/ids.npy", np.arange(rows, dtype="u8") * 2654435761)
    index = f"{folder}/rank.itemdex"
    command = [PROGRAM, "build", "--items", f"{data}/items.fbin", "--ids", f"{folder}/ids.npy", "--model-version", "rank"]
    command += ["--quantize", "i8", "--m", "8", "--ef-construction", "20", "--out", index]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return index


def table(results):
    base = results[0]["p50_ms"]
    lines = ["| | p50 | p99 | calls | times the first |", "|---|---:|---:|---:|---:|"]
    for one in results:
        times = f"{one['p50_ms']:.2f} ms | {one['p99_ms']:.2f} ms"
        lines.append(f"| {one['name']} | {times} | {one['calls']:,} | {one['p50_ms'] / base:.1f} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=4_000_000, help="rows of dim 64 to generate")
    parser.add_argument("--sample", type=int, default=2000, help="users for a build, which the generated set has before those to measure with")
    parser.add_argument("--data", metavar="DIR", help="a folder with items.fbin and test.fbin, in place of generating them")
    parser.add_argument("--index", metavar="FILE", help="an index of --data with i8 rows, in place of building one")
    parser.add_argument("--candidates", type=int, default=100_000)
    parser.add_argument("-k", type=int, default=1000)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=60, help="for the calls of a peer, building not included")
    parser.add_argument("--out", required=True, help="folder for rank.json and rank.md")
    args = parser.parse_args()
    if args.index and not args.data:
        parser.error("--index needs --data")
    with tempfile.TemporaryDirectory() as folder:
        compare(args, folder)


def compare(args, folder):
    build_program()
    if not args.data:
        generate(folder, Family(rows=args.rows, sample=args.sample))
    data = args.data or folder
    items, users = read_vectors(f"{data}/items.fbin"), read_vectors(f"{data}/test.fbin")
    index = args.index or build(data, folder, len(items))
    results, details = run_itemdex(index, f"{data}/test.fbin", args)
    results += run_peers(items, users, args)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    rows, dim = items.shape
    summary = {"rows": rows, "dim": dim, "candidates": args.candidates, "k": args.k, "results": results, "itemdex": details}
    (out / "rank.json").write_text(json.dumps(summary, indent=1) + "\n")
    (out / "rank.md").write_text(table(results))
    print(table(results), end="")


if __name__ == "__main__":
    main()
