//! The evaluation protocol, built in or custom: which gallery images are matches, non-matches or ignored
//! for a query (Zheng et al., ICCV 2015).

use std::{
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
    sync::Arc,
};

use reid_core::Split;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Error, ImageLabels, Labels, Relevance, RelevanceRule};

/// The evaluation protocol: whether a gallery image is a match, a non-match or ignored for a query.
///
/// Under every protocol, junk ([`Identity::JUNK`](reid_core::Identity::JUNK)) is always ignored, and a
/// pair with an image of unknown identity ([`Identity::UNKNOWN`](reid_core::Identity::UNKNOWN)) is
/// [`Relevance::Unknown`]. Distractors (identity 0) are non-matches.
///
/// A custom protocol is a [`RelevanceRule`] passed to [`Protocol::custom`]. A protocol is serialised as its
/// name. The name of a custom protocol can be deserialised, so its reports can be read, but an evaluation
/// with it needs the rule again.
///
/// ```
/// use reid_eval::Protocol;
///
/// assert_eq!("no-cameras".parse(), Ok(Protocol::NoCameras));
/// assert_eq!(Protocol::default().to_string(), "market");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// The protocol of Market-1501, and the default: images of the query's identity from the query's
    /// camera are ignored, because the next frame of the same video is easy to find. Query and gallery need
    /// cameras.
    #[default]
    Market,
    /// For datasets without cameras: only the query image itself is ignored, recognised by its image ID
    /// ([`Labels::with_images`](crate::Labels::with_images)). Without image IDs, only junk is ignored.
    NoCameras,
    /// A custom rule.
    Custom(CustomProtocol),
}

/// A custom [`RelevanceRule`], identified by its name.
#[derive(Clone)]
pub struct CustomProtocol {
    name: String,
    /// `None` if the protocol was read from a file.
    rule: Option<Arc<dyn RelevanceRule>>,
}

const MARKET: &str = "market";
const NO_CAMERAS: &str = "no-cameras";
/// The name of `no-cameras` in version 0.1.
const CAMERA_LESS: &str = "camera-less";

impl Protocol {
    /// Creates a custom protocol from a rule. [`RelevanceRule`] has an example.
    #[must_use]
    pub fn custom(rule: impl RelevanceRule + 'static) -> Self {
        Self::Custom(CustomProtocol {
            name: rule.name().to_owned(),
            rule: Some(Arc::new(rule)),
        })
    }

    fn built_in(name: &str) -> Option<Self> {
        match name {
            MARKET => Some(Self::Market),
            NO_CAMERAS | CAMERA_LESS => Some(Self::NoCameras),
            _ => None,
        }
    }

    /// Whether this is a custom protocol that was read from a file and has only its name.
    pub(crate) fn lacks_its_rule(&self) -> bool {
        matches!(self, Self::Custom(CustomProtocol { rule: None, .. }))
    }
}

impl CustomProtocol {
    pub(crate) fn rule(&self) -> Result<&dyn RelevanceRule, Error> {
        self.rule.as_deref().ok_or_else(|| Error::NoRule {
            protocol: self.name.clone(),
        })
    }
}

/// The built-in protocols are rules too, so a custom rule can extend one of them.
impl RelevanceRule for Protocol {
    fn name(&self) -> &str {
        match self {
            Self::Market => MARKET,
            Self::NoCameras => NO_CAMERAS,
            Self::Custom(custom) => &custom.name,
        }
    }

    fn check(&self, query: &Labels, gallery: &Labels) -> Result<(), Error> {
        let sides = [(query, Split::Query), (gallery, Split::Gallery)];
        match self {
            Self::Market => {
                let missing = sides.into_iter().find(|side| side.0.cameras().is_none());
                missing.map_or(Ok(()), |(_, split)| Err(Error::Cameras { split }))
            }
            Self::NoCameras => match sides.map(|(labels, _)| labels.images().is_some()) {
                [true, false] => Err(Error::Images {
                    split: Split::Gallery,
                }),
                [false, true] => Err(Error::Images {
                    split: Split::Query,
                }),
                [_, _] => Ok(()),
            },
            Self::Custom(custom) => custom.rule()?.check(query, gallery),
        }
    }

    /// # Panics
    /// If this is a custom protocol without its rule, which [`check`](Self::check) rejects.
    fn relevance(&self, query: ImageLabels<'_>, gallery: ImageLabels<'_>) -> Relevance {
        let same = query.identity() == gallery.identity();
        match self {
            Self::Market => {
                Relevance::from_identity(same, same && query.camera() == gallery.camera())
            }
            Self::NoCameras => {
                let own = query.image().is_some() && query.image() == gallery.image();
                Relevance::from_identity(same, own)
            }
            Self::Custom(custom) => match custom.rule() {
                Ok(rule) => rule.relevance(query, gallery),
                Err(error) => panic!("{error}"),
            },
        }
    }
}

impl fmt::Debug for CustomProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Some(rule) => rule.fmt(f),
            None => write!(f, "{} (without its rule)", self.name),
        }
    }
}

/// Compares by name: two rules with the same name are the same protocol.
impl PartialEq for CustomProtocol {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for CustomProtocol {}

impl Hash for CustomProtocol {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Protocol {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::built_in(text).ok_or_else(|| Error::Choice {
            expected: "a protocol: market or no-cameras",
            found: text.to_owned(),
        })
    }
}

impl Serialize for Protocol {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Protocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Ok(Self::built_in(&name).unwrap_or(Self::Custom(CustomProtocol { name, rule: None })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_and_parse_round_trip() {
        for protocol in [Protocol::Market, Protocol::NoCameras] {
            assert_eq!(protocol.to_string().parse(), Ok(protocol));
        }
        let error = "duke".parse::<Protocol>().expect_err("not a protocol");
        assert_eq!(
            error.to_string(),
            "expected a protocol: market or no-cameras, found `duke`"
        );
    }

    #[test]
    fn a_protocol_is_serialised_as_its_name() {
        for (protocol, json) in [
            (Protocol::Market, r#""market""#),
            (Protocol::NoCameras, r#""no-cameras""#),
        ] {
            assert_eq!(serde_json::to_string(&protocol).expect("text"), json);
            assert_eq!(serde_json::from_str::<Protocol>(json).ok(), Some(protocol));
        }
        let older = serde_json::from_str::<Protocol>(r#""camera-less""#);
        assert_eq!(older.ok(), Some(Protocol::NoCameras));
        let other = serde_json::from_str::<Protocol>(r#""duke""#).expect("a name");
        assert!(other.lacks_its_rule());
        let none = Labels::default();
        assert_eq!(
            other.check(&none, &none).expect_err("no rule").to_string(),
            "the protocol `duke` is not built in: set its rule in code with \
             `with_protocol(Protocol::custom(rule))`"
        );
    }
}
