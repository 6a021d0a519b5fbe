//! The sampling of batches, as a part of a recipe.

use std::collections::{BTreeMap, BTreeSet};

use reid_core::{Identity, InputSize, Problems, Sample, Source, Splits};
use reid_data::sampler::{EpochDefinition, IdentitySampler, RandomSampler, Sampler, SourceSampler};
use serde::{Deserialize, Serialize};

use super::validation::MOST_BYTES;

/// The sampling of batches: P identities with K images each, or shuffled images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// The number of identities per batch (P): at least 1, and at least 2 for losses that compare images; 16 in
    /// the strong baseline.
    pub identities: usize,
    /// The number of images per identity (K): at least 1, and at least 2 for losses that compare images; 4 in the
    /// strong baseline.
    pub images: usize,
    /// The definition of an epoch.
    pub epoch: EpochDefinition,
    /// Whether the images of an identity come from as many different cameras as possible
    /// ([`IdentitySampler::with_balanced_cameras`]); `false` by default. Needs training images with a camera.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub balanced_cameras: bool,
    /// Whether each batch has equally many identities of each of the merged datasets ([`SourceSampler`]);
    /// `false` by default. Their number must then divide P.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub balanced_sources: bool,
    /// The number of images of a shuffled batch, at least 2, for losses that do not compare images. An epoch is
    /// then each image once; its last batch may be smaller. `identities`, `images` and `epoch` are unused, and
    /// nothing may be balanced. `None`, the default, draws identities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shuffled: Option<usize>,
}

impl Sampling {
    /// The number of images per batch: P·K, or that of a shuffled batch.
    #[must_use]
    pub const fn batch_size(&self) -> usize {
        match self.shuffled {
            Some(images) => images,
            None => self.identities * self.images,
        }
    }

    /// The sampler with these settings.
    ///
    /// ```
    /// use reid_core::{Identity, InputSize, Sample, Seed};
    /// use reid_data::sampler::Sampler;
    /// use reid_train::Recipe;
    ///
    /// let mut recipe = Recipe::strong_baseline("toy", InputSize::PERSON, "any network");
    /// (recipe.sampling.identities, recipe.sampling.images) = (2, 2);
    /// let samples = [1, 1, 2, 2].map(|label| Sample::new("a.jpg", Identity::new(label)));
    /// let batches = recipe.sampling.sampler().batches(&samples, Seed::new(1))?;
    /// assert_eq!(batches[0].len(), recipe.sampling.batch_size());
    /// # Ok::<(), reid_data::Error>(())
    /// ```
    ///
    /// # Panics
    /// If the number of identities, of images or of shuffled images is 0.
    #[must_use]
    pub fn sampler(&self) -> Box<dyn Sampler> {
        if let Some(images) = self.shuffled {
            return Box::new(RandomSampler::new(images).with_partial_batch());
        }
        let mut sampler = IdentitySampler::new(self.identities, self.images, self.epoch);
        if self.balanced_cameras {
            sampler = sampler.with_balanced_cameras();
        }
        if self.balanced_sources {
            Box::new(SourceSampler::new(sampler))
        } else {
            Box::new(sampler)
        }
    }

    /// Adds a problem for each setting that is invalid for any data. `compares`: the losses compare images.
    pub(super) fn validate(&self, compares: bool, problems: &mut Problems) {
        if let Some(batch) = self.shuffled {
            problems.count("shuffled", batch, 2..=usize::MAX);
            let expected = "null for losses that compare images";
            problems.require("shuffled", !compares, expected, batch);
            let expected = "false for shuffled batches";
            problems.require("balanced_cameras", !self.balanced_cameras, expected, true);
            problems.require("balanced_sources", !self.balanced_sources, expected, true);
            return;
        }
        let (identities, images) = (self.identities, self.images);
        for (field, count) in [("identities", identities), ("images", images)] {
            problems.count(field, count, 1..=usize::MAX);
            let holds = !compares || count != 1;
            problems.require(
                field,
                holds,
                "at least 2 for losses that compare images",
                count,
            );
        }
        let holds = compares || (identities, images) != (1, 1);
        problems.require("images", holds, "at least 2 images in a batch", 1);
    }

    /// Adds a problem if the images of a batch take more than [`MOST_BYTES`].
    pub(super) fn validate_memory(&self, input: InputSize, problems: &mut Problems) {
        let batch = match self.shuffled {
            Some(images) => Some(images),
            None => self.identities.checked_mul(self.images),
        };
        let bytes =
            batch.and_then(|batch| batch.checked_mul(input.pixels() * 3 * size_of::<f32>()));
        if bytes.is_none_or(|bytes| bytes > MOST_BYTES) {
            let expected = format_args!("batches whose images take at most {MOST_BYTES} bytes");
            let (identities, images) = (self.identities, self.images);
            match self.shuffled {
                Some(images) => problems.add(expected, format_args!("{images} images of {input}")),
                None => problems.add(
                    expected,
                    format_args!("{identities} x {images} images of {input}"),
                ),
            }
        }
    }

    /// Adds a problem for each setting that is invalid for these data.
    pub(super) fn validate_data(&self, splits: &Splits, problems: &mut Problems) {
        if self.shuffled.is_some() {
            return;
        }
        let identities = identities(splits.train.iter());
        let holds = self.identities <= identities;
        let expected = format_args!("at most {identities}, the number of training identities");
        problems.require("identities", holds, expected, self.identities);
        if self.balanced_cameras {
            let holds = splits.train.iter().any(|sample| sample.camera.is_some());
            let expected = "false for training images without cameras";
            problems.require("balanced_cameras", holds, expected, true);
        }
        if self.balanced_sources {
            self.validate_sources(splits, problems);
        }
    }

    /// Adds a problem if the sources cannot have equally many identities of each batch.
    fn validate_sources(&self, splits: &Splits, problems: &mut Problems) {
        let mut sources: BTreeMap<Option<Source>, Vec<&Sample>> = BTreeMap::new();
        for sample in splits.train.iter().filter(|one| one.identity.is_labelled()) {
            sources.entry(sample.source).or_default().push(sample);
        }
        let count = sources.len();
        if count < 2 {
            let expected = "training images of at least 2 merged datasets, or false";
            let found = format_args!("true and images of {count}");
            problems.require("balanced_sources", false, expected, found);
            return;
        }
        let holds = self.identities.is_multiple_of(count);
        let expected = format_args!("a multiple of {count}, the number of merged datasets");
        problems.require("identities", holds, expected, self.identities);
        for (source, samples) in sources {
            let most = identities(samples.into_iter()).saturating_mul(count);
            let name = source.and_then(|source| splits.sources.get(source.index()));
            let name = name.map_or("unnamed", String::as_str);
            let expected = format_args!(
                "at most {most}, which is {count} times the training identities of `{name}`"
            );
            problems.require(
                "identities",
                self.identities <= most,
                expected,
                self.identities,
            );
        }
    }
}

/// The number of identities from which batches are drawn.
fn identities<'a>(samples: impl Iterator<Item = &'a Sample>) -> usize {
    let identities = samples.map(|sample| sample.identity);
    let identities: BTreeSet<Identity> = identities.filter(|one| one.is_labelled()).collect();
    identities.len()
}

#[cfg(test)]
mod tests {
    use reid_core::Camera;

    use super::*;

    const PLAIN: &str = r#"{"identities":4,"images":2,"epoch":"all_images"}"#;

    fn sampling() -> Sampling {
        serde_json::from_str(PLAIN).expect("all other fields have defaults")
    }

    /// A dataset with two images of each identity, by two cameras.
    fn dataset(name: &str, identities: i64) -> Splits {
        let samples = (0..2 * identities).map(|at| {
            let camera = Camera::new(u32::from(at % 2 == 0));
            Sample::new(format!("{name}/{at}.jpg"), Identity::new(at / 2)).with_camera(camera)
        });
        Splits::new(name).with_train(samples.collect())
    }

    fn of_data(sampling: &Sampling, splits: &Splits) -> String {
        let mut problems = Problems::new();
        sampling.validate_data(splits, &mut problems);
        problems.to_string()
    }

    #[test]
    fn sampling_without_balancing_is_saved_as_before() {
        assert_eq!(
            serde_json::to_string(&sampling()).expect("plain data"),
            PLAIN
        );
        let balanced = Sampling {
            balanced_cameras: true,
            balanced_sources: true,
            ..sampling()
        };
        let text = serde_json::to_string(&balanced).expect("plain data");
        assert!(
            text.ends_with(r#""balanced_cameras":true,"balanced_sources":true}"#),
            "{text}"
        );
        let read: Sampling = serde_json::from_str(&text).expect("its own JSON");
        assert_eq!(read, balanced);
    }

    #[test]
    fn balanced_batches_have_all_sources_and_cameras() {
        let datasets = [dataset("large", 9), dataset("small", 2)];
        let merged = Splits::merge(&datasets).expect("different names");
        let balanced = Sampling {
            balanced_cameras: true,
            balanced_sources: true,
            ..sampling()
        };
        assert_eq!(of_data(&balanced, &merged), "");
        let samples = &merged.train;
        let batches = balanced.sampler().batches(samples, reid_core::Seed::new(1));
        for batch in batches.expect("enough identities") {
            let of_small = batch
                .iter()
                .filter(|&&at| samples[at].source == Some(Source::new(1)));
            assert_eq!((batch.len(), of_small.count()), (8, 4));
            for pair in batch.chunks(2) {
                assert_ne!(samples[pair[0]].camera, samples[pair[1]].camera);
            }
        }
    }

    #[test]
    fn shuffled_batches_are_not_balanced() {
        let shuffled = Sampling {
            balanced_cameras: true,
            balanced_sources: true,
            shuffled: Some(8),
            ..sampling()
        };
        let mut problems = Problems::new();
        shuffled.validate(false, &mut problems);
        assert_eq!(
            problems.to_string(),
            "balanced_cameras: expected false for shuffled batches, found true\n\
             balanced_sources: expected false for shuffled batches, found true"
        );
        assert_eq!(of_data(&shuffled, &dataset("one", 3)), "");
    }

    #[test]
    fn data_that_cannot_be_balanced_are_rejected() {
        let mut one = dataset("one", 5);
        for sample in &mut one.train {
            sample.camera = None;
        }
        let mut balanced = Sampling {
            balanced_cameras: true,
            balanced_sources: true,
            ..sampling()
        };
        assert_eq!(
            of_data(&balanced, &one),
            "balanced_cameras: expected false for training images without cameras, found true\n\
             balanced_sources: expected training images of at least 2 merged datasets, or false, \
             found true and images of 1"
        );
        let merge = |small| Splits::merge(&[dataset("large", 9), dataset("small", small)]);
        let (small, tiny) = (merge(2).expect("merged"), merge(1).expect("merged"));
        assert_eq!(
            of_data(&balanced, &tiny),
            "identities: expected at most 2, which is 2 times the training identities of `small`, found 4"
        );
        balanced.identities = 3;
        assert_eq!(
            of_data(&balanced, &small),
            "identities: expected a multiple of 2, the number of merged datasets, found 3"
        );
    }
}
