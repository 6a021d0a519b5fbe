//! A training step of a run: forward and backward passes, and the update.

use std::path::PathBuf;

use burn::{optim::GradientsParams, tensor::Tensor};
use reid_nn::Precision;
use reid_ops::HeldMemory;

use super::{Parts, Run};
use crate::{
    error::Error,
    gradients::{Squares, Untrained, clipping},
    history::{Measured, Unread},
};

impl Run<'_> {
    /// Makes a training step: a forward and a backward pass for each loaded batch, then an update.
    pub(super) fn step(
        &mut self,
        parts: &mut Parts<'_>,
        batches: usize,
    ) -> Result<Measured, Error> {
        let scaled = self.settings.precision == Precision::Float16;
        // A skipped step must change nothing, but the forward pass updates running statistics.
        let untrained = scaled.then(|| parts.learner.untrained());
        let mut unread = Vec::with_capacity(batches);
        let mut sum = None;
        for index in 0..batches {
            let (measured, gradients) = self.backward(parts, index, batches);
            unread.push(measured);
            sum = match (sum, gradients) {
                (Some(sum), Some(gradients)) => Some(parts.learner.added(sum, gradients)),
                (sum, gradients) => sum.or(gradients),
            };
        }
        let sum = sum.map(|gradients| self.mean_over_ranks(parts, gradients));
        let gradients = match sum.transpose()? {
            Some(gradients) => self.update(parts, gradients, untrained),
            None => Gradients::Used(Squares::default()),
        };
        if let (Gradients::Used(squares), Some(last)) = (&gradients, unread.last_mut()) {
            last.squares = squares.values();
        }
        // The values are read last, so that a GPU computes the whole step without waiting.
        let mut measured = Vec::with_capacity(unread.len());
        let mut squares_read = Vec::new();
        for (index, unread) in unread.into_iter().enumerate() {
            let (values, squares) = unread.read();
            let infinite = |(_, value): &&(String, f64)| !value.is_finite();
            if let Some((name, value)) = values.losses.iter().find(infinite) {
                let images = parts.learner.files(index..index + 1);
                return Err(self.not_finite(&format!("{name} loss"), *value, images));
            }
            measured.push(values);
            squares_read = squares;
        }
        let unusable = match &gradients {
            Gradients::Used(squares) => squares.not_finite(&squares_read),
            Gradients::Skipped(name) => self.state.loss_scale.is_spent().then_some(&**name),
        };
        if let Some(name) = unusable {
            let name = format!("gradient of `{name}`");
            let images = parts.learner.files(0..batches);
            return Err(self.not_finite(&name, f64::NAN, images));
        }
        self.average(parts, matches!(gradients, Gradients::Used(_)));
        let mut measured = self.measured_over_ranks(Measured::mean(measured))?;
        if scaled {
            let skipped = matches!(gradients, Gradients::Skipped(_));
            let share = f64::from(u8::from(skipped));
            measured.diagnostics.push(("skipped".to_owned(), share));
        }
        Ok(measured)
    }

    /// Computes the losses of a loaded batch, and the gradients of their sum divided by the number of
    /// batches.
    fn backward(
        &self,
        parts: &Parts<'_>,
        index: usize,
        batches: usize,
    ) -> (Unread, Option<GradientsParams>) {
        let (epoch, step) = (self.state.epoch as u64, self.state.step as u64);
        let seed = self.settings.seed.named("head").at(epoch).at(step);
        let seed = if index == 0 {
            seed
        } else {
            seed.at(index as u64)
        };
        let output = parts.learner.training_step(index, self.seed_of_rank(seed));
        self.memory.get_or_init(HeldMemory::new);
        let unread = Unread::from(&output);
        let losses = output.losses.into_iter().map(|loss| loss.value);
        let gradients = losses.reduce(Tensor::add).map(|loss| {
            let loss = if batches > 1 {
                loss / batches as f64
            } else {
                loss
            };
            let scaled = self.settings.precision == Precision::Float16;
            let loss = if scaled {
                self.state.loss_scale.apply(loss)
            } else {
                loss
            };
            parts.learner.gradients(loss.backward())
        });
        (unread, gradients)
    }

    /// Updates the parameters, or skips the step if scaled gradients overflowed. `untrained` is `Some` if
    /// losses are scaled: the values that a skipped step restores.
    fn update(
        &mut self,
        parts: &mut Parts<'_>,
        gradients: GradientsParams,
        untrained: Option<Untrained>,
    ) -> Gradients {
        let [of_model, of_criterion] = parts.learner.squares(&gradients);
        let Some(untrained) = untrained else {
            self.apply(parts, gradients, &of_model);
            return Gradients::Used(of_model.with_criterion(of_criterion));
        };
        let all = of_model.with_criterion(of_criterion);
        match self
            .state
            .loss_scale
            .unscaled(&*parts.learner, gradients, &all)
        {
            Ok(gradients) => {
                // They are finite. Only clipping needs their norm, now without the scale.
                let of_model = match self.settings.clip_norm {
                    Some(_) => parts.learner.squares(&gradients).into_iter().next(),
                    None => None,
                };
                let of_model = of_model.unwrap_or_default();
                self.apply(parts, gradients, &of_model);
                Gradients::Used(of_model)
            }
            Err(name) => {
                parts.learner.restore(untrained);
                Gradients::Skipped(name)
            }
        }
    }

    /// Clips the gradients and updates the parameters. `squares` are those of the model.
    fn apply(&self, parts: &mut Parts<'_>, gradients: GradientsParams, squares: &Squares) {
        let limit = self.settings.clip_norm;
        let scale = limit.and_then(|limit| clipping(squares, limit));
        let gradients = match scale {
            Some(scale) => parts.learner.scaled(gradients, &|_| scale.clone(), false),
            None => gradients,
        };
        let rate = self.learning_rate();
        parts.optimizers.step(parts.learner, gradients, rate);
    }

    fn not_finite(&self, name: &str, value: f64, images: Vec<PathBuf>) -> Error {
        Error::NotFinite {
            epoch: self.state.epoch + 1,
            step: self.state.step + 1,
            name: name.to_owned(),
            value,
            images,
        }
    }
}

/// The use of the gradients of a step.
enum Gradients {
    /// The parameters were updated; ‖g‖² of each gradient, still on the device.
    Used(Squares),
    /// The step was skipped, because the gradient of this parameter overflowed.
    Skipped(String),
}
