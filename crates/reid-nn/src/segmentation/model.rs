//! A segmentation model: a backbone, a head, and optionally an auxiliary head for training.

use burn::{
    module::Module,
    tensor::{Device, Int, Tensor},
};
use reid_core::{FeatureShape, InputSize, Problems, Seed, strict};
use serde::{Deserialize, Serialize};

use super::{DecodeHead, DecodeHeadConfig};
use crate::{
    backbone::{ResNet, ResNetConfig},
    block::{Block, BlockConfig, Identity, TRIAL_SHAPES},
    init::Init,
    precision::widened,
    resample::{self, Alignment},
};

/// Configuration of [`SegmentationModel`]: a context block `C` and attention `A` in the head, and blocks `I`
/// inside residual blocks and `S` after stages of the backbone. [`SegmentationModel`] has an example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    bound(
        deserialize = "C: Deserialize<'de>, A: Deserialize<'de>, I: Deserialize<'de>, S: Deserialize<'de>"
    )
)]
#[non_exhaustive]
pub struct SegmentationConfig<C = (), A = (), I = (), S = ()> {
    /// The backbone, usually dilated.
    pub backbone: ResNetConfig<I, S>,
    /// The head on the last feature map.
    pub head: DecodeHeadConfig<C, A>,
    /// The head on the feature map of stage 3, which only training uses.
    #[serde(deserialize_with = "strict")]
    pub auxiliary: Option<DecodeHeadConfig>,
    /// How the logits are resized to the images: edges in torchvision, corners in semseg and OCNet.
    pub alignment: Alignment,
}

impl<C, A, I, S> SegmentationConfig<C, A, I, S> {
    /// A model without an auxiliary head, whose logits are resized with aligned edges.
    #[must_use]
    pub const fn new(backbone: ResNetConfig<I, S>, head: DecodeHeadConfig<C, A>) -> Self {
        Self {
            backbone,
            head,
            auxiliary: None,
            alignment: Alignment::Edges,
        }
    }

    /// Sets the auxiliary head.
    #[must_use]
    pub fn with_auxiliary(mut self, auxiliary: DecodeHeadConfig) -> Self {
        self.auxiliary = Some(auxiliary);
        self
    }

    /// Sets how the logits are resized to the images.
    #[must_use]
    pub fn with_alignment(mut self, alignment: Alignment) -> Self {
        self.alignment = alignment;
        self
    }
}

/// The model that a [`SegmentationConfig`] builds.
type Built<C, A, I, S> = SegmentationModel<
    <C as BlockConfig>::Block,
    <A as BlockConfig>::Block,
    <I as BlockConfig>::Block,
    <S as BlockConfig>::Block,
>;

impl<C, A, I, S> SegmentationConfig<C, A, I, S>
where
    C: BlockConfig,
    A: BlockConfig,
    I: BlockConfig + Clone,
    S: BlockConfig,
{
    /// Builds the model for `classes` classes. It takes images of any size; `input` is the size for which it
    /// is validated and, if attention has weights for one size only, the size that it must keep.
    ///
    /// # Panics
    /// If the configuration is invalid, or `classes` is 0.
    #[must_use]
    pub fn init(&self, input: InputSize, classes: usize, init: &Init<'_>) -> Built<C, A, I, S> {
        Problems::refuse("a segmentation model", |problems| {
            self.validate(input, problems);
        });
        let image = input.rgb();
        let [_, _, _, third, last] = self.backbone.shapes(image);
        let auxiliary = self.auxiliary.as_ref();
        SegmentationModel {
            backbone: self.backbone.init(image, &init.named("backbone")),
            head: self.head.init(last, classes, &init.named("head")),
            auxiliary: auxiliary.map(|head| head.init(third, classes, &init.named("auxiliary"))),
            alignment: self.alignment,
        }
    }

    /// Adds the problems of the configuration, each with its path from here: everything that
    /// [`init`](Self::init) rejects.
    pub fn validate(&self, input: InputSize, problems: &mut Problems) {
        let image = input.rgb();
        let fits = problems.at("backbone", |problems| {
            self.backbone.validate(image, problems);
        });
        let shapes = fits.then(|| self.backbone.shapes(image));
        let last = shapes.map(|shapes| shapes[4]);
        for_shape(last, "head", problems, |shape, problems| {
            self.head.validate(shape, problems);
        });
        if let Some(auxiliary) = &self.auxiliary {
            let third = shapes.map(|shapes| shapes[3]);
            for_shape(third, "auxiliary", problems, |shape, problems| {
                auxiliary.validate(shape, problems);
            });
        }
    }
}

/// Validates a head on a feature map, or on the [trial shapes](TRIAL_SHAPES) if its shape is not known.
fn for_shape(
    shape: Option<FeatureShape>,
    field: &str,
    problems: &mut Problems,
    validate: impl Fn(FeatureShape, &mut Problems),
) {
    problems.at(field, |problems| match shape {
        Some(shape) => validate(shape, problems),
        None => problems.nested_for_any(TRIAL_SHAPES, validate),
    });
}

/// Computes the logits of every pixel of images.
///
/// ```text
/// y = head(x₄), resized bilinearly to the images              [batch, classes, height, width]
/// y' = auxiliary(x₃), resized in the same way                 in training
/// ```
///
/// `xₛ` is the feature map of stage s of the backbone. A model on an autodiff device is in training mode, as
/// [`ReidModel`](crate::ReidModel); [`evaluation`](Self::evaluation) returns one for evaluation.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{InputSize, Seed};
/// use reid_nn::{Init, backbone::ResNetConfig, segmentation::{DecodeHeadConfig, SegmentationConfig}};
///
/// let (backbone, head) = (ResNetConfig::resnet18().with_width(4), DecodeHeadConfig::plain());
/// let config = SegmentationConfig::new(backbone, head).with_auxiliary(DecodeHeadConfig::auxiliary());
/// let device = Device::default();
/// let model = config.init(InputSize::new(64, 64), 5, &Init::new(Seed::new(1), &device));
/// let images = Tensor::zeros([1, 3, 50, 70], &device); // another size
/// let output = model.forward_train(images.clone(), Seed::new(1));
/// assert_eq!(output.auxiliary.expect("an auxiliary head").dims(), [1, 5, 50, 70]);
/// assert_eq!(model.evaluation().predict(images).dims(), [1, 50, 70]);
/// ```
#[derive(Module, Debug)]
pub struct SegmentationModel<C = Identity, A = Identity, I = Identity, S = Identity> {
    /// Images → feature maps of stages.
    pub backbone: ResNet<I, S>,
    /// The last feature map → logits.
    pub head: DecodeHead<C, A>,
    /// The feature map of stage 3 → logits, for training.
    pub auxiliary: Option<DecodeHead>,
    /// How the logits are resized to the images.
    #[module(skip)]
    pub alignment: Alignment,
}

/// The logits of a training step, `[batch, classes, height, width]`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SegmentationOutput {
    /// The logits of the head.
    pub logits: Tensor<4>,
    /// The logits of the auxiliary head, if the model has one.
    pub auxiliary: Option<Tensor<4>>,
}

impl SegmentationOutput {
    /// Creates an output from the logits of the head and of the auxiliary head, both
    /// `[batch, classes, height, width]`.
    #[must_use]
    pub const fn new(logits: Tensor<4>, auxiliary: Option<Tensor<4>>) -> Self {
        Self { logits, auxiliary }
    }
}

impl<C: Block, A: Block, I: Block, S: Block> SegmentationModel<C, A, I, S> {
    /// Computes the logits of images, without dropout and without the auxiliary head.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`, normalised
    /// - result: `[batch, classes, height, width]`, in at least single precision
    pub fn forward(&self, images: Tensor<4>) -> Tensor<4> {
        let [_, _, height, width] = images.dims();
        let logits = self.head.forward(self.backbone.forward(images));
        self.resized(logits, [height, width])
    }

    /// Computes the logits of a training step, with dropout by random numbers from `seed`.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`, normalised
    pub fn forward_train(&self, images: Tensor<4>, seed: Seed) -> SegmentationOutput {
        let [_, _, height, width] = images.dims();
        let [_, _, _, third, last] = self.backbone.stages(images);
        let logits = self.head.forward_train(last, seed.named("head"));
        let auxiliary = self.auxiliary.as_ref().map(|head| {
            let logits = head.forward_train(third, seed.named("auxiliary"));
            self.resized(logits, [height, width])
        });
        SegmentationOutput::new(self.resized(logits, [height, width]), auxiliary)
    }

    /// Computes the class with the highest score of each pixel.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`, normalised
    /// - result: `[batch, height, width]`
    pub fn predict(&self, images: Tensor<4>) -> Tensor<3, Int> {
        self.forward(images).argmax(1).squeeze_dim(1)
    }

    fn resized(&self, logits: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
        resample::bilinear(widened(logits), size, self.alignment)
    }

    /// Copies the model for evaluation: without gradients, with running statistics, and with batch
    /// normalisation folded into convolutions.
    #[must_use]
    pub fn evaluation(&self) -> Self {
        let model = if self.devices().iter().any(Device::is_autodiff) {
            self.valid()
        } else {
            self.clone()
        };
        Self {
            backbone: model.backbone.fold_batch_norm(),
            head: model.head.fold_batch_norm(),
            auxiliary: model.auxiliary.map(DecodeHead::fold_batch_norm),
            alignment: model.alignment,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backbone::{Dilation, FirstDilation},
        fixtures, parameters,
    };

    fn dilated() -> ResNetConfig {
        ResNetConfig::resnet101().with_dilation(Dilation::Stride8(FirstDilation::Previous))
    }

    /// torchvision's `DeepLabV3` with a ResNet-101.
    #[test]
    fn parameter_counts_are_those_of_torchvision() {
        let (device, size) = (Device::default(), InputSize::new(65, 65));
        let init = fixtures::init(&device);
        let config = SegmentationConfig::new(dilated(), DecodeHeadConfig::aspp());
        let model = config.init(size, 19, &init);
        assert_eq!(parameters::count(&model), 58_630_483);
        let config = config.with_auxiliary(DecodeHeadConfig::auxiliary());
        let model = config.init(size, 21, &init);
        assert_eq!(parameters::count(&model), 60_996_202);
    }

    #[test]
    fn a_model_on_an_autodiff_device_is_evaluated_with_its_running_statistics() {
        let device = Device::default().autodiff();
        let backbone = ResNetConfig::resnet18().with_width(2);
        let head = DecodeHeadConfig::plain().with_channels(4);
        let config = SegmentationConfig::new(backbone, head)
            .with_auxiliary(DecodeHeadConfig::auxiliary().with_channels(4));
        let size = InputSize::new(32, 40);
        let model = fixtures::weights(config.init(size, 3, &fixtures::init(&device)));
        let images = fixtures::tensor([2, 3, 32, 40], -1.0..1.0, &Device::default());
        let _ = model.forward_train(images.clone().autodiff(), Seed::new(1));
        let expected = model.valid().forward(images.clone());
        let found = model.evaluation().forward(images);
        let largest = expected.clone().abs().max().into_scalar::<f32>();
        let difference = (found - expected).abs().max().into_scalar::<f32>();
        assert!(difference <= 1e-4 * largest, "{difference} of {largest}");
    }

    #[test]
    fn problems_have_paths() {
        let backbone = dilated().with_last_stride(3);
        let config = SegmentationConfig::new(backbone, DecodeHeadConfig::plain().with_channels(0))
            .with_auxiliary(DecodeHeadConfig::auxiliary().with_channels(0));
        let mut problems = Problems::new();
        config.validate(InputSize::new(65, 65), &mut problems);
        let expected = "backbone.last_stride: expected 1 to 2, found 3\n\
                        head.channels: expected 1 to 65536, found 0\n\
                        auxiliary.channels: expected 1 to 65536, found 0";
        assert_eq!(problems.to_string(), expected);
    }
}
