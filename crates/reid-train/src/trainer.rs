//! The trainer: the parts of a run and the training loop.

mod continued;
mod ranks;
mod start;

use std::{fmt, path::Path};

use burn::optim::{ModuleOptimizer, Optimizer};
use reid_core::{Problem, Problems};
use reid_data::{sampler::Sampler, transform::Transform};
use reid_eval::{Classification, Report, SegmentationReport};

use crate::{
    checkpoint::{CheckpointKind, Checkpoints, load_parts},
    clock::Clock,
    error::Error,
    event::{Event, Observer},
    groups::{Optimizers, validate_freezing, validate_paths},
    headers,
    history::EpochSummary,
    interrupt::Interrupt,
    learner::{AnyLearner, Learner, LearnerParts, Slot},
    parallel::guarded,
    recipe::refused,
    run::{Parts, Run},
    schedule::RateSchedule,
    task::{Evaluation, ImageTask, Task},
    teacher::Teacher,
};

/// Trains a model by a recipe, evaluates it, saves checkpoints and resumes bit-identically.
///
/// All random streams are functions of the seed and of the position in the run. Checkpoints hold the rest
/// of the state. A run that was interrupted at any step therefore ends with the same weights as an
/// uninterrupted one, on backends with deterministic operations, such as Flex.
///
/// Each part of a run can be of a custom type:
/// - the network ([`Network`](reid_nn::Network)) and the losses
///   ([`CriterionConfig`](reid_nn::CriterionConfig)), as types in the recipe
/// - the optimizer, the schedule, the sampler and the image transforms, by the methods here
/// - the whole training step, as a [`Learner`]
///
/// [`new`](Self::new) and [`with_learner`](Self::with_learner) train for re-identification or classification,
/// and [`segmentation`](Self::segmentation) for semantic segmentation. Everything else is the same for all
/// tasks ([`Task`]).
///
/// An [`Observer`] receives the events of the run.
///
/// Burn's learner is not used, because it has no identity batches and no ranking, and cannot resume inside an
/// epoch.
///
/// ```
/// use burn::tensor::Device;
/// use reid_core::InputSize;
/// use reid_data::{dataset::market1501, loader::LoaderConfig};
/// use reid_synthetic::SyntheticConfig;
/// use reid_nn::{backbone::ResNetConfig, head::BnNeckConfig};
/// use reid_train::{Recipe, Trainer};
///
/// let folder = tempfile::tempdir()?;
/// SyntheticConfig::new().with_train_identities(4).with_test_identities(2).write(folder.path())?;
/// let splits = market1501::load(folder.path())?;
///
/// let network = (ResNetConfig::resnet18().with_width(4), BnNeckConfig::new());
/// let mut recipe = Recipe::strong_baseline("toy", InputSize::new(32, 16), network);
/// (recipe.epochs, recipe.sampling.identities) = (1, 4);
///
/// let trainer = Trainer::new(&recipe, &splits, LoaderConfig::default(), &Device::default())?;
/// let outcome = trainer.run(&mut ())?;
/// assert!(outcome.report.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Trainer<'a, L: LearnerParts, T: Task<L> = ImageTask<'a>> {
    run: Run<'a>,
    learner: Slot<L, T>,
    optimizers: Optimizers,
    warnings: Vec<Problem>,
}

/// The result of a run.
#[derive(Debug)]
#[non_exhaustive]
pub struct Outcome<L: LearnerParts> {
    /// The learner after the last step.
    pub learner: L,
    /// The model with averaged weights, if the recipe averages them. It is the model that was evaluated. With
    /// [`Swa`](crate::Swa), `None` before the first weights are in the mean.
    pub average: Option<L::Model>,
    /// The results of each epoch, from the start of the run.
    pub history: Vec<EpochSummary>,
    /// The last evaluation of this call. `None` if the call was interrupted before one, or if the data have
    /// no queries. A completed run with queries always has one.
    pub report: Option<Report>,
    /// The last classification of the test images in this call. `None` if the call was interrupted before
    /// one, or if the data have no test images.
    pub classification: Option<Classification>,
    /// The last segmentation of the validation images in this call. `None` if the call was interrupted before
    /// one, or if the task is another one.
    pub segmentation: Option<SegmentationReport>,
    /// Whether the run was interrupted before its end.
    pub interrupted: bool,
}

impl<L: LearnerParts> Outcome<L> {
    /// The model that is evaluated: the one with averaged weights if there is one, on a plain device, and otherwise
    /// the trained one, on an autodiff device.
    #[must_use]
    pub fn model(&self) -> &L::Model {
        let trained = || self.learner.model();
        self.average.as_ref().unwrap_or_else(trained)
    }
}

impl<L: Learner> Trainer<'_, L> {
    /// Replaces the sampling of the recipe by a custom sampler.
    #[must_use]
    pub fn with_sampler(mut self, sampler: impl Sampler + 'static) -> Self {
        self.run.note("sampler", format!("{sampler:?}"));
        self.learner.task.sampler = Box::new(sampler);
        self.learner.task.sampling = None;
        self
    }

    /// Applies a custom transform to training images, after the augmentation of the recipe.
    #[must_use]
    pub fn with_transform(mut self, transform: impl Transform + 'static) -> Self {
        self.run.note_transform(format!("{transform:?}"));
        self.learner.task.add_transform(transform);
        self
    }

    /// Sets a teacher. A loss of the recipe compares the model with it, such as
    /// [`LossesConfig::distillation`](crate::LossesConfig::distillation); a custom learner finds its embeddings in
    /// the [`TrainingStep`](reid_nn::TrainingStep).
    ///
    /// Call it before [`resume`](Self::resume). When the run starts, a teacher that no loss uses, that is on another
    /// device, or whose embeddings do not fit the loss, is an error. So is a loss without its teacher.
    ///
    /// ```
    /// use burn::tensor::Device;
    /// use reid_core::{InputSize, Seed};
    /// use reid_data::{dataset::market1501, loader::LoaderConfig, transform::Normalise};
    /// use reid_nn::loss::{DistillationConfig, WeightedConfig};
    /// use reid_nn::{Init, Model, Network, backbone::ResNetConfig, head::BnNeckConfig};
    /// use reid_synthetic::SyntheticConfig;
    /// use reid_train::{Recipe, Teacher, Trainer};
    ///
    /// let folder = tempfile::tempdir()?;
    /// SyntheticConfig::new().with_train_identities(4).with_test_identities(2).write(folder.path())?;
    /// let (splits, device) = (market1501::load(folder.path())?, Device::default());
    ///
    /// let network = |width| (ResNetConfig::resnet18().with_width(width), BnNeckConfig::new());
    /// let (size, init) = (InputSize::new(32, 16), Init::new(Seed::new(1), &device));
    /// let large = network(8).init(size, 4, &init); // usually a trained model
    /// let teacher = Teacher::new(large.evaluation(), size, Normalise::IMAGENET, "seed 1");
    ///
    /// let mut recipe = Recipe::strong_baseline("small", size, network(4));
    /// (recipe.epochs, recipe.sampling.identities) = (1, 4);
    /// let criterion = DistillationConfig::new();
    /// recipe.losses.distillation = Some(WeightedConfig { weight: 10.0, criterion });
    /// let trainer = Trainer::new(&recipe, &splits, LoaderConfig::default(), &device)?;
    /// let outcome = trainer.with_teacher(teacher).run(&mut ())?;
    /// let mut losses = outcome.history[0].losses.iter();
    /// assert!(losses.any(|(name, value)| name == "distillation" && *value > 0.0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_teacher(mut self, teacher: Teacher) -> Self {
        self.run.note("teacher", teacher.identity());
        self.learner.task.teacher = Some(teacher);
        self
    }
}

impl<'a, L: LearnerParts, T: Task<L>> Trainer<'a, L, T> {
    fn of_run(run: Run<'a>, learner: Slot<L, T>, warnings: Vec<Problem>) -> Result<Self, Error> {
        let mut problems = Problems::new();
        let parameters = learner.parameters();
        if !parameters.iter().any(|parameter| parameter.trained) {
            problems.add(
                "a learner on an autodiff device with at least one trained parameter",
                "no parameter that requires a gradient",
            );
        }
        validate_paths(&run.settings.groups, &parameters, &mut problems);
        validate_freezing(&run.settings.groups, &parameters, &mut problems);
        let layer_decay = run.layer_decay();
        if let Some(layer_decay) = &layer_decay {
            layer_decay.validate(&parameters, &mut problems);
        }
        refused(None, problems)?;
        let (base, groups) = (run.settings.optimizer.init(), &run.settings.groups);
        let optimizers = Optimizers::new(&base, groups, layer_decay);
        Ok(Self {
            run,
            learner,
            optimizers,
            warnings,
        })
    }

    /// The learner, for example to load pretrained weights into its model before the run starts.
    pub fn learner_mut(&mut self) -> &mut L {
        self.learner.learner_mut()
    }

    /// Replaces the optimizer of the recipe by a custom one. Parameter groups with an optimizer keep theirs.
    #[must_use]
    pub fn with_optimizer<O>(mut self, optimizer: O) -> Self
    where
        O: Optimizer + fmt::Debug + 'static,
        ModuleOptimizer: From<O>,
    {
        self.run.note("optimizer", format!("{optimizer:?}"));
        let base = ModuleOptimizer::from(optimizer);
        let layer_decay = self.run.layer_decay();
        self.optimizers = Optimizers::new(&base, &self.run.settings.groups, layer_decay);
        self
    }

    /// Replaces the schedule of the recipe by a custom one.
    #[must_use]
    pub fn with_schedule(mut self, schedule: impl RateSchedule + 'static) -> Self {
        self.run.note("schedule", format!("{schedule:?}"));
        self.run.schedule = Box::new(schedule);
        self
    }

    /// Saves a checkpoint after every epoch, before the evaluation, and when the run is interrupted. The
    /// recipe is written to `recipe.json` in the same folder.
    #[must_use]
    pub fn with_checkpoints(mut self, checkpoints: Checkpoints) -> Self {
        self.run.checkpoints = Some(checkpoints);
        // An earlier `resume` was of other checkpoints.
        self.run.resumed = false;
        self
    }

    /// Sets the interrupt that stops the run.
    #[must_use]
    pub fn with_interrupt(mut self, interrupt: Interrupt) -> Self {
        self.run.interrupt = interrupt;
        self
    }

    /// Loads the last checkpoint, so that the run resumes from it. Without a checkpoint the run starts from
    /// the beginning. Writes nothing.
    ///
    /// Call it after the methods that set custom parts, which are compared with those of the checkpoint.
    /// Parts that change after this call are compared again when the run starts.
    ///
    /// The recipe must be that of the checkpoint. Only its name, the number of epochs, the evaluation interval
    /// and the window of segmentation may differ. The training images must be the same, in the same order,
    /// but their folder may have moved.
    ///
    /// # Errors
    /// - [`Error::NoCheckpoints`] if [`with_checkpoints`](Self::with_checkpoints) was not called before
    /// - if the checkpoint cannot be read, is damaged, or belongs to another recipe or other data
    pub fn resume(mut self) -> Result<Self, Error> {
        let checkpoints = self.run.checkpoints.as_ref();
        let checkpoints = checkpoints.ok_or(Error::NoCheckpoints)?;
        if let Some(checkpoint) = checkpoints.find(CheckpointKind::Last)? {
            self.load(&checkpoint)?;
        }
        self.run.resumed = true;
        Ok(self)
    }

    fn load(&mut self, checkpoint: &Path) -> Result<(), Error> {
        let state = Checkpoints::read_whole(checkpoint)?;
        self.run.accept(&state, checkpoint)?;
        let averaged = self.run.settings.has_average(&state.averaged);
        load_parts(
            checkpoint,
            &mut self.learner,
            &mut self.optimizers,
            averaged,
        )?;
        self.run.resume_from(state, checkpoint);
        Ok(())
    }

    /// Trains until the last epoch is done or the run is interrupted. A resumed run that was already
    /// complete is only evaluated again, so that its report is available.
    ///
    /// Reads the header of every image first.
    ///
    /// # Errors
    /// - [`Error::HoldsRun`] if the folder of the checkpoints holds a run and [`resume`](Self::resume) was
    ///   not called
    /// - [`Error::InUse`] if another process is training in that folder
    /// - [`Error::Images`] or [`Error::Data`] if images cannot be opened or loaded, or batches cannot be
    ///   drawn
    /// - [`Error::NotFinite`], [`Error::WeightsNotFinite`], [`Error::StatisticsNotFinite`] or
    ///   [`Error::Embedding`] if values are not finite
    /// - [`Error::OtherRecipe`] if custom parts changed after `resume`
    /// - [`Error::Recipe`] if the losses and the [teacher](Self::with_teacher) do not fit each other, or if the
    ///   run has fewer steps than the mean of [`Swa`](crate::Swa) needs
    /// - [`Error::Ranks`] or [`Error::OtherRank`] if another [rank](Self::with_ranks) ends or differs
    /// - if the model cannot be evaluated, or a checkpoint cannot be written
    ///
    /// An error leaves the earlier checkpoints unchanged. An epoch whose evaluation failed is not trained
    /// again.
    pub fn run(self, observer: &mut dyn Observer) -> Result<Outcome<L>, Error> {
        let ranks = self.run.parallel.as_ref().map(|all| all.ranks.clone());
        guarded(ranks, || self.run_rank(observer))
    }

    fn run_rank(self, observer: &mut dyn Observer) -> Result<Outcome<L>, Error> {
        let Self {
            mut run,
            mut learner,
            mut optimizers,
            warnings,
        } = self;
        if run.parallel.is_some() {
            // Burn would merge the graphs of clones on several ranks, which would then wait for each other forever.
            learner.detach();
        }
        for warning in &warnings {
            observer.observe(&Event::Warning(warning));
        }
        learner.task.validate(learner.learner())?;
        // Only now, because a learner that was loaded or replaced has other identifiers.
        optimizers.find_members(&learner);
        let mut parts = Parts {
            learner: &mut learner,
            optimizers: &mut optimizers,
        };
        let interrupted = train(&mut run, &mut parts, observer)?;
        let (learner, average) = learner.into_parts();
        let Evaluation {
            report,
            classification,
            segmentation,
        } = run.evaluation.unwrap_or_default();
        Ok(Outcome {
            learner,
            average,
            history: run.state.history,
            report,
            classification,
            segmentation,
            interrupted,
        })
    }
}

/// Runs the training loop. Returns whether it was interrupted.
fn train(
    run: &mut Run<'_>,
    parts: &mut Parts<'_>,
    observer: &mut dyn Observer,
) -> Result<bool, Error> {
    // These checks come before anything is written.
    run.refuse_changed_parts()?;
    headers::check(&run.files, &run.label_maps, observer)?;
    run.agree(parts.learner)?;
    // The lock is held until the run ends.
    let _lock = run.prepare()?;
    observer.observe(&run.started(parts.learner));
    if run.settings.average_decay.is_some() {
        parts.learner.begin_average();
    }
    let mut clock = Clock::default();
    while run.has_work(parts.learner) {
        if run.stops()? {
            run.save(parts, observer)?;
            observer.observe(&Event::Interrupted);
            return Ok(true);
        }
        if run.renewal_is_due(parts.learner) {
            run.renew(parts, observer)?;
        } else if run.evaluation_is_due(parts.learner) {
            run.evaluate(parts, observer)?;
        } else if run.epoch(parts, &mut clock, observer)? {
            run.end_epoch(parts, observer)?;
        }
    }
    Ok(false)
}

impl<L: LearnerParts, T: Task<L>> fmt::Debug for Trainer<'_, L, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trainer")
            .field("recipe", &self.run.settings.name)
            .field("epoch", &self.run.state.epoch)
            .field("step", &self.run.state.step)
            .finish_non_exhaustive()
    }
}
