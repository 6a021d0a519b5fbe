"""Compares exact search in a gallery of a million embeddings: reid, FAISS and USearch.

    cargo bench --bench gallery --no-run
    python3 benches/peer/gallery.py --csv benches/results/MACHINE
    python3 benches/peer/gallery.py --one --systems faiss --entries 100000

The peers need `pip install faiss-cpu usearch numpy`. Every round runs each system in a new process, one
after the other, and begins with another one. The percentiles are medians over rounds. The script prints a
table. `--one` runs only one peer and prints lines of JSON.

The embeddings of the peers have the same distribution as in benches/gallery.rs, but other random values.
`reid` finds the nearest identities, and the peers the nearest embeddings. `reid-half` stores embeddings in
half precision. FAISS is `IndexFlatIP` on unit vectors, to which embeddings are added in parts; USearch is
its exact search by cosine distance in an array. FAISS searches one query on one thread. USearch has no
files for exact search. The memory of a row is the peak of the process up to the end of its task.
"""

import argparse
import json
import os
import sys
import tempfile
import time

import results
import rounds
import timing

PART = 50_000
SYSTEMS = ["reid", "reid-half", "faiss", "usearch"]


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


def parts(settings):
    """The embeddings of the gallery, with the index of the first, in parts."""
    for first in range(0, settings.entries, PART):
        count = min(PART, settings.entries - first)
        yield first, embeddings(first, count, settings.dimensions, 2)


class Faiss:
    """An exact index."""

    def __init__(self, settings):
        import faiss

        self.faiss, self.nearest = faiss, settings.nearest
        self.version = {"system": "FAISS", "version": faiss.__version__}
        faiss.omp_set_num_threads(settings.threads)
        self.index = faiss.IndexFlatIP(settings.dimensions)
        for _, part in parts(settings):
            self.index.add(part)

    def search(self, queries):
        return self.index.search(queries, self.nearest)[1]

    def save(self, path):
        self.faiss.write_index(self.index, path)
        with open(path, "rb+") as file:
            os.fsync(file.fileno())
        self.index = None

    def open(self, path):
        self.index = None
        self.index = self.faiss.read_index(path)


class USearch:
    """An exact search in an array, without files."""

    save = open = None

    def __init__(self, settings):
        import numpy as np
        import usearch
        from usearch.index import MetricKind, search

        self.version = {"system": "USearch", "version": usearch.__version__}
        gallery = np.empty((settings.entries, settings.dimensions), np.float32)
        for first, part in parts(settings):
            gallery[first : first + len(part)] = part
        metric, nearest = MetricKind.Cos, settings.nearest

        def found(queries):
            matches = search(gallery, queries, nearest, metric, exact=True, threads=settings.threads)
            return matches.keys

        self.search = found


def run_one(settings, system):
    """Runs one peer and prints its lines of JSON."""
    os.environ["OMP_NUM_THREADS"] = str(settings.threads)
    gallery = Faiss(settings) if system == "faiss" else USearch(settings)
    reports = []

    def report(task, queries, times):
        line = {**gallery.version, "task": task, "storage": "single", "queries": queries}
        line |= {name: getattr(settings, name) for name in ("entries", "dimensions", "threads")}
        line |= {"seconds": timing.percentile(times, 50), "p99_seconds": timing.percentile(times, 99)}
        line["peak_memory_mb"] = timing.peak_memory_mb()
        reports.append(line)
        print(json.dumps(line), flush=True)

    def seconds(work, *given):
        start = time.perf_counter()
        work(*given)
        return time.perf_counter() - start

    def searches(queries, repeats):
        for repeat in range(repeats):
            first = repeat * queries * 4 % max(settings.entries - queries, 1)
            vectors = embeddings(first, queries, settings.dimensions, 3)
            yield seconds(gallery.search, vectors)

    def found(vectors):
        # The nearest embedding has the identity of the query.
        rows = gallery.search(vectors).reshape(len(vectors), -1)
        assert (rows[:, 0] // 4 == 0).all(), f"expected images 0 to 3, found {rows[:, 0]}"

    report("first search", 1, list(searches(1, 1)))
    report("search", 1, list(searches(1, settings.repeats)))
    report("search", 64, list(searches(64, -(-settings.repeats // 10))))
    found(embeddings(0, 4, settings.dimensions, 3))
    if gallery.save:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "gallery")
            report("save", 0, [seconds(gallery.save, path)])
            report("open", 0, [seconds(gallery.open, path) for _ in range(3)])
    return reports


def compare(settings):
    """Measures all systems in rounds, and prints their results as a table."""
    rounds.pin(settings)
    ours = any(system.startswith("reid") for system in settings.systems)
    program = rounds.built("bench", "gallery") if ours else None
    shared = []
    for name in ("entries", "dimensions", "nearest", "repeats", "threads"):
        shared += [f"--{name}", str(getattr(settings, name))]
    commands = {
        "reid": [program, *shared],
        "reid-half": [program, *shared, "--storage", "half"],
        "faiss": [sys.executable, __file__, "--one", "--systems", "faiss", *shared],
        "usearch": [sys.executable, __file__, "--one", "--systems", "usearch", *shared],
    }
    commands = {system: commands[system] for system in settings.systems}
    reports = rounds.take(commands, settings.rounds)
    rows = [row for of in reports.values() for row in summarise(of)]
    print("| system | storage | task | queries | seconds | 99th percentile | peak memory, MB |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(str(row[column]) for column in SHOWN)} |")
    if settings.csv:
        common = {name: getattr(settings, name) for name in ("nearest", "threads", "repeats", "rounds")}
        print(f"wrote {results.write(settings.csv, 'gallery', rows, **common)}", file=sys.stderr)


SHOWN = ["system", "storage", "task", "queries", "seconds", "p99_seconds", "peak_memory_mb"]


def summarise(reports):
    """The rows of one system, by task: medians over rounds, and the greatest memory."""
    rows = []
    for of in zip(*reports, strict=True):
        row = {name: of[0][name] for name in ("task", "storage", "entries", "dimensions", "queries")}
        row["system"] = rounds.system(of[0])
        row |= {column: rounds.median(of, column) for column in ("seconds", "p99_seconds")}
        rows.append(row | {"peak_memory_mb": rounds.most(of, "peak_memory_mb")})
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    parser.add_argument("--entries", type=int, default=1_000_000, help="embeddings, four per identity")
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--nearest", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=50, help="searches of one query; a tenth of 64")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", action="store_true", help="run only one peer and print lines of JSON")
    results.add_arguments(parser)
    rounds.add_arguments(parser, rounds=2)
    settings = parser.parse_args()
    if not settings.one:
        compare(settings)
        return
    if len(settings.systems) != 1 or settings.systems[0].startswith("reid"):
        parser.error("--one takes one peer: --systems faiss")
    reports = run_one(settings, settings.systems[0])
    if settings.csv:
        print(f"wrote {results.write(settings.csv, 'gallery', reports)}", file=sys.stderr)


if __name__ == "__main__":
    main()
