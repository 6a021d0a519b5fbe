"""Times exact search in a gallery of a million embeddings with FAISS and USearch, and prints lines of JSON.

    python3 benches/peer/gallery.py                 (pip install faiss-cpu usearch numpy)
    python3 benches/peer/gallery.py --system usearch

The embeddings have the same distribution as in benches/gallery.rs, but other random values. FAISS is
`IndexFlatIP` on unit vectors, USearch is its exact search by cosine distance.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time

import results


def embeddings(first, count, dimensions, side):
    """Unit vectors of some images, four per identity: the centre of the identity plus uniform noise."""
    import numpy as np

    rows = np.empty((count, dimensions), np.float32)
    for row in range(count):
        image = first + row
        if row == 0 or image % 4 == 0:
            centre = np.random.default_rng([1, image // 4]).uniform(-1, 1, dimensions)
        noise = np.random.default_rng([side, image]).uniform(-1, 1, dimensions)
        rows[row] = centre + noise
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--system", choices=["faiss", "usearch"], default="faiss")
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--nearest", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--threads", type=int, default=2)
    results.add_arguments(parser)
    settings = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(settings.threads)

    import numpy as np

    parts = range(0, settings.entries, 50_000)
    gallery = np.empty((settings.entries, settings.dimensions), np.float32)
    for first in parts:
        count = min(50_000, settings.entries - first)
        gallery[first : first + count] = embeddings(first, count, settings.dimensions, 2)
    if settings.system == "faiss":
        import faiss

        name = f"FAISS {faiss.__version__}, IndexFlatIP"
        faiss.omp_set_num_threads(settings.threads)
        index = faiss.IndexFlatIP(settings.dimensions)
        for first in parts:
            index.add(gallery[first : first + 50_000])
        gallery = None
        search = lambda queries: index.search(queries, settings.nearest)
    else:
        import usearch
        from usearch.index import MetricKind
        from usearch.index import search as exact

        name = f"USearch {usearch.__version__}, exact"
        search = lambda queries: exact(
            gallery, queries, settings.nearest, MetricKind.Cos, exact=True, threads=settings.threads
        )

    reports = []

    def report(task, queries, times):
        times = sorted(times)
        line = {
            "system": name,
            "task": task,
            "storage": "single",
            "entries": settings.entries,
            "dimensions": settings.dimensions,
            "queries": queries,
            "threads": settings.threads,
            "seconds": times[len(times) // 2],
            "p99_seconds": times[min(len(times) * 99 // 100, len(times) - 1)],
            "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        reports.append(line)
        print(json.dumps(line), flush=True)

    def timed(queries, repeats):
        times = []
        for repeat in range(repeats):
            first = repeat * queries * 4 % max(settings.entries - queries, 1)
            vectors = embeddings(first, queries, settings.dimensions, 3)
            start = time.perf_counter()
            search(vectors)
            times.append(time.perf_counter() - start)
        return times

    report("first search", 1, timed(1, 1))
    report("search", 1, timed(1, settings.repeats))
    report("search", 64, timed(64, -(-settings.repeats // 10)))
    if settings.system == "faiss":
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "gallery")
            start = time.perf_counter()
            faiss.write_index(index, path)
            with open(path, "rb+") as file:
                os.fsync(file.fileno())
            report("save", 0, [time.perf_counter() - start])
            index = None
            start = time.perf_counter()
            index = faiss.read_index(path)
            report("open", 0, [time.perf_counter() - start])
    if settings.csv:
        print(f"wrote {results.write(settings.csv, 'gallery', reports)}", file=sys.stderr)


if __name__ == "__main__":
    main()
