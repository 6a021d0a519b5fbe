//! Trainee: a model with the criterion it is trained by.

use burn::{
    module::Module,
    tensor::{Device, Tensor},
};
use reid_nn::{
    Block, BlockConfig, Criterion, CriterionConfig, Head, HeadConfig, NamedLoss, ReidModel,
    TrainingStep, drawing,
};

use crate::{losses::LossesConfig, recipe::Recipe};

/// A model with the criterion it is trained by.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{InputSize, Seed};
/// use reid_nn::{TrainingStep, backbone::ResNetConfig, head::BnNeckConfig};
/// use reid_train::{Recipe, Trainee};
///
/// let (device, size) = (Device::default(), InputSize::new(32, 16));
/// let backbone = ResNetConfig::resnet18().with_width(8);
/// let recipe = Recipe::strong_baseline("toy", size, backbone);
/// let trainee = Trainee::build(&recipe, &recipe.network, &BnNeckConfig::new(), 3, &device);
///
/// let step = TrainingStep { identities: &[0, 1], seed: Seed::new(1) };
/// let (losses, accuracy) = trainee.judge(Tensor::zeros([2, 3, 32, 16], &device), step);
/// assert_eq!((&*losses[0].name, &*losses[1].name), ("identity", "triplet"));
/// assert!((0.0..=1.0).contains(&accuracy.into_scalar::<f32>()));
/// ```
#[derive(Module, Debug)]
pub struct Trainee<B, H, C> {
    /// What learns.
    pub model: ReidModel<B, H>,
    /// What says how badly.
    pub criterion: C,
}

impl<B: Block, H: Head> Trainee<B, H, <LossesConfig as CriterionConfig>::Criterion> {
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
        let model = ReidModel::seeded(
            (backbone, head),
            input,
            classes,
            seed.named("weights"),
            &device,
        );
        let output = head.output(backbone.output(input.rgb()), classes);
        let build = || recipe.losses.init(&output, &device);
        let criterion = drawing::from_seed(seed.named("criterion"), &device, build);
        Self { model, criterion }
    }
}

impl<B: Block, H: Head, C: Criterion> Trainee<B, H, C> {
    /// The losses of a batch, and the share of it whose identity the first branch names.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`, normalised
    ///
    /// # Panics
    /// If a class number is 2³¹ or more.
    pub fn judge(&self, images: Tensor<4>, step: TrainingStep<'_>) -> (Vec<NamedLoss>, Tensor<1>) {
        let identities = step.classes(&images.device());
        let output = self.model.forward_train(images, step);
        let losses = self.criterion.losses(&output, identities.clone());
        let logits = output.branches[0].logits.clone().detach();
        let named = logits.argmax(1).squeeze_dim::<1>(1);
        (losses, named.equal(identities).float().mean())
    }
}
