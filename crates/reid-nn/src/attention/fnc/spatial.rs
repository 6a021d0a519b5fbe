//! Spatial attention block (SAB) of FNC: non-local attention that gates the features.

use burn::{
    module::Module,
    nn::conv::{Conv2d, Conv2dConfig},
    tensor::Tensor,
};
use reid_core::{FeatureShape, Problems};
use reid_ops::attention;

use super::Combine;
use crate::{
    attention::{
        initial_gate::{self, gate_config},
        sigmoid, validate_reduction,
    },
    block::{Block, BlockConfig},
    convolution,
    init::Init,
};

gate_config! {
    /// Configuration of [`FncSpatial`], whose documentation has an example. Attention that is [added](Combine::Add) is no gate, so that it has no
    /// `initial_gate`.
    FncSpatialConfig {
        /// The ratio of channels to embedded channels, at least 1; 2 in the paper and by default. There are
        /// `channels / reduction` embedded channels, rounded down, but at least 1.
        reduction, with_reduction: usize = 2;
        /// How the attention is combined with the features; by multiplication in the paper and by default.
        combine, with_combine: Combine = Combine::Multiply;
    }
}

/// Weighs each position with dot-product attention over all positions (§3.2, eq. 1 and 2).
///
/// ```text
/// g, h, p = W · x + b                                 [batch, embedded, N], N = height·width
/// z_i = Σⱼ softmaxⱼ(g_i · h_j) p_j
/// y = σ(W_t · z + b_t) ⊙ x   or   (W_t · z + b_t) + x [batch, channels, height, width]
/// ```
///
/// The paper names no axis for the softmax, no scale and no batch normalisation. Here the softmax is over the
/// keys, as in non-local networks, without a scale and without batch normalisation. Memory does not grow with
/// N²; see [`reid_ops::attention`].
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
    /// Embeds the queries.
    pub g: Conv2d,
    /// Embeds the keys.
    pub h: Conv2d,
    /// Embeds the values.
    pub p: Conv2d,
    /// Embedded channels → channels.
    pub t: Conv2d,
    /// How the attention is combined with the features.
    #[module(skip)]
    pub combine: Combine,
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
        let [g, h, p] = [(); 3].map(|()| conv(channels, embedded));
        let mut t = conv(embedded, channels);
        if let Some(gate) = self.initial_gate {
            let logit = initial_gate::logit(gate);
            t.bias = Some(initial_gate::constant_bias(logit, channels, init));
        }
        let combine = self.combine;
        FncSpatial {
            g,
            h,
            p,
            t,
            combine,
        }
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        validate_reduction(self.reduction, input.channels, problems);
        initial_gate::validate(self.initial_gate, problems);
        if let (Some(gate), Combine::Add) = (self.initial_gate, self.combine) {
            let expected = "none for attention that is added";
            problems.require("initial_gate", false, expected, gate);
        }
    }
}

impl FncSpatial {
    /// Computes the factors of the features, `σ(W_t · z + b_t)`, for visualisation.
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
        let sums = attention(query, key, value).reshape([batch, embedded, height, width]);
        convolution::apply(&self.t, sums)
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
    fn parameter_count_matches_the_hand_computed_one() {
        let shape = FeatureShape::new(2048, 18, 24);
        let block = FncSpatialConfig::new().init(shape, &crate::fixtures::init(&Device::default()));
        assert_eq!(parameters::count(&block), 8_388_608 + 5_120);
    }

    /// With zero weights and biases, all similarities are equal and the values are 0, so z = 0.
    #[test]
    fn zero_weights_give_an_attention_of_0() {
        let device = Device::default();
        let shape = FeatureShape::new(2, 1, 3);
        let values = Tensor::<4>::from_data([[[[1.0, -2.0, 3.0]], [[4.0, 0.0, 8.0]]]], &device);
        for (combine, expected) in [(Combine::Multiply, 0.5), (Combine::Add, 1.0)] {
            let block = FncSpatialConfig::new().with_combine(combine);
            let mut block = block.init(shape, &crate::fixtures::init(&device));
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
    fn a_reduction_of_0_panics() {
        let config = FncSpatialConfig::new().with_reduction(0);
        let _ = config.init(
            FeatureShape::new(4, 4, 4),
            &crate::fixtures::init(&Device::default()),
        );
    }
}
