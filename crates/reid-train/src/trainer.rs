//! The trainer: what a run is made of, and its loop.

use std::{fmt, path::Path};

use burn::{
    optim::{ModuleOptimizer, Optimizer},
    tensor::Device,
};
use reid_core::{Problem, Problems, Splits};
use reid_data::{loader::LoaderConfig, sampler::Sampler, transform::Transform};
use reid_eval::Report;
use reid_nn::{Criterion, CriterionConfig, Model, Network};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    checkpoint::{CheckpointKind, Checkpoints, load_parts},
    clock::Clock,
    error::Error,
    event::{Event, Observer},
    groups::{Optimizers, validate_freezing, validate_paths},
    headers,
    history::EpochSummary,
    interrupt::Interrupt,
    learner::{AnyLearner, Learner, ReidLearner, Slot},
    recipe::{Recipe, refused},
    run::{Parts, Run},
    schedule::RateSchedule,
};

/// Trains by a recipe: learns, evaluates, saves, and resumes to the same bits.
///
/// The order of the data and every random draw are functions of the recipe's seed and of the position in
/// the run, and a checkpoint holds the rest, so a run that was interrupted anywhere ends in the same
/// weights as one that was not (on backends whose operations repeat, such as Flex).
///
/// A recipe is a preset of all that is decided about a run. Each of its parts can be one of a type of one's own:
/// the network ([`Network`]) and the losses ([`CriterionConfig`]) within the recipe; the optimizer, the schedule,
/// the sampler and the transforms of images by the methods here; the whole training step as a [`Learner`]. Who wants to be told
/// what happens is an [`Observer`].
///
/// Burn's own learner is not used: it knows neither identity batches nor ranking, and cannot resume
/// inside an epoch.
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
pub struct Trainer<'a, L: Learner> {
    run: Run<'a>,
    learner: Slot<L>,
    optimizers: Optimizers,
    warnings: Vec<Problem>,
}

/// How a run ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct Outcome<L: Learner> {
    /// The learner as after the last step.
    pub learner: L,
    /// The model whose weights are the mean over the steps, if the recipe averages them; it was the one that was
    /// evaluated.
    pub average: Option<L::Model>,
    /// What each epoch came to.
    pub history: Vec<EpochSummary>,
    /// The last evaluation of this call; none if it was interrupted before one, or if the data have
    /// no queries. A run that ended has one.
    pub report: Option<Report>,
    /// Whether someone asked the run to stop before its end.
    pub interrupted: bool,
}

impl<'a, M: Model, C: Criterion> Trainer<'a, ReidLearner<M, C>> {
    /// A run at its beginning: the recipe's network and losses, with weights drawn from its seed. `device` is a
    /// plain one; the learner is on its autodiff twin.
    ///
    /// # Errors
    /// [`Error::Recipe`] lists all that is impossible about the recipe, the device and the data together.
    pub fn new<N, L>(
        recipe: &Recipe<N, L>,
        splits: &'a Splits,
        loading: LoaderConfig,
        device: &Device,
    ) -> Result<Self, Error>
    where
        N: Network<Model = M>,
        L: CriterionConfig<Criterion = C> + Clone + Serialize + DeserializeOwned,
    {
        let warnings = recipe.validate_settings(splits, device)?;
        let run = Run::new(recipe, splits, loading, device)?;
        let learner = ReidLearner::build(recipe, run.state.classes.len(), device);
        Self::of_run(run, learner, warnings)
    }
}

impl<'a, L: Learner> Trainer<'a, L> {
    /// A run of a learner of one's own, on the autodiff twin of `device`. The recipe's network and losses are
    /// saved with it and must be the same when it resumes, but do not build anything.
    ///
    /// # Errors
    /// As [`new`](Self::new), but for the network and the losses.
    pub fn with_learner<N, C>(
        recipe: &Recipe<N, C>,
        splits: &'a Splits,
        learner: L,
        loading: LoaderConfig,
        device: &Device,
    ) -> Result<Self, Error>
    where
        N: Network,
        C: CriterionConfig + Clone + Serialize + DeserializeOwned,
    {
        let warnings = recipe.validate_settings(splits, device)?;
        let mut run = Run::new(recipe, splits, loading, device)?;
        run.note("learner", std::any::type_name::<L>().to_owned());
        Self::of_run(run, learner, warnings)
    }

    fn of_run(run: Run<'a>, learner: L, warnings: Vec<Problem>) -> Result<Self, Error> {
        let learner = Slot::new(learner);
        let mut problems = Problems::new();
        let parameters = learner.parameters();
        if !parameters.iter().any(|parameter| parameter.trained) {
            problems.add(
                "a learner on an autodiff device, with parameters that are trained",
                "no parameter that takes a gradient",
            );
        }
        validate_paths(&run.recipe.groups, &parameters, &mut problems);
        validate_freezing(&run.recipe.groups, &parameters, &mut problems);
        refused(None, problems)?;
        let mut optimizers = Optimizers::new(&run.recipe.optimizer.init(), &run.recipe.groups);
        optimizers.join(&learner);
        Ok(Self {
            run,
            learner,
            optimizers,
            warnings,
        })
    }

    /// The learner as it is now, such as to load weights that were trained elsewhere into its model before the run
    /// begins.
    pub fn learner_mut(&mut self) -> &mut L {
        self.learner.learner_mut()
    }

    /// Learns by an optimizer of one's own instead of the recipe's; groups with an optimizer keep theirs.
    #[must_use]
    pub fn with_optimizer<O>(mut self, optimizer: O) -> Self
    where
        O: Optimizer + fmt::Debug + 'static,
        ModuleOptimizer: From<O>,
    {
        self.run.note("optimizer", format!("{optimizer:?}"));
        let base = ModuleOptimizer::from(optimizer);
        self.optimizers = Optimizers::new(&base, &self.run.recipe.groups);
        self.optimizers.join(&self.learner);
        self
    }

    /// Learns at the rates of a schedule of one's own instead of the recipe's.
    #[must_use]
    pub fn with_schedule(mut self, schedule: impl RateSchedule + 'static) -> Self {
        self.run.note("schedule", format!("{schedule:?}"));
        self.run.schedule = Box::new(schedule);
        self
    }

    /// Chooses batches by a sampler of one's own instead of the recipe's sampling.
    #[must_use]
    pub fn with_sampler(mut self, sampler: impl Sampler + 'static) -> Self {
        self.run.note("sampler", format!("{sampler:?}"));
        self.run.sampler = Box::new(sampler);
        self
    }

    /// Applies a transform of one's own to training images, behind those of the recipe's augmentation.
    #[must_use]
    pub fn with_transform(mut self, transform: impl Transform + 'static) -> Self {
        self.run.add_transform(transform);
        self
    }

    /// Saves a checkpoint after every epoch, before it is evaluated, and when interrupted. The recipe is
    /// written beside them as `recipe.json`.
    #[must_use]
    pub fn with_checkpoints(mut self, checkpoints: Checkpoints) -> Self {
        self.run.checkpoints = Some(checkpoints);
        // What was resumed before was another folder, or none.
        self.run.resumed = false;
        self
    }

    /// Stops when asked.
    #[must_use]
    pub fn with_interrupt(mut self, interrupt: Interrupt) -> Self {
        self.run.interrupt = interrupt;
        self
    }

    /// Goes on from the last checkpoint; from the beginning if there is none yet. Nothing is written. It comes
    /// behind all parts of one's own, which are compared with those of the checkpoint.
    ///
    /// The recipe must be the one that the run was begun with, except for its name, the number of
    /// epochs, and how often it is evaluated: those may change. The training images must be the same ones,
    /// in the same order; the folder that they are in may have moved.
    ///
    /// # Errors
    /// [`Error::NoCheckpoints`] before [`with_checkpoints`](Self::with_checkpoints); if a checkpoint cannot be read, is
    /// damaged, or belongs to another recipe or other data. What is changed after this call is compared again when the
    /// run begins.
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
        let averaged = self.run.recipe.average_decay.is_some();
        load_parts(
            checkpoint,
            &mut self.learner,
            &mut self.optimizers,
            averaged,
        )?;
        self.run.go_on_from(state, checkpoint);
        Ok(())
    }

    /// Trains to the end, or until interrupted. A run that is complete already is evaluated once more, so
    /// that its report is there whenever the process before this one ended.
    ///
    /// The header of every image is read first.
    ///
    /// # Errors
    /// - [`Error::HoldsRun`] if the folder of the checkpoints holds a run and [`resume`](Self::resume) was not
    ///   called, [`Error::InUse`] if another process trains there
    /// - if images cannot be opened or loaded, batches cannot be made, a loss, gradient, weight or embedding is not
    ///   finite, the model cannot be evaluated, or a checkpoint cannot be written. The checkpoints are then
    ///   as they were; an epoch whose evaluation failed is not repeated.
    pub fn run(self, observer: &mut dyn Observer) -> Result<Outcome<L>, Error> {
        let Self {
            mut run,
            mut learner,
            mut optimizers,
            warnings,
        } = self;
        for warning in &warnings {
            observer.observe(&Event::Warning(warning));
        }
        let mut parts = Parts {
            learner: &mut learner,
            optimizers: &mut optimizers,
        };
        let interrupted = train(&mut run, &mut parts, observer)?;
        let (learner, average) = learner.into_parts();
        Ok(Outcome {
            learner,
            average,
            history: run.state.history,
            report: run.report,
            interrupted,
        })
    }
}

/// The loop; says whether it was interrupted.
fn train(
    run: &mut Run<'_>,
    parts: &mut Parts<'_>,
    observer: &mut dyn Observer,
) -> Result<bool, Error> {
    // Before anything is written.
    run.refuse_changed_parts()?;
    headers::check(run.splits, observer)?;
    // Held until the run ends.
    let _lock = run.prepare()?;
    observer.observe(&run.started(parts.learner));
    if run.recipe.average_decay.is_some() {
        parts.learner.begin_average();
    }
    let mut clock = Clock::default();
    while run.has_work() {
        if run.interrupt.is_requested() {
            run.save(parts, observer)?;
            observer.observe(&Event::Interrupted);
            return Ok(true);
        }
        if run.evaluation_is_due() {
            run.evaluate(parts, observer)?;
        } else if run.epoch(parts, &mut clock, observer)? {
            run.end_epoch(parts, observer)?;
        }
    }
    Ok(false)
}

impl<L: Learner> fmt::Debug for Trainer<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trainer")
            .field("recipe", &self.run.recipe.name)
            .field("epoch", &self.run.state.epoch)
            .field("step", &self.run.state.step)
            .finish_non_exhaustive()
    }
}
