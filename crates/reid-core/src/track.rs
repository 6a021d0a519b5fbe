//! Tracks: groups of images that one camera took of one identity.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The number of a track: a group of images that one camera took of one identity passing by.
///
/// All images of a track have the same identity and the same camera. Track numbers are compared only for
/// equality, and only within one dataset. The track of a sample is an `Option<Track>`: use `None`, not a
/// made-up number, if the dataset has no tracks.
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
    /// Creates a track from the dataset's number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The dataset's number.
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
