//! Computes the embeddings of whole splits.

mod boxes;
mod classify;
mod rows;

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use burn::tensor::{Device, Tensor, TensorData};
use image::RgbImage;
use rayon::prelude::*;
use reid_core::{Identity, InputSize, Ranks, Sample, Split, Splits};
use reid_data::{
    loader::{EvalBatch, EvalLoader, LoaderConfig, TrainLoader},
    transform::Normalise,
    unopenable,
};
use reid_eval::{Embeddings, EvaluationConfig, Labels, Report, evaluate};
use reid_nn::{Embed, Precision};

use self::rows::{Progress, Rows, share};
use crate::{error::Error, recipe::Recipe};

/// Computes the embeddings of whole splits with a model, or with several models (`reid_nn::Ensemble`).
///
/// An extractor caches decoded images, so keep one for several evaluations.
///
/// ```
/// use burn::tensor::Device;
/// use reid_core::{Identity, InputSize, Sample, Seed, Split};
/// use reid_data::{loader::LoaderConfig, transform::Normalise};
/// use reid_nn::{Init, ReidModel, backbone::ResNetConfig, head::BnNeckConfig};
/// use reid_train::Extractor;
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("1.png");
/// # image::RgbImage::new(16, 32).save(&path)?;
/// let (device, size) = (Device::default(), InputSize::new(32, 16));
/// let init = Init::new(Seed::new(1), &device);
/// let backbone = ResNetConfig::resnet18().with_width(8);
/// let model = ReidModel::new(&backbone, &BnNeckConfig::new(), size, 3, &init);
/// let extractor = Extractor::new(size, Normalise::IMAGENET, LoaderConfig::default());
/// let samples = vec![Sample::new(&path, Identity::new(7)); 3];
/// let embeddings = extractor.embed(&model, &samples, Split::Query, &device)?;
/// assert_eq!((embeddings.len(), embeddings.dimensions()), (3, 64));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Extractor {
    loader: EvalLoader,
    /// The number of images in a batch, if it was set.
    batch_size: Option<usize>,
    flip_test: bool,
    precision: Precision,
    progress: Progress,
    ranks: Option<Ranks>,
}

impl Extractor {
    /// An extractor for models whose images have this size and normalisation, in batches of
    /// [`reid_nn::device::batch_size`].
    #[must_use]
    pub fn new(input: InputSize, normalise: Normalise, config: LoaderConfig) -> Self {
        Self {
            loader: EvalLoader::new(input, normalise, config),
            batch_size: None,
            flip_test: false,
            precision: Precision::Single,
            progress: Progress(Arc::new(|_, _| {})),
            ranks: None,
        }
    }

    /// The extractor for the evaluation of a recipe: its input size, normalisation, flip test and precision.
    #[must_use]
    pub fn from_recipe<N, L>(recipe: &Recipe<N, L>, config: LoaderConfig) -> Self {
        Self {
            flip_test: recipe.flip_test,
            precision: recipe.precision,
            ..Self::new(recipe.input, recipe.augmentation.normalise, config)
        }
    }

    /// Shares the cache of decoded images with a training loader, instead of a second cache.
    ///
    /// # Panics
    /// If the loader has another image size.
    #[must_use]
    pub fn sharing(self, loader: &TrainLoader) -> Self {
        let shared = loader.eval_loader(self.loader.normalise());
        assert_eq!(
            shared.size(),
            self.loader.size(),
            "an extractor can only share the cache of a loader with the same image size"
        );
        Self {
            loader: shared,
            ..self
        }
    }

    /// Uses the mean of the embeddings of an image and of its mirror image, which takes twice the time. As in
    /// other toolkits, the two embeddings are not normalised to length 1 before.
    #[must_use]
    pub fn with_flip_test(self) -> Self {
        Self {
            flip_test: true,
            ..self
        }
    }

    /// Computes in another precision. The embeddings are converted to single precision.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// Calls `progress` after each batch of [`embed`](Self::embed), with the number of images done and of
    /// all images.
    #[must_use]
    pub fn with_progress(self, progress: impl Fn(usize, usize) + Send + Sync + 'static) -> Self {
        let progress = Progress(Arc::new(progress));
        Self { progress, ..self }
    }

    /// Counts the images of a longer list, of which [`embed`](Self::embed) gets one part: `before` images were
    /// embedded before this part, and `all` is the length of the list. Call it after
    /// [`with_progress`](Self::with_progress).
    #[must_use]
    pub fn with_progress_of_part(self, before: usize, all: usize) -> Self {
        let Progress(progress) = self.progress.clone();
        self.with_progress(move |done, _| progress(before + done, all))
    }

    /// The size that images are resized to.
    #[must_use]
    pub fn input(&self) -> InputSize {
        self.loader.size()
    }

    /// The normalisation of images.
    #[must_use]
    pub fn normalise(&self) -> Normalise {
        self.loader.normalise()
    }

    /// The precision in which embeddings are computed.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Whether the embeddings of each image and its mirror image are averaged.
    #[must_use]
    pub fn flip_test(&self) -> bool {
        self.flip_test
    }

    /// Sets the number of images per batch, by default [`reid_nn::device::batch_size`]. It affects speed and memory,
    /// but not the embeddings, except for rounding.
    ///
    /// # Panics
    /// If `batch_size` is 0.
    #[must_use]
    pub fn with_batch_size(mut self, batch_size: usize) -> Self {
        assert!(
            batch_size > 0,
            "the batch size of an extractor must be at least 1"
        );
        self.batch_size = Some(batch_size);
        self
    }

    /// The number of images in a batch on a device.
    fn batch_size(&self, device: &Device) -> usize {
        self.batch_size
            .unwrap_or_else(|| reid_nn::device::batch_size(device))
    }

    /// Computes the embeddings of samples, in order, with all their labels: `[samples, dimensions]`. `split` is for
    /// error messages.
    ///
    /// The model must be in evaluation mode, on a device without autodiff (`model.valid()`).
    ///
    /// # Errors
    /// If an image cannot be read, an embedding is not finite, there are no samples, or only some of them
    /// have a camera.
    pub fn embed(
        &self,
        model: &dyn Embed,
        samples: &[Sample],
        split: Split,
        device: &Device,
    ) -> Result<Embeddings, Error> {
        if samples.is_empty() {
            return Err(Error::NoImages { split: Some(split) });
        }
        let labels = Labels::from_samples(samples)?;
        let own = share(samples, self.ranks.as_ref());
        let (mut rows, mut done) = (Rows::default(), 0);
        for batch in self.loader.batches(own, self.batch_size(device)) {
            let batch = batch?;
            done += batch.identities.len();
            let images = self.precision.cast(images(batch, device));
            rows.add(self.embed_batch(model, images));
            (self.progress.0)(done, own.len());
        }
        if let Some(ranks) = &self.ranks {
            rows = rows.gathered(samples, ranks)?;
        }
        if let Some(row) = rows.not_finite() {
            let image = samples[row].path.clone();
            return Err(Error::Embedding { split, row, image });
        }
        Ok(Embeddings::from_parts(
            rows.values,
            rows.dimensions,
            labels,
        )?)
    }

    /// Computes the embeddings of image files, in order, with their paths and unknown identities:
    /// `[files, dimensions]`. The headers of all files are read first, so that files that are not images are
    /// reported together, before any embedding.
    ///
    /// # Errors
    /// As [`embed`](Self::embed), and [`Error::Images`] with all files that are not images.
    pub fn embed_files(
        &self,
        model: &dyn Embed,
        files: impl IntoIterator<Item = PathBuf>,
        device: &Device,
    ) -> Result<Embeddings, Error> {
        let samples = files
            .into_iter()
            .map(|file| Sample::new(file, Identity::UNKNOWN));
        let samples: Vec<Sample> = samples.collect();
        if samples.is_empty() {
            return Err(Error::NoImages { split: None });
        }
        let paths: Vec<&Path> = samples.iter().map(|sample| sample.path.as_path()).collect();
        let errors = unopenable(&paths, |_| {});
        if !errors.is_empty() {
            let images = samples.len();
            return Err(Error::Images { images, errors });
        }
        self.embed(model, &samples, Split::Gallery, device)
    }

    /// Computes the embeddings of images in memory, in order, with unknown identities: `[images, dimensions]`. The
    /// images may have any size.
    ///
    /// # Errors
    /// If there are no images, or an embedding is not finite; the error names the index of the image, from 0.
    pub fn embed_images(
        &self,
        model: &dyn Embed,
        images: &[RgbImage],
        device: &Device,
    ) -> Result<Embeddings, Error> {
        let prepare = |index: usize| self.loader.prepare(&images[index]);
        self.embed_prepared(model, images.len(), prepare, device)
    }

    /// Computes the embeddings of `count` images in batches. `prepare` returns the network input of an image,
    /// `[3, height, width]`, and is called on all threads.
    fn embed_prepared(
        &self,
        model: &dyn Embed,
        count: usize,
        prepare: impl Fn(usize) -> Vec<f32> + Sync,
        device: &Device,
    ) -> Result<Embeddings, Error> {
        let split = Split::Gallery;
        if count == 0 {
            return Err(Error::NoImages { split: None });
        }
        let InputSize { height, width } = self.input();
        let mut rows = Rows::default();
        let size = self.batch_size(device);
        for first in (0..count).step_by(size) {
            let batch = first..count.min(first.saturating_add(size));
            let shape = [batch.len(), 3, height, width];
            let data = TensorData::new(self.prepared(batch, &prepare), shape);
            let batch = self.precision.cast(Tensor::from_data(data, device));
            rows.add(self.embed_batch(model, batch));
        }
        if let Some(row) = rows.not_finite() {
            let image = PathBuf::from(format!("image {row} in memory"));
            return Err(Error::Embedding { split, row, image });
        }
        let labels = Labels::unknown(count);
        Ok(Embeddings::from_parts(
            rows.values,
            rows.dimensions,
            labels,
        )?)
    }

    /// Resizes and normalises images in memory, of any sizes: the input of a network, in single precision.
    ///
    /// # Shapes
    /// - result: `[images, 3, height, width]`
    #[must_use]
    pub fn prepare(&self, images: &[RgbImage], device: &Device) -> Tensor<4> {
        let InputSize { height, width } = self.input();
        let prepare = |index: usize| self.loader.prepare(&images[index]);
        let values = self.prepared(0..images.len(), prepare);
        Tensor::from_data(
            TensorData::new(values, [images.len(), 3, height, width]),
            device,
        )
    }

    /// The prepared images of some indices, one after the other.
    fn prepared(
        &self,
        images: Range<usize>,
        prepare: impl Fn(usize) -> Vec<f32> + Sync,
    ) -> Vec<f32> {
        if images.len() == 1 {
            return prepare(images.start);
        }
        let size = 3 * self.input().pixels();
        let mut values = vec![0.0; images.len() * size];
        let each = values.par_chunks_exact_mut(size).zip(images);
        each.for_each(|(values, image)| values.copy_from_slice(&prepare(image)));
        values
    }

    fn embed_batch(&self, model: &dyn Embed, images: Tensor<4>) -> Tensor<2> {
        if !self.flip_test {
            return model.embed(images);
        }
        let mirrored = model.embed(images.clone().flip([3]));
        (model.embed(images) + mirrored) / 2
    }

    /// Computes the embeddings of the query and gallery images, in this order. An image in both gets the same image
    /// number, also if it has another path there ([`Sample::image`]).
    ///
    /// # Errors
    /// As [`embed`](Self::embed).
    pub fn embed_both(
        &self,
        model: &dyn Embed,
        splits: &Splits,
        device: &Device,
    ) -> Result<(Embeddings, Embeddings), Error> {
        // Images are numbered in the order of their first occurrence.
        let mut numbers = std::collections::HashMap::new();
        let mut number_all = |samples: &[Sample]| -> Vec<u64> {
            let mut number = |sample: &Sample| {
                let next = numbers.len() as u64;
                *numbers.entry(sample.image().to_owned()).or_insert(next)
            };
            samples.iter().map(&mut number).collect()
        };
        let query_images = number_all(&splits.query);
        let gallery_images = number_all(&splits.gallery);
        let query = self.embed(model, &splits.query, Split::Query, device)?;
        let gallery = self.embed(model, &splits.gallery, Split::Gallery, device)?;
        Ok((
            query.with_images(query_images)?,
            gallery.with_images(gallery_images)?,
        ))
    }

    /// Evaluates a model on the query and gallery images.
    ///
    /// # Errors
    /// As [`embed`](Self::embed), and if the embeddings cannot be evaluated, such as without cameras by the
    /// Market protocol.
    pub fn evaluate(
        &self,
        model: &dyn Embed,
        splits: &Splits,
        config: &EvaluationConfig,
        device: &Device,
    ) -> Result<Report, Error> {
        let (query, gallery) = self.embed_both(model, splits, device)?;
        Ok(evaluate(&query, &gallery, config)?)
    }
}

fn images(batch: EvalBatch, device: &Device) -> Tensor<4> {
    let InputSize { height, width } = batch.size;
    let shape = [batch.identities.len(), 3, height, width];
    Tensor::from_data(TensorData::new(batch.images, shape), device)
}

#[cfg(test)]
mod tests {
    use reid_core::Seed;
    use reid_data::transform::Normalise;
    use reid_nn::{Init, ReidModel, backbone::ResNetConfig, head::BnNeckConfig};

    use super::*;

    #[test]
    fn the_flip_test_averages_an_image_and_its_mirror_image() {
        let folder = tempfile::tempdir().expect("a folder");
        let (one, mirrored) = (folder.path().join("1.png"), folder.path().join("2.png"));
        let picture = RgbImage::from_fn(16, 32, |x, y| {
            image::Rgb([x * 15, y * 7, x * y / 2].map(|value| u8::try_from(value).expect("small")))
        });
        picture.save(&one).expect("saved");
        let mirror = image::imageops::flip_horizontal(&picture);
        mirror.save(&mirrored).expect("saved");

        let (device, size) = (Device::default(), InputSize::new(32, 16));
        let backbone = ResNetConfig::resnet18().with_width(4);
        let model = ReidModel::new(
            &backbone,
            &BnNeckConfig::new(),
            size,
            3,
            &Init::new(Seed::new(1), &device),
        );
        let samples = [one, mirrored].map(|path| Sample::new(path, Identity::new(1)));
        let plain = Extractor::new(size, Normalise::IMAGENET, LoaderConfig::default());
        let rows = |extractor: &Extractor| {
            let embeddings = extractor.embed(&model, &samples, Split::Query, &device);
            let embeddings = embeddings.expect("embedded");
            [0, 1].map(|row| embeddings.row(row).to_vec())
        };
        let [one, two] = rows(&plain);
        let [first, second] = rows(&plain.clone().with_flip_test());
        assert_ne!(one, two);
        for (((one, two), first), second) in one.iter().zip(&two).zip(&first).zip(&second) {
            assert!((first - f32::midpoint(*one, *two)).abs() < 1e-5);
            assert!((first - second).abs() < 1e-5);
        }
    }

    #[test]
    fn copies_share_an_image_number_and_a_missing_camera_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let sample = |name: &str, shade: u8, identity| {
            let path = folder.path().join(name);
            let picture = RgbImage::from_fn(16, 32, |x, y| {
                image::Rgb([shade, if (x + y) % 2 == 0 { 255 } else { shade }, 0])
            });
            picture.save(&path).expect("saved");
            Sample::new(path, Identity::new(identity))
        };
        let query = sample("query.png", 10, 1);
        let mut copy = sample("copy.png", 10, 1);
        copy.same_as = Some(query.path.clone());
        let mut splits = Splits::default().with_query(vec![query]).with_gallery(vec![
            copy,
            sample("other.png", 20, 2),
            sample("match.png", 250, 1),
        ]);

        let (device, size) = (Device::default(), InputSize::new(32, 16));
        let backbone = ResNetConfig::resnet18().with_width(4);
        let model = ReidModel::new(
            &backbone,
            &BnNeckConfig::new(),
            size,
            3,
            &Init::new(Seed::new(1), &device),
        );
        let extractor = Extractor::new(size, Normalise::IMAGENET, LoaderConfig::default());
        let (query, gallery) = extractor
            .embed_both(&model, &splits, &device)
            .expect("embedded");
        assert_eq!(query.images(), Some(&[0][..]));
        assert_eq!(gallery.images(), Some(&[0, 1, 2][..]));

        splits.gallery[1].camera = Some(reid_core::Camera::new(1));
        let mixed = extractor.embed_both(&model, &splits, &device);
        let message = mixed.expect_err("one camera").to_string();
        assert!(
            message.contains("copy.png has no camera, but "),
            "{message}"
        );
    }

    #[test]
    fn a_split_without_images_is_an_error() {
        let (device, size) = (Device::default(), InputSize::new(32, 16));
        let backbone = ResNetConfig::resnet18().with_width(4);
        let model = ReidModel::new(
            &backbone,
            &BnNeckConfig::new(),
            size,
            3,
            &Init::new(Seed::new(1), &device),
        );
        let extractor = Extractor::new(size, Normalise::IMAGENET, LoaderConfig::default());
        let error = extractor.embed(&model, &[], Split::Gallery, &device);
        assert_eq!(
            error.expect_err("no images").to_string(),
            "the gallery split has no images, expected at least 1"
        );
        let error = extractor.embed_files(&model, [], &device);
        assert_eq!(
            error.expect_err("no files").to_string(),
            "the list has no images, expected at least 1"
        );
    }

    #[test]
    fn images_that_training_decoded_are_not_decoded_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("1.png");
        RgbImage::new(16, 32).save(&path).expect("saved");
        let (device, size) = (Device::default(), InputSize::new(32, 16));
        let samples = vec![Sample::new(&path, Identity::new(1))];
        let loader = TrainLoader::new(samples.clone(), size, Seed::new(1));
        assert_eq!(loader.epoch(0, vec![vec![0]]).count(), 1);
        std::fs::remove_file(&path).expect("removed");

        let backbone = ResNetConfig::resnet18().with_width(4);
        let model = ReidModel::new(
            &backbone,
            &BnNeckConfig::new(),
            size,
            3,
            &Init::new(Seed::new(1), &device),
        );
        let separate = Extractor::new(size, Normalise::IMAGENET, LoaderConfig::default());
        let embed =
            |extractor: &Extractor| extractor.embed(&model, &samples, Split::Query, &device);
        assert!(embed(&separate).is_err());
        assert_eq!(embed(&separate.sharing(&loader)).expect("cached").len(), 1);
    }
}
