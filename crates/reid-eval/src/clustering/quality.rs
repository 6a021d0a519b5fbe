//! The quality of clusters where identities are known: purity, adjusted Rand index (Hubert and Arabie,
//! 1985) and normalised mutual information.

use std::collections::BTreeMap;

use reid_core::Identity;
use serde::{Deserialize, Serialize};

/// How well clusters agree with known identities.
///
/// ```text
/// purity = 1/n Σ_clusters max_identities n_ci                 n_ci images of identity i in cluster c
/// ARI    = (Σ C(n_ci,2) - E) / ((Σ C(n_c,2) + Σ C(n_i,2)) / 2 - E)
///          E = Σ C(n_c,2) · Σ C(n_i,2) / C(n,2)
/// NMI    = 2 · I(cluster; identity) / (H(cluster) + H(identity))
/// ```
///
/// As in scikit-learn, the ARI and the NMI of two partitions that are trivially the same are 1.
/// [`Clusters::quality`](crate::Clusters::quality) has an example.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ClusterQuality {
    /// The number of images that count: those in a cluster, of a known identity.
    pub images: usize,
    /// The fraction of these images that show the most frequent identity of their cluster, from above 0 to 1.
    /// A purity of 1 means that every cluster shows one identity, even if several show the same one.
    pub purity: f64,
    /// The adjusted Rand index, from -0.5 to 1: 0 is the mean of random clusters of these sizes, 1 is a
    /// perfect agreement.
    pub adjusted_rand_index: f64,
    /// The normalised mutual information, from 0 to 1.
    pub normalised_mutual_information: f64,
}

impl ClusterQuality {
    /// Computes the quality from the cluster and the identity of each image; `None` without images.
    pub(super) fn of_pairs(pairs: impl Iterator<Item = (usize, Identity)>) -> Option<Self> {
        let (mut both, mut clusters) = (BTreeMap::new(), BTreeMap::new());
        let (mut identities, mut images) = (BTreeMap::new(), 0);
        for (cluster, identity) in pairs {
            *both.entry((cluster, identity)).or_insert(0_usize) += 1;
            *clusters.entry(cluster).or_insert(0_usize) += 1;
            *identities.entry(identity).or_insert(0_usize) += 1;
            images += 1;
        }
        if images == 0 {
            return None;
        }
        let mut largest = BTreeMap::new();
        for (&(cluster, _), &count) in &both {
            let most = largest.entry(cluster).or_insert(0_usize);
            *most = count.max(*most);
        }
        let pure: usize = largest.values().sum();
        Some(Self {
            images,
            purity: pure as f64 / images as f64,
            adjusted_rand_index: {
                let [both, clusters] = [pairs_in(both.values()), pairs_in(clusters.values())];
                rand_index(both, clusters, pairs_in(identities.values()), images)
            },
            normalised_mutual_information: mutual_information(&both, &clusters, &identities),
        })
    }
}

/// The number of pairs of images within the same part.
fn pairs_in<'a>(counts: impl Iterator<Item = &'a usize>) -> f64 {
    counts
        .map(|&count| count as f64 * (count as f64 - 1.0) / 2.0)
        .sum()
}

/// The adjusted Rand index, from the number of pairs with the same cluster and identity, with the same
/// cluster, and with the same identity.
fn rand_index(both: f64, clusters: f64, identities: f64, images: usize) -> f64 {
    let (only_cluster, only_identity) = (clusters - both, identities - both);
    if only_cluster == 0.0 && only_identity == 0.0 {
        return 1.0;
    }
    let all = images as f64 * (images as f64 - 1.0) / 2.0;
    let neither = all - both - only_cluster - only_identity;
    let gain = 2.0 * (both * neither - only_cluster * only_identity);
    gain / ((both + only_identity) * (only_identity + neither)
        + (both + only_cluster) * (only_cluster + neither))
}

fn mutual_information(
    both: &BTreeMap<(usize, Identity), usize>,
    clusters: &BTreeMap<usize, usize>,
    identities: &BTreeMap<Identity, usize>,
) -> f64 {
    if clusters.len() == 1 && identities.len() == 1 {
        return 1.0;
    }
    let images = both.values().sum::<usize>() as f64;
    let terms = both.iter().map(|(&(cluster, identity), &count)| {
        let (of_cluster, of_identity) = (clusters[&cluster] as f64, identities[&identity] as f64);
        let count = count as f64;
        count / images * (count * images / (of_cluster * of_identity)).ln()
    });
    let information = terms.sum::<f64>().max(0.0);
    let entropies = entropy(clusters.values(), images) + entropy(identities.values(), images);
    (2.0 * information / entropies).min(1.0)
}

fn entropy<'a>(counts: impl Iterator<Item = &'a usize>, images: f64) -> f64 {
    let shares = counts.map(|&count| count as f64 / images);
    shares.map(|share| -share * share.ln()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quality(clusters: &[usize], identities: &[i64]) -> ClusterQuality {
        let identities = identities.iter().copied().map(Identity::new);
        let pairs = clusters.iter().copied().zip(identities);
        ClusterQuality::of_pairs(pairs).expect("images")
    }

    /// Clusters {a a b} and {b b}. Of the 10 pairs, 2 have the same cluster and identity (a a, b b), 4 have the
    /// same cluster and 4 the same identity. E = 4·4/10 = 1.6, and ARI = (2 − 1.6)/(4 − 1.6).
    #[test]
    fn the_quality_matches_a_hand_computed_example() {
        let found = quality(&[0, 0, 0, 1, 1], &[1, 1, 2, 2, 2]);
        assert!((found.purity - 0.8).abs() < 1e-12);
        assert!((found.adjusted_rand_index - 0.4 / 2.4).abs() < 1e-12);
        // I = 0.4·ln(5/3) + 0.2·ln(5/9) + 0.4·ln(5/3), both entropies are -0.6·ln 0.6 - 0.4·ln 0.4.
        let information = 0.8 * (5.0_f64 / 3.0).ln() + 0.2 * (5.0_f64 / 9.0).ln();
        let entropy = -0.6 * 0.6_f64.ln() - 0.4 * 0.4_f64.ln();
        assert!((found.normalised_mutual_information - information / entropy).abs() < 1e-12);
    }

    #[test]
    fn trivial_partitions_have_the_values_of_scikit_learn() {
        let perfect = quality(&[0, 1, 1], &[7, 4, 4]);
        assert_eq!((perfect.purity, perfect.adjusted_rand_index), (1.0, 1.0));
        assert!((perfect.normalised_mutual_information - 1.0).abs() < 1e-12);
        let one = quality(&[0, 0, 0], &[7, 7, 7]);
        let scores = |found: ClusterQuality| {
            let both = (
                found.adjusted_rand_index,
                found.normalised_mutual_information,
            );
            (found.purity, both)
        };
        assert_eq!(scores(one), (1.0, (1.0, 1.0)));
        assert_eq!(scores(quality(&[0, 1, 2], &[7, 7, 7])), (1.0, (0.0, 0.0)));
    }
}
