//! Confidence intervals by bootstrap resampling.

use std::collections::HashMap;

use rand::RngExt;
use reid_core::{Identity, Seed};
use serde::{Deserialize, Serialize};

use crate::{Error, QueryResult, Report, Unmatched};

/// An estimate and its bootstrap confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Interval {
    /// The estimate, computed on the original sample.
    pub value: f64,
    /// The lower bound, in the unit of the estimate.
    pub low: f64,
    /// The upper bound, in the same unit.
    pub high: f64,
}

/// The settings of the percentile bootstrap (Efron and Tibshirani, 1993).
///
/// The same seed gives the same interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Resampling {
    /// The number of bootstrap samples, each drawn with replacement; at least 1, by default 1,000.
    pub samples: usize,
    /// The confidence level, from 0 to 1: the fraction of bootstrap estimates within the interval. By default
    /// 0.95.
    pub confidence: f64,
    /// The seed of the random samples; by default 1.
    pub seed: Seed,
    /// The unit that is resampled; identities by default.
    #[serde(default)]
    pub unit: ResamplingUnit,
}

/// The unit that the bootstrap and the permutation test resample.
///
/// The queries of one identity are correlated: they show one person, often in one track, so a model tends to
/// find all of them or none. Resampling single queries treats them as independent, and the interval is too
/// narrow: by a factor of up to `√n` if the `n` queries of each identity agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResamplingUnit {
    /// Identities, each with all of its queries (the cluster bootstrap; Field and Welsh, 2007). The interval
    /// covers the variation between samples of people.
    #[default]
    Identities,
    /// Single queries. The interval covers the variation between samples of query images, which are assumed
    /// to be independent.
    Queries,
}

/// The clusters of queries that are drawn together.
#[derive(Debug)]
pub(crate) struct Clusters {
    /// The cluster of each query: an index from 0, in the order of the first query of each cluster.
    of: Vec<usize>,
    count: usize,
}

impl Clusters {
    /// Sums the values of the queries of each cluster.
    pub(crate) fn sums(&self, values: impl Iterator<Item = f64>) -> Vec<f64> {
        let mut sums = vec![0.0; self.count];
        for (&cluster, value) in self.of.iter().zip(values) {
            sums[cluster] += value;
        }
        sums
    }
}

impl Default for Resampling {
    /// 1,000 samples of identities and a confidence level of 95 %.
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
    /// Sets the number of bootstrap samples.
    #[must_use]
    pub fn with_samples(self, samples: usize) -> Self {
        Self { samples, ..self }
    }

    /// Sets the confidence level, from 0 to 1.
    #[must_use]
    pub fn with_confidence(self, confidence: f64) -> Self {
        Self { confidence, ..self }
    }

    /// Sets the seed.
    #[must_use]
    pub fn with_seed(self, seed: Seed) -> Self {
        Self { seed, ..self }
    }

    /// Sets the unit that is resampled.
    #[must_use]
    pub fn with_unit(self, unit: ResamplingUnit) -> Self {
        Self { unit, ..self }
    }

    /// Checks the number of samples and the confidence level.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.samples == 0 {
            return Err(Error::Setting {
                setting: "the number of bootstrap samples",
            });
        }
        if !(0.0..=1.0).contains(&self.confidence) {
            return Err(Error::Share {
                setting: "the confidence level",
                found: self.confidence,
            });
        }
        Ok(())
    }

    /// Groups queries into the clusters that are drawn together: one per identity, or one per query.
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

    /// Computes the interval of a statistic of the queries.
    ///
    /// `of` computes the statistic from the number of times each query was drawn, or returns `None` where it
    /// is not defined.
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

/// The quantile of sorted values, interpolated linearly between the two nearest.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let position = share * last as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 0 to the last index"
    )]
    let below = position.floor() as usize;
    let above = (below + 1).min(last);
    Some(sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64))
}

/// The confidence intervals of the metrics of a report.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Intervals {
    /// CMC at rank 1.
    pub rank_1: Interval,
    /// Mean average precision (mAP).
    pub mean_average_precision: Interval,
    /// Mean inverse negative penalty (mINP).
    pub mean_inverse_negative_penalty: Interval,
}

impl Report {
    /// Computes bootstrap confidence intervals of rank-1, mAP and mINP.
    ///
    /// The queries are resampled by identity or one by one (see [`ResamplingUnit`]); the gallery stays fixed.
    ///
    /// # Errors
    /// If the number of samples is 0, if the confidence level is outside 0 to 1, or if identities are
    /// resampled and the report was written by an older version without identities.
    ///
    /// ```
    /// # use reid_core::Identity;
    /// # use reid_eval::{EvaluationConfig, Labels, Protocol, Resampling, evaluate_distances};
    /// # let labels = Labels::new([1, 2].map(Identity::new).to_vec());
    /// # let config = EvaluationConfig::default().with_protocol(Protocol::NoCameras);
    /// // The first query has its match at rank 1, the second at rank 2.
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

    /// The interval of the fraction of heads among 400 coins. Groups of `together` coins show the same side,
    /// alternating between heads and tails.
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
    fn the_interval_of_a_mean_agrees_with_theory() {
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
    fn identities_of_several_queries_widen_the_interval() {
        // 400 coins in groups of four that agree count as 100 coins: standard error 0.05, so 95 % lie
        // within 0.098.
        let interval = coins(4, ResamplingUnit::Identities);
        assert!((interval.value - 0.5).abs() < 1e-12);
        for (end, expected) in [(interval.low, 0.402), (interval.high, 0.598)] {
            assert!((end - expected).abs() < 0.012, "{interval:?}");
        }
    }

    #[test]
    fn an_older_report_without_identities_can_only_resample_queries() {
        let clusters = |resampling: Resampling| {
            let identities = [Some(Identity::new(1)), None];
            resampling.clusters(identities.into_iter())
        };
        let error = clusters(Resampling::default()).expect_err("no identity");
        assert_eq!(
            error.to_string(),
            "resampling identities needs the identity of each query, but the report has none for query 1 \
             (from 0): evaluate again, or resample queries (`ResamplingUnit::Queries`)"
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
    fn quantiles_are_interpolated() {
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.5), Some(2.0));
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), Some(3.0));
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 1.0), Some(4.0));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn invalid_settings_are_rejected() {
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
            "the number of bootstrap samples is 0, expected at least 1"
        );
        let all = Resampling {
            confidence: 1.5,
            ..Resampling::default()
        };
        assert_eq!(
            refused(all),
            "the confidence level is 1.5, expected a fraction from 0 to 1"
        );
    }
}
