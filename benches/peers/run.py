"""itemdex and its peers on the same data, in one run: recall@k against queries per second, one thread.

Builds use all cores. Each peer runs at a sweep of its own settings; each point is the median of three passes over the test
users, batched where the peer has a batched call. Writes peers.json, peers.md and peers.svg to --out. The first run makes a
virtual environment with the packages of requirements.txt under target/.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PROGRAM = ROOT / "target/release/itemdex"


def enter_environment():
    """Goes on in the environment of the peers, which is made if there is none."""
    folder = ROOT / "target/peers"
    if (Path(sys.prefix) / "complete").exists():
        return
    if not (folder / "complete").exists():
        venv.create(folder, clear=True, with_pip=True)
        subprocess.run([folder / "bin/pip", "install", "-q", "-r", HERE / "requirements.txt"], check=True)
        (folder / "complete").touch()
    python = str(folder / "bin/python")
    os.execv(python, [python, *sys.argv])


enter_environment()

import numpy as np  # noqa: E402

from generate import generate  # noqa: E402

EFS = [25, 50, 100, 200, 400, 800]
M, EF_CONSTRUCTION = 16, 200
CORES = os.cpu_count()


def read_vectors(path):
    if path.endswith(".npy"):
        return np.load(path).astype("f4")
    rows, dim = np.fromfile(path, "<i4", 2)
    return np.fromfile(path, "<f4", offset=8).reshape(rows, dim)


def exact(items, users, k):
    """The score of each user's exact k-th best item."""
    bars = [np.partition(users[at : at + 50] @ items.T, -k, axis=1)[:, -k] for at in range(0, len(users), 50)]
    return np.concatenate(bars)


def augmented(items):
    """One more coordinate, after which L2 order is inner-product order (Bachrach et al., RecSys 2014)."""
    squares = (items.astype("f8") ** 2).sum(1)
    return np.hstack([items, np.sqrt(squares.max() - squares)[:, None].astype("f4")])


class Run:
    def __init__(self, args):
        self.k = args.k
        self.items_path, self.users_path, self.sample_path = args.items, args.users, args.sample
        self.items, self.users = read_vectors(args.items), read_vectors(args.users)
        self.flat_users = np.hstack([self.users, np.zeros((len(self.users), 1), "f4")])
        self.bars = exact(self.items, self.users, args.k)
        self.results = []

    def recall(self, found):
        """An item that scores as the k-th exact one counts, whichever of the equals was returned."""
        good = 0
        for user, rows, bar in zip(self.users, found, self.bars):
            rows = np.unique(rows[rows >= 0])
            good += min(self.k, int((self.items[rows] @ user >= bar - 1e-5 * abs(bar)).sum()))
        return good / (self.k * len(self.users))

    def add(self, name, build, points):
        self.results.append({"name": name, "build_s": build, "points": points})
        print(f"{name}: built in {build:.1f} s", *(f"{p['recall']:.3f}@{p['qps']:,.0f}" for p in points), flush=True)

    def sweep(self, name, build, settings, search, users=None):
        """`build` makes an index, `search` answers all users by it at a setting: their rows, k each."""
        users = self.users if users is None else users
        started = time.perf_counter()
        index = build()
        built = time.perf_counter() - started
        points = []
        for setting in settings:
            times = []
            for _ in range(3):
                started = time.perf_counter()
                found = search(index, users, setting)
                times.append(time.perf_counter() - started)
            point = {"setting": setting, "recall": self.recall(np.asarray(found)), "qps": len(users) / np.median(times)}
            points.append(point)
        self.add(name, built, points)


def itemdex(run, users, name):
    with tempfile.TemporaryDirectory() as folder:
        index = f"{folder}/peers.itemdex"
        command = [PROGRAM, "build", "--items", run.items_path, "--model-version", "peers", "--out", index]
        started = time.perf_counter()
        subprocess.run(command + (["--users", users] if users else []), check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        built = time.perf_counter() - started
        efs = ",".join(str(ef) for ef in [20, 30, 40] + EFS[1:])
        command = [PROGRAM, "eval", index, "--users", run.users_path, "-k", str(run.k), "--ef", efs, "--json"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        points = json.loads(done.stdout)["points"]
    run.add(name, built, [{"setting": p["ef"], "recall": p["recall"], "qps": p["qps"]} for p in points])


def run_itemdex(run):
    itemdex(run, None, "itemdex")
    if run.sample_path:
        itemdex(run, run.sample_path, "itemdex, user sample")


def run_hnswlib(run):
    import hnswlib

    def sweep(name, space, items, users):
        def build():
            index = hnswlib.Index(space, items.shape[1])
            index.init_index(len(items), ef_construction=EF_CONSTRUCTION, M=M, random_seed=1)
            index.add_items(items, num_threads=CORES)
            return index

        def search(index, users, ef):
            index.set_ef(max(ef, run.k))
            return index.knn_query(users, run.k, num_threads=1)[0].astype("i8")

        run.sweep(name, build, [ef for ef in EFS if ef >= run.k], search, users)

    sweep("hnswlib, inner product", "ip", run.items, run.users)
    sweep("hnswlib, augmented", "l2", augmented(run.items), run.flat_users)


def run_faiss(run):
    import faiss

    def sweep(name, metric, items, users):
        def build():
            faiss.omp_set_num_threads(CORES)
            index = faiss.IndexHNSWFlat(items.shape[1], M, metric)
            index.hnsw.efConstruction = EF_CONSTRUCTION
            index.add(items)
            faiss.omp_set_num_threads(1)
            return index

        def search(index, users, ef):
            index.hnsw.efSearch = ef
            return index.search(users, run.k)[1]

        run.sweep(name, build, EFS, search, users)

    sweep("faiss HNSW, inner product", faiss.METRIC_INNER_PRODUCT, run.items, run.users)
    sweep("faiss HNSW, augmented", faiss.METRIC_L2, augmented(run.items), run.flat_users)


def run_usearch(run):
    from usearch.index import Index

    def build():
        index = Index(ndim=run.items.shape[1], metric="ip", dtype="f32", connectivity=M, expansion_add=EF_CONSTRUCTION)
        index.add(np.arange(len(run.items)), run.items, threads=CORES)
        return index

    def search(index, users, ef):
        index.expansion_search = ef
        keys = index.search(users, run.k, threads=1).keys.astype("i8")
        return keys.reshape(len(users), -1)

    run.sweep("usearch, inner product", build, EFS, search)


def run_scann(run):
    import scann

    # Leaves and rows reordered, as the project's documentation recommends: sqrt(rows) leaves or twice that.
    root = len(run.items) ** 0.5
    for factor in (1, 2, 4):
        leaves = int(factor * root)

        def build():
            builder = scann.scann_ops_pybind.builder(run.items, run.k, "dot_product").set_n_training_threads(CORES)
            builder = builder.tree(leaves, num_leaves_to_search=leaves // 10, training_sample_size=min(len(run.items), 250_000))
            return builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(3 * run.k).build()

        def search(index, users, setting):
            searched, reordered = setting
            rows, _ = index.search_batched(users, run.k, pre_reorder_num_neighbors=reordered, leaves_to_search=searched)
            return rows.astype("i8")

        shares = (0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3)
        settings = [(max(1, int(leaves * share)), reorder * run.k) for share in shares for reorder in (2, 4, 10, 30)]
        run.sweep(f"ScaNN, {leaves} leaves", build, settings, search)


def run_vsag(run):
    import pyvsag

    pyvsag.set_logger_off()
    parameters = {
        "base_quantization_type": "sq8",
        "use_reorder": True,
        "precise_quantization_type": "fp32",
        "max_degree": 2 * M,
        "ef_construction": EF_CONSTRUCTION,
        "build_thread_count": CORES,
    }
    options = {"dtype": "float32", "metric_type": "ip", "dim": run.items.shape[1], "index_param": parameters}

    def build():
        index = pyvsag.Index("hgraph", json.dumps(options))
        index.build(vectors=run.items, ids=range(len(run.items)), num_elements=len(run.items), dim=run.items.shape[1])
        return index

    def search(index, users, ef):
        setting = json.dumps({"hgraph": {"ef_search": ef}})
        return [np.asarray(index.knn_search(vector=user, k=run.k, parameters=setting)[0], "i8") for user in users]

    run.sweep("vsag HGraph sq8, inner product", build, [ef for ef in EFS if ef >= run.k], search)


def run_voyager(run):
    import voyager

    def build():
        index = voyager.Index(voyager.Space.InnerProduct, run.items.shape[1], M=M, ef_construction=EF_CONSTRUCTION, random_seed=1)
        index.add_items(run.items, num_threads=CORES)
        return index

    def search(index, users, ef):
        return index.query(users, run.k, num_threads=1, query_ef=ef)[0].astype("i8")

    run.sweep("voyager, inner product", build, [ef for ef in EFS if ef >= run.k], search)


def run_ngt(run):
    import ngtpy

    # The plain graph: the wheel lacks the program that makes the quantized one.
    def sweep(name, distance, items, users):
        folder = tempfile.TemporaryDirectory()

        def build():
            ngtpy.create(folder.name, items.shape[1], edge_size_for_creation=2 * M, distance_type=distance)
            index = ngtpy.Index(folder.name)
            index.batch_insert(items, num_threads=CORES)
            return index

        def search(index, users, epsilon):
            found = np.full((len(users), run.k), -1, "i8")
            for place, user in zip(found, users):
                rows = index.search(user, run.k, epsilon=epsilon, with_distance=False)
                place[: len(rows)] = rows
            return found

        run.sweep(name, build, [0.02, 0.05, 0.1, 0.15, 0.2, 0.3], search, users)
        folder.cleanup()

    sweep("NGT, inner product", "Inner Product", run.items, run.users)
    sweep("NGT, augmented", "L2", augmented(run.items), run.flat_users)


PEERS = {
    name.removeprefix("run_"): peer
    for name, peer in globals().copy().items()
    if name.startswith("run_")
}


def best_at(points, recall):
    """Queries per second at a recall, between the two points around it."""
    points = sorted(points, key=lambda point: point["recall"])
    frontier = [p for p in points if p["qps"] == max(q["qps"] for q in points if q["recall"] >= p["recall"])]
    above = next((p for p in frontier if p["recall"] >= recall), None)
    below = [p for p in frontier if p["recall"] < recall]
    if above is None or not below:
        return above and above["qps"]
    share = (recall - below[-1]["recall"]) / (above["recall"] - below[-1]["recall"])
    return float(np.exp(np.log(below[-1]["qps"]) * (1 - share) + np.log(above["qps"]) * share))


def table(results):
    recalls = (0.90, 0.95, 0.98, 0.99)
    head = ["", "build", *(f"{recall:.2f}" for recall in recalls), "highest recall"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for result in results:
        speeds = [best_at(result["points"], recall) for recall in recalls]
        top = max(result["points"], key=lambda point: (point["recall"], point["qps"]))
        cells = [result["name"], f"{result['build_s']:.1f} s", *("" if speed is None else f"{speed:,.0f}" for speed in speeds)]
        lines.append("| " + " | ".join(cells) + f" | {top['recall']:.3f} @ {top['qps']:,.0f} |")
    return "\n".join(lines) + "\n"


def plot(results, k, path):
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "itemdex"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5.5))
    for result in results:
        ours = result["name"].startswith("itemdex")
        points = sorted((p["recall"], p["qps"]) for p in result["points"] if p["recall"] >= 0.5)
        axes.plot(*zip(*points), label=result["name"], marker=".", linewidth=2.5 if ours else 1, zorder=3 if ours else 2) if points else None
    axes.set(xlabel=f"recall@{k}", ylabel="queries per second, one thread", yscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=7)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--bundled", action="store_true", help="the data in the repository")
    data.add_argument("--generated", type=int, metavar="ROWS", help="a generated set of dim 64")
    data.add_argument("--items", help="fbin or npy; with --users")
    parser.add_argument("--users", help="users to measure with")
    parser.add_argument("--sample", help="users for itemdex's build")
    parser.add_argument("--out", required=True, help="folder for peers.json, peers.md and peers.svg")
    parser.add_argument("--only", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("-k", type=int, default=100)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.bundled:
            folder = str(ROOT / "examples/completejourney")
            args.items, args.users, args.sample = (f"{folder}/{name}.npy" for name in ("items", "users_test", "users_sample"))
        elif args.generated:
            generate(folder, args.generated)
            args.items, args.users, args.sample = (f"{folder}/{name}.fbin" for name in ("items", "test", "sample"))
        elif not args.users:
            parser.error("--items needs --users")
        compare(args)


def compare(args):
    subprocess.run(["cargo", "build", "--release"], cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
    run = Run(args)
    for name in args.only:
        try:
            PEERS[name](run)
        except Exception as error:  # One peer that fails must not cost the others' results.
            print(f"{name} failed: {error!r}", flush=True)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    rows, dim = run.items.shape
    summary = {"rows": rows, "dim": dim, "users": len(run.users), "k": args.k, "results": run.results}
    (out / "peers.json").write_text(json.dumps(summary, indent=1) + "\n")
    (out / "peers.md").write_text(table(run.results))
    plot(run.results, args.k, out / "peers.svg")


if __name__ == "__main__":
    main()
