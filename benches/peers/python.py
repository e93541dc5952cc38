"""What calls from Python cost: the wheel beside the program `itemdex`, hnswlib, faiss and usearch, on one thread, in turns.

Three calls each: 1,000 users at once, one user, and one user among 1,000 items, which is mostly the way in and out. Peers take
their first effort that reaches the recall. The program answers the same from Rust: `topk` at once, `eval` one by one.
Indexes stay in --out for another run. Writes python.json and python.md there.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from environment import CORES, PROGRAM, build_program  # Goes on in the environment of the peers.

import numpy as np

from data import Data
from generate import Family, generate, write_fbin
from program import Program
from report import markdown

FEW, FEW_K, REPEATED = 1_000, 10, 10
EFFORTS = (10, 20, 50, 100, 150, 200, 300, 400, 600, 800, 1200)


class Itemdex:
    efforts = (None,)

    def __init__(self, path, items):
        import itemdex

        if not path.exists():
            itemdex.build(items, users=np.load(path.with_name("sample.npy")), out=path, model_version="peers")
        self.index = itemdex.Index.open(path)

    def search(self, users, k, effort):
        return self.index.search(users, k, threads=1).ids


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

    def search(self, users, k, effort):
        self.index.set_ef(effort)
        return self.index.knn_query(users, k, num_threads=1)[0]


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
        self.index = faiss.read_index(str(path))
        faiss.omp_set_num_threads(1)

    def search(self, users, k, effort):
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

    def search(self, users, k, effort):
        self.index.expansion_search = effort
        return self.index.search(users, k, threads=1).keys


KINDS = {"itemdex": Itemdex, "hnswlib": Hnswlib, "faiss": Faiss, "usearch": Usearch}


class Wheels:
    """An index of each package over the same items."""

    def __init__(self, folder, data, k, recall):
        self.data, self.k = data, k
        self.indexes = {name: kind(folder / f"{len(data.items)}.{name}", data.items) for name, kind in KINDS.items()}
        self.efforts, self.recalls = {}, {}
        for name, index in self.indexes.items():
            for effort in index.efforts:
                self.efforts[name] = effort
                self.recalls[name] = float(np.mean(data.recalls(self.at_once(name).astype("i8"), k)))
                if self.recalls[name] >= recall:
                    break

    def at_once(self, name):
        return self.indexes[name].search(self.data.users, self.k, self.efforts[name])

    def one_by_one(self, name):
        index, effort = self.indexes[name], self.efforts[name]
        for user in self.data.users:
            index.search(user, self.k, effort)


class Rust:
    """The program on the same index files."""

    def __init__(self, program, folder):
        self.program, self.folder = program, folder

    def at_once(self, wheels):
        """Microseconds a user. Users come several times over, for the process begins with nothing mapped."""
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:  # No disk in the time.
            users = np.tile(wheels.data.users, (REPEATED, 1))
            write_fbin(Path(folder) / "users.fbin", [users], *users.shape)
            files = ["--users", f"{folder}/users.fbin", "--out", f"{folder}/found.npy"]
            report = self.program.run("topk", self.index(wheels), *files, "-k", wheels.k, "--recall", 0.95, "--threads", 1)
        return report["seconds"] / len(users) * 1e6

    def one_by_one(self, wheels):
        asked = ["--users", wheels.data.users_path, "-k", wheels.k, "--recall", 0.95, "--ef", wheels.k]
        points = self.program.run("eval", self.index(wheels), *asked)["points"]
        return 1e6 / next(point for point in points if point.get("target"))["qps"]

    def index(self, wheels):
        return self.folder / f"{len(wheels.data.items)}.itemdex"


def microseconds(call, calls):
    begun = time.perf_counter()
    call()
    return (time.perf_counter() - begun) / calls * 1e6


def measure(many, few, rust, turns):
    """Microseconds a user: medians over turns, by what answers, of the three calls."""
    times = {name: ([], [], []) for name in ("Rust", *KINDS)}
    for turn in range(turns):
        for name, taken in times.items():
            if name == "Rust":
                took = rust.at_once(many), rust.one_by_one(many), rust.one_by_one(few)
            else:
                calls = len(many.data.users)
                cases = (lambda: many.at_once(name), lambda: many.one_by_one(name), lambda: few.one_by_one(name))
                took = [microseconds(call, calls) for call in cases]
            for times_of, one in zip(taken, took):
                times_of.append(one)
    return {name: [median(one) for one in taken] for name, taken in times.items()}


def table(times, recalls):
    ours = times["Rust"]
    rows = []
    for name, (at_once, one, among_few) in times.items():
        label = {"Rust": "itemdex, from Rust", "itemdex": "itemdex, from Python"}.get(name, name)
        recall = f"{recalls[name]:.3f}" if name in recalls else ""
        more = [f"{(at_once / ours[0] - 1) * 100:+.1f} %", f"{one - ours[1]:+.1f}", f"{among_few - ours[2]:+.1f}"] if name == "itemdex" else [""] * 3
        cells = [f"{at_once:.1f}", more[0], f"{one:.1f}", more[1], f"{among_few:.1f}", more[2]]
        rows.append([label, recall, *cells])
    return markdown(["us a user", "recall", "1,000 at once", "more", "one", "more", "one of few items", "more"], rows)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--wheel", required=True, type=Path, help="made by `maturin build --release` in bindings/python")
    parser.add_argument("--rows", type=int, default=200_000, help="of dim 64, to generate")
    parser.add_argument("-k", type=int, default=100)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--build-only", action="store_true", help="make the data and the indexes, to measure another time")
    parser.add_argument("--program", help="an itemdex to measure, in place of the one that is built")
    return parser.parse_args()


def install(wheel, folder):
    """The wheel for this process alone."""
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--target", folder, wheel]
    subprocess.run(pip, check=True)
    sys.path.insert(0, folder)


def main():
    args = arguments()
    if not args.program:
        build_program()
    args.out.mkdir(parents=True, exist_ok=True)
    if not (args.out / "items.fbin").exists():
        generate(args.out, Family(rows=args.rows))
    many = Data(*(args.out / f"{name}.fbin" for name in ("items", "test", "sample")), [args.k], args.out)
    np.save(args.out / "sample.npy", np.fromfile(args.out / "sample.fbin", "<f4", offset=8).reshape(-1, many.items.shape[1]))
    write_fbin(args.out / "few.fbin", [many.items[:FEW]], FEW, many.items.shape[1])
    few = Data(args.out / "few.fbin", many.users_path, many.users_path, [FEW_K], args.out)
    with tempfile.TemporaryDirectory() as folder:
        install(args.wheel, folder)
        many, few = Wheels(args.out, many, args.k, 0.95), Wheels(args.out, few, FEW_K, 0.95)
        if args.build_only:
            return
        times = measure(many, few, Rust(Program(args.program or PROGRAM), args.out), args.turns)
    (args.out / "python.json").write_text(json.dumps({"us": times, "recall": many.recalls, "efforts": many.efforts}, indent=1) + "\n")
    text = table(times, many.recalls)
    (args.out / "python.md").write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
