//! Verification: whether two images show the same identity, decided by a threshold on their distance.

use std::{
    cmp::Ordering,
    sync::atomic::{AtomicU64, Ordering as AtomicOrdering},
};

use serde::{Deserialize, Serialize};

use crate::{
    Error, Relevance, RetrievalTask, column_ranks::match_distances, distance_columns::fold_rows,
    relevance::QueryRule,
};

/// ROC curve, TAR at a FAR and equal error rate (EER) of verification by distance.
///
/// A pair is a query and a gallery image that the protocol does not ignore. A genuine pair shows the same
/// identity, an impostor pair two different ones. A pair is accepted if its distance is **at most** the
/// threshold. All rates are exact: they count every pair.
///
/// ```text
/// TAR(t)  accepted genuine pairs / all genuine pairs          true accept rate
/// FAR(t)  accepted impostor pairs / all impostor pairs        false accept rate
/// EER     min over t of max(FAR(t), 1 - TAR(t))               equal error rate
/// ```
///
/// The distances are computed twice, one block of queries at a time, and the distance matrix is never held. The
/// memory is 12 bytes per genuine pair.
///
/// ```
/// use reid_core::Identity;
/// use reid_eval::{Distances, Embeddings, Metric, Protocol, RetrievalTask, Verification};
///
/// let one = |values: &[f32], ids: &[i64]| {
///     Embeddings::new(values.to_vec(), 1, ids.iter().copied().map(Identity::new).collect())
/// };
/// // The genuine pairs have the distances 1 and 2, the impostor pairs 7 and 8.
/// let (query, gallery) = (one(&[0.0, 9.0], &[1, 2])?, one(&[1.0, 7.0], &[1, 2])?);
/// let distances = Distances::between(&query, &gallery, Metric::Euclidean)?;
/// let task = RetrievalTask::new(&distances, query.labels(), gallery.labels())
///     .with_protocol(&Protocol::NoCameras);
/// let verification = Verification::from_task(&task)?;
/// assert_eq!((verification.tar_at_far(0.0), verification.equal_error_rate()), (1.0, 0.0));
/// assert_eq!(verification.at_far(0.0).map(|point| point.threshold), Some(2.0));
/// # Ok::<(), reid_eval::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Verification {
    /// Distances of the genuine pairs, ascending.
    genuine: Vec<f32>,
    /// Number of impostor pairs accepted at each of these distances.
    accepted: Vec<u64>,
    /// Number of impostor pairs.
    impostor: u64,
}

/// The numbers of genuine and impostor pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PairCounts {
    /// Pairs of the same identity.
    pub genuine: u64,
    /// Pairs of different identities.
    pub impostor: u64,
}

/// A point of the ROC curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RocPoint {
    /// Pairs with at most this distance, by the metric of the task, are accepted.
    pub threshold: f32,
    /// Fraction of the impostor pairs that is accepted, from 0 to 1.
    pub false_accept_rate: f64,
    /// Fraction of the genuine pairs that is accepted, from 0 to 1.
    pub true_accept_rate: f64,
}

impl Verification {
    /// Counts the genuine and impostor pairs of a task at every threshold.
    ///
    /// # Errors
    /// The errors of [`evaluate_rows`](crate::evaluate_rows), and [`Error::Pairs`] if there is no genuine or
    /// no impostor pair.
    pub fn from_task(task: &RetrievalTask<'_>) -> Result<Self, Error> {
        let mut genuine = match_distances(task)?.concat();
        genuine.sort_unstable_by(|a, b| order(*a, *b));
        // An impostor pair is accepted at every genuine distance from the first one that is not smaller.
        let counts: Vec<AtomicU64> = (0..=genuine.len()).map(|_| AtomicU64::new(0)).collect();
        let count = |rule: &QueryRule<'_>, (): &mut (), first: usize, row: &[f32]| {
            let images = (first..).zip(row);
            let wrong = images.filter(|&(image, _)| rule.relevance(image) == Relevance::NonMatch);
            let mut positions: Vec<usize> = wrong
                .map(|(_, distance)| genuine.partition_point(|of| order(*of, *distance).is_lt()))
                .collect();
            positions.sort_unstable();
            for run in positions.chunk_by(|a, b| a == b) {
                counts[run[0]].fetch_add(run.len() as u64, AtomicOrdering::Relaxed);
            }
        };
        fold_rows(task, |_| (), count)?;
        let counts = counts.into_iter().map(AtomicU64::into_inner);
        let mut accepted: Vec<u64> = counts.collect();
        let mut impostor = 0;
        for count in &mut accepted {
            impostor += *count;
            *count = impostor;
        }
        accepted.pop();
        if genuine.is_empty() || impostor == 0 {
            return Err(Error::Pairs {
                genuine: genuine.len() as u64,
                impostor,
            });
        }
        Ok(Self {
            genuine,
            accepted,
            impostor,
        })
    }

    /// The numbers of genuine and impostor pairs.
    #[must_use]
    pub fn pairs(&self) -> PairCounts {
        PairCounts {
            genuine: self.genuine.len() as u64,
            impostor: self.impostor,
        }
    }

    /// The point of the ROC curve with the largest threshold whose false accept rate is at most `rate`.
    ///
    /// Thresholds are the distances of the genuine pairs. `None` if even the smallest of them accepts too
    /// many impostor pairs.
    #[must_use]
    pub fn at_far(&self, rate: f64) -> Option<RocPoint> {
        let share = |accepted: &u64| *accepted as f64 / self.impostor as f64;
        let below = self
            .accepted
            .partition_point(|accepted| share(accepted) <= rate);
        below.checked_sub(1).map(|index| self.point(index))
    }

    /// The true accept rate at a false accept rate of at most `rate` (TAR at FAR), or 0 if no threshold has
    /// such a rate.
    #[must_use]
    pub fn tar_at_far(&self, rate: f64) -> f64 {
        self.at_far(rate)
            .map_or(0.0, |point| point.true_accept_rate)
    }

    /// The equal error rate: the smallest value, over all thresholds, of the larger of the false accept rate
    /// and the false reject rate `1 - TAR`.
    ///
    /// The two rates are steps and need not be equal at any threshold.
    #[must_use]
    pub fn equal_error_rate(&self) -> f64 {
        let points = (0..self.genuine.len()).map(|index| self.point(index));
        let worse = points.map(|point| point.false_accept_rate.max(1.0 - point.true_accept_rate));
        // A threshold that accepts no pair rejects all genuine pairs: 1.
        worse.fold(1.0, f64::min)
    }

    /// The ROC curve, thinned evenly to at most `points` points, by ascending threshold.
    ///
    /// The first and the last point are always included, also if `points` is less than 2.
    #[must_use]
    pub fn roc(&self, points: usize) -> Vec<RocPoint> {
        let last = self.genuine.len() - 1;
        let count = points.clamp(2, last + 2);
        let mut indices: Vec<usize> = (0..count).map(|at| at * last / (count - 1)).collect();
        indices.dedup();
        indices.into_iter().map(|index| self.point(index)).collect()
    }

    /// The point whose threshold is the genuine distance at this index.
    fn point(&self, index: usize) -> RocPoint {
        let threshold = self.genuine[index];
        let accepted = self
            .genuine
            .partition_point(|of| order(*of, threshold).is_le());
        RocPoint {
            threshold,
            false_accept_rate: self.accepted[index] as f64 / self.impostor as f64,
            true_accept_rate: accepted as f64 / self.genuine.len() as f64,
        }
    }
}

/// Orders finite distances by value; -0 equals 0.
fn order(a: f32, b: f32) -> Ordering {
    (a + 0.0).total_cmp(&(b + 0.0))
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "fractions of small counts are exact")]
mod tests {
    use reid_core::Identity;

    use super::*;
    use crate::{Labels, Protocol, evaluate::Matrix};

    fn labels(identities: &[i64]) -> Labels {
        Labels::new(identities.iter().copied().map(Identity::new).collect())
    }

    /// Verifies queries of identities 1 and 2 against gallery images of identities 1, 2 and 3.
    fn two(values: &[f32]) -> Verification {
        verify(values, &[1, 2], &[1, 2, 3]).expect("genuine and impostor pairs")
    }

    fn verify(values: &[f32], query: &[i64], gallery: &[i64]) -> Result<Verification, Error> {
        let matrix = Matrix {
            values,
            queries: query.len(),
            gallery: gallery.len(),
        };
        let (query, gallery) = (labels(query), labels(gallery));
        let task = RetrievalTask::new(&matrix, &query, &gallery);
        Verification::from_task(&task.with_protocol(&Protocol::NoCameras))
    }

    #[test]
    fn rates_match_a_hand_computed_example() {
        // Genuine: 0.2 and 0.5. Impostor: 0.1, 0.4, 0.5 and 0.9.
        let pairs = two(&[0.2, 0.4, 0.9, 0.1, 0.5, 0.5]);
        let counts = pairs.pairs();
        assert_eq!((counts.genuine, counts.impostor), (2, 4));
        let points = pairs.roc(10).into_iter().map(|point| {
            (
                point.threshold,
                point.false_accept_rate,
                point.true_accept_rate,
            )
        });
        // At 0.2, the impostor at 0.1 is accepted. At 0.5, those at 0.1, 0.4 and 0.5.
        assert_eq!(
            points.collect::<Vec<_>>(),
            [(0.2, 0.25, 0.5), (0.5, 0.75, 1.0)]
        );
        assert_eq!(pairs.tar_at_far(0.2), 0.0);
        assert_eq!(pairs.tar_at_far(0.25), 0.5);
        assert_eq!(pairs.tar_at_far(1.0), 1.0);
        assert_eq!(pairs.at_far(0.1), None);
        // At 0.2, half of the genuine pairs are rejected and a quarter of the impostors accepted.
        assert_eq!(pairs.equal_error_rate(), 0.5);
    }

    #[test]
    fn separable_pairs_have_no_error() {
        let pairs = two(&[0.1, 0.8, 0.9, 0.7, 0.2, 0.6]);
        assert_eq!(pairs.equal_error_rate(), 0.0);
        assert_eq!(pairs.tar_at_far(0.0), 1.0);
        // All impostors are closer than all genuine pairs.
        let pairs = two(&[0.9, 0.1, 0.2, 0.3, 0.8, 0.4]);
        assert_eq!(pairs.equal_error_rate(), 1.0);
    }

    #[test]
    fn pairs_of_one_kind_are_rejected() {
        let pairs = verify(&[0.5], &[1], &[1]);
        assert_eq!(
            pairs.expect_err("one pair").to_string(),
            "a ROC curve needs pairs of the same identity and pairs of different identities, \
             found 1 and 0: give images of at least two identities, at least one of them in both \
             query and gallery"
        );
    }

    #[test]
    fn a_query_of_unknown_identity_makes_no_pairs() {
        let values = [0.2, 0.4, 0.9, 0.1, 0.5, 0.5];
        let known = verify(&values[..3], &[1], &[1, 2, 3]).expect("genuine and impostor pairs");
        let both = verify(&values, &[1, -2], &[1, 2, 3]).expect("genuine and impostor pairs");
        assert_eq!(known, both);
    }
}
