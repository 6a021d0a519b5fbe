//! Labels of images: identity, camera, track, file and attributes.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use reid_core::{Camera, Identity, Sample, Split, Track};

use crate::Error;

/// The labels of a set of images: the identity of each image and, if known, its camera, track, file and
/// attributes.
///
/// [`Embeddings`](crate::Embeddings) contain labels. Without embeddings, labels describe the rows and columns
/// of a distance matrix for [`evaluate_distances`](crate::evaluate_distances).
///
/// ```
/// use reid_core::{Camera, Identity};
/// use reid_eval::Labels;
///
/// let labels = Labels::new(vec![Identity::new(7), Identity::new(8)])
///     .with_cameras(vec![Camera::new(1), Camera::new(2)])?
///     .with_attribute("clothes", vec![Some("red coat".into()), None])?;
/// assert_eq!(labels.len(), 2);
/// assert_eq!(labels.cameras(), Some(&[Camera::new(1), Camera::new(2)][..]));
/// assert_eq!(labels.at(0).attribute("clothes"), Some("red coat"));
/// assert_eq!(labels.images(), None);
/// # Ok::<(), reid_eval::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    identities: Vec<Identity>,
    cameras: Option<Vec<Camera>>,
    images: Option<Vec<u64>>,
    tracks: Option<Vec<Track>>,
    paths: Option<Vec<PathBuf>>,
    /// The attributes by name: one value per image, `None` if unknown.
    attributes: BTreeMap<String, Vec<Option<String>>>,
}

/// The labels of one image.
///
/// ```
/// use reid_core::{Camera, Identity};
/// use reid_eval::Labels;
///
/// let labels = Labels::new(vec![Identity::new(7)]).with_cameras(vec![Camera::new(1)])?;
/// let image = labels.at(0);
/// assert_eq!((image.identity(), image.camera()), (Identity::new(7), Some(Camera::new(1))));
/// # Ok::<(), reid_eval::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ImageLabels<'a> {
    labels: &'a Labels,
    index: usize,
}

impl<'a> ImageLabels<'a> {
    /// Index of the image in its set, from 0.
    #[must_use]
    pub fn index(self) -> usize {
        self.index
    }

    /// Its identity.
    #[must_use]
    pub fn identity(self) -> Identity {
        self.labels.identities[self.index]
    }

    /// Its camera, if known.
    #[must_use]
    pub fn camera(self) -> Option<Camera> {
        Some(self.labels.cameras.as_ref()?[self.index])
    }

    /// Its image ID, if set; see [`Labels::with_images`].
    #[must_use]
    pub fn image(self) -> Option<u64> {
        Some(self.labels.images.as_ref()?[self.index])
    }

    /// Its track, if known.
    #[must_use]
    pub fn track(self) -> Option<Track> {
        Some(self.labels.tracks.as_ref()?[self.index])
    }

    /// Its file, if known.
    #[must_use]
    pub fn path(self) -> Option<&'a Path> {
        Some(&self.labels.paths.as_ref()?[self.index])
    }

    /// The value of an attribute, if known.
    #[must_use]
    pub fn attribute(self, name: &str) -> Option<&'a str> {
        self.labels.attributes.get(name)?[self.index].as_deref()
    }
}

impl Labels {
    /// Creates labels with one identity per image and nothing else.
    #[must_use]
    pub fn new(identities: Vec<Identity>) -> Self {
        Self {
            identities,
            ..Self::default()
        }
    }

    /// Creates labels for images of unknown identity: [`Identity::UNKNOWN`] for each.
    ///
    /// ```
    /// use reid_eval::Labels;
    ///
    /// let labels = Labels::unknown(3);
    /// assert!(labels.identities().iter().all(|identity| identity.is_unknown()));
    /// ```
    #[must_use]
    pub fn unknown(images: usize) -> Self {
        Self::new(vec![Identity::UNKNOWN; images])
    }

    /// Creates the labels of samples: identities, files and attributes, and cameras or tracks if all samples
    /// have one.
    ///
    /// ```
    /// use std::path::Path;
    /// use reid_core::{Camera, Identity, Sample};
    /// use reid_eval::Labels;
    ///
    /// let sample = Sample::new("a.jpg", Identity::new(7)).with_camera(Camera::new(1));
    /// let labels = Labels::from_samples(&[sample])?;
    /// assert_eq!(labels.cameras(), Some(&[Camera::new(1)][..]));
    /// assert_eq!(labels.at(0).path(), Some(Path::new("a.jpg")));
    /// # Ok::<(), reid_eval::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::MixedCameras`] if some samples have a camera and others do not. Dropping the cameras silently
    /// would lead to another, easier protocol.
    pub fn from_samples(samples: &[Sample]) -> Result<Self, Error> {
        let path = |has: bool| {
            let sample = samples.iter().find(|sample| sample.camera.is_some() == has);
            sample.map(|sample| sample.path.clone())
        };
        if let (Some(with), Some(without)) = (path(true), path(false)) {
            return Err(Error::MixedCameras { with, without });
        }
        let cameras: Option<Vec<Camera>> = samples.iter().map(|sample| sample.camera).collect();
        let tracks: Option<Vec<Track>> = samples.iter().map(|sample| sample.track).collect();
        Ok(Self {
            identities: samples.iter().map(|sample| sample.identity).collect(),
            cameras: cameras.filter(|cameras| !cameras.is_empty()),
            tracks: tracks.filter(|tracks| !tracks.is_empty()),
            images: None,
            paths: Some(samples.iter().map(|sample| sample.path.clone()).collect()),
            attributes: attributes(samples),
        })
    }

    /// Sets the camera of each image.
    ///
    /// # Errors
    /// If the number of cameras is not the number of images.
    pub fn with_cameras(mut self, cameras: Vec<Camera>) -> Result<Self, Error> {
        self.expect_one_each("cameras", cameras.len())?;
        self.cameras = Some(cameras);
        Ok(self)
    }

    /// Sets the image ID of each image.
    ///
    /// An image that is both a query and in the gallery must have the same ID in both, so that
    /// [`Protocol::NoCameras`](crate::Protocol::NoCameras) ignores it as a match of itself.
    ///
    /// # Errors
    /// If the number of image IDs is not the number of images.
    pub fn with_images(mut self, images: Vec<u64>) -> Result<Self, Error> {
        self.expect_one_each("image IDs", images.len())?;
        self.images = Some(images);
        Ok(self)
    }

    /// Sets the track of each image.
    ///
    /// # Errors
    /// If the number of tracks is not the number of images.
    pub fn with_tracks(mut self, tracks: Vec<Track>) -> Result<Self, Error> {
        self.expect_one_each("tracks", tracks.len())?;
        self.tracks = Some(tracks);
        Ok(self)
    }

    /// Sets the file of each image, which search results then include.
    ///
    /// # Errors
    /// If the number of paths is not the number of images.
    pub fn with_paths(mut self, paths: Vec<PathBuf>) -> Result<Self, Error> {
        self.expect_one_each("paths", paths.len())?;
        self.paths = Some(paths);
        Ok(self)
    }

    /// Adds an attribute, such as clothes or modality, for a [`RelevanceRule`](crate::RelevanceRule) to use.
    ///
    /// `None` and an empty text both mean unknown. An attribute of the same name is replaced.
    ///
    /// # Errors
    /// If the number of values is not the number of images.
    pub fn with_attribute(
        mut self,
        name: impl Into<String>,
        values: Vec<Option<String>>,
    ) -> Result<Self, Error> {
        self.expect_one_each("values of an attribute", values.len())?;
        let values = values
            .into_iter()
            .map(|value| value.filter(|value| !value.is_empty()));
        self.attributes.insert(name.into(), values.collect());
        Ok(self)
    }

    /// Selects images by index, in the order of `images`. An index may be repeated.
    ///
    /// # Panics
    /// If an index is out of range.
    #[must_use]
    pub fn select(&self, images: &[usize]) -> Self {
        fn some<T: Clone>(all: &[T], images: &[usize]) -> Vec<T> {
            images.iter().map(|&image| all[image].clone()).collect()
        }
        let attributes = self.attributes.iter();
        Self {
            identities: some(&self.identities, images),
            cameras: self.cameras.as_ref().map(|all| some(all, images)),
            images: self.images.as_ref().map(|all| some(all, images)),
            tracks: self.tracks.as_ref().map(|all| some(all, images)),
            paths: self.paths.as_ref().map(|all| some(all, images)),
            attributes: attributes
                .map(|(name, all)| (name.clone(), some(all, images)))
                .collect(),
        }
    }

    /// Appends the labels of more images, which must be of the same kinds.
    #[cfg(feature = "files")]
    pub(crate) fn append(&mut self, more: Self) -> Result<(), String> {
        fn both<T>(
            kind: &str,
            all: &mut Option<Vec<T>>,
            more: Option<Vec<T>>,
        ) -> Result<(), String> {
            match (all, more) {
                (Some(all), Some(more)) => all.extend(more),
                (None, None) => {}
                _ => return Err(format!("expected {kind} of all images or of none")),
            }
            Ok(())
        }
        both("cameras", &mut self.cameras, more.cameras)?;
        both("image IDs", &mut self.images, more.images)?;
        both("tracks", &mut self.tracks, more.tracks)?;
        both("paths", &mut self.paths, more.paths)?;
        if !self.attributes.keys().eq(more.attributes.keys()) {
            return Err("expected the same attributes of all images".to_owned());
        }
        let attributes = self.attributes.values_mut();
        for (all, more) in attributes.zip(more.attributes.into_values()) {
            all.extend(more);
        }
        self.identities.extend(more.identities);
        Ok(())
    }

    /// The number of images.
    #[must_use]
    pub fn len(&self) -> usize {
        self.identities.len()
    }

    /// Whether there are no images.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.identities.is_empty()
    }

    /// The labels of the image with this index, from 0.
    ///
    /// # Panics
    /// If the index is out of range.
    #[must_use]
    pub fn at(&self, index: usize) -> ImageLabels<'_> {
        let images = self.len();
        assert!(
            index < images,
            "image index {index} is out of range for {images} images (indices start at 0)"
        );
        ImageLabels {
            labels: self,
            index,
        }
    }

    /// The identity of each image.
    #[must_use]
    pub fn identities(&self) -> &[Identity] {
        &self.identities
    }

    /// The camera of each image, if known.
    #[must_use]
    pub fn cameras(&self) -> Option<&[Camera]> {
        self.cameras.as_deref()
    }

    /// The image ID of each image, if set.
    #[must_use]
    pub fn images(&self) -> Option<&[u64]> {
        self.images.as_deref()
    }

    /// The track of each image, if known.
    #[must_use]
    pub fn tracks(&self) -> Option<&[Track]> {
        self.tracks.as_deref()
    }

    /// The file of each image, if known.
    #[must_use]
    pub fn paths(&self) -> Option<&[PathBuf]> {
        self.paths.as_deref()
    }

    /// The values of an attribute, if the images have it: one per image, `None` if unknown.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&[Option<String>]> {
        self.attributes.get(name).map(Vec::as_slice)
    }

    /// The names of the attributes, in alphabetical order.
    pub fn attribute_names(&self) -> impl Iterator<Item = &str> {
        self.attributes.keys().map(String::as_str)
    }

    /// Checks that an attribute exists, for use in [`RelevanceRule::check`](crate::RelevanceRule::check).
    ///
    /// # Errors
    /// [`Error::Attribute`] if it does not; the error lists the attributes that exist.
    pub fn expect_attribute(&self, name: &str, split: Split) -> Result<(), Error> {
        if self.attributes.contains_key(name) {
            return Ok(());
        }
        Err(Error::Attribute {
            split,
            expected: name.to_owned(),
            found: self.attribute_names().map(str::to_owned).collect(),
        })
    }

    fn expect_one_each(&self, labels: &'static str, found: usize) -> Result<(), Error> {
        let expected = self.len();
        if found == expected {
            Ok(())
        } else {
            Err(Error::Labels {
                labels,
                expected,
                found,
            })
        }
    }
}

/// Collects all attributes that at least one of these samples has.
fn attributes(samples: &[Sample]) -> BTreeMap<String, Vec<Option<String>>> {
    let names = samples.iter().flat_map(|sample| sample.attributes.keys());
    let names: BTreeSet<&String> = names.collect();
    let values = |name: &String| {
        let values = samples.iter().map(|sample| sample.attributes.get(name));
        values
            .map(|value| value.filter(|value| !value.is_empty()).cloned())
            .collect()
    };
    names
        .into_iter()
        .map(|name| (name.clone(), values(name)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_camera_is_rejected_by_file_name() {
        let without = Sample::new("b.jpg", Identity::new(7));
        let with = Sample::new("a.jpg", Identity::new(7)).with_camera(Camera::new(1));
        let labels = Labels::from_samples(&[without.clone(), without.clone()]);
        assert_eq!(labels.map(|labels| labels.cameras), Ok(None));
        assert_eq!(
            Labels::from_samples(&[with, without])
                .expect_err("mixed")
                .to_string(),
            "b.jpg has no camera, but a.jpg has: give a camera to every image or to none"
        );
    }

    #[test]
    fn tracks_paths_and_attributes_of_samples_are_kept() {
        let sample = |path: &str| Sample::new(path, Identity::new(7));
        let samples = [
            sample("a.jpg")
                .with_track(Track::new(3))
                .with_attribute("clothes", "red"),
            sample("b.jpg").with_track(Track::new(4)),
        ];
        let labels = Labels::from_samples(&samples).expect("no cameras");
        assert_eq!(labels.tracks(), Some(&[3, 4].map(Track::new)[..]));
        assert_eq!(labels.select(&[1]).at(0).path(), Some(Path::new("b.jpg")));
        let clothes = [0, 1].map(|image| labels.at(image).attribute("clothes"));
        assert_eq!(clothes, [Some("red"), None]);
        let labels = Labels::from_samples(&[samples[0].clone(), sample("c.jpg")]);
        assert_eq!(labels.map(|labels| labels.tracks), Ok(None));
    }

    #[test]
    fn an_empty_attribute_is_unknown() {
        let values = vec![Some("red".to_owned()), Some(String::new()), None];
        let labels = Labels::new(vec![Identity::new(7); 3])
            .with_attribute("clothes", values)
            .expect("three");
        let found = [2, 1, 0].map(|at| labels.select(&[at]).at(0).attribute("clothes").is_some());
        assert_eq!(found, [false, false, true]);
        assert_eq!(labels.at(0).attribute("modality"), None);
        assert_eq!(
            labels
                .expect_attribute("modality", Split::Query)
                .expect_err("only clothes")
                .to_string(),
            "the query has no attribute `modality`, found `clothes`: \
             set one value per image with `Labels::with_attribute`"
        );
    }

    #[test]
    fn a_wrong_number_of_labels_is_rejected() {
        let labels = Labels::new(vec![Identity::new(7); 3]);
        let cameras = labels.clone().with_cameras(vec![Camera::new(1); 2]);
        assert_eq!(
            cameras.expect_err("two cameras").to_string(),
            "expected 3 cameras, one per image, found 2"
        );
        let images = labels.with_images(vec![1, 2, 3, 4]);
        assert_eq!(
            images.expect_err("four IDs").to_string(),
            "expected 3 image IDs, one per image, found 4"
        );
    }
}
