"""A recall stage at its real size: 100,000 of 10,000,000 x 64 for a user, at recall 0.95, one thread.

itemdex is built with partitions alone and asked for the recall, with exact scores and with approximate ones; an itemdex that lacks
these options is measured without them. Beside it stand ScaNN, and what merely reading the rows takes that a search needs. Writes
large.json and large.md to --out. Takes about 12 GB of memory.
"""

import argparse
import json
import tempfile
from pathlib import Path

from environment import CORES, PROGRAM, build_program  # Goes on in the environment of the peers.

import numpy as np

from data import Data
from generate import Family, generate
from measure import failure, measure
from peers import PEERS, Variant, clusters
from program import Program
from report import best_at, markdown, number

RECALL = 0.95
STEP = 1000  # Rows read into a buffer at once, which stays in the cache.


def itemdex(program, data, folder):
    """What the build reports, and the points by kind of score."""
    index, points = f"{folder}/large.itemdex", {}
    plans = ["--plans", "partitions"] if program.has("build", "--plans") else []
    built = program.build(data, data.sample_path, index, *plans)
    plan = "partitions" if "partitions" in program.plans() else ""
    for scores in ["exact", "approximate"] if program.has("eval", "--approximate-scores") else ["exact"]:
        options = ["--approximate-scores"] if scores == "approximate" else []
        measured = program.eval(index, data, data.ks[0], plan, *options, recalls=(RECALL,))
        points[scores] = next(point for point in measured if point["asked"])
    return built, points


def reading(data):
    """Reads of memory, in the order of clusters, what the best choice of clusters has to: their codes of 4 bits, the answer in f32.

    That is what a search by these clusters would read if it knew the answer beforehand.
    """
    k, needs = data.ks[0], []
    words = -(-data.items.shape[1] // 16)  # Of 64 bits, a row's codes.

    def build():
        import faiss

        faiss.omp_set_num_threads(CORES)
        rows, dim = data.items.shape
        [count] = clusters(data, [2])
        means = faiss.Kmeans(dim, count, niter=8, seed=1, max_points_per_centroid=50)
        means.train(data.items)
        cluster = means.index.search(data.items, 1)[1][:, 0]
        order = np.argsort(cluster, kind="stable")
        place = np.empty(rows, "i8")
        place[order] = np.arange(rows)
        starts = np.concatenate([[0], np.cumsum(np.bincount(cluster, minlength=count))])
        needs.extend(need(best[:k], cluster, starts) for best, _ in data.best)
        codes = np.random.default_rng(1).integers(2**62, size=rows * words)
        return data.items[order], place, codes

    def settings(k):
        read = np.mean([sum(end - start for start, end in runs) for _, runs in needs])
        return [f"codes of {read / len(data.items):.1%} of the rows"]

    def search(index, users, k, setting):
        items, place, codes = index
        buffer = np.empty((STEP, items.shape[1]), "f4")
        for _, (rows, runs) in zip(users, needs):
            for start, end in runs:
                np.maximum.reduce(codes[start * words : end * words])
            for chunk in np.split(np.sort(place[rows]), range(STEP, len(rows), STEP)):
                np.take(items, chunk, axis=0, out=buffer[: len(chunk)], mode="clip")
        return [rows for rows, _ in needs[: len(users)]]

    yield Variant("reading alone", build, settings, search)


def need(best, cluster, starts):
    """The rows of an answer that the fewest rows of whole clusters hold to the recall, and where these clusters stand."""
    hits = np.bincount(cluster[best], minlength=len(starts) - 1)
    dense = np.argsort(-hits / np.maximum(np.diff(starts), 1))
    taken = np.sort(dense[: 1 + np.searchsorted(np.cumsum(hits[dense]), RECALL * len(best))])
    return best[np.isin(cluster[best], taken)], list(zip(starts[taken], starts[taken + 1]))


def table(summary):
    rows = []
    for scores, point in summary["itemdex"].items():
        times = (f"{point[name] / 1e3:.2f} ms" for name in ("p50_us", "p99_us"))
        name = f"itemdex, {scores} scores"
        build = f"{summary['built']['seconds']:.1f} s"
        found = (number(point.get(name), ".3f") for name in ("recall", "recall_p5"))
        rows.append([name, point.get("plan", ""), build, *found, *times, f"{1e3 / point['qps']:.2f} ms"])
    for result in summary["results"]:
        speed = best_at(result["points"], RECALL)
        top = max(result["points"], key=lambda point: point["recall"])
        at, qps = (RECALL, speed) if speed else (top["recall"], top["qps"])
        setting = top["setting"] if result["name"] == "reading alone" else ""
        rows.append([result["name"], setting, f"{result['build_s']:.1f} s", f"{at:.3f}", "", "", "", f"{1e3 / qps:.2f} ms"])
    return markdown(["", "plan", "build", "recall", "19 users in 20", "p50", "p99", "mean"], rows)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows of dim 64 to generate")
    parser.add_argument("-k", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=200, help="to measure with")
    parser.add_argument("--data", metavar="DIR", help="a folder with items.fbin, test.fbin and sample.fbin, in place of generating them")
    parser.add_argument("--contenders", nargs="*", choices=["itemdex", "reading", *PEERS], default=["itemdex", "reading", "scann"])
    parser.add_argument("--out", required=True, help="folder for the results")
    parser.add_argument("--build-limit", type=float, default=1800, metavar="SECONDS", help="for a peer's build, and for one of its points")
    parser.add_argument("--program", help="an itemdex to measure, in place of the one that is built")
    return parser.parse_args()


def main():
    args = arguments()
    if not args.program:
        build_program()
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        if not args.data:
            generate(folder, Family(rows=args.rows, sample=min(100_000, args.rows // 10)))
        files = [f"{args.data or folder}/{name}.fbin" for name in ("items", "test", "sample")]
        data = Data(*files, [args.k], folder, args.users)
        summary = {"rows": len(data.items), "k": args.k, "itemdex": {}, "results": [], "failures": []}
        for name in args.contenders:
            compare(name, summary, data, folder, args)
            (out / "large.json").write_text(json.dumps(summary, indent=1) + "\n")
            (out / "large.md").write_text(table(summary))
    print(table(summary), end="")


def compare(name, summary, data, folder, args):
    failures = []
    if name == "itemdex":
        try:
            summary["built"], summary["itemdex"] = itemdex(Program(args.program or PROGRAM), data, folder)
        except Exception as error:
            failures.append(failure(error))
    else:
        peer = reading if name == "reading" else PEERS[name]
        results, failures = measure(peer, data, args.build_limit, Path(args.out) / "peers.log")
        summary["results"] += results
    for one in failures:
        print(f"{name} failed: {one}", flush=True)
        summary["failures"].append(f"{name}: {one}")


if __name__ == "__main__":
    main()
