//! Samples: labelled images on disk.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{Camera, Identity, Source, Track};

/// One labelled image on disk.
///
/// Besides the identity, a sample may have further labels: named attributes such as a colour or a viewpoint,
/// for networks with more than one classifier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Sample {
    /// The path of the image file.
    pub path: PathBuf,
    /// The identity that the image shows.
    pub identity: Identity,
    /// The camera that took the image; `None` if not known.
    pub camera: Option<Camera>,
    /// The track that the image belongs to; `None` if not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub track: Option<Track>,
    /// The dataset that the sample comes from; `None` if it was not merged with others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// The path of another file in the dataset with exactly the same bytes; `None` if no such file is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_as: Option<PathBuf>,
    /// Further labels by attribute name, such as `colour` → `red`. An attribute without a label for this
    /// image is absent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

impl Sample {
    /// Creates a sample without a camera, a track or attributes.
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
            source: None,
            same_as: None,
            attributes: BTreeMap::new(),
        }
    }

    /// The path that identifies the image's content: [`same_as`](Self::same_as) if set, otherwise
    /// [`path`](Self::path). Two samples of one dataset with equal content have the same path here.
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

    /// Sets the camera.
    #[must_use]
    pub fn with_camera(mut self, camera: Camera) -> Self {
        self.camera = Some(camera);
        self
    }

    /// Sets the track.
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

    /// Sets the source.
    #[must_use]
    pub fn with_source(mut self, source: Source) -> Self {
        self.source = Some(source);
        self
    }

    /// Adds the label of an attribute, or replaces the label that the attribute had.
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
    fn attributes_and_the_source_are_saved_only_if_there_are_any() {
        let plain = Sample::new("a.jpg", Identity::new(2));
        let text = serde_json::to_string(&plain).expect("saved");
        assert_eq!(text, r#"{"path":"a.jpg","identity":2,"camera":null}"#);
        assert_eq!(serde_json::from_str::<Sample>(&text).expect("read"), plain);

        let merged = plain.clone().with_source(Source::new(1));
        let text = serde_json::to_string(&merged).expect("saved");
        assert!(text.ends_with(r#""camera":null,"source":1}"#), "{text}");
        assert_eq!(serde_json::from_str::<Sample>(&text).expect("read"), merged);

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
