//! Sample: one labelled image on disk.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{Camera, Identity, Track};

/// One labelled image on disk.
///
/// Beyond the identity, an image may have labels of its own: named attributes such as a colour or a
/// viewpoint, for networks with more than one classifier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
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
    /// Further labels by name, such as `colour` → `red`. An attribute that the data set does not know
    /// for this image is absent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

impl Sample {
    /// A sample without a camera, without a track and without attributes.
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
            attributes: BTreeMap::new(),
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
    /// The same sample with a further label. One of the same name is replaced.
    ///
    /// ```
    /// use reid_core::{Identity, Sample};
    ///
    /// let sample = Sample::new("a.jpg", Identity::new(2)).with_attribute("colour", "red");
    /// assert_eq!(sample.attributes["colour"], "red");
    /// assert_eq!(sample.attributes.get("viewpoint"), None);
    /// ```
    #[must_use]
    pub fn with_attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.insert(name.into(), value.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_saved_and_a_sample_without_them_reads_as_before() {
        let plain = Sample::new("a.jpg", Identity::new(2));
        let text = serde_json::to_string(&plain).expect("saved");
        assert_eq!(text, r#"{"path":"a.jpg","identity":2,"camera":null}"#);
        assert_eq!(serde_json::from_str::<Sample>(&text).expect("read"), plain);

        let red = plain
            .with_attribute("colour", "blue")
            .with_attribute("colour", "red");
        let text = serde_json::to_string(&red).expect("saved");
        assert!(
            text.ends_with(r#""attributes":{"colour":"red"}}"#),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<Sample>(&text).expect("read"), red);
    }
}
