"""Filtered searches beside faiss: for each filter the fastest setting that reaches the recall.

    python3 benches/peers/filter.py FOLDER [--k 100] [--recall 0.95] [--out table.md]

FOLDER has items.fbin, sample.fbin and test.fbin, as generate.py writes them. The columns and all indexes are
made there once and kept. One thread, one query at a time. Filters: random ones of every selectivity, the
topic nearest to the user and one far away, ranges of upload time, conjunctions of two and three, and lists of
seen items out of each user's exact best 5,000. A peer that reaches the recall at no setting has no speed.
"""

from environment import CORES, PROGRAM  # First: it goes on in the virtual environment.

import argparse
import time
from pathlib import Path

import faiss
import numpy as np

from data import lowered, read_vectors
from generate import write_fbin
from program import Program

M, EF_CONSTRUCTION = 16, 200
TOPICS, SECONDS = 50, 30 * 86_400
RANDOM = (0.9, 0.5, 0.2, 0.05, 0.01, 0.001, 0.0001)
SEEN, BEST = 1_000, 5_000
EFS, PROBES = (100, 200, 400, 800, 1600), (4, 8, 16, 32, 64, 128, 256)
SLOW = 0.05  # A setting that takes so many seconds a query is the last that is tried.


class World:
    """Items with columns, users, and the indexes over them."""

    def __init__(self, folder, users):
        self.folder = folder
        self.items = read_vectors(folder / "items.fbin")
        self.users = read_vectors(folder / "test.fbin")[:users]
        random = np.random.default_rng(1)
        count = len(self.items)
        self.draw = random.permutation(count)
        self.uploaded = 1_700_000_000 + random.integers(0, SECONDS, count)
        self.centres = self.items[random.choice(count, TOPICS, replace=False)]
        self.centres /= np.linalg.norm(self.centres, axis=1, keepdims=True)
        self.topic = np.concatenate([(block @ self.centres.T).argmax(1) for block in np.array_split(self.items, 50)])
        self.of_users = np.argsort(-(self.users @ self.centres.T), axis=1)

    def index(self, program):
        path = self.folder / "filtered.itemdex"
        if not path.exists():
            columns = []
            for name, kind, values in (("draw", "number", self.draw), ("uploaded", "number", self.uploaded), ("topic", "tag", self.topic)):
                np.save(self.folder / f"{name}.npy", values.astype("i8"))
                columns += ["--column", f"{name}={self.folder / name}.npy:{kind}"]
            sample = self.folder / "sample.fbin"
            program.run("build", "--items", self.folder / "items.fbin", "--users", sample, "--model-version", "peers",
                        "--plans", "partitions", "--out", path, *columns)
        return path

    def peers(self, names):
        """Each peer's index by name, with its settings and what asks it."""
        dim = self.items.shape[1]

        def made(name, make):
            path = self.folder / f"{name}.faiss"
            if not path.exists():
                faiss.omp_set_num_threads(CORES)
                faiss.write_index(make(), str(path))
            return faiss.read_index(str(path))

        def flat():
            index = faiss.IndexFlatIP(dim)
            index.add(self.items)
            return index

        def ivf():
            index = faiss.index_factory(dim, f"IVF{int(2 * len(self.items) ** 0.5)},Flat", faiss.METRIC_INNER_PRODUCT)
            index.train(self.items)
            index.add(self.items)
            return index

        def hnsw():
            index = faiss.IndexHNSWFlat(dim, M, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = EF_CONSTRUCTION
            index.add(self.items)
            return index

        if "Flat" in names:
            yield "faiss Flat", made("flat", flat), [None], lambda selector, _: faiss.SearchParameters(sel=selector)
        if "IVF" in names:
            yield "faiss IVF", made("ivf", ivf), PROBES, lambda selector, n: faiss.SearchParametersIVF(sel=selector, nprobe=n)
        if "HNSW" in names:
            yield "faiss HNSW", made("hnsw", hnsw), EFS, lambda selector, n: faiss.SearchParametersHNSW(sel=selector, efSearch=n)


class Case:
    """A filter: which rows it keeps for which users. `groups` are (text or None, rows kept or per user, users)."""

    def __init__(self, name, groups):
        self.name, self.groups = name, groups


def cases(world):
    everyone = np.arange(len(world.users))
    count = len(world.items)
    for share in RANDOM:
        most = round(share * count)
        yield Case(f"random, {share:g}", [(f"draw < {most}", world.draw < most, everyone)])
    week = 1_700_000_000 + SECONDS - 7 * 86_400
    for name, extra, also in (
        ("", "", True),
        (" and half of all", f" and draw < {count // 2}", world.draw < count // 2),
        (" and half of all, last week", f" and draw < {count // 2} and uploaded >= {week}", (world.draw < count // 2) & (world.uploaded >= week)),
    ):
        yield Case(f"nearest topic{name}", list(by_topic(world, 0, extra, also)))
    yield Case("far topic", list(by_topic(world, TOPICS * 3 // 4, "", True)))
    yield Case("uploaded in the last week", [(f"uploaded >= {week}", world.uploaded >= week, everyone)])
    yield Case(f"{SEEN} seen of the best {BEST}", [(None, None, everyone)])


def by_topic(world, place, extra, also):
    """A group for each of the topics that stand at this place for some users."""
    chosen = world.of_users[:, place]
    for topic in np.unique(chosen):
        yield f"topic = {topic}{extra}", (world.topic == topic) & also, np.nonzero(chosen == topic)[0]


def seen_lists(world):
    random = np.random.default_rng(2)
    best = [np.argpartition(-(world.items @ user), BEST)[:BEST] for user in world.users]
    return [random.choice(rows, SEEN, replace=False) for rows in best]


def exact(world, kept, users, k):
    """The exact best k of the rows kept for each user, and the last one's score."""
    for number in users:
        rows = np.nonzero(kept if kept.ndim == 1 else kept[number])[0]
        scores = world.items[rows] @ world.users[number]
        best = np.argsort(-scores)[:k]
        yield rows[best], scores[best]


def recall_of(world, user, answer, scores):
    answer = answer[answer >= 0]
    if not len(scores):
        return 1.0
    return min(len(scores), (world.items[answer] @ world.users[user] >= lowered(scores[-1])).sum()) / len(scores)


def ask_peer(world, case, kept_of, k, target, peer):
    """The fastest queries a second of a peer that reach the target, and the recall."""
    _, index, settings, parameters = peer
    faiss.omp_set_num_threads(1)
    best = (0.0, 0.0)
    for setting in settings:
        seconds, recalls = [], []
        for kept, users in kept_of:
            shared = None
            for user in users:
                row = kept if kept.ndim == 1 else kept[user]
                if shared is None or kept.ndim == 2:
                    bits = np.packbits(row, bitorder="little")
                    shared = faiss.IDSelectorBitmap(bits)
                asked = time.perf_counter()
                _, found = index.search(world.users[user : user + 1], k, params=parameters(shared, setting))
                seconds.append(time.perf_counter() - asked)
                recalls.append(recall_of(world, user, found[0], case.truth[user][1]))
        recall = np.mean(recalls)
        if recall >= target:
            return 1 / np.median(seconds), recall
        best = max(best, (0.0, recall), key=lambda one: one[1])
        if np.median(seconds) > SLOW:
            break
    return best


def ask_itemdex(world, program, index, case, k, target):
    """Queries a second by the median, the mean recall, and the plan."""
    times, recalls, plans = [], [], set()
    for number, (text, _, users) in enumerate(case.groups):
        path = world.folder / "asked.fbin"
        write_fbin(path, [world.users[users]], *world.users[users].shape)
        shown = ["--filter", text] if text else ["--deny", world.folder / "seen.npy"]
        measured = program.run("eval", index, "--users", path, "-k", k, "--recall", target, *shown)["points"]
        measured = [one for one in measured if one.get("target")][0]
        times.append((measured["p50_us"], len(users)))
        recalls.append((measured["recall"], len(users)))
        plans.add(measured["plan"])
    mean = lambda pairs: sum(value * weight for value, weight in pairs) / sum(weight for _, weight in pairs)
    return 1e6 / mean(times), mean(recalls), ", ".join(sorted(plans))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--itemdex", default=PROGRAM, help="the program")
    parser.add_argument("--build-only", action="store_true", help="make the indexes and stop")
    parser.add_argument("--peers", default="Flat,IVF,HNSW", help="which of faiss's indexes")
    parser.add_argument("--case", default="", help="only the cases whose names have this in them")
    args = parser.parse_args()

    world, program = World(args.folder, args.users), Program(args.itemdex)
    index, peers = world.index(program), list(world.peers(args.peers.split(",")))
    if args.build_only:
        return
    print("| filter | keeps | itemdex | recall | plan | " + " | ".join(peer[0] for peer in peers) + " | times the best |")
    print("|---|---:|---:|---:|---|" + "---:|" * (len(peers) + 1))
    for case in cases(world):
        if args.case not in case.name:
            continue
        if case.groups[0][0] is None:
            lists = seen_lists(world)
            np.save(world.folder / "seen.npy", np.array(lists).astype("i8"))
            kept = np.ones((len(world.users), len(world.items)), bool)
            for row, seen in zip(kept, lists):
                row[seen] = False
            case.groups = [(None, kept, case.groups[0][2])]
        kept_of = [(kept, users) for _, kept, users in case.groups]
        case.truth = {}
        for kept, users in kept_of:
            case.truth.update(zip(users, exact(world, kept, users, args.k)))
        keeps = np.mean([kept.mean() for kept, _ in kept_of])
        qps, recall, plan = ask_itemdex(world, program, index, case, args.k, args.recall)
        others = [ask_peer(world, case, kept_of, args.k, args.recall, peer) for peer in peers]
        shown = [f"{speed:,.0f}" if speed else f"({reached:.2f})" for speed, reached in others]
        fastest = max(speed for speed, _ in others)
        times = f"{qps / fastest:.1f}" if fastest else "none reaches it"
        print(f"| {case.name} | {keeps:.4f} | {qps:,.0f} | {recall:.3f} | {plan} | {' | '.join(shown)} | {times} |", flush=True)


if __name__ == "__main__":
    main()
