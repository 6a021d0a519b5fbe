//! A step of a run: forward, backward, update.

use burn::{
    optim::GradientsParams,
    tensor::{Device, Tensor, TensorData},
};
use reid_core::InputSize;
use reid_data::loader::Batch;
use reid_nn::{Block, Criterion, Head, Precision, TrainingStep};
use serde::Serialize;

use super::Run;
use crate::{
    checkpoint::Parts,
    error::Error,
    gradients::{Squares, Untrained, clipped},
    history::{Measured, Unread},
    learner::Learner,
};

impl<N: Serialize> Run<'_, N> {
    /// One step: forward, backward, update.
    pub(super) fn step<B: Block, H: Head, C: Criterion>(
        &mut self,
        parts: Parts<B, H, C>,
        batch: &Batch,
    ) -> Result<(Parts<B, H, C>, Measured), Error> {
        let images = images(batch, &self.device.clone().autodiff());
        let (epoch, step) = (self.state.epoch as u64, self.state.step as u64);
        let scaled = self.recipe.precision == Precision::Float16;
        // A skipped step leaves nothing behind, but the forward pass moves running statistics.
        let untrained = scaled.then(|| Untrained::of_module(&parts.learner));
        let judgement = parts.learner.training_step(
            self.recipe.precision.cast(images),
            TrainingStep {
                labels: &batch.classes,
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
            measured.diagnostics.push(("left out".to_owned(), share));
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
            Some(_) => self.state.loss_scale.apply(loss),
            None => loss,
        };
        let Learner { model, criterion } = &parts.learner;
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
                    let learner = untrained.restore(parts.learner);
                    return (Parts { learner, ..parts }, Gradients::Skipped(name));
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
            learner: Learner { model, criterion },
            mut optimizer,
            mut criterion_optimizer,
        } = parts;
        let of_model = match self.recipe.clip_norm {
            Some(limit) => clipped(&model, of_model, squares, limit),
            None => of_model,
        };
        let centers_rate = self.recipe.losses.center_learning_rate;
        Parts {
            learner: Learner {
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
}

/// What became of the gradients of a step.
enum Gradients {
    /// The step was made; their lengths, still on the device.
    Used(Squares),
    /// The step was not made, because the gradient of this parameter overflowed.
    Skipped(String),
}

/// The images of a batch.
fn images(batch: &Batch, device: &Device) -> Tensor<4> {
    let InputSize { height, width } = batch.size;
    let shape = [batch.classes.len(), 3, height, width];
    Tensor::from_data(TensorData::new(batch.images.clone(), shape), device)
}
