"""The gauntlet: every set of generate.py built and measured, itemdex against ScaNN and against its own best fixed augmentation.

Writes one JSON file a set to --out, and from all of them gauntlet.md, after each set. What stands there is not measured again, so
that a run goes on where another stopped; --again measures the named contenders anew, beside what stands of the others.
"""

import argparse
import json
import tempfile
from pathlib import Path

from environment import PROGRAM, build_program  # Goes on in the environment of the peers.

from data import Data
from generate import SETS, generate
from measure import failure, measure
from peers import PEERS
from program import Program
from report import best_at, markdown, number

KS = (10, 100, 1000)
AUGMENTATIONS = (0.1, 0.3, 0.5, 0.7, 1.0)
ASKED = (0.9, 0.95, 0.99)


def itemdex(program, data, folder, args):
    """The default build with the sample of users, and its points by every plan."""
    index = f"{folder}/gauntlet.itemdex"
    built = program.build(data, data.sample_path, index)
    plans, failures = program.every_plan(index, data)
    return {"build_s": built["seconds"], "linked": built["linked"], "plans": plans, "failures": failures}


def augmentations(program, data, folder, args):
    """The points of walks at recall@100 in builds of a fixed augmentation, and the rows that each had to repair."""
    index, builds = f"{folder}/fixed.itemdex", {}
    for weight in AUGMENTATIONS:
        linked = program.build(data, data.sample_path, index, "--augmentation", weight)["linked"]
        points = program.eval(index, data, 100, "graph" if "graph" in program.plans() else "")
        builds[str(weight)] = {"linked": linked, "points": points}
    return {"builds": builds}


def contender(name, program, data, folder, args):
    if name in PEERS:
        results, failures = measure(PEERS[name], data, args.build_limit, Path(args.out) / "peers.log")
        return {"results": results, "failures": failures}
    try:
        return {"itemdex": itemdex, "augmentations": augmentations}[name](program, data, folder, args)
    except Exception as error:
        return {"failures": [failure(error)]}


def measure_set(name, program, args):
    """Measures the contenders of which nothing stands, or who are to be measured again."""
    file = Path(args.out) / f"{name}.json"
    stands = json.loads(file.read_text()) if file.exists() else {}
    missing = [one for one in args.contenders if stands.get(one, {}).keys() <= {"failures"} or one in args.again]
    if not missing:
        return
    with tempfile.TemporaryDirectory() as folder:
        generate(folder, SETS[name].of(rows=args.rows))
        data = Data(*(f"{folder}/{part}.fbin" for part in ("items", "test", "sample")), args.k, folder)
        stands["rows"], stands["dim"] = data.items.shape
        for one in missing:
            stands[one] = contender(one, program, data, folder, args)
            print(f"{name}: {one}", *stands[one].get("failures", []), sep="\n  ", flush=True)
            file.write_text(json.dumps(stands, indent=1) + "\n")


def table(out, ks):
    head = ["set", "rows", "dim", "k", "itemdex 0.95", "0.99", "plan", "ScaNN 0.95", "0.99", "times 0.95", "0.99", "best peer 0.95"]
    head += ["19 in 20", *(f"asked {asked}" for asked in ASKED), "walks to best fixed", "linked", "build", "ScaNN's"]
    rows = []
    for name in SETS:
        file = Path(out) / f"{name}.json"
        if file.exists():
            stands = json.loads(file.read_text())
            rows += [row(name, stands, k) for k in ks if str(k) in stands.get("itemdex", {}).get("plans", {}).get("", {})]
    return markdown(head, rows)


def row(name, stands, k):
    ours = stands["itemdex"]
    points = ours["plans"][""][str(k)]
    asked = {point["asked"]: point for point in points if point["asked"]}
    scann = of_peer(stands, "scann", k)
    speeds = [(best_at(points, recall), best_at(scann, recall)) for recall in (0.95, 0.99)]
    times = [our / their if our and their else None for our, their in speeds]
    peers = {peer: best_at(of_peer(stands, peer, k), 0.95) for peer in PEERS}
    best = max(peers, key=lambda peer: peers[peer] or 0)
    return [
        name,
        number(stands["rows"], ","),
        str(stands["dim"]),
        str(k),
        *(number(our) for our, _ in speeds),
        asked[0.95].get("plan", ""),
        *(number(their) for _, their in speeds),
        *(number(one, ".2f") for one in times),
        f"{best} {peers[best]:,.0f}" if peers[best] else "",
        number(asked[0.95].get("recall_p5"), ".3f"),
        *(number(asked[one]["recall"], ".3f") for one in ASKED),
        to_best_fixed(stands) if k == 100 else "",
        f"{ours['linked'] / stands['rows']:.2%}",
        f"{ours['build_s']:.1f} s",
        " / ".join(f"{build:.1f} s" for build in builds(stands, "scann")),
    ]


def of_peer(stands, peer, k):
    """The points of all variants of a peer together."""
    results = stands.get(peer, {}).get("results", [])
    return [point for result in results if result["k"] == k for point in result["points"]]


def builds(stands, peer):
    return {result["name"]: result["build_s"] for result in stands.get(peer, {}).get("results", [])}.values()


def to_best_fixed(stands):
    """How fast the default build's walks are at recall@100 of 0.95, as a share of those of the best fixed augmentation."""
    plans = stands["itemdex"]["plans"]
    ours = best_at(plans.get("graph", plans[""])["100"], 0.95)
    fixed = stands.get("augmentations", {}).get("builds", {})
    speeds = {weight: best_at(build["points"], 0.95) for weight, build in fixed.items()}
    best = max(speeds, key=lambda weight: speeds[weight] or 0, default=None)
    return f"{(ours or 0) / speeds[best]:.2f} of {best}" if best and speeds[best] else ""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, help="folder for the results")
    parser.add_argument("--sets", nargs="*", choices=SETS, default=list(SETS))
    parser.add_argument("--quick", action="store_true", help="the sets of 10^5 rows only")
    parser.add_argument("--rows", type=int, help="of every set, to try the script")
    parser.add_argument("-k", type=int, nargs="+", default=KS)
    contenders = ["itemdex", "augmentations", *PEERS]
    parser.add_argument("--contenders", nargs="*", choices=contenders, default=["itemdex", "augmentations", "scann"])
    parser.add_argument("--again", nargs="*", choices=contenders, default=[], help="measure these though results of theirs stand")
    parser.add_argument("--build-limit", type=float, default=600, metavar="SECONDS", help="for a peer's build, and for one of its points")
    parser.add_argument("--program", help="an itemdex to measure, in place of the one that is built")
    args = parser.parse_args()
    if not args.program:
        build_program()
    program = Program(args.program or PROGRAM)
    if "augmentations" in args.contenders and not program.has("build", "--augmentation"):
        print("no fixed augmentations: this itemdex has no build --augmentation")
        args.contenders.remove("augmentations")
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    for name in args.sets:
        if not (args.quick and SETS[name].rows > 100_000):
            measure_set(name, program, args)
            (out / "gauntlet.md").write_text(table(out, args.k))
    print(table(out, args.k), end="")


if __name__ == "__main__":
    main()
