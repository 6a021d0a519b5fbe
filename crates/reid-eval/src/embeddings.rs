//! Embeddings: one vector per image, with labels.

use std::path::{Path, PathBuf};

use reid_core::{Camera, Identity, Track};

use crate::{Error, Labels};

/// One vector per image, with labels: what a network made of a query or a gallery.
///
/// Where the vectors come from does not matter. They are used as they are; whether their length
/// counts is the choice of the [`Metric`](crate::Metric).
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
    /// Embeddings from their values, row by row: `identities.len()` rows of `dimensions` values.
    ///
    /// # Errors
    /// If the number of values is another, if `dimensions` is 0, or if a value is infinite or not
    /// a number.
    pub fn new(
        values: Vec<f32>,
        dimensions: usize,
        identities: Vec<Identity>,
    ) -> Result<Self, Error> {
        Self::from_parts(values, dimensions, Labels::new(identities))
    }

    /// Embeddings from their values, row by row, and all their labels: `labels.len()` rows of `dimensions`
    /// values.
    ///
    /// ```
    /// use reid_eval::{Embeddings, Labels};
    ///
    /// // Nobody knows whom these two images show.
    /// let found = Embeddings::from_parts(vec![0.6, 0.8, 1.0, 0.0], 2, Labels::unknown(2))?;
    /// assert!(found.identities()[1].is_unknown());
    /// # Ok::<(), reid_eval::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn from_parts(values: Vec<f32>, dimensions: usize, labels: Labels) -> Result<Self, Error> {
        let images = labels.len();
        if dimensions == 0 || images.checked_mul(dimensions) != Some(values.len()) {
            return Err(Error::Shape {
                values: values.len(),
                dimensions,
                identities: images,
            });
        }
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
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

    /// The same embeddings with the camera of each image.
    ///
    /// # Errors
    /// If there is not one camera per image.
    pub fn with_cameras(mut self, cameras: Vec<Camera>) -> Result<Self, Error> {
        self.labels = self.labels.with_cameras(cameras)?;
        Ok(self)
    }

    /// The same embeddings with a number for each image; see [`Labels::with_images`].
    ///
    /// # Errors
    /// If there is not one number per image.
    pub fn with_images(mut self, images: Vec<u64>) -> Result<Self, Error> {
        self.labels = self.labels.with_images(images)?;
        Ok(self)
    }

    /// The same embeddings with the track of each image.
    ///
    /// # Errors
    /// If there is not one track per image.
    pub fn with_tracks(mut self, tracks: Vec<Track>) -> Result<Self, Error> {
        self.labels = self.labels.with_tracks(tracks)?;
        Ok(self)
    }

    /// The same embeddings with the file of each image, so that what a search finds can be opened.
    ///
    /// # Errors
    /// If there is not one path per image.
    pub fn with_paths(mut self, paths: Vec<PathBuf>) -> Result<Self, Error> {
        self.labels = self.labels.with_paths(paths)?;
        Ok(self)
    }

    /// The same embeddings with a further attribute; see [`Labels::with_attribute`].
    ///
    /// # Errors
    /// If there is not one value per image.
    pub fn with_attribute(
        mut self,
        name: impl Into<String>,
        values: Vec<Option<String>>,
    ) -> Result<Self, Error> {
        self.labels = self.labels.with_attribute(name, values)?;
        Ok(self)
    }

    /// Some of the images with their labels, in the order asked for; the same one more than once if it
    /// is asked for so.
    ///
    /// # Panics
    /// If there is no such image.
    #[must_use]
    pub fn select(&self, images: &[usize]) -> Self {
        let rows = images.iter().flat_map(|&image| self.row(image));
        Self {
            values: rows.copied().collect(),
            dimensions: self.dimensions,
            labels: self.labels.select(images),
        }
    }

    /// The same labels with other vectors, of as many dimensions as there are values for each image.
    pub(crate) fn with_values(&self, values: Vec<f32>, dimensions: usize) -> Result<Self, Error> {
        Self::from_parts(values, dimensions, self.labels.clone())
    }

    /// Number of images.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no images.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Length of each vector.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// The vector of one image, counted from 0.
    ///
    /// # Panics
    /// If there is no such image.
    #[must_use]
    pub fn row(&self, image: usize) -> &[f32] {
        let images = self.len();
        assert!(
            image < images,
            "there is no image {image} among {images} embeddings"
        );
        &self.values[image * self.dimensions..][..self.dimensions]
    }

    /// All vectors, row by row.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Identities and whatever else is known of the images.
    #[must_use]
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Who each image shows.
    #[must_use]
    pub fn identities(&self) -> &[Identity] {
        self.labels.identities()
    }

    /// Which camera took each image, where that is known.
    #[must_use]
    pub fn cameras(&self) -> Option<&[Camera]> {
        self.labels.cameras()
    }

    /// The number of each image, where they have any.
    #[must_use]
    pub fn images(&self) -> Option<&[u64]> {
        self.labels.images()
    }

    /// The file of one image, counted from 0, where that is known.
    ///
    /// # Panics
    /// If there is no such image.
    #[must_use]
    pub fn path(&self, image: usize) -> Option<&Path> {
        self.labels.at(image).path()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: [Identity; 2] = [Identity::new(1), Identity::new(2)];

    #[test]
    fn wrong_lengths_are_counted() {
        for (values, dimensions) in [(5, 3), (0, 0), (6, 0), (7, usize::MAX)] {
            let error = Embeddings::new(vec![0.0; values], dimensions, TWO.to_vec())
                .expect_err("not two rows")
                .to_string();
            assert_eq!(
                error,
                format!(
                    "expected embeddings of 2 images x {dimensions} dimensions (at least 1), \
                     found {values} values"
                )
            );
        }
    }

    #[test]
    fn a_value_that_is_no_number_is_placed() {
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
    #[should_panic(expected = "there is no image 2 among 2 embeddings")]
    fn a_row_past_the_end_is_refused() {
        let embeddings = Embeddings::new(vec![0.0; 6], 3, TWO.to_vec()).expect("two rows");
        let _ = embeddings.row(2);
    }
}
