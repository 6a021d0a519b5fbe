//! Networks for segmentation: what a recipe builds and a trainer trains.

use burn::{
    module::{Module, ModuleDisplay},
    tensor::Tensor,
};
use reid_core::{InputSize, Problems, Seed};
use serde::{Serialize, de::DeserializeOwned};

use super::{SegmentationConfig, SegmentationModel, SegmentationOutput};
use crate::{
    block::{Block, BlockConfig},
    init::Init,
    stage_paths::StagePaths,
};

/// The configuration of a network for segmentation, from which a recipe builds its [`PixelModel`].
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{InputSize, Seed};
/// use reid_nn::{Init, backbone::ResNetConfig};
/// use reid_nn::segmentation::{DecodeHeadConfig, PixelModel, PixelNetwork, SegmentationConfig};
///
/// fn dims(network: &impl PixelNetwork, size: InputSize) -> [usize; 4] {
///     let device = Device::default();
///     let model = network.init(size, 3, &Init::new(Seed::new(1), &device));
///     model.forward(Tensor::zeros([1, 3, size.height, size.width], &device)).dims()
/// }
///
/// let head = DecodeHeadConfig::plain().with_channels(4);
/// let network = SegmentationConfig::new(ResNetConfig::resnet18().with_width(2), head);
/// assert_eq!(dims(&network, InputSize::new(32, 40)), [1, 3, 32, 40]);
/// ```
pub trait PixelNetwork: Clone + Serialize + DeserializeOwned {
    /// The model that is built.
    type Model: PixelModel;

    /// Builds the model for crops of size `input` and `classes` classes.
    ///
    /// # Panics
    /// If `classes` is 0, or if [`validate_network`](Self::validate_network) reports a problem.
    fn init(&self, input: InputSize, classes: usize, init: &Init<'_>) -> Self::Model;

    /// Adds the problems of the configuration, each with its path from here: everything that building the
    /// network or a training step rejects.
    fn validate_network(&self, input: InputSize, problems: &mut Problems);

    /// Whether the model fits only the size of images that it was built for; false by default.
    fn fits_one_size(&self) -> bool {
        false
    }

    /// The stage of each parameter, by its path in the model, as
    /// [`Network::stage_paths`](crate::Network::stage_paths).
    fn stage_paths(&self) -> StagePaths {
        StagePaths::of_model(StagePaths::default(), StagePaths::default())
    }
}

/// A model that computes the class of every pixel and can be trained.
pub trait PixelModel: Module + ModuleDisplay + 'static {
    /// Computes the logits of images.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`, normalised
    /// - result: `[batch, classes, height, width]`, in at least single precision
    fn forward(&self, images: Tensor<4>) -> Tensor<4>;

    /// Computes the logits of a training step. Random choices, such as those of dropout, are a function of
    /// `seed`.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`, normalised
    fn forward_train(&self, images: Tensor<4>, seed: Seed) -> SegmentationOutput;

    /// Copies the model for evaluation: without gradients, with running statistics, and with batch
    /// normalisation folded into convolutions.
    #[must_use]
    fn evaluation(&self) -> Self;
}

impl<C, A, I, S> PixelNetwork for SegmentationConfig<C, A, I, S>
where
    C: BlockConfig + Clone + Serialize + DeserializeOwned,
    A: BlockConfig + Clone + Serialize + DeserializeOwned,
    I: BlockConfig + Clone + Serialize + DeserializeOwned,
    S: BlockConfig + Clone + Serialize + DeserializeOwned,
{
    type Model = SegmentationModel<C::Block, A::Block, I::Block, S::Block>;

    fn init(&self, input: InputSize, classes: usize, init: &Init<'_>) -> Self::Model {
        self.init(input, classes, init)
    }

    fn validate_network(&self, input: InputSize, problems: &mut Problems) {
        self.validate(input, problems);
    }

    fn fits_one_size(&self) -> bool {
        let (backbone, head) = (&self.backbone, &self.head);
        let heads = head.context.fits_one_size() || head.attention.fits_one_size();
        heads || backbone.fits_one_size()
    }

    fn stage_paths(&self) -> StagePaths {
        StagePaths::of_model(self.backbone.stage_paths(), StagePaths::default())
    }
}

impl<C: Block, A: Block, I: Block, S: Block> PixelModel for SegmentationModel<C, A, I, S> {
    fn forward(&self, images: Tensor<4>) -> Tensor<4> {
        self.forward(images)
    }

    fn forward_train(&self, images: Tensor<4>, seed: Seed) -> SegmentationOutput {
        self.forward_train(images, seed)
    }

    fn evaluation(&self) -> Self {
        self.evaluation()
    }
}
