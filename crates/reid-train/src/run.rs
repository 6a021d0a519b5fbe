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
use serde::Serialize;

use crate::{
    checkpoint::{Checkpoints, Parts, State},
    clock::Clock,
    difference::difference,
    error::Error,
    event::{Event, Observer, StepReport},
    extract::Extractor,
    gradients::clipped,
    history::{Measured, Scores, Sums, Unread},
    interrupt::Interrupt,
    recipe::Recipe,
    scaling::LossScale,
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
        let state = State {
            recipe: recipe_json,
            classes: loader.classes().clone(),
            epoch: 0,
            step: 0,
            sums: Sums::default(),
            loss_scale: LossScale::default(),
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
            extractor: Extractor::of(recipe, loading),
            device: device.clone(),
            checkpoints: None,
            interrupt: Interrupt::new(),
        })
    }

    /// Refuses a checkpoint of another recipe or of other data.
    pub(crate) fn accept(&self, state: &State, checkpoint: &Path) -> Result<(), Error> {
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

    /// The rest of the epoch under way; says whether it was interrupted.
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
    fn step<B: Block, H: Head, C: Criterion>(
        &mut self,
        parts: Parts<B, H, C>,
        batch: &Batch,
    ) -> Result<(Parts<B, H, C>, Measured), Error> {
        let images = images(batch, &self.device.clone().autodiff());
        let (epoch, step) = (self.state.epoch as u64, self.state.step as u64);
        let judgement = parts.trainee.judge(
            self.recipe.precision.of(images),
            TrainingStep {
                identities: &batch.classes,
                seed: self.recipe.seed.named("head").at(epoch).at(step),
            },
        );
        let unread = Unread::from(&judgement);
        let losses = judgement.losses.into_iter().map(|loss| loss.value);
        let (parts, left_out) = match losses.reduce(Tensor::add) {
            Some(loss) => self.update(parts, loss),
            None => (parts, false),
        };
        // Only now: a GPU has the whole step to do meanwhile.
        let mut measured = unread.read();
        let infinite = |(_, value): &&(String, f64)| !value.is_finite();
        if let Some((name, value)) = measured.losses.iter().find(infinite) {
            return Err(self.not_finite(&format!("{name} loss"), *value, batch));
        }
        if self.state.loss_scale.is_spent() {
            return Err(self.not_finite("gradient in half precision", f64::INFINITY, batch));
        }
        if self.recipe.precision == Precision::Float16 {
            let share = f64::from(u8::from(left_out));
            measured.remarks.push(("left out".to_owned(), share));
        }
        Ok((parts, measured))
    }

    /// The parts after a step along the gradients of a loss, and whether it was left out.
    fn update<B: Block, H: Head, C: Criterion>(
        &mut self,
        parts: Parts<B, H, C>,
        loss: Tensor<1>,
    ) -> (Parts<B, H, C>, bool) {
        let Parts {
            trainee: Trainee { model, criterion },
            mut optimizer,
            mut criterion_optimizer,
        } = parts;
        let scaled = self.recipe.precision == Precision::Float16;
        let loss = if scaled {
            self.state.loss_scale.of(loss)
        } else {
            loss
        };
        let mut gradients = loss.backward();
        let gradients = [
            GradientsParams::from_module(&mut gradients, &model),
            GradientsParams::from_module(&mut gradients, &criterion),
        ];
        let modules = (&model, &criterion);
        let gradients = if scaled {
            self.state.loss_scale.unscaled(gradients, modules)
        } else {
            Some(gradients)
        };
        let left_out = gradients.is_none();
        let trainee = match gradients {
            Some([of_model, of_criterion]) => {
                let of_model = match self.recipe.clip_norm {
                    Some(limit) => clipped(&model, of_model, limit),
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
        let parts = Parts {
            trainee,
            optimizer,
            criterion_optimizer,
        };
        (parts, left_out)
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

    /// Closes the epoch under way: summary, evaluation if it is due, checkpoint.
    pub(crate) fn end_epoch<B: Block, H: Head, C: Criterion>(
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

    pub(crate) fn save<B: Block, H: Head, C: Criterion>(
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

/// The images of a batch.
fn images(batch: &Batch, device: &Device) -> Tensor<4> {
    let InputSize { height, width } = batch.size;
    let shape = [batch.classes.len(), 3, height, width];
    Tensor::from_data(TensorData::new(batch.images.clone(), shape), device)
}
