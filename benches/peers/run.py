"""itemdex and its peers on the same data, in one run: recall@k against queries per second, one thread.

Builds use all cores, once for all k. Each peer runs at a sweep of its own settings; each point is the median of three passes
over the test users, which no build has seen, batched where the peer has a batched call. Writes peers.json, peers.md and a plot
for each k to --out. The first run makes a virtual environment with the packages of requirements.txt under target/.
"""

import argparse
import json
import tempfile
from pathlib import Path

from environment import PROGRAM, ROOT, build_program  # Goes on in the environment of the peers.

from data import Data
from generate import SETS, generate
from measure import measure
from peers import PEERS
from program import Program
from report import best_at, plot, table


def run_itemdex(program, data, folder):
    """The results of a build without and with the sample of users, by every plan."""
    results, failures = [], []
    samples = {"itemdex": None} | ({"itemdex, user sample": data.sample_path} if data.sample_path else {})
    for name, sample in samples.items():
        try:
            index = f"{folder}/peers.itemdex"
            built = program.build(data, sample, index)
        except RuntimeError as error:
            failures.append(f"{name}: {error}")
            continue
        plans, failed = program.every_plan(index, data)
        failures += [f"{name}, {one}" for one in failed]
        for plan, sweeps in plans.items():
            full_name = f"{name}, {plan}" if plan else name
            results += [{"name": full_name, "build_s": built["seconds"], "k": int(k), "points": sweeps[k]} for k in sweeps]
    return results, failures


def compare(args, data, folder):
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    rows, dim = data.items.shape
    summary = {"rows": rows, "dim": dim, "users": len(data.users), "ks": data.ks, "results": [], "failures": []}
    for name in args.only:
        if name == "itemdex":
            results, failures = run_itemdex(Program(args.program), data, folder)
        else:
            results, failures = measure(PEERS[name], data, args.build_limit, out / "peers.log")
        for result in results:
            speeds = (f"{recall}: {best_at(result['points'], recall) or 0:,.0f}/s" for recall in (0.95, 0.99))
            print(f"{result['name']}, k {result['k']}: built in {result['build_s']:.1f} s,", *speeds, flush=True)
        for one in failures:
            print(f"{name} failed: {one}", flush=True)
        summary["results"] += results
        summary["failures"] += [f"{name}: {one}" for one in failures]
        (out / "peers.json").write_text(json.dumps(summary, indent=1) + "\n")
    tables = [f"recall@{k}\n\n{table(summary['results'], k)}" for k in data.ks]
    (out / "peers.md").write_text("\n".join(tables + [f"- {one}\n" for one in summary["failures"]]))
    for k in data.ks:
        plot(summary["results"], k, out / f"peers-{k}.svg")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--bundled", action="store_true", help="the data in the repository")
    data.add_argument("--generated", type=int, metavar="ROWS", help="a generated set of dim 64")
    data.add_argument("--set", choices=SETS, help="a generated set of the gauntlet")
    data.add_argument("--items", help="fbin or npy; with --users")
    parser.add_argument("--users", help="users to measure with")
    parser.add_argument("--sample", help="users for itemdex's build")
    parser.add_argument("--most-users", type=int, metavar="N", help="measure with the first N users only")
    parser.add_argument("--out", required=True, help="folder for the results")
    parser.add_argument("--only", nargs="*", choices=["itemdex", *PEERS], default=["itemdex", *PEERS])
    parser.add_argument("-k", type=int, nargs="+", default=[100])
    parser.add_argument("--build-limit", type=float, default=900, metavar="SECONDS", help="for a peer's build, and for one of its points")
    parser.add_argument("--program", help="an itemdex to measure, in place of the one that is built")
    args = parser.parse_args()
    if args.items and not args.users:
        parser.error("--items needs --users")
    return args


def paths(args, folder):
    """The files of items, users and the sample, generated into the folder if need be."""
    if args.bundled:
        return [ROOT / f"examples/completejourney/{name}.npy" for name in ("items", "users_test", "users_sample")]
    if args.items:
        return args.items, args.users, args.sample
    family = SETS[args.set] if args.set else SETS["plain-1m"].of(rows=args.generated)
    generate(folder, family)
    return [f"{folder}/{name}.fbin" for name in ("items", "test", "sample")]


def main():
    args = arguments()
    if not args.program:
        build_program()
        args.program = PROGRAM
    with tempfile.TemporaryDirectory() as folder:
        compare(args, Data(*paths(args, folder), args.k, folder, args.most_users), folder)


if __name__ == "__main__":
    main()
