//! The results of a round.

use std::fmt;

use reid_core::{Identity, Sample};
use reid_eval::{ClusterQuality, Clusters};
use serde::{Deserialize, Serialize};

use crate::history::EpochSummary;

/// The clusters of a round of training without labels, in numbers. It prints as one line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ClusterSummary {
    /// The round, counted from 1.
    pub round: usize,
    /// The number of training images.
    pub images: usize,
    /// The number of clusters.
    pub clusters: usize,
    /// The number of images in no cluster, which are not trained on in this round.
    pub outliers: usize,
    /// The number of images of the largest cluster.
    pub largest: usize,
    /// The agreement of the clusters with known identities; `None` if none is known of an image in a
    /// cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<ClusterQuality>,
}

impl ClusterSummary {
    /// Summarises the clusters of a round, counted from 0.
    pub(super) fn new(round: usize, clusters: &Clusters, samples: &[Sample]) -> Self {
        let identities = samples.iter().map(|sample| sample.identity);
        let identities: Vec<Identity> = identities.collect();
        let sizes = clusters.members().into_iter().map(|images| images.len());
        Self {
            round: round + 1,
            images: samples.len(),
            clusters: clusters.count(),
            outliers: clusters.outliers(),
            largest: sizes.max().unwrap_or(0),
            quality: clusters.quality(&identities),
        }
    }
}

impl fmt::Display for ClusterSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            round,
            images,
            clusters,
            outliers,
            largest,
            quality,
        } = self;
        write!(
            f,
            "round {round}: {clusters} clusters of {images} images, the largest of {largest}, \
             {outliers} outliers"
        )?;
        match quality {
            Some(quality) => write!(
                f,
                ", purity {:.1} %, ARI {:.3}",
                100.0 * quality.purity,
                quality.adjusted_rand_index
            ),
            None => Ok(()),
        }
    }
}

/// The results of a round of training without labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RoundSummary {
    /// The clusters that were trained on.
    pub clusters: ClusterSummary,
    /// The losses of the epoch on them, and the scores if the model was evaluated after it. The number of
    /// the epoch is that of the round.
    pub training: EpochSummary,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_one_line() {
        let labels = [0, 0, 1, 1, 1].map(Some).into_iter().chain([None]);
        let clusters = Clusters::from_labels(labels.collect());
        let samples = |identities: [i64; 6]| {
            let sample = |identity| Sample::new("1.jpg", Identity::new(identity));
            identities.map(sample).to_vec()
        };
        let unknown = ClusterSummary::new(2, &clusters, &samples([-2; 6]));
        let text = "round 3: 2 clusters of 6 images, the largest of 3, 1 outliers";
        assert_eq!(unknown.to_string(), text);
        let known = ClusterSummary::new(2, &clusters, &samples([4, 4, 4, 7, 7, 7]));
        // Computed by hand in `reid-eval`: ARI 1/6.
        assert_eq!(
            known.to_string(),
            format!("{text}, purity 80.0 %, ARI 0.167")
        );
    }
}
