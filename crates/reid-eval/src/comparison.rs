//! Paired comparison of two models on the same queries.

use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::{Error, Interval, QueryResult, Report, Resampling};

/// The difference between two reports on the same queries, with a confidence interval and a p-value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Comparison {
    /// The mean difference in average precision, from -1 to 1: this report minus the other.
    pub difference: Interval,
    /// The mean difference in rank-1, from -1 to 1: this report minus the other. Absent in comparisons of older
    /// versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank_1_difference: Option<Interval>,
    /// The two-sided p-value of the difference in average precision, above 0 and up to 1, by a paired permutation
    /// test (Fisher). It is the probability of a difference at least this large if the two models were equally
    /// good. The test flips the signs of the differences at random, per identity or per query
    /// ([`Resampling::unit`]).
    pub p_value: f64,
    /// The number of queries with a higher average precision in this report.
    pub better: usize,
    /// The number of queries with a lower average precision in this report.
    pub worse: usize,
    /// The number of queries with equal average precision.
    pub equal: usize,
    /// The queries with the largest absolute differences, at most 20, largest first.
    pub extremes: Vec<QueryDifference>,
}

/// The difference of one query in a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct QueryDifference {
    /// Index of the query, from 0.
    pub query: usize,
    /// Its average precision in this report minus that in the other, from -1 to 1.
    pub difference: f64,
}

/// The maximum length of [`Comparison::extremes`].
const EXTREMES: usize = 20;

impl Report {
    /// Compares this report with another one on the same queries, in the same order.
    ///
    /// Only queries with a match in both reports count.
    ///
    /// # Errors
    /// - The reports have different numbers of queries or different identities.
    /// - No query has a match in both.
    /// - The number of bootstrap samples is 0, or the confidence level is outside 0 to 1.
    /// - Identities are resampled, and this report was written by an older version without identities.
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
        self.expect_same_identities(other)?;
        let pairs = self.per_query.iter().zip(&other.per_query);
        let matched: Vec<(&QueryResult, [f64; 2])> = pairs
            .filter_map(|(one, other)| {
                let precision = one.average_precision? - other.average_precision?;
                Some((one, [precision, first(one) - first(other)]))
            })
            .collect();
        let clusters = resampling.clusters(matched.iter().map(|(one, _)| one.identity))?;
        let mean = |name: &str, metric: usize| {
            let interval = resampling.interval(&clusters, name, |drawn| {
                let (mut sum, mut count) = (0.0, 0_u32);
                for ((_, by), times) in matched.iter().zip(drawn) {
                    sum += by[metric] * f64::from(*times);
                    count += times;
                }
                (count > 0).then(|| sum / f64::from(count))
            });
            interval?.ok_or(Error::NothingInCommon {
                queries: self.queries,
            })
        };
        let difference = mean("comparison", 0)?;
        let rank_1_difference = mean("comparison of rank-1", 1)?;
        let differences: Vec<(usize, f64)> =
            matched.iter().map(|(one, by)| (one.query, by[0])).collect();
        let together = clusters.sums(differences.iter().map(|(_, by)| *by));
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
            rank_1_difference: Some(rank_1_difference),
            p_value: p_value(&together, resampling),
            better,
            worse,
            equal: differences.len() - better - worse,
            extremes,
        })
    }

    /// Returns an error if a query has different identities in the two reports; identities may be missing.
    fn expect_same_identities(&self, other: &Self) -> Result<(), Error> {
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

/// 1 if the first match has rank 1, otherwise 0.
fn first(result: &QueryResult) -> f64 {
    f64::from(u8::from(result.first_match == Some(1)))
}

/// The p-value of a paired permutation test. `together` has the sum of the differences of each identity, or
/// of each query.
fn p_value(together: &[f64], resampling: &Resampling) -> f64 {
    // A relative tolerance: rounding must not decide whether a sum reaches the observed one.
    let total = together.iter().sum::<f64>().abs() * (1.0 - 1e-12);
    let seed = resampling.seed.named("signs");
    let reached = (0..resampling.samples).filter(|&sample| {
        let mut stream = seed.at(sample as u64).stream();
        let signed = together
            .iter()
            .map(|by| if stream.random_bool(0.5) { *by } else { -by });
        signed.sum::<f64>().abs() >= total
    });
    // The observed signs count as one of the permutations.
    (reached.count() + 1) as f64 / (resampling.samples + 1) as f64
}

#[cfg(test)]
mod tests {
    use reid_core::Identity;

    use super::*;
    use crate::{EvaluationConfig, ResamplingUnit};

    /// A report of queries with the given identities, each with one match at the given rank.
    fn report(ranks: impl Iterator<Item = (i64, usize)>) -> Report {
        let config = EvaluationConfig::default();
        let results = ranks.enumerate().map(|(query, (identity, rank))| {
            QueryResult::from_ranks((query, Identity::new(identity)), &[rank], &config)
        });
        Report::from_results(results.collect(), 100, &config).expect("matches")
    }

    /// Six people with five queries each. For five of the people, all matches move from rank 2 to rank 1; for
    /// the last one, from rank 1 to rank 2. Counted as independent queries, that would be 25 to 5.
    #[test]
    fn the_test_permutes_identities_by_default() {
        let people = || (0..30).map(|query| i64::from(query / 5));
        let one = report(people().map(|person| (person, if person < 5 { 1 } else { 2 })));
        let other = report(people().map(|person| (person, if person < 5 { 2 } else { 1 })));
        let compared = |unit| {
            let resampling = Resampling::default().with_unit(unit);
            one.compared_with(&other, &resampling)
                .expect("the same queries")
        };
        let (people, queries) = (
            compared(ResamplingUnit::Identities),
            compared(ResamplingUnit::Queries),
        );
        assert_eq!((people.better, people.worse), (25, 5));
        // In 25 queries rank-1 rises from 0 to 1, and in 5 it falls.
        let rank_1 = people.rank_1_difference.expect("computed");
        assert!((rank_1.value - 20.0 / 30.0).abs() < 1e-12, "{rank_1:?}");
        assert!(
            rank_1.low < rank_1.value && rank_1.value < rank_1.high,
            "{rank_1:?}"
        );
        // Of the 2⁶ sign patterns of six equal differences, 14 give a sum at least as large: all signs equal,
        // or all but one.
        assert!((people.p_value - 14.0 / 64.0).abs() < 0.04, "{people:?}");
        assert!(queries.p_value < 0.01, "{queries:?}");
        let width = |of: &Comparison| of.difference.high - of.difference.low;
        // √5 = 2.2 times as wide in theory; with only six people, the quantiles are coarse.
        assert!(
            width(&people) > 1.7 * width(&queries),
            "{people:?} {queries:?}"
        );
        let [one, other] = [&people, &queries].map(|of| of.difference.value.to_bits());
        assert_eq!(one, other);
    }

    #[test]
    fn reports_with_other_identities_are_rejected() {
        let one = report([(1, 1), (2, 1)].into_iter());
        let other = report([(1, 1), (3, 1)].into_iter());
        let error = one.compared_with(&other, &Resampling::default());
        assert_eq!(
            error.expect_err("other identities").to_string(),
            "a comparison needs two reports on the same queries in the same order: query 1 (from 0) has \
             identity 2 in the first report and 3 in the second"
        );
    }
}
