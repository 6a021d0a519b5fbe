//! `LinearBnNeck`: a `BNNeck` (Luo et al., CVPRW 2019) after a linear layer, as in `LightMBN` (Herzog et al.,
//! ICIP 2021, arXiv:2101.10774).

use burn::{
    config::Config,
    module::Module,
    nn::{
        Linear,
        conv::{Conv2d, Conv2dConfig},
    },
    tensor::Tensor,
};
use reid_core::{FeatureShape, Problems};

use super::{
    BnNeckConfig, Head, HeadConfig, NeckFeature, OutputShape, ReidOutput, validate_dimensions,
};
use crate::{
    init::Init,
    linear,
    norm::BatchNorm,
    pool::{Pool, PoolConfig},
    similarity_map::EmbeddingTerms,
};

/// Configuration of [`LinearBnNeck`], whose documentation has an example.
#[derive(Config, Debug, PartialEq)]
pub struct LinearBnNeckConfig {
    /// Dimensions of the embedding, from 1 to [`MAX_DIMENSIONS`](super::MAX_DIMENSIONS); 512 by default.
    #[config(default = 512)]
    pub dimensions: usize,
    /// Pooling; average by default.
    #[config(default = "PoolConfig::Average")]
    pub pool: PoolConfig,
    /// The side of the neck from which the embedding is taken; after it by default.
    #[config(default = "NeckFeature::After")]
    pub embedding: NeckFeature,
}

/// Pooling, a linear layer, a neck, and a classifier, all without bias.
///
/// ```text
/// f = Wᵣ pool(x)              the metric loss sees f      [batch, dimensions]
/// g = γ·(f - E f)/√Var f      the embedding               [batch, dimensions]
/// y = W g                     the identity loss sees y    [batch, classes]
/// ```
///
/// [`ReducedBnNeck`](super::ReducedBnNeck) has a normalisation and a `ReLU` between the linear layer and the
/// neck.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{Head, HeadConfig, Init, head::LinearBnNeckConfig};
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let config = LinearBnNeckConfig::new().with_dimensions(8);
/// let head = config.init(FeatureShape::new(16, 4, 2), 10, &init);
/// assert_eq!(head.forward(Tensor::ones([2, 16, 4, 2], &device)).embedding.dims(), [2, 8]);
/// ```
#[derive(Module, Debug)]
pub struct LinearBnNeck {
    /// Pooling.
    pub pool: Pool,
    /// The linear layer: a 1 x 1 convolution of the pooled feature map, as in the authors' code.
    pub reduction: Conv2d,
    /// The neck; its bias is 0 and is not trained.
    pub bottleneck: BatchNorm,
    /// The identity classifier, without bias. Its weights are drawn from N(0, 0.001²).
    pub classifier: Linear,
    /// The side of the neck from which the embedding is taken.
    #[module(skip)]
    pub embedding: NeckFeature,
}

impl HeadConfig for LinearBnNeckConfig {
    type Head = LinearBnNeck;

    fn init(&self, input: FeatureShape, classes: usize, init: &Init<'_>) -> LinearBnNeck {
        Problems::refuse("LinearBnNeck", |problems| self.validate(input, problems));
        let reduced = FeatureShape::new(self.dimensions, 1, 1);
        let neck = BnNeckConfig::new().init(reduced, classes, &init.named("neck"));
        let reduction = Conv2dConfig::new([input.channels, self.dimensions], [1, 1]);
        LinearBnNeck {
            pool: self.pool.init(init.device()),
            reduction: init.conv2d(&reduction.with_bias(false)),
            bottleneck: neck.bottleneck,
            classifier: neck.classifier,
            embedding: self.embedding,
        }
    }

    fn output(&self, _input: FeatureShape, classes: usize) -> OutputShape {
        OutputShape::single(self.dimensions, classes)
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        validate_dimensions("dimensions", self.dimensions, input.channels, problems);
        problems.nested("pool", &self.pool);
    }
}

impl Head for LinearBnNeck {
    fn forward(&self, features: Tensor<4>) -> ReidOutput {
        let before = linear::apply_convolution(&self.reduction, self.pool.forward(features));
        let after = self.bottleneck.forward(before.clone());
        let logits = linear::apply(&self.classifier, after.clone());
        self.embedding
            .select(ReidOutput::single(before, logits), after)
    }

    fn embedding_terms(&self, features: Tensor<4>) -> Option<EmbeddingTerms> {
        let (weight, bias) = linear::matrix(&self.reduction);
        let before = EmbeddingTerms::pooled(&self.pool, features).linear(weight, bias);
        Some(self.embedding.terms(before, &self.bottleneck))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::{fixtures, parameters};

    #[test]
    fn an_embedding_of_unit_length_has_the_direction_of_the_neck() {
        let device = Device::default();
        let input = FeatureShape::new(4, 3, 2);
        let features: Tensor<4> = fixtures::tensor([2, 4, 3, 2], -1.0..2.0, &device);
        let embed = |side| {
            let config = LinearBnNeckConfig::new()
                .with_dimensions(5)
                .with_embedding(side);
            let head = fixtures::weights(config.init(input, 3, &fixtures::init(&device)));
            // Linear, neck and classifier, without biases except that of the neck.
            assert_eq!(parameters::count(&head), 4 * 5 + 2 * 5 + 5 * 3);
            head.forward(features.clone()).embedding
        };
        let (after, unit) = (embed(NeckFeature::After), embed(NeckFeature::AfterUnit));
        let length = after.clone().square().sum_dim(1).sqrt();
        let difference = (after / length - unit).abs().max();
        assert!(difference.into_scalar::<f32>() < 1e-6);
    }

    #[test]
    #[should_panic(expected = "LinearBnNeck: dimensions: expected 1 to 65536, found 0")]
    fn zero_dimensions_are_refused() {
        let config = LinearBnNeckConfig::new().with_dimensions(0);
        let _ = config.init(
            FeatureShape::new(2, 1, 2),
            3,
            &fixtures::init(&Device::default()),
        );
    }
}
