//! Descriptors put together: of a track, of several views, of several models.

use std::collections::BTreeMap;

use crate::{Embeddings, Error, expansion::unit};

impl Embeddings {
    /// One descriptor for each track: the mean of its images' descriptors, each at length 1 before, and
    /// the result too. A track takes the labels of its first image; tracks come in the order of their
    /// numbers.
    ///
    /// # Errors
    /// If there is not one number per image, or a track shows several identities or cameras: the row
    /// that differs is named.
    ///
    /// ```
    /// use reid_core::Identity;
    /// use reid_eval::Embeddings;
    ///
    /// let ids = [1, 1, 2].map(Identity::new).to_vec();
    /// let images = Embeddings::new(vec![1.0, 0.0, 0.0, 1.0, 1.0, 0.0], 2, ids)?;
    /// let tracks = images.pooled_by_track(&[7, 7, 8])?;
    /// assert_eq!((tracks.len(), tracks.row(0)[0]), (2, 0.5_f32.sqrt()));
    /// # Ok::<(), reid_eval::Error>(())
    /// ```
    pub fn pooled_by_track(&self, tracks: &[u64]) -> Result<Self, Error> {
        if tracks.len() != self.len() {
            return Err(Error::Labels {
                labels: "track numbers",
                expected: self.len(),
                found: tracks.len(),
            });
        }
        let mut of: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (image, track) in tracks.iter().enumerate() {
            of.entry(*track).or_default().push(image);
        }
        let mut values = Vec::with_capacity(of.len() * self.dimensions());
        let mut firsts = Vec::with_capacity(of.len());
        for (track, images) in of {
            let mut sum = vec![0.0; self.dimensions()];
            for &image in &images {
                let differs = self.identities()[image] != self.identities()[images[0]]
                    || self.cameras().is_some_and(|of| of[image] != of[images[0]]);
                if differs {
                    return Err(Error::Track {
                        track,
                        first: images[0],
                        row: image,
                    });
                }
                add_direction(&mut sum, self.row(image));
            }
            values.extend(unit(&sum));
            firsts.push(images[0]);
        }
        self.select(&firsts).with_values(values, self.dimensions())
    }

    /// The mean of several descriptors of the same images, such as an image and its mirror image: each
    /// at length 1 before, and the result too.
    ///
    /// # Errors
    /// If the sets are not of the same images: labels or dimensions differ.
    pub fn mean_with(&self, others: &[&Self]) -> Result<Self, Error> {
        let mut values = Vec::with_capacity(self.values().len());
        self.expect_same(others)?;
        for other in others {
            if other.dimensions() != self.dimensions() {
                return Err(Error::Dimensions {
                    query: self.dimensions(),
                    gallery: other.dimensions(),
                });
            }
        }
        for image in 0..self.len() {
            let mut sum = vec![0.0; self.dimensions()];
            for set in [self].iter().chain(others) {
                add_direction(&mut sum, set.row(image));
            }
            values.extend(unit(&sum));
        }
        self.with_values(values, self.dimensions())
    }

    /// Descriptors of several models side by side; with `normalised`, each at length 1 before, so that
    /// none counts more than another.
    ///
    /// # Errors
    /// If the sets are not of the same images: labels differ.
    ///
    /// ```
    /// use reid_core::Identity;
    /// use reid_eval::Embeddings;
    ///
    /// let of = |values: &[f32]| Embeddings::new(values.to_vec(), values.len(), vec![Identity::new(1)]);
    /// let both = of(&[3.0, 4.0])?.concat(&[&of(&[9.0])?], true)?;
    /// assert_eq!(both.row(0), [0.6, 0.8, 1.0]);
    /// # Ok::<(), reid_eval::Error>(())
    /// ```
    pub fn concat(&self, others: &[&Self], normalised: bool) -> Result<Self, Error> {
        self.expect_same(others)?;
        let all = || [self].into_iter().chain(others.iter().copied());
        let dimensions = all().map(Self::dimensions).sum();
        let mut values = Vec::with_capacity(self.len() * dimensions);
        for image in 0..self.len() {
            for set in all() {
                let row = set.row(image);
                if normalised {
                    values.extend(direction(row));
                } else {
                    values.extend_from_slice(row);
                }
            }
        }
        self.with_values(values, dimensions)
    }

    /// Refuses sets whose labels are not the same.
    fn expect_same(&self, others: &[&Self]) -> Result<(), Error> {
        for other in others {
            if other.len() != self.len() {
                return Err(Error::Labels {
                    labels: "images in every set",
                    expected: self.len(),
                    found: other.len(),
                });
            }
            let pairs = self.identities().iter().zip(other.identities());
            if let Some(row) = pairs.clone().position(|(one, other)| one != other) {
                return Err(Error::Mixed { row });
            }
        }
        Ok(())
    }
}

/// A descriptor at length 1.
fn direction(row: &[f32]) -> Vec<f32> {
    let row: Vec<f64> = row.iter().copied().map(f64::from).collect();
    unit(&row)
}

/// Adds a descriptor at length 1 to a sum.
fn add_direction(sum: &mut [f64], row: &[f32]) {
    for (sum, value) in sum.iter_mut().zip(direction(row)) {
        *sum += f64::from(value);
    }
}

#[cfg(test)]
mod tests {
    use reid_core::{Camera, Identity};

    use super::*;

    fn set(values: &[f32], identities: &[i64]) -> Embeddings {
        let identities: Vec<_> = identities.iter().copied().map(Identity::new).collect();
        Embeddings::new(values.to_vec(), values.len() / identities.len(), identities).expect("rows")
    }

    #[test]
    fn a_track_that_changes_its_identity_or_camera_is_refused() {
        let images = set(&[1.0, 2.0, 3.0], &[1, 1, 2]);
        assert_eq!(
            images
                .pooled_by_track(&[5, 5, 5])
                .expect_err("two identities")
                .to_string(),
            "track 5 has rows 0 and 2, which differ in identity or camera"
        );
        assert_eq!(
            images
                .pooled_by_track(&[5, 5])
                .expect_err("too few")
                .to_string(),
            "expected 3 track numbers, one per image, found 2"
        );
        let cameras = [1, 2, 1].map(Camera::new).to_vec();
        let images = images.with_cameras(cameras).expect("one each");
        assert!(images.pooled_by_track(&[5, 5, 6]).is_err());
        assert_eq!(images.pooled_by_track(&[3, 2, 1]).expect("single").len(), 3);
    }

    #[test]
    fn a_mean_is_of_directions() {
        let mean = set(&[9.0, 0.0], &[1]).mean_with(&[&set(&[0.0, 0.1], &[1])]);
        let half = 0.5_f32.sqrt();
        assert_eq!(mean.expect("the same image").values(), [half, half]);
    }

    #[test]
    fn sets_of_other_images_are_refused() {
        let one = set(&[1.0, 2.0], &[1, 2]);
        assert_eq!(
            one.concat(&[&set(&[1.0, 2.0], &[1, 3])], false)
                .expect_err("3")
                .to_string(),
            "the sets show different identities at row 1: expected the same images in the same order"
        );
        assert_eq!(
            one.mean_with(&[&set(&[1.0], &[1])])
                .expect_err("one")
                .to_string(),
            "expected 2 images in every set, one per image, found 1"
        );
    }
}
