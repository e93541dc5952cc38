"""Makes the compact demo dump: python3 make.py <folder with the full dump>. Needs numpy and zstandard."""

import gzip
import sys
from pathlib import Path

import numpy as np
import zstandard

HOUSEHOLD = 120  # The row of users_test.npy that the demo shows.

source, here = Path(sys.argv[1]), Path(__file__).parent


def fbin(name):
    rows, dim = np.fromfile(source / name, "<i4", 2)
    return np.fromfile(source / name, "<f4", offset=8).reshape(rows, dim)


for name in ["items", "users_sample", "users_test"]:
    np.save(here / f"{name}.npy", fbin(f"{name}.fbin").astype("<f2"))
np.save(here / "item_ids.npy", np.load(source / "item_ids.npy").astype("<u8"))
np.save(here / "users_test_household.npy", np.load(source / "users_test_household.npy").astype("<u4"))

names = (source / "items.tsv").read_text(encoding="utf-8")
assert all(line.count("\t") == 4 for line in names.splitlines())
with open(here / "products.tsv.gz", "wb") as out, gzip.GzipFile("", "wb", 9, out, mtime=0) as packed:
    packed.write(names.encode())


def columns(packed):
    """The columns of ../funnel/data/purchases.zst: LEB128 numbers behind their count."""
    numbers, value, shift = [], 0, 0
    for byte in zstandard.ZstdDecompressor().decompressobj().decompress(packed):
        value, shift = value | (byte & 127) << shift, shift + 7
        if byte < 128:
            numbers.append(value)
            value, shift = 0, 0
            if len(numbers) == numbers[0] + 1:
                yield np.array(numbers[1:])
                numbers = []


household = np.load(here / "users_test_household.npy")[HOUSEHOLD]
purchases = columns((here.parent / "funnel/data/purchases.zst").read_bytes())
households, counts, steps, _, _, ids = (next(purchases) for _ in range(6))
at = np.searchsorted(np.cumsum(households), household)
mine = slice(counts[:at].sum(), counts[: at + 1].sum())
bought = np.unique(np.cumsum(ids)[np.cumsum(steps[mine])])
np.save(here / "household_bought.npy", np.intersect1d(bought, np.load(here / "item_ids.npy")).astype("<u8"))
