//! Track: which images one camera took of one passing.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which images one camera took of one passing: a number, compared only for equality, and only among
/// the samples of one data set.
///
/// Images of a track show the same identity by the same camera. Data sets without tracks use
/// `Option<Track>`, not a made-up number.
///
/// ```
/// use reid_core::Track;
///
/// assert_eq!(Track::new(12).to_string(), "t12");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Track(u64);

impl Track {
    /// A track with the data set's own number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The data set's own number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Track {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{}", self.0)
    }
}
