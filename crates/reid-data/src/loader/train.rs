//! The training loader: augmented batches, reproducible from a seed.

use std::{collections::BTreeMap, sync::Arc};

use reid_core::{Identity, InputSize, Sample, Seed};

use super::{AttributeClasses, Batches, Classes, EvalLoader, LoaderConfig, pictures::Pictures};
use crate::{
    Error,
    transform::{Augmentation, Normalise, Transform},
};

/// A batch of augmented images with their labels.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Batch {
    /// The images, `[n, 3, height, width]`, normalised.
    pub images: Vec<f32>,
    /// The class index of each image's identity, see [`TrainLoader::classes`].
    pub classes: Vec<usize>,
    /// For each attribute of the training samples, the class index of each image, see
    /// [`TrainLoader::attribute_classes`]; `None` if the image has no label for the attribute.
    pub attributes: BTreeMap<String, Vec<Option<usize>>>,
    /// The identity of each image.
    pub identities: Vec<Identity>,
    /// The index of each image among the samples.
    pub indices: Vec<usize>,
    /// The height and width of the images.
    pub size: InputSize,
}

/// A data loader that augments the batches chosen by a sampler.
///
/// Each image is decoded and resized, then the transforms are applied in the order in which they were added,
/// and the image is normalised. The content of a batch depends only on the seed, the epoch and the position
/// in the epoch. For the image at `position`, counted over all batches of the epoch, the transforms draw from
/// the random stream `seed.named("augmentation").at(epoch).at(position)`. The number of threads, the size of
/// the cache and the first batch of a resumed epoch have no influence.
///
/// ```
/// use reid_core::{Identity, InputSize, Sample, Seed};
/// use reid_data::{loader::TrainLoader, transform::Augmentation};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("1.png");
/// # image::RgbImage::from_fn(4, 8, |c, r| image::Rgb([c as u8, r as u8, 0])).save(&path)?;
/// let samples = vec![
///     Sample::new(&path, Identity::new(7)).with_attribute("colour", "red"),
///     Sample::new(&path, Identity::new(9)),
/// ];
/// let loader = TrainLoader::new(samples, InputSize::new(16, 8), Seed::new(1))
///     .with_augmentation(&Augmentation::default());
///
/// let batches = vec![vec![0, 1], vec![1, 0], vec![1, 1]];
/// let epoch: Vec<_> = loader.epoch(3, batches.clone()).collect::<Result<_, _>>()?;
/// assert_eq!(epoch[1].classes, [1, 0]);
/// assert_eq!(epoch[1].attributes["colour"], [None, Some(0)]);
///
/// // An epoch that was interrupted after two batches resumes with the same third batch.
/// let rest: Vec<_> = loader.epoch_from(3, batches, 2).collect::<Result<_, _>>()?;
/// assert_eq!(rest, epoch[2..]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct TrainLoader {
    samples: Arc<[Sample]>,
    classes: Arc<Classes>,
    attribute_classes: Arc<BTreeMap<String, AttributeClasses>>,
    pictures: Arc<Pictures>,
    transforms: Vec<Arc<dyn Transform>>,
    normalise: Normalise,
    seed: Seed,
    config: LoaderConfig,
}

impl TrainLoader {
    /// Creates a loader of these samples, resized to `size`, without transforms, with [`Normalise::IMAGENET`]
    /// and the default [`LoaderConfig`].
    ///
    /// `seed` is the seed of the training run, from which the loader derives its own random stream.
    pub fn new(samples: impl Into<Arc<[Sample]>>, size: InputSize, seed: Seed) -> Self {
        let (samples, config) = (samples.into(), LoaderConfig::default());
        let identities = samples.iter().map(|sample| sample.identity);
        Self {
            classes: Arc::new(Classes::from_identities(identities)),
            attribute_classes: Arc::new(AttributeClasses::from_samples(&samples)),
            pictures: Arc::new(Pictures::new(size, config.cache_bytes)),
            transforms: Vec::new(),
            normalise: Normalise::IMAGENET,
            samples,
            seed: seed.named("augmentation"),
            config,
        }
    }

    /// Sets the number of threads and the size of the cache. The cache starts empty.
    #[must_use]
    pub fn with_config(self, config: LoaderConfig) -> Self {
        let size = self.pictures.size();
        Self {
            pictures: Arc::new(Pictures::new(size, config.cache_bytes)),
            config,
            ..self
        }
    }

    /// Appends the transforms of an [`Augmentation`] to the existing transforms, and sets its normalisation.
    ///
    /// # Panics
    /// If a value of the augmentation is outside the range that its field documents.
    #[must_use]
    pub fn with_augmentation(mut self, augmentation: &Augmentation) -> Self {
        self.transforms.extend(augmentation.transforms());
        self.with_normalise(augmentation.normalise)
    }

    /// Appends a transform to the existing transforms.
    ///
    /// The transform receives values from 0 to 1, because normalisation is applied last. It must not change
    /// the size of the picture; otherwise the item of that batch is [`Error::Worker`].
    ///
    /// Transforms are applied in the order of the calls. A transform added before
    /// [`with_augmentation`](Self::with_augmentation) receives the picture before augmentation. One added
    /// after it receives the augmented picture, for example cropped and with a rectangle erased.
    ///
    /// ```
    /// use reid_core::{Identity, InputSize, Sample, Seed, Stream};
    /// use reid_data::{loader::TrainLoader, transform::{Augmentation, Picture, Transform}};
    ///
    /// /// Replaces colours with grey.
    /// #[derive(Debug)]
    /// struct Grey;
    ///
    /// impl Transform for Grey {
    ///     fn apply(&self, picture: &mut Picture, _stream: &mut Stream) {
    ///         let pixels = picture.height * picture.width;
    ///         for at in 0..pixels {
    ///             let sum: f32 = (0..3).map(|colour| picture.values[colour * pixels + at]).sum();
    ///             (0..3).for_each(|colour| picture.values[colour * pixels + at] = sum / 3.0);
    ///         }
    ///     }
    /// }
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("1.png");
    /// # image::RgbImage::new(4, 8).save(&path)?;
    /// let samples = vec![Sample::new(path, Identity::new(7))];
    /// let loader = TrainLoader::new(samples, InputSize::new(16, 8), Seed::new(1))
    ///     .with_transform(Grey)
    ///     .with_augmentation(&Augmentation::default());
    /// assert!(loader.epoch(0, vec![vec![0]]).all(|batch| batch.is_ok()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_transform(mut self, transform: impl Transform + 'static) -> Self {
        self.transforms.push(Arc::new(transform));
        self
    }

    /// Sets the normalisation.
    #[must_use]
    pub fn with_normalise(self, normalise: Normalise) -> Self {
        Self { normalise, ..self }
    }

    /// Creates an evaluation loader that shares this loader's image cache.
    ///
    /// Both loaders together use at most [`LoaderConfig::cache_bytes`], and an image that both load is
    /// decoded only once while it is in the cache.
    ///
    /// ```
    /// use reid_core::{Identity, InputSize, Sample, Seed};
    /// use reid_data::{loader::TrainLoader, transform::Normalise};
    ///
    /// let samples = vec![Sample::new("1.png", Identity::new(7))];
    /// let train = TrainLoader::new(samples, InputSize::new(16, 8), Seed::new(1));
    /// let evaluation = train.eval_loader(Normalise::IMAGENET);
    /// assert_eq!(evaluation.batches(&[], 64).count(), 0);
    /// ```
    #[must_use]
    pub fn eval_loader(&self, normalise: Normalise) -> EvalLoader {
        EvalLoader::sharing(Arc::clone(&self.pictures), normalise, self.config)
    }

    /// The samples.
    #[must_use]
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// The class indices of the samples' identities.
    #[must_use]
    pub fn classes(&self) -> &Classes {
        &self.classes
    }

    /// The class indices of every attribute of the samples, by attribute name.
    #[must_use]
    pub fn attribute_classes(&self) -> &BTreeMap<String, AttributeClasses> {
        &self.attribute_classes
    }

    /// The height and width of the images.
    #[must_use]
    pub fn size(&self) -> InputSize {
        self.pictures.size()
    }

    /// The normalisation of the images.
    #[must_use]
    pub fn normalise(&self) -> Normalise {
        self.normalise
    }

    /// Iterates over the batches of one epoch, given as indices into the samples. Epochs are counted from 0.
    ///
    /// An item is an error of [`decode`](crate::decode) if an image cannot be read, and
    /// [`Error::Worker`] if a transform panics or changes the size of a picture.
    ///
    /// # Panics
    /// If a batch is empty, if an index is out of range, or if the identity of a sample is junk or unknown.
    #[must_use]
    pub fn epoch(&self, epoch: u64, batches: Vec<Vec<usize>>) -> Batches<Batch> {
        self.epoch_from(epoch, batches, 0)
    }

    /// Iterates over the batches of one epoch, starting at batch `first`, counted from 0.
    ///
    /// `batches` are the batches of the whole epoch. The result is the same as that of
    /// [`epoch`](Self::epoch) without its first `first` items.
    ///
    /// # Panics
    /// If `first` is greater than the number of batches, and where [`epoch`](Self::epoch) panics.
    #[must_use]
    pub fn epoch_from(&self, epoch: u64, batches: Vec<Vec<usize>>, first: usize) -> Batches<Batch> {
        self.epoch_share(epoch, batches, first, [0, 1])
    }

    /// Iterates over one of several equal shares of each batch, as one of several ranks trains on it. `share` is the
    /// number of the share, from 0, and their number.
    ///
    /// The shares of a batch, one after another, are the batch of [`epoch_from`](Self::epoch_from): each image has the
    /// same augmentation as there.
    ///
    /// ```
    /// use reid_core::{Identity, InputSize, Sample, Seed};
    /// use reid_data::{loader::TrainLoader, transform::Augmentation};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("1.png");
    /// # image::RgbImage::from_fn(4, 8, |c, r| image::Rgb([c as u8, r as u8, 0])).save(&path)?;
    /// let samples = vec![Sample::new(path, Identity::new(7)); 4];
    /// let loader = TrainLoader::new(samples, InputSize::new(16, 8), Seed::new(1))
    ///     .with_augmentation(&Augmentation::default());
    /// let batches = vec![vec![0, 1, 2, 3]];
    /// let whole = loader.epoch(0, batches.clone()).next().expect("a batch")?;
    /// let second = loader.epoch_share(0, batches, 0, [1, 2]).next().expect("a batch")?;
    /// assert_eq!(second.indices, [2, 3]);
    /// assert_eq!(second.images, whole.images[whole.images.len() / 2..]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// As [`epoch_from`](Self::epoch_from), and if a batch cannot be divided into shares of equal size.
    #[must_use]
    pub fn epoch_share(
        &self,
        epoch: u64,
        mut batches: Vec<Vec<usize>>,
        first: usize,
        [share, shares]: [usize; 2],
    ) -> Batches<Batch> {
        let count = batches.len();
        assert!(first <= count, "cannot start at batch {first} of {count}");
        assert!(share < shares, "share {share} of {shares}, counted from 0");
        let (mut position, mut starts) = (0, Vec::with_capacity(count));
        for (number, batch) in batches.iter_mut().enumerate() {
            assert!(!batch.is_empty(), "batch {number} of {count} has no images");
            for &index in &*batch {
                self.check(index);
            }
            let images = batch.len();
            assert!(
                images.is_multiple_of(shares),
                "batch {number} of {images} images has no {shares} equal shares"
            );
            let own = images / shares;
            starts.push(position + (share * own) as u64);
            position += images as u64;
            *batch = batch[share * own..][..own].to_vec();
        }
        let (loader, seed) = (self.clone(), self.seed.at(epoch));
        Batches::start(count - first, self.config, move |number| {
            let batch = first + number;
            loader.batch(&batches[batch], seed, starts[batch])
        })
    }

    fn check(&self, index: usize) {
        let found = self.samples.len();
        assert!(
            index < found,
            "a batch contains index {index}, but there are only {found} samples"
        );
        let labelled = self.samples[index].identity.is_labelled();
        assert!(
            labelled,
            "a batch contains sample {index}, whose identity is junk or unknown"
        );
    }

    /// Loads the batch whose first image has position `start` in the epoch.
    fn batch(&self, indices: &[usize], seed: Seed, start: u64) -> Result<Batch, Error> {
        let size = self.pictures.size();
        let mut images = Vec::with_capacity(indices.len() * 3 * size.pixels());
        for (&index, position) in indices.iter().zip(start..) {
            let mut picture = self.pictures.get(&self.samples[index].path)?;
            let stream = &mut seed.at(position).stream();
            self.transforms.apply(&mut picture, stream);
            assert!(
                (picture.height, picture.width) == (size.height, size.width),
                "a transform must not change the size of a picture, but changed {size} to {}x{}",
                picture.height,
                picture.width
            );
            self.normalise.normalise(&mut picture);
            images.extend(picture.values);
        }
        let identities: Vec<_> = indices.iter().map(|&i| self.samples[i].identity).collect();
        let attributes = self.attribute_classes.iter().map(|(attribute, classes)| {
            let class = |&index: &usize| {
                let name = self.samples[index].attributes.get(attribute)?;
                classes.class(name)
            };
            (attribute.clone(), indices.iter().map(class).collect())
        });
        Ok(Batch {
            images,
            // No identity is dropped: the classes cover all labelled samples, and `check` rejects the others.
            classes: identities
                .iter()
                .filter_map(|&who| self.classes.class(who))
                .collect(),
            attributes: attributes.collect(),
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

    /// Six images of three identities, each with a different gradient.
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

    fn augmented(samples: Vec<Sample>, config: LoaderConfig) -> TrainLoader {
        TrainLoader::new(samples, SIZE, Seed::new(1))
            .with_config(config)
            .with_augmentation(&Augmentation::default())
    }

    fn batches() -> Vec<Vec<usize>> {
        vec![vec![0, 1, 4], vec![5, 2], vec![3, 3, 0], vec![1, 2, 4, 5]]
    }

    fn all(batches: Batches<Batch>) -> Vec<Batch> {
        batches.collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn batches_do_not_depend_on_the_number_of_threads_or_the_cache() {
        let (_folder, samples) = samples();
        let load = |workers, cache_bytes| {
            let config = config(workers, cache_bytes);
            let loader = augmented(samples.clone(), config);
            [7, 7, 8].map(|epoch| all(loader.epoch(epoch, batches())))
        };
        let [first, again, other] = load(1, 1 << 20);
        assert_eq!(first, again);
        assert_ne!(first, other);
        assert_eq!(load(3, 0), [first, again, other]);
    }

    #[test]
    fn loaders_that_share_a_cache_share_its_limit() {
        let (_folder, samples) = samples();
        // The cache is large enough for four of the six images.
        let config = config(1, 4 * 3 * SIZE.pixels());
        let train = TrainLoader::new(samples.clone(), SIZE, Seed::new(1)).with_config(config);
        let evaluation = train.eval_loader(Normalise::IMAGENET);
        assert_eq!(all(train.epoch(0, vec![vec![0, 1, 2]])).len(), 1);
        let select = |indices: &[usize]| -> Vec<Sample> {
            indices
                .iter()
                .map(|&index| samples[index].clone())
                .collect()
        };
        let loads = |indices: &[usize]| {
            evaluation
                .batches(&select(indices), 1)
                .all(|batch| batch.is_ok())
        };
        assert!(loads(&[3, 4, 5]));
        for sample in &samples {
            std::fs::remove_file(&sample.path).unwrap();
        }
        // The cache contains three images from training and one from evaluation; the files of the others
        // are gone.
        assert!(loads(&[0, 1, 2, 3]));
        assert!(!loads(&[4]) && !loads(&[5]));
    }

    #[test]
    fn an_epoch_resumes_at_any_batch() {
        let (_folder, samples) = samples();
        let loader = augmented(samples, config(2, 1 << 20));
        let whole = all(loader.epoch(2, batches()));
        for first in 0..=4 {
            assert_eq!(all(loader.epoch_from(2, batches(), first)), whole[first..]);
        }
    }

    #[test]
    fn the_shares_of_a_batch_are_the_batch() {
        let (_folder, samples) = samples();
        let loader = augmented(samples, config(2, 1 << 20));
        let batches = || vec![vec![0, 1, 4, 5], vec![3, 2], vec![5, 0, 1, 3]];
        let whole = all(loader.epoch_from(3, batches(), 1));
        let shares = [0, 1].map(|share| all(loader.epoch_share(3, batches(), 1, [share, 2])));
        for (number, whole) in whole.iter().enumerate() {
            let parts = shares.each_ref().map(|share| &share[number]);
            assert_eq!(parts.map(|part| &*part.images).concat(), whole.images);
            assert_eq!(parts.map(|part| &*part.indices).concat(), whole.indices);
            assert_eq!(parts.map(|part| &*part.classes).concat(), whole.classes);
        }
    }

    #[test]
    #[should_panic(expected = "batch 0 of 3 images has no 2 equal shares")]
    fn a_batch_that_cannot_be_shared_panics() {
        let (_folder, samples) = samples();
        let _ = augmented(samples, config(1, 0)).epoch_share(0, batches(), 0, [0, 2]);
    }

    #[test]
    fn an_image_is_augmented_differently_at_each_position() {
        let (_folder, samples) = samples();
        let loader = augmented(samples, config(2, 1 << 20));
        let batch = all(loader.epoch(0, vec![vec![3; 8]])).remove(0);
        let images: Vec<&[f32]> = batch.images.chunks(3 * SIZE.pixels()).collect();
        assert!(images[1..].iter().any(|image| *image != images[0]));
    }

    #[test]
    fn without_augmentation_images_are_only_decoded_and_normalised() {
        let (_folder, samples) = samples();
        let loader =
            TrainLoader::new(samples.clone(), SIZE, Seed::new(1)).with_config(config(1, 0));
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
    fn the_stream_of_an_image_depends_on_seed_epoch_and_position() {
        let (_folder, samples) = samples();
        let flip = Flip { probability: 0.5 };
        let seed = Seed::new(4);
        let path = samples[2].path.clone();
        let loader = TrainLoader::new(samples, SIZE, seed)
            .with_config(config(2, 0))
            .with_transform(flip);
        let batches = all(loader.epoch(9, vec![vec![2; 3], vec![2; 4]]));
        let images: Vec<f32> = batches.into_iter().flat_map(|batch| batch.images).collect();
        let image = crate::decode(path, SIZE).unwrap();
        for (position, found) in images.chunks(3 * SIZE.pixels()).enumerate() {
            let seed = seed.named("augmentation").at(9).at(position as u64);
            let mut picture = Picture::from(&image);
            flip.apply(&mut picture, &mut seed.stream());
            Normalise::IMAGENET.normalise(&mut picture);
            assert_eq!(found, picture.values);
        }
    }

    #[test]
    fn a_transform_that_changes_the_size_is_an_error() {
        #[derive(Debug)]
        struct Broken;
        impl Transform for Broken {
            fn apply(&self, picture: &mut Picture, _stream: &mut Stream) {
                *picture = Picture::new(1, 1, vec![0.0; 3]);
            }
        }
        let (_folder, samples) = samples();
        let loader = TrainLoader::new(samples, SIZE, Seed::new(1))
            .with_config(config(2, 0))
            .with_transform(Broken);
        let error = loader
            .epoch(0, batches())
            .next()
            .unwrap()
            .expect_err("the worker panics");
        let message = error.to_string();
        assert!(message.ends_with("but changed 12x6 to 1x1"), "{message}");
    }

    #[test]
    #[should_panic(expected = "a batch contains index 6, but there are only 6 samples")]
    fn an_index_out_of_range_panics() {
        let (_folder, samples) = samples();
        let loader = TrainLoader::new(samples, SIZE, Seed::new(1));
        let _ = loader.epoch(0, vec![vec![0, 6]]);
    }

    #[test]
    #[should_panic(expected = "batch 1 of 2 has no images")]
    fn an_empty_batch_panics() {
        let (_folder, samples) = samples();
        let loader = TrainLoader::new(samples, SIZE, Seed::new(1));
        let _ = loader.epoch(0, vec![vec![0], vec![]]);
    }

    #[test]
    fn transforms_run_in_the_order_of_the_calls_and_normalisation_last() {
        /// Multiplies and adds: the result of two of them depends on their order.
        #[derive(Debug)]
        struct Linear(f32, f32);
        impl Transform for Linear {
            fn apply(&self, picture: &mut Picture, _stream: &mut Stream) {
                let values = picture.values.iter_mut();
                values.for_each(|value| *value = *value * self.0 + self.1);
            }
        }
        let (_folder, samples) = samples();
        let shared: Arc<dyn Transform> = Arc::new(Linear(1.0, 1.0));
        let listed: Vec<Box<dyn Transform>> = vec![Box::new(Linear(2.0, 0.0))];
        let normalise = Normalise {
            mean: [0.5; 3],
            std: [0.25; 3],
        };
        let augmentation = Augmentation {
            flip: Some(Flip { probability: 1.0 }),
            normalise,
            ..Augmentation::none()
        };
        let loader = TrainLoader::new(samples.clone(), SIZE, Seed::new(1))
            .with_transform(shared)
            .with_augmentation(&augmentation)
            .with_transform(listed);
        assert_eq!((loader.size(), loader.normalise()), (SIZE, normalise));
        let batch = all(loader.epoch(0, vec![vec![4]])).remove(0);

        let mut picture = Picture::from(&crate::decode(&samples[4].path, SIZE).unwrap());
        let stream = &mut Seed::new(0).stream();
        Flip { probability: 1.0 }.apply(&mut picture, stream);
        // ((x + 1) · 2 - 0.5) / 0.25
        let expected = picture
            .values
            .iter()
            .map(|value| ((value + 1.0) * 2.0 - 0.5) / 0.25);
        assert_eq!(batch.images, expected.collect::<Vec<f32>>());
    }

    #[test]
    fn attributes_become_class_indices_and_missing_ones_none() {
        let (_folder, mut samples) = samples();
        for (index, colour, bag) in [(0, "red", "yes"), (1, "blue", ""), (4, "red", "")] {
            let attributes = [("colour", colour), ("bag", bag)].into_iter();
            samples[index].attributes = attributes
                .filter(|(_, value)| !value.is_empty())
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
        }
        let loader = TrainLoader::new(samples, SIZE, Seed::new(1)).with_config(config(2, 0));
        let batches = all(loader.epoch(0, vec![vec![0, 1], vec![2, 4, 0]]));
        let classes = |batch: usize, name: &str| batches[batch].attributes[name].clone();
        assert_eq!(classes(0, "colour"), [Some(1), Some(0)]);
        assert_eq!(classes(0, "bag"), [Some(0), None]);
        assert_eq!(classes(1, "colour"), [None, Some(1), Some(1)]);
        assert_eq!(classes(1, "bag"), [None, None, Some(0)]);
        assert_eq!(batches[0].attributes.len(), 2);
        assert_eq!(
            loader.attribute_classes()["colour"].names(),
            ["blue", "red"]
        );
    }
}
