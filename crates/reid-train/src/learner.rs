//! Trainee: a model with the criterion it is trained by.

use burn::{
    module::Module,
    tensor::{Device, Tensor},
};
use reid_nn::{
    Block, BlockConfig, Criterion, CriterionConfig, Diagnostic, Head, HeadConfig, Init, NamedLoss,
    ReidModel, TrainingStep,
};

use crate::{losses::LossesConfig, recipe::Recipe};

/// A model with the criterion it is trained by.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{InputSize, Seed};
/// use reid_nn::{TrainingStep, backbone::ResNetConfig, head::BnNeckConfig};
/// use reid_train::{Recipe, Learner};
///
/// let (device, size) = (Device::default(), InputSize::new(32, 16));
/// let backbone = ResNetConfig::resnet18().with_width(8);
/// let recipe = Recipe::strong_baseline("toy", size, backbone);
/// let learner = Learner::build(&recipe, &recipe.network, &BnNeckConfig::new(), 3, &device);
///
/// let step = TrainingStep { labels: &[0, 1], seed: Seed::new(1) };
/// let judgement = learner.training_step(Tensor::zeros([2, 3, 32, 16], &device), step);
/// let names: Vec<_> = judgement.losses.iter().map(|loss| &*loss.name).collect();
/// assert_eq!(names, ["identity", "triplet"]);
/// assert!((0.0..=1.0).contains(&judgement.accuracy.into_scalar::<f32>()));
/// ```
#[derive(Module, Debug)]
pub struct Learner<B, H, C> {
    /// What learns.
    pub model: ReidModel<B, H>,
    /// What says how badly.
    pub criterion: C,
}

/// What criterion and head make of a batch.
#[derive(Clone, Debug)]
pub struct StepOutput {
    /// Each loss, by name; their sum is minimised.
    pub losses: Vec<NamedLoss>,
    /// The share of the batch whose identity the first branch names, a tensor of one value.
    pub accuracy: Tensor<1>,
    /// What the head tells.
    pub diagnostics: Vec<Diagnostic>,
}

impl<B: Block, H: Head> Learner<B, H, <LossesConfig as CriterionConfig>::Criterion> {
    /// Builds a model and the losses of a recipe, ready to train, with weights drawn from the
    /// recipe's seed. `device` is a plain one.
    ///
    /// # Panics
    /// If the parts do not fit each other.
    #[must_use]
    pub fn build<N, CB, CH>(
        recipe: &Recipe<N>,
        backbone: &CB,
        head: &CH,
        classes: usize,
        device: &Device,
    ) -> Self
    where
        CB: BlockConfig<Block = B>,
        CH: HeadConfig<Head = H>,
    {
        let device = device.clone().autodiff();
        let (input, seed) = (recipe.input, recipe.seed);
        let init = Init::new(seed.named("weights"), &device);
        let model = ReidModel::new(backbone, head, input, classes, &init);
        let output = head.output(backbone.output(input.rgb()), classes);
        let init = Init::new(seed.named("criterion"), &device);
        let criterion = recipe.losses.init(&output, &init);
        Self { model, criterion }
    }
}

impl<B: Block, H: Head, C: Criterion> Learner<B, H, C> {
    /// What the criterion and the head make of a batch.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`, normalised
    ///
    /// # Panics
    /// If a class number is 2³¹ or more.
    pub fn training_step(&self, images: Tensor<4>, step: TrainingStep<'_>) -> StepOutput {
        let identities = step.labels_tensor(&images.device());
        let output = self.model.forward_train(images, step);
        let losses = self.criterion.losses(&output, identities.clone());
        let logits = output.logits[0].clone().detach();
        let named = logits.argmax(1).squeeze_dim::<1>(1);
        StepOutput {
            losses,
            accuracy: named.equal(identities).float().mean(),
            diagnostics: output.diagnostics,
        }
    }
}
