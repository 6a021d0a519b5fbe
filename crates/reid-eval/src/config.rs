//! Configuration: what a number in a report means.

use reid_core::{Problems, Validate};
use serde::{Deserialize, Serialize};

use crate::{AveragePrecision, Error, Metric, Protocol};

/// What a number in a report means: how embeddings were compared, what was taken out, and how the
/// rest was averaged. A [`Report`](crate::Report) carries it along.
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
    /// How far apart two embeddings are; cosine by default.
    pub metric: Metric,
    /// What a gallery image is to a query; that of Market-1501 by default.
    pub protocol: Protocol,
    /// Which average precision; non-interpolated by default.
    pub average_precision: AveragePrecision,
    /// What becomes of queries without a match; they are skipped by default.
    pub unmatched: Unmatched,
    /// Last rank of the CMC curve, 1 to [`MAX_RANK`](Self::MAX_RANK); 50 by default.
    pub max_rank: usize,
}

/// What becomes of queries that have no match in the gallery. Queries of unknown identity are not among
/// them: they are never scored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unmatched {
    /// They are left out of every mean: the default.
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
    /// The same with another metric.
    #[must_use]
    pub fn with_metric(self, metric: Metric) -> Self {
        Self { metric, ..self }
    }

    /// The same with another protocol.
    #[must_use]
    pub fn with_protocol(self, protocol: Protocol) -> Self {
        Self { protocol, ..self }
    }

    /// The same with another average precision.
    #[must_use]
    pub fn with_average_precision(self, average_precision: AveragePrecision) -> Self {
        Self {
            average_precision,
            ..self
        }
    }

    /// The same with another fate for queries without a match.
    #[must_use]
    pub fn with_unmatched(self, unmatched: Unmatched) -> Self {
        Self { unmatched, ..self }
    }

    /// The same with a CMC curve of another length.
    #[must_use]
    pub fn with_max_rank(self, max_rank: usize) -> Self {
        Self { max_rank, ..self }
    }

    /// The longest CMC curve: a million ranks, more than any gallery that is published has images.
    pub const MAX_RANK: usize = 1_000_000;

    /// Refuses impossible settings; they may come from a file.
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

/// The defaults with this protocol.
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
            "market, no-cameras, or a custom protocol with its rule, which only code can give",
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
    fn every_setting_can_be_written_to_a_file() {
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
    fn a_protocol_that_nobody_knows_is_refused_with_its_path() {
        let config: EvaluationConfig =
            serde_json::from_str(r#"{"protocol":"markte"}"#).expect("a name");
        assert_eq!(
            config.check().expect_err("no rule").to_string(),
            "evaluation: protocol: expected market, no-cameras, or a custom protocol with its rule, which \
             only code can give, found markte"
        );
    }

    #[test]
    fn missing_settings_are_default_and_unknown_ones_refused() {
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
