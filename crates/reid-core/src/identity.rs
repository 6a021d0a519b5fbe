//! Identity: who, or which vehicle or object, an image shows.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Who, or which vehicle or object, an image shows: a label, compared only for equality.
///
/// Labels are those of the data set. Two are special in the Market-1501 convention:
/// [`Identity::JUNK`] marks a detection that shows nobody in particular and is ignored wherever it
/// stands; `0` marks a distractor, which is an ordinary identity that no query asks for and so
/// always a wrong answer. A third is this library's own: [`Identity::UNKNOWN`] says that nobody knows
/// who the image shows, so that no identity has to be invented for it.
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
    /// A detection of nobody in particular (`-1` in Market-1501): ignored in training and ranking.
    pub const JUNK: Self = Self(-1);

    /// Nobody knows who the image shows (`-2` in files). It is not trained on; as a query it is ranked and
    /// listed but not scored.
    pub const UNKNOWN: Self = Self(-2);

    /// An identity with the given label.
    #[must_use]
    pub const fn new(label: i64) -> Self {
        Self(label)
    }

    /// The label.
    #[must_use]
    pub const fn label(self) -> i64 {
        self.0
    }

    /// Whether this is [`Identity::JUNK`].
    #[must_use]
    pub const fn is_junk(self) -> bool {
        self.0 == Self::JUNK.0
    }

    /// Whether it says who is shown, so that it can be trained on: it is neither junk nor unknown.
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
