//! Learners: a model, its criterion and their training step.

mod any;
mod pixels;
mod slot;
mod visitors;

use burn::{
    module::{Module, ModuleDisplay},
    tensor::{Device, Tensor},
};
use reid_nn::{
    Criterion, CriterionConfig, Diagnostic, Init, Model, NamedLoss, Network, ReidOutput,
    TrainingStep,
};

use crate::recipe::Recipe;

pub(crate) use any::{AnyLearner, Loaded, Parameter, Part};
pub use pixels::{PixelCriterion, SegmentationLearner};
pub(crate) use slot::{Renewal, Slot};

/// The parts of a learner of any task: a model and a criterion. [`Learner`] has an example.
pub trait LearnerParts: Module + ModuleDisplay {
    /// The model that is evaluated.
    type Model: Module;
    /// The other modules with parameters or running statistics, such as a criterion. They exist only in
    /// training.
    type Criterion: Module;

    /// Builds a learner from its model and criterion.
    #[must_use]
    fn from_parts(model: Self::Model, criterion: Self::Criterion) -> Self;

    /// Splits the learner into its model and criterion.
    #[must_use]
    fn into_parts(self) -> (Self::Model, Self::Criterion);

    /// The model.
    #[must_use]
    fn model(&self) -> &Self::Model;

    /// The criterion.
    #[must_use]
    fn criterion(&self) -> &Self::Criterion;
}

/// A model, its criterion and their training step, which a [`Trainer`](crate::Trainer) trains for
/// re-identification or classification.
///
/// [`ReidLearner`] is the usual learner. Implement a custom one if a training step is more than a criterion
/// on the output of the model, such as the mutual learning of two models.
/// [`Trainer::with_learner`](crate::Trainer::with_learner) trains it.
///
/// ```
/// use burn::{module::Module, tensor::{Device, Tensor}};
/// use reid_core::{InputSize, Seed};
/// use reid_nn::{Criterion, Model, NamedLoss, TrainingStep, backbone::ResNetConfig, head::BnNeckConfig};
/// use reid_train::{Learner, LearnerParts, Recipe, ReidLearner, StepOutput};
///
/// /// Also minimises the squares of the embeddings.
/// #[derive(Module, Debug)]
/// struct ShortEmbeddings<M, C> {
///     model: M,
///     criterion: C,
/// }
///
/// impl<M: Model, C: Criterion> LearnerParts for ShortEmbeddings<M, C> {
///     type Model = M;
///     type Criterion = C;
///
///     fn from_parts(model: M, criterion: C) -> Self {
///         Self { model, criterion }
///     }
///     // And the reverse.
/// #   fn into_parts(self) -> (M, C) { (self.model, self.criterion) }
/// #   fn model(&self) -> &M { &self.model }
/// #   fn criterion(&self) -> &C { &self.criterion }
/// }
///
/// impl<M: Model, C: Criterion> Learner for ShortEmbeddings<M, C> {
///     fn training_step(&self, images: Tensor<4>, step: TrainingStep<'_>) -> StepOutput {
///         let targets = step.targets(&images.device());
///         let output = self.model.forward_train(images, step);
///         let mut losses = self.criterion.losses(&output, &targets);
///         losses.push(NamedLoss::new("length", output.embedding.square().mean() * 0.01));
///         StepOutput::new(losses)
///     }
/// }
///
/// let (device, size) = (Device::default(), InputSize::new(32, 16));
/// let network = (ResNetConfig::resnet18().with_width(4), BnNeckConfig::new());
/// let recipe = Recipe::strong_baseline("toy", size, network);
/// let (model, criterion) = ReidLearner::build(&recipe, 3, &device).into_parts();
/// let learner = ShortEmbeddings::from_parts(model, criterion);
///
/// let step = TrainingStep::new(&[0, 1], Seed::new(1));
/// let output = learner.training_step(Tensor::zeros([2, 3, 32, 16], &device), step);
/// let names: Vec<_> = output.losses.iter().map(|loss| &*loss.name).collect();
/// assert_eq!(names, ["identity", "triplet", "length"]);
/// ```
pub trait Learner: LearnerParts<Model: Model> {
    /// Computes the losses of a batch. Their sum is minimised.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`, normalised
    fn training_step(&self, images: Tensor<4>, step: TrainingStep<'_>) -> StepOutput;

    /// Computes the output of the model in training mode, without losses: the forward pass from which the running
    /// statistics of averaged weights are computed anew. The step has no teacher. With `None`, the default, these
    /// passes are whole training steps.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`, normalised
    fn forward_train(&self, images: Tensor<4>, step: TrainingStep<'_>) -> Option<ReidOutput> {
        let _ = (images, step);
        None
    }

    /// Whether [`training_step`](Self::training_step) computes its losses over the batches of
    /// [`TrainingStep::ranks`], as [`ReidOutput::gathered`] makes possible. `false`, the default, is an error in a run
    /// with [several ranks](crate::Trainer::with_ranks) and losses over the whole batch.
    fn gathers(&self) -> bool {
        false
    }
}

/// A learner whose losses are computed by a criterion from the output of a model.
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
/// let accuracy = output.accuracy.expect("the identity loss uses the logits").into_scalar::<f32>();
/// assert!((0.0..=1.0).contains(&accuracy));
/// ```
#[derive(Module, Debug)]
pub struct ReidLearner<M, C> {
    /// The model.
    pub model: M,
    /// The criterion, which computes the losses from the output of the model.
    pub criterion: C,
}

impl<M: Model, C: Criterion> ReidLearner<M, C> {
    /// Builds the network and the losses of a recipe for `classes` training identities. The weights are
    /// drawn from the seed of the recipe. `device` is without autodiff; the learner is on its autodiff
    /// counterpart.
    ///
    /// # Panics
    /// If the recipe is invalid ([`Recipe::check`]).
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
    /// The losses, each with its name. Their sum is minimised.
    pub losses: Vec<NamedLoss>,
    /// The fraction of the batch whose label the first branch predicts, `[1]`; `None` if no loss
    /// [uses the logits](Criterion::uses_logits).
    pub accuracy: Option<Tensor<1>>,
    /// The diagnostics of the model: named scalars that are reported and not minimised.
    pub diagnostics: Vec<Diagnostic>,
}

impl StepOutput {
    /// The output of a training step, without accuracy and diagnostics.
    #[must_use]
    pub const fn new(losses: Vec<NamedLoss>) -> Self {
        Self {
            losses,
            accuracy: None,
            diagnostics: Vec::new(),
        }
    }

    /// Sets the accuracy, `[1]`.
    #[must_use]
    pub fn with_accuracy(self, accuracy: impl Into<Option<Tensor<1>>>) -> Self {
        Self {
            accuracy: accuracy.into(),
            ..self
        }
    }

    /// Replaces the diagnostics.
    #[must_use]
    pub fn with_diagnostics(self, diagnostics: Vec<Diagnostic>) -> Self {
        Self {
            diagnostics,
            ..self
        }
    }
}

impl<M: Model, C: Criterion> LearnerParts for ReidLearner<M, C> {
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
}

impl<M: Model, C: Criterion> Learner for ReidLearner<M, C> {
    fn training_step(&self, images: Tensor<4>, step: TrainingStep<'_>) -> StepOutput {
        let targets = step.targets(&images.device());
        let output = self.model.forward_train(images, step);
        let (output, targets) = match step.ranks {
            Some(ranks) => (output.gathered(ranks), targets.gathered(ranks)),
            None => (output, targets),
        };
        let losses = self.criterion.losses(&output, &targets);
        let accuracy = self.criterion.uses_logits().then(|| {
            let logits = output.logits[0].clone().detach();
            let predicted = logits.argmax(1).squeeze_dim::<1>(1);
            predicted.equal(targets.labels).float().mean()
        });
        StepOutput::new(losses)
            .with_accuracy(accuracy)
            .with_diagnostics(output.diagnostics)
    }

    fn forward_train(&self, images: Tensor<4>, step: TrainingStep<'_>) -> Option<ReidOutput> {
        Some(self.model.forward_train(images, step))
    }

    fn gathers(&self) -> bool {
        true
    }
}
