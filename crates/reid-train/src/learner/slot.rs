//! A slot that holds a learner and its task during a run, behind a trait object, so that the training loop is
//! compiled once for all types of learners and tasks.

use std::{
    collections::HashMap,
    ops::Range,
    path::{Path, PathBuf},
};

use burn::{
    module::{Module, ParamId},
    optim::{GradientsAccumulator, GradientsParams, ModuleOptimizer},
    tensor::{Bytes, Device, Gradients, Tensor},
};
use reid_core::Seed;
use reid_data::loader::Batches;
use reid_nn::traversal;

use super::{
    LearnerParts, StepOutput,
    visitors::{Parameters, SetTrained, Trained, Values},
};
use crate::{
    checkpoint::{load, to_bytes},
    error::Error,
    gradients::{Squares, Untrained, not_finite, scaled, split},
    task::{EpochBatches, Evaluation, Task},
};

/// The prefix of the paths of a criterion's parameters.
const CRITERION: &str = "criterion";

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

    /// The path of the first parameter or running statistic with a value that is not finite.
    fn not_finite(&self) -> Option<String>;

    /// Starts to average the weights of the model, unless it was started before.
    fn begin_average(&mut self);

    /// Updates the average of the weights: `average ← decay · average + (1 - decay) · model`.
    fn average(&mut self, decay: f64);

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

/// Holds a learner and its task. An update takes the learner out and puts it back, so that its parameters are
/// not shared meanwhile and can be updated in place.
pub(crate) struct Slot<L: LearnerParts, T: Task<L>> {
    learner: Option<L>,
    average: Option<L::Model>,
    /// Whether each parameter or flag is trained when no group is frozen, by path.
    trained: HashMap<String, bool>,
    pub(crate) task: T,
    /// The batches of the epoch that are not loaded yet.
    rest: Option<Batches<T::Batch>>,
    /// The batches of the current step.
    batches: Vec<T::Batch>,
}

impl<L: LearnerParts, T: Task<L>> Slot<L, T> {
    pub(crate) fn new(learner: L, task: T) -> Self {
        let mut visitor = Trained::default();
        traversal::visit(learner.model(), &mut visitor);
        visitor.path.push(CRITERION.to_owned());
        traversal::visit(learner.criterion(), &mut visitor);
        Self {
            learner: Some(learner),
            average: None,
            trained: visitor.found,
            task,
            rest: None,
            batches: Vec::new(),
        }
    }

    pub(crate) fn learner(&self) -> &L {
        self.learner
            .as_ref()
            .expect("each step puts the learner back")
    }

    pub(crate) fn learner_mut(&mut self) -> &mut L {
        self.learner
            .as_mut()
            .expect("each step puts the learner back")
    }

    /// Returns the learner, and the averaged model if weights are averaged.
    pub(crate) fn into_parts(self) -> (L, Option<L::Model>) {
        (
            self.learner.expect("each step puts the learner back"),
            self.average,
        )
    }

    fn replace(&mut self, change: impl FnOnce(L) -> L) {
        let learner = self
            .learner
            .take()
            .expect("each step puts the learner back");
        self.learner = Some(change(learner));
    }

    fn model(&self) -> &L::Model {
        self.learner().model()
    }

    fn criterion(&self) -> &L::Criterion {
        self.learner().criterion()
    }
}

impl<L: LearnerParts, T: Task<L>> AnyLearner for Slot<L, T> {
    fn begin_epoch(&mut self, epoch: usize, first: usize) -> Result<usize, Error> {
        let EpochBatches { count, rest } = self.task.epoch(epoch, first)?;
        self.rest = Some(rest);
        Ok(count)
    }

    fn load_batches(&mut self, most: usize) -> Result<Loaded, Error> {
        self.batches.clear();
        for batch in self.rest.iter_mut().flatten().take(most) {
            self.batches.push(batch?);
        }
        if self.batches.is_empty() {
            self.rest = None; // ends its threads
        }
        let images = self
            .batches
            .iter()
            .map(|batch| self.task.files(batch).len());
        Ok(Loaded {
            batches: self.batches.len(),
            images: images.sum(),
        })
    }

    fn files(&self, batches: Range<usize>) -> Vec<PathBuf> {
        let batches = self.batches[batches].iter();
        let files = batches.flat_map(|batch| self.task.files(batch));
        files.map(Path::to_owned).collect()
    }

    fn training_step(&self, batch: usize, seed: Seed) -> StepOutput {
        let batch = &self.batches[batch];
        self.task.training_step(self.learner(), batch, seed)
    }

    fn is_evaluated(&self) -> bool {
        self.task.is_evaluated()
    }

    fn evaluate(&self) -> Result<Evaluation, Error> {
        let model = self.average.as_ref().unwrap_or_else(|| self.model());
        self.task.evaluate(model)
    }

    fn parameters(&self) -> Vec<Parameter> {
        let mut visitor = Parameters::default();
        traversal::visit(self.model(), &mut visitor);
        visitor.path.push(CRITERION.to_owned());
        traversal::visit(self.criterion(), &mut visitor);
        visitor.found
    }

    fn model_size(&self) -> usize {
        reid_nn::parameters::count(self.model())
    }

    fn gradients(&self, mut gradients: Gradients) -> GradientsParams {
        GradientsParams::from_module(&mut gradients, self.learner())
    }

    fn added(&self, sum: GradientsParams, more: GradientsParams) -> GradientsParams {
        let mut both = GradientsAccumulator::new();
        both.accumulate(self.learner(), sum);
        both.accumulate(self.learner(), more);
        both.grads()
    }

    fn squares(&self, gradients: &GradientsParams) -> [Squares; 2] {
        [
            Squares::of_module(self.model(), gradients),
            Squares::of_module(self.criterion(), gradients),
        ]
    }

    fn scaled(
        &self,
        gradients: GradientsParams,
        factor: &dyn Fn(&Device) -> Tensor<1>,
        all: bool,
    ) -> GradientsParams {
        let (of_model, rest) = scaled(self.model(), gradients, factor);
        let (of_criterion, unscaled) = if all {
            scaled(self.criterion(), rest, factor)
        } else {
            (rest, GradientsParams::new())
        };
        debug_assert!(
            unscaled.is_empty(),
            "each gradient belongs to the model or the criterion"
        );
        self.added(of_model, of_criterion)
    }

    fn split(
        &self,
        gradients: GradientsParams,
        groups: &HashMap<ParamId, usize>,
    ) -> Vec<GradientsParams> {
        split(self.learner(), gradients, groups)
    }

    fn update(&mut self, optimizer: &mut ModuleOptimizer, rate: f64, gradients: GradientsParams) {
        self.replace(|learner| optimizer.step(rate, learner, gradients));
    }

    fn set_trained(&mut self, trained: &dyn Fn(&str) -> bool) {
        let learner = self
            .learner
            .take()
            .expect("each step puts the learner back");
        let mut mapper = SetTrained {
            initially: &self.trained,
            trained,
            path: Vec::new(),
        };
        let (model, criterion) = learner.into_parts();
        let model = traversal::map(model, &mut mapper);
        mapper.path.push(CRITERION.to_owned());
        self.learner = Some(L::from_parts(model, traversal::map(criterion, &mut mapper)));
    }

    fn untrained(&self) -> Untrained {
        Untrained::of_module(self.learner())
    }

    fn restore(&mut self, untrained: Untrained) {
        self.replace(|learner| untrained.restore(learner));
    }

    fn not_finite(&self) -> Option<String> {
        let of_criterion = || not_finite(self.criterion()).map(|name| format!("criterion.{name}"));
        not_finite(self.model()).or_else(of_criterion)
    }

    fn begin_average(&mut self) {
        if self.average.is_none() {
            self.average = Some(self.model().valid());
        }
    }

    fn average(&mut self, decay: f64) {
        if let Some(average) = self.average.take() {
            let values = Values::of_module(self.model());
            self.average = Some(values.averaged(average, decay));
        }
    }

    fn save(&self, part: Part) -> Result<Bytes, Error> {
        match part {
            Part::Model => to_bytes(self.model()),
            Part::Criterion => to_bytes(self.criterion()),
            Part::Average => to_bytes(self.average.as_ref().unwrap_or_else(|| self.model())),
        }
    }

    fn load(&mut self, part: Part, path: &Path) -> Result<(), Error> {
        if part == Part::Average {
            self.begin_average();
            let average = self.average.take().expect("the average was started above");
            self.average = Some(load(average, path)?);
            return Ok(());
        }
        let learner = self.learner().clone();
        let (model, criterion) = learner.into_parts();
        let learner = match part {
            Part::Model => L::from_parts(load(model, path)?, criterion),
            _ => L::from_parts(model, load(criterion, path)?),
        };
        self.learner = Some(learner);
        // A checkpoint of a run with frozen parameters also froze them.
        self.set_trained(&|_| true);
        Ok(())
    }
}
