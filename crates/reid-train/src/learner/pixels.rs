//! The learner of semantic segmentation.

use burn::{
    module::Module,
    tensor::{Device, Tensor},
};
use reid_core::Seed;
use reid_nn::{
    Init,
    segmentation::{LabelMaps, PixelLoss, PixelModel, PixelNetwork},
};

use super::{LearnerParts, StepOutput};
use crate::recipe::SegmentationRecipe;

/// A model for segmentation and its loss.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::Seed;
/// use reid_nn::backbone::ResNetConfig;
/// use reid_nn::segmentation::{DecodeHeadConfig, LabelMaps, SegmentationConfig};
/// use reid_train::{SegmentationLearner, SegmentationRecipe};
///
/// let head = DecodeHeadConfig::plain().with_channels(4);
/// let network = SegmentationConfig::new(ResNetConfig::resnet18().with_width(2), head);
/// let mut recipe = SegmentationRecipe::ocnet("toy", network);
/// recipe.crop.size = reid_core::InputSize::new(33, 33);
/// let device = Device::default();
/// let learner = SegmentationLearner::build(&recipe, &device);
///
/// let labels = LabelMaps::new(vec![3; 2 * 33 * 33], [2, 33, 33], &device.clone().autodiff());
/// let images = Tensor::zeros([2, 3, 33, 33], &device.autodiff());
/// let losses = learner.training_step(images, &labels, Seed::new(1)).losses;
/// assert_eq!(losses[0].name, "pixel");
/// ```
#[derive(Module, Debug)]
pub struct SegmentationLearner<M> {
    /// The model.
    pub model: M,
    /// The criterion.
    pub criterion: PixelCriterion,
}

/// The criterion of segmentation: a [`PixelLoss`] as a module without parameters. [`SegmentationLearner`] has an
/// example.
#[derive(Module, Debug)]
pub struct PixelCriterion {
    /// The loss.
    #[module(skip)]
    pub loss: PixelLoss,
}

impl<M: PixelModel> SegmentationLearner<M> {
    /// Builds the network and the loss of a recipe. The weights are drawn from its seed. `device` is without
    /// autodiff; the learner is on its autodiff counterpart.
    ///
    /// # Panics
    /// If the recipe is invalid ([`SegmentationRecipe::check`]).
    #[must_use]
    pub fn build<N: PixelNetwork<Model = M>>(
        recipe: &SegmentationRecipe<N>,
        device: &Device,
    ) -> Self {
        let (seed, device) = (recipe.seed.named("weights"), device.clone().autodiff());
        let init = Init::new(seed, &device);
        let model = recipe.network.init(recipe.crop.size, recipe.classes, &init);
        let loss = recipe.losses.clone();
        Self {
            model,
            criterion: PixelCriterion { loss },
        }
    }

    /// Computes the losses of a batch. Their sum is minimised.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`, normalised
    /// - `labels`: `[batch, height, width]`
    ///
    /// # Panics
    /// As [`PixelLoss::loss`].
    #[must_use]
    pub fn training_step(&self, images: Tensor<4>, labels: &LabelMaps, seed: Seed) -> StepOutput {
        let output = self.model.forward_train(images, seed);
        StepOutput::new(self.criterion.loss.losses(output, labels))
    }
}

impl<M: PixelModel> LearnerParts for SegmentationLearner<M> {
    type Model = M;
    type Criterion = PixelCriterion;

    fn from_parts(model: M, criterion: PixelCriterion) -> Self {
        Self { model, criterion }
    }

    fn into_parts(self) -> (M, PixelCriterion) {
        (self.model, self.criterion)
    }

    fn model(&self) -> &M {
        &self.model
    }

    fn criterion(&self) -> &PixelCriterion {
        &self.criterion
    }
}
