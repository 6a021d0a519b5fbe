//! The metric: Euclidean or cosine distance.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Error;

/// The distance between two embeddings `a` and `b`.
///
/// For vectors of length 1, both metrics give the same ranking, since `|a - b|² = 2 - 2 cos(a, b)`.
///
/// ```
/// use reid_eval::Metric;
///
/// assert_eq!("euclidean".parse(), Ok(Metric::Euclidean));
/// assert_eq!(Metric::default().to_string(), "cosine");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Metric {
    /// `|a - b| = √max(0, |a|² + |b|² - 2 a·b)`, 0 or more.
    ///
    /// For vectors that are close to each other, the distance is computed from their differences in `f64`, so
    /// a small distance is as accurate as a large one.
    Euclidean,
    /// `1 - a·b / (|a| |b|)`, from 0 to 2. The default; it does not depend on the lengths of the vectors.
    ///
    /// A zero vector has no direction: its distance to any vector is 1, as if they were orthogonal.
    #[default]
    Cosine,
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Euclidean => "euclidean",
            Self::Cosine => "cosine",
        })
    }
}

impl FromStr for Metric {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "euclidean" => Ok(Self::Euclidean),
            "cosine" => Ok(Self::Cosine),
            _ => Err(Error::Choice {
                expected: "a metric: euclidean or cosine",
                found: text.to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_and_parse_round_trip() {
        for metric in [Metric::Euclidean, Metric::Cosine] {
            assert_eq!(metric.to_string().parse(), Ok(metric));
        }
        let error = "l2".parse::<Metric>().expect_err("not a metric");
        assert_eq!(
            error.to_string(),
            "expected a metric: euclidean or cosine, found `l2`"
        );
    }
}
