//! `DecodeHead`: computes the logits of every position of a feature map.

use burn::{
    module::Module,
    nn::conv::{Conv2d, Conv2dConfig},
    tensor::{Tensor, activation::leaky_relu},
};
use reid_core::{FeatureShape, Problems, Seed, strict};
use reid_ops::Epilogue;
use serde::{Deserialize, Serialize};

use super::{AsppConfig, PyramidPoolingConfig, validate_channels};
use crate::{
    backbone::ConvNorm,
    block::{Block, BlockConfig, Identity, TRIAL_SHAPES},
    convolution,
    dropout::Dropout,
    init::Init,
};

/// Configuration of [`DecodeHead`], with a context block `C` and attention `A`.
///
/// | | context | channels | activation | dropout |
/// |---|---|---|---|---|
/// | [`plain`](Self::plain): OCNet's baseline | none | 512, with bias | leaky ReLU | 5 % of the channels |
/// | [`pyramid_pooling`](DecodeHeadConfig::pyramid_pooling): `PSPNet` | PPM | 512 | ReLU | 10 % of the channels |
/// | [`aspp`](DecodeHeadConfig::aspp): torchvision's `DeepLabV3` | ASPP | 256 | ReLU | half of the values after the context |
/// | [`auxiliary`](Self::auxiliary): on stage 3 | none | 256 | ReLU | 10 % of the channels |
///
/// [`DecodeHead`] has an example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    bound(deserialize = "C: Deserialize<'de>, A: Deserialize<'de>")
)]
#[non_exhaustive]
pub struct DecodeHeadConfig<C = (), A = ()> {
    /// The block before the 3 x 3 convolution.
    #[serde(deserialize_with = "strict")]
    pub context: C,
    /// Dropout after the context block.
    pub context_dropout: Option<Dropout>,
    /// The channels of the 3 x 3 convolution, from 1 to 65536.
    pub channels: usize,
    /// Whether the 3 x 3 convolution has a bias, which its normalisation cancels; for weights that have one.
    pub bias: bool,
    /// The slope of the activation below 0, from 0 (ReLU) to 1; 0.01 in OCNet.
    pub negative_slope: f64,
    /// The block whose output is appended to the output of the 3 x 3 convolution.
    #[serde(deserialize_with = "strict")]
    pub attention: Option<A>,
    /// Dropout before the classifier.
    pub dropout: Option<Dropout>,
}

impl DecodeHeadConfig {
    /// The baseline of OCNet and of relation-aware attention.
    #[must_use]
    pub const fn plain() -> Self {
        Self {
            bias: true,
            negative_slope: 0.01,
            dropout: Some(Dropout::channels(0.05)),
            ..Self::from_context((), 512)
        }
    }

    /// The head on stage 3 that helps to train deep backbones (Zhao et al., CVPR 2017).
    #[must_use]
    pub const fn auxiliary() -> Self {
        Self {
            dropout: Some(Dropout::channels(0.1)),
            ..Self::from_context((), 256)
        }
    }
}

impl DecodeHeadConfig<PyramidPoolingConfig> {
    /// The head of `PSPNet`.
    #[must_use]
    pub fn pyramid_pooling() -> Self {
        Self {
            dropout: Some(Dropout::channels(0.1)),
            ..Self::from_context(PyramidPoolingConfig::new(), 512)
        }
    }
}

impl DecodeHeadConfig<AsppConfig> {
    /// The head of torchvision's `DeepLabV3`.
    #[must_use]
    pub fn aspp() -> Self {
        Self {
            context_dropout: Some(Dropout::values(0.5)),
            ..Self::from_context(AsppConfig::new(), 256)
        }
    }
}

impl<C> DecodeHeadConfig<C> {
    /// A head with any context block and ReLU, without dropout and attention.
    #[must_use]
    pub const fn from_context(context: C, channels: usize) -> Self {
        Self {
            context,
            context_dropout: None,
            channels,
            bias: false,
            negative_slope: 0.0,
            attention: None,
            dropout: None,
        }
    }

    /// Appends the output of an attention block to the features before the classifier.
    #[must_use]
    pub fn with_attention<A>(self, attention: A) -> DecodeHeadConfig<C, A> {
        DecodeHeadConfig {
            context: self.context,
            context_dropout: self.context_dropout,
            channels: self.channels,
            bias: self.bias,
            negative_slope: self.negative_slope,
            attention: Some(attention),
            dropout: self.dropout,
        }
    }
}

impl<C, A> DecodeHeadConfig<C, A> {
    /// Sets the channels of the 3 x 3 convolution.
    #[must_use]
    pub fn with_channels(mut self, channels: usize) -> Self {
        self.channels = channels;
        self
    }

    /// Removes dropout.
    #[must_use]
    pub fn without_dropout(mut self) -> Self {
        (self.context_dropout, self.dropout) = (None, None);
        self
    }
}

impl<C: BlockConfig, A: BlockConfig> DecodeHeadConfig<C, A> {
    /// Builds the head for feature maps of shape `input`.
    ///
    /// # Panics
    /// If the configuration is invalid for `input`, or `classes` is 0.
    #[must_use]
    pub fn init(
        &self,
        input: FeatureShape,
        classes: usize,
        init: &Init<'_>,
    ) -> DecodeHead<C::Block, A::Block> {
        Problems::refuse("DecodeHead", |problems| self.validate(input, problems));
        assert!(
            classes > 0,
            "a head needs at least 1 class, found {classes}"
        );
        let context = self.context.output(input);
        let conv = super::convolution([context.channels, self.channels], 3, 1);
        let conv = conv.with_bias(self.bias);
        let features = context.with_channels(self.channels);
        let attention = self.attention.as_ref();
        let appended = attention.map_or(0, |block| block.output(features).channels);
        let classifier = Conv2dConfig::new([self.channels + appended, classes], [1, 1]);
        DecodeHead {
            context: self.context.init(input, &init.named("context")),
            conv: ConvNorm::new(&conv, &init.named("conv")),
            attention: attention.map(|block| block.init(features, &init.named("attention"))),
            classifier: init.named("classifier").conv2d(&classifier),
            negative_slope: self.negative_slope,
            context_dropout: self.context_dropout,
            dropout: self.dropout,
        }
    }

    /// Adds the problems of the configuration for feature maps of shape `input`, each with its path from
    /// here.
    pub fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        let fits = problems.at("context", |problems| {
            self.context.validate(input, problems);
        });
        problems.nested("context_dropout", &self.context_dropout);
        let context = fits.then(|| self.context.output(input));
        let before = problems.len();
        validate_channels(
            context.map_or(1, |shape| shape.channels),
            self.channels,
            3,
            problems,
        );
        let valid = problems.len() == before;
        problems.number("negative_slope", self.negative_slope, 0.0..=1.0);
        problems.at("attention", |problems| match context {
            Some(shape) if valid => {
                let features = shape.with_channels(self.channels);
                self.attention.validate(features, problems);
            }
            _ => problems.nested_for_any(TRIAL_SHAPES, |map, problems| {
                self.attention.validate(map, problems);
            }),
        });
        problems.nested("dropout", &self.dropout);
    }
}

/// Computes the logits of every position: a context block, a 3 x 3 convolution, attention and a 1 x 1
/// convolution.
///
/// ```text
/// c = context(x)
/// f = relu(BN(W · c))                    3 x 3        [batch, channels, height, width]
/// f' = [f, attention(f)]                 only with attention
/// y = V · f' + b                         1 x 1        [batch, classes, height, width]
/// ```
///
/// Relation-aware attention concatenates its output with the features of the baseline (Zhang et al., CVPR
/// 2020, arXiv:1904.02998, §4.2). The paper does not say from which features it is computed; to use `f` is
/// our reading. Any block of the library fits, such as
/// [`AttentionConfig`](crate::attention::AttentionConfig). A gate whose weights fit one size of the feature
/// map is wrapped in a [`ResizedConfig`](crate::attention::ResizedConfig):
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{Block, Init, segmentation::DecodeHeadConfig};
/// use reid_nn::attention::{FixedSize, ResizedConfig, RgaChannelConfig, RgaSpatialConfig};
///
/// // RGA-SC at 4 x 4 positions through RoIAlign.
/// let attention = (
///     ResizedConfig::new([4, 4], RgaSpatialConfig::new()).with_pooling(FixedSize::RoiAlign),
///     ResizedConfig::new([4, 4], RgaChannelConfig::new()).with_pooling(FixedSize::RoiAlign),
/// );
/// let config = DecodeHeadConfig::pyramid_pooling().with_channels(8).with_attention(attention);
/// let (device, input) = (Device::default(), FeatureShape::new(16, 9, 12));
/// let head = config.init(input, 19, &Init::new(Seed::new(1), &device));
/// assert_eq!(head.forward(Tensor::ones([1, 16, 9, 12], &device)).dims(), [1, 19, 9, 12]);
/// assert_eq!(head.classifier.weight.dims(), [19, 8 + 8, 1, 1]);
/// ```
#[derive(Module, Debug)]
pub struct DecodeHead<C = Identity, A = Identity> {
    /// The context block.
    pub context: C,
    /// The 3 x 3 convolution and its batch normalisation.
    pub conv: ConvNorm,
    /// The attention whose output is appended.
    pub attention: Option<A>,
    /// The 1 x 1 convolution to the logits.
    pub classifier: Conv2d,
    /// The slope of the activation below 0; 0 is ReLU.
    pub negative_slope: f64,
    #[module(skip)]
    context_dropout: Option<Dropout>,
    #[module(skip)]
    dropout: Option<Dropout>,
}

impl<C: Block, A: Block> DecodeHead<C, A> {
    /// Computes the logits, `[batch, classes, height, width]`; with random numbers if there is a seed.
    fn logits(&self, features: Tensor<4>, seed: Option<Seed>) -> Tensor<4> {
        let drop = |dropout: Option<Dropout>, features, name| match (dropout, seed) {
            (Some(dropout), Some(seed)) => dropout.apply(features, seed.named(name)),
            _ => features,
        };
        let context = match seed {
            Some(seed) => self.context.forward_train(features, seed.named("block")),
            None => self.context.forward(features),
        };
        let context = drop(self.context_dropout, context, "context");
        let features = if self.negative_slope == 0.0 {
            self.conv.apply(context, Epilogue::Relu)
        } else {
            leaky_relu(
                self.conv.apply(context, Epilogue::None),
                self.negative_slope,
            )
        };
        let features = match &self.attention {
            Some(attention) => {
                let attended = match seed {
                    Some(seed) => {
                        attention.forward_train(features.clone(), seed.named("attention"))
                    }
                    None => attention.forward(features.clone()),
                };
                Tensor::cat(vec![features, attended], 1)
            }
            None => features,
        };
        convolution::apply(&self.classifier, drop(self.dropout, features, "classifier"))
    }
}

/// The result has as many channels as there are classes. In training, dropout draws from the seed.
impl<C: Block, A: Block> Block for DecodeHead<C, A> {
    fn forward(&self, features: Tensor<4>) -> Tensor<4> {
        self.logits(features, None)
    }

    fn forward_train(&self, features: Tensor<4>, seed: Seed) -> Tensor<4> {
        self.logits(features, Some(seed))
    }

    fn fold_batch_norm(self) -> Self {
        Self {
            context: self.context.fold_batch_norm(),
            conv: self.conv.folded(),
            attention: self.attention.fold_batch_norm(),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::{
        attention::{
            AttentionConfig, FixedSize, ResizedConfig, RgaChannelConfig, RgaSpatialConfig,
            SqueezeExcitationConfig,
        },
        fixtures, parameters,
    };

    const LAST: FeatureShape = FeatureShape::new(2048, 97, 97);

    /// The published counts with 19 classes.
    #[test]
    fn parameter_counts_are_the_published_ones() {
        let device = Device::default();
        let init = fixtures::init(&device);
        let mut plain = DecodeHeadConfig::plain();
        let bias = parameters::count(&plain.init(LAST, 19, &init));
        plain.bias = false;
        assert_eq!(parameters::count(&plain.init(LAST, 19, &init)), 9_447_955);
        assert_eq!(bias, 9_447_955 + 512);
        let psp = DecodeHeadConfig::pyramid_pooling().init(LAST, 19, &init);
        let classifier = parameters::count(&psp) - parameters::count(&psp.context);
        assert_eq!(classifier, 18_885_139);
        let auxiliary = DecodeHeadConfig::auxiliary();
        let third = LAST.with_channels(1024);
        let auxiliary = auxiliary.init(third, 19, &init);
        assert_eq!(parameters::count(&auxiliary), 2_364_691);
        let aspp = DecodeHeadConfig::aspp().init(LAST, 21, &init);
        assert_eq!(parameters::count(&aspp.conv), 590_336);
    }

    fn resized(side: usize) -> AttentionConfig {
        let resized = |gate| {
            let config = ResizedConfig::new([side, side], gate);
            AttentionConfig::Resized(config.with_pooling(FixedSize::RoiAlign))
        };
        AttentionConfig::Chain(vec![
            resized(RgaSpatialConfig::new().into()),
            resized(RgaChannelConfig::new().into()),
        ])
    }

    /// RGA-SC with reductions of 8 on a map of 512 channels.
    #[test]
    fn the_size_of_the_attention_sets_its_parameter_count() {
        let device = Device::default();
        let init = fixtures::init(&device);
        let plain = DecodeHeadConfig::plain();
        for (side, count) in [(16, 206_260), (24, 373_520), (32, 823_396)] {
            let head = plain.clone().with_attention(resized(side));
            let head = head.init(LAST, 19, &init);
            assert_eq!(parameters::count(&head.attention), count, "{side}");
            assert_eq!(head.classifier.weight.dims(), [19, 1024, 1, 1]);
        }
    }

    #[test]
    fn dropout_is_applied_in_training_only() {
        let device = Device::default();
        let config = DecodeHeadConfig::plain().with_channels(4);
        let input = FeatureShape::new(3, 5, 4);
        let head = fixtures::weights(config.init(input, 2, &fixtures::init(&device)));
        let features = fixtures::tensor([2, 3, 5, 4], -1.0..1.0, &device);
        let evaluated = head.forward(features.clone());
        let trained = |seed| {
            head.forward_train(features.clone(), Seed::new(seed))
                .to_data()
        };
        assert_ne!(trained(3), evaluated.to_data());
        let distinct = (0..40).filter(|&seed| trained(seed) != trained(3));
        // Each of 8 channels is dropped with a probability of 5 %.
        assert!(distinct.count() > 0);
        assert_eq!(trained(3), trained(3));
    }

    #[test]
    fn a_folded_head_computes_the_same() {
        let device = Device::default();
        let attention = SqueezeExcitationConfig::new().with_reduction(2);
        let config = DecodeHeadConfig::plain()
            .with_channels(4)
            .with_attention(attention);
        let input = FeatureShape::new(3, 5, 4);
        let head = fixtures::weights(config.init(input, 2, &fixtures::init(&device)));
        let features = fixtures::tensor([2, 3, 5, 4], -1.0..1.0, &device);
        let expected = head.forward(features.clone());
        let found = head.fold_batch_norm().forward(features);
        assert!((found - expected).abs().max().into_scalar::<f32>() < 1e-5);
    }

    #[test]
    #[should_panic(expected = "DecodeHead: negative_slope: expected 0 to 1, found 2\n\
                               attention.height: expected 1 to 8192, found 0")]
    fn all_problems_are_listed() {
        let mut config = DecodeHeadConfig::plain()
            .with_attention(ResizedConfig::new([0, 2], RgaChannelConfig::new()));
        config.negative_slope = 2.0;
        let _ = config.init(LAST, 2, &fixtures::init(&Device::default()));
    }
}
