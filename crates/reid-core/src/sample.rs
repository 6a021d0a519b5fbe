//! Sample: one labelled image on disk.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Camera, Identity, Track};

/// One labelled image on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Where the image is.
    pub path: PathBuf,
    /// Who it shows.
    pub identity: Identity,
    /// Which camera took it; `None` where the data set does not say.
    pub camera: Option<Camera>,
    /// Which track it is part of; `None` where the data set does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub track: Option<Track>,
    /// The path under which the data set holds the same image as well, byte for byte; `None` where it is
    /// not known to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_as: Option<PathBuf>,
}

impl Sample {
    /// A sample without a camera and without a track.
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
            track: None,
            same_as: None,
        }
    }

    /// What tells this image from others: [`same_as`](Self::same_as), or else its own path.
    ///
    /// ```
    /// use reid_core::{Identity, Sample};
    ///
    /// let mut sample = Sample::new("query/a.jpg", Identity::new(2));
    /// sample.same_as = Some("gallery/b.jpg".into());
    /// assert_eq!(sample.image(), "gallery/b.jpg");
    /// ```
    #[must_use]
    pub fn image(&self) -> &Path {
        self.same_as.as_deref().unwrap_or(&self.path)
    }

    /// The same sample, taken by `camera`.
    #[must_use]
    pub fn with_camera(mut self, camera: Camera) -> Self {
        self.camera = Some(camera);
        self
    }

    /// The same sample, as part of `track`.
    ///
    /// ```
    /// use reid_core::{Identity, Sample, Track};
    ///
    /// let sample = Sample::new("a.jpg", Identity::new(2)).with_track(Track::new(5));
    /// assert_eq!(sample.track, Some(Track::new(5)));
    /// ```
    #[must_use]
    pub fn with_track(mut self, track: Track) -> Self {
        self.track = Some(track);
        self
    }
}
