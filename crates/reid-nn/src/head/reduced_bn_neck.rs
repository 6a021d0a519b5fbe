//! `ReducedBnNeck`: a `BNNeck` (Luo et al., CVPRW 2019) after a linear layer that reduces the number of
//! dimensions (FNC, Liu et al., AI City 2020, §3.1).

use burn::{
    config::Config,
    module::{Module, Param},
    nn::{Linear, LinearConfig},
    tensor::Tensor,
};
use reid_core::{FeatureShape, Problems};

use super::{
    BnNeckConfig, Head, HeadConfig, NeckFeature, OutputShape, ReidOutput, validate_dimensions,
};
use crate::{
    init::Init,
    linear,
    norm::{BatchNorm, BatchNormConfig},
    pool::{Pool, PoolConfig},
    similarity_map::EmbeddingTerms,
};

/// Configuration of [`ReducedBnNeck`], whose documentation has an example.
#[derive(Config, Debug, PartialEq)]
pub struct ReducedBnNeckConfig {
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

/// Pooling, a linear layer, batch normalisation, `ReLU`, a neck, and a classifier without bias.
///
/// ```text
/// v = pool(x)                     [batch, channels]
/// f = relu(BN(Wᵣ v + bᵣ))         the metric loss sees f      [batch, dimensions]
/// g = γ·(f - E f)/√Var f          the embedding               [batch, dimensions]
/// y = W g                         the identity loss sees y    [batch, classes]
/// ```
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{Head, HeadConfig, Init, head::ReducedBnNeckConfig};
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let config = ReducedBnNeckConfig::new().with_dimensions(8);
/// let head = config.init(FeatureShape::new(16, 4, 2), 10, &init);
/// assert_eq!(head.forward(Tensor::ones([2, 16, 4, 2], &device)).embedding.dims(), [2, 8]);
/// ```
#[derive(Module, Debug)]
pub struct ReducedBnNeck {
    /// Pooling.
    pub pool: Pool,
    /// The layer that reduces the number of dimensions: a 1 x 1 convolution of the pooled feature map in the
    /// paper.
    pub reduction: Linear,
    /// The batch normalisation of its output.
    pub norm: BatchNorm,
    /// The neck; its bias is 0 and is not trained.
    pub bottleneck: BatchNorm,
    /// The identity classifier, without bias. Its weights are drawn from N(0, 0.001²).
    pub classifier: Linear,
    /// The side of the neck from which the embedding is taken.
    #[module(skip)]
    pub embedding: NeckFeature,
}

impl HeadConfig for ReducedBnNeckConfig {
    type Head = ReducedBnNeck;

    fn init(&self, input: FeatureShape, classes: usize, init: &Init<'_>) -> ReducedBnNeck {
        Problems::refuse("ReducedBnNeck", |problems| self.validate(input, problems));
        let dimensions = self.dimensions;
        let reduced = FeatureShape::new(dimensions, 1, 1);
        let neck = BnNeckConfig::new().init(reduced, classes, &init.named("neck"));
        ReducedBnNeck {
            pool: self.pool.init(init.device()),
            reduction: init.linear(&LinearConfig::new(input.channels, dimensions)),
            norm: BatchNormConfig::new(dimensions).init(init.device()),
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

impl Head for ReducedBnNeck {
    fn forward(&self, features: Tensor<4>) -> ReidOutput {
        let hidden = linear::apply(&self.reduction, self.pool.forward(features));
        let before = self.norm.forward_relu(hidden);
        let after = self.bottleneck.forward(before.clone());
        let logits = linear::apply(&self.classifier, after.clone());
        self.embedding
            .select(ReidOutput::single(before, logits), after)
    }

    fn embedding_terms(&self, features: Tensor<4>) -> Option<EmbeddingTerms> {
        let bias = self.reduction.bias.as_ref().map(Param::val);
        let hidden =
            EmbeddingTerms::pooled(&self.pool, features).linear(self.reduction.weight.val(), bias);
        let before = hidden.batch_norm(&self.norm).relu();
        Some(self.embedding.terms(before, &self.bottleneck))
    }
}
