"""Writes clustering.safetensors: Jaccard distances, DBSCAN and the quality of clusters.

    python tests/golden/make_clustering.py        (pip install numpy scikit-learn safetensors)

Random images of 14 identities and some strays are clustered with two configurations. The Jaccard distances are
computed in float64, with full matrices, from Zhong et al., "Re-ranking Person Re-identification with k-reciprocal
Encoding", CVPR 2017, with the lists and weights that cluster contrast uses. Labels, adjusted Rand index and
normalised mutual information are those of scikit-learn. The script stops if a distance is so near to epsilon, or
two neighbours are so near to each other, that single precision could change a label.
"""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from sklearn.cluster import DBSCAN
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

CONFIGURATIONS = {"default": (30, 6, 0.6, 4), "small": (8, 3, 0.47, 3)}


def images(random):
    """Embeddings of several lengths, and their identities; each stray has another identity."""
    centres = random.normal(size=(14, 12))
    counts = random.integers(3, 16, 14)
    identities = np.concatenate([np.repeat(np.arange(14), counts), 100 + np.arange(18)])
    around = np.concatenate([np.repeat(centres, counts, 0), random.normal(size=(18, 12))])
    points = around + 0.45 * random.normal(size=around.shape)
    order = random.permutation(len(points))
    points *= random.uniform(0.5, 20, (len(points), 1))
    return points[order].astype(np.float32), identities[order].astype(np.int64)


def jaccard(points, k1, k2):
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    squared = 2 - 2 * unit @ unit.T
    own = np.where(np.eye(len(points), dtype=bool), -1, squared)
    ranked = np.argsort(own, 1, kind="stable")
    gaps = np.diff(np.sort(own, 1)[:, : max(k1, k2) + 1], axis=1)
    assert gaps.min() > 1e-6, gaps.min()
    half = int(np.around(k1 / 2)) + 1

    def reciprocal(image, length):
        near = ranked[image, :length]
        return {int(other) for other in near if image in ranked[other, :length]}

    encodings = np.zeros_like(squared)
    for image in range(len(points)):
        own = reciprocal(image, k1)
        expanded = set(own)
        for candidate in own:
            theirs = reciprocal(candidate, half)
            if 3 * len(theirs & own) > 2 * len(theirs):
                expanded |= theirs
        expanded = sorted(expanded)
        weights = np.exp(-squared[image, expanded])
        encodings[image, expanded] = weights / weights.sum()
    averaged = np.stack([encodings[ranked[image, :k2]].mean(0) for image in range(len(points))])
    shared = np.minimum(averaged[:, None], averaged[None]).sum(2)
    return np.maximum(1 - shared / (2 - shared), 0)


def main():
    points, identities = images(np.random.default_rng(8))
    tensors = {"features": points, "identities": identities}
    for name, (k1, k2, epsilon, min_samples) in CONFIGURATIONS.items():
        distances = jaccard(points.astype(np.float64), k1, k2)
        assert np.abs(distances - epsilon).min() > 3e-6, np.abs(distances - epsilon).min()
        scan = DBSCAN(eps=epsilon, min_samples=min_samples, metric="precomputed").fit(distances)
        labels = scan.labels_
        core = np.zeros(len(points), bool)
        core[scan.core_sample_indices_] = True
        contested = [
            len(set(labels[core & (distances[image] <= epsilon)]))
            for image in np.flatnonzero(~core & (labels >= 0))
        ]
        kept = labels >= 0
        pair = identities[kept], labels[kept]
        purity = contingency_matrix(*pair).max(0).sum() / kept.sum()
        scores = [purity, adjusted_rand_score(*pair), normalized_mutual_info_score(*pair)]
        tensors |= {
            f"{name}.distances": distances.astype(np.float32),
            f"{name}.labels": labels.astype(np.int64),
            f"{name}.scores": np.asarray(scores, np.float64),
        }
        print(name, len(points), "images", labels.max() + 1, "clusters", (~kept).sum(), "outliers")
        print("  borders near this many clusters:", contested, "scores", scores)
    save_file(tensors, Path(__file__).with_name("clustering.safetensors"))


if __name__ == "__main__":
    main()
