//! The task of re-identification and classification: images with one label each.

mod ranks;

use std::path::Path;

use burn::{
    module::Module,
    tensor::{Device, Tensor, TensorData},
};
use reid_core::{InputSize, Problems, Sample, Seed, Splits};
use reid_data::{
    loader::{Batch, Classes, LoaderConfig, TrainLoader},
    sampler::Sampler,
    transform::Transform,
};
use reid_eval::EvaluationConfig;
use reid_nn::{Embed, Model, Precision, TrainingStep};

use super::{EpochBatches, Evaluation, Task};
use crate::{
    error::Error,
    extract::Extractor,
    learner::{Learner, StepOutput},
    parallel::Parallel,
    recipe::{Recipe, Sampling, refused},
    teacher::{Teacher, TeacherLosses},
};

/// Re-identification and classification: images with one label each, the identity or the class.
///
/// A model is evaluated by retrieval on the queries, and by classification on the test images. Either may be
/// absent. [`Trainer::new`](crate::Trainer::new) and [`Trainer::with_learner`](crate::Trainer::with_learner)
/// create it.
#[derive(Debug)]
pub struct ImageTask<'a> {
    splits: &'a Splits,
    loader: TrainLoader,
    pub(crate) sampler: Box<dyn Sampler>,
    /// The settings of the sampler; `None` for a custom one.
    pub(crate) sampling: Option<Sampling>,
    pub(crate) teacher: Option<Teacher>,
    /// The losses of the recipe.
    losses: TeacherLosses,
    /// Whether the learner computes other losses than those of the recipe, perhaps with the teacher.
    pub(crate) has_own_learner: bool,
    extractor: Extractor,
    evaluation: EvaluationConfig,
    seed: Seed,
    precision: Precision,
    device: Device,
    parallel: Option<Parallel>,
}

impl<'a> ImageTask<'a> {
    /// `losses` are those of the recipe.
    pub(crate) fn new<N, L>(
        recipe: &Recipe<N, L>,
        losses: TeacherLosses,
        splits: &'a Splits,
        loading: LoaderConfig,
        device: &Device,
    ) -> Self {
        let loader = TrainLoader::new(splits.train.clone(), recipe.input, recipe.seed)
            .with_config(loading)
            .with_augmentation(&recipe.augmentation);
        Self {
            splits,
            sampler: recipe.sampling.sampler(),
            sampling: Some(recipe.sampling),
            teacher: None,
            losses,
            has_own_learner: false,
            extractor: Extractor::from_recipe(recipe, loading).sharing(&loader),
            loader,
            evaluation: recipe.evaluation.clone(),
            seed: recipe.seed,
            precision: recipe.precision,
            device: device.clone(),
            parallel: None,
        }
    }

    /// The label of each training identity.
    pub(crate) fn classes(&self) -> &Classes {
        self.loader.classes()
    }

    /// Appends a transform to those of the recipe and those added before.
    pub(crate) fn add_transform(&mut self, transform: impl Transform + 'static) {
        self.loader = self.loader.clone().with_transform(transform);
    }

    /// The number of dimensions of the embeddings of a model in evaluation mode.
    fn dimensions(&self, model: &dyn Embed) -> usize {
        let InputSize { height, width } = self.extractor.input();
        let image = Tensor::zeros([1, 3, height, width], &self.device);
        let [_, dimensions] = model.embed(self.precision.cast(image)).dims();
        dimensions
    }

    /// The batches of an epoch, which the ranks can share.
    fn batches(&self, epoch: usize) -> Result<Vec<Vec<usize>>, Error> {
        let samples = self.loader.samples();
        let seed = self.seed.named("sampler").at(epoch as u64);
        let batches = self.sampler.batches(samples, seed)?;
        expect_batches(&batches, samples)?;
        ranks::expect_shares(&batches, self.share()[1])?;
        Ok(batches)
    }

    /// The images of a batch in single precision, on the autodiff device, `[batch, 3, height, width]`.
    fn images(&self, batch: &Batch) -> Tensor<4> {
        let InputSize { height, width } = batch.size;
        let shape = [batch.classes.len(), 3, height, width];
        let data = TensorData::new(batch.images.clone(), shape);
        Tensor::from_data(data, &self.device.clone().autodiff())
    }
}

impl<L: Learner> Task<L> for ImageTask<'_> {
    type Batch = Batch;

    /// Rejects a teacher that does not fit the losses of the recipe, and losses without their teacher.
    fn validate(&self, learner: &L) -> Result<(), Error> {
        let mut problems = Problems::new();
        let is_used = self.losses.uses_teacher();
        let dimensions = match &self.teacher {
            None => None,
            Some(teacher) => {
                let expected = "a loss that uses the teacher, such as `distillation`";
                let holds = is_used || self.has_own_learner;
                problems.require("losses", holds, expected, "none");
                teacher.dimensions(&self.device, &mut problems)
            }
        };
        if is_used && problems.is_empty() {
            let student = self.dimensions(&learner.model().valid());
            self.losses.validate(student, dimensions, &mut problems);
        }
        self.validate_ranks(learner, &mut problems);
        refused(None, problems)?;
        if self.parallel.is_some() {
            // Whether the ranks can share the batches, the last one of an epoch among them, which may be smaller.
            self.batches(0)?;
        }
        Ok(())
    }

    fn epoch(&self, epoch: usize, first: usize) -> Result<EpochBatches<Batch>, Error> {
        let batches = self.batches(epoch)?;
        let (count, share) = (batches.len(), self.share());
        let rest = self
            .loader
            .epoch_share(epoch as u64, batches, first.min(count), share);
        Ok(EpochBatches { count, rest })
    }

    fn files<'b>(&'b self, batch: &'b Batch) -> Vec<&'b Path> {
        let path = |&index: &usize| self.splits.train[index].path.as_path();
        batch.indices.iter().map(path).collect()
    }

    fn training_step(&self, learner: &L, batch: &Batch, seed: Seed) -> StepOutput {
        let images = self.images(batch);
        // The teacher has its own precision.
        let teacher = self.teacher.as_ref();
        let teacher =
            teacher.map(|teacher| teacher.embed(images.clone(), self.extractor.normalise()));
        let mut step = step_of(batch, seed);
        if let Some(embeddings) = &teacher {
            step = step.with_teacher(embeddings);
        }
        if let Some(ranks) = self.ranks_of_losses() {
            step = step.with_ranks(ranks);
        }
        let images = self.precision.cast(images);
        self.forward(|| learner.training_step(images, step))
    }

    fn forward_train(&self, learner: &L, batch: &Batch, seed: Seed) {
        let images = self.precision.cast(self.images(batch));
        let output = self.forward(|| learner.forward_train(images, step_of(batch, seed)));
        if output.is_none() {
            let _ = self.training_step(learner, batch, seed);
        }
    }

    fn is_evaluated(&self) -> bool {
        !(self.splits.query.is_empty() && self.splits.test.is_empty())
    }

    fn evaluate(&self, model: &L::Model) -> Result<Evaluation, Error> {
        let model = model.evaluation();
        let (splits, device) = (self.splits, &self.device);
        let retrieve = || {
            let config = &self.evaluation;
            self.extractor.evaluate(&model, splits, config, device)
        };
        let classify = || {
            let classes = self.classes();
            self.extractor
                .classify(&model, &splits.test, classes, device)
        };
        Ok(Evaluation {
            report: (!splits.query.is_empty()).then(retrieve).transpose()?,
            classification: (!splits.test.is_empty()).then(classify).transpose()?,
            segmentation: None,
        })
    }
}

/// The labels, attributes and seed of a training step.
fn step_of(batch: &Batch, seed: Seed) -> TrainingStep<'_> {
    TrainingStep::new(&batch.classes, seed).with_attributes(&batch.attributes)
}

/// Rejects batches of a custom sampler that cannot be trained on.
fn expect_batches(batches: &[Vec<usize>], samples: &[Sample]) -> Result<(), Error> {
    let beyond = batches
        .iter()
        .flatten()
        .find(|&&index| index >= samples.len());
    let reason = match beyond {
        _ if batches.is_empty() => "an epoch without batches".to_owned(),
        Some(index) => {
            let count = samples.len();
            format!("a batch with the sample index {index} of only {count} samples")
        }
        None if batches.iter().any(Vec::is_empty) => "a batch without images".to_owned(),
        None => return Ok(()),
    };
    Err(reid_data::Error::Sampling { reason }.into())
}
