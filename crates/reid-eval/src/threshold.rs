//! A threshold that tells same from different, calibrated on one set and applied to others.

use serde::{Deserialize, Serialize};

use crate::{
    Error, Interval, PairCounts, Relevance, Resampling, RetrievalTask, Verification,
    evaluate::each_row,
};

/// A distance up to which two images count as the same identity.
///
/// Chosen on a validation split so that at most a wanted share of the pairs of two identities is
/// accepted, and as many pairs of one as that allows. It serialises, to be applied elsewhere.
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
    /// The largest accepted distance.
    pub distance: f32,
    /// The false accept rate that was wanted, at most.
    pub wanted: f64,
    /// What was found on the split that it was calibrated on.
    pub rates: Rates,
}

/// How often a threshold is wrong on a set, and how sure that is.
///
/// Intervals are over identities drawn anew with all pairs of their queries, or over queries alone with
/// theirs (see [`ResamplingUnit`](crate::ResamplingUnit)): pairs of one query, and of one identity, depend on
/// each other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Rates {
    /// Share of the pairs of two identities that is accepted.
    pub false_accepts: Interval,
    /// Share of the pairs of one identity that is accepted.
    pub true_accepts: Interval,
    /// How many pairs there are.
    pub pairs: PairCounts,
}

impl Threshold {
    /// Finds the threshold on a validation split.
    ///
    /// # Errors
    /// As [`Verification::from_task`], if no threshold has a rate as low, or if the resampling has no samples
    /// or a confidence outside 0 to 1.
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

    /// How often the threshold is wrong on another set.
    ///
    /// # Errors
    /// As [`calibrate`](Self::calibrate).
    pub fn rates_on(
        &self,
        task: &RetrievalTask<'_>,
        resampling: &Resampling,
    ) -> Result<Rates, Error> {
        rates(task, self.distance, resampling)
    }
}

/// Pairs of a query.
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
    let queries = each_row(task, |rule, row| {
        let mut pairs = QueryPairs::default();
        for (image, distance) in row.iter().enumerate() {
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
        (rule.identity, pairs)
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
#[expect(clippy::float_cmp, reason = "shares of small counts are exact")]
mod tests {
    use reid_core::Identity;

    use super::*;
    use crate::{Labels, Protocol, ResamplingUnit, evaluate::Matrix};

    fn labels(identities: &[i64]) -> Labels {
        Labels::new(identities.iter().copied().map(Identity::new).collect())
    }

    /// Eight people of four queries; half of the people are taken for somebody, by all of their queries.
    #[test]
    fn the_queries_of_a_person_are_drawn_together() {
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
    fn it_is_calibrated_on_one_set_and_applied_to_another() {
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
        // Query 0 alone has none of two pairs accepted, query 1 one of two.
        let interval = threshold.rates.false_accepts;
        assert_eq!((interval.low, interval.high), (0.0, 0.5));

        let json = serde_json::to_string(&threshold).expect("JSON");
        let read: Threshold = serde_json::from_str(&json).expect("a threshold");
        assert_eq!(read, threshold);
        // Version 0.1 wrote the pairs as two numbers.
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
            "no threshold has a false accept rate of at most 0.2: the nearest pair of one identity is \
             farther apart than a larger share of 4 pairs of two"
        );
        assert_eq!(
            calibrate(2.0).expect_err("no share").to_string(),
            "the wanted false accept rate is 2, expected a share from 0 to 1"
        );
    }
}
