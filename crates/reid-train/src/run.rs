//! The state and data of a run, and its operations: epochs, evaluations, checkpoints.

mod checks;
mod step;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Instant,
};

use burn::tensor::Device;
use reid_core::Splits;
use reid_data::{
    loader::{Batch, LoaderConfig, TrainLoader},
    sampler::Sampler,
    transform::Transform,
};
use reid_eval::Report;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use self::checks::{expect_batches, with_defaults};
use crate::{
    checkpoint::{self, Checkpoints, Lock, State},
    clock::Clock,
    difference::difference,
    error::Error,
    event::{Event, Observer, StepReport},
    extract::Extractor,
    groups::Optimizers,
    history::{Measured, Scores, Sums},
    interrupt::Interrupt,
    learner::AnyLearner,
    recipe::Recipe,
    schedule::{Progress, RateSchedule},
};

/// The parts of a run that hold tensors.
pub(crate) struct Parts<'a> {
    pub(crate) learner: &'a mut dyn AnyLearner,
    pub(crate) optimizers: &'a mut Optimizers,
}

/// A run, without its [`Parts`].
pub(crate) struct Run<'a> {
    /// All settings except the network and the losses.
    pub(crate) recipe: Recipe<(), ()>,
    pub(crate) splits: &'a Splits,
    pub(crate) state: State,
    loader: TrainLoader,
    extractor: Extractor,
    device: Device,
    pub(crate) schedule: Box<dyn RateSchedule>,
    pub(crate) sampler: Box<dyn Sampler>,
    /// Completes a saved recipe with the defaults of settings that were added later ([`with_defaults`]).
    with_defaults: fn(&Value) -> Value,
    pub(crate) checkpoints: Option<Checkpoints>,
    pub(crate) interrupt: Interrupt,
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
    pub(crate) report: Option<Report>,
}

impl<'a> Run<'a> {
    pub(crate) fn new<N, L>(
        recipe: &Recipe<N, L>,
        splits: &'a Splits,
        loading: LoaderConfig,
        device: &Device,
    ) -> Result<Self, Error>
    where
        N: Clone + Serialize + DeserializeOwned,
        L: Clone + Serialize + DeserializeOwned,
    {
        let loader = TrainLoader::new(splits.train.clone(), recipe.input, recipe.seed)
            .with_config(loading)
            .with_augmentation(&recipe.augmentation);
        let recipe_json = serde_json::to_value(recipe).map_err(|source| Error::Json {
            path: PathBuf::from("recipe"),
            source,
        })?;
        let state = State::new(recipe_json, loader.classes().clone(), &splits.train);
        let recipe = recipe.clone().with_network(()).with_losses(());
        Ok(Self {
            schedule: Box::new(recipe.schedule.clone()),
            sampler: Box::new(recipe.sampling.sampler()),
            with_defaults: with_defaults::<N, L>,
            splits,
            state,
            extractor: Extractor::from_recipe(&recipe, loading).sharing(&loader),
            recipe,
            loader,
            device: device.clone(),
            checkpoints: None,
            interrupt: Interrupt::new(),
            resumed: false,
            accepted: None,
            saved: None,
            last_step: (0, 0),
            steps: 0,
            report: None,
        })
    }

    /// Records a custom part, which must be the same when the run resumes.
    pub(crate) fn note(&mut self, name: &str, part: String) {
        self.state.own_parts.insert(name.to_owned(), part);
    }

    /// Appends a custom transform to those of the recipe and those added before.
    pub(crate) fn add_transform(&mut self, transform: impl Transform + 'static) {
        let before = self.state.own_parts.remove("transforms");
        let all = before.into_iter().chain([format!("{transform:?}")]);
        self.note("transforms", all.collect::<Vec<_>>().join(", "));
        self.loader = self.loader.clone().with_transform(transform);
    }

    /// Prepares and locks the folder of the checkpoints.
    pub(crate) fn prepare(&self) -> Result<Option<Lock>, Error> {
        let checkpoints = self.checkpoints.as_ref();
        checkpoints
            .map(|checkpoints| checkpoints.prepare(&self.state.recipe, self.resumed))
            .transpose()
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
            epochs: self.recipe.epochs,
            epochs_done: self.state.epoch,
            images: self.splits.train.len(),
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
        let together = self.recipe.accumulated_batches.max(1);
        parts.optimizers.freeze(parts.learner, epoch);
        let seed = self.recipe.seed.named("sampler").at(epoch as u64);
        let batches = self.sampler.batches(self.loader.samples(), seed)?;
        expect_batches(&batches, self.loader.samples())?;
        let steps = batches.len().div_ceil(together);
        if first > steps {
            return Err(Error::OtherSteps {
                epoch: epoch + 1,
                expected: first,
                found: steps,
            });
        }
        self.steps = steps;
        let mut loading = self
            .loader
            .epoch_from(epoch as u64, batches, first * together);
        loop {
            let batches: Vec<Batch> = loading.by_ref().take(together).collect::<Result<_, _>>()?;
            if batches.is_empty() {
                return Ok(true);
            }
            let started = Instant::now();
            let measured = self.step(parts, &batches)?;
            let images = batches.iter().map(|batch| batch.classes.len()).sum();
            clock.add(images, started.elapsed());
            self.state.sums.add(&measured);
            let Measured {
                losses,
                accuracy,
                diagnostics,
            } = measured;
            self.state.step += 1;
            self.last_step = (epoch + 1, self.state.step);

            let steps_left = steps - self.state.step + (self.recipe.epochs - epoch - 1) * steps;
            let (images_per_second, time_left) = clock.speed(steps_left);
            observer.observe(&Event::Step(&StepReport {
                epoch: epoch + 1,
                epochs: self.recipe.epochs,
                step: self.state.step,
                steps,
                losses,
                accuracy,
                diagnostics,
                learning_rate: self.learning_rate(),
                images_per_second,
                time_left,
            }));
            if self.interrupt.is_requested() && self.state.step < steps {
                return Ok(false);
            }
        }
    }

    fn learning_rate(&self) -> f64 {
        self.schedule.rate(&Progress {
            epoch: self.state.epoch,
            epochs: self.recipe.epochs,
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

    /// Whether an epoch is still to be trained or evaluated.
    pub(crate) fn has_work(&self) -> bool {
        self.state.epoch < self.recipe.epochs || self.evaluation_is_due()
    }

    /// Whether the last finished epoch is still to be evaluated. The final epoch is evaluated once in every
    /// process, because the report of an earlier process is not saved.
    pub(crate) fn evaluation_is_due(&self) -> bool {
        let (epoch, every) = (self.state.epoch, self.recipe.evaluate_every);
        let Some(last) = self.state.history.last() else {
            return false;
        };
        if self.state.step > 0 || self.splits.query.is_empty() {
            return false;
        }
        if epoch >= self.recipe.epochs {
            return self.report.is_none() || last.scores.is_none();
        }
        every > 0 && epoch.is_multiple_of(every) && last.scores.is_none()
    }

    /// Evaluates the last finished epoch, and adds its scores to the last checkpoint.
    pub(crate) fn evaluate(
        &mut self,
        parts: &Parts<'_>,
        observer: &mut dyn Observer,
    ) -> Result<(), Error> {
        let model = parts.learner.embedder();
        let (splits, config) = (self.splits, &self.recipe.evaluation);
        let report = self
            .extractor
            .evaluate(&*model, splits, config, &self.device)?;
        let scores = Scores::from(&report);
        let best = self.set_scores(scores);
        if let Some(checkpoints) = &self.checkpoints {
            checkpoints.record(scores, best)?;
        }
        observer.observe(&Event::Evaluated {
            epoch: self.state.epoch,
            report: &report,
            best,
        });
        self.report = Some(report);
        Ok(())
    }

    /// Records the scores of the last finished epoch. Returns whether its mAP is the best so far.
    fn set_scores(&mut self, scores: Scores) -> bool {
        let Some((last, before)) = self.state.history.split_last_mut() else {
            return false;
        };
        last.scores = Some(scores);
        let map = |scores: Scores| scores.mean_average_precision;
        let before = before.iter().filter_map(|epoch| epoch.scores);
        before
            .map(map)
            .all(|before| map(scores).total_cmp(&before).is_gt())
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
            averaged: self.recipe.average_decay.is_some(),
        };
        let path = checkpoints.save(&parts, &self.state)?;
        self.saved = Some(now);
        observer.observe(&Event::Saved(&path));
        Ok(())
    }
}
