//! The report of an evaluation: CMC, mAP and mINP, with the configuration and the result of each query.

use std::fmt;

use reid_core::Identity;
use serde::{Deserialize, Serialize};

use crate::{EvaluationConfig, RerankConfig, Unmatched};

/// The ranks of the CMC curve that a printed report shows.
const PRINTED_RANKS: [usize; 4] = [1, 5, 10, 20];

/// The metrics of an evaluation with the configuration used. `Display` prints a table.
///
/// All metrics are fractions from 0 to 1. They are means over the queries with a match or, with
/// [`Unmatched::CountAsZero`], over all queries of known identity. For a query with `R` matches at ranks
/// `r₁ < … < r_R`:
///
/// ```text
/// CMC(k) = mean [r₁ ≤ k]       mAP = mean AP       mINP = mean R / r_R
/// ```
///
/// ```
/// use reid_core::Identity;
/// use reid_eval::{EvaluationConfig, Labels, Protocol, evaluate_distances};
///
/// let labels = Labels::new([1, 2].map(Identity::new).to_vec());
/// let config = EvaluationConfig::default().with_protocol(Protocol::NoCameras);
/// // The first query has its match at rank 1, the second at rank 2.
/// let report = evaluate_distances(&[0.1, 0.2, 0.1, 0.2], &labels, &labels, &config)?;
///
/// assert_eq!((report.rank(1), report.rank(2)), (0.5, 1.0));
/// assert_eq!(report.per_query[1].first_match, Some(2));
/// assert!(report.to_string().contains("Rank-1    50.00 %"));
/// # Ok::<(), reid_eval::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// Cumulative matching characteristic: `cmc[k - 1]` is the fraction of queries with a match among the
    /// first `k` images. Its length is [`EvaluationConfig::max_rank`]; for a smaller gallery, the last value
    /// is repeated.
    pub cmc: Vec<f64>,
    /// Mean of the [average precision](crate::AveragePrecision) (mAP).
    pub mean_average_precision: f64,
    /// Mean of the inverse negative penalty (mINP; Ye et al., TPAMI 2021, arXiv:2001.04193): `R / r_R`, which
    /// measures how far down the ranked list the last match is.
    pub mean_inverse_negative_penalty: f64,
    /// The number of all queries.
    pub queries: usize,
    /// The number of queries with a match.
    pub matched_queries: usize,
    /// The number of queries of unknown identity ([`Identity::UNKNOWN`]), which are not scored.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unknown_queries: usize,
    /// The number of gallery images, including junk.
    pub gallery: usize,
    /// The configuration of the evaluation.
    pub config: EvaluationConfig,
    /// The hyper-parameters of re-ranking, if the gallery was re-ranked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerank: Option<RerankConfig>,
    /// The result of each query, in the order of the queries.
    pub per_query: Vec<QueryResult>,
}

/// The result of one query. The metrics are `None` if it has no match or an unknown identity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct QueryResult {
    /// Index of the query, from 0.
    pub query: usize,
    /// Identity of the query; absent in reports of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// Average precision, from 0 to 1.
    pub average_precision: Option<f64>,
    /// Inverse negative penalty, above 0 and up to 1: the number of matches divided by the rank of the last
    /// match.
    pub inverse_negative_penalty: Option<f64>,
    /// Rank of the first match, from 1.
    pub first_match: Option<usize>,
}

impl QueryResult {
    /// Scores a query with the given identity whose matches are at these ranks, ascending from 1.
    pub(crate) fn from_ranks(
        (query, identity): (usize, Identity),
        ranks: &[usize],
        config: &EvaluationConfig,
    ) -> Self {
        let last = ranks.last();
        Self {
            query,
            identity: Some(identity),
            average_precision: last.map(|_| config.average_precision.score(ranks)),
            inverse_negative_penalty: last.map(|&last| ranks.len() as f64 / last as f64),
            first_match: ranks.first().copied(),
        }
    }

    /// Whether the query is scored, that is, its identity is not [`Identity::UNKNOWN`].
    #[must_use]
    pub fn is_scored(&self) -> bool {
        !self.identity.is_some_and(Identity::is_unknown)
    }
}

impl Report {
    /// Averages the results of queries; `None` if no query has a match.
    pub(crate) fn from_results(
        per_query: Vec<QueryResult>,
        gallery: usize,
        config: &EvaluationConfig,
    ) -> Option<Self> {
        let queries = per_query.len();
        let known_queries = per_query.iter().filter(|result| result.is_scored()).count();
        let first_matches = per_query.iter().filter_map(|result| result.first_match);
        let matched_queries = first_matches.clone().count();
        if matched_queries == 0 {
            return None;
        }
        let scored = scored(config.unmatched, known_queries, matched_queries);
        let mean = |value: fn(&QueryResult) -> Option<f64>| {
            per_query.iter().filter_map(value).sum::<f64>() / scored
        };
        let mut firsts_at = vec![0; config.max_rank];
        for rank in first_matches.filter(|&rank| rank <= config.max_rank) {
            firsts_at[rank - 1] += 1;
        }
        let mut found = 0_usize;
        let cmc = firsts_at.into_iter().map(|firsts| {
            found += firsts;
            found as f64 / scored
        });
        Some(Self {
            cmc: cmc.collect(),
            mean_average_precision: mean(|result| result.average_precision),
            mean_inverse_negative_penalty: mean(|result| result.inverse_negative_penalty),
            queries,
            matched_queries,
            unknown_queries: queries - known_queries,
            gallery,
            config: config.clone(),
            rerank: None,
            per_query,
        })
    }

    /// `CMC(k)`, the fraction of queries with a match among the first `k` images; 0 for `k` = 0.
    ///
    /// For `k` beyond the length of [`cmc`](Self::cmc), it is computed from [`per_query`](Self::per_query).
    #[must_use]
    pub fn rank(&self, k: usize) -> f64 {
        if k == 0 {
            return 0.0;
        }
        self.cmc.get(k - 1).copied().unwrap_or_else(|| {
            let within = |result: &&QueryResult| result.first_match.is_some_and(|rank| rank <= k);
            let found = self.per_query.iter().filter(within).count();
            let known = self.queries.saturating_sub(self.unknown_queries);
            found as f64 / scored(self.config.unmatched, known, self.matched_queries)
        })
    }
}

/// The number of queries that the means are over: all queries of known identity, or those with a match.
fn scored(unmatched: Unmatched, known: usize, matched: usize) -> f64 {
    match unmatched {
        Unmatched::Skip => matched as f64,
        Unmatched::CountAsZero => known as f64,
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            queries,
            matched_queries,
            unknown_queries,
            gallery,
            config,
            rerank,
            ..
        } = self;
        let EvaluationConfig {
            metric,
            protocol,
            average_precision,
            unmatched,
            ..
        } = config;
        let fate = match unmatched {
            Unmatched::Skip => "skipped",
            Unmatched::CountAsZero => "counted as 0",
        };
        let missed = queries.saturating_sub(matched_queries + unknown_queries);
        let unknown = match unknown_queries {
            0 => String::new(),
            unknown => format!("; {unknown} of unknown identity, not scored"),
        };
        writeln!(
            f,
            "{protocol} protocol, {metric} distance, {average_precision} AP"
        )?;
        if let Some(RerankConfig { k1, k2, lambda, .. }) = rerank {
            writeln!(f, "re-ranked with k1 {k1}, k2 {k2} and lambda {lambda}")?;
        }
        write!(
            f,
            "{queries} queries ({missed} without a match, {fate}{unknown}), gallery of {gallery}"
        )?;
        let means = [
            ("mAP".to_owned(), self.mean_average_precision),
            ("mINP".to_owned(), self.mean_inverse_negative_penalty),
        ];
        let ranks = PRINTED_RANKS.map(|k| (format!("Rank-{k}"), self.rank(k)));
        for (name, value) in means.into_iter().chain(ranks) {
            write!(f, "\n  {name:<8}{:>7.2} %", 100.0 * value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(config: &EvaluationConfig) -> Report {
        // Matches at ranks 3 and 4, at 2, none, and at 3 and 4.
        let ranks: [&[usize]; 4] = [&[3, 4], &[2], &[], &[3, 4]];
        let results = (0..).zip(ranks);
        let results = results.map(|(query, ranks)| {
            QueryResult::from_ranks((query, Identity::new(1)), ranks, config)
        });
        Report::from_results(results.collect(), 8, config).expect("three matches")
    }

    #[test]
    fn prints_as_a_table() {
        let config = EvaluationConfig::default();
        insta::assert_snapshot!(report(&config), @"
        market protocol, cosine distance, non-interpolated AP
        4 queries (1 without a match, skipped), gallery of 8
          mAP       44.44 %
          mINP      50.00 %
          Rank-1     0.00 %
          Rank-5   100.00 %
          Rank-10  100.00 %
          Rank-20  100.00 %
        ");
        let config = config
            .with_average_precision("at-2".parse().expect("a kind"))
            .with_unmatched(Unmatched::CountAsZero);
        insta::assert_snapshot!(report(&config), @"
        market protocol, cosine distance, at-2 AP
        4 queries (1 without a match, counted as 0), gallery of 8
          mAP       12.50 %
          mINP      37.50 %
          Rank-1     0.00 %
          Rank-5    75.00 %
          Rank-10   75.00 %
          Rank-20   75.00 %
        ");
    }

    #[test]
    fn the_curve_repeats_its_last_value() {
        let found = report(&EvaluationConfig::default().with_max_rank(6));
        let third = 1.0 / 3.0;
        assert_eq!(found.cmc, [0.0, third, 1.0, 1.0, 1.0, 1.0]);
        let found = report(&EvaluationConfig::default().with_unmatched(Unmatched::CountAsZero));
        assert_eq!(found.cmc[..4], [0.0, 0.25, 0.75, 0.75]);
        assert_eq!((found.cmc.len(), found.cmc[49]), (50, 0.75));
    }

    #[test]
    fn ranks_beyond_the_curve_are_computed() {
        let found = report(&EvaluationConfig::default().with_max_rank(2));
        let third = 1.0 / 3.0;
        let ranks: Vec<f64> = [0, 1, 2, 3, 99].map(|k| found.rank(k)).into();
        assert_eq!(ranks, [0.0, 0.0, third, 1.0, 1.0]);
    }

    #[test]
    fn a_report_round_trips_through_json() {
        let report = report(&EvaluationConfig::default());
        let json = serde_json::to_string(&report).expect("plain data");
        assert_eq!(serde_json::from_str::<Report>(&json).ok(), Some(report));
    }

    #[test]
    fn a_report_of_an_older_version_is_read() {
        let mut report = report(&EvaluationConfig::default());
        let json = serde_json::to_string(&report).expect("plain data");
        let older = json.replace(r#""identity":1,"#, "");
        assert_ne!(older, json);
        for result in &mut report.per_query {
            result.identity = None;
        }
        assert_eq!(serde_json::from_str::<Report>(&older).ok(), Some(report));
    }

    #[test]
    fn without_a_match_there_is_no_report() {
        let config = EvaluationConfig::default().with_unmatched(Unmatched::CountAsZero);
        let results = vec![QueryResult::from_ranks((0, Identity::new(1)), &[], &config)];
        assert_eq!(Report::from_results(results, 8, &config), None);
    }

    #[test]
    fn queries_of_unknown_identity_are_counted_but_not_scored() {
        for unmatched in [Unmatched::Skip, Unmatched::CountAsZero] {
            let config = EvaluationConfig::default()
                .with_unmatched(unmatched)
                .with_max_rank(2);
            let mut results = report(&config).per_query;
            let unknown = (results.len(), Identity::UNKNOWN);
            results.push(QueryResult::from_ranks(unknown, &[], &config));
            let found = Report::from_results(results, 8, &config).expect("three matches");
            let without = report(&config);
            assert_eq!((found.queries, found.unknown_queries), (5, 1));
            assert_eq!(found.cmc, without.cmc);
            assert_eq!(found.rank(9).to_bits(), without.rank(9).to_bits());
            assert_eq!(
                found.mean_average_precision.to_bits(),
                without.mean_average_precision.to_bits()
            );
            let text = found.to_string();
            assert!(
                text.contains("; 1 of unknown identity, not scored), gallery of 8"),
                "{text}"
            );
        }
    }
}
