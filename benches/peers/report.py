"""Tables and plots of results, each {"name", "build_s", "k", "points"}."""

import math

RECALLS = (0.90, 0.95, 0.98, 0.99)


def best_at(points, recall):
    """Queries per second at a recall, between the two points around it; None where no point reaches it."""
    points = sorted(points, key=lambda point: point["recall"])
    frontier = [p for p in points if p["qps"] == max(q["qps"] for q in points if q["recall"] >= p["recall"])]
    above = next((p for p in frontier if p["recall"] >= recall), None)
    below = [p for p in frontier if p["recall"] < recall]
    if above is None or not below:
        return above and above["qps"]
    share = (recall - below[-1]["recall"]) / (above["recall"] - below[-1]["recall"])
    return math.exp(math.log(below[-1]["qps"]) * (1 - share) + math.log(above["qps"]) * share)


def markdown(head, rows):
    """A table, the first column to the left."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def number(value, form=",.0f"):
    return "" if value is None else format(value, form)


def table(results, k):
    head = ["", "build", *(f"{recall:.2f}" for recall in RECALLS), "19 users in 20 at 0.95", "highest recall"]
    return markdown(head, [row(result) for result in results if result["k"] == k])


def row(result):
    points = result["points"]
    reaching = max((p for p in points if p["recall"] >= 0.95), key=lambda p: p["qps"], default={})
    top = max(points, key=lambda point: (point["recall"], point["qps"]))
    speeds = [number(best_at(points, recall)) for recall in RECALLS]
    spread = number(reaching.get("recall_p5"), ".3f")
    return [result["name"], f"{result['build_s']:.1f} s", *speeds, spread, f"{top['recall']:.3f} @ {top['qps']:,.0f}"]


def plot(results, k, path):
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "itemdex"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5.5))
    for result in (result for result in results if result["k"] == k):
        ours = result["name"].startswith("itemdex")
        points = sorted((p["recall"], p["qps"]) for p in result["points"] if p["recall"] >= 0.5)
        if points:
            axes.plot(*zip(*points), label=result["name"], marker=".", linewidth=2.5 if ours else 1, zorder=3 if ours else 2)
    axes.set(xlabel=f"recall@{k}", ylabel="queries per second, one thread", yscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=7)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
