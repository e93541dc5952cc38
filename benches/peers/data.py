"""What is measured on: items, users to measure with, and the exact answers."""

import functools
from pathlib import Path

import numpy as np

from generate import write_fbin

SCORES = 50_000_000  # As many are in memory at once.


def read_vectors(path):
    if str(path).endswith(".npy"):
        return np.load(path).astype("f4")
    rows, dim = np.fromfile(path, "<i4", 2)
    return np.fromfile(path, "<f4", offset=8).reshape(rows, dim)


class Data:
    """Files of items, of users to measure with and, if there is one, of a sample of users for the build.

    With `most_users` the first so many are measured with, from a file of their own in `folder`.
    """

    def __init__(self, items, users, sample, ks, folder, most_users=None):
        self.items_path, self.users_path, self.sample_path = items, users, sample
        self.items, self.users = read_vectors(items), read_vectors(users)
        if most_users and most_users < len(self.users):
            self.users = self.users[:most_users]
            self.users_path = Path(folder) / "users.fbin"
            write_fbin(self.users_path, [self.users], *self.users.shape)
        self.ks = [k for k in ks if k <= len(self.items)]
        self.best = self.exact(max(self.ks))

    @functools.cached_property
    def augmented(self):
        """One more coordinate, after which L2 order is inner-product order (Bachrach et al., RecSys 2014)."""
        squares = (self.items.astype("f8") ** 2).sum(1)
        return np.hstack([self.items, np.sqrt(squares.max() - squares)[:, None].astype("f4")])

    @functools.cached_property
    def augmented_users(self):
        return np.hstack([self.users, np.zeros((len(self.users), 1), "f4")])

    def exact(self, k):
        """Of each user the rows that score as the k-th best or higher, best first, and their scores."""
        best, step = [], max(1, SCORES // len(self.items))
        for at in range(0, len(self.users), step):
            for scores in self.users[at : at + step] @ self.items.T:
                rows = np.nonzero(scores >= lowered(np.partition(scores, -k)[-k]))[0]
                rows = rows[np.argsort(-scores[rows], kind="stable")].astype("i4")
                best.append((rows, scores[rows]))
        return best

    def recalls(self, found, k):
        """The recall@k of each user: an item that scores as the k-th exact one counts, whichever of the equals was returned."""
        is_best, recalls = np.zeros(len(self.items), bool), []
        for (rows, scores), answer in zip(self.best, found):
            rows = rows[scores >= lowered(scores[k - 1])]
            is_best[rows] = True
            answer = np.asarray(answer, "i8")
            answer = answer[(answer >= 0) & (answer < len(self.items))]
            recalls.append(min(k, len(np.unique(answer[is_best[answer]]))) / k)
            is_best[rows] = False
        return np.array(recalls)


def lowered(score):
    """What still counts as that score: peers add up in other orders."""
    return score - 1e-5 * abs(score)
