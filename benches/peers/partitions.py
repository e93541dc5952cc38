"""The model of the partitions against the truth: which clusters hold a user's exact best k.

Reads index files as docs/format.md describes them, and draws a row of two plots for each. On the left: how
many of the best k a cluster holds, as the model predicts and in truth. On the right: the share of the best k
that is found where clusters are read in the order of the model, in that of their means' scores, and in the
best order there is. Prints the figures too.

    python3 benches/peers/partitions.py --out docs/partitions.svg --set NAME INDEX USERS K [--set ...]

USERS is npy or fbin. Needs numpy and matplotlib, as requirements.txt names them.
"""

import argparse
import math

import numpy as np

LANES = 16
BLOCK = 50
"""Users scored at a time."""

SHARES = np.geomspace(1e-4, 1, 200)
"""Shares of all rows that are read, from few to all."""

ORDERS = {"best order there is": "0.6", "by the model": "C0", "by the clusters' means": "C1"}


class Index:
    """The rows and the clusters of an index file."""

    def __init__(self, path):
        self.file = np.memmap(path, "u1", "r")
        magic, version = self.file[:8].tobytes(), self.number(8)
        if magic != b"itemdex\0" or version != 2:
            raise SystemExit(f"{path} is not an index file of format 2")
        self.dim, self.count = self.number(12), self.number(24, "<u8")
        groups = self.number(884)
        if groups == 0:
            raise SystemExit(f"{path} was built without partitions; build it with --plans partitions")
        stride = -(-self.dim // 16) * 16
        self.rows = self.section(384, "<f4").reshape(self.count, stride)[:, : self.dim]
        fields = self.section(1648, "<u4").reshape(groups, 7, LANES)
        starts, counts, _, *scales = (fields[:, at].ravel() for at in range(7))
        mean_scales, deviation_scales = (scale.view("<f4") for scale in scales[:2])
        # Sixteen clusters stand interleaved: four bytes of the first, four of the second, and so on.
        moments = self.section(1672, "u1").reshape(groups, 2, -1, LANES, 4).transpose(1, 0, 3, 2, 4)
        means, variances = moments.reshape(2, groups * LANES, -1)[:, :, : self.dim].astype("f4")
        used = counts > 0
        self.starts, self.counts, self.steps = starts[used], counts[used], mean_scales[used]
        self.means = ((means - 128) * mean_scales[:, None])[used]
        self.variances = (variances * deviation_scales[:, None] ** 2)[used]

    def number(self, offset, kind="<u4"):
        return int(self.file[offset : offset + 8].view(kind)[0])

    def section(self, entry, kind):
        """The section whose offset and length stand at `entry` of the header."""
        offset, length = self.number(entry, "<u8"), self.number(entry + 8, "<u8")
        return self.file[offset : offset + length].view(kind)

    def normals(self, user):
        """Mean and deviation of each cluster's scores. A mean is known no better than to its step."""
        step = self.steps * np.linalg.norm(user) / math.sqrt(12)
        return self.means @ user, np.sqrt(self.variances @ user**2) + step


upper_share = np.vectorize(lambda z: 0.5 * math.erfc(-z / math.sqrt(2)))
"""The share of a normal distribution above a bar that lies `z` deviations below its mean."""


def bar_of(means, deviations, counts, k):
    """The score that k rows reach, by the model."""
    low, high = (means - 9 * deviations).min(), (means + 9 * deviations).max()
    for _ in range(50):
        middle = (low + high) / 2
        above = (counts * upper_share((means - middle) / deviations)).sum()
        low, high = (middle, high) if above > k else (low, middle)
    return low


def best_rows(rows, users, k):
    """The rows of each user's exact best k."""
    for at in range(0, len(users), BLOCK):
        scores = users[at : at + BLOCK] @ rows.T
        for own in scores:
            yield np.argpartition(own, -k)[-k:]


def found(order, hits, counts, total):
    """The share of the hits that is found at each of SHARES, where clusters are read in this order."""
    read, held = np.cumsum(counts[order]) / total, np.cumsum(hits[order]) / hits.sum()
    return np.interp(SHARES, np.r_[0, read], np.r_[0, held])


def measure(index, users, k):
    """Predicted and real hits of every cluster and user, and the mean share found in each order."""
    predicted, real, curves = [], [], {name: [] for name in ORDERS}
    for user, best in zip(users, best_rows(np.ascontiguousarray(index.rows), users, k)):
        clusters = np.searchsorted(index.starts, best, "right") - 1
        hits = np.bincount(clusters, minlength=len(index.starts))
        means, deviations = index.normals(user)
        z = (means - bar_of(means, deviations, index.counts, k)) / deviations
        predicted.append(index.counts * upper_share(z))
        real.append(hits)
        for name, worth in zip(ORDERS, (hits / index.counts, z, means)):
            curves[name].append(found(np.argsort(-worth), hits, index.counts, index.count))
    return np.array(predicted), np.array(real), {name: np.mean(curve, 0) for name, curve in curves.items()}


def draw_shares(axes, predicted, real, k):
    edges = np.geomspace(0.01, predicted.max() * 1.001, 25)
    bins, real = np.digitize(predicted.ravel(), edges), real.ravel()
    bins = {at: real[bins == at] / k for at in range(1, len(edges)) if (bins == at).sum() >= 50}
    middles = [math.sqrt(edges[at - 1] * edges[at]) / k for at in bins]
    low, high = (np.array([np.quantile(hits, share) for hits in bins.values()]) for share in (0.05, 0.95))
    least = middles[0] / 3
    axes.fill_between(middles, low.clip(least), high.clip(least), alpha=0.25, label="nine clusters in ten")
    axes.plot(middles, [hits.mean() for hits in bins.values()], "o-", ms=4, label="mean")
    axes.plot(middles, middles, "--", color="0.5", label="as predicted")
    axes.set(xscale="log", yscale="log", ylim=(least, None))
    axes.set(xlabel="predicted share of the best k in a cluster", ylabel="real share")
    axes.legend(loc="upper left")


def draw_found(axes, curves):
    for (name, color), curve in zip(ORDERS.items(), curves.values()):
        axes.plot(SHARES, curve, color=color, label=name)
    axes.axhline(0.95, color="0.5", ls=":", lw=1)
    axes.set(xlabel="share of the rows that is read", ylabel="share of the best k among them")
    axes.set(xscale="log", ylim=(0, 1.02))
    axes.legend(loc="upper left")


def describe(name, index, predicted, real, curves):
    print(f"{name}: {index.count} rows in {len(index.counts)} clusters, {len(real)} users")
    for order, curve in curves.items():
        needed = np.interp(0.95, curve, SHARES)
        rows = needed * index.count
        print(f"  rows that hold 0.95 of the best k, {order}: {needed:.4f} of all, {rows:,.0f}")
    for least in (1, 10, 100):
        some = predicted >= least
        if some.any():
            share = real[some].sum() / predicted[some].sum()
            print(f"  clusters predicted to hold {least} or more: {share:.3f} of the predicted hits")


def read_users(path):
    if path.endswith(".npy"):
        return np.load(path).astype("f4")
    rows, dim = np.fromfile(path, "<i4", 2)
    return np.fromfile(path, "<f4", offset=8).reshape(rows, dim)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, help="the picture to draw: svg or png")
    names = ("NAME", "INDEX", "USERS", "K")
    parser.add_argument("--set", nargs=4, action="append", required=True, metavar=names, help="a row of it")
    args = parser.parse_args()

    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "itemdex"
    from matplotlib import pyplot

    size = (10, 4 * len(args.set))
    figure, rows = pyplot.subplots(len(args.set), 2, figsize=size, squeeze=False, layout="constrained")
    for (name, path, users, k), (left, right) in zip(args.set, rows):
        index = Index(path)
        predicted, real, curves = measure(index, read_users(users), int(k))
        describe(name, index, predicted, real, curves)
        draw_shares(left, predicted, real, int(k))
        draw_found(right, curves)
        left.set_title(f"{name}, k {int(k):,}: hits of a cluster", fontsize="medium")
        right.set_title(f"{name}, k {int(k):,}: what reading finds", fontsize="medium")
    figure.savefig(args.out, metadata={"Date": None} if args.out.endswith(".svg") else None)


if __name__ == "__main__":
    main()
