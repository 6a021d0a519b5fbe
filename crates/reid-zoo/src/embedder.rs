//! Embedder: computes embeddings of images with a trained network.

mod boxes;
mod fingerprint;
mod folder;
mod open;
mod published;
mod shards;
mod similarity;

use std::{path::PathBuf, sync::OnceLock};

use burn::tensor::Device;
use image::RgbImage;
use reid_core::{HeatMap, InputSize, Sample, Split, Splits};
use reid_data::{loader::LoaderConfig, transform::Normalise};
use reid_eval::{Embeddings, EvaluationConfig, Report, Threshold, gallery::ModelFingerprint};
use reid_nn::{Embed, Precision, heat_map::heat_maps};
use reid_train::{Extractor, Teacher};

#[cfg(feature = "hub")]
pub(crate) use self::folder::{CONFIG, WEIGHTS};
use self::open::Origin;
use crate::error::Error;

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
    /// Whether the classifier was loaded, so that heat maps have a meaning.
    has_classifier: bool,
    /// The largest distance of two images of the same identity, if it is known.
    threshold: Option<Threshold>,
    /// Where the model was read from, if its network is an architecture.
    origin: Option<Origin>,
}

impl Embedder {
    /// Creates an embedder from a model in memory, for images of size `input`, with the normalisation of `ImageNet`.
    ///
    /// The model must be in evaluation mode, as [`Model::evaluation`](reid_nn::Model::evaluation) returns it, and on
    /// `device`.
    #[must_use]
    pub fn new(model: impl Embed + 'static, input: InputSize, device: &Device) -> Self {
        Self {
            model: Box::new(model),
            extractor: Extractor::new(input, Normalise::IMAGENET, LoaderConfig::default()),
            evaluation: EvaluationConfig::default(),
            device: device.clone(),
            dimensions: OnceLock::new(),
            fingerprint: None,
            has_classifier: true,
            threshold: None,
            origin: None,
        }
    }

    /// Averages the embeddings of each image and its mirror image, without normalising them before. This doubles the
    /// work.
    #[must_use]
    pub fn with_flip_test(mut self) -> Self {
        self.extractor = self.extractor.with_flip_test();
        self
    }

    /// Sets the threshold of decisions, which is saved with the model ([`save`](Self::save)).
    ///
    /// It must be calibrated with embeddings of this embedder, with the same flip test, and with the metric of
    /// [`evaluation`](Self::evaluation).
    ///
    /// ```no_run
    /// use reid_data::dataset;
    /// use reid_eval::{Distances, Resampling, RetrievalTask, Threshold, gallery::Gallery};
    /// use reid_zoo::Embedder;
    ///
    /// let embedder = Embedder::open("run/best")?;
    /// let (query, gallery) = embedder.embed_splits(&dataset::load("validation")?)?;
    /// let evaluation = embedder.evaluation();
    /// let distances = Distances::between(&query, &gallery, evaluation.metric)?;
    /// let task = RetrievalTask::new(&distances, query.labels(), gallery.labels())
    ///     .with_protocol(&evaluation.protocol);
    /// let threshold = Threshold::calibrate(&task, 0.01, &Resampling::default())?;
    /// embedder.with_threshold(threshold).save("model")?;
    ///
    /// let embedder = Embedder::open("model")?; // perhaps in another program
    /// let gallery = Gallery::new(embedder.fingerprint()?, Default::default())
    ///     .with_threshold(embedder.threshold().expect("calibrated"));
    /// assert!(gallery.threshold().is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_threshold(mut self, threshold: Threshold) -> Self {
        self.threshold = Some(threshold);
        self
    }

    /// The threshold of decisions, if it was set or the model folder has one.
    #[must_use]
    pub fn threshold(&self) -> Option<Threshold> {
        self.threshold
    }

    /// Computes in another precision. The embeddings that are returned remain in single precision.
    #[must_use]
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.extractor = self.extractor.with_precision(precision);
        self
    }

    /// Sets the number of images in a batch, by default 8 on a CPU and 64 elsewhere. A larger batch needs more
    /// memory.
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

    /// The evaluation settings of the recipe; otherwise the default settings, unless a model folder has others.
    #[must_use]
    pub fn evaluation(&self) -> &EvaluationConfig {
        &self.evaluation
    }

    /// Turns the embedder into the teacher of a run
    /// ([`Trainer::with_teacher`](reid_train::Trainer::with_teacher)), with its precision, named by its fingerprint.
    /// The device must be that of the run. The flip test is not used.
    ///
    /// # Errors
    /// [`Error::NoFingerprint`] if the embedder was created from a model in memory without a name.
    pub fn into_teacher(self) -> Result<Teacher, Error> {
        let name = self.fingerprint.ok_or(Error::NoFingerprint)?;
        let (input, normalise) = (self.extractor.input(), self.extractor.normalise());
        let teacher = Teacher::new(self.model, input, normalise, name.as_str());
        Ok(teacher.with_precision(self.extractor.precision()))
    }

    /// Computes the embedding of an image in memory, of any size: `[dimensions]`.
    ///
    /// # Errors
    /// If the embedding is not finite.
    pub fn embed(&self, image: &RgbImage) -> Result<Vec<f32>, Error> {
        let images = std::slice::from_ref(image);
        Ok(self.embed_images(images)?.row(0).to_vec())
    }

    /// Computes the embeddings of images in memory, of any sizes, in order: `[images, dimensions]`.
    ///
    /// # Errors
    /// If there are no images, or an embedding is not finite.
    pub fn embed_images(&self, images: &[RgbImage]) -> Result<Embeddings, Error> {
        let model = &*self.model;
        Ok(self.extractor.embed_images(model, images, &self.device)?)
    }

    /// Computes a heat map of each image in memory: [Grad-CAM](reid_nn::Embed::grad_cam) of the training identity that
    /// the network finds most similar. It shows which positions of the image raise the score of this identity. `reid-vis`
    /// draws it over the image.
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
    /// If there are no images, if the embedder was made of a model without Grad-CAM, such as an ensemble, or if its
    /// weights were published without a classifier.
    ///
    /// # Panics
    /// If a map is not finite.
    pub fn heat_maps(&self, images: &[RgbImage]) -> Result<Vec<HeatMap>, Error> {
        if images.is_empty() {
            return Err(reid_train::Error::NoImages { split: None }.into());
        }
        if !self.has_classifier {
            return Err(Error::NoClassifier);
        }
        let images = self.extractor.prepare(images, &self.device);
        let maps = self.model.grad_cam(images).ok_or(Error::NoGradCam)?;
        Ok(heat_maps(maps))
    }

    /// Computes the embeddings of image files, in order, each with its path and an unknown identity:
    /// `[files, dimensions]`.
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

    /// Computes the embeddings of samples, in order, with all their labels: `[samples, dimensions]`. Error messages
    /// name the `split`.
    ///
    /// # Errors
    /// If there are no samples, if an image cannot be read, if an embedding is not finite, or if only some of the
    /// samples have a camera.
    pub fn embed_samples(&self, samples: &[Sample], split: Split) -> Result<Embeddings, Error> {
        let model = &*self.model;
        Ok(self.extractor.embed(model, samples, split, &self.device)?)
    }

    /// Computes the embeddings of query and gallery, in this order. An image that is in both is recognised as the
    /// same image.
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
