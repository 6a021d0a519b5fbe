//! A run under way: its place, its data, and what happens in a step, an epoch and after it.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use burn::{
    module::Module,
    optim::GradientsParams,
    tensor::{Device, Tensor, TensorData},
};
use reid_core::{Identity, InputSize, Splits};
use reid_data::loader::{Batch, LoaderConfig, TrainLoader};
use reid_eval::Report;
use reid_nn::{Block, Criterion, Head, Precision, TrainingStep, parameters};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    checkpoint::{Checkpoints, Lock, Parts, State},
    clock::Clock,
    difference::difference,
    error::Error,
    event::{Event, Observer, StepReport},
    extract::Extractor,
    gradients::{Squares, Untrained, clipped, not_finite},
    history::{Measured, Scores, Sums, Unread},
    interrupt::Interrupt,
    recipe::Recipe,
    trainee::Trainee,
};

/// A run, but for the parts that hold tensors: those move through every step.
pub(crate) struct Run<'a, N> {
    pub(crate) recipe: &'a Recipe<N>,
    splits: &'a Splits,
    identities: Vec<Identity>,
    pub(crate) state: State,
    loader: TrainLoader,
    extractor: Extractor,
    device: Device,
    pub(crate) checkpoints: Option<Checkpoints>,
    pub(crate) interrupt: Interrupt,
    /// Whether the run was asked to go on with what its folder holds.
    pub(crate) resumed: bool,
    /// The epoch and step of the last checkpoint.
    saved: Option<(usize, usize)>,
    /// The epoch and the step that were done last, counted from 1.
    last_step: (usize, usize),
    /// The last evaluation of this process.
    pub(crate) report: Option<Report>,
}

impl<'a, N: Serialize> Run<'a, N> {
    pub(crate) fn new(
        recipe: &'a Recipe<N>,
        splits: &'a Splits,
        loading: LoaderConfig,
        device: &Device,
    ) -> Result<Self, Error> {
        recipe.precision_on(device)?;
        let (input, augmentation) = (recipe.input, &recipe.augmentation);
        let samples = splits.train.clone();
        let loader = TrainLoader::new(samples, input, augmentation, recipe.seed, loading);
        let recipe_json = serde_json::to_value(recipe).map_err(|source| Error::Json {
            path: PathBuf::from("recipe"),
            source,
        })?;
        let state = State::new(recipe_json, loader.classes().clone(), &splits.train);
        Ok(Self {
            recipe,
            splits,
            identities: splits.train.iter().map(|sample| sample.identity).collect(),
            state,
            extractor: Extractor::of(recipe, loading).sharing(&loader),
            loader,
            device: device.clone(),
            checkpoints: None,
            interrupt: Interrupt::new(),
            resumed: false,
            saved: None,
            last_step: (0, 0),
            report: None,
        })
    }

    /// Takes the folder of the checkpoints into use.
    pub(crate) fn prepare(&self) -> Result<Option<Lock>, Error> {
        let checkpoints = self.checkpoints.as_ref();
        checkpoints
            .map(|checkpoints| checkpoints.prepare(&self.state.recipe, self.resumed))
            .transpose()
    }

    /// Refuses a checkpoint of another recipe or of other data.
    pub(crate) fn accept(&self, state: &State, checkpoint: &Path) -> Result<(), Error>
    where
        N: DeserializeOwned,
    {
        let path = checkpoint.to_owned();
        let saved = with_defaults::<N>(&state.recipe);
        if let Some(difference) = difference(&saved, &self.state.recipe) {
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

    /// Takes the place of a run that stopped.
    pub(crate) fn go_on_from(&mut self, saved: State) {
        self.saved = Some((saved.epoch, saved.step));
        let (recipe, images) = (self.state.recipe.take(), self.state.images.take());
        self.state = State {
            recipe,
            images,
            ..saved
        };
    }

    pub(crate) fn started<B: Block, H: Head, C: Criterion>(
        &self,
        parts: &Parts<B, H, C>,
    ) -> Event<'static> {
        Event::Started {
            epochs: self.recipe.epochs,
            epochs_done: self.state.epoch,
            images: self.splits.train.len(),
            identities: self.state.classes.len(),
            parameters: parameters::count(&parts.trainee.model),
        }
    }

    /// The rest of the epoch under way; says whether it was finished, not interrupted.
    pub(crate) fn epoch<B: Block, H: Head, C: Criterion>(
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
        if first > steps {
            return Err(Error::OtherSteps {
                epoch: epoch + 1,
                expected: first,
                found: steps,
            });
        }
        for batch in self.loader.epoch_from(epoch as u64, batches, first) {
            let batch = batch?;
            let started = Instant::now();
            let measured;
            (parts, measured) = self.step(parts, &batch)?;
            clock.add(batch.classes.len(), started.elapsed());
            self.state.sums.add(&measured);
            let Measured {
                losses,
                accuracy,
                remarks,
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
                remarks,
                learning_rate: self.learning_rate(),
                images_per_second,
                time_left,
            }));
            if self.interrupt.is_requested() && self.state.step < steps {
                return Ok((parts, false));
            }
        }
        Ok((parts, true))
    }

    fn learning_rate(&self) -> f64 {
        self.recipe
            .schedule
            .rate(self.state.epoch, self.recipe.epochs)
    }

    /// One step: forward, backward, update.
    fn step<B: Block, H: Head, C: Criterion>(
        &mut self,
        parts: Parts<B, H, C>,
        batch: &Batch,
    ) -> Result<(Parts<B, H, C>, Measured), Error> {
        let images = images(batch, &self.device.clone().autodiff());
        let (epoch, step) = (self.state.epoch as u64, self.state.step as u64);
        let scaled = self.recipe.precision == Precision::Float16;
        // A skipped step leaves nothing behind, but the forward pass moves running statistics.
        let untrained = scaled.then(|| Untrained::of_module(&parts.trainee));
        let judgement = parts.trainee.judge(
            self.recipe.precision.of(images),
            TrainingStep {
                identities: &batch.classes,
                seed: self.recipe.seed.named("head").at(epoch).at(step),
            },
        );
        let mut unread = Unread::from(&judgement);
        let losses = judgement.losses.into_iter().map(|loss| loss.value);
        let (parts, gradients) = match losses.reduce(Tensor::add) {
            Some(loss) => self.update(parts, loss, untrained),
            None => (parts, Gradients::Used(Squares::default())),
        };
        if let Gradients::Used(squares) = &gradients {
            unread.squares = squares.values();
        }
        // Only now: a GPU has the whole step to do meanwhile.
        let (mut measured, squares_read) = unread.read();
        let infinite = |(_, value): &&(String, f64)| !value.is_finite();
        if let Some((name, value)) = measured.losses.iter().find(infinite) {
            return Err(self.not_finite(&format!("{name} loss"), *value, batch));
        }
        let unusable = match &gradients {
            Gradients::Used(squares) => squares.not_finite(&squares_read),
            Gradients::Skipped(name) => self.state.loss_scale.is_spent().then_some(&**name),
        };
        if let Some(name) = unusable {
            let name = format!("gradient of `{name}`");
            return Err(self.not_finite(&name, f64::NAN, batch));
        }
        if scaled {
            let skipped = matches!(gradients, Gradients::Skipped(_));
            let share = f64::from(u8::from(skipped));
            measured.remarks.push(("left out".to_owned(), share));
        }
        Ok((parts, measured))
    }

    /// The parts after a step along the gradients of a loss. `untrained` is what a step that is skipped
    /// puts back, in the precision in which losses are scaled.
    fn update<B: Block, H: Head, C: Criterion>(
        &mut self,
        parts: Parts<B, H, C>,
        loss: Tensor<1>,
        untrained: Option<Untrained>,
    ) -> (Parts<B, H, C>, Gradients) {
        let loss = match &untrained {
            Some(_) => self.state.loss_scale.of(loss),
            None => loss,
        };
        let Trainee { model, criterion } = &parts.trainee;
        let mut gradients = loss.backward();
        let mut gradients = [
            GradientsParams::from_module(&mut gradients, model),
            GradientsParams::from_module(&mut gradients, criterion),
        ];
        let [of_model, of_criterion] = &gradients;
        let mut squares = Squares::of_module(model, of_model);
        let of_criterion = Squares::of_module(criterion, of_criterion);
        if let Some(untrained) = untrained {
            let all = squares.with_criterion(of_criterion);
            let scale = &mut self.state.loss_scale;
            match scale.unscaled(gradients, &all, (model, criterion)) {
                Ok(unscaled) => gradients = unscaled,
                Err(name) => {
                    let trainee = untrained.restore(parts.trainee);
                    return (Parts { trainee, ..parts }, Gradients::Skipped(name));
                }
            }
            // They are finite; what remains to be known is how long they are without the scale.
            let of_model = match self.recipe.clip_norm {
                Some(_) => Squares::of_module(model, &gradients[0]),
                None => Squares::default(),
            };
            return (
                self.stepped(parts, gradients, &of_model),
                Gradients::Used(of_model),
            );
        }
        let parts = self.stepped(parts, gradients, &squares);
        squares = squares.with_criterion(of_criterion);
        (parts, Gradients::Used(squares))
    }

    /// The parts moved along gradients. `squares` are those of the model.
    fn stepped<B: Block, H: Head, C: Criterion>(
        &self,
        parts: Parts<B, H, C>,
        [of_model, of_criterion]: [GradientsParams; 2],
        squares: &Squares,
    ) -> Parts<B, H, C> {
        let Parts {
            trainee: Trainee { model, criterion },
            mut optimizer,
            mut criterion_optimizer,
        } = parts;
        let of_model = match self.recipe.clip_norm {
            Some(limit) => clipped(&model, of_model, squares, limit),
            None => of_model,
        };
        let centers_rate = self.recipe.losses.center_learning_rate;
        Parts {
            trainee: Trainee {
                model: optimizer.step(self.learning_rate(), model, of_model),
                criterion: criterion_optimizer.step(centers_rate, criterion, of_criterion),
            },
            optimizer,
            criterion_optimizer,
        }
    }

    fn not_finite(&self, name: &str, value: f64, batch: &Batch) -> Error {
        let path = |&index: &usize| self.splits.train[index].path.clone();
        Error::NotFinite {
            epoch: self.state.epoch + 1,
            step: self.state.step + 1,
            name: name.to_owned(),
            value,
            images: batch.indices.iter().map(path).collect(),
        }
    }

    /// Closes the epoch under way and saves it. It is evaluated afterwards, so that an evaluation that fails
    /// costs no epoch.
    pub(crate) fn end_epoch<B: Block, H: Head, C: Criterion>(
        &mut self,
        parts: &Parts<B, H, C>,
        observer: &mut impl Observer,
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

    /// Whether there is an epoch to learn or to evaluate.
    pub(crate) fn has_work(&self) -> bool {
        self.state.epoch < self.recipe.epochs || self.evaluation_is_due()
    }

    /// Whether the epoch that ended last is to be evaluated. The last epoch of all is evaluated in any
    /// case, also where it was before: a process that ended since may have taken the report with it.
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

    /// Evaluates the epoch that ended last, and adds its scores to the last checkpoint.
    pub(crate) fn evaluate<B: Block, H: Head, C: Criterion>(
        &mut self,
        parts: &Parts<B, H, C>,
        observer: &mut impl Observer,
    ) -> Result<(), Error> {
        let model = parts.trainee.model.valid().fused();
        let (splits, config) = (self.splits, &self.recipe.evaluation);
        let report = self
            .extractor
            .evaluate(&model, splits, config, &self.device)?;
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

    /// Notes the scores of the epoch that ended last, and says whether they are better than all before.
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

    /// Saves the run as it is now, unless its last checkpoint is just that.
    pub(crate) fn save<B: Block, H: Head, C: Criterion>(
        &mut self,
        parts: &Parts<B, H, C>,
        observer: &mut impl Observer,
    ) -> Result<(), Error> {
        let now = (self.state.epoch, self.state.step);
        let Some(checkpoints) = &self.checkpoints else {
            return Ok(());
        };
        if self.saved == Some(now) {
            return Ok(());
        }
        if let Some(name) = not_finite(&parts.trainee) {
            let (epoch, step) = self.last_step;
            return Err(Error::WeightsNotFinite { epoch, step, name });
        }
        let path = checkpoints.save(parts, &self.state)?;
        self.saved = Some(now);
        observer.observe(&Event::Saved(&path));
        Ok(())
    }
}

/// What became of the gradients of a step.
enum Gradients {
    /// The step was made; their lengths, still on the device.
    Used(Squares),
    /// The step was not made, because the gradient of this parameter overflowed.
    Skipped(String),
}

/// The recipe of a checkpoint with the defaults of what was added to recipes since. What is no such recipe
/// any more stays as it is, so that the difference is told.
fn with_defaults<N: Serialize + DeserializeOwned>(saved: &Value) -> Value {
    serde_json::from_value::<Recipe<N>>(saved.clone())
        .and_then(serde_json::to_value)
        .unwrap_or_else(|_| saved.clone())
}

/// The images of a batch.
fn images(batch: &Batch, device: &Device) -> Tensor<4> {
    let InputSize { height, width } = batch.size;
    let shape = [batch.classes.len(), 3, height, width];
    Tensor::from_data(TensorData::new(batch.images.clone(), shape), device)
}
