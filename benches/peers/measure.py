"""Measures a peer in a process of its own, so that one that crashes or stalls costs no other's results."""

import multiprocessing
import os
import time

import numpy as np

PASSES = 3
COMPLETE = 0.998
FEW, SLOW = 100, 5  # Where a pass over all users would take longer than so many seconds, so few are measured with.


def measure(peer, data, silence, log):
    """What a peer has to show, and what went wrong with it if something did.

    A result for each variant and k: {"name", "build_s", "k", "points"}. A peer that says nothing for `silence` seconds, as
    long as a build or one point may take, is ended. What it prints goes to the file `log`.
    """
    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)
    child = fork.Process(target=work, args=(peer, data, sender, log))
    child.start()
    sender.close()
    results, builds, failures = {}, {}, []
    try:
        while receiver.poll(silence):
            match receiver.recv():
                case "built", name, seconds:
                    builds[name] = seconds
                case "point", name, k, point:
                    result = {"name": name, "build_s": builds[name], "k": k, "points": []}
                    results.setdefault((name, k), result)["points"].append(point)
                case "failed", failure:
                    failures.append(failure)
        failures.append(f"ended after {silence:.0f} s without a word")
    except EOFError:
        child.join()
        if child.exitcode:
            failures.append(f"crashed with exit code {child.exitcode}")
    finally:
        child.kill()
        child.join()
    return list(results.values()), failures


def work(peer, data, sender, log):
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    try:
        for variant in peer(data):
            started = time.perf_counter()
            index = variant.build()
            sender.send(("built", variant.name, time.perf_counter() - started))
            for k in data.ks:
                sweep(variant, index, k, data, sender)
            del index
    except Exception as error:
        sender.send(("failed", failure(error)))
    sender.close()


def sweep(variant, index, k, data, sender):
    complete = []
    try:
        for setting in map(np.atleast_1d, variant.settings(k)):
            if any((setting >= one).all() for one in complete):
                continue  # It costs more than a setting that found all.
            measured = point(variant, index, k, setting, data)
            sender.send(("point", variant.name, k, measured))
            if measured["recall"] > COMPLETE:
                complete.append(setting)
    except Exception as error:  # At one k: it may do at others.
        sender.send(("failed", f"{variant.name}, k {k}: {failure(error)}"))


def point(variant, index, k, setting, data):
    setting = setting.item() if len(setting) == 1 else setting.tolist()
    users = data.augmented_users if variant.augmented else data.users
    few = timed(variant, index, users[:FEW], k, setting)
    if few[0] / min(FEW, len(users)) * len(users) > SLOW:
        users, passes = users[:FEW], [few]
    else:
        passes = [timed(variant, index, users, k, setting) for _ in range(PASSES)]
    recalls = data.recalls(passes[-1][1], k)
    qps = len(users) / np.median([seconds for seconds, _ in passes])
    return {"setting": setting, "recall": recalls.mean(), "recall_p5": np.quantile(recalls, 0.05), "qps": qps, "users": len(users)}


def timed(variant, index, users, k, setting):
    started = time.perf_counter()
    found = variant.search(index, users, k, setting)
    return time.perf_counter() - started, found


def failure(error):
    return f"{type(error).__name__}: {error}".splitlines()[0]
