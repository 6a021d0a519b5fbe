//! Identities: which person, vehicle or object an image shows.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The ID of the person, vehicle or object that an image shows.
///
/// The ID is the dataset's, not a class index. Three values are special:
///
/// | ID | meaning | defined by |
/// |---|---|---|
/// | `0` | A distractor: an ordinary identity that has no query, so it is never a match. | Market-1501 |
/// | `-1`, [`Identity::JUNK`] | A bad detection: ignored in training and in rankings. | Market-1501 |
/// | `-2`, [`Identity::UNKNOWN`] | The identity is not known. | this library |
///
/// ```
/// use reid_core::Identity;
///
/// let person = Identity::new(17);
/// assert_eq!(person.to_string(), "17");
/// assert!(Identity::JUNK.is_junk() && !person.is_junk());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Identity(i64);

impl Identity {
    /// A detection that shows no particular identity (`-1` in Market-1501): ignored in training and ranking.
    pub const JUNK: Self = Self(-1);

    /// An image whose identity is not known (`-2` in files). It is not trained on. A query of unknown
    /// identity is ranked and listed, but not scored.
    pub const UNKNOWN: Self = Self(-2);

    /// Creates an identity from the dataset's ID.
    #[must_use]
    pub const fn new(label: i64) -> Self {
        Self(label)
    }

    /// The dataset's ID.
    #[must_use]
    pub const fn label(self) -> i64 {
        self.0
    }

    /// Whether this is [`Identity::JUNK`].
    #[must_use]
    pub const fn is_junk(self) -> bool {
        self.0 == Self::JUNK.0
    }

    /// Whether this is an actual identity, which can be trained on: neither junk nor unknown.
    ///
    /// ```
    /// use reid_core::Identity;
    ///
    /// let labels = [Identity::new(3), Identity::JUNK, Identity::UNKNOWN];
    /// assert_eq!(labels.map(Identity::is_labelled), [true, false, false]);
    /// ```
    #[must_use]
    pub const fn is_labelled(self) -> bool {
        !self.is_junk() && !self.is_unknown()
    }

    /// Whether this is [`Identity::UNKNOWN`].
    ///
    /// ```
    /// use reid_core::Identity;
    ///
    /// assert!(Identity::UNKNOWN.is_unknown());
    /// assert!(!Identity::JUNK.is_unknown());
    /// ```
    #[must_use]
    pub const fn is_unknown(self) -> bool {
        self.0 == Self::UNKNOWN.0
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
