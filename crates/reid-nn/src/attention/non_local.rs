//! Non-local block: self-attention over positions with a residual connection (Wang et al., Non-local
//! Neural Networks, CVPR 2018, arXiv:1711.07971).

use burn::{
    config::Config,
    module::{Module, Param},
    nn::conv::{Conv2d, Conv2dConfig},
    tensor::Tensor,
};
use reid_core::{FeatureShape, Problems};
use reid_ops::attention;
use serde::{Deserialize, Serialize};

use super::{
    pointwise::{Pointwise, fold_batch_norm, normalised},
    validate_reduction,
};
use crate::{
    block::{Block, BlockConfig},
    convolution,
    init::Init,
    norm::BatchNormConfig,
};

/// The similarity of two positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Similarity {
    /// `softmaxⱼ(θᵢ · φⱼ)`: the paper's embedded Gaussian, which is self-attention.
    EmbeddedGaussian,
    /// `θᵢ · φⱼ / N`: the paper's dot product.
    DotProduct,
}

/// Configuration of [`NonLocal`], whose documentation has an example.
#[derive(Config, Debug, PartialEq)]
pub struct NonLocalConfig {
    /// The ratio of channels to embedded channels, at least 1; 2 in the paper. There are
    /// `channels / reduction` embedded channels, rounded down, but at least 1.
    #[config(default = 2)]
    pub reduction: usize,
    /// The similarity of two positions; the embedded Gaussian in most of the paper.
    #[config(default = "Similarity::EmbeddedGaussian")]
    pub similarity: Similarity,
}

/// Adds to each position a sum of the values at all positions, weighted by similarity.
///
/// ```text
/// θ, φ, g = W · x + b                                      [batch, embedded, N], N = height·width
/// z_i = Σⱼ softmaxⱼ(θᵢ · φⱼ) gⱼ     or     Σⱼ (θᵢ · φⱼ) gⱼ / N
/// y = x + bn(W_z · z + b)                                  [batch, channels, height, width]
/// ```
///
/// The weight of the batch normalisation starts at 0, so a new block is the identity. The embedded Gaussian
/// never holds all N x N similarities at once; see [`reid_ops::attention`]. The dot product is computed as
/// `(g φᵀ) θ / N`, without the similarities, if there are fewer embedded channels than positions.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{Block, BlockConfig, Init, attention::NonLocalConfig};
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let block = NonLocalConfig::new().init(FeatureShape::new(8, 4, 2), &init);
/// let features = Tensor::random([2, 8, 4, 2], Distribution::Default, &device);
/// assert_eq!(block.forward(features.clone()).to_data(), features.to_data());
/// ```
#[derive(Module, Debug)]
pub struct NonLocal {
    /// Embeds the queries.
    pub theta: Conv2d,
    /// Embeds the keys.
    pub phi: Conv2d,
    /// Embeds the values.
    pub g: Conv2d,
    /// Embedded channels → channels, and the batch normalisation after it.
    pub w: Pointwise,
    /// The similarity of two positions.
    #[module(skip)]
    pub similarity: Similarity,
}

impl BlockConfig for NonLocalConfig {
    type Block = NonLocal;

    fn init(&self, input: FeatureShape, init: &Init<'_>) -> NonLocal {
        Problems::refuse("a non-local block", |problems| {
            self.validate(input, problems);
        });
        let channels = input.channels;
        let embedded = (channels / self.reduction).max(1);
        let conv = |from, to| init.conv2d(&Conv2dConfig::new([from, to], [1, 1]));
        let mut norm = BatchNormConfig::new(channels).init(init.device());
        norm.weight = Param::from_tensor(Tensor::zeros([channels], init.device()));
        NonLocal {
            theta: conv(channels, embedded),
            phi: conv(channels, embedded),
            g: conv(channels, embedded),
            w: (conv(embedded, channels), Some(norm)),
            similarity: self.similarity,
        }
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        validate_reduction(self.reduction, input.channels, problems);
    }
}

impl NonLocal {
    /// Computes the weighted sum `z` at each position, `[batch, embedded, height, width]`.
    fn weighted_sums(&self, features: &Tensor<4>) -> Tensor<4> {
        let [batch, _, height, width] = features.dims();
        let [embedded, _, _, _] = self.g.weight.shape().dims();
        let positions = height * width;
        let [theta, phi, g] = [&self.theta, &self.phi, &self.g].map(|conv| {
            let embedded_map = convolution::apply(conv, features.clone());
            embedded_map.reshape([batch, embedded, positions])
        });
        let sums = match self.similarity {
            Similarity::EmbeddedGaussian => attention(theta, phi, g),
            // Costs 2 · N · embedded² multiplications instead of 2 · N² · embedded.
            Similarity::DotProduct if embedded < positions => {
                g.matmul(phi.transpose()).matmul(theta) / positions as f64
            }
            Similarity::DotProduct => g.matmul(phi.transpose().matmul(theta)) / positions as f64,
        };
        sums.reshape([batch, embedded, height, width])
    }
}

impl Block for NonLocal {
    fn forward(&self, features: Tensor<4>) -> Tensor<4> {
        normalised(&self.w, self.weighted_sums(&features)) + features
    }

    fn fold_batch_norm(self) -> Self {
        Self {
            w: fold_batch_norm(self.w),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;

    #[test]
    fn both_orders_of_the_dot_product_agree() {
        let device = Device::default();
        // With 8 embedded channels, 12 positions take one order and 4 positions the other.
        for (height, width) in [(4, 3), (2, 2)] {
            let shape = FeatureShape::new(16, height, width);
            let config = NonLocalConfig::new().with_similarity(Similarity::DotProduct);
            let block = config.init(shape, &crate::fixtures::init(&device));
            let features = Tensor::random([2, 16, height, width], Distribution::Default, &device);
            let positions = height * width;
            let [theta, phi, g] = [&block.theta, &block.phi, &block.g]
                .map(|conv| conv.forward(features.clone()).reshape([2, 8, positions]));
            let weights = theta.transpose().matmul(phi) / positions as f64;
            let expected = g.matmul(weights.transpose()).reshape([2, 8, height, width]);
            let difference = (block.weighted_sums(&features) - expected).abs().max();
            let difference = difference.into_scalar::<f32>();
            assert!(difference < 1e-5, "{shape}: {difference}");
        }
    }

    #[test]
    #[should_panic(expected = "reduction: expected at least 1, found 0")]
    fn a_reduction_of_0_panics() {
        let config = NonLocalConfig::new().with_reduction(0);
        let _ = config.init(
            FeatureShape::new(4, 4, 4),
            &crate::fixtures::init(&Device::default()),
        );
    }
}
