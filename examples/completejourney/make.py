"""Makes the compact demo dump: python3 make.py <folder with the full dump>. Needs numpy."""

import gzip
import sys
from pathlib import Path

import numpy as np

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
