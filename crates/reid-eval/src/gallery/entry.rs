//! Entries of a gallery, and the fingerprint of the model that computed their embeddings.

use std::{fmt, path::PathBuf};

use reid_core::{Camera, Identity, Track};
use serde::{Deserialize, Serialize};

use super::GalleryError;
use crate::ImageLabels;

/// The name of the model that computed embeddings. Two models with the same fingerprint compute comparable
/// embeddings.
///
/// An `Embedder` of `reid-zoo` computes its fingerprint from its weights and its preprocessing. For embeddings of another program,
/// choose any text that changes with the model.
///
/// ```
/// use reid_eval::gallery::ModelFingerprint;
///
/// let model = ModelFingerprint::new("resnet50 of 2026-05-04");
/// assert_eq!(model.to_string(), "resnet50 of 2026-05-04");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ModelFingerprint(String);

impl ModelFingerprint {
    /// Creates a fingerprint from its text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ModelFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An entry of a gallery: the labels of one embedding, which is that of an image or of a whole track.
///
/// ```
/// use reid_core::{Camera, Identity};
/// use reid_eval::gallery::GalleryEntry;
///
/// let entry = GalleryEntry::new(Identity::new(7)).with_camera(Camera::new(3)).with_path("7/1.jpg");
/// assert_eq!((entry.camera, entry.time), (Some(Camera::new(3)), None));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GalleryEntry {
    /// The identity.
    pub identity: Identity,
    /// The camera, if known.
    pub camera: Option<Camera>,
    /// The track, if the embedding is that of a track or of an image of one.
    pub track: Option<Track>,
    /// The time, if known, in any unit that all entries share, such as seconds since 1970.
    pub time: Option<u64>,
    /// The file, if known.
    pub path: Option<PathBuf>,
}

impl GalleryEntry {
    /// Creates an entry of an identity.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            camera: None,
            track: None,
            time: None,
            path: None,
        }
    }

    /// Sets the camera.
    #[must_use]
    pub fn with_camera(self, camera: Camera) -> Self {
        Self {
            camera: Some(camera),
            ..self
        }
    }

    /// Sets the track.
    #[must_use]
    pub fn with_track(self, track: Track) -> Self {
        Self {
            track: Some(track),
            ..self
        }
    }

    /// Sets the time.
    #[must_use]
    pub fn with_time(self, time: u64) -> Self {
        Self {
            time: Some(time),
            ..self
        }
    }

    /// Sets the file.
    #[must_use]
    pub fn with_path(self, path: impl Into<PathBuf>) -> Self {
        Self {
            path: Some(path.into()),
            ..self
        }
    }

    /// Checks that the entry can be enrolled and saved.
    pub(crate) fn check(&self, row: usize) -> Result<(), GalleryError> {
        let identity = self.identity;
        if !identity.is_labelled() || identity == Identity::new(0) {
            return Err(GalleryError::Identity { row, identity });
        }
        let track = self.track.map(Track::number);
        for (label, value) in [("track", track), ("time", self.time)] {
            if let Some(value) = value.filter(|value| i64::try_from(*value).is_err()) {
                return Err(GalleryError::Label { row, label, value });
            }
        }
        if let Some(path) = self.path.as_ref().filter(|path| path.to_str().is_none()) {
            let path = path.clone();
            return Err(GalleryError::Path { row, path });
        }
        Ok(())
    }

    /// An empty path means that the file is not known.
    pub(super) fn without_empty_path(mut self) -> Self {
        self.path = self.path.filter(|path| !path.as_os_str().is_empty());
        self
    }
}

/// The identity, camera, track and file of an image. Its time is not known.
impl From<ImageLabels<'_>> for GalleryEntry {
    fn from(image: ImageLabels<'_>) -> Self {
        Self {
            camera: image.camera(),
            track: image.track(),
            path: image.path().map(PathBuf::from),
            ..Self::new(image.identity())
        }
    }
}
