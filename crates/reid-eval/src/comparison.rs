//! Two models on the same queries.

use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::{Error, Interval, Report, Resampling};

/// How much better one report is than another on the same queries, and whether that is chance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Mean of the differences in average precision: this report's less the other's.
    pub difference: Interval,
    /// How often a difference as large, either way, would come about if the two models were equally
    /// good: each query's difference gets a sign by chance (Fisher's permutation test).
    pub chance: f64,
    /// Queries that this report answers better, by average precision.
    pub better: usize,
    /// Queries that it answers worse.
    pub worse: usize,
    /// Queries that both answer equally well.
    pub equal: usize,
    /// The queries with the largest differences, either way, and those differences; at most 20.
    pub extremes: Vec<(usize, f64)>,
}

/// Queries that [`Comparison::extremes`] lists, at most.
const EXTREMES: usize = 20;

impl Report {
    /// Compares with another report on the same queries, in the same order.
    ///
    /// Only queries that have a match in both count.
    ///
    /// # Errors
    /// If the reports have different numbers of queries, share none that has a match, or the
    /// resampling has no samples or a confidence outside 0 to 1.
    ///
    /// ```
    /// # use reid_core::Identity;
    /// # use reid_eval::{EvaluationConfig, Labels, Protocol, Resampling, evaluate_distances};
    /// # let labels = Labels::new([1, 2].map(Identity::new).to_vec());
    /// # let config = EvaluationConfig::default().with_protocol(Protocol::CameraLess);
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
        let pairs = self.per_query.iter().zip(&other.per_query);
        let differences: Vec<(usize, f64)> = pairs
            .filter_map(|(one, other)| {
                let difference = one.average_precision? - other.average_precision?;
                Some((one.query, difference))
            })
            .collect();
        let count = differences.len();
        let mean = |drawn: &[u32]| {
            let drawn = differences.iter().zip(drawn);
            let sum: f64 = drawn.map(|((_, by), times)| by * f64::from(*times)).sum();
            (count > 0).then(|| sum / count as f64)
        };
        let interval = resampling.interval(count, "comparison", mean)?;
        let difference = interval.ok_or(Error::NoMatch {
            queries: count,
            gallery: self.gallery,
            protocol: self.config.protocol,
        })?;

        // Rounding must not decide whether a sum reaches the one that was found.
        let total = differences.iter().map(|(_, by)| by).sum::<f64>().abs() * (1.0 - 1e-12);
        let seed = resampling.seed.named("signs");
        let reached = (0..resampling.samples).filter(|&sample| {
            let mut stream = seed.at(sample as u64).stream();
            let signed = differences
                .iter()
                .map(|(_, by)| if stream.random_bool(0.5) { *by } else { -by });
            signed.sum::<f64>().abs() >= total
        });
        // The signs that were found are one of the possible ones.
        let chance = (reached.count() + 1) as f64 / (resampling.samples + 1) as f64;

        let mut extremes: Vec<(usize, f64)> = differences
            .iter()
            .copied()
            .filter(|(_, by)| *by != 0.0)
            .collect();
        extremes.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()).then(a.0.cmp(&b.0)));
        extremes.truncate(EXTREMES);
        let better = differences.iter().filter(|(_, by)| *by > 0.0).count();
        let worse = differences.iter().filter(|(_, by)| *by < 0.0).count();
        Ok(Comparison {
            difference,
            chance,
            better,
            worse,
            equal: count - better - worse,
            extremes,
        })
    }
}
