//! A re-identification model: a backbone and a head.

use burn::{
    module::Module,
    tensor::{Device, Tensor},
};
use reid_core::{InputSize, Problems, Seed};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    block::{Block, BlockConfig, TRIAL_SHAPES},
    drawing,
    ensemble::Model,
    head::{Head, HeadConfig, OutputShape, ReidOutput, TrainingStep},
};

/// The configuration of a whole network: what builds the [`Model`] of a recipe.
///
/// A pair of a backbone's configuration and a head's is one; those of `reid_zoo` have names.
///
/// ```
/// use reid_core::{InputSize, Problems};
/// use reid_nn::{Network, backbone::ResNetConfig, head::BnNeckConfig};
///
/// let network = (ResNetConfig::resnet50().with_last_stride(3).with_width(0), BnNeckConfig::new());
/// let mut problems = Problems::new();
/// network.validate_network(InputSize::PERSON, &mut problems);
/// assert_eq!(
///     problems.to_string(),
///     "[0].width: expected 1 to 4096, found 0\n[0].last_stride: expected 1 to 2, found 3"
/// );
/// ```
pub trait Network: Clone + Serialize + DeserializeOwned {
    /// The model that is built.
    type Model: Model;

    /// Builds the model for images of size `input` and `classes` training identities.
    ///
    /// # Panics
    /// If `classes` is 0, or for whatever [`validate_network`](Self::validate_network) reports.
    fn init(&self, input: InputSize, classes: usize, device: &Device) -> Self::Model;

    /// The shapes of the model's output.
    ///
    /// # Panics
    /// If the backbone does not fit the images.
    fn output(&self, input: InputSize, classes: usize) -> OutputShape;

    /// Adds what is wrong, each with its path from here: all that building the network or a step would
    /// refuse.
    fn validate_network(&self, input: InputSize, problems: &mut Problems);
}

impl<B, H> Network for (B, H)
where
    B: BlockConfig + Clone + Serialize + DeserializeOwned,
    H: HeadConfig + Clone + Serialize + DeserializeOwned,
{
    type Model = ReidModel<B::Block, H::Head>;

    fn init(&self, input: InputSize, classes: usize, device: &Device) -> Self::Model {
        ReidModel::new(&self.0, &self.1, input, classes, device)
    }

    fn output(&self, input: InputSize, classes: usize) -> OutputShape {
        self.1.output(self.0.output(input.rgb()), classes)
    }

    fn validate_network(&self, input: InputSize, problems: &mut Problems) {
        validate_parts(["[0]", "[1]"], (&self.0, &self.1), input, problems);
    }
}

/// Adds what is wrong with a backbone and the head on it, whose fields have these names. A head on a backbone
/// that is itself wrong is tried on other maps.
pub fn validate_parts<B: BlockConfig, H: HeadConfig>(
    [backbone_name, head_name]: [&str; 2],
    (backbone, head): (&B, &H),
    input: InputSize,
    problems: &mut Problems,
) {
    let image = input.rgb();
    let fits = problems.at(backbone_name, |problems| backbone.validate(image, problems));
    problems.at(head_name, |problems| {
        if fits {
            head.validate(backbone.output(image), problems);
        } else {
            problems.nested_for_any(TRIAL_SHAPES, |map, problems| head.validate(map, problems));
        }
    });
}

/// A backbone and a head: images → descriptors.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::InputSize;
/// use reid_nn::{ReidModel, backbone::ResNetConfig, head::BnNeckConfig};
///
/// let device = Device::default();
/// let (size, backbone) = (InputSize::new(32, 16), ResNetConfig::resnet18().with_width(8));
/// let model = ReidModel::new(&backbone, &BnNeckConfig::new(), size, 10, &device);
/// let images = Tensor::random([2, 3, 32, 16], burn::tensor::Distribution::Default, &device);
///
/// let plain = model.embed(images.clone());
/// let fused = model.fold_batch_norm().embed(images); // batch normalisation folded away
/// assert!((plain - fused).abs().max().into_scalar::<f32>() < 1e-4);
/// ```
#[derive(Module, Debug)]
pub struct ReidModel<B, H> {
    /// Images → feature map.
    pub backbone: B,
    /// Feature map → descriptor.
    pub head: H,
}

impl<B: Block, H: Head> ReidModel<B, H> {
    /// Builds a model for images of size `input` and `classes` training identities.
    ///
    /// Weights are drawn from Burn's generator as it stands; [`seeded`](Self::seeded) makes them
    /// repeat.
    ///
    /// # Panics
    /// If the parts do not fit each other.
    #[must_use]
    pub fn new<CB, CH>(
        backbone: &CB,
        head: &CH,
        input: InputSize,
        classes: usize,
        device: &Device,
    ) -> Self
    where
        CB: BlockConfig<Block = B>,
        CH: HeadConfig<Head = H>,
    {
        let _alone = drawing::init_lock();
        drawing::drawn(Self::build(backbone, head, input, classes, device))
    }

    /// Builds a model whose weights are drawn from a seed: the same seed gives the same weights.
    ///
    /// # Panics
    /// If the parts do not fit each other.
    #[must_use]
    pub fn seeded<CB, CH>(
        (backbone, head): (&CB, &CH),
        input: InputSize,
        classes: usize,
        seed: Seed,
        device: &Device,
    ) -> Self
    where
        CB: BlockConfig<Block = B>,
        CH: HeadConfig<Head = H>,
    {
        let build = || Self::build(backbone, head, input, classes, device);
        drawing::from_seed(seed, device, build)
    }

    fn build<CB, CH>(
        backbone: &CB,
        head: &CH,
        input: InputSize,
        classes: usize,
        device: &Device,
    ) -> Self
    where
        CB: BlockConfig<Block = B>,
        CH: HeadConfig<Head = H>,
    {
        let image = input.rgb();
        Self {
            backbone: backbone.init(image, device),
            head: head.init(backbone.output(image), classes, device),
        }
    }

    /// Describes images.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`, normalised
    pub fn forward(&self, images: Tensor<4>) -> ReidOutput {
        self.head.forward(self.backbone.forward(images))
    }

    /// Describes images in training, where heads may look at the identities and draw.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`, normalised
    pub fn forward_train(&self, images: Tensor<4>, step: TrainingStep<'_>) -> ReidOutput {
        self.head.forward_train(self.backbone.forward(images), step)
    }

    /// The descriptors of images, `[batch, dimensions]`.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`, normalised
    pub fn embed(&self, images: Tensor<4>) -> Tensor<2> {
        self.forward(images).embedding
    }

    /// The same model with batch normalisation folded into convolutions; see [`Block::fold_batch_norm`].
    #[must_use]
    pub fn fold_batch_norm(self) -> Self {
        Self {
            backbone: self.backbone.fold_batch_norm(),
            head: self.head.fold_batch_norm(),
        }
    }
}
