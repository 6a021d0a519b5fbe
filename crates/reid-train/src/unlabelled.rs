//! Training without labels: rounds of clustering and training on the clusters (Dai et al., Cluster Contrast
//! for Unsupervised Person Re-Identification, ACCV 2022, arXiv:2103.11568).

mod events;
mod record;
mod round;
mod schedule;
mod summary;
mod transfer;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use burn::tensor::Device;
use reid_core::{Identity, Problem, Problems, Sample, Split, Splits, Validate};
use reid_data::loader::LoaderConfig;
use reid_eval::{ClusteringConfig, Report};
use reid_nn::{Init, Network, loss::ClusterContrastConfig};

use self::record::Record;
pub use self::summary::{ClusterSummary, RoundSummary};
use crate::{
    checkpoint::{CheckpointKind, Checkpoints, Lock},
    error::{Error, at},
    event::{Event, Observer},
    extract::Extractor,
    interrupt::Interrupt,
    recipe::{Recipe, refused},
    trainer::Trainer,
};

/// Trains a model on images without labels, by cluster contrast.
///
/// Each epoch of the recipe is a round:
/// 1. Compute the embeddings of all training images, and cluster them ([`reid_eval::Clusters`]).
/// 2. Set the centroids of the criterion to the means of the clusters.
/// 3. Train an epoch on the images in clusters, with the cluster of an image as its label. The sampling of
///    the recipe draws P clusters with K images each, or all clusters if there are fewer than P. Outliers
///    are skipped.
///
/// The model starts from the weights that [`model_mut`](Self::model_mut) was given, such as published ones.
/// Its classifier has as many classes as there are clusters, is not trained, and is new in each round. The
/// states of the optimizers are kept from round to round.
///
/// Identities of the training images are not used for training. Where they are known, each round reports
/// how well the clusters agree with them. Queries and gallery images, if there are any, are evaluated as
/// the recipe says.
///
/// # Files
///
/// ```text
/// rounds.json                  the recipe, and the results of the finished rounds
/// round-0007/                  the run of the last round: its checkpoints
/// round-0007/clusters.json     the cluster of each training image
/// round-0005/                  that of the round with the highest mAP
/// ```
///
/// A round is a run of one epoch, with the guarantees of [`Checkpoints`]. `Embedder::open("out/round-0007")`
/// of `reid-zoo` opens its model.
///
/// Training that was interrupted at any moment resumes bit-identically, on backends with deterministic
/// operations. A round without a checkpoint starts again from the round before. A round with a checkpoint
/// resumes with the clusters that were saved.
///
/// Besides the model, memory is linear in the number of images. There are two caches of decoded images
/// ([`LoaderConfig::cache_bytes`]): one for the embeddings, and one for the training of a round.
///
/// ```
/// use burn::tensor::Device;
/// use reid_core::{Identity, InputSize};
/// use reid_data::dataset::market1501;
/// use reid_eval::ClusteringConfig;
/// use reid_nn::{backbone::ResNetConfig, head::BnNeckConfig, loss::ClusterContrastConfig};
/// use reid_synthetic::SyntheticConfig;
/// use reid_train::{Recipe, UnlabelledTrainer};
///
/// let folder = tempfile::tempdir()?;
/// let data = folder.path().join("people");
/// SyntheticConfig::new().with_train_identities(4).with_test_identities(2).write(&data)?;
/// let mut splits = market1501::load(&data)?;
/// for sample in &mut splits.train {
///     sample.identity = Identity::UNKNOWN;
/// }
///
/// let network = (ResNetConfig::resnet18().with_width(4), BnNeckConfig::new());
/// let recipe = Recipe::strong_baseline("toy", InputSize::new(32, 16), network);
/// let mut recipe = recipe.with_losses(ClusterContrastConfig::new());
/// recipe.epochs = 2;
/// (recipe.sampling.identities, recipe.sampling.images) = (2, 4);
///
/// let out = folder.path().join("out");
/// // There are few images of each person, so clusters are small.
/// let clustering = ClusteringConfig::default().with_neighbours(6, 2).with_epsilon(0.4).with_min_samples(2);
/// let outcome = UnlabelledTrainer::new(&recipe, &splits, &out, &Device::default())?
///     .with_clustering(clustering)?
///     .run(&mut ())?;
/// assert_eq!(outcome.history.len(), 2);
/// assert!(outcome.history[1].clusters.clusters >= 2);
/// assert!(outcome.report.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct UnlabelledTrainer<'a, N: Network> {
    recipe: Recipe<N, ClusterContrastConfig>,
    clustering: ClusteringConfig,
    splits: &'a Splits,
    folder: PathBuf,
    loading: LoaderConfig,
    extractor: Extractor,
    device: Device,
    interrupt: Interrupt,
    model: N::Model,
    /// The results of finished rounds, and what they belong to.
    record: Record,
    /// Whether `resume` was called.
    resumed: bool,
    warnings: Vec<Problem>,
}

/// The result of training without labels.
#[derive(Debug)]
#[non_exhaustive]
pub struct UnlabelledOutcome<M> {
    /// The model after the last step, on the autodiff counterpart of the device.
    pub model: M,
    /// The results of each finished round, from the first.
    pub history: Vec<RoundSummary>,
    /// The last evaluation of this call; `None` if no round was evaluated in it.
    pub report: Option<Report>,
    /// The folder of the last finished round, with its checkpoint.
    pub last: Option<PathBuf>,
    /// The folder of the round with the highest mAP; `None` if no round was evaluated.
    pub best: Option<PathBuf>,
    /// Whether the training was interrupted before its end.
    pub interrupted: bool,
}

impl<'a, N: Network> UnlabelledTrainer<'a, N> {
    /// Prepares training without labels on the training images of `splits`. The folder for checkpoints need
    /// not exist yet. The weights are drawn from the seed of the recipe. `device` is without autodiff.
    ///
    /// # Errors
    /// - [`Error::Recipe`] lists all settings that are invalid by themselves, for the device or for the data
    /// - [`Error::NoImages`] if there are no training images
    pub fn new(
        recipe: &Recipe<N, ClusterContrastConfig>,
        splits: &'a Splits,
        folder: impl Into<PathBuf>,
        device: &Device,
    ) -> Result<Self, Error> {
        if splits.train.is_empty() {
            let split = Split::Train;
            return Err(Error::NoImages { split: Some(split) });
        }
        let mut problems = Problems::new();
        let expected = "null in training without labels";
        if let Some(decay) = recipe.average_decay {
            problems.require("average_decay", false, expected, decay);
        }
        if let Some(swa) = recipe.swa {
            let found = format_args!("first_epoch {}", swa.first_epoch);
            problems.require("swa", false, expected, found);
        }
        let (balanced, expected) = (
            recipe.sampling.balanced_sources,
            "false in training without labels",
        );
        problems.require("sampling.balanced_sources", !balanced, expected, balanced);
        refused(None, problems)?;
        // At most, every image is a cluster.
        let labels: Vec<_> = (0..splits.train.len()).map(Some).collect();
        let most = labelled(splits, &labels, true);
        let warnings = recipe.validate_settings(&most, device)?;
        // A trainer checks the paths of groups too, which do not depend on the clusters.
        let few = recipe.sampling.identities.max(2).min(splits.train.len());
        let labels: Vec<_> = (0..splits.train.len())
            .map(|image| Some(image % few))
            .collect();
        let few = labelled(splits, &labels, true);
        let _checked = Trainer::new(recipe, &few, LoaderConfig::default(), device)?;
        let clustering = ClusteringConfig::default();
        let training = device.clone().autodiff();
        let init = Init::new(recipe.seed.named("weights"), &training);
        let loading = LoaderConfig::default();
        Ok(Self {
            record: Record::new(recipe, &clustering, &splits.train)?,
            model: recipe.network.init(recipe.input, 1, &init),
            extractor: Extractor::from_recipe(recipe, loading),
            recipe: recipe.clone(),
            clustering,
            splits,
            folder: folder.into(),
            loading,
            device: device.clone(),
            interrupt: Interrupt::new(),
            resumed: false,
            warnings,
        })
    }

    /// Sets the hyper-parameters of clustering.
    ///
    /// # Errors
    /// [`Error::Recipe`] lists those that are out of range.
    pub fn with_clustering(mut self, clustering: ClusteringConfig) -> Result<Self, Error> {
        let mut problems = Problems::new();
        problems.at("clustering", |problems| clustering.validate(problems));
        refused(None, problems)?;
        self.record.clustering = clustering.clone();
        Ok(Self {
            clustering,
            resumed: false, // what was loaded may be of other clusters
            ..self
        })
    }

    /// Sets the threads and the memory that loading images may use.
    #[must_use]
    pub fn with_loading(self, loading: LoaderConfig) -> Self {
        Self {
            extractor: Extractor::from_recipe(&self.recipe, loading),
            loading,
            ..self
        }
    }

    /// Sets the interrupt that stops the training.
    #[must_use]
    pub fn with_interrupt(self, interrupt: Interrupt) -> Self {
        Self { interrupt, ..self }
    }

    /// The model, to load published weights into it before the first round. It is on the autodiff
    /// counterpart of the device, and its classifier has one class. A model of the same network with any
    /// number of classes may replace it, such as one that was trained with labels on other data.
    pub fn model_mut(&mut self) -> &mut N::Model {
        &mut self.model
    }

    /// Loads what an earlier call has finished, so that the training resumes after it. Without files the
    /// training starts from the beginning. Writes nothing.
    ///
    /// Call it after the other methods. Recipe, clustering and training images must be the same as before;
    /// only the name, the number of epochs and the evaluation interval of the recipe may differ. The
    /// weights that the first round starts from are compared in no way: load the same ones.
    ///
    /// # Errors
    /// If a file cannot be read, is damaged, or belongs to another recipe or other data.
    pub fn resume(mut self) -> Result<Self, Error> {
        let saved = Record::read(&self.folder)?;
        if self.holds_training(saved.as_ref())?
            && let Some(record) = saved
        {
            self.record
                .accept::<N, ClusterContrastConfig>(record, &self.folder)?;
        }
        if let Some(last) = self.record.rounds.len().checked_sub(1) {
            self.model = self.load_model(&self.checkpoint_of(last)?)?;
        }
        self.resumed = true;
        Ok(self)
    }

    /// Trains until the last round is done or the training is interrupted.
    ///
    /// The observer receives the events of all rounds as those of one run whose epochs are the rounds, and
    /// [`Event::Clustered`] at the start of each round.
    ///
    /// # Errors
    /// - [`Error::HoldsRun`] if the folder holds such a training and [`resume`](Self::resume) was not called
    /// - [`Error::InUse`] if another process is training in the folder
    /// - [`Error::Clusters`] if a round finds fewer than two clusters
    /// - the errors of [`Trainer::run`](crate::Trainer::run) and [`Extractor::embed`]
    pub fn run(
        mut self,
        observer: &mut dyn Observer,
    ) -> Result<UnlabelledOutcome<N::Model>, Error> {
        let holds_run = self.holds_training(Record::read(&self.folder)?.as_ref())?;
        if holds_run && !self.resumed {
            let path = self.folder;
            return Err(Error::HoldsRun { path });
        }
        fs::create_dir_all(&self.folder).map_err(at(&self.folder))?;
        // The lock is held until the training ends.
        let _lock = Lock::take(&self.folder)?;
        self.record.write(&self.folder)?;
        for warning in &self.warnings {
            observer.observe(&Event::Warning(warning));
        }
        let (mut report, mut interrupted, mut is_first) = (None, false, true);
        while self.record.rounds.len() < self.recipe.epochs {
            if self.interrupt.is_requested() {
                observer.observe(&Event::Interrupted);
                interrupted = true;
                break;
            }
            let done = self.round(observer, is_first)?;
            is_first = false;
            self.model = done.model;
            report = done.report.or(report);
            let Some(summary) = done.summary else {
                interrupted = true;
                break;
            };
            self.record.rounds.push(summary);
            self.record.write(&self.folder)?;
            self.remove_other_rounds();
        }
        let path = |round: usize| self.round_folder(round);
        Ok(UnlabelledOutcome {
            last: self.record.rounds.len().checked_sub(1).map(path),
            best: self.record.best().map(path),
            model: self.model,
            history: self.record.rounds,
            report,
            interrupted,
        })
    }

    /// Whether a round is finished or has a checkpoint. Otherwise nothing is lost by starting again, also
    /// with other settings.
    fn holds_training(&self, record: Option<&Record>) -> Result<bool, Error> {
        let finished = record.is_some_and(|record| !record.rounds.is_empty());
        let first = Checkpoints::new(self.round_folder(0)).find(CheckpointKind::Last)?;
        Ok(finished || first.is_some())
    }

    /// The folder of a round, counted from 0.
    fn round_folder(&self, round: usize) -> PathBuf {
        self.folder.join(format!("round-{:04}", round + 1))
    }

    /// The last checkpoint of a finished round.
    fn checkpoint_of(&self, round: usize) -> Result<PathBuf, Error> {
        let folder = self.round_folder(round);
        let found = Checkpoints::new(&folder).find(CheckpointKind::Last)?;
        found.ok_or(Error::Damaged { path: folder })
    }

    /// Loads the model of a checkpoint, with the identifiers of its parameters.
    fn load_model(&self, checkpoint: &Path) -> Result<N::Model, Error> {
        let classes = Checkpoints::classes(checkpoint)?.len();
        let training = self.device.clone().autodiff();
        let (network, input) = (&self.recipe.network, self.recipe.input);
        let model = network.init(input, classes, &Init::empty(&training));
        Checkpoints::load_model(checkpoint, model)
    }

    /// Removes the folders of finished rounds, except the last and the best one. A folder that cannot be
    /// removed stays.
    fn remove_other_rounds(&self) {
        let finished = self.record.rounds.len();
        let best = self.record.best();
        for round in (0..finished - 1).filter(|&round| Some(round) != best) {
            let folder = self.round_folder(round);
            if folder.exists() {
                let _ = fs::remove_dir_all(folder);
            }
        }
    }
}

/// The samples whose label is known, with their label as identity, and the queries and the gallery if they
/// are evaluated.
fn labelled(splits: &Splits, labels: &[Option<usize>], evaluated: bool) -> Splits {
    let pairs = splits.train.iter().zip(labels);
    let train = pairs.filter_map(|(sample, label)| {
        let label = i64::try_from((*label)?).expect("fewer than 2⁶³ clusters");
        let mut sample: Sample = sample.clone();
        sample.identity = Identity::new(label);
        sample.attributes.clear();
        Some(sample)
    });
    let labelled = Splits::new(&splits.name).with_train(train.collect());
    if evaluated {
        labelled
            .with_query(splits.query.clone())
            .with_gallery(splits.gallery.clone())
    } else {
        labelled
    }
}

impl<N: Network> fmt::Debug for UnlabelledTrainer<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnlabelledTrainer")
            .field("recipe", &self.recipe.name)
            .field("clustering", &self.clustering)
            .field("folder", &self.folder)
            .field("rounds", &self.record.rounds.len())
            .finish_non_exhaustive()
    }
}
