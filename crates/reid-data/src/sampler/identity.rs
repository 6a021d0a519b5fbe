//! The identity sampler: P identities with K images each (Hermans et al., 2017, arXiv:1703.07737).

use std::{collections::BTreeMap, num::NonZeroUsize};

use rand::{RngExt, seq::SliceRandom};
use reid_core::{Identity, Sample, Seed, Stream};
use serde::{Deserialize, Serialize};

use super::{Sampler, cameras};
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
/// By default, any K images of an identity are drawn. With
/// [`with_balanced_cameras`](Self::with_balanced_cameras), they come from as many different cameras as
/// possible, so that most positive pairs are seen by two cameras, as in evaluation.
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
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    balanced_cameras: bool,
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
            balanced_cameras: false,
        }
    }

    /// Draws the K images of an identity from as many different cameras as possible.
    ///
    /// The first image is any image of the identity. The others come from cameras that were not drawn yet,
    /// then a second image of each camera, and so on. With [`EpochDefinition::AllImages`], the images of each
    /// camera are spread over as many of the identity's groups as possible. An identity with fewer than K
    /// images repeats each of them as often as the others, or once more. Images without a camera count as
    /// images of one camera.
    ///
    /// FastReID's `BalancedIdentitySampler` draws the other K - 1 images from those of all cameras except
    /// that of the first image, so that two of them may be of one camera.
    ///
    /// ```
    /// use reid_core::{Camera, Identity, Sample, Seed};
    /// use reid_data::sampler::{EpochDefinition, IdentitySampler, Sampler};
    ///
    /// // Six images by camera 1, and one each by cameras 2 and 3.
    /// let sample = |camera| Sample::new("a.jpg", Identity::new(1)).with_camera(Camera::new(camera));
    /// let samples = [1, 1, 1, 2, 1, 1, 1, 3].map(sample);
    /// let sampler = IdentitySampler::new(1, 3, EpochDefinition::EachIdentityOnce).with_balanced_cameras();
    ///
    /// let batch = &sampler.batches(&samples, Seed::new(1))?[0];
    /// assert!(batch.contains(&3) && batch.contains(&7));
    /// # Ok::<(), reid_data::Error>(())
    /// ```
    #[must_use]
    pub const fn with_balanced_cameras(mut self) -> Self {
        self.balanced_cameras = true;
        self
    }

    /// Sets the number of identities in a batch.
    pub(super) const fn with_identities(mut self, identities_per_batch: NonZeroUsize) -> Self {
        self.identities_per_batch = identities_per_batch;
        self
    }

    /// Whether the K images of an identity come from as many different cameras as possible.
    #[must_use]
    pub const fn balances_cameras(&self) -> bool {
        self.balanced_cameras
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
        let groups = self.groups(samples, 0..samples.len())?;
        let visits = match self.epoch {
            EpochDefinition::EachIdentityOnce => groups.len(),
            EpochDefinition::AllImages => groups
                .iter()
                .map(|images| (images.len() / self.images_per_identity).max(1))
                .sum(),
        };
        Ok(visits / self.identities_per_batch)
    }

    /// The batches of an epoch of some of the samples, which `among` lists by their indices.
    pub(super) fn batches_among(
        &self,
        samples: &[Sample],
        among: impl Iterator<Item = usize>,
        seed: Seed,
    ) -> Result<Vec<Vec<usize>>, Error> {
        let groups = self.groups(samples, among)?;
        let mut stream = seed.stream();
        Ok(match self.epoch {
            EpochDefinition::EachIdentityOnce => {
                self.each_identity_once(groups, samples, &mut stream)
            }
            EpochDefinition::AllImages => self.all_images(groups, samples, &mut stream),
        })
    }

    /// The indices of each identity's images, sorted by identity.
    fn groups(
        &self,
        samples: &[Sample],
        among: impl Iterator<Item = usize>,
    ) -> Result<Vec<Vec<usize>>, Error> {
        let mut groups: BTreeMap<Identity, Vec<usize>> = BTreeMap::new();
        for index in among {
            let identity = samples[index].identity;
            if identity.is_labelled() {
                groups.entry(identity).or_default().push(index);
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
        samples: &[Sample],
        stream: &mut Stream,
    ) -> Vec<Vec<usize>> {
        groups.shuffle(stream);
        groups
            .chunks_exact_mut(self.identities_per_batch())
            .map(|chosen| {
                let images = chosen.iter_mut();
                images
                    .flat_map(|images| self.draw(images, 1, samples, stream).concat())
                    .collect()
            })
            .collect()
    }

    fn all_images(
        &self,
        mut groups: Vec<Vec<usize>>,
        samples: &[Sample],
        stream: &mut Stream,
    ) -> Vec<Vec<usize>> {
        let amount = self.images_per_identity();
        let mut left: Vec<Vec<Vec<usize>>> = groups
            .iter_mut()
            .map(|images| {
                let count = (images.len() / amount).max(1);
                self.draw(images, count, samples, stream)
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

    /// Draws `count` groups of K images of one identity.
    fn draw(
        &self,
        images: &mut [usize],
        count: usize,
        samples: &[Sample],
        stream: &mut Stream,
    ) -> Vec<Vec<usize>> {
        let amount = self.images_per_identity();
        if self.balanced_cameras {
            let camera = |image: usize| samples[image].camera;
            return cameras::draw(images, [count, amount], camera, stream);
        }
        let drawn = draw(images, count * amount, stream);
        drawn.chunks_exact(amount).map(<[usize]>::to_vec).collect()
    }
}

impl Sampler for IdentitySampler {
    /// # Errors
    /// [`Error::TooFewIdentities`] if the samples have fewer than P identities.
    fn batches(&self, samples: &[Sample], seed: Seed) -> Result<Vec<Vec<usize>>, Error> {
        self.batches_among(samples, 0..samples.len(), seed)
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

    use reid_core::Camera;

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

    /// Five identities: with eight images of four cameras, of two and of one, with two images, and with one.
    #[test]
    fn balanced_cameras_are_as_many_as_possible() {
        let counts = [
            [2, 2, 2, 2],
            [5, 3, 0, 0],
            [8, 0, 0, 0],
            [1, 1, 0, 0],
            [1, 0, 0, 0],
        ];
        let images = counts.iter().zip(10..).flat_map(|(cameras, label)| {
            let cameras = cameras.iter().zip(0..);
            cameras.flat_map(move |(&count, camera)| {
                vec![sample(label).with_camera(Camera::new(camera)); count]
            })
        });
        let samples: Vec<Sample> = images.collect();
        for definition in DEFINITIONS {
            let sampler = IdentitySampler::new(5, 4, definition).with_balanced_cameras();
            for epoch in 0..20 {
                let batches = sampler.batches(&samples, seed(epoch)).unwrap();
                assert_eq!(batches, sampler.batches(&samples, seed(epoch)).unwrap());
                assert_eq!(batches.len(), 1);
                for images in batches[0].chunks(4) {
                    let label = samples[images[0]].identity.label();
                    assert!(
                        images
                            .iter()
                            .all(|&at| samples[at].identity.label() == label)
                    );
                    let cameras = images.iter().map(|&at| samples[at].camera);
                    let different: BTreeSet<usize> = images.iter().copied().collect();
                    let found = (cameras.collect::<BTreeSet<_>>().len(), different.len());
                    let expected = [(4, 4), (2, 4), (1, 4), (2, 2), (1, 1)];
                    let at = usize::try_from(label - 10).unwrap();
                    assert_eq!(found, expected[at], "identity {label}");
                }
            }
            assert_ne!(
                sampler.batches(&samples, seed(1)).unwrap(),
                sampler.batches(&samples, seed(2)).unwrap()
            );
        }
    }

    #[test]
    fn batches_of_balanced_cameras_use_every_image_if_they_fit() {
        // Each of two identities has 6 images of camera 0 and 2 of camera 1: two groups with both cameras.
        let camera = |at: u32| Camera::new(u32::from(at.is_multiple_of(4)));
        let samples = (0..16).map(|at| sample(i64::from(at) / 8).with_camera(camera(at)));
        let samples: Vec<Sample> = samples.collect();
        let sampler =
            IdentitySampler::new(2, 4, EpochDefinition::AllImages).with_balanced_cameras();
        for epoch in 0..10 {
            let batches = sampler.batches(&samples, seed(epoch)).unwrap();
            let mut drawn = batches.concat();
            for images in drawn.chunks(4) {
                let cameras = images.iter().map(|&at| samples[at].camera);
                assert_eq!(cameras.collect::<BTreeSet<_>>().len(), 2);
            }
            drawn.sort_unstable();
            assert_eq!(drawn, (0..16).collect::<Vec<_>>());
        }
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
        let balanced = sampler.with_balanced_cameras();
        let text = serde_json::to_string(&balanced).unwrap();
        assert!(text.ends_with(r#""balanced_cameras":true}"#), "{text}");
        let read: IdentitySampler = serde_json::from_str(&text).unwrap();
        assert_eq!(read, balanced);
        assert!(read.balances_cameras() && !sampler.balances_cameras());
    }

    #[test]
    #[should_panic(expected = "at least 1 identity and 1 image")]
    fn images_per_identity_0_panics() {
        let _ = IdentitySampler::new(4, 0, EpochDefinition::AllImages);
    }
}
