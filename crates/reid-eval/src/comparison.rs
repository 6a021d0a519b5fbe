//! Two models on the same queries.

use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::{Error, Interval, QueryResult, Report, Resampling};

/// How much better one report is than another on the same queries, and whether that is chance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Comparison {
    /// Mean of the differences in average precision: this report's less the other's.
    pub difference: Interval,
    /// How often a difference as large, either way, would come about if the two models were equally
    /// good: the difference of each identity's queries, or of each query, gets a sign by chance (Fisher's
    /// permutation test); which of them, [`Resampling::unit`] says.
    pub p_value: f64,
    /// Queries that this report answers better, by average precision.
    pub better: usize,
    /// Queries that it answers worse.
    pub worse: usize,
    /// Queries that both answer equally well.
    pub equal: usize,
    /// The queries with the largest differences, either way; at most 20.
    pub extremes: Vec<QueryDifference>,
}

/// One query of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct QueryDifference {
    /// Which query, counted from 0.
    pub query: usize,
    /// Its average precision in this report less that in the other.
    pub difference: f64,
}

/// Queries that [`Comparison::extremes`] lists, at most.
const EXTREMES: usize = 20;

impl Report {
    /// Compares with another report on the same queries, in the same order.
    ///
    /// Only queries that have a match in both count.
    ///
    /// # Errors
    /// If the reports have different numbers of queries or queries of different people, share none that
    /// has a match, or the resampling has no samples or a confidence outside 0 to 1, or draws identities and
    /// the report is of a version that did not keep them.
    ///
    /// ```
    /// # use reid_core::Identity;
    /// # use reid_eval::{EvaluationConfig, Labels, Protocol, Resampling, evaluate_distances};
    /// # let labels = Labels::new([1, 2].map(Identity::new).to_vec());
    /// # let config = EvaluationConfig::default().with_protocol(Protocol::NoCameras);
    /// let good = evaluate_distances(&[0.1, 0.2, 0.2, 0.1], &labels, &labels, &config)?;
    /// let fair = evaluate_distances(&[0.1, 0.2, 0.1, 0.2], &labels, &labels, &config)?;
    /// let comparison = good.compared_with(&fair, &Resampling::default())?;
    /// assert_eq!((comparison.better, comparison.worse, comparison.equal), (1, 0, 1));
    /// assert_eq!(comparison.difference.value, 0.25);
    /// # Ok::<(), reid_eval::Error>(())
    /// ```
    pub fn compared_with(
        &self,
        other: &Self,
        resampling: &Resampling,
    ) -> Result<Comparison, Error> {
        if self.per_query.len() != other.per_query.len() {
            return Err(Error::Compared {
                one: self.per_query.len(),
                other: other.per_query.len(),
            });
        }
        self.expect_same_people(other)?;
        let pairs = self.per_query.iter().zip(&other.per_query);
        let matched: Vec<(&QueryResult, f64)> = pairs
            .filter_map(|(one, other)| {
                let difference = one.average_precision? - other.average_precision?;
                Some((one, difference))
            })
            .collect();
        let clusters = resampling.clusters(matched.iter().map(|(one, _)| one.identity))?;
        let differences: Vec<(usize, f64)> =
            matched.iter().map(|(one, by)| (one.query, *by)).collect();
        let count = differences.len();
        let mean = |drawn: &[u32]| {
            let (mut sum, mut count) = (0.0, 0_u32);
            for ((_, by), times) in differences.iter().zip(drawn) {
                sum += by * f64::from(*times);
                count += times;
            }
            (count > 0).then(|| sum / f64::from(count))
        };
        let interval = resampling.interval(&clusters, "comparison", mean)?;
        let difference = interval.ok_or(Error::NothingInCommon {
            queries: self.queries,
        })?;

        let together = clusters.sums(differences.iter().map(|(_, by)| *by));
        // Rounding must not decide whether a sum reaches the one that was found.
        let total = together.iter().sum::<f64>().abs() * (1.0 - 1e-12);
        let seed = resampling.seed.named("signs");
        let reached = (0..resampling.samples).filter(|&sample| {
            let mut stream = seed.at(sample as u64).stream();
            let signed = together
                .iter()
                .map(|by| if stream.random_bool(0.5) { *by } else { -by });
            signed.sum::<f64>().abs() >= total
        });
        // The signs that were found are one of the possible ones.
        let p_value = (reached.count() + 1) as f64 / (resampling.samples + 1) as f64;

        let changed = differences.iter().filter(|(_, by)| *by != 0.0);
        let mut extremes: Vec<QueryDifference> = changed
            .map(|&(query, difference)| QueryDifference { query, difference })
            .collect();
        extremes.sort_by(|a, b| {
            let [one, other] = [a, b].map(|by| by.difference.abs());
            other.total_cmp(&one).then(a.query.cmp(&b.query))
        });
        extremes.truncate(EXTREMES);
        let better = differences.iter().filter(|(_, by)| *by > 0.0).count();
        let worse = differences.iter().filter(|(_, by)| *by < 0.0).count();
        Ok(Comparison {
            difference,
            p_value,
            better,
            worse,
            equal: count - better - worse,
            extremes,
        })
    }

    /// Refuses a report whose queries show other people, where both say whom they show.
    fn expect_same_people(&self, other: &Self) -> Result<(), Error> {
        for (one, other) in self.per_query.iter().zip(&other.per_query) {
            if let (Some(shown), Some(other)) = (one.identity, other.identity)
                && shown != other
            {
                return Err(Error::ComparedIdentities {
                    query: one.query,
                    one: shown,
                    other,
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use reid_core::Identity;

    use super::*;
    use crate::{EvaluationConfig, ResamplingUnit};

    /// Each query of each identity finds its match at this rank.
    fn report(ranks: impl Iterator<Item = (i64, usize)>) -> Report {
        let config = EvaluationConfig::default();
        let results = ranks.enumerate().map(|(query, (identity, rank))| {
            QueryResult::from_ranks((query, Identity::new(identity)), &[rank], &config)
        });
        Report::from_results(results.collect(), 100, &config).expect("matches")
    }

    /// Six people of five queries each: the first five are found at rank 1 instead of 2, the last the other
    /// way round. As thirty independent queries that would be 25 to 5.
    #[test]
    fn people_are_what_is_compared() {
        let people = || (0..30).map(|query| i64::from(query / 5));
        let one = report(people().map(|person| (person, if person < 5 { 1 } else { 2 })));
        let other = report(people().map(|person| (person, if person < 5 { 2 } else { 1 })));
        let compared = |unit| {
            let resampling = Resampling::default().with_unit(unit);
            one.compared_with(&other, &resampling).expect("one set")
        };
        let (people, queries) = (
            compared(ResamplingUnit::Identities),
            compared(ResamplingUnit::Queries),
        );
        assert_eq!((people.better, people.worse), (25, 5));
        // Of 2⁶ signs of six equal differences 14 give a sum as large: all alike, or one unlike the rest.
        assert!((people.p_value - 14.0 / 64.0).abs() < 0.04, "{people:?}");
        assert!(queries.p_value < 0.01, "{queries:?}");
        let width = |of: &Comparison| of.difference.high - of.difference.low;
        // √5 = 2.2 times as wide, but for the steps of six.
        assert!(
            width(&people) > 1.7 * width(&queries),
            "{people:?} {queries:?}"
        );
        let [one, other] = [&people, &queries].map(|of| of.difference.value.to_bits());
        assert_eq!(one, other);
    }

    #[test]
    fn reports_on_other_people_are_refused() {
        let one = report([(1, 1), (2, 1)].into_iter());
        let other = report([(1, 1), (3, 1)].into_iter());
        let error = one.compared_with(&other, &Resampling::default());
        assert_eq!(
            error.expect_err("other people").to_string(),
            "a comparison needs two reports on the same queries in the same order: query 1 (from 0) shows \
             identity 2 in one and 3 in the other"
        );
    }
}
