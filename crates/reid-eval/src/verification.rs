//! Verification: are two images of the same identity?

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::{Error, Relevance, RetrievalTask, evaluate::each_row};

/// How well a threshold on the distance tells pairs of the same identity from others: ROC, TAR@FAR
/// and EER, exactly, over every query with every gallery image that the protocol keeps.
///
/// A pair is accepted if its distance is **at most** the threshold.
///
/// ```text
/// TAR(t)  accepted pairs of one identity / all of them        true accept rate
/// FAR(t)  accepted pairs of two identities / all of them      false accept rate
/// EER     min over t of max(FAR(t), 1 - TAR(t))               equal error rate
/// ```
///
/// Distances are read twice and never kept: memory grows with the pairs of one identity alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Verification {
    /// Distances of the pairs of one identity, rising.
    genuine: Vec<f32>,
    /// Pairs of two identities that are accepted at each of these distances.
    accepted: Vec<u64>,
    /// Pairs of two identities.
    impostor: u64,
}

/// How many pairs of images there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PairCounts {
    /// Pairs of one identity.
    pub genuine: u64,
    /// Pairs of two identities.
    pub impostor: u64,
}

/// A point of the ROC curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RocPoint {
    /// Pairs at most so far apart are accepted.
    pub threshold: f32,
    /// Share of the pairs of two identities that is accepted.
    pub false_accept_rate: f64,
    /// Share of the pairs of one identity that is accepted.
    pub true_accept_rate: f64,
}

impl Verification {
    /// Asks for the distances of all queries.
    ///
    /// # Errors
    /// As [`evaluate_rows`](crate::evaluate_rows), and if there is no pair of one identity or none of
    /// two.
    pub fn from_task(task: &RetrievalTask<'_>) -> Result<Self, Error> {
        let genuine = each_row(task, |rule, row| {
            let images = row.iter().enumerate();
            let right = images.filter(|&(image, _)| rule.relevance(image) == Relevance::Match);
            right.map(|(_, distance)| *distance).collect::<Vec<f32>>()
        })?;
        let mut genuine = genuine.concat();
        genuine.sort_unstable_by(|a, b| order(*a, *b));
        // A pair of two identities is accepted from the first of these distances that is as large.
        let counts = each_row(task, |rule, row| {
            let images = row.iter().enumerate();
            let wrong = images.filter(|&(image, _)| rule.relevance(image) == Relevance::NonMatch);
            let mut places: Vec<usize> = wrong
                .map(|(_, distance)| genuine.partition_point(|of| order(*of, *distance).is_lt()))
                .collect();
            places.sort_unstable();
            let runs = places.chunk_by(|a, b| a == b);
            runs.map(|run| (run[0], run.len() as u64))
                .collect::<Vec<_>>()
        })?;
        let mut accepted = vec![0; genuine.len() + 1];
        for (place, count) in counts.into_iter().flatten() {
            accepted[place] += count;
        }
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

    /// How many pairs there are.
    #[must_use]
    pub fn pairs(&self) -> PairCounts {
        PairCounts {
            genuine: self.genuine.len() as u64,
            impostor: self.impostor,
        }
    }

    /// The largest threshold among the distances of one identity whose false accept rate is at most
    /// `rate`, and the point of the curve there; `None` if even the nearest pair is too far.
    #[must_use]
    pub fn at_far(&self, rate: f64) -> Option<RocPoint> {
        let share = |accepted: &u64| *accepted as f64 / self.impostor as f64;
        let below = self
            .accepted
            .partition_point(|accepted| share(accepted) <= rate);
        below.checked_sub(1).map(|place| self.point(place))
    }

    /// The true accept rate at a false accept rate of at most `rate`.
    #[must_use]
    pub fn tar_at_far(&self, rate: f64) -> f64 {
        self.at_far(rate)
            .map_or(0.0, |point| point.true_accept_rate)
    }

    /// The least rate that can be kept on both sides: by the best threshold, neither a larger share of
    /// the pairs of two identities is accepted nor of the pairs of one refused. Where the curve meets
    /// `FAR = 1 - TAR`, but for its steps.
    #[must_use]
    pub fn equal_error_rate(&self) -> f64 {
        let points = (0..self.genuine.len()).map(|place| self.point(place));
        let worse = points.map(|point| point.false_accept_rate.max(1.0 - point.true_accept_rate));
        // Accepting nothing refuses all.
        worse.fold(1.0, f64::min)
    }

    /// The curve, thinned to at most so many points; the first and the last one are always there.
    #[must_use]
    pub fn roc(&self, points: usize) -> Vec<RocPoint> {
        let last = self.genuine.len() - 1;
        let count = points.clamp(2, last + 2);
        let mut places: Vec<usize> = (0..count).map(|at| at * last / (count - 1)).collect();
        places.dedup();
        places.into_iter().map(|place| self.point(place)).collect()
    }

    /// The point at the distance at this place, or at the last one as large.
    fn point(&self, place: usize) -> RocPoint {
        let threshold = self.genuine[place];
        let as_far = self
            .genuine
            .partition_point(|of| order(*of, threshold).is_le());
        RocPoint {
            threshold,
            false_accept_rate: self.accepted[place] as f64 / self.impostor as f64,
            true_accept_rate: as_far as f64 / self.genuine.len() as f64,
        }
    }
}

/// By size; 0 has no sign.
fn order(a: f32, b: f32) -> Ordering {
    (a + 0.0).total_cmp(&(b + 0.0))
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "shares of small counts are exact")]
mod tests {
    use reid_core::Identity;

    use super::*;
    use crate::{Labels, Protocol, evaluate::Matrix};

    fn labels(identities: &[i64]) -> Labels {
        Labels::new(identities.iter().copied().map(Identity::new).collect())
    }

    /// Of queries 1 and 2 with gallery images 1, 2 and 3.
    fn two(values: &[f32]) -> Verification {
        verify(values, &[1, 2], &[1, 2, 3]).expect("pairs of both kinds")
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
    fn by_hand() {
        // One identity: 0.2 and 0.5. Two: 0.1, 0.4, 0.5 and 0.9.
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
        // At 0.2: 0.1 is accepted. At 0.5: 0.1, 0.4 and the one that is as far.
        assert_eq!(
            points.collect::<Vec<_>>(),
            [(0.2, 0.25, 0.5), (0.5, 0.75, 1.0)]
        );
        assert_eq!(pairs.tar_at_far(0.2), 0.0);
        assert_eq!(pairs.tar_at_far(0.25), 0.5);
        assert_eq!(pairs.tar_at_far(1.0), 1.0);
        assert_eq!(pairs.at_far(0.1), None);
        // At 0.2 half is refused and a quarter accepted.
        assert_eq!(pairs.equal_error_rate(), 0.5);
    }

    #[test]
    fn pairs_that_are_told_apart_have_no_error() {
        let pairs = two(&[0.1, 0.8, 0.9, 0.7, 0.2, 0.6]);
        assert_eq!(pairs.equal_error_rate(), 0.0);
        assert_eq!(pairs.tar_at_far(0.0), 1.0);
        // The other way round nothing is right.
        let pairs = two(&[0.9, 0.1, 0.2, 0.3, 0.8, 0.4]);
        assert_eq!(pairs.equal_error_rate(), 1.0);
    }

    #[test]
    fn pairs_of_one_kind_only_are_refused() {
        let pairs = verify(&[0.5], &[1], &[1]);
        assert_eq!(
            pairs.expect_err("one pair").to_string(),
            "a ROC curve needs pairs of one identity and pairs of two, found 1 and 0: give both sides images \
             of at least two identities, one of them on both"
        );
    }

    #[test]
    fn a_query_of_unknown_identity_makes_no_pairs() {
        let values = [0.2, 0.4, 0.9, 0.1, 0.5, 0.5];
        let known = verify(&values[..3], &[1], &[1, 2, 3]).expect("pairs of both kinds");
        let both = verify(&values, &[1, -2], &[1, 2, 3]).expect("pairs of both kinds");
        assert_eq!(known, both);
    }
}
