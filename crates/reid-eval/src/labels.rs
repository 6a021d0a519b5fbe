//! Labels: who each image shows, which camera took it, and which image it is.

use reid_core::{Camera, Identity, Sample};

use crate::Error;

/// Who each image of a set shows, and where they are known its camera and its number.
///
/// [`Embeddings`](crate::Embeddings) carry labels; on their own they go with a distance matrix that
/// was computed elsewhere, to [`evaluate_distances`](crate::evaluate_distances).
///
/// ```
/// use reid_core::{Camera, Identity};
/// use reid_eval::Labels;
///
/// let labels = Labels::new(vec![Identity::new(7), Identity::new(8)])
///     .with_cameras(vec![Camera::new(1), Camera::new(2)])?;
/// assert_eq!(labels.len(), 2);
/// assert_eq!(labels.cameras(), Some(&[Camera::new(1), Camera::new(2)][..]));
/// assert_eq!(labels.images(), None);
/// # Ok::<(), reid_eval::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    identities: Vec<Identity>,
    cameras: Option<Vec<Camera>>,
    images: Option<Vec<u64>>,
}

impl Labels {
    /// Labels without cameras and image numbers: one identity per image.
    #[must_use]
    pub fn new(identities: Vec<Identity>) -> Self {
        Self {
            identities,
            cameras: None,
            images: None,
        }
    }

    /// The labels of samples: who each shows, and cameras if all samples have one.
    ///
    /// ```
    /// use reid_core::{Camera, Identity, Sample};
    /// use reid_eval::Labels;
    ///
    /// let sample = Sample::new("a.jpg", Identity::new(7)).with_camera(Camera::new(1));
    /// let labels = Labels::from_samples(&[sample])?;
    /// assert_eq!(labels.cameras(), Some(&[Camera::new(1)][..]));
    /// # Ok::<(), reid_eval::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::MixedCameras`] if some samples have a camera and others have none: without cameras the
    /// figures would be those of another, easier protocol.
    pub fn from_samples(samples: &[Sample]) -> Result<Self, Error> {
        let labels = Self::new(samples.iter().map(|sample| sample.identity).collect());
        let cameras: Vec<Camera> = samples.iter().filter_map(|sample| sample.camera).collect();
        let path = |has: bool| {
            let sample = samples.iter().find(|sample| sample.camera.is_some() == has);
            sample.map(|sample| sample.path.clone())
        };
        match (path(true), path(false)) {
            (Some(with), Some(without)) => Err(Error::MixedCameras { with, without }),
            (Some(_), None) => labels.with_cameras(cameras),
            (None, _) => Ok(labels),
        }
    }

    /// The same labels with the camera of each image.
    ///
    /// # Errors
    /// If there is not one camera per image.
    pub fn with_cameras(mut self, cameras: Vec<Camera>) -> Result<Self, Error> {
        self.expect_one_each("cameras", cameras.len())?;
        self.cameras = Some(cameras);
        Ok(self)
    }

    /// The same labels with a number for each image. An image that is both a query and in the
    /// gallery has the same number in both, so that
    /// [`Protocol::NoCameras`](crate::Protocol::NoCameras) does not count it as found.
    ///
    /// # Errors
    /// If there is not one number per image.
    pub fn with_images(mut self, images: Vec<u64>) -> Result<Self, Error> {
        self.expect_one_each("image numbers", images.len())?;
        self.images = Some(images);
        Ok(self)
    }

    /// The labels of some images, in the order asked for.
    ///
    /// # Panics
    /// If there is no such image.
    #[must_use]
    pub fn select(&self, images: &[usize]) -> Self {
        fn of<T: Copy>(all: &[T], images: &[usize]) -> Vec<T> {
            images.iter().map(|&image| all[image]).collect()
        }
        Self {
            identities: of(&self.identities, images),
            cameras: self.cameras.as_ref().map(|all| of(all, images)),
            images: self.images.as_ref().map(|all| of(all, images)),
        }
    }

    /// Number of images.
    #[must_use]
    pub fn len(&self) -> usize {
        self.identities.len()
    }

    /// Whether there are no images.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.identities.is_empty()
    }

    /// Who each image shows.
    #[must_use]
    pub fn identities(&self) -> &[Identity] {
        &self.identities
    }

    /// Which camera took each image, where that is known.
    #[must_use]
    pub fn cameras(&self) -> Option<&[Camera]> {
        self.cameras.as_deref()
    }

    /// The number of each image, where they have any.
    #[must_use]
    pub fn images(&self) -> Option<&[u64]> {
        self.images.as_deref()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_missing_camera_is_named_and_hides_no_other() {
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
    fn a_missing_label_is_counted() {
        let labels = Labels::new(vec![Identity::new(7); 3]);
        let cameras = labels.clone().with_cameras(vec![Camera::new(1); 2]);
        assert_eq!(
            cameras.expect_err("two cameras").to_string(),
            "expected 3 cameras, one per image, found 2"
        );
        let images = labels.with_images(vec![1, 2, 3, 4]);
        assert_eq!(
            images.expect_err("four numbers").to_string(),
            "expected 3 image numbers, one per image, found 4"
        );
    }
}
