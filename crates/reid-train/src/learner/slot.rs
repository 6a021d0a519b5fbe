//! A slot that holds a learner and its task during a run.

mod averaging;
mod ranks;

use std::{
    collections::HashMap,
    ops::Range,
    path::{Path, PathBuf},
};

use burn::{
    module::ParamId,
    optim::{GradientsAccumulator, GradientsParams, ModuleOptimizer},
    tensor::{Bytes, Device, Gradients, Tensor},
};
use reid_core::{Ranks, Seed};
use reid_data::loader::Batches;
use reid_nn::traversal;

use super::{
    AnyLearner, LearnerParts, Loaded, Parameter, Part, StepOutput,
    visitors::{Parameters, SetTrained, Trained},
};
use crate::{
    checkpoint::{load, to_bytes},
    error::Error,
    gradients::{Squares, Untrained, mean_over_ranks, not_finite, scaled, split},
    task::{EpochBatches, Evaluation, Task},
};

pub(crate) use averaging::Renewal;

/// The prefix of the paths of a criterion's parameters.
const CRITERION: &str = "criterion";

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

    fn mean_over_ranks(&self, gradients: GradientsParams, ranks: &Ranks) -> GradientsParams {
        mean_over_ranks(self.learner(), gradients, ranks)
    }

    fn average_statistics(&mut self, ranks: &Ranks, of_average: bool) {
        self.average_statistics_over(ranks, of_average);
    }

    fn hash(&self) -> String {
        self.hash_of_values()
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
        let of_average = || {
            let name = self.average.as_ref().and_then(not_finite);
            name.map(|name| format!("average.{name}"))
        };
        let of_model = not_finite(self.model());
        of_model.or_else(of_criterion).or_else(of_average)
    }

    fn begin_average(&mut self) {
        self.start_average();
    }

    fn is_averaged(&self) -> bool {
        self.average.is_some()
    }

    fn average(&mut self, decay: f64) {
        self.update_average(decay);
    }

    fn renew_average(
        &mut self,
        renewal: &Renewal,
        proceed: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<bool, Error> {
        self.renew(renewal, proceed)
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
            self.start_average();
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
