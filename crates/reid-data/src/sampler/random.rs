//! Random sampler: shuffled images in batches of a fixed size.

use std::num::NonZeroUsize;

use rand::seq::SliceRandom;
use reid_core::{Sample, Seed};
use serde::{Deserialize, Serialize};

use super::Sampler;
use crate::Error;

/// All images in random order, in batches of a fixed size: for networks that classify only.
///
/// A batch may show an identity once, so a triplet loss finds no pair in it; use an
/// [`IdentitySampler`](super::IdentitySampler) there. Each image is in at most one batch of an epoch.
/// Batches are always full: the `images % batch_size` last images of the shuffled list are not used in
/// this epoch. Junk ([`Identity::JUNK`](reid_core::Identity::JUNK)) is never drawn.
///
/// ```
/// use reid_core::{Identity, Sample, Seed};
/// use reid_data::sampler::{RandomSampler, Sampler};
///
/// let samples = vec![Sample::new("a.jpg", Identity::new(1)); 10];
/// let batches = RandomSampler::new(4).batches(&samples, Seed::new(1))?;
/// assert_eq!(batches.len(), 2); // floor(10 / 4)
/// # Ok::<(), reid_data::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomSampler {
    batch_size: NonZeroUsize,
}

impl RandomSampler {
    /// A sampler of batches of `batch_size` images.
    ///
    /// # Panics
    /// If `batch_size` is 0.
    #[must_use]
    pub const fn new(batch_size: usize) -> Self {
        let batch_size = NonZeroUsize::new(batch_size).expect("a batch needs at least 1 image");
        Self { batch_size }
    }

    /// Images in a batch.
    #[must_use]
    pub const fn batch_size(&self) -> usize {
        self.batch_size.get()
    }
}

impl Sampler for RandomSampler {
    /// # Errors
    /// [`Error::TooFewImages`] if there are fewer images than a batch needs.
    fn batches(&self, samples: &[Sample], seed: Seed) -> Result<Vec<Vec<usize>>, Error> {
        let known = |&index: &usize| samples[index].identity.is_labelled();
        let mut indices: Vec<usize> = (0..samples.len()).filter(known).collect();
        let (expected, found) = (self.batch_size(), indices.len());
        if found < expected {
            return Err(Error::TooFewImages { expected, found });
        }
        indices.shuffle(&mut seed.stream());
        let batches = indices.chunks_exact(expected);
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
    fn each_image_comes_once_but_junk_and_what_fills_no_batch() {
        // 8 images, one of them junk, make 2 batches of 3 and leave 1.
        let samples = samples(&[1, -1, 1, 2, 3, 3, 3, 4]);
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
        // 60 · 6 / 7 = 51 times each, and the junk never.
        assert_eq!(used[1], 0);
        used.remove(1);
        assert!(used.iter().all(|&times| times > 40), "{used:?}");
        assert_eq!(epoch(5), epoch(5));
        assert_ne!(epoch(5), epoch(6));
    }

    #[test]
    fn too_few_images_are_counted_in_the_message() {
        let error = RandomSampler::new(3)
            .batches(&samples(&[1, 2, -1]), Seed::new(0))
            .expect_err("two are too few");
        let expected = "a batch needs 3 images, the samples have 2";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_saved_sampler_comes_back_and_an_impossible_one_is_refused() {
        let text = serde_json::to_string(&RandomSampler::new(64)).unwrap();
        assert_eq!(text, r#"{"batch_size":64}"#);
        let read = serde_json::from_str::<RandomSampler>;
        assert_eq!(read(&text).unwrap(), RandomSampler::new(64));
        assert!(read(&text.replace("64", "0")).is_err());
    }

    #[test]
    #[should_panic(expected = "at least 1 image")]
    fn a_batch_of_nothing_is_refused() {
        let _ = RandomSampler::new(0);
    }
}
