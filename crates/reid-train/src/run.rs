//! The state and data of a run, and its operations: epochs, evaluations, checkpoints.

mod averaging;
mod evaluation;
mod ranks;
mod step;
mod with_defaults;

use std::{
    cell::OnceCell,
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Instant,
};

use reid_data::segmentation::PixelSample;
use reid_nn::StagePaths;
use reid_ops::HeldMemory;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

pub(crate) use self::with_defaults::with_defaults;
use crate::{
    checkpoint::{self, Checkpoints, Fingerprint, Lock, State},
    clock::Clock,
    difference::difference,
    error::Error,
    event::{Event, Observer, StepReport},
    groups::{LayerDecay, Optimizers},
    history::{Measured, Sums},
    interrupt::Interrupt,
    learner::{AnyLearner, Loaded},
    parallel::{Parallel, RANKS},
    schedule::{Progress, RateSchedule},
    settings::Settings,
    task::Evaluation,
};

/// The parts of a run that hold tensors.
pub(crate) struct Parts<'a> {
    pub(crate) learner: &'a mut dyn AnyLearner,
    pub(crate) optimizers: &'a mut Optimizers,
}

/// A run of any task, without its [`Parts`].
pub(crate) struct Run<'a> {
    pub(crate) settings: Settings,
    pub(crate) state: State,
    /// The image files of all splits, whose headers are read before the first step.
    pub(crate) files: Vec<&'a Path>,
    /// The samples whose label maps are checked too.
    pub(crate) label_maps: Vec<&'a PixelSample>,
    /// The stage of each parameter of the network, for layer decay.
    pub(crate) stages: StagePaths,
    pub(crate) schedule: Box<dyn RateSchedule>,
    /// Completes a saved recipe with the defaults of settings that were added later ([`with_defaults`]).
    with_defaults: fn(&Value) -> Value,
    pub(crate) checkpoints: Option<Checkpoints>,
    pub(crate) interrupt: Interrupt,
    /// The ranks of the run; `None` for a single one.
    pub(crate) parallel: Option<Parallel>,
    /// Whether `resume` was called for these checkpoints.
    pub(crate) resumed: bool,
    /// The checkpoint from which the run resumes, and the custom parts that were compared with it.
    accepted: Option<(PathBuf, BTreeMap<String, String>)>,
    /// The epoch and step of the last checkpoint.
    saved: Option<(usize, usize)>,
    /// The epoch and step of the last training step, counted from 1.
    last_step: (usize, usize),
    /// The number of steps of the current epoch.
    steps: usize,
    /// The last evaluation of this process.
    pub(crate) evaluation: Option<Evaluation>,
    /// The memory of a training step, from the first one of an epoch on.
    memory: OnceCell<HeldMemory>,
}

impl<'a> Run<'a> {
    /// A run by a recipe of type `R`. `data` is the fingerprint of the training images.
    pub(crate) fn new<R>(
        recipe: &R,
        settings: Settings,
        data: Fingerprint,
        files: Vec<&'a Path>,
    ) -> Result<Self, Error>
    where
        R: Serialize + DeserializeOwned,
    {
        let recipe = serde_json::to_value(recipe).map_err(|source| Error::Json {
            path: PathBuf::from("recipe"),
            source,
        })?;
        Ok(Self {
            schedule: Box::new(settings.schedule.clone()),
            with_defaults: with_defaults::<R>,
            settings,
            state: State::new(recipe, data),
            files,
            label_maps: Vec::new(),
            stages: StagePaths::default(),
            checkpoints: None,
            interrupt: Interrupt::new(),
            parallel: None,
            resumed: false,
            accepted: None,
            saved: None,
            last_step: (0, 0),
            steps: 0,
            evaluation: None,
            memory: OnceCell::new(),
        })
    }

    /// The layer decay of the recipe, if it has one.
    pub(crate) fn layer_decay(&self) -> Option<LayerDecay> {
        self.settings.layer_decay.map(|decay| LayerDecay {
            decay,
            stages: self.stages.clone(),
        })
    }

    /// Records a custom part, which must be the same when the run resumes.
    pub(crate) fn note(&mut self, name: &str, part: String) {
        self.state.own_parts.insert(name.to_owned(), part);
    }

    /// Records a custom transform, after those recorded before.
    pub(crate) fn note_transform(&mut self, transform: String) {
        let before = self.state.own_parts.remove("transforms");
        let all = before.into_iter().chain([transform]);
        self.note("transforms", all.collect::<Vec<_>>().join(", "));
    }

    /// Prepares and locks the folder of the checkpoints, on the rank that writes them.
    pub(crate) fn prepare(&self) -> Result<Option<Lock>, Error> {
        let checkpoints = self.checkpoints.as_ref().filter(|_| self.writes());
        let lock = checkpoints
            .map(|checkpoints| checkpoints.prepare(&self.state.recipe, self.resumed))
            .transpose()?;
        self.wait()?;
        Ok(lock)
    }

    /// Rejects a checkpoint of another recipe or of other data.
    pub(crate) fn accept(&self, state: &State, checkpoint: &Path) -> Result<(), Error> {
        let path = checkpoint.to_owned();
        let saved = (self.with_defaults)(&state.recipe);
        if let Some(difference) = difference(&saved, &self.state.recipe) {
            return Err(Error::OtherRecipe { path, difference });
        }
        if let Some(difference) = self.other_parts(&state.own_parts) {
            return Err(Error::OtherRecipe { path, difference });
        }
        if state.classes != self.state.classes {
            return Err(Error::OtherIdentities {
                path,
                expected: state.classes.len(),
                found: self.state.classes.len(),
            });
        }
        match (&state.images, &self.state.images) {
            (Some(saved), Some(now)) if saved != now => Err(Error::OtherImages {
                path,
                expected: saved.images,
                found: now.images,
            }),
            _ => Ok(()),
        }
    }

    /// Returns an error if custom parts were changed after they were compared with the checkpoint.
    pub(crate) fn refuse_changed_parts(&self) -> Result<(), Error> {
        let Some((path, accepted)) = &self.accepted else {
            return Ok(());
        };
        let difference = self.other_parts(accepted);
        difference.map_or(Ok(()), |difference| {
            let path = path.clone();
            Err(Error::OtherRecipe { path, difference })
        })
    }

    /// Describes the first custom part that differs from that of a checkpoint.
    fn other_parts(&self, saved: &BTreeMap<String, String>) -> Option<String> {
        let now = &self.state.own_parts;
        let names = saved.keys().chain(now.keys());
        let mut others = names.filter(|name| saved.get(*name) != now.get(*name));
        let name = others.next()?;
        let part = |parts: &BTreeMap<String, String>| match parts.get(name) {
            Some(part) => part.clone(),
            None if name == RANKS => "any number over the whole batch".to_owned(),
            None => "the recipe's".to_owned(),
        };
        Some(format!("{name} was {} and is {}", part(saved), part(now)))
    }

    /// Continues from the state of a checkpoint.
    pub(crate) fn resume_from(&mut self, saved: State, checkpoint: &Path) {
        self.accepted = Some((checkpoint.to_owned(), self.state.own_parts.clone()));
        self.saved = Some((saved.epoch, saved.step));
        let (recipe, images) = (self.state.recipe.take(), self.state.images.take());
        let own_parts = std::mem::take(&mut self.state.own_parts);
        self.state = State {
            recipe,
            own_parts,
            images,
            ..saved
        };
    }

    pub(crate) fn started(&self, learner: &dyn AnyLearner) -> Event<'static> {
        Event::Started {
            epochs: self.settings.epochs,
            epochs_done: self.state.epoch,
            images: self.state.images.as_ref().map_or(0, |data| data.images),
            identities: self.state.classes.len(),
            parameters: learner.model_size(),
        }
    }

    /// Trains the rest of the current epoch. Returns `false` if it was interrupted.
    pub(crate) fn epoch(
        &mut self,
        parts: &mut Parts<'_>,
        clock: &mut Clock,
        observer: &mut dyn Observer,
    ) -> Result<bool, Error> {
        let (epoch, first) = (self.state.epoch, self.state.step);
        let together = self.settings.accumulated_batches.max(1);
        parts.optimizers.freeze(parts.learner, epoch);
        let batches = parts.learner.begin_epoch(epoch, first * together)?;
        let steps = batches.div_ceil(together);
        if first > steps {
            return Err(Error::OtherSteps {
                epoch: epoch + 1,
                expected: first,
                found: steps,
            });
        }
        self.steps = steps;
        self.memory = OnceCell::new();
        self.validate_swa()?;
        loop {
            let Loaded { batches, images } = parts.learner.load_batches(together)?;
            if batches == 0 {
                return Ok(true);
            }
            let started = Instant::now();
            let learning_rate = self.learning_rate();
            let measured = self.step(parts, batches)?;
            clock.add(images * self.ranks(), started.elapsed());
            self.state.sums.add(&measured);
            let Measured {
                losses,
                accuracy,
                diagnostics,
            } = measured;
            self.state.step += 1;
            self.last_step = (epoch + 1, self.state.step);

            let epochs = self.settings.epochs;
            let steps_left = steps - self.state.step + (epochs - epoch - 1) * steps;
            let (images_per_second, time_left) = clock.speed(steps_left);
            observer.observe(&Event::Step(&StepReport {
                epoch: epoch + 1,
                epochs,
                step: self.state.step,
                steps,
                losses,
                accuracy,
                diagnostics,
                learning_rate,
                images_per_second,
                time_left,
            }));
            if self.stops()? && self.state.step < steps {
                return Ok(false);
            }
        }
    }

    fn learning_rate(&self) -> f64 {
        self.schedule.rate(&Progress {
            epoch: self.state.epoch,
            epochs: self.settings.epochs,
            step: self.state.step,
            steps: self.steps,
        })
    }

    /// Ends the current epoch and saves a checkpoint. The evaluation comes after that, so that an epoch whose
    /// evaluation fails is not lost.
    pub(crate) fn end_epoch(
        &mut self,
        parts: &Parts<'_>,
        observer: &mut dyn Observer,
    ) -> Result<(), Error> {
        let summary = self
            .state
            .sums
            .summary(self.state.epoch + 1, self.learning_rate());
        observer.observe(&Event::Epoch(&summary));
        self.state.history.push(summary);
        self.state.epoch += 1;
        self.state.step = 0;
        self.state.sums = Sums::default();
        self.save(parts, observer)
    }

    /// Whether an epoch is still to be trained or evaluated, or an average to be completed.
    pub(crate) fn has_work(&self, learner: &dyn AnyLearner) -> bool {
        self.state.epoch < self.settings.epochs
            || self.evaluation_is_due(learner)
            || self.renewal_is_due(learner)
    }

    /// Saves a checkpoint, unless the last one is of the same epoch and step.
    pub(crate) fn save(
        &mut self,
        parts: &Parts<'_>,
        observer: &mut dyn Observer,
    ) -> Result<(), Error> {
        let now = (self.state.epoch, self.state.step);
        let Some(checkpoints) = &self.checkpoints else {
            return Ok(());
        };
        if self.saved == Some(now) {
            return Ok(());
        }
        if let Some(name) = parts.learner.not_finite() {
            let (epoch, step) = self.last_step;
            return Err(Error::WeightsNotFinite { epoch, step, name });
        }
        let parts = checkpoint::Parts {
            learner: &*parts.learner,
            optimizers: &*parts.optimizers,
            averaged: self.settings.has_average(&self.state.averaged),
        };
        if self.writes() {
            let path = checkpoints.save(&parts, &self.state)?;
            observer.observe(&Event::Saved(&path));
        }
        self.saved = Some(now);
        self.wait()
    }
}
