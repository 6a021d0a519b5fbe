//! The training loop.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use burn::{
    module::Module,
    optim::GradientsParams,
    tensor::{Device, Int, Tensor, TensorData},
};
use reid_core::{Identity, InputSize, Splits};
use reid_data::loader::{Batch, LoaderConfig, TrainLoader};
use reid_eval::Report;
use reid_nn::{Block, Criterion, Head, parameters};
use serde::Serialize;
use serde_json::Value;

use crate::{
    checkpoint::{Checkpoints, Kept, Parts, State},
    clip,
    error::Error,
    event::{Event, Observer, StepReport},
    extract::Extractor,
    history::{EpochSummary, Scores, Sums},
    interrupt::Interrupt,
    optimizer::OptimizerConfig,
    recipe::Recipe,
    trainee::Trainee,
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
/// use reid_core::{InputSize, Splits};
/// use reid_data::{dataset::synthetic::SyntheticConfig, dataset::market1501, loader::LoaderConfig};
/// use reid_nn::{backbone::ResNetConfig, head::BnNeckConfig};
/// use reid_train::{Recipe, Trainee, Trainer};
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
/// let trainee = Trainee::build(&recipe, &recipe.network, &BnNeckConfig::new(), identities, &device);
/// let trainer = Trainer::new(&recipe, &splits, trainee, LoaderConfig::default(), &device)?;
/// let outcome = trainer.run(&mut ())?;
/// assert!(outcome.report.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Trainer<'a, N, B, H, C> {
    run: Run<'a, N>,
    parts: Parts<B, H, C>,
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome<B, H, C> {
    /// The model as after the last step, with its criterion.
    pub trainee: Trainee<B, H, C>,
    /// What each epoch came to.
    pub history: Vec<EpochSummary>,
    /// The last evaluation of this call; none if it was interrupted before one, or if the data have
    /// no queries.
    pub report: Option<Report>,
    /// Whether someone asked the run to stop before its end.
    pub interrupted: bool,
}

impl<'a, N: Serialize, B: Block, H: Head, C: Criterion> Trainer<'a, N, B, H, C> {
    /// A run at its beginning. `device` is a plain one; the trainee is on its autodiff twin, as
    /// [`Trainee::build`] makes it.
    ///
    /// # Errors
    /// If the recipe asks for something impossible.
    pub fn new(
        recipe: &'a Recipe<N>,
        splits: &'a Splits,
        trainee: Trainee<B, H, C>,
        loading: LoaderConfig,
        device: &Device,
    ) -> Result<Self, Error> {
        recipe.check()?;
        let centers = OptimizerConfig::Sgd {
            momentum: 0.0,
            nesterov: false,
            weight_decay: 0.0,
        };
        let parts = Parts {
            trainee,
            optimizer: recipe.optimizer.init(),
            criterion_optimizer: centers.init(),
        };
        let run = Run::new(recipe, splits, loading, device)?;
        Ok(Self { run, parts })
    }

    /// Saves a checkpoint after every epoch, and when interrupted.
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

    /// Goes on from the last checkpoint; from the beginning if there is none yet.
    ///
    /// The recipe must be the one that the run was begun with, except for its name, the number of
    /// epochs, and how often it is evaluated: those may change.
    ///
    /// # Errors
    /// If a checkpoint cannot be read, is damaged, or belongs to another recipe or other data.
    pub fn resume(mut self) -> Result<Self, Error> {
        let last = match &self.run.checkpoints {
            Some(checkpoints) => checkpoints.find(Kept::Last)?,
            None => None,
        };
        if let Some(checkpoint) = last {
            let state = Checkpoints::read_state(&checkpoint)?;
            self.run.accept(&state, &checkpoint)?;
            self.parts = self.parts.load(&checkpoint)?;
            let recipe = std::mem::take(&mut self.run.state.recipe);
            self.run.state = State { recipe, ..state };
        }
        Ok(self)
    }

    /// Trains to the end, or until interrupted.
    ///
    /// # Errors
    /// If images cannot be loaded, batches cannot be made, a loss or descriptor is not finite, the
    /// model cannot be evaluated, or a checkpoint cannot be written.
    pub fn run(self, observer: &mut impl Observer) -> Result<Outcome<B, H, C>, Error> {
        let Self { mut run, mut parts } = self;
        observer.observe(&run.started(&parts));
        let mut clock = Clock::default();
        let mut report = None;
        let mut interrupted = false;
        while run.state.epoch < run.recipe.epochs {
            interrupted = run.interrupt.is_requested();
            if !interrupted {
                (parts, interrupted) = run.epoch(parts, &mut clock, observer)?;
            }
            if interrupted {
                run.save(&parts, false, observer)?;
                observer.observe(&Event::Interrupted);
                break;
            }
            report = run.end_epoch(&parts, observer)?.or(report);
        }
        Ok(Outcome {
            trainee: parts.trainee,
            history: run.state.history,
            report,
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

/// A run, but for the parts that hold tensors: those move through every step.
struct Run<'a, N> {
    recipe: &'a Recipe<N>,
    splits: &'a Splits,
    identities: Vec<Identity>,
    state: State,
    loader: TrainLoader,
    extractor: Extractor,
    device: Device,
    checkpoints: Option<Checkpoints>,
    interrupt: Interrupt,
}

impl<'a, N: Serialize> Run<'a, N> {
    fn new(
        recipe: &'a Recipe<N>,
        splits: &'a Splits,
        loading: LoaderConfig,
        device: &Device,
    ) -> Result<Self, Error> {
        let (input, augmentation) = (recipe.input, &recipe.augmentation);
        let samples = splits.train.clone();
        let loader = TrainLoader::new(samples, input, augmentation, recipe.seed, loading);
        let recipe_json = serde_json::to_value(recipe).map_err(|source| Error::Json {
            path: PathBuf::from("recipe"),
            source,
        })?;
        let state = State {
            recipe: recipe_json,
            classes: loader.classes().clone(),
            epoch: 0,
            step: 0,
            sums: Sums::default(),
            history: Vec::new(),
            best: None,
            lengths: Vec::new(),
        };
        Ok(Self {
            recipe,
            splits,
            identities: splits.train.iter().map(|sample| sample.identity).collect(),
            state,
            loader,
            extractor: Extractor::new(input, augmentation.normalise, loading),
            device: device.clone(),
            checkpoints: None,
            interrupt: Interrupt::new(),
        })
    }

    /// Refuses a checkpoint of another recipe or of other data.
    fn accept(&self, state: &State, checkpoint: &Path) -> Result<(), Error> {
        let path = checkpoint.to_owned();
        if let Some(difference) = difference(&state.recipe, &self.state.recipe) {
            return Err(Error::OtherRecipe { path, difference });
        }
        if state.classes != self.state.classes {
            return Err(Error::OtherIdentities {
                path,
                expected: state.classes.len(),
                found: self.state.classes.len(),
            });
        }
        Ok(())
    }

    fn started<B: Block, H: Head, C: Criterion>(&self, parts: &Parts<B, H, C>) -> Event<'static> {
        Event::Started {
            epochs: self.recipe.epochs,
            epochs_done: self.state.epoch,
            images: self.splits.train.len(),
            identities: self.state.classes.len(),
            parameters: parameters::count(&parts.trainee.model),
        }
    }

    /// The rest of the epoch under way; says whether it was interrupted.
    fn epoch<B: Block, H: Head, C: Criterion>(
        &mut self,
        mut parts: Parts<B, H, C>,
        clock: &mut Clock,
        observer: &mut impl Observer,
    ) -> Result<(Parts<B, H, C>, bool), Error> {
        let (epoch, first) = (self.state.epoch, self.state.step);
        let place = self.recipe.seed.named("sampler").at(epoch as u64);
        let batches = self
            .recipe
            .sampling
            .sampler()
            .batches(&self.identities, place)?;
        let steps = batches.len();
        for batch in self.loader.epoch_from(epoch as u64, batches, first) {
            let batch = batch?;
            let started = Instant::now();
            let losses;
            let accuracy;
            (parts, losses, accuracy) = self.step(parts, &batch)?;
            clock.add(batch.classes.len(), started.elapsed());
            self.state.sums.add(&losses, accuracy);
            self.state.step += 1;

            let steps_left = steps - self.state.step + (self.recipe.epochs - epoch - 1) * steps;
            let (images_per_second, time_left) = clock.speed(steps_left);
            observer.observe(&Event::Step(&StepReport {
                epoch: epoch + 1,
                epochs: self.recipe.epochs,
                step: self.state.step,
                steps,
                losses,
                accuracy,
                learning_rate: self.learning_rate(),
                images_per_second,
                time_left,
            }));
            if self.interrupt.is_requested() && self.state.step < steps {
                return Ok((parts, true));
            }
        }
        Ok((parts, false))
    }

    fn learning_rate(&self) -> f64 {
        self.recipe
            .schedule
            .rate(self.state.epoch, self.recipe.epochs)
    }

    /// One step: forward, backward, update.
    #[expect(clippy::type_complexity, reason = "the parts move in and out")]
    fn step<B: Block, H: Head, C: Criterion>(
        &self,
        parts: Parts<B, H, C>,
        batch: &Batch,
    ) -> Result<(Parts<B, H, C>, Vec<(&'static str, f64)>, f64), Error> {
        let Parts {
            trainee,
            mut optimizer,
            mut criterion_optimizer,
        } = parts;
        let (images, identities) = tensors(batch, &self.device.clone().autodiff());
        let (losses, accuracy) = trainee.judge(images, identities);
        let mut values = Vec::with_capacity(losses.len());
        for loss in &losses {
            let value = loss.value.clone().into_scalar::<f32>();
            if !value.is_finite() {
                return Err(self.not_finite(loss.name, value, batch));
            }
            values.push((loss.name, f64::from(value)));
        }
        let total = losses
            .into_iter()
            .map(|loss| loss.value)
            .reduce(Tensor::add);
        let Trainee { model, criterion } = trainee;
        let trainee = match total {
            Some(total) => {
                let mut gradients = total.backward();
                let of_model = GradientsParams::from_module(&mut gradients, &model);
                let of_criterion = GradientsParams::from_module(&mut gradients, &criterion);
                let of_model = match self.recipe.clip_norm {
                    Some(limit) => clip::by_norm(&model, of_model, limit),
                    None => of_model,
                };
                let centers_rate = self.recipe.losses.center_learning_rate;
                Trainee {
                    model: optimizer.step(self.learning_rate(), model, of_model),
                    criterion: criterion_optimizer.step(centers_rate, criterion, of_criterion),
                }
            }
            None => Trainee { model, criterion },
        };
        let accuracy = f64::from(accuracy.into_scalar::<f32>());
        let parts = Parts {
            trainee,
            optimizer,
            criterion_optimizer,
        };
        Ok((parts, values, accuracy))
    }

    fn not_finite(&self, name: &'static str, value: f32, batch: &Batch) -> Error {
        let path = |&index: &usize| self.splits.train[index].path.clone();
        Error::NotFinite {
            epoch: self.state.epoch + 1,
            step: self.state.step + 1,
            name,
            value,
            images: batch.indices.iter().map(path).collect(),
        }
    }

    /// Closes the epoch under way: summary, evaluation if it is due, checkpoint.
    fn end_epoch<B: Block, H: Head, C: Criterion>(
        &mut self,
        parts: &Parts<B, H, C>,
        observer: &mut impl Observer,
    ) -> Result<Option<Report>, Error> {
        let mut summary = self
            .state
            .sums
            .summary(self.state.epoch + 1, self.learning_rate());
        observer.observe(&Event::Epoch(&summary));
        self.state.epoch += 1;
        self.state.step = 0;
        self.state.sums = Sums::default();

        let every = self.recipe.evaluate_every;
        let due = self.state.epoch == self.recipe.epochs
            || (every > 0 && self.state.epoch.is_multiple_of(every));
        let report = if due && !self.splits.query.is_empty() {
            Some(self.evaluate(parts)?)
        } else {
            None
        };
        summary.scores = report.as_ref().map(Scores::from);
        let map = |scores: &Scores| scores.mean_average_precision;
        let best_so_far = self.state.best.as_ref().map_or(f64::NEG_INFINITY, map);
        let best = summary
            .scores
            .as_ref()
            .is_some_and(|scores| map(scores) > best_so_far);
        if best {
            self.state.best = summary.scores;
        }
        self.state.history.push(summary);
        if let Some(report) = &report {
            let epoch = self.state.epoch;
            observer.observe(&Event::Evaluated {
                epoch,
                report,
                best,
            });
        }
        self.save(parts, best, observer)?;
        Ok(report)
    }

    fn evaluate<B: Block, H: Head, C: Criterion>(
        &self,
        parts: &Parts<B, H, C>,
    ) -> Result<Report, Error> {
        let model = parts.trainee.model.valid().fused();
        let (splits, config) = (self.splits, &self.recipe.evaluation);
        self.extractor
            .evaluate(&model, splits, config, &self.device)
    }

    fn save<B: Block, H: Head, C: Criterion>(
        &self,
        parts: &Parts<B, H, C>,
        best: bool,
        observer: &mut impl Observer,
    ) -> Result<(), Error> {
        if let Some(checkpoints) = &self.checkpoints {
            let path = checkpoints.save(parts, self.state.clone(), best)?;
            observer.observe(&Event::Saved(&path));
        }
        Ok(())
    }
}

/// The tensors of a batch.
fn tensors(batch: &Batch, device: &Device) -> (Tensor<4>, Tensor<1, Int>) {
    let InputSize { height, width } = batch.size;
    let shape = [batch.classes.len(), 3, height, width];
    let images = TensorData::new(batch.images.clone(), shape);
    // Every backend has this type, and no data set has more classes.
    let class = |&class: &usize| i32::try_from(class).expect("fewer than 2³¹ identities");
    let classes: Vec<i32> = batch.classes.iter().map(class).collect();
    (
        Tensor::from_data(images, device),
        Tensor::from_data(classes.as_slice(), device),
    )
}

/// The first entry in which two recipes differ, but for those that may.
fn difference(saved: &Value, now: &Value) -> Option<String> {
    const FREE: [&str; 3] = ["name", "epochs", "evaluate_every"];
    match (saved, now) {
        (Value::Object(saved), Value::Object(now)) => {
            let keys = saved
                .keys()
                .chain(now.keys().filter(|key| !saved.contains_key(*key)));
            keys.filter(|key| !FREE.contains(&key.as_str()))
                .find_map(|key| {
                    let value = |side: &serde_json::Map<String, Value>| {
                        side.get(key).cloned().unwrap_or(Value::Null)
                    };
                    let inner = nested_difference(&value(saved), &value(now))?;
                    Some(format!("{key}{inner}"))
                })
        }
        _ => nested_difference(saved, now),
    }
}

fn nested_difference(saved: &Value, now: &Value) -> Option<String> {
    match (saved, now) {
        (Value::Object(left), Value::Object(right)) if left.len() == right.len() => {
            left.iter().find_map(|(key, value)| {
                let other = right.get(key).unwrap_or(&Value::Null);
                nested_difference(value, other).map(|inner| format!(".{key}{inner}"))
            })
        }
        _ if saved == now => None,
        _ => Some(format!(" was {saved} and is {now}")),
    }
}

/// The speed of the steps so far.
#[derive(Default)]
struct Clock {
    images: usize,
    steps: u32,
    spent: Duration,
}

impl Clock {
    fn add(&mut self, images: usize, time: Duration) {
        self.images += images;
        self.steps += 1;
        self.spent += time;
    }

    /// Images per second, and the time that `steps` more take.
    fn speed(&self, steps: usize) -> (f64, Duration) {
        let seconds = self.spent.as_secs_f64().max(1e-9);
        let per_step = seconds / f64::from(self.steps.max(1));
        let left = Duration::try_from_secs_f64(per_step * steps as f64);
        (self.images as f64 / seconds, left.unwrap_or(Duration::MAX))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn recipes_differ_where_it_matters() {
        let saved =
            json!({ "name": "a", "epochs": 3, "schedule": { "base": 0.1, "warm_up": null } });
        let mut now = saved.clone();
        (now["name"], now["epochs"]) = (json!("b"), json!(9));
        assert_eq!(difference(&saved, &now), None);
        now["schedule"]["base"] = json!(0.2);
        assert_eq!(
            difference(&saved, &now).as_deref(),
            Some("schedule.base was 0.1 and is 0.2")
        );
    }
}
