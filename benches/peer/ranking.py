"""Times evaluation and re-ranking with PyTorch and FastReID, and prints one line of JSON.

    git clone https://github.com/JDAI-CV/fast-reid
    (cd fast-reid/fastreid/evaluation/rank_cylib && make)     # with cython and numpy installed
    python3 benches/peer/ranking.py --fastreid fast-reid --mode evaluate
    python3 benches/peer/ranking.py --fastreid fast-reid --mode rerank

evaluate  the matrix product of unit vectors in PyTorch, then FastReID's evaluation in Cython
rerank    the distances between and within query and gallery, then FastReID's k-reciprocal re-ranking
          (k1 = 20, k2 = 6, lambda = 0.3) and its evaluation

The embeddings have the same distribution as in benches/ranking.rs, but other random values.
"""

import argparse
import importlib.util
import json
import resource
import sys
import time
import types
from pathlib import Path

import results


def imported(folder, name):
    """Imports a module of FastReID's evaluation without importing the whole package."""
    package = types.ModuleType("evaluation")
    package.__path__ = [str(folder)]
    sys.modules.setdefault("evaluation", package)
    spec = importlib.util.spec_from_file_location(f"evaluation.{name}", folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[f"evaluation.{name}"] = module
    spec.loader.exec_module(module)
    return module


def embeddings(images, dimensions, centres, generator):
    """Draws embeddings around the centres of identities, with identities from 1 and cameras from 1 to 6."""
    import numpy as np
    import torch

    features = generator.uniform(-2, 2, (images, dimensions)).astype(np.float32)
    for image in range(images):
        features[image] += centres[image % len(centres)]
    ids = np.arange(images) % len(centres) + 1
    cameras = generator.integers(1, 7, images)
    return torch.from_numpy(features), ids, cameras


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fastreid", type=Path, required=True, help="a checkout of FastReID")
    parser.add_argument("--mode", choices=["evaluate", "rerank"], default="evaluate")
    parser.add_argument("--queries", type=int, default=3368)
    parser.add_argument("--gallery", type=int, default=15913)
    parser.add_argument("--dimensions", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=2)
    results.add_arguments(parser)
    settings = parser.parse_args()

    import numpy as np
    import torch

    torch.set_num_threads(settings.threads)
    folder = settings.fastreid / "fastreid" / "evaluation"
    rank = imported(folder, "rank")
    if not rank.IS_CYTHON_AVAI:
        parser.error("FastReID's evaluation is not compiled: run `make` in fastreid/evaluation/rank_cylib")
    generator = np.random.default_rng(1)
    centres = generator.uniform(-1, 1, (750, settings.dimensions)).astype(np.float32)
    query, q_ids, q_cameras = embeddings(settings.queries, settings.dimensions, centres, generator)
    gallery, g_ids, g_cameras = embeddings(
        settings.gallery, settings.dimensions, centres, generator
    )

    start = time.perf_counter()
    query, gallery = (torch.nn.functional.normalize(x) for x in (query, gallery))
    if settings.mode == "evaluate":
        distances = 1 - query @ gallery.T
    else:
        # FastReID squares its distances. Those of unit vectors are |a - b|, whose square is 2 (1 - cos).
        root = lambda a, b: (2 * (1 - a @ b.T)).clamp_(min=0).sqrt_().numpy()
        reranked = imported(folder, "rerank").re_ranking(
            root(query, gallery), root(query, query), root(gallery, gallery)
        )
        distances = torch.from_numpy(reranked)
    _, precisions, _ = rank.evaluate_rank(
        distances.numpy(), q_ids, g_ids, q_cameras, g_cameras, max_rank=50
    )
    seconds = time.perf_counter() - start
    report = {
        "system": f"PyTorch {torch.__version__.split('+')[0]} and FastReID",
        "mode": settings.mode,
        "queries": settings.queries,
        "gallery": settings.gallery,
        "dimensions": settings.dimensions,
        "threads": settings.threads,
        "seconds": seconds,
        "map": float(np.mean(precisions)),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(report))
    if settings.csv:
        print(f"wrote {results.write(settings.csv, 'ranking', [report])}", file=sys.stderr)


if __name__ == "__main__":
    main()
