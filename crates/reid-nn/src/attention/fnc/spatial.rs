//! Spatial attention block (SAB): a place is weighed by what similar places hold.

use burn::{
    config::Config,
    module::Module,
    nn::conv::{Conv2d, Conv2dConfig},
    tensor::Tensor,
};
use reid_core::{FeatureShape, Problems};
use reid_ops::attention;

use super::Combine;
use crate::{
    attention::{sigmoid, validate_reduction},
    block::{Block, BlockConfig},
    convolution,
    init::Init,
};

/// Configuration of [`FncSpatial`].
#[derive(Config, Debug, PartialEq)]
pub struct FncSpatialConfig {
    /// Channels per embedded channel, at least 1; 2 in the paper. There are `channels / reduction`
    /// embedded channels, rounded down, and at least 1.
    #[config(default = 2)]
    pub reduction: usize,
    /// How attention and features become one; by multiplication in the paper.
    #[config(default = "Combine::Multiply")]
    pub combine: Combine,
}

/// A place is weighed by what similar places hold (§3.2, eq. 1 and 2).
///
/// ```text
/// g, h, p = W · x + b                                 [batch, embedded, N], N = height·width
/// z_i = Σⱼ softmaxⱼ(g_i · h_j) p_j
/// y = σ(W_t · z + b_t) ⊙ x   or   (W_t · z + b_t) + x [batch, channels, height, width]
/// ```
///
/// The paper draws no axis for the softmax, no scale and no normalisation: the softmax goes over the
/// places that answer, as in non-local networks, and there is neither of the others. Memory does not
/// grow with N²; see [`reid_ops::attention`].
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{Block, BlockConfig, Init, attention::FncSpatialConfig};
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let attention = FncSpatialConfig::new().init(FeatureShape::new(8, 4, 2), &init);
/// let features = Tensor::ones([2, 8, 4, 2], &device);
/// assert_eq!(attention.forward(features).dims(), [2, 8, 4, 2]);
/// ```
#[derive(Module, Debug)]
pub struct FncSpatial {
    /// What a place asks for.
    pub g: Conv2d,
    /// What a place answers to.
    pub h: Conv2d,
    /// What a place holds.
    pub p: Conv2d,
    /// Embedded channels → channels.
    pub t: Conv2d,
    #[module(skip)]
    combine: Combine,
}

impl BlockConfig for FncSpatialConfig {
    type Block = FncSpatial;

    fn init(&self, input: FeatureShape, init: &Init<'_>) -> FncSpatial {
        Problems::refuse("FNC spatial attention", |problems| {
            self.validate(input, problems);
        });
        let channels = input.channels;
        let embedded = (channels / self.reduction).max(1);
        let conv = |from, to| init.conv2d(&Conv2dConfig::new([from, to], [1, 1]));
        FncSpatial {
            g: conv(channels, embedded),
            h: conv(channels, embedded),
            p: conv(channels, embedded),
            t: conv(embedded, channels),
            combine: self.combine,
        }
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        validate_reduction(self.reduction, input.channels, problems);
    }
}

impl FncSpatial {
    /// What features are multiplied by: `σ(W_t · z + b_t)`, to be drawn.
    ///
    /// # Shapes
    /// - `features` and result: `[batch, channels, height, width]`
    #[must_use]
    pub fn gate(&self, features: &Tensor<4>) -> Tensor<4> {
        sigmoid(self.attention(features))
    }

    fn attention(&self, features: &Tensor<4>) -> Tensor<4> {
        let [batch, _, height, width] = features.dims();
        let [embedded, _, _, _] = self.p.weight.shape().dims();
        let [query, key, value] = [&self.g, &self.h, &self.p].map(|conv| {
            let map = convolution::apply(conv, features.clone());
            map.reshape([batch, embedded, height * width])
        });
        let gathered = attention(query, key, value).reshape([batch, embedded, height, width]);
        convolution::apply(&self.t, gathered)
    }
}

impl Block for FncSpatial {
    fn forward(&self, features: Tensor<4>) -> Tensor<4> {
        self.combine.apply(self.attention(&features), features)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::parameters;

    /// Four convolutions between 2048 and 1024 channels, with biases.
    #[test]
    fn it_is_as_large_as_by_hand() {
        let place = FeatureShape::new(2048, 18, 24);
        let block = FncSpatialConfig::new().init(place, &crate::fixtures::init(&Device::default()));
        assert_eq!(parameters::count(&block), 8_388_608 + 5_120);
    }

    /// Without embedding weights every place weighs all alike: z = p, and here p = 0.
    #[test]
    fn without_evidence_it_gates_by_one_half() {
        let device = Device::default();
        let place = FeatureShape::new(2, 1, 3);
        let values = Tensor::<4>::from_data([[[[1.0, -2.0, 3.0]], [[4.0, 0.0, 8.0]]]], &device);
        for (combine, expected) in [(Combine::Multiply, 0.5), (Combine::Add, 1.0)] {
            let block = FncSpatialConfig::new().with_combine(combine);
            let mut block = block.init(place, &crate::fixtures::init(&device));
            for conv in [&mut block.g, &mut block.h, &mut block.p, &mut block.t] {
                conv.weight = conv.weight.clone().map(|weight| weight.zeros_like());
                conv.bias = conv
                    .bias
                    .clone()
                    .map(|bias| bias.map(|bias| bias.zeros_like()));
            }
            let found = block.forward(values.clone());
            let difference = (found - values.clone() * expected).abs().max();
            assert!(difference.into_scalar::<f32>() < 1e-6, "{combine:?}");
        }
    }

    #[test]
    #[should_panic(expected = "reduction: expected at least 1, found 0")]
    fn no_reduction_is_refused() {
        let config = FncSpatialConfig::new().with_reduction(0);
        let _ = config.init(
            FeatureShape::new(4, 4, 4),
            &crate::fixtures::init(&Device::default()),
        );
    }
}
