//! BNNeck: a batch normalisation between the features that the metric loss sees and the classifier (Luo et
//! al., Bag of Tricks, CVPRW 2019, arXiv:1903.07071).

use burn::{
    config::Config,
    module::Module,
    nn::{Initializer, Linear, LinearConfig},
    tensor::Tensor,
};
use reid_core::{FeatureShape, Problems};
use serde::{Deserialize, Serialize};

use super::{Head, HeadConfig, OutputShape, ReidOutput};
use crate::{
    distance,
    init::Init,
    linear,
    norm::{BatchNorm, BatchNormConfig},
    pool::{Pool, PoolConfig},
    similarity_map::EmbeddingTerms,
};

/// The side of the neck from which the embedding is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NeckFeature {
    /// Before the normalisation: the features that the metric loss sees.
    Before,
    /// After the normalisation, as in the strong baseline.
    After,
    /// After the normalisation, scaled to length 1. Parts of a concatenated embedding then count equally, as
    /// in the evaluation of `LightMBN`. A vector shorter than 1e-12 is not scaled.
    AfterUnit,
}

impl NeckFeature {
    /// Replaces the embedding of an output, which is taken before the neck, if this is another side.
    pub(super) fn select(self, output: ReidOutput, after: Tensor<2>) -> ReidOutput {
        match self {
            Self::Before => output,
            Self::After => output.with_embedding(after),
            Self::AfterUnit => output.with_embedding(distance::unit(after)),
        }
    }

    /// Splits the embedding, given the terms before the neck.
    pub(super) fn terms(self, before: EmbeddingTerms, neck: &BatchNorm) -> EmbeddingTerms {
        match self {
            Self::Before => before,
            Self::After => before.batch_norm(neck),
            Self::AfterUnit => before.batch_norm(neck).unit(),
        }
    }
}

/// Configuration of [`BnNeck`], whose documentation has an example.
#[derive(Config, Debug)]
pub struct BnNeckConfig {
    /// Pooling; average by default, as in the paper.
    #[config(default = "PoolConfig::Average")]
    pub pool: PoolConfig,
    /// The side of the neck from which the embedding is taken; after it by default, as in the authors' code.
    #[config(default = "NeckFeature::After")]
    pub embedding: NeckFeature,
}

/// Pooling, a batch normalisation whose bias stays 0, and a classifier without bias.
///
/// ```text
/// f = pool(x)                 the metric loss sees f      [batch, channels]
/// g = γ·(f - E f)/√Var f      the embedding               [batch, channels]
/// y = W g                     the identity loss sees y    [batch, classes]
/// ```
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{Head, HeadConfig, Init, head::BnNeckConfig};
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let head = BnNeckConfig::new().init(FeatureShape::new(16, 4, 2), 10, &init);
/// let output = head.forward(Tensor::ones([2, 16, 4, 2], &device));
/// assert_eq!(output.embedding.dims(), [2, 16]);
/// assert_eq!(output.logits[0].dims(), [2, 10]);
/// ```
#[derive(Module, Debug)]
pub struct BnNeck {
    /// Pooling.
    pub pool: Pool,
    /// The neck; its bias is 0 and is not trained.
    pub bottleneck: BatchNorm,
    /// The identity classifier, without bias. Its weights are drawn from N(0, 0.001²).
    pub classifier: Linear,
    /// The side of the neck from which the embedding is taken.
    #[module(skip)]
    pub embedding: NeckFeature,
}

impl HeadConfig for BnNeckConfig {
    type Head = BnNeck;

    fn init(&self, input: FeatureShape, classes: usize, init: &Init<'_>) -> BnNeck {
        assert!(
            classes > 0,
            "a head needs at least 1 class, found {classes}"
        );
        let mut bottleneck = BatchNormConfig::new(input.channels).init(init.device());
        // With a bias of 0, the hyperplanes between the classes pass through the origin, as in the paper.
        bottleneck.bias = bottleneck.bias.map(Tensor::detach).no_grad();
        let initializer = Initializer::Normal {
            mean: 0.0,
            std: 0.001,
        };
        BnNeck {
            pool: self.pool.init(init.device()),
            bottleneck,
            classifier: init.linear(
                &LinearConfig::new(input.channels, classes)
                    .with_bias(false)
                    .with_initializer(initializer),
            ),
            embedding: self.embedding,
        }
    }

    fn output(&self, input: FeatureShape, classes: usize) -> OutputShape {
        OutputShape::single(input.channels, classes)
    }

    fn validate(&self, _input: FeatureShape, problems: &mut Problems) {
        problems.nested("pool", &self.pool);
    }
}

impl Head for BnNeck {
    fn forward(&self, features: Tensor<4>) -> ReidOutput {
        let before = self.pool.forward(features);
        let after = self.bottleneck.forward(before.clone());
        let logits = linear::apply(&self.classifier, after.clone());
        self.embedding
            .select(ReidOutput::single(before, logits), after)
    }

    fn embedding_terms(&self, features: Tensor<4>) -> Option<EmbeddingTerms> {
        let before = EmbeddingTerms::pooled(&self.pool, features);
        Some(self.embedding.terms(before, &self.bottleneck))
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Param;

    use burn::tensor::Device;

    use super::*;

    fn is_trained(param: &Param<Tensor<1>>) -> bool {
        param.val().is_require_grad()
    }

    #[test]
    fn the_neck_bias_is_frozen_even_after_a_validation_round_trip() {
        let device = Device::default().autodiff();
        let head = BnNeckConfig::new().init(
            FeatureShape::new(4, 2, 2),
            3,
            &crate::fixtures::init(&device),
        );
        assert!(!is_trained(&head.bottleneck.bias) && is_trained(&head.bottleneck.weight));

        let head = head.valid().train();
        assert!(!is_trained(&head.bottleneck.bias) && is_trained(&head.bottleneck.weight));
    }

    #[test]
    fn the_embedding_is_taken_from_the_chosen_side() {
        let device = Device::default();
        let input = FeatureShape::new(2, 1, 1);
        let features = Tensor::<4>::from_data([[[[3.0]], [[5.0]]]], &device);
        let sides = [
            (NeckFeature::Before, 3.0),
            (NeckFeature::After, 1.0),
            // The second value is (5 - 1)/2 = 2: 1/√(1 + 4).
            (NeckFeature::AfterUnit, 0.447_213_6),
        ];
        for (side, expected) in sides {
            let head = BnNeckConfig::new().with_embedding(side).init(
                input,
                2,
                &crate::fixtures::init(&device),
            );
            // (3 - 1)/√(4 + 1e-5) = 1.0 after the neck.
            head.bottleneck
                .running_mean
                .set(Tensor::from_data([1.0, 1.0], &device));
            head.bottleneck
                .running_var
                .set(Tensor::from_data([4.0, 4.0], &device));
            let found = head.forward(features.clone()).embedding.slice([0..1, 0..1]);
            assert!((found.into_scalar::<f32>() - expected).abs() < 1e-5);
        }
    }
}
