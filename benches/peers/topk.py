"""The best items of many users at once, on all cores: `itemdex topk` beside faiss's flat index, which multiplies matrices by BLAS.

This is the nightly job. Both read their items beforehand; both are timed from the users in memory, or in a file, to all answers.
Writes topk.json and topk.md to --out.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from environment import CORES, PROGRAM, build_program  # Goes on in the environment of the peers.

import numpy as np

from data import read_vectors
from generate import Family, generate, write_fbin
from program import Program
from report import markdown


def itemdex(args, users, items_path, sample_path, folder):
    """For each recall the seconds and the rows found."""
    index, users_path = f"{folder}/topk.itemdex", f"{folder}/topk.fbin"
    write_fbin(Path(users_path), [users], *users.shape)
    program = Program(args.program or PROGRAM)
    program.run("build", "--items", items_path, "--users", sample_path, "--plans", "partitions", "--model-version", "peers", "--out", index)
    for recall in (1, 0.99, 0.95):
        out = f"{folder}/topk.npy"
        report = program.run("topk", index, "--users", users_path, "-k", args.k, "--recall", recall, "--out", out)
        yield f"itemdex, recall {recall}", report["seconds"], np.load(out)["id"].astype("i8")


def faiss_flat(args, users, items):
    import faiss

    faiss.omp_set_num_threads(CORES)
    index = faiss.IndexFlatIP(items.shape[1])
    index.add(items)
    began = time.perf_counter()
    _, rows = index.search(users, args.k)
    yield "faiss IndexFlatIP", time.perf_counter() - began, rows


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of dim 64 to generate")
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("-k", type=int, default=100)
    parser.add_argument("--data", metavar="DIR", help="a folder with items.fbin and sample.fbin, in place of generating them")
    parser.add_argument("--out", required=True, help="folder for the results")
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
            generate(folder, Family(rows=args.rows, sample=args.users + args.rows // 10))
        items_path, sample_path = (f"{args.data or folder}/{name}.fbin" for name in ("items", "sample"))
        items, users = read_vectors(items_path), read_vectors(sample_path)[: args.users]
        measured = [*faiss_flat(args, users, items), *itemdex(args, users, items_path, sample_path, folder)]
    exact, seconds = measured[0][2], measured[0][1]
    rows, results = [], []
    for name, time_taken, found in measured:
        recall = np.mean([len(np.intersect1d(a, b)) for a, b in zip(exact, found)]) / exact.shape[1]
        results.append({"name": name, "seconds": time_taken, "recall": recall})
        rows.append([name, f"{recall:.4f}", f"{time_taken:.2f} s", f"{len(users) / time_taken:,.0f}", f"{seconds / time_taken:.1f}"])
    table = markdown(["", "recall", "time", "users a second", "times faiss"], rows)
    (out / "topk.json").write_text(json.dumps({"users": len(users), "rows": len(items), "k": args.k, "results": results}, indent=1) + "\n")
    (out / "topk.md").write_text(table)
    print(table, end="")


if __name__ == "__main__":
    main()
