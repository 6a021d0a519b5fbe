//! Protocol: which gallery images an answer may not contain (Zheng et al., ICCV 2015).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Error;

/// Which gallery images are taken out of a query's ranking before it is scored.
///
/// Junk ([`Identity::JUNK`](reid_core::Identity::JUNK)) is always taken out. Distractors (identity
/// 0) stay: they are wrong answers.
///
/// ```
/// use reid_eval::Protocol;
///
/// assert_eq!("no-cameras".parse(), Ok(Protocol::NoCameras));
/// assert_eq!(Protocol::default().to_string(), "market");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// Images of the query's identity by the query's own camera are taken out: finding the next
    /// frame of the same video is no feat. The protocol of Market-1501, and the default; needs
    /// cameras on both sides.
    #[default]
    Market,
    /// Only the query's own image is taken out, recognised by its number
    /// ([`Labels::with_images`](crate::Labels::with_images)); without numbers no query is in the
    /// gallery and nothing is taken out. For data sets without cameras.
    #[serde(alias = "camera-less")]
    NoCameras,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Market => "market",
            Self::NoCameras => "no-cameras",
        })
    }
}

impl FromStr for Protocol {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "market" => Ok(Self::Market),
            "no-cameras" | "camera-less" => Ok(Self::NoCameras),
            _ => Err(Error::Choice {
                expected: "a protocol: market or no-cameras",
                found: text.to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_it_parses() {
        for protocol in [Protocol::Market, Protocol::NoCameras] {
            assert_eq!(protocol.to_string().parse(), Ok(protocol));
        }
        let error = "duke".parse::<Protocol>().expect_err("no protocol");
        assert_eq!(
            error.to_string(),
            "expected a protocol: market or no-cameras, found `duke`"
        );
    }
}
