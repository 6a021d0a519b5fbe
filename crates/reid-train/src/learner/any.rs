//! A learner of any type behind a trait object, so that the training loop is compiled once for all types of
//! learners and tasks.

use std::{
    collections::HashMap,
    ops::Range,
    path::{Path, PathBuf},
};

use burn::{
    module::ParamId,
    optim::{GradientsParams, ModuleOptimizer},
    tensor::{Bytes, Device, Gradients, Tensor},
};
use reid_core::{Ranks, Seed};

use super::{Renewal, StepOutput};
use crate::{
    error::Error,
    gradients::{Squares, Untrained},
    task::Evaluation,
};

/// A parameter of a learner.
#[derive(Clone, Debug)]
pub(crate) struct Parameter {
    /// Its path in the model, or `criterion.` and its path in the criterion.
    pub(crate) path: String,
    pub(crate) id: ParamId,
    /// Whether it requires a gradient.
    pub(crate) trained: bool,
}

/// The batches of a training step.
pub(crate) struct Loaded {
    /// The number of batches; 0 after the last step of an epoch.
    pub(crate) batches: usize,
    /// The number of their images.
    pub(crate) images: usize,
}

/// A learner of any type, with its task.
pub(crate) trait AnyLearner {
    /// Starts an epoch at batch `first`, both counted from 0. Returns the number of batches of the whole
    /// epoch.
    fn begin_epoch(&mut self, epoch: usize, first: usize) -> Result<usize, Error>;

    /// Loads the next batches of the epoch, at most `most`.
    fn load_batches(&mut self, most: usize) -> Result<Loaded, Error>;

    /// The image files of loaded batches.
    fn files(&self, batches: Range<usize>) -> Vec<PathBuf>;

    /// Computes the losses of a loaded batch.
    fn training_step(&self, batch: usize, seed: Seed) -> StepOutput;

    /// Whether the data have images to evaluate the model with.
    fn is_evaluated(&self) -> bool;

    /// Evaluates the model: the averaged one, if weights are averaged.
    fn evaluate(&self) -> Result<Evaluation, Error>;

    /// All parameters, those of the model first.
    fn parameters(&self) -> Vec<Parameter>;

    /// The number of values of all parameters of the model.
    fn model_size(&self) -> usize;

    /// Collects the gradients of all parameters.
    fn gradients(&self, gradients: Gradients) -> GradientsParams;

    /// Adds the gradients of two batches.
    fn added(&self, sum: GradientsParams, more: GradientsParams) -> GradientsParams;

    /// Replaces gradients by their means over all ranks.
    fn mean_over_ranks(&self, gradients: GradientsParams, ranks: &Ranks) -> GradientsParams;

    /// Replaces the running statistics of batch normalisations by their means over all ranks: those of the average if
    /// `of_average`.
    fn average_statistics(&mut self, ranks: &Ranks, of_average: bool);

    /// A hash of all parameters and running statistics.
    fn hash(&self) -> String;

    /// ‖g‖² of the gradients of the model and of the criterion.
    fn squares(&self, gradients: &GradientsParams) -> [Squares; 2];

    /// Multiplies the gradients by a factor; those of the criterion only if `all`.
    fn scaled(
        &self,
        gradients: GradientsParams,
        factor: &dyn Fn(&Device) -> Tensor<1>,
        all: bool,
    ) -> GradientsParams;

    /// Splits the gradients by the group of their parameters.
    fn split(
        &self,
        gradients: GradientsParams,
        groups: &HashMap<ParamId, usize>,
    ) -> Vec<GradientsParams>;

    /// Updates the parameters that have gradients.
    fn update(&mut self, optimizer: &mut ModuleOptimizer, rate: f64, gradients: GradientsParams);

    /// Freezes the parameters for whose paths `trained` returns `false`, and unfreezes the others.
    fn set_trained(&mut self, trained: &dyn Fn(&str) -> bool);

    /// Copies the values that are not trained.
    fn untrained(&self) -> Untrained;

    /// Restores the values that are not trained.
    fn restore(&mut self, untrained: Untrained);

    /// The path of the first parameter or running statistic with a value that is not finite, also of the
    /// average.
    fn not_finite(&self) -> Option<String>;

    /// Starts to average the weights of the model, unless it was started before.
    fn begin_average(&mut self);

    /// Whether the average of the weights was started.
    fn is_averaged(&self) -> bool;

    /// Updates the average of the weights: `average ← average + (1 - decay) · (model - average)`.
    fn average(&mut self, decay: f64);

    /// Computes the running statistics of the average anew. `proceed` is called after each batch, with the
    /// number of batches done and of all. If it returns `false`, nothing is changed. Returns whether the pass
    /// was completed.
    fn renew_average(
        &mut self,
        renewal: &Renewal,
        proceed: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<bool, Error>;

    fn save(&self, part: Part) -> Result<Bytes, Error>;

    fn load(&mut self, part: Part, path: &Path) -> Result<(), Error>;
}

/// The part of a learner that a file of a checkpoint holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Model,
    Criterion,
    Average,
}
