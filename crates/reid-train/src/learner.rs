//! Learners: a model with the criterion that it is trained by, and what a training step of it is.

mod slot;
mod visitors;

use burn::{
    module::{Module, ModuleDisplay},
    tensor::{Device, Tensor},
};
use reid_nn::{
    Criterion, CriterionConfig, Diagnostic, Init, Model, NamedLoss, Network, TrainingStep,
};

use crate::recipe::Recipe;

pub(crate) use slot::{AnyLearner, Parameter, Part, Slot};

/// What the [`Trainer`](crate::Trainer) trains: a model, the parameters that exist only in training, and the
/// losses of a batch.
///
/// [`ReidLearner`] is the usual one. A type of one's own is for steps that are more than a criterion on the
/// model's output, such as distillation from a second model.
pub trait Learner: Module + ModuleDisplay {
    /// The model, which is evaluated and of which embeddings are computed.
    type Model: Model;
    /// What else has parameters or statistics, such as a criterion.
    type Criterion: Module;

    /// A learner of these parts.
    #[must_use]
    fn from_parts(model: Self::Model, criterion: Self::Criterion) -> Self;

    /// The parts of the learner.
    #[must_use]
    fn into_parts(self) -> (Self::Model, Self::Criterion);

    /// The model.
    #[must_use]
    fn model(&self) -> &Self::Model;

    /// The rest.
    #[must_use]
    fn criterion(&self) -> &Self::Criterion;

    /// The losses of a batch, whose sum is minimised.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`, normalised
    fn training_step(&self, images: Tensor<4>, step: TrainingStep<'_>) -> StepOutput;
}

/// A model with a criterion on its output.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{InputSize, Seed};
/// use reid_nn::{TrainingStep, backbone::ResNetConfig, head::BnNeckConfig};
/// use reid_train::{Learner, Recipe, ReidLearner};
///
/// let (device, size) = (Device::default(), InputSize::new(32, 16));
/// let network = (ResNetConfig::resnet18().with_width(8), BnNeckConfig::new());
/// let recipe = Recipe::strong_baseline("toy", size, network);
/// let learner = ReidLearner::build(&recipe, 3, &device);
///
/// let step = TrainingStep::new(&[0, 1], Seed::new(1));
/// let output = learner.training_step(Tensor::zeros([2, 3, 32, 16], &device), step);
/// let names: Vec<_> = output.losses.iter().map(|loss| &*loss.name).collect();
/// assert_eq!(names, ["identity", "triplet"]);
/// assert!((0.0..=1.0).contains(&output.accuracy.into_scalar::<f32>()));
/// ```
#[derive(Module, Debug)]
pub struct ReidLearner<M, C> {
    /// The model.
    pub model: M,
    /// The criterion.
    pub criterion: C,
}

impl<M: Model, C: Criterion> ReidLearner<M, C> {
    /// Builds the network and the losses of a recipe for so many training identities, ready to train, with weights
    /// drawn from the recipe's seed. `device` is a plain one.
    ///
    /// # Panics
    /// If the recipe is impossible.
    #[must_use]
    pub fn build<N, L>(recipe: &Recipe<N, L>, classes: usize, device: &Device) -> Self
    where
        N: Network<Model = M>,
        L: CriterionConfig<Criterion = C>,
    {
        let (seed, device) = (recipe.seed, device.clone().autodiff());
        let (network, input) = (&recipe.network, recipe.input);
        let model = network.init(input, classes, &Init::new(seed.named("weights"), &device));
        let output = network.output(input, classes);
        let init = Init::new(seed.named("criterion"), &device);
        let criterion = recipe.losses.init(&output, &init);
        Self { model, criterion }
    }
}

/// The result of a training step.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StepOutput {
    /// Each loss, by name; their sum is minimised.
    pub losses: Vec<NamedLoss>,
    /// The share of the batch whose identity the first branch predicts, a tensor of one value.
    pub accuracy: Tensor<1>,
    /// Named scalars of the model.
    pub diagnostics: Vec<Diagnostic>,
}

impl StepOutput {
    /// A result without diagnostics.
    #[must_use]
    pub const fn new(losses: Vec<NamedLoss>, accuracy: Tensor<1>) -> Self {
        Self {
            losses,
            accuracy,
            diagnostics: Vec::new(),
        }
    }

    /// The same with diagnostics.
    #[must_use]
    pub fn with_diagnostics(self, diagnostics: Vec<Diagnostic>) -> Self {
        Self {
            diagnostics,
            ..self
        }
    }
}

impl<M: Model, C: Criterion> Learner for ReidLearner<M, C> {
    type Model = M;
    type Criterion = C;

    fn from_parts(model: M, criterion: C) -> Self {
        Self { model, criterion }
    }

    fn into_parts(self) -> (M, C) {
        (self.model, self.criterion)
    }

    fn model(&self) -> &M {
        &self.model
    }

    fn criterion(&self) -> &C {
        &self.criterion
    }

    fn training_step(&self, images: Tensor<4>, step: TrainingStep<'_>) -> StepOutput {
        let targets = step.targets(&images.device());
        let output = self.model.forward_train(images, step);
        let losses = self.criterion.losses(&output, &targets);
        let logits = output.logits[0].clone().detach();
        let predicted = logits.argmax(1).squeeze_dim::<1>(1);
        let accuracy = predicted.equal(targets.labels).float().mean();
        StepOutput::new(losses, accuracy).with_diagnostics(output.diagnostics)
    }
}
