//! Training loader: augmented batches, the same for the same seed.

use std::sync::Arc;

use reid_core::{Identity, InputSize, Sample, Seed};

use super::{Batches, Classes, EvalLoader, LoaderConfig, pictures::Pictures};
use crate::{
    Error,
    transform::{Augmentation, Normalise, Transform},
};

/// Augmented images with what they show.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The images, `[n, 3, height, width]`, normalised.
    pub images: Vec<f32>,
    /// The class of each image, see [`TrainLoader::classes`].
    pub classes: Vec<usize>,
    /// Who each image shows.
    pub identities: Vec<Identity>,
    /// Where each image stands among the samples.
    pub indices: Vec<usize>,
    /// Height and width of the images.
    pub size: InputSize,
}

/// Loads and augments the batches that a sampler chose.
///
/// The content of a batch is a pure function of the seed, the epoch and the place in the epoch: the
/// transforms of the image at `position`, counted over all batches of the epoch, draw from
/// `seed.named("augmentation").at(epoch).at(position)`. Threads, memory and where one begins change
/// nothing.
///
/// ```
/// use reid_core::{Identity, InputSize, Sample, Seed};
/// use reid_data::loader::{LoaderConfig, TrainLoader};
/// use reid_data::transform::Augmentation;
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("1.png");
/// # image::RgbImage::from_fn(4, 8, |c, r| image::Rgb([c as u8, r as u8, 0])).save(&path)?;
/// let samples = vec![Sample::new(&path, Identity::new(7)), Sample::new(&path, Identity::new(9))];
/// let (size, seed) = (InputSize::new(16, 8), Seed::new(1));
/// let config = LoaderConfig::default();
/// let loader = TrainLoader::new(samples, size, &Augmentation::default(), seed, config);
///
/// let batches = vec![vec![0, 1], vec![1, 0], vec![1, 1]];
/// let epoch: Vec<_> = loader.epoch(3, batches.clone()).collect::<Result<_, _>>()?;
/// assert_eq!(epoch[1].classes, [1, 0]);
///
/// // Interrupted after two batches, the epoch goes on as it would have.
/// let rest: Vec<_> = loader.epoch_from(3, batches, 2).collect::<Result<_, _>>()?;
/// assert_eq!(rest, epoch[2..]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct TrainLoader {
    samples: Arc<[Sample]>,
    classes: Arc<Classes>,
    pictures: Arc<Pictures>,
    transform: Arc<dyn Transform>,
    seed: Seed,
    config: LoaderConfig,
}

impl TrainLoader {
    /// A loader of these samples. `seed` is that of the run: the loader names its own stream.
    ///
    /// # Panics
    /// If a number of the augmentation is outside the range that its field names.
    pub fn new(
        samples: impl Into<Arc<[Sample]>>,
        size: InputSize,
        augmentation: &Augmentation,
        seed: Seed,
        config: LoaderConfig,
    ) -> Self {
        let samples = samples.into();
        Self {
            classes: Arc::new(Classes::from_identities(
                samples.iter().map(|sample| sample.identity),
            )),
            pictures: Arc::new(Pictures::new(size, config.cache_bytes)),
            transform: Arc::new(augmentation.transforms()),
            samples,
            seed: seed.named("augmentation"),
            config,
        }
    }

    /// A loader of images as they are that shares this one's memory for decoded images, so that both
    /// together keep within [`LoaderConfig::cache_bytes`], and an image that both load is decoded once.
    ///
    /// ```
    /// use reid_core::{Identity, InputSize, Sample, Seed};
    /// use reid_data::{loader::{LoaderConfig, TrainLoader}, transform::{Augmentation, Normalise}};
    ///
    /// let samples = vec![Sample::new("1.png", Identity::new(7))];
    /// let (size, config) = (InputSize::new(16, 8), LoaderConfig::default());
    /// let train = TrainLoader::new(samples, size, &Augmentation::default(), Seed::new(1), config);
    /// let evaluation = train.eval_loader(Normalise::IMAGENET);
    /// assert_eq!(evaluation.batches(&[], 64).count(), 0);
    /// ```
    #[must_use]
    pub fn eval_loader(&self, normalise: Normalise) -> EvalLoader {
        EvalLoader::sharing(Arc::clone(&self.pictures), normalise, self.config)
    }

    /// The same loader with transforms of one's own instead of the augmentation. They must leave
    /// the size of a picture as it is, and normalise it.
    #[must_use]
    pub fn with_transform(self, transform: impl Transform + 'static) -> Self {
        Self {
            transform: Arc::new(transform),
            ..self
        }
    }

    /// The samples.
    #[must_use]
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// The classes of the samples' identities.
    #[must_use]
    pub fn classes(&self) -> &Classes {
        &self.classes
    }

    /// The batches of one epoch, given as indices into the samples.
    ///
    /// An item is an error of [`decode`](crate::decode) if an image cannot be read, and
    /// [`Error::Worker`] if a transform panics.
    ///
    /// # Panics
    /// If an index is not that of a sample, or is that of junk.
    #[must_use]
    pub fn epoch(&self, epoch: u64, batches: Vec<Vec<usize>>) -> Batches<Batch> {
        self.epoch_from(epoch, batches, 0)
    }

    /// The batches of one epoch from batch number `first` on, the same as when the epoch is loaded
    /// from its beginning. `batches` are those of the whole epoch.
    ///
    /// # Panics
    /// If an index is not that of a sample, or is that of junk, or if `first` is greater than the
    /// number of batches.
    #[must_use]
    pub fn epoch_from(&self, epoch: u64, batches: Vec<Vec<usize>>, first: usize) -> Batches<Batch> {
        let count = batches.len();
        assert!(first <= count, "cannot begin at batch {first} of {count}");
        for &index in batches.iter().flatten() {
            self.check(index);
        }
        let mut position = 0;
        let starts: Vec<u64> = batches
            .iter()
            .map(|batch| {
                let start = position;
                position += batch.len() as u64;
                start
            })
            .collect();
        let (loader, seed) = (self.clone(), self.seed.at(epoch));
        Batches::start(count - first, self.config, move |number| {
            let batch = first + number;
            loader.batch(&batches[batch], seed, starts[batch])
        })
    }

    fn check(&self, index: usize) {
        let found = self.samples.len();
        assert!(index < found, "a batch asks for sample {index} of {found}");
        let labelled = self.samples[index].identity.is_labelled();
        assert!(
            labelled,
            "a batch asks for sample {index}, which is junk or of unknown identity"
        );
    }

    /// The batch whose first image stands at `start` in the epoch.
    fn batch(&self, indices: &[usize], seed: Seed, start: u64) -> Result<Batch, Error> {
        let size = self.pictures.size();
        let mut images = Vec::with_capacity(indices.len() * 3 * size.pixels());
        for (&index, position) in indices.iter().zip(start..) {
            let mut picture = self.pictures.get(&self.samples[index].path)?;
            self.transform
                .apply(&mut picture, &mut seed.at(position).stream());
            assert!(
                (picture.height, picture.width) == (size.height, size.width),
                "a transform made a picture of {size} into one of {}x{}",
                picture.height,
                picture.width
            );
            images.extend(picture.values);
        }
        let identities: Vec<_> = indices.iter().map(|&i| self.samples[i].identity).collect();
        Ok(Batch {
            images,
            // Every identity is in the table, for it was made of all samples and junk is refused.
            classes: identities
                .iter()
                .filter_map(|&who| self.classes.class(who))
                .collect(),
            identities,
            indices: indices.to_vec(),
            size,
        })
    }
}

#[cfg(test)]
mod tests {
    use reid_core::Stream;
    use tempfile::TempDir;

    use super::*;
    use crate::transform::{Flip, Picture};

    const SIZE: InputSize = InputSize::new(12, 6);

    fn config(workers: usize, cache_bytes: usize) -> LoaderConfig {
        LoaderConfig {
            workers,
            prefetch: 3,
            cache_bytes,
        }
    }

    /// Six images of three identities, each with a gradient of its own.
    fn samples() -> (TempDir, Vec<Sample>) {
        let folder = tempfile::tempdir().unwrap();
        let sample = |number: u8| {
            let path = folder.path().join(format!("{number}.png"));
            let image = image::RgbImage::from_fn(9, 14, |column, row| {
                let number = u32::from(number);
                image::Rgb([column * 20, row * 15, number * 40].map(|v| v.to_le_bytes()[0]))
            });
            image.save(&path).unwrap();
            Sample::new(path, Identity::new(10 * i64::from(number / 2 + 1)))
        };
        let samples = (0..6).map(sample).collect();
        (folder, samples)
    }

    fn batches() -> Vec<Vec<usize>> {
        vec![vec![0, 1, 4], vec![5, 2], vec![3, 3, 0], vec![1, 2, 4, 5]]
    }

    fn all(batches: Batches<Batch>) -> Vec<Batch> {
        batches.collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn neither_threads_nor_memory_change_anything() {
        let (_folder, samples) = samples();
        let load = |workers, cache_bytes| {
            let config = config(workers, cache_bytes);
            let augmentation = Augmentation::default();
            let loader =
                TrainLoader::new(samples.clone(), SIZE, &augmentation, Seed::new(1), config);
            [7, 7, 8].map(|epoch| all(loader.epoch(epoch, batches())))
        };
        let [first, again, other] = load(1, 1 << 20);
        assert_eq!(first, again);
        assert_ne!(first, other);
        assert_eq!(load(3, 0), [first, again, other]);
    }

    #[test]
    fn two_loaders_that_share_memory_keep_to_it_together() {
        let (_folder, samples) = samples();
        // Room for four of the six images.
        let room = config(1, 4 * 3 * SIZE.pixels());
        let seed = Seed::new(1);
        let train = TrainLoader::new(samples.clone(), SIZE, &Augmentation::none(), seed, room);
        let evaluation = train.eval_loader(Normalise::IMAGENET);
        assert_eq!(all(train.epoch(0, vec![vec![0, 1, 2]])).len(), 1);
        let of = |numbers: &[usize]| -> Vec<Sample> {
            numbers
                .iter()
                .map(|&number| samples[number].clone())
                .collect()
        };
        let loads = |numbers: &[usize]| {
            evaluation
                .batches(&of(numbers), 1)
                .all(|batch| batch.is_ok())
        };
        assert!(loads(&[3, 4, 5]));
        for sample in &samples {
            std::fs::remove_file(&sample.path).unwrap();
        }
        // Three that training has decoded and one of evaluation; the rest are read again, if they are there.
        assert!(loads(&[0, 1, 2, 3]));
        assert!(!loads(&[4]) && !loads(&[5]));
    }

    #[test]
    fn an_epoch_goes_on_where_it_was_interrupted() {
        let (_folder, samples) = samples();
        let augmentation = Augmentation::default();
        let loader = TrainLoader::new(
            samples,
            SIZE,
            &augmentation,
            Seed::new(1),
            config(2, 1 << 20),
        );
        let whole = all(loader.epoch(2, batches()));
        for first in 0..=4 {
            assert_eq!(all(loader.epoch_from(2, batches(), first)), whole[first..]);
        }
    }

    #[test]
    fn the_same_image_is_augmented_anew_at_each_position() {
        let (_folder, samples) = samples();
        let augmentation = Augmentation::default();
        let loader = TrainLoader::new(
            samples,
            SIZE,
            &augmentation,
            Seed::new(1),
            config(2, 1 << 20),
        );
        let batch = all(loader.epoch(0, vec![vec![3; 8]])).remove(0);
        let images: Vec<&[f32]> = batch.images.chunks(3 * SIZE.pixels()).collect();
        assert!(images[1..].iter().any(|image| *image != images[0]));
    }

    #[test]
    fn without_augmentation_images_are_decoded_and_normalised() {
        let (_folder, samples) = samples();
        let seed = Seed::new(1);
        let loader = TrainLoader::new(
            samples.clone(),
            SIZE,
            &Augmentation::none(),
            seed,
            config(1, 0),
        );
        let batch = all(loader.epoch(0, vec![vec![4, 0]])).remove(0);
        let mut expected = Vec::new();
        for index in [4, 0] {
            let image = crate::decode(&samples[index].path, SIZE).unwrap();
            let mut picture = Picture::from(&image);
            Normalise::IMAGENET.normalise(&mut picture);
            expected.extend(picture.values);
        }
        assert_eq!(batch.images, expected);
        assert_eq!((batch.classes, batch.indices), (vec![2, 0], vec![4, 0]));
        assert_eq!(batch.identities, [30, 10].map(Identity::new));
        assert_eq!((loader.classes().len(), batch.size), (3, SIZE));
    }

    #[test]
    fn the_stream_of_an_image_is_named_by_seed_epoch_and_position() {
        let (_folder, samples) = samples();
        let flip = Flip { probability: 0.5 };
        let seed = Seed::new(4);
        let path = samples[2].path.clone();
        let loader = TrainLoader::new(samples, SIZE, &Augmentation::none(), seed, config(2, 0))
            .with_transform(flip);
        let batches = all(loader.epoch(9, vec![vec![2; 3], vec![2; 4]]));
        let images: Vec<f32> = batches.into_iter().flat_map(|batch| batch.images).collect();
        let image = crate::decode(path, SIZE).unwrap();
        for (position, found) in images.chunks(3 * SIZE.pixels()).enumerate() {
            let place = seed.named("augmentation").at(9).at(position as u64);
            let mut picture = Picture::from(&image);
            flip.apply(&mut picture, &mut place.stream());
            assert_eq!(found, picture.values);
        }
    }

    #[test]
    fn a_transform_that_panics_is_an_error() {
        #[derive(Debug)]
        struct Broken;
        impl Transform for Broken {
            fn apply(&self, picture: &mut Picture, _stream: &mut Stream) {
                *picture = Picture::new(1, 1, vec![0.0; 3]);
            }
        }
        let (_folder, samples) = samples();
        let seed = Seed::new(1);
        let loader = TrainLoader::new(samples, SIZE, &Augmentation::none(), seed, config(2, 0))
            .with_transform(Broken);
        let error = loader
            .epoch(0, batches())
            .next()
            .unwrap()
            .expect_err("it panics");
        let message = error.to_string();
        assert!(
            message.contains("a picture of 12x6 into one of 1x1"),
            "{message}"
        );
    }

    #[test]
    #[should_panic(expected = "a batch asks for sample 6 of 6")]
    fn an_index_of_no_sample_is_refused() {
        let (_folder, samples) = samples();
        let seed = Seed::new(1);
        let loader = TrainLoader::new(samples, SIZE, &Augmentation::none(), seed, config(2, 0));
        let _ = loader.epoch(0, vec![vec![0, 6]]);
    }
}
