"""Builds an itemdex file from an index of faiss or hnswlib, which their own packages read.

    python -m itemdex.convert faiss   items.faiss --model-version 2026-11-24 --out items.itemdex
    python -m itemdex.convert hnswlib items.bin   --model-version 2026-11-24 --out items.itemdex

Of faiss it takes IndexFlat and IndexHNSWFlat, also inside an IndexIDMap, which keep every embedding as it
was added. Ids are those of the IndexIDMap or the labels of hnswlib, and otherwise positions. Items that
hnswlib has marked as deleted are left out.
"""

from __future__ import annotations

import argparse
import struct
import sys
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from ._errors import InputError
from ._itemdex import build

Items = tuple["NDArray[np.uint64]", "NDArray[np.float32]"]

#: How many items hnswlib is asked for at once.
_LABELS = 10_000


def from_faiss(index: Any, *, any_metric: bool = False) -> Items:
    """The ids, of shape (n,), and the embeddings, of shape (n, dim), of a faiss index.

    The embeddings are a view of the index's memory: keep it until they are used. An index by L2 is refused
    unless all norms are equal, since itemdex ranks by inner product and would order items otherwise;
    ``any_metric`` takes it all the same.
    """
    import faiss  # type: ignore[import-not-found, import-untyped, unused-ignore]

    index = faiss.downcast_index(index)
    ids: Optional[NDArray[np.uint64]] = None
    if isinstance(index, (faiss.IndexIDMap, faiss.IndexIDMap2)):
        ids = faiss.vector_to_array(index.id_map).astype(np.uint64)
        index = faiss.downcast_index(index.index)
    by_inner_product = index.metric_type == faiss.METRIC_INNER_PRODUCT
    flat = faiss.downcast_index(index.storage) if isinstance(index, faiss.IndexHNSWFlat) else index
    if not isinstance(flat, faiss.IndexFlat):
        kind = type(index).__name__
        raise InputError(f"a faiss {kind} does not keep embeddings as they were added; build from the dump")
    values = faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d)
    embeddings = values.reshape(flat.ntotal, flat.d)
    _check_metric(embeddings, by_inner_product or any_metric)
    return np.arange(flat.ntotal, dtype=np.uint64) if ids is None else ids, embeddings


def from_hnswlib(index: Any, *, any_metric: bool = False) -> Items:
    """The labels, of shape (n,), and the embeddings, of shape (n, dim), of an ``hnswlib.Index``.

    Of space "cosine" hnswlib keeps normalised embeddings, and these are what it gives. Space "l2" is refused
    as in ``from_faiss``.
    """
    labels = np.sort(np.array(index.get_ids_list(), dtype=np.uint64))
    kept, parts = [], []
    for start in range(0, len(labels), _LABELS):
        part = labels[start : start + _LABELS]
        try:
            embeddings = np.asarray(index.get_items(part), dtype=np.float32)
        except RuntimeError:
            part, embeddings = _not_deleted(index, part)
        kept.append(part)
        parts.append(embeddings)
    if not kept:
        raise InputError("the hnswlib index is empty")
    items = np.concatenate(parts)
    _check_metric(items, index.space in ("ip", "cosine") or any_metric)
    return np.concatenate(kept), items


def _not_deleted(index: Any, labels: NDArray[np.uint64]) -> Items:
    kept, rows = [], []
    for label in labels:
        try:
            rows.append(np.asarray(index.get_items([label])[0], dtype=np.float32))
        except RuntimeError:
            continue
        kept.append(label)
    items = np.array(rows, dtype=np.float32).reshape(len(rows), index.dim)
    return np.array(kept, dtype=np.uint64), items


def _check_metric(embeddings: NDArray[np.float32], fits: bool) -> None:
    if fits or not len(embeddings):
        return
    norms = np.linalg.norm(embeddings, axis=1)
    if norms.max() - norms.min() > 1e-3 * norms.max():
        raise InputError(
            "the index is by L2 and its norms differ: by inner product, as itemdex ranks, items come in "
            "another order; pass any_metric (--any-metric) if that is what you want"
        )


def _read_hnswlib(path: str, space: str) -> Any:
    with open(path, "rb") as file:
        head = file.read(48)
    # Its file begins with six sizes. An element is links, a vector, and a label of 8 bytes at its end.
    *_, element, label, vector = struct.unpack("<6Q", head.ljust(48, b"\0"))
    if element != label + 8 or label <= vector:
        raise InputError(f"{path} is not a file of hnswlib's save_index")
    import hnswlib  # type: ignore[import-not-found, import-untyped, unused-ignore]

    index = hnswlib.Index(space=space, dim=(label - vector) // 4)
    index.load_index(path)
    return index


def main(arguments: Optional[list[str]] = None) -> int:
    description = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m itemdex.convert", description=description)
    parser.add_argument("kind", choices=["faiss", "hnswlib"])
    parser.add_argument("index", help="the file of the other package")
    parser.add_argument("--out", required=True, help="the index file to write")
    parser.add_argument("--model-version", required=True)
    parser.add_argument("--users", help="a file with a sample of user embeddings from logs, such as .npy")
    parser.add_argument("--space", choices=["ip", "cosine", "l2"], default="ip", help="of hnswlib")
    parser.add_argument("--any-metric", action="store_true", help="take an index by L2 all the same")
    options = parser.parse_args(arguments)
    try:
        if options.kind == "faiss":
            import faiss  # type: ignore[import-not-found, import-untyped, unused-ignore]

            index = faiss.read_index(options.index)
            ids, items = from_faiss(index, any_metric=options.any_metric)
        else:
            index = _read_hnswlib(options.index, options.space)
            ids, items = from_hnswlib(index, any_metric=options.any_metric)
        report = build(items, ids, options.users, out=options.out, model_version=options.model_version)
    except (InputError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"built {options.out}: {report.rows} x {report.dim} in {report.seconds:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
