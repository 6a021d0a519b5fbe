//! Camera: which camera took an image.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which camera took an image: a number, compared only for equality.
///
/// Data sets without camera labels use `Option<Camera>`, not a made-up number.
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
    /// A camera with the data set's own number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The data set's own number.
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
