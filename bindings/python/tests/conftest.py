from __future__ import annotations

import signal
from pathlib import Path

import itemdex
import numpy as np
import pytest

DIM = 16


# A shell that starts the tests in the background has them ignore interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


class Data:
    """Items, users and an index of the items."""

    def __init__(self, folder: Path) -> None:
        random = np.random.default_rng(20261124)
        self.ids = random.permutation(np.arange(3000, dtype=np.uint64) * 7 + 5)
        self.items = random.standard_normal((3000, DIM), dtype=np.float32)
        self.users = random.standard_normal((40, DIM), dtype=np.float32)
        self.path = folder / "items.itemdex"
        itemdex.build(self.items, self.ids, out=self.path, model_version="v1")

    def best(self, user: np.ndarray, k: int, among: np.ndarray | None = None) -> list[int]:
        """The exact answer, by brute force."""
        scores = self.items.astype(np.float64) @ user.astype(np.float64)
        order = np.argsort(-scores)
        if among is not None:
            order = order[np.isin(self.ids[order], among)]
        return self.ids[order[:k]].tolist()


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return Data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def index(data: Data) -> itemdex.Index:
    return itemdex.Index.open(data.path)
