"""Filtered searches: itemdex beside faiss, qdrant edge and usearch, on the same rows, filters and users, in one run, on one thread.

Each contender runs at a sweep of its settings, and the fastest one that reaches the recall counts. faiss takes the users of a
filter in one batch with a bitmap that is made beforehand; qdrant takes conditions over payloads that are indexed; usearch, which
filters from C++ and Rust only, takes a closure that looks at a byte of each row, by the program in usearch/; itemdex takes the filter
as text, by `itemdex eval`. The filters: random ones, the topic nearest to the user and a far one, a range of upload time,
conjunctions of two and three, and items seen by a user, out of the best for him. Writes filter.json and filter.md to --out, and keeps
the data and indexes there for another run.
"""

import argparse
import json
import operator
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from environment import CORES, HERE, PROGRAM, ROOT, build_program  # Goes on in the environment of the peers.

import numpy as np

from data import lowered, read_vectors
from generate import SETS, generate, write_fbin
from program import Program
from report import markdown, number

TOPICS, DAY, DAYS, START = 50, 86_400, 30, 1_700_000_000
SHARES = (0.9, 0.5, 0.2, 0.05, 0.01, 0.001, 0.0001)
SEEN, BEST = 1_000, 5_000
RECALLS = (0.9, 0.95, 0.97, 0.99)
SLOW = 0.05  # A setting that takes so many seconds a query is the last one tried.
OPERATORS = {"<": operator.lt, ">=": operator.ge, "=": operator.eq}


@dataclass(frozen=True)
class Condition:
    column: str
    operator: str
    value: int

    def __str__(self):
        return f"{self.column} {self.operator} {self.value}"


@dataclass
class Group:
    """Users who ask with the same filter: `kept` are the rows they may see, without those that each of them has `seen`."""

    users: np.ndarray
    kept: np.ndarray
    conditions: list
    seen: np.ndarray | None = None  # A row for each user.
    last: list = field(default_factory=list)  # The score that the k best reach, for each user.
    matching: list = field(default_factory=list)


class World:
    """Items with three columns, and users."""

    def __init__(self, folder, rows, users):
        if not (folder / "items.fbin").exists():
            generate(folder, SETS["plain-1m"].of(rows=rows))
        self.folder, self.items = folder, read_vectors(folder / "items.fbin")
        self.users = read_vectors(folder / "test.fbin")[:users]
        random, count = np.random.default_rng(1), len(self.items)
        centres = self.items[random.choice(count, TOPICS, replace=False)]
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        topic = np.concatenate([(block @ centres.T).argmax(1) for block in np.array_split(self.items, 50)])
        uploaded = START + random.integers(0, DAYS * DAY, count)
        self.columns = {"draw": random.permutation(count), "uploaded": uploaded, "topic": topic}
        self.near = np.argsort(-(self.users @ centres.T), axis=1)  # Topics of each user, the nearest first.

    def group(self, users, *conditions, seen=None):
        kept = np.ones(len(self.items), bool)
        for one in conditions:
            kept &= OPERATORS[one.operator](self.columns[one.column], one.value)
        return Group(users, kept, list(conditions), seen)

    def cases(self):
        everyone, count = np.arange(len(self.users)), len(self.items)
        for share in SHARES:
            yield f"random, {share:g}", [self.group(everyone, Condition("draw", "<", round(share * count)))]
        half = Condition("draw", "<", count // 2)
        week = Condition("uploaded", ">=", START + (DAYS - 7) * DAY)
        yield "the last week", [self.group(everyone, week)]
        yield "nearest topic", self.by_topic(0)
        yield "nearest topic and a random half", self.by_topic(0, half)
        yield "nearest topic, a random half, the last week", self.by_topic(0, half, week)
        yield "far topic", self.by_topic(TOPICS * 3 // 4)
        random = np.random.default_rng(2)
        best = [np.argpartition(-(self.items @ user), BEST)[:BEST] for user in self.users]
        seen = np.array([random.choice(rows, SEEN, replace=False) for rows in best])
        yield f"all but {SEEN:,} seen of the best {BEST:,}", [self.group(everyone, seen=seen)]

    def by_topic(self, place, *also):
        """A group for each of the topics that stand at this place for some users."""
        chosen = self.near[:, place]
        return [self.group(np.nonzero(chosen == one)[0], Condition("topic", "=", int(one)), *also) for one in np.unique(chosen)]

    def solve(self, group, k):
        """Finds the exact answer of each user of a group."""
        for at, user in enumerate(group.users):
            kept = self.may_see(group, at)
            scores = self.items[kept] @ self.users[user]
            group.matching.append(len(scores))
            group.last.append(np.partition(scores, -k)[-k] if len(scores) > k else -np.inf)

    def may_see(self, group, at):
        if group.seen is None:
            return group.kept
        kept = group.kept.copy()
        kept[group.seen[at]] = False
        return kept

    def recalls(self, group, found, k):
        """The recall@k of each user of a group. What a user may not see counts for nothing."""
        for at, rows in enumerate(found):
            rows = np.unique([row for row in rows if row >= 0]).astype("i8")
            rows = rows[self.may_see(group, at)[rows]]
            good = self.items[rows] @ self.users[group.users[at]] >= lowered(group.last[at])
            yield min(k, good.sum()) / max(1, min(k, group.matching[at]))


class Itemdex:
    name, settings = "itemdex", RECALLS

    def __init__(self, world, program):
        self.world, self.program, self.path = world, program, world.folder / "filter.itemdex"
        if not self.path.exists():
            columns = []
            for name, values in world.columns.items():
                np.save(world.folder / f"{name}.npy", values.astype("i8"))
                kind = "tag" if name == "topic" else "number"
                columns += ["--column", f"{name}={world.folder / name}.npy:{kind}"]
            files = ["--items", world.folder / "items.fbin", "--users", world.folder / "sample.fbin", "--out", self.path]
            program.run("build", *files, "--model-version", "peers", "--plans", "partitions", *columns)

    def measure(self, group, k, recall):
        """Seconds a user, and recalls; `eval` measures them by the exact answers of the index."""
        users, folder = self.world.users[group.users], self.world.folder
        write_fbin(folder / "asked.fbin", [users], *users.shape)
        shown = ["--filter", " and ".join(map(str, group.conditions))] if group.conditions else []
        if group.seen is not None:
            np.save(folder / "seen.npy", group.seen.astype("i8"))
            shown += ["--deny", folder / "seen.npy"]
        asked = self.program.run("eval", self.path, "--users", folder / "asked.fbin", "-k", k, "--recall", recall, *shown)
        measured = next(one for one in asked["points"] if one.get("target"))
        return len(users) / measured["qps"], [measured["recall"]] * len(users)


class Faiss:
    """An index of faiss, by its name in `KINDS`; its rows are the ids."""

    def __init__(self, world, kind):
        import faiss

        self.faiss, self.world, self.kind = faiss, world, kind
        self.name, self.settings, factory = {
            "flat": ("faiss Flat", (None,), "Flat"),
            "ivf": ("faiss IVF", (4, 8, 16, 32, 64, 128, 256), f"IVF{int(2 * len(world.items) ** 0.5)},Flat"),
            "hnsw": ("faiss HNSW", (100, 200, 400, 800, 1600), "HNSW16,Flat"),
        }[kind]
        path = world.folder / f"{kind}.faiss"
        if not path.exists():
            faiss.omp_set_num_threads(CORES)
            index = faiss.index_factory(world.items.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
            if kind == "hnsw":
                index.hnsw.efConstruction = 200
            index.train(world.items)
            index.add(world.items)
            faiss.write_index(index, str(path))
        self.index = faiss.read_index(str(path))
        faiss.omp_set_num_threads(1)

    def measure(self, group, k, setting):
        users, found, seconds = self.world.users[group.users], [], 0
        batches = [slice(None)] if group.seen is None else [slice(at, at + 1) for at in range(len(users))]
        for at, batch in enumerate(batches):
            bits = np.packbits(self.world.may_see(group, at), bitorder="little")
            parameters = self.parameters(self.faiss.IDSelectorBitmap(bits), setting)
            started = time.perf_counter()
            found.extend(self.index.search(users[batch], k, params=parameters)[1])
            seconds += time.perf_counter() - started
        return seconds, list(self.world.recalls(group, found, k))

    def parameters(self, selector, setting):
        match self.kind:
            case "flat":
                return self.faiss.SearchParameters(sel=selector)
            case "ivf":
                return self.faiss.SearchParametersIVF(sel=selector, nprobe=setting)
            case "hnsw":
                return self.faiss.SearchParametersHNSW(sel=selector, efSearch=setting)


class Qdrant:
    name, settings = "qdrant edge", (100, 200, 400, 800, 1600)

    def __init__(self, world):
        import qdrant_edge as qdrant

        self.qdrant, self.world, folder = qdrant, world, world.folder / "qdrant"
        if folder.exists():
            self.shard = qdrant.EdgeShard.load(str(folder))
            return
        vectors = qdrant.EdgeVectorParams(world.items.shape[1], qdrant.Distance.Dot)
        graph = qdrant.HnswIndexConfig(16, 200, 10_000)
        config = qdrant.EdgeConfig(vectors={"item": vectors}, hnsw_config=graph, max_search_threads=1)
        folder.mkdir()
        self.shard = qdrant.EdgeShard.create(str(folder), config)
        for name in world.columns:
            self.shard.update(qdrant.UpdateOperation.create_field_index(name, qdrant.PayloadSchemaType.Integer))
        for block in np.array_split(np.arange(len(world.items)), max(1, len(world.items) // 5_000)):
            points = [qdrant.Point(int(row), {"item": world.items[row].tolist()}, self.payload(row)) for row in block]
            self.shard.update(qdrant.UpdateOperation.upsert_points(points))
        self.shard.optimize()
        self.shard.flush()

    def payload(self, row):
        return {name: int(values[row]) for name, values in self.world.columns.items()}

    def condition(self, one):
        match one.operator:
            case "=":
                return self.qdrant.FieldCondition(one.column, match=self.qdrant.MatchValue(one.value))
            case "<":
                return self.qdrant.FieldCondition(one.column, range=self.qdrant.RangeFloat(lt=one.value))
            case ">=":
                return self.qdrant.FieldCondition(one.column, range=self.qdrant.RangeFloat(gte=one.value))

    def measure(self, group, k, ef):
        found, seconds = [], 0
        for at, user in enumerate(group.users):
            without = [self.qdrant.HasIdCondition({int(row) for row in group.seen[at]})] if group.seen is not None else None
            shown = self.qdrant.Filter(must=[self.condition(one) for one in group.conditions] or None, must_not=without)
            embedding = self.world.users[user].tolist()
            query = self.qdrant.Query.Nearest(embedding, using="item")
            request = self.qdrant.SearchRequest(query, k, filter=shown, params=self.qdrant.SearchParams(hnsw_ef=ef))
            started = time.perf_counter()
            answer = self.shard.search(request)
            seconds += time.perf_counter() - started
            found.append([point.id for point in answer])
        return seconds, list(self.world.recalls(group, found, k))


class Usearch:
    name, settings = "usearch", (100, 200, 400, 800, 1600)

    def __init__(self, world):
        built = ROOT / "target/usearch"
        command = ["cargo", "build", "--release", "--manifest-path", HERE / "usearch/Cargo.toml", "--target-dir", built]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        self.program, self.world, self.path = built / "release/usearch-filter", world, world.folder / "items.usearch"
        if not self.path.exists():
            self.run("build", world.folder / "items.fbin", self.path)

    def run(self, *command):
        return subprocess.run([self.program, *map(str, command)], check=True, stdout=subprocess.PIPE, text=True).stdout

    def measure(self, group, k, ef):
        users, folder = self.world.users[group.users], self.world.folder
        asked, kept, found = (folder / f"usearch.{name}" for name in ("users", "kept", "found"))
        write_fbin(asked, [users], *users.shape)
        alike = group.seen is None
        np.array([self.world.may_see(group, at) for at in range(1 if alike else len(users))]).tofile(kept)
        seconds = float(self.run("search", self.path, asked, kept, found, k, ef))
        return seconds, list(self.world.recalls(group, np.fromfile(found, "i8").reshape(-1, k), k))


def fastest(contender, groups, k, target):
    """The queries a second and the recall of the fastest setting that reaches the target, or the best recall without speed."""
    best = {"qps": 0, "recall": 0}
    for setting in contender.settings:
        measured = [contender.measure(group, k, setting) for group in groups]
        recalls = [recall for _, recalls in measured for recall in recalls]
        qps, recall = len(recalls) / sum(seconds for seconds, _ in measured), float(np.mean(recalls))
        if recall >= target:
            return {"qps": qps, "recall": recall, "setting": setting}
        best = max(best, {"qps": 0, "recall": recall}, key=lambda one: one["recall"])
        if 1 / qps > SLOW:
            break
    return best


def table(results, names):
    rows = []
    for case, stands in results.items():
        ours, peers = stands["itemdex"], [stands[name]["qps"] for name in names if name != "itemdex"]
        times = number(ours["qps"] / max(peers), ".1f") if max(peers, default=0) else ""
        speeds = [number(stands[name]["qps"]) if stands[name]["qps"] else f"({stands[name]['recall']:.2f})" for name in names]
        rows.append([case, f"{stands['keeps']:.4f}", number(ours["recall"], ".3f"), *speeds, times])
    return markdown(["filter", "keeps", "recall", *names, "times the best"], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--users", type=int, default=200, help="to measure with")
    parser.add_argument("-k", type=int, default=100)
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--build-only", action="store_true", help="make the data and the indexes, to measure another time")
    parser.add_argument("--program", help="an itemdex to measure, in place of the one that is built")
    args = parser.parse_args()
    if not args.program:
        build_program()
    args.out.mkdir(parents=True, exist_ok=True)
    world = World(args.out, args.rows, args.users)
    peers = [*(Faiss(world, kind) for kind in ("flat", "ivf", "hnsw")), Qdrant(world), Usearch(world)]
    contenders = [Itemdex(world, Program(args.program or PROGRAM)), *peers]
    if args.build_only:
        return
    results, names = {}, [one.name for one in contenders]
    for case, groups in world.cases():
        for group in groups:
            world.solve(group, args.k)
        matching = sum(sum(group.matching) for group in groups)
        results[case] = {"keeps": matching / len(world.users) / len(world.items)}
        for one in contenders:
            results[case][one.name] = fastest(one, groups, args.k, args.recall)
        print(case, *(f"{name} {results[case][name]['qps']:,.0f}" for name in names), sep=", ", flush=True)
        (args.out / "filter.json").write_text(json.dumps(results, indent=1) + "\n")
    (args.out / "filter.md").write_text(table(results, names))


if __name__ == "__main__":
    main()
