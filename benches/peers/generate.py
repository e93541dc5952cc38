"""A generated two-tower set: seeded, so that the same arguments give the same files.

Items lie around topics whose popularity falls as Zipf's law says, with a decaying spectrum and log-normal norms; users are
mixtures of three topics each. Writes items.fbin, sample.fbin (users for the build) and test.fbin (users to measure with).
"""

import argparse
from pathlib import Path

import numpy as np

TOPICS = 2000
BLOCK = 1_000_000


def write_fbin(path, blocks, rows, dim):
    with open(path, "wb") as file:
        file.write(np.array([rows, dim], "<i4").tobytes())
        for block in blocks:
            file.write(block.astype("<f4").tobytes())


def generate(folder, rows, dim=64, sample=None, test=1000, seed=1):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    spectrum = (np.arange(1, dim + 1) ** -0.5).astype("f4")
    topics = random.standard_normal((TOPICS, dim), dtype="f4") * spectrum
    popularity = 1 / np.arange(1, TOPICS + 1) ** 0.8
    popularity /= popularity.sum()

    def noise(count):
        return random.standard_normal((count, dim), dtype="f4") * spectrum

    def items():
        for start in range(0, rows, BLOCK):
            count = min(BLOCK, rows - start)
            block = topics[random.choice(TOPICS, count, p=popularity)] + 0.6 * noise(count)
            yield block * np.exp(0.3 * random.standard_normal((count, 1), dtype="f4"))

    def users(count):
        mixture = np.zeros((count, dim), "f4")
        for _ in range(3):
            mixture += random.random((count, 1), dtype="f4") * topics[random.choice(TOPICS, count, p=popularity)]
        return mixture + 0.3 * noise(count)

    write_fbin(folder / "items.fbin", items(), rows, dim)
    sample = rows // 10 if sample is None else sample
    for name, count in (("sample", sample), ("test", test)):
        write_fbin(folder / f"{name}.fbin", [users(count)], count, dim)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--sample", type=int, help="users for the build, by default a tenth of the rows")
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    generate(**vars(parser.parse_args()))
