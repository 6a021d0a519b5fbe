//! The identity sampler: P identities with K images each (Hermans et al., 2017, arXiv:1703.07737).

use std::{collections::BTreeMap, num::NonZeroUsize};

use rand::{RngExt, seq::SliceRandom};
use reid_core::{Identity, Sample, Seed, Stream};
use serde::{Deserialize, Serialize};

use super::Sampler;
use crate::Error;

/// The definition of one epoch of an [`IdentitySampler`].
///
/// On common datasets, the lengths of the two kinds of epoch differ by an order of magnitude. A number of
/// epochs from a publication is therefore meaningful only with the definition that the publication used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EpochDefinition {
    /// Each identity is drawn at most once, with K of its images: `floor(identities / P)` batches.
    ///
    /// Used by relation-aware global attention (600 epochs), batch `DropBlock` (400) and Progressive feature
    /// `CutMix` (500).
    EachIdentityOnce,
    /// The images of each identity are shuffled and split into groups of K. Each batch takes one group from
    /// each of P random identities, until fewer than P identities have groups left. The remaining images and
    /// groups are skipped in this epoch.
    ///
    /// Used by the strong baseline (120 epochs), Torchreid and `TransReID`.
    AllImages,
}

/// A sampler of batches with P identities and K images of each.
///
/// Within a batch, the images of one identity are adjacent. If an identity has fewer than K images, they are
/// drawn with replacement. All batches are full: identities and images that do not fill a batch are skipped
/// in this epoch. Junk and images of unknown identity are never drawn.
///
/// ```
/// use reid_core::{Identity, Sample, Seed};
/// use reid_data::sampler::{EpochDefinition, IdentitySampler, Sampler};
///
/// let samples = [4, 4, 4, 7, 7, 7, 9, 9].map(|who| Sample::new("a.jpg", Identity::new(who)));
/// let sampler = IdentitySampler::new(2, 2, EpochDefinition::EachIdentityOnce);
/// let batches = sampler.batches(&samples, Seed::new(1).named("sampler").at(0))?;
///
/// assert_eq!(batches.len(), 1); // floor(3 / 2)
/// let drawn: Vec<Identity> = batches[0].iter().map(|&index| samples[index].identity).collect();
/// assert!(drawn[0] == drawn[1] && drawn[2] == drawn[3] && drawn[0] != drawn[2]);
/// # Ok::<(), reid_data::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentitySampler {
    identities_per_batch: NonZeroUsize,
    images_per_identity: NonZeroUsize,
    epoch: EpochDefinition,
}

impl IdentitySampler {
    /// Creates a sampler of `identities_per_batch` (P) identities with `images_per_identity` (K) images each.
    /// Common values are P = 16 and K = 4.
    ///
    /// # Panics
    /// If P or K is 0.
    #[must_use]
    pub const fn new(
        identities_per_batch: usize,
        images_per_identity: usize,
        epoch: EpochDefinition,
    ) -> Self {
        let message = "a batch needs at least 1 identity and 1 image of each";
        Self {
            identities_per_batch: NonZeroUsize::new(identities_per_batch).expect(message),
            images_per_identity: NonZeroUsize::new(images_per_identity).expect(message),
            epoch,
        }
    }

    /// The number of identities in a batch, P.
    #[must_use]
    pub const fn identities_per_batch(&self) -> usize {
        self.identities_per_batch.get()
    }

    /// The number of images of each identity in a batch, K.
    #[must_use]
    pub const fn images_per_identity(&self) -> usize {
        self.images_per_identity.get()
    }

    /// The definition of one epoch.
    #[must_use]
    pub const fn epoch(&self) -> EpochDefinition {
        self.epoch
    }

    /// The number of images in a batch, P·K.
    #[must_use]
    pub const fn batch_size(&self) -> usize {
        self.identities_per_batch() * self.images_per_identity()
    }

    /// Computes the maximum number of batches in an epoch.
    ///
    /// For [`EpochDefinition::EachIdentityOnce`] the number is exact: `floor(identities / P)`. For
    /// [`EpochDefinition::AllImages`] it is an upper bound,
    /// `floor(sum over identities of max(1, floor(images / K)) / P)`. The actual number is the length of
    /// [`batches`](Sampler::batches). It depends on the random draw, because groups of identities with many
    /// images may be left at the end.
    ///
    /// # Errors
    /// [`Error::TooFewIdentities`] if the samples have fewer than P identities.
    pub fn steps_per_epoch(&self, samples: &[Sample]) -> Result<usize, Error> {
        let groups = self.groups(samples)?;
        let visits = match self.epoch {
            EpochDefinition::EachIdentityOnce => groups.len(),
            EpochDefinition::AllImages => groups
                .iter()
                .map(|images| (images.len() / self.images_per_identity).max(1))
                .sum(),
        };
        Ok(visits / self.identities_per_batch)
    }

    /// The indices of each identity's images, sorted by identity.
    fn groups(&self, samples: &[Sample]) -> Result<Vec<Vec<usize>>, Error> {
        let mut groups: BTreeMap<Identity, Vec<usize>> = BTreeMap::new();
        for (index, sample) in samples.iter().enumerate() {
            if sample.identity.is_labelled() {
                groups.entry(sample.identity).or_default().push(index);
            }
        }
        let (expected, found) = (self.identities_per_batch(), groups.len());
        if found < expected {
            return Err(Error::TooFewIdentities { expected, found });
        }
        Ok(groups.into_values().collect())
    }

    fn each_identity_once(
        &self,
        mut groups: Vec<Vec<usize>>,
        stream: &mut Stream,
    ) -> Vec<Vec<usize>> {
        groups.shuffle(stream);
        let amount = self.images_per_identity();
        groups
            .chunks_exact_mut(self.identities_per_batch())
            .map(|chosen| {
                let images = chosen.iter_mut();
                images
                    .flat_map(|images| draw(images, amount, stream))
                    .collect()
            })
            .collect()
    }

    fn all_images(&self, mut groups: Vec<Vec<usize>>, stream: &mut Stream) -> Vec<Vec<usize>> {
        let amount = self.images_per_identity();
        let mut left: Vec<Vec<Vec<usize>>> = groups
            .iter_mut()
            .map(|images| {
                let whole = images.len().max(amount) / amount * amount;
                let drawn = draw(images, whole, stream);
                drawn.chunks_exact(amount).map(<[usize]>::to_vec).collect()
            })
            .collect();

        let mut batches = Vec::new();
        while left.len() >= self.identities_per_batch() {
            let (chosen, _) = left.partial_shuffle(stream, self.identities_per_batch());
            let taken = chosen.iter_mut().filter_map(Vec::pop);
            batches.push(taken.flatten().collect());
            left.retain(|chunks| !chunks.is_empty());
        }
        batches
    }
}

impl Sampler for IdentitySampler {
    /// # Errors
    /// [`Error::TooFewIdentities`] if the samples have fewer than P identities.
    fn batches(&self, samples: &[Sample], seed: Seed) -> Result<Vec<Vec<usize>>, Error> {
        let groups = self.groups(samples)?;
        let mut stream = seed.stream();
        Ok(match self.epoch {
            EpochDefinition::EachIdentityOnce => self.each_identity_once(groups, &mut stream),
            EpochDefinition::AllImages => self.all_images(groups, &mut stream),
        })
    }
}

/// Draws `amount` images: without replacement, or with replacement if there are fewer than `amount`.
fn draw(images: &mut [usize], amount: usize, stream: &mut Stream) -> Vec<usize> {
    if images.len() < amount {
        let one = |_| images[stream.random_range(0..images.len())];
        (0..amount).map(one).collect()
    } else {
        images.partial_shuffle(stream, amount).0.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const DEFINITIONS: [EpochDefinition; 2] = [
        EpochDefinition::EachIdentityOnce,
        EpochDefinition::AllImages,
    ];

    fn sample(label: i64) -> Sample {
        Sample::new("a.jpg", Identity::new(label))
    }

    /// `counts[i]` images of identity `10 + i`, interleaved.
    fn samples(counts: &[usize]) -> Vec<Sample> {
        let most = counts.iter().copied().max().unwrap_or(0);
        let rounds = (0..most).flat_map(|round| {
            let present = (10..).zip(counts).filter(move |&(_, &n)| n > round);
            present.map(|(label, _)| sample(label))
        });
        rounds.collect()
    }

    fn seed(epoch: u64) -> Seed {
        Seed::new(3).named("sampler").at(epoch)
    }

    #[test]
    fn every_batch_has_p_identities_with_k_adjacent_images() {
        let samples = samples(&[9, 4, 1, 6, 2, 30, 5]);
        for definition in DEFINITIONS {
            for epoch in 0..20 {
                let sampler = IdentitySampler::new(3, 4, definition);
                for batch in sampler.batches(&samples, seed(epoch)).unwrap() {
                    assert_eq!(batch.len(), sampler.batch_size());
                    let mut identities = BTreeSet::new();
                    for images in batch.chunks(4) {
                        let identity = samples[images[0]].identity;
                        assert!(
                            images
                                .iter()
                                .all(|&index| samples[index].identity == identity)
                        );
                        assert!(identities.insert(identity), "{identity} twice in a batch");
                    }
                }
            }
        }
    }

    #[test]
    fn each_identity_once_draws_no_identity_twice() {
        // 7 identities in batches of 3: 2 batches, 1 identity is skipped.
        let samples = samples(&[9, 4, 1, 6, 2, 30, 5]);
        let sampler = IdentitySampler::new(3, 4, EpochDefinition::EachIdentityOnce);
        let batches = sampler.batches(&samples, seed(0)).unwrap();
        assert_eq!(
            (batches.len(), sampler.steps_per_epoch(&samples).unwrap()),
            (2, 2)
        );
        let drawn: Vec<Identity> = batches
            .iter()
            .flatten()
            .map(|&i| samples[i].identity)
            .collect();
        let different: BTreeSet<Identity> = drawn.iter().copied().collect();
        assert_eq!((drawn.len(), different.len()), (24, 6));
    }

    #[test]
    fn all_images_uses_every_group_of_k_when_they_fit() {
        // Each of 4 identities has 9 images: 2 groups of 4, and 1 image is skipped. With P = 4 every batch
        // takes one group of each identity, so 2 batches use 4·8 = 32 different images.
        let samples = samples(&[9; 4]);
        let sampler = IdentitySampler::new(4, 4, EpochDefinition::AllImages);
        let batches = sampler.batches(&samples, seed(0)).unwrap();
        assert_eq!(
            (batches.len(), sampler.steps_per_epoch(&samples).unwrap()),
            (2, 2)
        );
        let different: BTreeSet<usize> = batches.iter().flatten().copied().collect();
        assert_eq!(different.len(), 32);
    }

    #[test]
    fn all_images_repeats_no_image_and_stays_within_the_bound() {
        // Groups of 2: 5 + 2 + 4 + 3 = 14, so at most 14 / 2 = 7 batches. At least 5 batches: an epoch ends
        // when a single identity has groups left, so the other identities' groups, 9 or more, are used.
        let samples = samples(&[10, 5, 9, 6]);
        let sampler = IdentitySampler::new(2, 2, EpochDefinition::AllImages);
        assert_eq!(sampler.steps_per_epoch(&samples).unwrap(), 7);
        for epoch in 0..50 {
            let batches = sampler.batches(&samples, seed(epoch)).unwrap();
            assert!(
                (5..=7).contains(&batches.len()),
                "{} batches",
                batches.len()
            );
            let drawn: Vec<usize> = batches.concat();
            let different: BTreeSet<usize> = drawn.iter().copied().collect();
            assert_eq!(drawn.len(), different.len());
        }
    }

    #[test]
    fn replacement_is_used_only_for_fewer_than_k_images() {
        let samples = samples(&[4, 1, 3]);
        for definition in DEFINITIONS {
            let sampler = IdentitySampler::new(3, 4, definition);
            let batches = sampler.batches(&samples, seed(1)).unwrap();
            assert_eq!(batches.len(), 1);
            for images in batches[0].chunks(4) {
                let different: BTreeSet<usize> = images.iter().copied().collect();
                match samples[images[0]].identity.label() {
                    10 => assert_eq!(different.len(), 4),
                    11 => assert_eq!(different.len(), 1),
                    _ => assert!(different.len() <= 3),
                }
            }
        }
    }

    #[test]
    fn batches_stay_the_same_from_release_to_release() {
        let samples = samples(&[3, 2, 4]);
        let batches = DEFINITIONS.map(|definition| {
            let sampler = IdentitySampler::new(2, 2, definition);
            sampler.batches(&samples, seed(0)).unwrap()
        });
        assert_eq!(batches, [[[1, 4, 3, 6]], [[0, 6, 1, 4]]]);
    }

    #[test]
    fn batches_depend_only_on_the_seed() {
        let samples = samples(&[8; 10]);
        for definition in DEFINITIONS {
            let sampler = IdentitySampler::new(3, 4, definition);
            let epoch = |number| sampler.batches(&samples, seed(number)).unwrap();
            assert_eq!(epoch(5), epoch(5));
            assert_ne!(epoch(5), epoch(6));
        }
    }

    #[test]
    fn over_many_epochs_every_image_is_drawn() {
        let samples = samples(&[3; 5]);
        for definition in DEFINITIONS {
            let sampler = IdentitySampler::new(2, 2, definition);
            let epochs = (0..40).flat_map(|epoch| sampler.batches(&samples, seed(epoch)).unwrap());
            let seen: BTreeSet<usize> = epochs.flatten().collect();
            assert_eq!(seen.len(), samples.len());
        }
    }

    #[test]
    fn junk_is_never_drawn() {
        let samples = [-1, 1, -1, 2, 1, 2].map(sample);
        let sampler = IdentitySampler::new(2, 2, EpochDefinition::EachIdentityOnce);
        let mut drawn = sampler.batches(&samples, seed(0)).unwrap().concat();
        drawn.sort_unstable();
        assert_eq!(drawn, [1, 3, 4, 5]);
    }

    #[test]
    fn the_error_of_too_few_identities_has_both_counts() {
        let sampler = IdentitySampler::new(4, 2, EpochDefinition::AllImages);
        let samples = samples(&[5, 5, 5]);
        let error = sampler
            .batches(&samples, seed(0))
            .expect_err("three are too few");
        assert_eq!(
            error.to_string(),
            "a batch needs 4 identities, the samples have 3"
        );
        assert!(sampler.steps_per_epoch(&samples).is_err());
        assert!(sampler.batches(&[], seed(0)).is_err());
    }

    #[test]
    fn a_saved_sampler_is_read_back_and_0_identities_are_rejected() {
        let sampler = IdentitySampler::new(16, 4, EpochDefinition::AllImages);
        let text = serde_json::to_string(&sampler).unwrap();
        let expected =
            r#"{"identities_per_batch":16,"images_per_identity":4,"epoch":"all_images"}"#;
        assert_eq!(text, expected);
        assert_eq!(
            serde_json::from_str::<IdentitySampler>(&text).unwrap(),
            sampler
        );
        assert!(serde_json::from_str::<IdentitySampler>(&text.replace("16", "0")).is_err());
    }

    #[test]
    #[should_panic(expected = "at least 1 identity and 1 image")]
    fn images_per_identity_0_panics() {
        let _ = IdentitySampler::new(4, 0, EpochDefinition::AllImages);
    }
}
