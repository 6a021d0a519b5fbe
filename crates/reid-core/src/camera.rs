//! Cameras: which camera took an image.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The number of the camera that took an image; compared only for equality.
///
/// The camera of a sample is an `Option<Camera>`: use `None`, not a made-up number, if the dataset does not
/// name cameras.
///
/// ```
/// use reid_core::Camera;
///
/// assert_eq!(Camera::new(3).to_string(), "c3");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Camera(u32);

impl Camera {
    /// Creates a camera from the dataset's number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The dataset's number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Camera {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}
