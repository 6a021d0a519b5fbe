//! The source sampler: batches with equally many identities of each of several merged datasets.

use std::{collections::BTreeMap, num::NonZeroUsize};

use reid_core::{Sample, Seed, Source};
use serde::{Deserialize, Serialize};

use super::{IdentitySampler, Sampler};
use crate::Error;

/// A sampler whose batches have equally many identities of each source of merged datasets
/// ([`Splits::merge`](reid_core::Splits::merge)).
///
/// Of the P identities of a batch, each of S sources has P / S, with K images each. The identities of one
/// source are adjacent, in the order of the sources. An [`IdentitySampler`] draws the identities and images
/// of each source on its own.
///
/// An epoch ends when all batches of the source with the most batches are drawn. Smaller sources begin again
/// meanwhile, with other batches, so that their images are drawn several times. An [`IdentitySampler`] alone
/// draws a source in proportion to its identities or images, and a small one hardly ever.
///
/// Samples without a source count as those of one more source.
///
/// FastReID's `SetReWeightSampler` has the same purpose: it draws a fixed number of identities of each set.
///
/// ```
/// use reid_core::{Identity, Sample, Seed, Source};
/// use reid_data::sampler::{EpochDefinition, IdentitySampler, Sampler, SourceSampler};
///
/// // Six identities of source 0, and two of source 1.
/// let sample = |label| {
///     let source = Source::new(usize::from(label > 6));
///     Sample::new("a.jpg", Identity::new(label)).with_source(source)
/// };
/// let samples = [1, 2, 3, 4, 5, 6, 7, 8].map(sample);
/// let sampler = SourceSampler::new(IdentitySampler::new(4, 2, EpochDefinition::EachIdentityOnce));
///
/// let batches = sampler.batches(&samples, Seed::new(1))?;
/// assert_eq!(batches.len(), 3); // source 0 once, source 1 three times
/// for batch in batches {
///     let sources: Vec<usize> = batch.iter().filter_map(|&at| Some(samples[at].source?.index())).collect();
///     assert_eq!(sources, [0, 0, 0, 0, 1, 1, 1, 1]);
/// }
/// # Ok::<(), reid_data::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceSampler {
    sampler: IdentitySampler,
}

impl SourceSampler {
    /// Creates a sampler of the batches of `sampler`, whose P identities are divided among the sources.
    #[must_use]
    pub const fn new(sampler: IdentitySampler) -> Self {
        Self { sampler }
    }

    /// The sampler of the identities of one of `count` sources.
    fn part(&self, count: usize) -> Result<IdentitySampler, Error> {
        let expected = self.sampler.identities_per_batch();
        if count == 0 {
            return Err(Error::TooFewIdentities { expected, found: 0 });
        }
        let share = expected.is_multiple_of(count).then_some(expected / count);
        let share = share.and_then(NonZeroUsize::new);
        share
            .map(|share| self.sampler.with_identities(share))
            .ok_or_else(|| Error::Sampling {
                reason: format!(
                    "expected a multiple of {count}, the number of sources, as the number of identities in a \
                     batch, found {expected}"
                ),
            })
    }
}

impl Sampler for SourceSampler {
    /// # Errors
    /// - [`Error::TooFewIdentities`] if no sample has a known identity
    /// - [`Error::Sampling`] if P is not a multiple of the number of sources, or if a source has fewer
    ///   identities than its part of a batch
    fn batches(&self, samples: &[Sample], seed: Seed) -> Result<Vec<Vec<usize>>, Error> {
        let mut sources: BTreeMap<Option<Source>, Vec<usize>> = BTreeMap::new();
        for (index, sample) in samples.iter().enumerate() {
            if sample.identity.is_labelled() {
                sources.entry(sample.source).or_default().push(index);
            }
        }
        let sources: Vec<(Option<Source>, Vec<usize>)> = sources.into_iter().collect();
        let sampler = self.part(sources.len())?;
        let seed = seed.named("source");
        let draw = |at: usize, round: u64| {
            let (source, images) = &sources[at];
            let seed = seed.at(at as u64).at(round);
            let drawn = sampler.batches_among(samples, images.iter().copied(), seed);
            drawn.map_err(|error| of_source(*source, &error))
        };
        let parts = (0..sources.len()).map(|at| draw(at, 0));
        let mut parts = parts.collect::<Result<Vec<_>, Error>>()?;
        let longest = parts.iter().map(Vec::len).max().unwrap_or(0);
        for (at, part) in parts.iter_mut().enumerate() {
            let mut round = 1;
            while part.len() < longest {
                part.extend(draw(at, round)?);
                round += 1;
            }
        }
        let batch = |number: usize| {
            let parts = parts.iter().map(|part| part[number].as_slice());
            parts.collect::<Vec<_>>().concat()
        };
        Ok((0..longest).map(batch).collect())
    }
}

/// An error about the samples of one source.
fn of_source(source: Option<Source>, error: &Error) -> Error {
    let source = match source {
        Some(source) => format!("source {} (from 0)", source.index()),
        None => "the samples without a source".to_owned(),
    };
    Error::Sampling {
        reason: format!("{source}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use reid_core::{Camera, Identity};

    use super::*;
    use crate::sampler::EpochDefinition;

    /// `identities[i]` identities of source `i`, with four images each by two cameras. Sources share no
    /// identity.
    fn samples(identities: &[i64]) -> Vec<Sample> {
        let sources = identities.iter().enumerate();
        let samples = sources.flat_map(|(source, &count)| {
            (0..4 * count).map(move |at| {
                let label = 100 * i64::try_from(source).unwrap() + at / 4;
                Sample::new("a.jpg", Identity::new(label))
                    .with_camera(Camera::new(u32::from(at % 2 == 0)))
                    .with_source(Source::new(source))
            })
        });
        samples.collect()
    }

    fn sampler(identities: usize, epoch: EpochDefinition) -> SourceSampler {
        SourceSampler::new(IdentitySampler::new(identities, 2, epoch))
    }

    fn seed(epoch: u64) -> Seed {
        Seed::new(3).named("sampler").at(epoch)
    }

    #[test]
    fn every_batch_has_equally_many_identities_of_each_source() {
        let samples = samples(&[12, 3, 5]);
        for (epoch, expected) in [
            // 12 identities in parts of 2: 6 batches.
            (EpochDefinition::EachIdentityOnce, 6..=6),
            // 24 groups of 2 images; at most 2 of one identity can be left.
            (EpochDefinition::AllImages, 11..=12),
        ] {
            let sampler = sampler(6, epoch);
            for number in 0..10 {
                let batches = sampler.batches(&samples, seed(number)).unwrap();
                assert!(expected.contains(&batches.len()), "{}", batches.len());
                for batch in batches {
                    assert_eq!(batch.len(), 12);
                    for (source, part) in batch.chunks(4).enumerate() {
                        let of = |&at: &usize| samples[at].source.unwrap().index() == source;
                        assert!(part.iter().all(of), "{batch:?}");
                        let identities: BTreeSet<Identity> =
                            part.iter().map(|&at| samples[at].identity).collect();
                        assert_eq!(identities.len(), 2);
                    }
                }
            }
        }
    }

    #[test]
    fn the_largest_source_is_drawn_once_and_the_others_begin_again() {
        let samples = samples(&[12, 4]);
        let sampler = sampler(4, EpochDefinition::EachIdentityOnce);
        let batches = sampler.batches(&samples, seed(0)).unwrap();
        let mut drawn = vec![0; 112];
        for image in batches.concat() {
            drawn[usize::try_from(samples[image].identity.label()).unwrap()] += 1;
        }
        // Two images each time: of the first source once, of the second three times.
        assert_eq!(drawn[..12], [2; 12]);
        assert_eq!(drawn[100..104], [6; 4]);
        // Each of the three rounds of the second source is another one.
        let rounds: BTreeSet<Vec<usize>> = batches
            .chunks(2)
            .map(|round| round.iter().flat_map(|batch| batch[4..].to_vec()).collect())
            .collect();
        assert_eq!(rounds.len(), 3);
    }

    #[test]
    fn batches_depend_only_on_the_seed() {
        let samples = samples(&[6, 3]);
        for epoch in [
            EpochDefinition::EachIdentityOnce,
            EpochDefinition::AllImages,
        ] {
            let draw = |number| sampler(4, epoch).batches(&samples, seed(number)).unwrap();
            assert_eq!(draw(5), draw(5));
            assert_ne!(draw(5), draw(6));
        }
    }

    #[test]
    fn cameras_are_balanced_within_each_source() {
        let samples = samples(&[4, 2]);
        let sampler = IdentitySampler::new(4, 2, EpochDefinition::EachIdentityOnce);
        let sampler = SourceSampler::new(sampler.with_balanced_cameras());
        for batch in sampler.batches(&samples, seed(0)).unwrap() {
            for pair in batch.chunks(2) {
                assert_ne!(samples[pair[0]].camera, samples[pair[1]].camera);
            }
        }
    }

    #[test]
    fn errors_name_the_sources() {
        let message = |identities: &[i64], count| {
            let sampler = sampler(count, EpochDefinition::AllImages);
            let batches = sampler.batches(&samples(identities), seed(0));
            batches.expect_err("no batch").to_string()
        };
        assert_eq!(
            message(&[9, 9, 9], 16),
            "the sampler cannot make batches: expected a multiple of 3, the number of sources, as the number \
             of identities in a batch, found 16"
        );
        assert_eq!(
            message(&[9, 3], 8),
            "the sampler cannot make batches: source 1 (from 0): a batch needs 4 identities, the samples \
             have 3"
        );
        assert_eq!(
            message(&[], 8),
            "a batch needs 8 identities, the samples have 0"
        );
    }

    #[test]
    fn samples_without_a_source_are_one_source() {
        let mut samples = samples(&[4, 4]);
        for sample in &mut samples[..16] {
            sample.source = None;
        }
        let batches = sampler(2, EpochDefinition::EachIdentityOnce).batches(&samples, seed(0));
        for batch in batches.unwrap() {
            let sources = batch.iter().map(|&at| samples[at].source.is_some());
            assert_eq!(sources.collect::<Vec<_>>(), [false, false, true, true]);
        }
    }

    #[test]
    fn a_saved_sampler_is_read_back() {
        let sampler = sampler(4, EpochDefinition::AllImages);
        let text = serde_json::to_string(&sampler).unwrap();
        let read: SourceSampler = serde_json::from_str(&text).unwrap();
        assert_eq!(read, sampler);
    }
}
