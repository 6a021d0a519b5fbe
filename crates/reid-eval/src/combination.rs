//! Combines embeddings: pools the images of a track, averages views, and concatenates models.

use std::collections::BTreeMap;

use reid_core::Track;

use crate::{Embeddings, Error, expansion::unit};

impl Embeddings {
    /// Pools the embeddings of each track ([`Labels::tracks`](crate::Labels::tracks)) into one embedding,
    /// for retrieval of tracks instead of images.
    ///
    /// The embeddings of the images are normalised to length 1 and averaged, and the mean is normalised too.
    /// A track has the labels of its first image. The tracks are sorted by number. The result is
    /// `[tracks, dimensions]`.
    ///
    /// # Errors
    /// If the images have no tracks, or if a track has several identities or cameras.
    ///
    /// ```
    /// use reid_core::{Identity, Track};
    /// use reid_eval::Embeddings;
    ///
    /// let ids = [1, 1, 2].map(Identity::new).to_vec();
    /// let images = Embeddings::new(vec![1.0, 0.0, 0.0, 1.0, 1.0, 0.0], 2, ids)?
    ///     .with_tracks([7, 7, 8].map(Track::new).to_vec())?;
    /// let tracks = images.pooled_by_track()?;
    /// assert_eq!((tracks.len(), tracks.row(0)[0]), (2, 0.5_f32.sqrt()));
    /// # Ok::<(), reid_eval::Error>(())
    /// ```
    pub fn pooled_by_track(&self) -> Result<Self, Error> {
        let tracks = self.labels().tracks().ok_or(Error::Tracks)?;
        let mut images_of: BTreeMap<Track, Vec<usize>> = BTreeMap::new();
        for (image, track) in tracks.iter().enumerate() {
            images_of.entry(*track).or_default().push(image);
        }
        let mut values = Vec::with_capacity(images_of.len() * self.dimensions());
        let mut firsts = Vec::with_capacity(images_of.len());
        for (track, images) in images_of {
            let mut sum = vec![0.0; self.dimensions()];
            for &image in &images {
                let differs = self.identities()[image] != self.identities()[images[0]]
                    || self
                        .cameras()
                        .is_some_and(|all| all[image] != all[images[0]]);
                if differs {
                    return Err(Error::Track {
                        track: track.number(),
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

    /// Averages several sets of embeddings of the same images, such as the originals and flipped copies:
    /// `[images, dimensions]`.
    ///
    /// Each embedding is normalised to length 1 before the mean, and the mean is normalised too.
    ///
    /// # Errors
    /// If the sets have different numbers of images, different identities or different dimensions.
    ///
    /// ```
    /// use reid_core::Identity;
    /// use reid_eval::Embeddings;
    ///
    /// let one = |values: [f32; 2]| Embeddings::new(values.to_vec(), 2, vec![Identity::new(1)]);
    /// let mean = one([8.0, 0.0])?.mean_with(&[&one([0.0, 2.0])?])?;
    /// // Both have length 1 in the mean, so the longer one does not count more.
    /// assert!(mean.row(0).iter().all(|value| (value - 0.5_f32.sqrt()).abs() < 1e-6));
    /// # Ok::<(), reid_eval::Error>(())
    /// ```
    pub fn mean_with(&self, others: &[&Self]) -> Result<Self, Error> {
        let mut values = Vec::with_capacity(self.values().len());
        self.expect_same(others)?;
        for other in others {
            if other.dimensions() != self.dimensions() {
                return Err(Error::OtherDimensions {
                    operation: "the mean with other embeddings",
                    expected: self.dimensions(),
                    found: other.dimensions(),
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

    /// Concatenates the embeddings of several models for the same images:
    /// `[images, dimensions₁ + dimensions₂ + …]`.
    ///
    /// With `normalised`, each embedding is first normalised to length 1, so all models have the same weight.
    ///
    /// # Errors
    /// If the sets have different numbers of images or different identities.
    ///
    /// ```
    /// use reid_core::Identity;
    /// use reid_eval::Embeddings;
    ///
    /// let one = |values: &[f32]| Embeddings::new(values.to_vec(), values.len(), vec![Identity::new(1)]);
    /// let both = one(&[3.0, 4.0])?.concat(&[&one(&[9.0])?], true)?;
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

    /// Returns an error for sets with another number of images or other identities.
    fn expect_same(&self, others: &[&Self]) -> Result<(), Error> {
        for other in others {
            if other.len() != self.len() {
                return Err(Error::Labels {
                    labels: "embeddings in each set",
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

/// Normalises an embedding to length 1.
fn direction(row: &[f32]) -> Vec<f32> {
    let row: Vec<f64> = row.iter().copied().map(f64::from).collect();
    unit(&row)
}

/// Adds an embedding, normalised to length 1, to a sum.
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
    fn a_track_of_several_identities_or_cameras_is_rejected() {
        let images = set(&[1.0, 2.0, 3.0], &[1, 1, 2]);
        let pooled = |images: &Embeddings, tracks: [u64; 3]| {
            let images = images.clone().with_tracks(tracks.map(Track::new).to_vec());
            images.expect("one each").pooled_by_track()
        };
        assert_eq!(
            pooled(&images, [5, 5, 5])
                .expect_err("two identities")
                .to_string(),
            "a track must have one identity and one camera: images 0 and 2 (from 0) of track 5 differ"
        );
        assert_eq!(
            images.pooled_by_track().expect_err("no tracks").to_string(),
            "pooling by track needs a track for each image: set them with `with_tracks`"
        );
        let cameras = [1, 2, 1].map(Camera::new).to_vec();
        let images = images.with_cameras(cameras).expect("one each");
        assert!(pooled(&images, [5, 5, 6]).is_err());
        assert_eq!(pooled(&images, [3, 2, 1]).expect("single").len(), 3);
    }

    #[test]
    fn a_mean_ignores_the_lengths_of_vectors() {
        let mean = set(&[9.0, 0.0], &[1]).mean_with(&[&set(&[0.0, 0.1], &[1])]);
        let half = 0.5_f32.sqrt();
        assert_eq!(mean.expect("the same image").values(), [half, half]);
    }

    #[test]
    fn sets_of_other_images_are_rejected() {
        let one = set(&[1.0, 2.0], &[1, 2]);
        assert_eq!(
            one.concat(&[&set(&[1.0, 2.0], &[1, 3])], false)
                .expect_err("identity 3")
                .to_string(),
            "expected embeddings of the same images in the same order: image 1 (from 0) has another identity"
        );
        assert_eq!(
            one.mean_with(&[&set(&[1.0], &[1])])
                .expect_err("one")
                .to_string(),
            "expected 2 embeddings in each set, one per image, found 1"
        );
    }
}
