//! The random sampler: shuffled images in batches of a fixed size.

use std::num::NonZeroUsize;

use rand::seq::SliceRandom;
use reid_core::{Sample, Seed};
use serde::{Deserialize, Serialize};

use super::Sampler;
use crate::Error;

/// A sampler that shuffles all images and splits them into batches of a fixed size.
///
/// Use it with a classification loss only. A batch may contain a single image of an identity, so a triplet
/// loss finds no positive pair; use an [`IdentitySampler`](super::IdentitySampler) for such losses.
///
/// Each image is in at most one batch of an epoch. All batches are full: the last `images % batch_size`
/// images of the shuffled list are skipped in this epoch, or with
/// [`with_partial_batch`](Self::with_partial_batch) they are a smaller batch. Samples without a known
/// identity ([`Identity::is_labelled`](reid_core::Identity::is_labelled) is false) are never drawn.
///
/// ```
/// use reid_core::{Identity, Sample, Seed};
/// use reid_data::sampler::{RandomSampler, Sampler};
///
/// let samples = vec![Sample::new("a.jpg", Identity::new(1)); 10];
/// let batches = RandomSampler::new(4).batches(&samples, Seed::new(1))?;
/// assert_eq!(batches.len(), 2); // floor(10 / 4)
/// let batches = RandomSampler::new(4).with_partial_batch().batches(&samples, Seed::new(1))?;
/// assert_eq!(batches[2].len(), 2); // 10 mod 4
/// # Ok::<(), reid_data::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomSampler {
    batch_size: NonZeroUsize,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    partial_batch: bool,
}

impl RandomSampler {
    /// Creates a sampler of batches of `batch_size` images.
    ///
    /// # Panics
    /// If `batch_size` is 0.
    #[must_use]
    pub const fn new(batch_size: usize) -> Self {
        let batch_size = NonZeroUsize::new(batch_size).expect("a batch needs at least 1 image");
        Self {
            batch_size,
            partial_batch: false,
        }
    }

    /// Keeps the last batch of an epoch even if it is smaller, as PyTorch's loader does by default.
    #[must_use]
    pub const fn with_partial_batch(mut self) -> Self {
        self.partial_batch = true;
        self
    }

    /// The number of images in a batch.
    #[must_use]
    pub const fn batch_size(&self) -> usize {
        self.batch_size.get()
    }
}

impl Sampler for RandomSampler {
    /// # Errors
    /// [`Error::TooFewImages`] if fewer than `batch_size` samples have a known identity; with partial
    /// batches, if none has one.
    fn batches(&self, samples: &[Sample], seed: Seed) -> Result<Vec<Vec<usize>>, Error> {
        let known = |&index: &usize| samples[index].identity.is_labelled();
        let mut indices: Vec<usize> = (0..samples.len()).filter(known).collect();
        let (size, found) = (self.batch_size(), indices.len());
        let expected = if self.partial_batch { 1 } else { size };
        if found < expected {
            return Err(Error::TooFewImages { expected, found });
        }
        indices.shuffle(&mut seed.stream());
        let kept = if self.partial_batch {
            found
        } else {
            found - found % size
        };
        let batches = indices[..kept].chunks(size);
        Ok(batches.map(<[usize]>::to_vec).collect())
    }
}

#[cfg(test)]
mod tests {
    use reid_core::Identity;

    use super::*;

    fn samples(labels: &[i64]) -> Vec<Sample> {
        let sample = |&label: &i64| Sample::new("a.jpg", Identity::new(label));
        labels.iter().map(sample).collect()
    }

    #[test]
    fn labelled_images_are_drawn_at_most_once_in_full_batches() {
        // 7 labelled images make 2 batches of 3; 1 is skipped.
        let samples = samples(&[1, -1, 1, 2, 3, 3, 3, 4, -2]);
        let sampler = RandomSampler::new(3);
        let epoch = |number| sampler.batches(&samples, Seed::new(number)).unwrap();
        let mut used = vec![0; samples.len()];
        for number in 0..60 {
            let batches = epoch(number);
            assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3]);
            let mut drawn = batches.concat();
            drawn.sort_unstable();
            drawn.dedup();
            assert_eq!(drawn.len(), 6);
            for index in drawn {
                used[index] += 1;
            }
        }
        // Each labelled image is expected 60 · 6 / 7 = 51 times, an unlabelled one never.
        assert_eq!((used.remove(8), used.remove(1)), (0, 0));
        assert!(used.iter().all(|&times| times > 40), "{used:?}");
        assert_eq!(epoch(5), epoch(5));
        assert_ne!(epoch(5), epoch(6));
    }

    #[test]
    fn partial_batches_draw_every_image_once() {
        let samples = samples(&[1, -1, 1, 2, 3, 3, 3, 4, -2]);
        let sampler = RandomSampler::new(3).with_partial_batch();
        let batches = sampler.batches(&samples, Seed::new(1)).unwrap();
        assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 1]);
        let mut drawn = batches.concat();
        drawn.sort_unstable();
        assert_eq!(drawn, [0, 2, 3, 4, 5, 6, 7]);
        let error = sampler.batches(&[], Seed::new(1)).expect_err("none");
        let expected = "a batch needs 1 images, the samples have 0";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn the_error_of_too_few_images_has_both_counts() {
        let error = RandomSampler::new(3)
            .batches(&samples(&[1, 2, -1]), Seed::new(0))
            .expect_err("two are too few");
        let expected = "a batch needs 3 images, the samples have 2";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_saved_sampler_is_read_back_and_batch_size_0_is_rejected() {
        let text = serde_json::to_string(&RandomSampler::new(64)).unwrap();
        assert_eq!(text, r#"{"batch_size":64}"#);
        let read = serde_json::from_str::<RandomSampler>;
        assert_eq!(read(&text).unwrap(), RandomSampler::new(64));
        assert!(read(&text.replace("64", "0")).is_err());
    }

    #[test]
    #[should_panic(expected = "at least 1 image")]
    fn batch_size_0_panics() {
        let _ = RandomSampler::new(0);
    }
}
