//! Sample: one labelled image on disk.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Camera, Identity};

/// One labelled image on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Where the image is.
    pub path: PathBuf,
    /// Who it shows.
    pub identity: Identity,
    /// Which camera took it; `None` where the data set does not say.
    pub camera: Option<Camera>,
}

impl Sample {
    /// A sample without a camera.
    ///
    /// ```
    /// use reid_core::{Camera, Identity, Sample};
    ///
    /// let sample = Sample::new("a.jpg", Identity::new(2)).with_camera(Camera::new(1));
    /// assert_eq!(sample.camera, Some(Camera::new(1)));
    /// ```
    pub fn new(path: impl Into<PathBuf>, identity: Identity) -> Self {
        Self {
            path: path.into(),
            identity,
            camera: None,
        }
    }

    /// The same sample, taken by `camera`.
    #[must_use]
    pub fn with_camera(mut self, camera: Camera) -> Self {
        self.camera = Some(camera);
        self
    }
}
