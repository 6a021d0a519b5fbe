//! A verification threshold on the distance, calibrated on one set and applied to others.

use serde::{Deserialize, Serialize};

use crate::{
    Error, Interval, PairCounts, Relevance, Resampling, RetrievalTask, Verification,
    distance_columns::fold_rows, relevance::QueryRule,
};

/// The largest distance at which two images count as the same identity.
///
/// [`Threshold::calibrate`] chooses it on a validation split: the largest distance of a genuine pair whose
/// false accept rate is at most the wanted rate. It can be serialised and applied elsewhere.
///
/// ```
/// use reid_core::Identity;
/// use reid_eval::{Distances, Embeddings, Metric, Protocol, Resampling, RetrievalTask, Threshold};
///
/// let one = |values: &[f32], ids: &[i64]| {
///     Embeddings::new(values.to_vec(), 1, ids.iter().copied().map(Identity::new).collect())
/// };
/// let (query, gallery) = (one(&[0.0, 9.0], &[1, 2])?, one(&[1.0, 7.0], &[1, 2])?);
/// let distances = Distances::between(&query, &gallery, Metric::Euclidean)?;
/// let task = RetrievalTask::new(&distances, query.labels(), gallery.labels())
///     .with_protocol(&Protocol::NoCameras);
/// let threshold = Threshold::calibrate(&task, 0.01, &Resampling::default())?;
/// assert!(threshold.accepts(1.5) && !threshold.accepts(2.5));
/// # Ok::<(), reid_eval::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Threshold {
    /// The largest accepted distance, by the metric of the task that it was calibrated on.
    pub distance: f32,
    /// The wanted false accept rate, an upper limit from 0 to 1.
    pub wanted: f64,
    /// The rates on the calibration split.
    pub rates: Rates,
}

/// The false and true accept rates of a threshold on a set, with confidence intervals.
///
/// The intervals resample identities or queries, each with all of its pairs (see
/// [`ResamplingUnit`](crate::ResamplingUnit)), because the pairs of a query are correlated.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Rates {
    /// Fraction of the pairs of different identities that is accepted (FAR), from 0 to 1.
    pub false_accepts: Interval,
    /// Fraction of the pairs of the same identity that is accepted (TAR), from 0 to 1.
    pub true_accepts: Interval,
    /// The numbers of genuine and impostor pairs.
    pub pairs: PairCounts,
}

impl Threshold {
    /// Chooses the threshold on a validation split, for a false accept rate of at most `wanted`.
    ///
    /// # Errors
    /// - The errors of [`Verification::from_task`].
    /// - `wanted` or the confidence level is outside 0 to 1, or the number of bootstrap samples is 0.
    /// - No threshold has such a low rate.
    pub fn calibrate(
        task: &RetrievalTask<'_>,
        wanted: f64,
        resampling: &Resampling,
    ) -> Result<Self, Error> {
        if !(0.0..=1.0).contains(&wanted) {
            return Err(Error::Share {
                setting: "the wanted false accept rate",
                found: wanted,
            });
        }
        let pairs = Verification::from_task(task)?;
        let impostor = pairs.pairs().impostor;
        let point = pairs
            .at_far(wanted)
            .ok_or(Error::Rate { wanted, impostor })?;
        let rates = rates(task, point.threshold, resampling)?;
        Ok(Self {
            distance: point.threshold,
            wanted,
            rates,
        })
    }

    /// Whether two images at this distance count as the same identity.
    #[must_use]
    pub fn accepts(&self, distance: f32) -> bool {
        distance <= self.distance
    }

    /// Measures the rates of the threshold on another set.
    ///
    /// # Errors
    /// The errors of [`Verification::from_task`], and if the number of bootstrap samples is 0 or the
    /// confidence level is outside 0 to 1.
    pub fn rates_on(
        &self,
        task: &RetrievalTask<'_>,
        resampling: &Resampling,
    ) -> Result<Rates, Error> {
        rates(task, self.distance, resampling)
    }
}

/// The numbers of all and of accepted pairs of a query.
#[derive(Clone, Copy, Default)]
struct QueryPairs {
    all: PairCounts,
    accepted: PairCounts,
}

fn rates(
    task: &RetrievalTask<'_>,
    threshold: f32,
    resampling: &Resampling,
) -> Result<Rates, Error> {
    let begin = |rule: &QueryRule<'_>| (rule.identity, QueryPairs::default());
    let queries = fold_rows(task, begin, |rule, (_, pairs), first, row| {
        for (image, distance) in (first..).zip(row) {
            let accepted = u64::from(*distance <= threshold);
            match rule.relevance(image) {
                Relevance::Match => {
                    pairs.all.genuine += 1;
                    pairs.accepted.genuine += accepted;
                }
                Relevance::NonMatch => {
                    pairs.all.impostor += 1;
                    pairs.accepted.impostor += accepted;
                }
                Relevance::Ignored | Relevance::Unknown => {}
            }
        }
    })?;
    let total =
        |count: fn(&PairCounts) -> u64| queries.iter().map(|query| count(&query.1.all)).sum();
    let pairs = PairCounts {
        genuine: total(|pairs| pairs.genuine),
        impostor: total(|pairs| pairs.impostor),
    };
    let clusters = resampling.clusters(queries.iter().map(|query| Some(query.0)))?;
    let share = |name: &str, count: fn(&PairCounts) -> u64| {
        let interval = resampling.interval(&clusters, name, |drawn| {
            let (mut all, mut accepted) = (0, 0);
            for ((_, pairs), times) in queries.iter().zip(drawn) {
                all += count(&pairs.all) * u64::from(*times);
                accepted += count(&pairs.accepted) * u64::from(*times);
            }
            (all > 0).then(|| accepted as f64 / all as f64)
        })?;
        interval.ok_or(Error::Pairs {
            genuine: pairs.genuine,
            impostor: pairs.impostor,
        })
    };
    Ok(Rates {
        false_accepts: share("false accepts", |pairs| pairs.impostor)?,
        true_accepts: share("true accepts", |pairs| pairs.genuine)?,
        pairs,
    })
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "fractions of small counts are exact")]
mod tests {
    use reid_core::Identity;

    use super::*;
    use crate::{Labels, Protocol, ResamplingUnit, evaluate::Matrix};

    fn labels(identities: &[i64]) -> Labels {
        Labels::new(identities.iter().copied().map(Identity::new).collect())
    }

    /// Eight people with four queries each. All queries of half of the people falsely match every other
    /// person; those of the other half have no false match.
    #[test]
    fn resampling_identities_draws_their_queries_together() {
        let person = |at: usize| i64::try_from(at / 4).expect("few");
        let (query, gallery) = (
            labels(&(0..32).map(person).collect::<Vec<_>>()),
            labels(&[0, 1, 2, 3, 4, 5, 6, 7]),
        );
        let distance = |at: usize| match (at / 8 / 4, at % 8) {
            (one, other) if one == other => 0.1,
            (one, _) if one % 2 == 0 => 0.2,
            _ => 0.9,
        };
        let values: Vec<f32> = (0..32 * 8).map(distance).collect();
        let distances = Matrix {
            values: &values,
            queries: 32,
            gallery: 8,
        };
        let task =
            RetrievalTask::new(&distances, &query, &gallery).with_protocol(&Protocol::NoCameras);
        let width = |unit| {
            let resampling = Resampling::default().with_unit(unit);
            let found = rates(&task, 0.5, &resampling).expect("pairs");
            assert_eq!(found.false_accepts.value, 0.5);
            found.false_accepts.high - found.false_accepts.low
        };
        let (people, queries) = (
            width(ResamplingUnit::Identities),
            width(ResamplingUnit::Queries),
        );
        // Standard errors 0.5/√8 and 0.5/√32.
        assert!(
            (queries - 4.0 * 0.5 / 32.0_f64.sqrt()).abs() < 0.08,
            "{queries}"
        );
        assert!(people > 1.6 * queries, "{people} and {queries}");
    }

    #[test]
    fn a_threshold_is_calibrated_on_one_set_and_applied_to_another() {
        let (query, gallery) = (labels(&[1, 2]), labels(&[1, 2, 3]));
        let matrix = |values| Matrix {
            values,
            queries: 2,
            gallery: 3,
        };
        let few = Resampling::default();
        let task = |distances| {
            RetrievalTask::new(distances, &query, &gallery).with_protocol(&Protocol::NoCameras)
        };
        let validation = matrix(&[0.2, 0.4, 0.9, 0.1, 0.5, 0.5]);
        let calibrate = |wanted| Threshold::calibrate(&task(&validation), wanted, &few);
        let threshold = calibrate(0.3).expect("a threshold");
        assert_eq!(threshold.distance, 0.2);
        assert_eq!(threshold.rates.false_accepts.value, 0.25);
        // For query 0, none of two impostors is accepted; for query 1, one of two.
        let interval = threshold.rates.false_accepts;
        assert_eq!((interval.low, interval.high), (0.0, 0.5));

        let json = serde_json::to_string(&threshold).expect("JSON");
        let read: Threshold = serde_json::from_str(&json).expect("a threshold");
        assert_eq!(read, threshold);
        // Version 0.1 wrote the pair counts as an array.
        let older = json.replace(r#"{"genuine":2,"impostor":4}"#, "[2,4]");
        assert_ne!(older, json);
        assert_eq!(
            serde_json::from_str::<Threshold>(&older).ok(),
            Some(threshold)
        );

        let test = matrix(&[0.1, 0.1, 0.1, 0.9, 0.9, 0.9]);
        let rates = read.rates_on(&task(&test), &few).expect("pairs");
        assert_eq!(
            (rates.true_accepts.value, rates.false_accepts.value),
            (0.5, 0.5)
        );

        assert_eq!(
            calibrate(0.2).expect_err("too strict").to_string(),
            "no threshold that accepts a pair of the same identity has a false accept rate of at most 0.2: \
             more than this fraction of the 4 pairs of different identities are at least as close as the \
             closest pair of the same identity"
        );
        assert_eq!(
            calibrate(2.0).expect_err("not a fraction").to_string(),
            "the wanted false accept rate is 2, expected a fraction from 0 to 1"
        );
    }
}
