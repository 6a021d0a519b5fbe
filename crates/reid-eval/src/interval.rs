//! Confidence intervals by resampling.

use std::collections::HashMap;

use rand::RngExt;
use reid_core::{Identity, Seed};
use serde::{Deserialize, Serialize};

use crate::{Error, QueryResult, Report, Unmatched};

/// An estimate and where it would lie in most other samples of the same size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Interval {
    /// The estimate.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// How intervals are found: the percentile bootstrap (Efron and Tibshirani, 1993). The same seed
/// gives the same interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Resampling {
    /// How many samples are drawn, with replacement; at least 1.
    pub samples: usize,
    /// Share of them that lies within the interval, from 0 to 1.
    pub confidence: f64,
    /// The source of what is drawn.
    pub seed: Seed,
    /// What is drawn; identities by default.
    #[serde(default)]
    pub unit: ResamplingUnit,
}

/// What a sample of an interval or of a comparison consists of.
///
/// The queries of one identity depend on each other: they show one person, often in one track, so that a
/// model finds all of them or none. An interval over queries drawn one by one takes them for independent
/// and is too narrow: with `n` queries an identity that agree, by a factor of up to `√n`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResamplingUnit {
    /// Identities, each with all of its queries (the cluster bootstrap; Field and Welsh, 2007): what varies
    /// is which people are searched for.
    #[default]
    Identities,
    /// Queries, each by itself: what varies is which images of the same people are searched for.
    Queries,
}

/// Which queries are drawn together, by numbers from 0 in the order of their first query.
#[derive(Debug)]
pub(crate) struct Clusters {
    of: Vec<usize>,
    count: usize,
}

impl Clusters {
    /// Values summed over the queries of each cluster.
    pub(crate) fn sums(&self, values: impl Iterator<Item = f64>) -> Vec<f64> {
        let mut sums = vec![0.0; self.count];
        for (&cluster, value) in self.of.iter().zip(values) {
            sums[cluster] += value;
        }
        sums
    }
}

impl Default for Resampling {
    /// 1,000 samples of identities, 95 % of which lie within.
    fn default() -> Self {
        Self {
            samples: 1_000,
            confidence: 0.95,
            seed: Seed::new(1),
            unit: ResamplingUnit::default(),
        }
    }
}

impl Resampling {
    /// The same with another number of samples.
    #[must_use]
    pub fn with_samples(self, samples: usize) -> Self {
        Self { samples, ..self }
    }

    /// The same with another share of the samples within the interval.
    #[must_use]
    pub fn with_confidence(self, confidence: f64) -> Self {
        Self { confidence, ..self }
    }

    /// The same with other samples.
    #[must_use]
    pub fn with_seed(self, seed: Seed) -> Self {
        Self { seed, ..self }
    }

    /// The same with samples of identities or of queries.
    #[must_use]
    pub fn with_unit(self, unit: ResamplingUnit) -> Self {
        Self { unit, ..self }
    }

    /// Refuses settings that give no interval.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.samples == 0 {
            return Err(Error::Setting {
                setting: "the number of samples of an interval",
            });
        }
        if !(0.0..=1.0).contains(&self.confidence) {
            return Err(Error::Share {
                setting: "the confidence of an interval",
                found: self.confidence,
            });
        }
        Ok(())
    }

    /// Which of some queries are drawn together.
    pub(crate) fn clusters(
        &self,
        identities: impl ExactSizeIterator<Item = Option<Identity>>,
    ) -> Result<Clusters, Error> {
        let count = identities.len();
        if self.unit == ResamplingUnit::Queries {
            let of = (0..count).collect();
            return Ok(Clusters { of, count });
        }
        let mut values = HashMap::new();
        let clusters = identities.enumerate().map(|(query, identity)| {
            let identity = identity.ok_or(Error::Unidentified { query })?;
            let next = values.len();
            Ok(*values.entry(identity).or_insert(next))
        });
        let of = clusters.collect::<Result<Vec<usize>, Error>>()?;
        let count = values.len();
        Ok(Clusters { of, count })
    }

    /// The interval of a statistic of queries: `of` is told how often each was drawn, and says nothing
    /// where the statistic is not defined.
    pub(crate) fn interval(
        &self,
        clusters: &Clusters,
        name: &str,
        of: impl Fn(&[u32]) -> Option<f64>,
    ) -> Result<Option<Interval>, Error> {
        self.check()?;
        let mut drawn = vec![1; clusters.of.len()];
        let Some(value) = of(&drawn) else {
            return Ok(None);
        };
        let seed = self.seed.named("interval").named(name);
        let mut times = vec![0_u32; clusters.count];
        let mut found: Vec<f64> = (0..self.samples)
            .filter_map(|sample| {
                times.fill(0);
                let mut stream = seed.at(sample as u64).stream();
                for _ in 0..clusters.count {
                    times[stream.random_range(0..clusters.count)] += 1;
                }
                for (drawn, &cluster) in drawn.iter_mut().zip(&clusters.of) {
                    *drawn = times[cluster];
                }
                of(&drawn)
            })
            .collect();
        found.sort_by(f64::total_cmp);
        let at = |share: f64| quantile(&found, share).unwrap_or(value);
        let outside = (1.0 - self.confidence) / 2.0;
        Ok(Some(Interval {
            value,
            low: at(outside),
            high: at(1.0 - outside),
        }))
    }
}

/// The quantile of sorted numbers, between the two nearest.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = share * last as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of the places"
    )]
    let below = place.floor() as usize;
    let above = (below + 1).min(last);
    Some(sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64))
}

/// The intervals of a report's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Intervals {
    /// Of CMC at rank 1.
    pub rank_1: Interval,
    /// Of the mean average precision.
    pub mean_average_precision: Interval,
    /// Of the mean inverse negative penalty.
    pub mean_inverse_negative_penalty: Interval,
}

impl Report {
    /// Where the numbers would lie for other queries of the same kind: identities with their queries are
    /// drawn anew, or queries alone (see [`ResamplingUnit`]), and the gallery stays.
    ///
    /// # Errors
    /// If the resampling has no samples, or a confidence outside 0 to 1, or draws identities and the report
    /// is of a version that did not keep them.
    ///
    /// ```
    /// # use reid_core::Identity;
    /// # use reid_eval::{EvaluationConfig, Labels, Protocol, Resampling, evaluate_distances};
    /// # let labels = Labels::new([1, 2].map(Identity::new).to_vec());
    /// # let config = EvaluationConfig::default().with_protocol(Protocol::NoCameras);
    /// // One query finds itself at once, the other one image too late.
    /// let report = evaluate_distances(&[0.1, 0.2, 0.1, 0.2], &labels, &labels, &config)?;
    /// let map = report.intervals(&Resampling::default())?.mean_average_precision;
    /// assert_eq!((map.low, map.value, map.high), (0.5, 0.75, 1.0));
    /// # Ok::<(), reid_eval::Error>(())
    /// ```
    pub fn intervals(&self, resampling: &Resampling) -> Result<Intervals, Error> {
        let scored = self.per_query.iter().filter(|result| result.is_scored());
        let scored: Vec<&QueryResult> = scored.collect();
        let clusters = resampling.clusters(scored.iter().map(|result| result.identity))?;
        let mean = |name: &str, value: fn(&QueryResult) -> Option<f64>| {
            let interval = resampling.interval(&clusters, name, |drawn| {
                let (mut sum, mut count) = (0.0, 0_u32);
                for (result, times) in scored.iter().zip(drawn) {
                    let value = match (value(result), self.config.unmatched) {
                        (None, Unmatched::Skip) => continue,
                        (value, _) => value.unwrap_or(0.0),
                    };
                    sum += value * f64::from(*times);
                    count += times;
                }
                (count > 0).then(|| sum / f64::from(count))
            })?;
            // A report has at least one query with a match.
            Ok(interval.unwrap_or(Interval {
                value: 0.0,
                low: 0.0,
                high: 0.0,
            }))
        };
        let first = |result: &QueryResult| {
            let rank = result.first_match?;
            Some(f64::from(u8::from(rank == 1)))
        };
        Ok(Intervals {
            rank_1: mean("rank 1", first)?,
            mean_average_precision: mean("average precision", |result| result.average_precision)?,
            mean_inverse_negative_penalty: mean("penalty", |result| {
                result.inverse_negative_penalty
            })?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The interval of the share of heads of 400 coins that show heads and tails in turn, in groups of
    /// `together` that show the same.
    fn coins(together: usize, unit: ResamplingUnit) -> Interval {
        let coin = |at: usize| f64::from(u8::from((at / together).is_multiple_of(2)));
        let coins: Vec<f64> = (0..400).map(coin).collect();
        let mean = |drawn: &[u32]| {
            let drawn = coins.iter().zip(drawn);
            let (mut heads, mut all) = (0.0, 0.0);
            for (coin, times) in drawn {
                heads += coin * f64::from(*times);
                all += f64::from(*times);
            }
            Some(heads / all)
        };
        let resampling = Resampling {
            unit,
            ..Resampling::default()
        };
        let identity = |at: usize| Some(Identity::new(i64::try_from(at / together).expect("few")));
        let clusters = resampling.clusters((0..400).map(identity)).expect("known");
        let interval = resampling.interval(&clusters, "coins", mean);
        interval.expect("settings").expect("a mean")
    }

    #[test]
    fn the_interval_of_a_mean_is_that_of_theory() {
        // 400 coins: standard error 0.5/20 = 0.025, so 95 % lie within 0.049 of one half.
        for interval in [
            coins(1, ResamplingUnit::Queries),
            coins(4, ResamplingUnit::Queries),
            coins(1, ResamplingUnit::Identities),
        ] {
            assert!((interval.value - 0.5).abs() < 1e-12);
            for (end, expected) in [(interval.low, 0.451), (interval.high, 0.549)] {
                assert!((end - expected).abs() < 0.006, "{interval:?}");
            }
        }
    }

    #[test]
    fn what_falls_together_counts_once() {
        // Of 400 coins in groups of four that fall alike there are 100: standard error 0.05, so 95 % lie
        // within 0.098.
        let interval = coins(4, ResamplingUnit::Identities);
        assert!((interval.value - 0.5).abs() < 1e-12);
        for (end, expected) in [(interval.low, 0.402), (interval.high, 0.598)] {
            assert!((end - expected).abs() < 0.012, "{interval:?}");
        }
    }

    #[test]
    fn an_older_report_without_identities_draws_queries_alone() {
        let clusters = |resampling: Resampling| {
            let identities = [Some(Identity::new(1)), None];
            resampling.clusters(identities.into_iter())
        };
        let error = clusters(Resampling::default()).expect_err("no identity");
        assert_eq!(
            error.to_string(),
            "intervals over identities need the identity of each query, and the report does not say whom \
             query 1 (from 0) shows: evaluate again, or draw queries (`ResamplingUnit::Queries`)"
        );
        let queries = Resampling {
            unit: ResamplingUnit::Queries,
            ..Resampling::default()
        };
        assert_eq!(clusters(queries).expect("queries").count, 2);
        let json = r#"{"samples":9,"confidence":0.5,"seed":1}"#;
        let older: Resampling = serde_json::from_str(json).expect("no unit");
        assert_eq!(older.unit, ResamplingUnit::Identities);
    }

    #[test]
    fn quantiles_lie_between_the_nearest() {
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.5), Some(2.0));
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), Some(3.0));
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 1.0), Some(4.0));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn settings_without_an_interval_are_refused() {
        let refused = |resampling: Resampling| {
            let clusters = resampling.clusters([Some(Identity::new(1))].into_iter());
            let interval = resampling.interval(&clusters.expect("one"), "", |_| Some(1.0));
            interval.expect_err("refused").to_string()
        };
        let none = Resampling {
            samples: 0,
            ..Resampling::default()
        };
        assert_eq!(
            refused(none),
            "the number of samples of an interval is 0, expected at least 1"
        );
        let all = Resampling {
            confidence: 1.5,
            ..Resampling::default()
        };
        assert_eq!(
            refused(all),
            "the confidence of an interval is 1.5, expected a share from 0 to 1"
        );
    }
}
