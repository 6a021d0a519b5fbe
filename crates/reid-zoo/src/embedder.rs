//! Embedder: computes embeddings of images with a trained network.

mod boxes;
mod fingerprint;

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use burn::tensor::Device;
use image::RgbImage;
use reid_core::{HeatMap, InputSize, Sample, Split, Splits};
use reid_data::{loader::LoaderConfig, transform::Normalise};
use reid_eval::{Embeddings, EvaluationConfig, Report, gallery::ModelFingerprint};
use reid_nn::{Embed, Init, Model, Network, Precision, device, heat_map::heat_maps};
use reid_train::{CheckpointKind, Checkpoints, Extractor, Recipe};
use serde_json::Value;

use crate::{Architecture, error::Error};

/// A trained network with its input size, normalisation, precision and device, which computes embeddings of images.
///
/// ```no_run
/// use reid_zoo::Embedder;
///
/// let embedder = Embedder::open("run/best")?;
/// let gallery = embedder.embed_files(["1.jpg", "2.jpg", "3.jpg"])?;
/// let query = embedder.embed_files(["someone.jpg"])?;
/// for found in &gallery.search(&query, 2)?[0] {
///     println!("{:?} at {}", found.path, found.distance);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Embedder {
    model: Box<dyn Embed>,
    extractor: Extractor,
    evaluation: EvaluationConfig,
    device: Device,
    dimensions: OnceLock<usize>,
    /// The fingerprint without the flip test, if it is known.
    fingerprint: Option<ModelFingerprint>,
}

impl Embedder {
    /// Opens a checkpoint of a run whose network is an [`Architecture`], on the device that [`device::pick`] selects.
    ///
    /// `path` is one of these:
    /// - the folder of a checkpoint,
    /// - the folder of a run, which opens its best checkpoint, or its last one before the first evaluation,
    /// - `best` or `last` in the folder of a run, such as `run/best`.
    ///
    /// # Errors
    /// If there is no such checkpoint, if it cannot be read or is damaged, if its network has a custom type (see
    /// [`open_as`](Self::open_as)), or if no device is found.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_on(path, &device::pick()?)
    }

    /// Opens a checkpoint like [`open`](Self::open), on the given device.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_on(path: impl AsRef<Path>, device: &Device) -> Result<Self, Error> {
        Self::open_as::<Architecture>(path, device)
    }

    /// Opens a checkpoint like [`open_on`](Self::open_on), of a run whose network has the type `N`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_as<N: Network>(path: impl AsRef<Path>, device: &Device) -> Result<Self, Error> {
        let checkpoint = find(path.as_ref())?;
        let recipe: Recipe<N, Value> = Checkpoints::recipe(&checkpoint)?;
        let classes = Checkpoints::classes(&checkpoint)?.len();
        let model = recipe
            .network
            .init(recipe.input, classes, &Init::empty(device));
        let model = Checkpoints::load_model(&checkpoint, model)?;
        let fingerprint = fingerprint::of_checkpoint(&checkpoint, recipe.input)?;
        Ok(Self {
            model: Box::new(model.evaluation()),
            extractor: Extractor::from_recipe(&recipe, LoaderConfig::default()),
            evaluation: recipe.evaluation,
            device: device.clone(),
            dimensions: OnceLock::new(),
            fingerprint: Some(fingerprint),
        })
    }

    /// Creates an embedder from a model in memory, for images of size `input`, with the normalisation of `ImageNet`.
    ///
    /// The model must be in evaluation mode, as [`Model::evaluation`] returns it, and on `device`.
    #[must_use]
    pub fn new(model: impl Embed + 'static, input: InputSize, device: &Device) -> Self {
        Self {
            model: Box::new(model),
            extractor: Extractor::new(input, Normalise::IMAGENET, LoaderConfig::default()),
            evaluation: EvaluationConfig::default(),
            device: device.clone(),
            dimensions: OnceLock::new(),
            fingerprint: None,
        }
    }

    /// Averages the embeddings of each image and its mirror image, without normalising them before. This doubles the
    /// work.
    #[must_use]
    pub fn with_flip_test(mut self) -> Self {
        self.extractor = self.extractor.with_flip_test();
        self
    }

    /// Computes in another precision. The embeddings that are returned remain in single precision.
    #[must_use]
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.extractor = self.extractor.with_precision(precision);
        self
    }

    /// Sets the number of images in a batch, 64 by default. A larger batch needs more memory.
    ///
    /// # Panics
    /// If `batch_size` is 0.
    #[must_use]
    pub fn with_batch_size(mut self, batch_size: usize) -> Self {
        self.extractor = self.extractor.with_batch_size(batch_size);
        self
    }

    /// Calls `progress` after each batch, with the number of images embedded so far and of all images.
    #[must_use]
    pub fn with_progress(
        mut self,
        progress: impl Fn(usize, usize) + Send + Sync + 'static,
    ) -> Self {
        self.extractor = self.extractor.with_progress(progress);
        self
    }

    /// The size to which images are resized.
    #[must_use]
    pub fn input(&self) -> InputSize {
        self.extractor.input()
    }

    /// The evaluation settings of the recipe; the default settings after [`new`](Self::new).
    #[must_use]
    pub fn evaluation(&self) -> &EvaluationConfig {
        &self.evaluation
    }

    /// Computes the embedding of an image in memory, of any size.
    ///
    /// # Errors
    /// If the embedding is not finite.
    pub fn embed(&self, image: &RgbImage) -> Result<Vec<f32>, Error> {
        let images = std::slice::from_ref(image);
        Ok(self.embed_images(images)?.row(0).to_vec())
    }

    /// Computes the embeddings of images in memory, of any sizes, in order.
    ///
    /// # Errors
    /// If there are no images, or an embedding is not finite.
    pub fn embed_images(&self, images: &[RgbImage]) -> Result<Embeddings, Error> {
        let model = &*self.model;
        Ok(self.extractor.embed_images(model, images, &self.device)?)
    }

    /// Computes a heat map of each image in memory: [Grad-CAM](reid_nn::Embed::grad_cam) of the training identity that
    /// the network finds most similar. It shows which positions of the image speak for this identity. `reid-vis` draws
    /// it over the image.
    ///
    /// ```no_run
    /// use reid_data::open_image;
    /// use reid_zoo::Embedder;
    ///
    /// let embedder = Embedder::open("run/best")?;
    /// let maps = embedder.heat_maps(&[open_image("someone.jpg")?])?;
    /// println!("{:?}", maps[0].values());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If there are no images, or the embedder was made of a model without Grad-CAM, such as an ensemble.
    ///
    /// # Panics
    /// If a map is not finite.
    pub fn heat_maps(&self, images: &[RgbImage]) -> Result<Vec<HeatMap>, Error> {
        if images.is_empty() {
            let split = Split::Gallery;
            return Err(reid_train::Error::NoImages { split }.into());
        }
        let images = self.extractor.prepare(images, &self.device);
        let maps = self.model.grad_cam(images).ok_or(Error::NoGradCam)?;
        Ok(heat_maps(maps))
    }

    /// Computes the embeddings of image files, in order, each with its path and an unknown identity.
    ///
    /// The headers of all files are read first, so that one early error lists all files that are not images.
    ///
    /// # Errors
    /// If there are no files, if files cannot be read, or an embedding is not finite.
    pub fn embed_files<P: Into<PathBuf>>(
        &self,
        files: impl IntoIterator<Item = P>,
    ) -> Result<Embeddings, Error> {
        let (model, files) = (&*self.model, files.into_iter().map(Into::into));
        Ok(self.extractor.embed_files(model, files, &self.device)?)
    }

    /// Computes the embeddings of samples, in order, with all their labels. Error messages name the `split`.
    ///
    /// # Errors
    /// If there are no samples, if an image cannot be read, if an embedding is not finite, or if only some of the
    /// samples have a camera.
    pub fn embed_samples(&self, samples: &[Sample], split: Split) -> Result<Embeddings, Error> {
        let model = &*self.model;
        Ok(self.extractor.embed(model, samples, split, &self.device)?)
    }

    /// Computes the embeddings of query and gallery. An image that is in both is recognised as the same image.
    ///
    /// # Errors
    /// As [`embed_samples`](Self::embed_samples).
    pub fn embed_splits(&self, splits: &Splits) -> Result<(Embeddings, Embeddings), Error> {
        let model = &*self.model;
        Ok(self.extractor.embed_both(model, splits, &self.device)?)
    }

    /// Evaluates the network on query and gallery, with the settings of [`evaluation`](Self::evaluation).
    ///
    /// # Errors
    /// As [`embed_samples`](Self::embed_samples), and if the data cannot be evaluated with these settings.
    pub fn evaluate(&self, splits: &Splits) -> Result<Report, Error> {
        let (query, gallery) = self.embed_splits(splits)?;
        let report = reid_eval::evaluate(&query, &gallery, &self.evaluation);
        Ok(report.map_err(reid_train::Error::from)?)
    }
}

impl std::fmt::Debug for Embedder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedder")
            .field("input", &self.input())
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}

/// Finds the checkpoint of a path that [`Embedder::open`] accepts.
fn find(path: &Path) -> Result<PathBuf, Error> {
    if path.join("state.json").is_file() {
        return Ok(path.to_owned());
    }
    let name = path.file_name().and_then(|name| name.to_str());
    let (run, kind) = match (name, path.parent(), path.exists()) {
        (Some("best"), Some(run), false) => (run, CheckpointKind::Best),
        (Some("last"), Some(run), false) => (run, CheckpointKind::Last),
        _ => (path, CheckpointKind::Best),
    };
    let run = Checkpoints::new(run);
    let found = match run.find(kind)? {
        Some(checkpoint) => Some(checkpoint),
        None => run.find(CheckpointKind::Last)?,
    };
    found.ok_or_else(|| Error::NoCheckpoint {
        path: path.to_owned(),
    })
}
