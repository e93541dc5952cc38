"""Generated two-tower sets: seeded, so that the same arguments give the same files.

Items lie around topics whose popularity falls as Zipf's law says, with a decaying spectrum and norms of their own; users are
made of topics too. What differs from set to set is a `Family`; SETS names the sets of the gauntlet. Writes items.fbin,
sample.fbin (users for the build) and test.fbin (users to measure with).
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

if __name__ == "__main__":
    import environment  # noqa: F401  Goes on in the environment of the peers. Who imports this file has one with numpy.

import numpy as np  # noqa: E402

BLOCK = 1_000_000


@dataclass(frozen=True)
class Family:
    rows: int = 1_000_000
    dim: int = 64
    topics: int = 2000
    zipf: float = 0.8  # How fast the popularity of topics falls.
    decay: float = 0.5  # How fast the spectrum falls: 0 spreads over all dimensions alike.
    noise: float = 0.6  # Of an item around its topic.
    unit: bool = False  # Directions only, before the norms.
    norms: float = 0.3  # The sigma of log-normal norms.
    tail: float = 0  # Norms by a power law of this exponent in place of log-normal ones, greatest in the popular topics.
    users: str = "three topics"
    copies: float = 0  # The share of rows that copy another one.
    by_topic: bool = False  # Rows sorted by topic, as dumps by category are.
    sample: int | None = None  # Users for the build, by default a tenth of the rows.
    test: int = 1000
    seed: int = 1

    def of(self, **changed):
        """The same family with some values of its own; those that are None stay."""
        return replace(self, **{name: value for name, value in changed.items() if value is not None})


SMALL = Family(rows=100_000)
NOISY = Family(topics=400, zipf=1.4, decay=0.4, noise=0.9, unit=True, norms=0.25, users="point and topic", sample=30_000)

SETS = {
    "plain": SMALL,
    "low-dimensional": SMALL.of(decay=1.0, noise=0.3),
    "high-dimensional": SMALL.of(decay=0.1, noise=0.9),
    "few-topics": SMALL.of(topics=50, zipf=1.4),
    "equal-norms": SMALL.of(unit=True, norms=0),
    "wide-norms": SMALL.of(norms=0.6),
    "power-law-norms": SMALL.of(unit=True, tail=3),
    "users-apart": SMALL.of(users="apart"),
    "users-shifted": SMALL.of(users="shifted"),
    "copies": SMALL.of(copies=0.3, by_topic=True),
    "noisy-topics": NOISY.of(rows=100_000, sample=10_000),
    "dim-32": SMALL.of(dim=32, users="like items"),
    "dim-128": SMALL.of(dim=128, topics=20_000, zipf=0.6, norms=0.25),
    "dim-256": SMALL.of(dim=256),
    "plain-1m": Family(),
    "noisy-topics-1m": NOISY,
}


def write_fbin(path, blocks, rows, dim):
    with open(path, "wb") as file:
        file.write(np.array([rows, dim], "<i4").tobytes())
        for block in blocks:
            file.write(block.astype("<f4").tobytes())


def normalised(points):
    return points / np.linalg.norm(points, axis=1, keepdims=True)


class Generator:
    """Draws in the order of its calls, on which the bytes of a set depend."""

    def __init__(self, family):
        self.family = family
        self.random = np.random.default_rng(family.seed)
        self.spectrum = (np.arange(1, family.dim + 1) ** -family.decay).astype("f4")
        self.topics = self.random.standard_normal((family.topics, family.dim), dtype="f4") * self.spectrum
        popularity = 1 / np.arange(1, family.topics + 1) ** family.zipf
        self.popularity = popularity / popularity.sum()
        if family.tail:  # Drawn only then, for the bytes of the other sets.
            self.topic_norms = np.sort(self.pareto(family.topics))[::-1]

    def draw(self, count):
        """Topics, popular ones more often."""
        return self.random.choice(self.family.topics, count, p=self.popularity)

    def noise(self, count):
        return self.random.standard_normal((count, self.family.dim), dtype="f4") * self.spectrum

    def pareto(self, count):
        return (1 - self.random.random(count, dtype="f4")) ** (-1 / self.family.tail)

    def points(self, count):
        """What items are before their norms, and their topics."""
        topics = self.draw(count)
        points = self.topics[topics] + self.family.noise * self.noise(count)
        return (normalised(points) if self.family.unit else points), topics

    def items(self):
        for start in range(0, self.family.rows, BLOCK):
            yield self.block(min(BLOCK, self.family.rows - start))

    def block(self, count):
        points, topics = self.points(count)
        if self.family.tail:
            block = points * np.sqrt(self.topic_norms[topics] * self.pareto(count))[:, None]
        else:
            block = points * np.exp(self.family.norms * self.random.standard_normal((count, 1), dtype="f4"))
        if self.family.copies:
            copied = self.random.random(count) < self.family.copies
            block[copied] = block[self.random.integers(max(1, count // 50), size=copied.sum())]
        return block[np.argsort(topics, kind="stable")] if self.family.by_topic else block

    def mixtures(self, count):
        mixture = np.zeros((count, self.family.dim), "f4")
        for _ in range(3):
            mixture += self.random.random((count, 1), dtype="f4") * self.topics[self.draw(count)]
        return mixture + 0.3 * self.noise(count)

    def users(self, count):
        match self.family.users:
            case "three topics":
                return self.mixtures(count)
            case "like items":
                return self.points(count)[0]
            case "point and topic":
                return normalised(0.6 * self.points(count)[0] + 0.4 * self.topics[self.draw(count)])
            case "apart":  # In one coordinate all users are where no item is.
                users = self.mixtures(count)
                users[:, 0] += 4 * self.spectrum[0]
                return users
            case "shifted":  # To the side of one topic, unpopular itself.
                return self.mixtures(count) + self.topics[-1]


def generate(folder, family):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    generator = Generator(family)
    write_fbin(folder / "items.fbin", generator.items(), family.rows, family.dim)
    sample = family.rows // 10 if family.sample is None else family.sample
    for name, count in (("sample", sample), ("test", family.test)):
        write_fbin(folder / f"{name}.fbin", [generator.users(count)], count, family.dim)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--set", default="plain-1m", choices=SETS, help="by default plain-1m; the options below change it")
    for name in ("rows", "dim", "sample", "test", "seed"):
        parser.add_argument(f"--{name}", type=int)
    args = vars(parser.parse_args())
    family = SETS[args.pop("set")]
    folder = args.pop("folder")
    generate(folder, family.of(**args))


if __name__ == "__main__":
    main()
