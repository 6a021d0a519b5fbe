//! The configuration of an evaluation.

use reid_core::{Problems, Validate};
use serde::{Deserialize, Serialize};

use crate::{AveragePrecision, Error, Metric, Protocol};

/// The settings of an evaluation, which define the metrics in a report: the distance, the protocol and how
/// the results are averaged.
///
/// A [`Report`](crate::Report) records its configuration.
///
/// ```
/// use reid_eval::{EvaluationConfig, Metric, Protocol};
///
/// let config = EvaluationConfig::default()
///     .with_metric(Metric::Euclidean)
///     .with_protocol(Protocol::NoCameras);
/// assert_eq!(config.max_rank, 50);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct EvaluationConfig {
    /// The distance between two embeddings; by default cosine.
    pub metric: Metric,
    /// The protocol; by default that of Market-1501.
    pub protocol: Protocol,
    /// The definition of average precision; by default non-interpolated.
    pub average_precision: AveragePrecision,
    /// How queries without a match are treated; by default they are skipped.
    pub unmatched: Unmatched,
    /// The last rank of the CMC curve, from 1 to [`MAX_RANK`](Self::MAX_RANK); by default 50.
    pub max_rank: usize,
}

/// How queries of known identity are treated if they have no match in the gallery.
///
/// Queries of unknown identity are never scored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unmatched {
    /// They are excluded from all means. The default.
    #[default]
    Skip,
    /// They count as 0 in every mean (CMC, mAP and mINP), as in the evaluation published with
    /// Market-1501.
    CountAsZero,
}

impl Default for EvaluationConfig {
    fn default() -> Self {
        Self {
            metric: Metric::default(),
            protocol: Protocol::default(),
            average_precision: AveragePrecision::default(),
            unmatched: Unmatched::default(),
            max_rank: 50,
        }
    }
}

impl EvaluationConfig {
    /// Sets the metric.
    #[must_use]
    pub fn with_metric(self, metric: Metric) -> Self {
        Self { metric, ..self }
    }

    /// Sets the protocol.
    #[must_use]
    pub fn with_protocol(self, protocol: Protocol) -> Self {
        Self { protocol, ..self }
    }

    /// Sets the definition of average precision.
    #[must_use]
    pub fn with_average_precision(self, average_precision: AveragePrecision) -> Self {
        Self {
            average_precision,
            ..self
        }
    }

    /// Sets how queries without a match are treated.
    #[must_use]
    pub fn with_unmatched(self, unmatched: Unmatched) -> Self {
        Self { unmatched, ..self }
    }

    /// Sets the last rank of the CMC curve.
    #[must_use]
    pub fn with_max_rank(self, max_rank: usize) -> Self {
        Self { max_rank, ..self }
    }

    /// The largest allowed [`max_rank`](Self::max_rank): a million, more than the images of any published
    /// gallery.
    pub const MAX_RANK: usize = 1_000_000;

    /// Returns an error for invalid settings, which may come from a file.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let mut problems = Problems::new();
        self.validate(&mut problems);
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Error::Evaluation { problems })
        }
    }
}

/// Creates the default configuration with this protocol.
impl From<&Protocol> for EvaluationConfig {
    fn from(protocol: &Protocol) -> Self {
        Self::default().with_protocol(protocol.clone())
    }
}

impl From<&Self> for EvaluationConfig {
    fn from(config: &Self) -> Self {
        config.clone()
    }
}

impl Validate for EvaluationConfig {
    fn validate(&self, problems: &mut Problems) {
        problems.require(
            "protocol",
            !self.protocol.lacks_its_rule(),
            "market, no-cameras, or a custom protocol whose rule is set in code",
            &self.protocol,
        );
        if let AveragePrecision::TruncatedAt { k, .. } = self.average_precision {
            problems.count("average_precision.truncated-at.k", k, 1..=usize::MAX);
        }
        problems.count("max_rank", self.max_rank, 1..=Self::MAX_RANK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_round_trips_through_json() {
        let config = EvaluationConfig::default()
            .with_average_precision("at-50-capped".parse().expect("a kind"))
            .with_unmatched(Unmatched::CountAsZero)
            .with_max_rank(20);
        let json = serde_json::to_string(&config).expect("plain data");
        assert_eq!(
            json,
            r#"{"metric":"cosine","protocol":"market","average_precision":{"truncated-at":{"k":50,"denominator":"capped"}},"unmatched":"count-as-zero","max_rank":20}"#
        );
        assert_eq!(
            serde_json::from_str::<EvaluationConfig>(&json).ok(),
            Some(config)
        );
    }

    #[test]
    fn an_unknown_protocol_is_rejected_with_its_path() {
        let config: EvaluationConfig =
            serde_json::from_str(r#"{"protocol":"markte"}"#).expect("a name");
        assert_eq!(
            config.check().expect_err("no rule").to_string(),
            "evaluation: protocol: expected market, no-cameras, or a custom protocol whose rule is set in \
             code, found markte"
        );
    }

    #[test]
    fn missing_settings_are_default_and_unknown_ones_rejected() {
        let default = serde_json::from_str::<EvaluationConfig>("{}").expect("all default");
        assert_eq!(default, EvaluationConfig::default());
        let error = serde_json::from_str::<EvaluationConfig>(r#"{"metrik":"cosine"}"#);
        assert!(
            error
                .expect_err("misspelt")
                .to_string()
                .contains("`metrik`")
        );
    }
}
