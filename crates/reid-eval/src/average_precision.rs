//! Average precision (AP) of a query, in the definitions that are in use.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Error;

/// The definition of average precision (AP): how early the matches of one query are ranked, from 0 to 1.
///
/// A query has `R` matches at ranks `r₁ < … < r_R`. Ranks start at 1 and skip the images that the
/// [`Protocol`](crate::Protocol) ignores:
///
/// ```text
/// non-interpolated   1/R · Σᵢ i/rᵢ
/// trapezoid          1/R · Σᵢ ½ ((i-1)/(rᵢ-1) + i/rᵢ)        the first summand is 1 where rᵢ = 1
/// at k               1/R · Σ_{rᵢ ≤ k} i/rᵢ                   or 1/min(R, k) · …
/// ```
///
/// Values of different definitions cannot be compared. The trapezoid value is never above the
/// non-interpolated one, and neither is the value at k with the default denominator.
///
/// ```
/// use reid_eval::AveragePrecision;
///
/// // Matches at ranks 3 and 4: (1/3 + 2/4) / 2, and ((0/2 + 1/3)/2 + (1/3 + 2/4)/2) / 2.
/// let ranks = [3, 4];
/// assert!((AveragePrecision::NonInterpolated.score(&ranks) - 0.416_667).abs() < 1e-6);
/// assert!((AveragePrecision::Trapezoid.score(&ranks) - 0.291_667).abs() < 1e-6);
///
/// let at_two: AveragePrecision = "at-2".parse()?;
/// assert_eq!(at_two.score(&ranks), 0.0);
/// # Ok::<(), reid_eval::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum AveragePrecision {
    /// The mean of the precision at each match. The default, which most publications since 2018
    /// report.
    #[default]
    NonInterpolated,
    /// The area under the precision-recall curve by the trapezoidal rule, as in the evaluation code
    /// published with Market-1501.
    Trapezoid,
    /// AP at k: only the first `k` ranks count, as for a submission of 50 or 100 images per query.
    TruncatedAt {
        /// The last rank that counts, at least 1.
        k: usize,
        /// The divisor of the sum.
        #[serde(default)]
        denominator: Denominator,
    },
}

/// The divisor of the sum in the AP at k.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Denominator {
    /// `R`, the number of all matches in the gallery. The default. With more than `k` matches, the AP
    /// cannot reach 1.
    #[default]
    AllRelevant,
    /// `min(R, k)`: the AP is 1 when the first `min(R, k)` ranks are all matches.
    Capped,
}

impl AveragePrecision {
    /// Computes the average precision of a query with matches at these ranks, which start at 1.
    ///
    /// # Panics
    /// If `ranks` is empty, contains 0 or is not strictly increasing, or if `k` is 0.
    #[must_use]
    pub fn score(self, ranks: &[usize]) -> f64 {
        assert!(
            ranks.first().is_some_and(|&first| first > 0) && ranks.is_sorted_by(|a, b| a < b),
            "expected strictly increasing ranks from 1, found {ranks:?}"
        );
        let precision = |hits: usize, rank: usize| hits as f64 / rank as f64;
        let hits = (1..).zip(ranks.iter().copied());
        let (sum, denominator): (f64, usize) = match self {
            Self::NonInterpolated => {
                let heights = hits.map(|(hit, rank)| precision(hit, rank));
                (heights.sum(), ranks.len())
            }
            Self::Trapezoid => {
                let before = |hit: usize, rank: usize| match rank {
                    1 => 1.0,
                    _ => precision(hit - 1, rank - 1),
                };
                let heights =
                    hits.map(|(hit, rank)| f64::midpoint(before(hit, rank), precision(hit, rank)));
                (heights.sum(), ranks.len())
            }
            Self::TruncatedAt { k, denominator } => {
                assert!(k > 0, "average precision at k: k is 0, expected at least 1");
                let heights = hits
                    .take_while(|&(_, rank)| rank <= k)
                    .map(|(hit, rank)| precision(hit, rank));
                let denominator = match denominator {
                    Denominator::AllRelevant => ranks.len(),
                    Denominator::Capped => ranks.len().min(k),
                };
                (heights.sum(), denominator)
            }
        };
        sum / denominator as f64
    }
}

impl fmt::Display for AveragePrecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NonInterpolated => f.pad("non-interpolated"),
            Self::Trapezoid => f.pad("trapezoid"),
            Self::TruncatedAt { k, denominator } => match denominator {
                Denominator::AllRelevant => write!(f, "at-{k}"),
                Denominator::Capped => write!(f, "at-{k}-capped"),
            },
        }
    }
}

impl FromStr for AveragePrecision {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let truncated = || {
            let rest = text.strip_prefix("at-")?;
            let (k, denominator) = match rest.strip_suffix("-capped") {
                Some(k) => (k, Denominator::Capped),
                None => (rest, Denominator::AllRelevant),
            };
            let k = k.parse().ok().filter(|&k| k > 0)?;
            Some(Self::TruncatedAt { k, denominator })
        };
        match text {
            "non-interpolated" => Some(Self::NonInterpolated),
            "trapezoid" => Some(Self::Trapezoid),
            _ => truncated(),
        }
        .ok_or_else(|| Error::Choice {
            expected: "an average precision: non-interpolated, trapezoid, at-K or at-K-capped \
                       with a K of at least 1, such as at-50",
            found: text.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [AveragePrecision; 4] = [
        AveragePrecision::NonInterpolated,
        AveragePrecision::Trapezoid,
        AveragePrecision::TruncatedAt {
            k: 3,
            denominator: Denominator::AllRelevant,
        },
        AveragePrecision::TruncatedAt {
            k: 3,
            denominator: Denominator::Capped,
        },
    ];

    #[test]
    fn a_perfect_ranking_scores_one_unless_k_is_below_the_match_count() {
        // Five matches at the first five ranks. At 3: (1 + 1 + 1)/5, or /min(5, 3).
        for (kind, expected) in ALL.into_iter().zip([1.0, 1.0, 0.6, 1.0]) {
            let found = kind.score(&[1, 2, 3, 4, 5]);
            assert!((found - expected).abs() < 1e-12, "{kind}: {found}");
        }
    }

    #[test]
    fn a_late_second_match_by_hand() {
        // Ranks 1 and 4: (1/1 + 2/4)/2 = 0.75; trapezoid ((1 + 1)/2 + (1/3 + 2/4)/2)/2
        // = (1 + 5/12)/2 = 17/24; at 3: 1/2 both ways, since min(2, 3) = 2.
        let expected = [0.75, 17.0 / 24.0, 0.5, 0.5];
        for (kind, expected) in ALL.into_iter().zip(expected) {
            let found = kind.score(&[1, 4]);
            assert!((found - expected).abs() < 1e-12, "{kind}: {found}");
        }
    }

    #[test]
    fn the_trapezoid_equals_the_running_sum_of_market1501() {
        // The evaluation code of Market-1501 goes down the ranks and keeps the precision of the rank before.
        let ranks = [2, 3, 7, 11];
        let (mut area, mut found, mut old_precision) = (0.0, 0.0, 1.0);
        for rank in 1..=11_u32 {
            let hit = f64::from(u8::from(ranks.contains(&(rank as usize))));
            found += hit;
            let precision = found / f64::from(rank);
            area += hit / 4.0 * (old_precision + precision) / 2.0;
            old_precision = precision;
        }
        assert!((AveragePrecision::Trapezoid.score(&ranks) - area).abs() < 1e-12);
    }

    #[test]
    fn display_and_parse_round_trip() {
        for kind in ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        for text in ["", "at-", "at-0", "at--1", "at-x", "at-5-", "interpolated"] {
            let error = text.parse::<AveragePrecision>().expect_err(text);
            assert!(error.to_string().ends_with(&format!("found `{text}`")));
        }
    }

    #[test]
    #[should_panic(expected = "expected strictly increasing ranks from 1, found [2, 2]")]
    fn equal_ranks_panic() {
        let _ = AveragePrecision::NonInterpolated.score(&[2, 2]);
    }
}
