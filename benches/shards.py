"""What shards on Ray cost, on this machine, with generated items of dim 64 and `--shards` shards. In parts:

whole     one index of all rows is built, on all cores
shards    all shards are built by `build_sharded`, each on a core
search    one client, four, and many users a request: one index, `ShardedIndex`, and `Serving`; what a fan-out makes of the tail
kill      the process of a shard is killed in a load of `--requests`, and requests wait for it
partial   the same, and requests go on without it
replicas  the same with two processes a shard
swap      the generation changes forth and back in a load of `--requests`; each answer shows by its scores whose it is

Needs `pip install 'bindings/python[ray]'`. The last four take a fifth of the rows. What was built stays in --out for another run.
Prints tables, or with --json one object.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import ray
from pyarrow import dataset as files_of, parquet

import itemdex
from itemdex.ray import Serving, ShardsMissing, build_sharded

sys.path.append(str(Path(__file__).parent / "peers"))
from generate import Family, Generator  # noqa: E402
from report import markdown  # noqa: E402

KILLS = {"kill": (1, False), "partial": (1, True), "replicas": (2, False)}
PARTS = ("whole", "shards", "search", *KILLS, "swap")
DIM, K, RECALL, FILES = 64, 100, 0.95, 8


def rows_of(folder, rows, scale=1.0):
    """A folder of parquet files, and users to ask with."""
    kept = folder / f"rows-{rows}-{scale:g}"
    if not kept.exists():
        made = Path(f"{kept}.part")
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        generator = Generator(Family(rows=rows, dim=DIM))
        items = np.concatenate(list(generator.items())) * np.float32(scale)
        for number, own in enumerate(np.array_split(np.arange(rows), FILES)):
            embeddings = pa.FixedSizeListArray.from_arrays(items[own].ravel(), DIM)
            parquet.write_table(pa.table({"id": own.astype("u8"), "embedding": embeddings}), made / f"{number}.parquet")
        np.save(folder / f"users-{rows}.npy", generator.users(1_000))
        made.rename(kept)
    return kept, np.load(folder / f"users-{rows}.npy")


def build_shards(dump, catalog, args, version, key):
    dataset = ray.data.read_parquet(str(dump))
    return build_sharded(dataset, catalog, args.shards, version, key=key, id="id", embedding="embedding")


def build_whole(dump, path, threads):
    rows = files_of.dataset(dump).scanner().to_reader()
    itemdex.build(rows, out=path, model_version="v1", id_column="id", embedding_column="embedding", threads=threads)


class Memory:
    """The most memory that a process took whose command begins with `name`, in bytes; mapped files are not counted."""

    def __init__(self, name):
        self.name, self.most, self.done = name, 0, threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def watch(self):
        while not self.done.wait(0.5):
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    if (process / "cmdline").read_text().startswith(self.name):
                        status = (process / "status").read_text()
                        own = status.split("RssAnon:")[1].split("kB")[0]
                        self.most = max(self.most, int(own) * 1024)
                except (OSError, IndexError):
                    continue

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()


def timed(call):
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def measure_whole(args):
    dump, _ = rows_of(args.out, args.rows)
    whole = args.out / f"whole-{args.rows}.itemdex"
    whole.unlink(missing_ok=True)
    task = ray.remote(num_cpus=args.cores)(build_whole)
    with Memory("ray::build_whole") as one:
        seconds = timed(lambda: ray.get(task.remote(str(dump), str(whole), args.cores)))
    return {"seconds": seconds, "bytes": one.most}


def measure_shards(args):
    dump, _ = rows_of(args.out, args.rows)
    catalog = args.out / f"catalog-{args.rows}"
    shutil.rmtree(catalog, ignore_errors=True)
    with Memory("ray::_build_shard") as shard, Memory("ray::ReadFiles") as divide:
        seconds = timed(lambda: build_shards(dump, catalog, args, "v1", "job-1"))
    return {"seconds": seconds, "bytes": shard.most, "divide_bytes": divide.most}


def load(ask, users, requests, clients):
    """Asks on so many threads, as fast as answers come: for each request, by its start, its seconds and its answer."""
    answers, numbers, lock = [], iter(range(requests)), threading.Lock()

    def client():
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            begun = time.perf_counter()
            try:
                answer = ask(users[number % len(users)])
            except (ShardsMissing, itemdex.Error) as error:
                answer = error
            answers.append((begun, time.perf_counter() - begun, number, answer))

    threads = [threading.Thread(target=client) for _ in range(clients)]
    [one.start() for one in threads]
    return answers, threads


def summary(answers):
    seconds = np.array([one[1] for one in answers])
    begun = np.array([one[0] for one in answers])
    p50, p99 = np.percentile(seconds, [50, 99])
    return {"p50_ms": p50 * 1e3, "p99_ms": p99 * 1e3, "per_s": len(answers) / ((begun + seconds).max() - begun.min())}


def under(ask, users, requests, clients):
    for warm in (True, False):
        answers, threads = load(ask, users, min(requests, len(users)) if warm else requests, clients)
        [one.join() for one in threads]
    return summary(answers)


def prepared(args, rows):
    """A catalog with all rows in shards, that is built if it is not there."""
    dump, users = rows_of(args.out, rows)
    catalog = args.out / f"catalog-{rows}"
    if not catalog.exists() or itemdex.Catalog(catalog).current() is None:
        build_shards(dump, catalog, args, "v1", "job-1")
    return catalog, users


def serve(catalog, args, **options):
    return Serving(catalog, cores=args.cores / 100, **options)


def measure_search(args):
    catalog, users = prepared(args, args.rows)
    whole = args.out / f"whole-{args.rows}.itemdex"
    if not whole.exists():
        build_whole(rows_of(args.out, args.rows)[0], whole, args.cores)
    found = {}
    with serve(catalog, args) as serving:
        one = itemdex.Index.open(whole)
        sharded = itemdex.ShardedIndex.open(itemdex.Catalog(catalog))
        ways = {
            "one index": lambda users: one.search(users, K, recall=RECALL, threads=1),
            "ShardedIndex": lambda users: sharded.search(users, K, recall=RECALL),
            "Serving": lambda users: serving.search(users, K, recall=RECALL),
            "Serving, rank of 1,000": lambda user: serving.rank(user, candidates, K),
            "ShardedIndex, rank of 1,000": lambda user: sharded.rank(user, candidates, K),
        }
        candidates = np.random.default_rng(1).choice(args.rows, 1_000, replace=False).astype("u8")
        for name, ask in ways.items():
            found[name] = {f"{clients} clients": under(ask, users, 2_000, clients) for clients in (1, 4)}
            if "rank" not in name:
                groups = users[: len(users) // 64 * 64].reshape(-1, 64, DIM)
                found[name]["64 users a request"] = one_group = under(ask, groups, 100, 1)
                one_group["per_s"] *= 64
    return found


def measure_fan_out(args):
    """Milliseconds in which 99 of 100 requests have the last of so many shards, were each as fast as the first of these: the
    quantile of one shard that all of them stay below."""
    catalog, users = prepared(args, args.rows)
    share = itemdex.share_of(K, args.shards)
    own = np.arange(10_000, dtype="u8")
    own = own[itemdex.shard_of(own, args.shards) == 0][:100]
    with itemdex.LiveIndex.open(catalog, shard=(0, args.shards)) as live, serve(catalog, args) as serving:
        view = live.current()
        ways = {
            "a shard in this process": (lambda user: view.search(user, share, recall=RECALL), 20_000),
            "a shard on Ray": (lambda user: serving.rank(user, own, share), 5_000),
        }
        found = {}
        for name, (ask, requests) in ways.items():
            under(ask, users, len(users), 1)
            answers, threads = load(ask, users, requests, 1)
            [one.join() for one in threads]
            seconds = [one[1] for one in answers]
            found[name] = {str(number): float(np.quantile(seconds, 0.99 ** (1 / number))) * 1e3 for number in (1, 4, 10, 30, 100)}
    return found


def measure_kill(args, replicas, partial):
    catalog, users = prepared(args, args.rows // 5)
    with serve(catalog, args, replicas=replicas) as serving:
        victim = ray.get(serving._replicas[args.shards // 2][0].__ray_call__.remote(lambda _: os.getpid()))
        ask = lambda user: serving.search(user, K, recall=RECALL, partial=partial)  # noqa: E731
        under(ask, users, 1_000, 1)
        answers, threads = load(ask, users, args.requests, 4)
        while len(answers) < args.requests * 3 // 10:
            time.sleep(0.001)
        killed = time.perf_counter()
        os.kill(victim, signal.SIGKILL)
        [one.join() for one in threads]
    answers.sort(key=lambda one: one[0])
    failed = [one for one in answers if isinstance(one[3], Exception)]
    part = [one for one in answers if not isinstance(one[3], Exception) and one[3].partial]
    usual = np.percentile([one[1] for one in answers if one[0] + one[1] < killed], 99)
    odd = [one for one in answers if one in failed or one in part or one[1] > 10 * usual]
    whole = max((one[0] + one[1] - killed for one in odd if one[0] + one[1] > killed), default=0.0)
    return {
        "failed": len(failed),
        "partial": len(part),
        "whole_after_s": whole,
        "longest_s": max(one[1] for one in answers),
        "errors": sorted({repr(one[3])[:200] for one in failed}),
        **summary(answers),
    }


def measure_swap(args):
    rows = args.rows // 5
    catalog, users = args.out / f"swap-{rows}", None
    made = itemdex.Catalog(catalog)
    for scale, version in ((1.0, "v1"), (4.0, "v2")):  # By a power of two, so that scores are as exact.
        dump, users = rows_of(args.out, rows, scale)
        if version not in [one.model_version for one in made.generations()]:
            build_shards(dump, catalog, args, version, version)
    numbers = {one.model_version: one.number for one in made.generations()}
    made.rollback(numbers["v1"])
    expected = itemdex.ShardedIndex.open(made, numbers["v1"]).search(users, K, recall=1.0).scores
    with serve(catalog, args) as serving:
        answers, threads = load(lambda user: serving.search(user, K, recall=1.0), users, args.requests, 4)
        swaps, took = 0, []
        while any(one.is_alive() for one in threads):
            made.rollback(numbers["v2" if swaps % 2 == 0 else "v1"])
            took.append(timed(serving.refresh))
            swaps += 1
            time.sleep(0.5)
    failed = [one[3] for one in answers if isinstance(one[3], Exception)]
    mixed, generations = 0, {}
    for _, _, number, answer in answers:
        if not isinstance(answer, Exception):
            generations[answer.generation] = generations.get(answer.generation, 0) + 1
            scale = 1 if answer.generation == numbers["v1"] else 4
            mixed += not np.array_equal(answer.answer.scores, expected[number % len(users)] * np.float32(scale))
    return {
        "swaps": swaps,
        "failed": len(failed),
        "mixed": mixed,
        "swap_s": float(np.median(took)),
        "of_generations": generations,
        "errors": sorted({repr(one)[:200] for one in failed}),
        **summary(answers),
    }


def tables(found):
    gib = lambda value: f"{value / 2**30:.2f} GiB"  # noqa: E731
    builds = [[name, f"{found[name]['seconds']:.1f}", gib(found[name]["bytes"])] for name in PARTS[:2] if name in found]
    if builds:
        yield ["build", "seconds", "most memory of a process"], builds
    timing = ["p50, ms", "p99, ms", "users a second"]
    cells = lambda one: [f"{one['p50_ms']:.2f}", f"{one['p99_ms']:.2f}", f"{one['per_s']:,.0f}"]  # noqa: E731
    if search := found.get("search"):
        yield ["search", "", *timing], [[name, how, *cells(one)] for name, hows in search.items() for how, one in hows.items()]
    if fan_out := found.get("fan_out"):
        numbers = list(next(iter(fan_out.values())))
        yield ["p99 of the slowest of so many, ms", *numbers], [[name, *(f"{one[n]:.2f}" for n in numbers)] for name, one in fan_out.items()]
    if kills := {name: found[name] for name in KILLS if name in found}:
        yield ["", "failed", "partial", "whole after, s", "longest, s", *timing], [
            [name, str(one["failed"]), str(one["partial"]), f"{one['whole_after_s']:.2f}", f"{one['longest_s']:.2f}", *cells(one)]
            for name, one in kills.items()
        ]
    if swap := found.get("swap"):
        counts = [str(swap[name]) for name in ("failed", "mixed")]
        yield ["swaps", "failed", "mixed", "a swap, s", *timing], [[str(swap["swaps"]), *counts, f"{swap['swap_s']:.2f}", *cells(swap)]]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--requests", type=int, default=10_000, help="of a load with a kill, or with swaps")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="that Ray may use")
    parser.add_argument("--out", type=Path, default=Path("target/shards"))
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def main():
    args = arguments()
    args.out = args.out.absolute()
    args.out.mkdir(parents=True, exist_ok=True)
    ray.init("local", num_cpus=args.cores, log_to_driver=False, include_dashboard=False, logging_level="error")
    ray.data.DataContext.get_current().enable_progress_bars = False
    with contextlib.redirect_stdout(sys.stderr):  # Where Ray says that a process was killed.
        found = measured(args)
    if args.json:
        print(json.dumps(found, indent=1))
    else:
        print("\n".join(markdown(head, rows) for head, rows in tables(found)), end="")


def measured(args):
    found = {"rows": args.rows, "shards": args.shards, "cores": args.cores}
    if "whole" in args.only:
        found["whole"] = measure_whole(args)
    if "shards" in args.only:
        found["shards"] = measure_shards(args)
    if "search" in args.only:
        found["search"] = measure_search(args)
        found["fan_out"] = measure_fan_out(args)
    for name in [name for name in KILLS if name in args.only]:
        found[name] = measure_kill(args, *KILLS[name])
    if "swap" in args.only:
        found["swap"] = measure_swap(args)
    return found


if __name__ == "__main__":
    main()
