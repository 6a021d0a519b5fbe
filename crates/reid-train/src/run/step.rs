//! A training step of a run: forward and backward passes, and the update.

use burn::{
    optim::GradientsParams,
    tensor::{Device, Tensor, TensorData},
};
use reid_core::InputSize;
use reid_data::loader::Batch;
use reid_nn::{Precision, TrainingStep};

use super::{Parts, Run};
use crate::{
    error::Error,
    gradients::{Squares, Untrained, clipping},
    history::{Measured, Unread},
};

impl Run<'_> {
    /// Makes a training step: a forward and a backward pass for each batch, then an update.
    pub(super) fn step(
        &mut self,
        parts: &mut Parts<'_>,
        batches: &[Batch],
    ) -> Result<Measured, Error> {
        let scaled = self.recipe.precision == Precision::Float16;
        // A skipped step must change nothing, but the forward pass updates running statistics.
        let untrained = scaled.then(|| parts.learner.untrained());
        let mut unread = Vec::with_capacity(batches.len());
        let mut sum = None;
        for (index, batch) in batches.iter().enumerate() {
            let (measured, gradients) = self.backward(parts, batch, index, batches.len());
            unread.push(measured);
            sum = match (sum, gradients) {
                (Some(sum), Some(gradients)) => Some(parts.learner.added(sum, gradients)),
                (sum, gradients) => sum.or(gradients),
            };
        }
        let gradients = match sum {
            Some(gradients) => self.update(parts, gradients, untrained),
            None => Gradients::Used(Squares::default()),
        };
        if let (Gradients::Used(squares), Some(last)) = (&gradients, unread.last_mut()) {
            last.squares = squares.values();
        }
        // The values are read last, so that a GPU computes the whole step without waiting.
        let mut measured = Vec::with_capacity(unread.len());
        let mut squares_read = Vec::new();
        for (unread, batch) in unread.into_iter().zip(batches) {
            let (values, squares) = unread.read();
            let infinite = |(_, value): &&(String, f64)| !value.is_finite();
            if let Some((name, value)) = values.losses.iter().find(infinite) {
                let batch = std::slice::from_ref(batch);
                return Err(self.not_finite(&format!("{name} loss"), *value, batch));
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
            return Err(self.not_finite(&name, f64::NAN, batches));
        }
        if let (Some(decay), Gradients::Used(_)) = (self.recipe.average_decay, &gradients) {
            parts.learner.average(decay);
        }
        let mut measured = Measured::mean(measured);
        if scaled {
            let skipped = matches!(gradients, Gradients::Skipped(_));
            let share = f64::from(u8::from(skipped));
            measured.diagnostics.push(("skipped".to_owned(), share));
        }
        Ok(measured)
    }

    /// Computes the losses of a batch, and the gradients of their sum divided by the number of batches.
    fn backward(
        &self,
        parts: &Parts<'_>,
        batch: &Batch,
        index: usize,
        batches: usize,
    ) -> (Unread, Option<GradientsParams>) {
        let images = images(batch, &self.device.clone().autodiff());
        let (epoch, step) = (self.state.epoch as u64, self.state.step as u64);
        let seed = self.recipe.seed.named("head").at(epoch).at(step);
        let seed = if index == 0 {
            seed
        } else {
            seed.at(index as u64)
        };
        let output = parts.learner.training_step(
            self.recipe.precision.cast(images),
            TrainingStep::new(&batch.classes, seed).with_attributes(&batch.attributes),
        );
        let unread = Unread::from(&output);
        let losses = output.losses.into_iter().map(|loss| loss.value);
        let gradients = losses.reduce(Tensor::add).map(|loss| {
            let loss = if batches > 1 {
                loss / batches as f64
            } else {
                loss
            };
            let scaled = self.recipe.precision == Precision::Float16;
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
                let of_model = match self.recipe.clip_norm {
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
        let limit = self.recipe.clip_norm;
        let scale = limit.and_then(|limit| clipping(squares, limit));
        let gradients = match scale {
            Some(scale) => parts.learner.scaled(gradients, &|_| scale.clone(), false),
            None => gradients,
        };
        let rate = self.learning_rate();
        parts.optimizers.step(parts.learner, gradients, rate);
    }

    fn not_finite(&self, name: &str, value: f64, batches: &[Batch]) -> Error {
        let path = |&index: &usize| self.splits.train[index].path.clone();
        let images = batches.iter().flat_map(|batch| &batch.indices);
        Error::NotFinite {
            epoch: self.state.epoch + 1,
            step: self.state.step + 1,
            name: name.to_owned(),
            value,
            images: images.map(path).collect(),
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

/// The images of a batch, `[batch, 3, height, width]`.
fn images(batch: &Batch, device: &Device) -> Tensor<4> {
    let InputSize { height, width } = batch.size;
    let shape = [batch.classes.len(), 3, height, width];
    Tensor::from_data(TensorData::new(batch.images.clone(), shape), device)
}
