//! Embeddings: one vector per image, with labels.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use reid_core::{Camera, Identity, Track};

use crate::{Error, Labels};

/// Embeddings of a query set or a gallery: one vector per image, with labels.
///
/// The vectors may come from any network or program. They are not normalised; whether their length matters
/// depends on the [`Metric`](crate::Metric).
///
/// ```
/// use reid_core::{Camera, Identity};
/// use reid_eval::Embeddings;
///
/// let identities = vec![Identity::new(7), Identity::new(8)];
/// let gallery = Embeddings::new(vec![0.6, 0.8, 1.0, 0.0], 2, identities)?
///     .with_cameras(vec![Camera::new(1), Camera::new(2)])?;
/// assert_eq!((gallery.len(), gallery.dimensions()), (2, 2));
/// assert_eq!(gallery.row(1), [1.0, 0.0]);
/// # Ok::<(), reid_eval::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
    values: Vec<f32>,
    dimensions: usize,
    labels: Labels,
}

impl Embeddings {
    /// Creates embeddings from their values, `[images, dimensions]` in rows, and one identity per image.
    ///
    /// # Errors
    /// If the number of values is not `identities.len() * dimensions`, if `dimensions` is 0, or if a value is
    /// infinite or NaN.
    pub fn new(
        values: Vec<f32>,
        dimensions: usize,
        identities: Vec<Identity>,
    ) -> Result<Self, Error> {
        Self::from_parts(values, dimensions, Labels::new(identities))
    }

    /// Creates embeddings from their values, `[images, dimensions]` in rows, and all their labels.
    ///
    /// ```
    /// use reid_eval::{Embeddings, Labels};
    ///
    /// // Two images of unknown identity.
    /// let found = Embeddings::from_parts(vec![0.6, 0.8, 1.0, 0.0], 2, Labels::unknown(2))?;
    /// assert!(found.identities()[1].is_unknown());
    /// # Ok::<(), reid_eval::Error>(())
    /// ```
    ///
    /// # Errors
    /// The errors of [`new`](Self::new).
    pub fn from_parts(values: Vec<f32>, dimensions: usize, labels: Labels) -> Result<Self, Error> {
        let images = labels.len();
        if dimensions == 0 || images.checked_mul(dimensions) != Some(values.len()) {
            return Err(Error::Shape {
                values: values.len(),
                dimensions,
                identities: images,
            });
        }
        if let Some(at) = not_finite(&values) {
            return Err(Error::Value {
                row: at / dimensions,
                column: at % dimensions,
                value: values[at],
            });
        }
        Ok(Self {
            values,
            dimensions,
            labels,
        })
    }

    /// The values without the labels.
    #[cfg(feature = "files")]
    pub(crate) fn into_values(self) -> Vec<f32> {
        self.values
    }

    /// Sets the camera of each image.
    ///
    /// # Errors
    /// If the number of cameras is not the number of images.
    pub fn with_cameras(mut self, cameras: Vec<Camera>) -> Result<Self, Error> {
        self.labels = self.labels.with_cameras(cameras)?;
        Ok(self)
    }

    /// Sets the image ID of each image; see [`Labels::with_images`].
    ///
    /// # Errors
    /// If the number of image IDs is not the number of images.
    pub fn with_images(mut self, images: Vec<u64>) -> Result<Self, Error> {
        self.labels = self.labels.with_images(images)?;
        Ok(self)
    }

    /// Sets the track of each image.
    ///
    /// # Errors
    /// If the number of tracks is not the number of images.
    pub fn with_tracks(mut self, tracks: Vec<Track>) -> Result<Self, Error> {
        self.labels = self.labels.with_tracks(tracks)?;
        Ok(self)
    }

    /// Sets the file of each image, which search results then include.
    ///
    /// # Errors
    /// If the number of paths is not the number of images.
    pub fn with_paths(mut self, paths: Vec<PathBuf>) -> Result<Self, Error> {
        self.labels = self.labels.with_paths(paths)?;
        Ok(self)
    }

    /// Adds an attribute; see [`Labels::with_attribute`].
    ///
    /// # Errors
    /// If the number of values is not the number of images.
    pub fn with_attribute(
        mut self,
        name: impl Into<String>,
        values: Vec<Option<String>>,
    ) -> Result<Self, Error> {
        self.labels = self.labels.with_attribute(name, values)?;
        Ok(self)
    }

    /// Selects images by index, with their labels, in the order of `images`. An index may be repeated.
    ///
    /// # Panics
    /// If an index is out of range.
    #[must_use]
    pub fn select(&self, images: &[usize]) -> Self {
        let rows = images.iter().flat_map(|&image| self.row(image));
        Self {
            values: rows.copied().collect(),
            dimensions: self.dimensions,
            labels: self.labels.select(images),
        }
    }

    /// Creates embeddings with other values and the same labels.
    pub(crate) fn with_values(&self, values: Vec<f32>, dimensions: usize) -> Result<Self, Error> {
        Self::from_parts(values, dimensions, self.labels.clone())
    }

    /// The number of images.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no images.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The number of dimensions: the number of values of each vector.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// The vector of the image with this index, from 0: `[dimensions]`.
    ///
    /// # Panics
    /// If the index is out of range.
    #[must_use]
    pub fn row(&self, image: usize) -> &[f32] {
        let images = self.len();
        assert!(
            image < images,
            "image index {image} is out of range for {images} embeddings (indices start at 0)"
        );
        &self.values[image * self.dimensions..][..self.dimensions]
    }

    /// The values of all vectors, `[images, dimensions]` in rows.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The labels of all images.
    #[must_use]
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// The identity of each image.
    #[must_use]
    pub fn identities(&self) -> &[Identity] {
        self.labels.identities()
    }

    /// The camera of each image, if known.
    #[must_use]
    pub fn cameras(&self) -> Option<&[Camera]> {
        self.labels.cameras()
    }

    /// The image ID of each image, if set.
    #[must_use]
    pub fn images(&self) -> Option<&[u64]> {
        self.labels.images()
    }

    /// The file of the image with this index, from 0, if known.
    ///
    /// # Panics
    /// If the index is out of range.
    #[must_use]
    pub fn path(&self, image: usize) -> Option<&Path> {
        self.labels.at(image).path()
    }
}

/// The index of the first value that is infinite or NaN.
fn not_finite(values: &[f32]) -> Option<usize> {
    const TOGETHER: usize = 4096;
    // Without an early end, so that it vectorises.
    let finite = |part: &[f32]| part.iter().fold(true, |all, value| all & value.is_finite());
    let parts = values.par_chunks(TOGETHER);
    let first = TOGETHER * parts.position_first(|part| !finite(part))?;
    let at = values[first..].iter().position(|value| !value.is_finite());
    at.map(|at| first + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: [Identity; 2] = [Identity::new(1), Identity::new(2)];

    #[test]
    fn a_wrong_number_of_values_is_rejected() {
        for (values, dimensions) in [(5, 3), (0, 0), (6, 0), (7, usize::MAX)] {
            let error = Embeddings::new(vec![0.0; values], dimensions, TWO.to_vec())
                .expect_err("not two rows")
                .to_string();
            assert_eq!(
                error,
                format!(
                    "embeddings of 2 images with {dimensions} dimensions need 2 x {dimensions} \
                     values, and at least 1 dimension: found {values} values"
                )
            );
        }
    }

    #[test]
    fn infinite_and_nan_values_are_rejected_with_row_and_column() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let values = vec![0.0, 0.0, 0.0, 0.0, value, 0.0];
            let error = Embeddings::new(values, 3, TWO.to_vec()).expect_err("not finite");
            assert_eq!(
                error.to_string(),
                format!("embedding value at row 1, column 1 is {value}, expected a finite number")
            );
        }
    }

    #[test]
    #[should_panic(
        expected = "image index 2 is out of range for 2 embeddings (indices start at 0)"
    )]
    fn a_row_out_of_range_panics() {
        let embeddings = Embeddings::new(vec![0.0; 6], 3, TWO.to_vec()).expect("two rows");
        let _ = embeddings.row(2);
    }
}
