"""Writes ranking_peers.safetensors: 20 random problems, evaluated by two public libraries.

    git clone https://github.com/JDAI-CV/fast-reid
    pip download --no-deps torchreid==0.2.5 && tar xzf torchreid-0.2.5.tar.gz
    python tests/golden/make_ranking.py fast-reid/fastreid/evaluation/rank.py \
        torchreid-0.2.5/torchreid/reid/metrics/rank.py      (pip install numpy safetensors)

Each problem has ties (distances are sixteenths), junk (identity -1), distractors (identity 0) and
queries without a match. FastReID and torchreid expect a gallery without junk, so junk is removed
first. Both sort with numpy's default, which is not stable; this script makes it stable.
"""

import functools
import sys
import warnings
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

PROBLEMS = 20
MAX_RANK = 10


def load(path):
    """Loads the functions of a file without importing its package."""
    source = Path(path).read_text().replace("from .rank_cylib", "from no_such_package")
    scope = {"__name__": "peer"}
    exec(compile(source, path, "exec"), scope)
    return scope


def main():
    warnings.simplefilter("ignore")
    np.argsort = functools.partial(np.argsort, kind="stable")
    fastreid, torchreid = (load(path) for path in sys.argv[1:3])
    random = np.random.default_rng(20)
    tensors = {}
    for problem in range(PROBLEMS):
        queries, images = random.integers(3, 13), random.integers(40, 90)
        identities, cameras = random.integers(3, 12), random.integers(2, 5)
        query_ids = random.integers(1, identities + 3, queries)  # some are not in the gallery
        gallery_ids = random.integers(-1, identities, images)
        query_cameras = random.integers(0, cameras, queries)
        gallery_cameras = random.integers(0, cameras, images)
        distances = random.integers(0, 40, (queries, images)).astype(np.float32) / 16
        kept = gallery_ids != -1
        peers = distances[:, kept], query_ids, gallery_ids[kept], query_cameras, gallery_cameras[kept]
        cmc, precisions, penalties = fastreid["eval_market1501"](*peers, MAX_RANK)
        torchreid_cmc, torchreid_map = torchreid["eval_market1501"](*peers, MAX_RANK)
        tensors |= {
            f"{problem}.distances": distances,
            f"{problem}.query.ids": query_ids.astype(np.int64),
            f"{problem}.query.cameras": query_cameras.astype(np.int64),
            f"{problem}.gallery.ids": gallery_ids.astype(np.int64),
            f"{problem}.gallery.cameras": gallery_cameras.astype(np.int64),
            f"{problem}.fastreid.cmc": np.asarray(cmc, np.float64),
            f"{problem}.fastreid.average_precisions": np.asarray(precisions, np.float64),
            f"{problem}.fastreid.penalties": np.asarray(penalties, np.float64),
            f"{problem}.torchreid.cmc": np.asarray(torchreid_cmc, np.float64),
            f"{problem}.torchreid.map": np.asarray([torchreid_map], np.float64),
        }
    save_file(tensors, Path(__file__).with_name("ranking_peers.safetensors"))


if __name__ == "__main__":
    main()
