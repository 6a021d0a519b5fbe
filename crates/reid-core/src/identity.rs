//! Identity: who, or which vehicle or object, an image shows.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Who, or which vehicle or object, an image shows: a label, compared only for equality.
///
/// Labels are those of the data set. Two are special in the Market-1501 convention:
/// [`Identity::JUNK`] marks a detection that shows nobody in particular and is ignored wherever it
/// stands; `0` marks a distractor, which is an ordinary identity that no query asks for and so
/// always a wrong answer.
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
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
