"""The peers: what each builds, the settings it is measured at, how it is asked. Builds use all cores, searches one thread."""

import json
import tempfile
from dataclasses import dataclass
from typing import Any, Callable

import numpy as np

from environment import CORES

M, EF_CONSTRUCTION = 16, 200


@dataclass
class Variant:
    name: str
    build: Callable[[], Any]  # Makes an index.
    settings: Callable[[int], list]  # What to sweep over at a k, cheapest first.
    search: Callable[[Any, np.ndarray, int, Any], Any]  # The rows found by an index for users at k and a setting.
    augmented: bool = False  # Whether users have the further coordinate too.


def beams(k):
    """Beams of a graph, which finds no more than its beam is wide."""
    return [ef for ef in (25, 50, 100, 200, 400, 800) if ef >= k] or ([k, 2 * k, 4 * k] if k <= 1000 else [k])


def shares(k, data):
    """Shares of its clusters that an index reads: those that hold more than k rows."""
    every = (0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.5)
    return [share for share in every if share * len(data.items) > k]


def reordered(k, share, data):
    """How many rows are scored exactly, of those that a share of the clusters holds."""
    times = (2, 4, 10, 30) if k <= 100 else (1.5, 2, 4, 8) if k <= 1000 else (1.1, 1.5, 2.5)
    return sorted({min(int(k * factor), int(share * len(data.items))) for factor in times})


def clusters(data, factors):
    return [max(1, int(factor * len(data.items) ** 0.5)) for factor in factors]


def hnswlib(data):
    import hnswlib

    def variant(name, space, items, augmented):
        def build():
            index = hnswlib.Index(space, items.shape[1])
            index.init_index(len(items), ef_construction=EF_CONSTRUCTION, M=M, random_seed=1)
            index.add_items(items, num_threads=CORES)
            return index

        def search(index, users, k, ef):
            index.set_ef(ef)
            return index.knn_query(users, k, num_threads=1)[0].astype("i8")

        return Variant(name, build, beams, search, augmented)

    yield variant("hnswlib, inner product", "ip", data.items, False)
    yield variant("hnswlib, augmented", "l2", data.augmented, True)


def faiss(data):
    import faiss

    def variant(name, metric, items, augmented):
        def build():
            faiss.omp_set_num_threads(CORES)
            index = faiss.IndexHNSWFlat(items.shape[1], M, metric)
            index.hnsw.efConstruction = EF_CONSTRUCTION
            index.add(items)
            faiss.omp_set_num_threads(1)
            return index

        def search(index, users, k, ef):
            index.hnsw.efSearch = ef
            return index.search(users, k)[1]

        return Variant(name, build, beams, search, augmented)

    yield variant("faiss HNSW, inner product", faiss.METRIC_INNER_PRODUCT, data.items, False)
    yield variant("faiss HNSW, augmented", faiss.METRIC_L2, data.augmented, True)


def usearch(data):
    from usearch.index import Index

    def build():
        index = Index(ndim=data.items.shape[1], metric="ip", dtype="f32", connectivity=M, expansion_add=EF_CONSTRUCTION)
        index.add(np.arange(len(data.items)), data.items, threads=CORES)
        return index

    def search(index, users, k, ef):
        index.expansion_search = ef
        return index.search(users, k, threads=1).keys.astype("i8").reshape(len(users), -1)

    yield Variant("usearch, inner product", build, beams, search)


def scann(data):
    import scann

    # Leaves and rows reordered, as the project's documentation recommends: sqrt(rows) leaves or twice that.
    for leaves in clusters(data, (1, 2, 4)):

        def build(leaves=leaves):
            builder = scann.scann_ops_pybind.builder(data.items, data.ks[0], "dot_product").set_n_training_threads(CORES)
            sample = min(len(data.items), 250_000)
            builder = builder.tree(leaves, num_leaves_to_search=max(1, leaves // 10), training_sample_size=sample)
            return builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(3 * data.ks[0]).build()

        def search(index, users, k, setting):
            searched, rows = setting
            return index.search_batched(users, k, pre_reorder_num_neighbors=rows, leaves_to_search=searched)[0]

        def settings(k, leaves=leaves):
            return [(max(1, int(leaves * share)), rows) for share in shares(k, data) for rows in reordered(k, share, data)]

        yield Variant(f"ScaNN, {leaves} leaves", build, settings, search)


def vsag(data):
    import pyvsag

    pyvsag.set_logger_off()
    parameters = {
        "base_quantization_type": "sq8",
        "use_reorder": True,
        "precise_quantization_type": "fp32",
        "max_degree": 2 * M,
        "ef_construction": EF_CONSTRUCTION,
        "build_thread_count": CORES,
    }
    rows, dim = data.items.shape
    options = {"dtype": "float32", "metric_type": "ip", "dim": dim, "index_param": parameters}

    def build():
        index = pyvsag.Index("hgraph", json.dumps(options))
        index.build(vectors=data.items, ids=range(rows), num_elements=rows, dim=dim)
        return index

    def search(index, users, k, ef):
        setting = json.dumps({"hgraph": {"ef_search": ef}})
        return [index.knn_search(vector=user, k=k, parameters=setting)[0] for user in users]

    yield Variant("vsag HGraph sq8, inner product", build, beams, search)


def voyager(data):
    import voyager

    def build():
        index = voyager.Index(voyager.Space.InnerProduct, data.items.shape[1], M=M, ef_construction=EF_CONSTRUCTION, random_seed=1)
        index.add_items(data.items, num_threads=CORES)
        return index

    def search(index, users, k, ef):
        return index.query(users, k, num_threads=1, query_ef=ef)[0].astype("i8")

    yield Variant("voyager, inner product", build, beams, search)


def ngt(data):
    import ngtpy

    # The plain graph: the wheel lacks the program that makes the quantized one.
    def variant(name, distance, items, augmented, folder):
        def build():
            ngtpy.create(folder, items.shape[1], edge_size_for_creation=2 * M, distance_type=distance)
            index = ngtpy.Index(folder)
            index.batch_insert(items, num_threads=CORES)
            return index

        def search(index, users, k, epsilon):
            return [index.search(user, k, epsilon=epsilon, with_distance=False) for user in users]

        return Variant(name, build, lambda k: [0.02, 0.05, 0.1, 0.15, 0.2, 0.3], search, augmented)

    with tempfile.TemporaryDirectory() as folder:
        yield variant("NGT, inner product", "Inner Product", data.items, False, f"{folder}/product")
        yield variant("NGT, augmented", "L2", data.augmented, True, f"{folder}/augmented")


def rabitq(data):
    import rabitqlib

    rows, dim = data.items.shape
    for count in clusters(data, (1, 2, 4)):

        def build(count=count):
            exact = rabitqlib.FinalAssignmentMode.Exact
            means = rabitqlib.RaBitQKMeans(dim, count, num_threads=CORES, final_assignment=exact)
            means.train(data.items)
            index = rabitqlib.IvfIndex(dim=dim, max_elements=rows, num_clusters=count, nbits=8, metric="ip")
            index.build(data.items, means.centroids, means.assignments, num_threads=CORES)
            return index

        def settings(k, count=count):
            return sorted({max(1, int(count * share)) for share in shares(k, data)})

        def search(index, users, k, probes):
            return index.search(users, k=k, nprobe=probes)[0]

        yield Variant(f"RaBitQ IVF 8 bits, {count} clusters", build, settings, search)


def symqg(data):
    import rabitqlib

    def build():
        index = rabitqlib.SymqgIndex(data.items.shape[1], 2 * M, metric="ip")
        index.build(data.items, EF_CONSTRUCTION, num_threads=CORES)
        return index

    def search(index, users, k, ef):
        return index.search(users, k=k, ef=ef)[0]

    yield Variant("SymphonyQG, inner product", build, beams, search)


def glass(data):
    import glass

    def build():
        glass.set_num_threads(CORES)
        graph = glass.Index("HNSW", "IP", "FP32", R=2 * M, L=EF_CONSTRUCTION).build(data.items)
        searcher = glass.Searcher(graph, data.items, "IP", "SQ8U", "FP32")
        searcher.optimize(CORES)
        glass.set_num_threads(1)
        return searcher

    def search(index, users, k, ef):
        index.set_ef(ef)
        return index.batch_search(users, k, 1)[0]

    yield Variant("Glass HNSW SQ8U, inner product", build, beams, search)


def lorann(data):
    import lorann

    for rank in (16, 32):
        for count in clusters(data, (1, 2)):

            def build(rank=rank, count=count):
                index = lorann.LorannIndex(data.items, count, None, quantization_bits=8, rank=rank, distance=lorann.IP)
                index.build(n_threads=CORES)
                return index

            def settings(k, count=count):
                return [(max(1, int(count * share)), rows) for share in shares(k, data) for rows in reordered(k, share, data)[:3]]

            def search(index, users, k, setting):
                searched, rows = setting
                return index.search(users, k, searched, rows, n_threads=1)

            yield Variant(f"LoRANN rank {rank}, {count} clusters", build, settings, search)


PEERS = {peer.__name__: peer for peer in (hnswlib, faiss, usearch, scann, vsag, voyager, ngt, rabitq, symqg, glass, lorann)}
