//! Confidence intervals by resampling.

use rand::RngExt;
use reid_core::Seed;
use serde::{Deserialize, Serialize};

use crate::{Error, QueryResult, Report, Unmatched};

/// An estimate and where it would lie in most other samples of the same size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
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
pub struct Resampling {
    /// How many samples are drawn, with replacement; at least 1.
    pub samples: usize,
    /// Share of them that lies within the interval, from 0 to 1.
    pub confidence: f64,
    /// What is drawn.
    pub seed: Seed,
}

impl Default for Resampling {
    /// 1,000 samples, 95 % of which lie within.
    fn default() -> Self {
        Self {
            samples: 1_000,
            confidence: 0.95,
            seed: Seed::new(1),
        }
    }
}

impl Resampling {
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

    /// The interval of a statistic of `count` things: `of` is told how often each was drawn, and
    /// says nothing where the statistic is not defined.
    pub(crate) fn interval(
        &self,
        count: usize,
        name: &str,
        of: impl Fn(&[u32]) -> Option<f64>,
    ) -> Result<Option<Interval>, Error> {
        self.check()?;
        let mut drawn = vec![1; count];
        let Some(value) = of(&drawn) else {
            return Ok(None);
        };
        let seed = self.seed.named("interval").named(name);
        let mut found: Vec<f64> = (0..self.samples)
            .filter_map(|sample| {
                drawn.fill(0);
                let mut stream = seed.at(sample as u64).stream();
                for _ in 0..count {
                    drawn[stream.random_range(0..count)] += 1;
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
pub struct Intervals {
    /// Of CMC at rank 1.
    pub rank_1: Interval,
    /// Of the mean average precision.
    pub mean_average_precision: Interval,
    /// Of the mean inverse negative penalty.
    pub mean_inverse_negative_penalty: Interval,
}

impl Report {
    /// Where the numbers would lie for other queries of the same kind: queries are drawn anew, the
    /// gallery stays.
    ///
    /// # Errors
    /// If the resampling has no samples, or a confidence outside 0 to 1.
    ///
    /// ```
    /// # use reid_core::Identity;
    /// # use reid_eval::{EvaluationConfig, Labels, Protocol, Resampling, evaluate_distances};
    /// # let labels = Labels::new([1, 2].map(Identity::new).to_vec());
    /// # let config = EvaluationConfig::default().with_protocol(Protocol::CameraLess);
    /// // One query finds itself at once, the other one image too late.
    /// let report = evaluate_distances(&[0.1, 0.2, 0.1, 0.2], &labels, &labels, &config)?;
    /// let map = report.intervals(&Resampling::default())?.mean_average_precision;
    /// assert_eq!((map.low, map.value, map.high), (0.5, 0.75, 1.0));
    /// # Ok::<(), reid_eval::Error>(())
    /// ```
    pub fn intervals(&self, resampling: &Resampling) -> Result<Intervals, Error> {
        let mean = |name: &str, value: fn(&QueryResult) -> Option<f64>| {
            let interval = resampling.interval(self.per_query.len(), name, |drawn| {
                let (mut sum, mut count) = (0.0, 0_u32);
                for (result, times) in self.per_query.iter().zip(drawn) {
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

    #[test]
    fn the_interval_of_a_mean_is_that_of_theory() {
        // 400 coins: standard error 0.5/20 = 0.025, so 95 % lie within 0.049 of one half.
        let coins: Vec<f64> = (0..400).map(|coin| f64::from(coin % 2)).collect();
        let mean = |drawn: &[u32]| {
            let sum: f64 = coins
                .iter()
                .zip(drawn)
                .map(|(coin, n)| coin * f64::from(*n))
                .sum();
            Some(sum / 400.0)
        };
        let interval = Resampling::default().interval(400, "coins", mean);
        let interval = interval.expect("settings").expect("a mean");
        assert!((interval.value - 0.5).abs() < 1e-12);
        for (end, expected) in [(interval.low, 0.451), (interval.high, 0.549)] {
            assert!((end - expected).abs() < 0.006, "{interval:?}");
        }
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
            let interval = resampling.interval(3, "", |_| Some(1.0));
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
