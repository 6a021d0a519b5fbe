//! The loader of crops: batches for training, reproducible from a seed.

use std::sync::Arc;

use rand::seq::SliceRandom;
use reid_core::{Problems, Seed, Validate};
use serde::{Deserialize, Serialize};

use super::{LabelEncoding, PixelBatch, PixelSample, ScaleCrop};
use crate::{
    Error,
    loader::{Batches, LoaderConfig},
};

/// The largest number of batches of an epoch.
const MAX_BATCHES: usize = 1_000_000;

/// The sampling of crops. Papers on segmentation, such as that of OCNet (Yuan and Wang, arXiv:1809.00916),
/// count training steps, so an epoch is a number of batches.
///
/// The samples are shuffled, and drawn one after another through all epochs. Each sample is drawn once before
/// they are shuffled again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CropSampling {
    /// The number of crops per batch, at least 2; 8 in OCNet.
    pub images: usize,
    /// The number of batches per epoch, 1 to 1,000,000.
    pub batches: usize,
}

impl CropSampling {
    /// Draws the samples of a batch, as indices from 0 to `samples` - 1. The result depends only on the
    /// arguments. Epochs and batches are counted from 0.
    ///
    /// # Panics
    /// If `samples` is 0.
    ///
    /// ```
    /// use reid_core::Seed;
    /// use reid_data::segmentation::CropSampling;
    ///
    /// let sampling = CropSampling { images: 2, batches: 2 };
    /// let draw = |epoch, batch| sampling.draw(8, Seed::new(1), epoch, batch);
    /// let mut drawn = [draw(0, 0), draw(0, 1), draw(1, 0), draw(1, 1)].concat();
    /// drawn.sort();
    /// assert_eq!(drawn, [0, 1, 2, 3, 4, 5, 6, 7]);
    /// ```
    #[must_use]
    pub fn draw(&self, samples: usize, seed: Seed, epoch: usize, batch: usize) -> Vec<usize> {
        assert!(samples > 0, "a batch of crops needs at least 1 sample");
        let first = (epoch * self.batches + batch) * self.images;
        let mut drawn = Vec::with_capacity(self.images);
        while drawn.len() < self.images {
            let position = first + drawn.len();
            let mut order: Vec<usize> = (0..samples).collect();
            order.shuffle(&mut seed.at((position / samples) as u64).stream());
            let rest = order.into_iter().skip(position % samples);
            drawn.extend(rest.take(self.images - drawn.len()));
        }
        drawn
    }
}

impl Validate for CropSampling {
    fn validate(&self, problems: &mut Problems) {
        problems.count("images", self.images, 2..=usize::MAX);
        problems.count("batches", self.batches, 1..=MAX_BATCHES);
    }
}

/// A loader of crops. Worker threads prepare the batches ahead of time.
///
/// A batch depends only on the seed, the epoch and the position in the epoch. [`CropSampling`] draws its
/// samples from the random streams of `seed.named("sampler")`, and [`ScaleCrop`] its crops from those of
/// `seed.named("augmentation").at(epoch).at(batch)`. Images are read anew for each crop.
///
/// ```
/// use reid_core::{InputSize, Seed};
/// use reid_data::segmentation::{
///     CropLoader, CropSampling, LabelEncoding, PixelBatch, PixelSample, ScaleCrop,
/// };
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("1.png");
/// # image::GrayImage::new(20, 10).save(&path)?;
/// let samples = vec![PixelSample::new(&path, &path)];
/// let crop = ScaleCrop::new(InputSize::new(8, 8));
/// let sampling = CropSampling { images: 2, batches: 3 };
/// let loader = CropLoader::new(samples, LabelEncoding::classes(4), Seed::new(1), crop, sampling);
/// let epoch: Vec<PixelBatch> = loader.epoch_from(5, 0).collect::<Result<_, _>>()?;
///
/// // An epoch that was interrupted after two batches resumes with the same third batch.
/// let rest: Vec<PixelBatch> = loader.epoch_from(5, 2).collect::<Result<_, _>>()?;
/// assert_eq!(rest, epoch[2..]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct CropLoader {
    samples: Arc<[PixelSample]>,
    encoding: LabelEncoding,
    seed: Seed,
    crop: ScaleCrop,
    sampling: CropSampling,
    config: LoaderConfig,
}

impl CropLoader {
    /// A loader of crops of these samples, with the default [`LoaderConfig`]. `seed` is that of the training
    /// run.
    pub fn new(
        samples: impl Into<Arc<[PixelSample]>>,
        encoding: LabelEncoding,
        seed: Seed,
        crop: ScaleCrop,
        sampling: CropSampling,
    ) -> Self {
        Self {
            samples: samples.into(),
            encoding,
            seed,
            crop,
            sampling,
            config: LoaderConfig::default(),
        }
    }

    /// Sets the number of threads and of batches that are prepared ahead of time. Images are not cached.
    #[must_use]
    pub fn with_config(self, config: LoaderConfig) -> Self {
        Self { config, ..self }
    }

    /// Iterates over the batches of an epoch, starting at batch `first`, both counted from 0.
    ///
    /// An item is an error if there are no samples, or if a file cannot be read ([`ScaleCrop::batch`]).
    ///
    /// # Panics
    /// If `first` is greater than the number of batches.
    #[must_use]
    pub fn epoch_from(&self, epoch: usize, first: usize) -> Batches<PixelBatch> {
        let count = self.sampling.batches;
        assert!(first <= count, "cannot start at batch {first} of {count}");
        let loader = self.clone();
        Batches::start(count - first, self.config, move |number| {
            loader.batch(epoch, first + number)
        })
    }

    fn batch(&self, epoch: usize, batch: usize) -> Result<PixelBatch, Error> {
        let (count, seed) = (self.samples.len(), self.seed.named("sampler"));
        let drawn = match count {
            0 => Vec::new(), // `ScaleCrop::batch` rejects it
            _ => self.sampling.draw(count, seed, epoch, batch),
        };
        let samples = drawn.into_iter().map(|index| self.samples[index].clone());
        let samples: Vec<PixelSample> = samples.collect();
        let seed = self.seed.named("augmentation");
        let seed = seed.at(epoch as u64).at(batch as u64);
        self.crop.batch(&samples, &self.encoding, seed)
    }
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, RgbImage};
    use reid_core::InputSize;

    use super::*;

    #[test]
    fn every_sample_is_drawn_once_before_any_is_drawn_again() {
        // 5 samples in batches of 3, through two epochs of 5 batches: 6 passes.
        let sampling = CropSampling {
            images: 3,
            batches: 5,
        };
        let seed = Seed::new(1);
        let batches = (0..2).flat_map(|epoch| {
            (0..5).map(move |batch| sampling.draw(5, Seed::new(1), epoch, batch))
        });
        let drawn: Vec<usize> = batches.flatten().collect();
        for pass in drawn.chunks(5) {
            let mut pass = pass.to_vec();
            pass.sort_unstable();
            assert_eq!(pass, [0, 1, 2, 3, 4]);
        }
        assert_ne!(drawn[..5], drawn[5..10]);
        // More crops than samples.
        let sampling = CropSampling {
            images: 7,
            ..sampling
        };
        let drawn = sampling.draw(2, seed, 0, 0);
        assert_eq!(drawn.len(), 7);
        assert_eq!(drawn[0] + drawn[1], 1);
    }

    #[test]
    fn batches_depend_on_seed_epoch_and_position_and_not_on_threads() {
        let folder = tempfile::tempdir().expect("a folder");
        let samples: Vec<PixelSample> = ["a", "b", "c"]
            .map(|name| {
                let (image, labels) = (format!("{name}.png"), format!("{name}-labels.png"));
                let (image, labels) = (folder.path().join(image), folder.path().join(labels));
                let pixel = |x: u32, y: u32| u8::try_from((x + 2 * y) % 4).expect("small");
                let shown = RgbImage::from_fn(12, 9, |x, y| image::Rgb([60 * pixel(x, y); 3]));
                shown.save(&image).expect("saved");
                let map = GrayImage::from_fn(12, 9, |x, y| image::Luma([pixel(x, y)]));
                map.save(&labels).expect("saved");
                PixelSample::new(image, labels)
            })
            .to_vec();
        let sampling = CropSampling {
            images: 2,
            batches: 4,
        };
        let load = |seed: u64, workers: usize, epoch: usize| -> Vec<PixelBatch> {
            let crop = ScaleCrop::new(InputSize::new(5, 6));
            let encoding = LabelEncoding::classes(4);
            let seed = Seed::new(seed);
            let loader = CropLoader::new(samples.clone(), encoding, seed, crop, sampling)
                .with_config(LoaderConfig::new().with_workers(workers));
            let batches = loader.epoch_from(epoch, 0).collect::<Result<_, _>>();
            batches.expect("readable files")
        };
        let first = load(1, 1, 0);
        assert_eq!(first.len(), 4);
        assert_eq!(first, load(1, 3, 0));
        assert_ne!(first, load(1, 1, 1));
        assert_ne!(first, load(2, 1, 0));
        assert_ne!(first[0], first[1]);
    }

    #[test]
    fn a_loader_without_samples_is_an_error() {
        let crop = ScaleCrop::new(InputSize::new(5, 6));
        let sampling = CropSampling {
            images: 2,
            batches: 1,
        };
        let encoding = LabelEncoding::classes(4);
        let loader = CropLoader::new(
            Vec::<PixelSample>::new(),
            encoding,
            Seed::new(1),
            crop,
            sampling,
        );
        let error = loader
            .epoch_from(0, 0)
            .next()
            .expect("an item")
            .expect_err("no samples");
        let expected = "a batch needs 1 images, the samples have 0";
        assert_eq!(error.to_string(), expected);
    }
}
