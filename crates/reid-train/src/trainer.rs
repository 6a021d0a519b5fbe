//! The training loop.

use burn::tensor::Device;
use reid_core::{Problem, Splits};
use reid_data::loader::LoaderConfig;
use reid_eval::Report;
use reid_nn::{Block, Criterion, Head, ValidateNetwork};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    checkpoint::{CheckpointKind, Checkpoints, Parts},
    clock::Clock,
    error::Error,
    event::{Event, Observer},
    headers,
    history::EpochSummary,
    interrupt::Interrupt,
    learner::Learner,
    optimizer::OptimizerConfig,
    recipe::Recipe,
    run::Run,
};

/// Trains by a recipe: learns, evaluates, saves, and resumes to the same bits.
///
/// The order of the data and every random draw are functions of the recipe's seed and of the place in
/// the run, and a checkpoint holds the rest, so a run that was interrupted anywhere ends in the same
/// weights as one that was not (on backends whose operations repeat, such as Flex).
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
/// use reid_train::{Recipe, Learner, Trainer};
///
/// let folder = tempfile::tempdir()?;
/// SyntheticConfig::new().with_train_identities(4).with_test_identities(2).write(folder.path())?;
/// let splits = market1501::load(folder.path())?;
///
/// let network = ResNetConfig::resnet18().with_width(4);
/// let mut recipe = Recipe::strong_baseline("toy", InputSize::new(32, 16), network);
/// (recipe.epochs, recipe.sampling.identities) = (1, 4);
///
/// let (device, identities) = (Device::default(), splits.statistics().train.identities);
/// let learner = Learner::build(&recipe, &recipe.network, &BnNeckConfig::new(), identities, &device);
/// let trainer = Trainer::new(&recipe, &splits, learner, LoaderConfig::default(), &device)?;
/// let outcome = trainer.run(&mut ())?;
/// assert!(outcome.report.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Trainer<'a, N, B, H, C> {
    run: Run<'a, N>,
    parts: Parts<B, H, C>,
    warnings: Vec<Problem>,
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome<B, H, C> {
    /// The model as after the last step, with its criterion.
    pub learner: Learner<B, H, C>,
    /// What each epoch came to.
    pub history: Vec<EpochSummary>,
    /// The last evaluation of this call; none if it was interrupted before one, or if the data have
    /// no queries. A run that ended has one.
    pub report: Option<Report>,
    /// Whether someone asked the run to stop before its end.
    pub interrupted: bool,
}

impl<'a, N, B: Block, H: Head, C: Criterion> Trainer<'a, N, B, H, C>
where
    N: Serialize + ValidateNetwork,
{
    /// A run at its beginning. `device` is a plain one; the trainee is on its autodiff twin, as
    /// [`Learner::build`] makes it.
    ///
    /// # Errors
    /// [`Error::Recipe`] lists all that is impossible about the recipe, the device and the data together.
    pub fn new(
        recipe: &'a Recipe<N>,
        splits: &'a Splits,
        learner: Learner<B, H, C>,
        loading: LoaderConfig,
        device: &Device,
    ) -> Result<Self, Error> {
        let warnings = recipe.validate_settings(splits, device)?;
        let centers = OptimizerConfig::Sgd {
            momentum: 0.0,
            nesterov: false,
            weight_decay: 0.0,
        };
        let parts = Parts {
            learner,
            optimizer: recipe.optimizer.init(),
            criterion_optimizer: centers.init(),
        };
        let run = Run::new(recipe, splits, loading, device)?;
        Ok(Self {
            run,
            parts,
            warnings,
        })
    }

    /// Saves a checkpoint after every epoch, before it is evaluated, and when interrupted. The recipe is
    /// written beside them as `recipe.json`.
    #[must_use]
    pub fn with_checkpoints(mut self, checkpoints: Checkpoints) -> Self {
        self.run.checkpoints = Some(checkpoints);
        self
    }

    /// Stops when asked.
    #[must_use]
    pub fn with_interrupt(mut self, interrupt: Interrupt) -> Self {
        self.run.interrupt = interrupt;
        self
    }

    /// Goes on from the last checkpoint; from the beginning if there is none yet. Nothing is written.
    ///
    /// The recipe must be the one that the run was begun with, except for its name, the number of
    /// epochs, and how often it is evaluated: those may change. The training images must be the same ones,
    /// in the same order; the folder that they are in may have moved.
    ///
    /// # Errors
    /// If a checkpoint cannot be read, is damaged, or belongs to another recipe or other data.
    pub fn resume(mut self) -> Result<Self, Error>
    where
        N: DeserializeOwned,
    {
        let last = match &self.run.checkpoints {
            Some(checkpoints) => checkpoints.find(CheckpointKind::Last)?,
            None => None,
        };
        if let Some(checkpoint) = last {
            let state = Checkpoints::read_whole(&checkpoint)?;
            self.run.accept(&state, &checkpoint)?;
            self.parts = self.parts.load(&checkpoint)?;
            self.run.go_on_from(state);
        }
        self.run.resumed = true;
        Ok(self)
    }

    /// Trains to the end, or until interrupted. A run that is complete already is evaluated once more, so
    /// that its report is there whenever the process before this one ended.
    ///
    /// The header of every image is read first.
    ///
    /// # Errors
    /// - [`Error::HoldsRun`] if the folder of the checkpoints holds a run and [`resume`](Self::resume) was not
    ///   called, [`Error::InUse`] if another process trains there
    /// - if images cannot be opened or loaded, batches cannot be made, a loss, gradient, weight or descriptor is not
    ///   finite, the model cannot be evaluated, or a checkpoint cannot be written. The checkpoints are then
    ///   as they were; an epoch whose evaluation failed is not repeated.
    pub fn run(self, observer: &mut impl Observer) -> Result<Outcome<B, H, C>, Error> {
        let Self {
            mut run,
            mut parts,
            warnings,
        } = self;
        for warning in &warnings {
            observer.observe(&Event::Warning(warning));
        }
        // Before anything is written.
        headers::check(run.splits, observer)?;
        // Held until the run ends.
        let _lock = run.prepare()?;
        observer.observe(&run.started(&parts));
        let mut clock = Clock::default();
        let mut interrupted = false;
        while run.has_work() {
            if run.interrupt.is_requested() {
                run.save(&parts, observer)?;
                observer.observe(&Event::Interrupted);
                interrupted = true;
                break;
            }
            if run.evaluation_is_due() {
                run.evaluate(&parts, observer)?;
                continue;
            }
            let finished;
            (parts, finished) = run.epoch(parts, &mut clock, observer)?;
            if finished {
                run.end_epoch(&parts, observer)?;
            }
        }
        Ok(Outcome {
            learner: parts.learner,
            history: run.state.history,
            report: run.report,
            interrupted,
        })
    }
}

impl<N, B, H, C> std::fmt::Debug for Trainer<'_, N, B, H, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trainer")
            .field("recipe", &self.run.recipe.name)
            .field("epoch", &self.run.state.epoch)
            .field("step", &self.run.state.step)
            .finish_non_exhaustive()
    }
}
