//! Learners that compute in double precision, as one process or as two ranks would.

use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{DType, Tensor},
};
use reid::{
    nn::TrainingStep,
    prelude::*,
    train::{Learner, LearnerParts, ParallelConfig, Scope, StepOutput},
};

use crate::fixture::Inner;

/// A learner that computes in double precision.
#[derive(Module, Debug)]
pub(crate) struct Double {
    learner: Inner,
}

impl Double {
    pub(crate) fn new(learner: Inner) -> Self {
        struct Cast;
        impl ModuleMapper for Cast {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                let is_trained = param.is_require_grad();
                param.map(|value| {
                    let value = value.without_autodiff().cast(DType::F64);
                    value.autodiff().set_require_grad(is_trained)
                })
            }
        }
        Self {
            learner: learner.map(&mut Cast),
        }
    }
}

impl LearnerParts for Double {
    type Model = <Inner as LearnerParts>::Model;
    type Criterion = <Inner as LearnerParts>::Criterion;

    fn from_parts(model: Self::Model, criterion: Self::Criterion) -> Self {
        Self {
            learner: Inner::from_parts(model, criterion),
        }
    }

    fn into_parts(self) -> (Self::Model, Self::Criterion) {
        self.learner.into_parts()
    }

    fn model(&self) -> &Self::Model {
        self.learner.model()
    }

    fn criterion(&self) -> &Self::Criterion {
        self.learner.criterion()
    }
}

impl Learner for Double {
    fn training_step(&self, images: Tensor<4>, step: TrainingStep<'_>) -> StepOutput {
        self.learner.training_step(images.cast(DType::F64), step)
    }

    fn gathers(&self) -> bool {
        true
    }
}

/// A plain reference of two ranks in one process: the halves of a batch are normalised on their own, or the losses are
/// the means of those of the halves, or both.
#[derive(Module, Debug)]
pub(crate) struct Halves {
    pub(crate) learner: Double,
    #[module(skip)]
    pub(crate) config: ParallelConfig,
}

impl Halves {
    fn forward(&self, images: Tensor<4>, step: TrainingStep<'_>) -> ReidOutput {
        self.learner.model().forward_train(images, step)
    }
}

impl LearnerParts for Halves {
    type Model = <Inner as LearnerParts>::Model;
    type Criterion = <Inner as LearnerParts>::Criterion;

    fn from_parts(model: Self::Model, criterion: Self::Criterion) -> Self {
        Self {
            learner: Double::from_parts(model, criterion),
            config: ParallelConfig::exact(), // a run takes a learner apart only to freeze or to load it
        }
    }

    fn into_parts(self) -> (Self::Model, Self::Criterion) {
        self.learner.into_parts()
    }

    fn model(&self) -> &Self::Model {
        self.learner.model()
    }

    fn criterion(&self) -> &Self::Criterion {
        self.learner.criterion()
    }
}

impl Learner for Halves {
    fn training_step(&self, images: Tensor<4>, step: TrainingStep<'_>) -> StepOutput {
        let images = images.cast(DType::F64);
        let (device, half) = (images.device(), images.dims()[0] / 2);
        let rows = |of: &Tensor<2>, part: usize| of.clone().narrow(0, part * half, half);
        let output = if self.config.batch_norm == Scope::PerRank {
            let [one, other] = [0, 1].map(|part| {
                let images = images.clone().narrow(0, part * half, half);
                let step = TrainingStep::new(&step.labels[part * half..][..half], step.seed);
                self.forward(images, step)
            });
            let cat = |one: &Tensor<2>, other: &Tensor<2>| {
                Tensor::cat(vec![one.clone(), other.clone()], 0)
            };
            ReidOutput::new(
                cat(&one.embedding, &other.embedding),
                vec![cat(&one.features[0], &other.features[0])],
                vec![cat(&one.logits[0], &other.logits[0])],
            )
        } else {
            self.forward(images, step)
        };
        let targets = |labels: &[usize]| Targets::new(labels, &device);
        if self.config.losses == Scope::WholeBatch {
            return StepOutput::new(self.criterion().losses(&output, &targets(step.labels)));
        }
        let [losses, others] = [0, 1].map(|part| {
            let output = ReidOutput::new(
                rows(&output.embedding, part),
                vec![rows(&output.features[0], part)],
                vec![rows(&output.logits[0], part)],
            );
            let labels = &step.labels[part * half..][..half];
            self.criterion().losses(&output, &targets(labels))
        });
        let pairs = losses.into_iter().zip(others);
        let means = pairs.map(|(one, other)| {
            let mean = (one.value + other.value) / 2.0;
            NamedLoss::new(one.name, mean)
        });
        StepOutput::new(means.collect())
    }
}
