"""What calls from Python cost: the wheel beside Rust, hnswlib, faiss and usearch, in turns.

Items are of one norm, on which the peers' graphs over inner products reach the recall too. Four calls each: 1,000 users at
once, on one thread and on all cores, one user, and one user among 1,000 items, which is mostly the way in and out. Peers take
their first effort that reaches the recall. `calls.rs` is the same from Rust: a process of its own on the same files. The
fastest turn of each counts, for what else runs on a machine only adds. Indexes stay in --out for another run.
Writes python.json and python.md there.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from environment import CORES, ROOT  # Goes on in the environment of the peers.

import numpy as np

from data import Data
from generate import Family, generate, write_fbin
from report import markdown

RUST = ROOT / "target/release/examples/calls"
AT_ONCE, ON_ALL_CORES, ONE_BY_ONE = "at once 1", f"at once {CORES}", "one by one"
FEW, FEW_K = 1_000, 10
EFFORTS = (10, 20, 50, 100, 150, 200, 300, 400, 600, 800, 1200)


class Itemdex:
    efforts = (None,)

    def __init__(self, path, items):
        import itemdex

        if not path.exists():
            itemdex.build(items, users=np.load(path.with_name("sample.npy")), out=path, model_version="peers")
        self.index = itemdex.Index.open(path)

    def search(self, users, k, effort, threads=1):
        return self.index.search(users, k, threads=threads).ids


class Hnswlib:
    efforts = EFFORTS

    def __init__(self, path, items):
        import hnswlib

        self.index = hnswlib.Index("ip", items.shape[1])
        if path.exists():
            self.index.load_index(str(path))
            return
        self.index.init_index(len(items), ef_construction=200, M=16, random_seed=1)
        self.index.add_items(items)
        self.index.save_index(str(path))

    def search(self, users, k, effort, threads=1):
        self.index.set_ef(effort)
        return self.index.knn_query(users, k, num_threads=threads)[0]


class Faiss:
    efforts = EFFORTS

    def __init__(self, path, items):
        import faiss

        if not path.exists():
            faiss.omp_set_num_threads(CORES)
            index = faiss.IndexHNSWFlat(items.shape[1], 16, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = 200
            index.add(items)
            faiss.write_index(index, str(path))
        self.index, self.set_threads = faiss.read_index(str(path)), faiss.omp_set_num_threads

    def search(self, users, k, effort, threads=1):
        self.set_threads(threads)
        self.index.hnsw.efSearch = effort
        return self.index.search(users.reshape(-1, self.index.d), k)[1]


class Usearch:
    efforts = EFFORTS

    def __init__(self, path, items):
        from usearch.index import Index

        self.index = Index(ndim=items.shape[1], metric="ip", dtype="f32", connectivity=16, expansion_add=200)
        if path.exists():
            self.index.load(str(path))
            return
        self.index.add(np.arange(len(items)), items)
        self.index.save(str(path))

    def search(self, users, k, effort, threads=1):
        self.index.expansion_search = effort
        return self.index.search(users, k, threads=threads).keys


KINDS = {"itemdex": Itemdex, "hnswlib": Hnswlib, "faiss": Faiss, "usearch": Usearch}


class Wheels:
    """An index of each package over the same items."""

    def __init__(self, folder, data, k, recall):
        self.data, self.k, self.folder = data, k, folder
        self.indexes = {name: kind(self.path(name), data.items) for name, kind in KINDS.items()}
        self.efforts, self.recalls = {}, {}
        for name, index in self.indexes.items():
            for effort in index.efforts:
                self.efforts[name] = effort
                self.recalls[name] = float(np.mean(data.recalls(self.at_once(name).astype("i8"), k)))
                if self.recalls[name] >= recall:
                    break

    def path(self, name):
        return self.folder / f"{len(self.data.items)}.{name}"

    def at_once(self, name, threads=1):
        return self.indexes[name].search(self.data.users, self.k, self.efforts[name], threads)

    def one_by_one(self, name):
        index, effort = self.indexes[name], self.efforts[name]
        for user in self.data.users:
            index.search(user, self.k, effort)

    def microseconds(self, name, call):
        begun = time.perf_counter()
        self.one_by_one(name) if call == ONE_BY_ONE else self.at_once(name, 1 if call == AT_ONCE else CORES)
        return (time.perf_counter() - begun) / len(self.data.users) * 1e6


class Rust:
    """A process on the index of some wheels, which stays and searches when it is told to."""

    def __init__(self, program, wheels):
        command = [program, wheels.path("itemdex"), wheels.data.users_path, str(wheels.k)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.communicate()

    def microseconds(self, _, call):
        print(call, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())


def measure(many, few, program, turns):
    """Microseconds a user in each turn, by what answers: of the calls."""
    times = {name: ([], [], [], []) for name in ("Rust", *KINDS)}
    with Rust(program, many) as rust, Rust(program, few) as rust_few:
        asked = [*((rust, many, call) for call in (AT_ONCE, ON_ALL_CORES, ONE_BY_ONE)), (rust_few, few, ONE_BY_ONE)]
        for _ in range(turns):
            for number, (from_rust, wheels, call) in enumerate(asked):
                for name, taken in times.items():
                    asker = from_rust if name == "Rust" else wheels
                    asker.microseconds(name, call)  # Others were in the caches.
                    taken[number].append(asker.microseconds(name, call))
    return times


def table(times, recalls):
    """The fastest turns, and what Python adds to Rust."""
    head = ["us a user", "recall", "1,000 at once", f"on {CORES} threads", "one by one", "one by one of 1,000 items"]
    rust, *wheels = ([min(taken) for taken in calls] for calls in times.values())
    rows = [["itemdex from Rust", "", *map("{:.1f}".format, rust)]]
    rows += [[name, f"{recalls[name]:.3f}", *map("{:.1f}".format, took)] for name, took in zip(KINDS, wheels)]
    shares = [f"{(ours / theirs - 1) * 100:+.1f} %" for ours, theirs in zip(wheels[0][:2], rust)]
    more = [f"{ours - theirs:+.1f}" for ours, theirs in zip(wheels[0][2:], rust[2:])]
    rows.insert(2, ["what Python adds", "", *shares, *more])
    return markdown(head, rows)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--wheel", required=True, type=Path, help="made by `maturin build --release` in bindings/python")
    parser.add_argument("--rows", type=int, default=100_000, help="of dim 64, to generate")
    parser.add_argument("-k", type=int, default=100)
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--build-only", action="store_true", help="make the data and the indexes, to measure another time")
    parser.add_argument("--program", help="calls.rs as a program, in place of the one that is built")
    return parser.parse_args()


def install(wheel, folder):
    """The wheel for this process alone."""
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--target", folder, wheel]
    subprocess.run(pip, check=True)
    sys.path.insert(0, folder)


def main():
    args = arguments()
    if not args.program:
        subprocess.run(["cargo", "build", "--release", "--example", "calls"], cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
    args.out.mkdir(parents=True, exist_ok=True)
    if not (args.out / "items.fbin").exists():
        generate(args.out, Family(rows=args.rows, unit=True, norms=0))
    many = Data(*(args.out / f"{name}.fbin" for name in ("items", "test", "sample")), [args.k], args.out)
    np.save(args.out / "sample.npy", np.fromfile(args.out / "sample.fbin", "<f4", offset=8).reshape(-1, many.items.shape[1]))
    write_fbin(args.out / "few.fbin", [many.items[:FEW]], FEW, many.items.shape[1])
    few = Data(args.out / "few.fbin", many.users_path, many.users_path, [FEW_K], args.out)
    with tempfile.TemporaryDirectory() as folder:
        install(args.wheel, folder)
        many, few = Wheels(args.out, many, args.k, 0.95), Wheels(args.out, few, FEW_K, 0.95)
        if args.build_only:
            return
        times = measure(many, few, args.program or RUST, args.turns)
    (args.out / "python.json").write_text(json.dumps({"us": times, "recall": many.recalls, "efforts": many.efforts}, indent=1) + "\n")
    text = table(times, many.recalls)
    (args.out / "python.md").write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
