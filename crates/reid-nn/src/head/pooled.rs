//! `PooledHead`: pooling and a linear classifier.

use burn::{
    module::Module,
    nn::{Initializer, Linear, LinearConfig},
    tensor::Tensor,
};
use reid_core::{FeatureShape, Problems};
use serde::{Deserialize, Serialize};

use super::{Head, HeadConfig, OutputShape, ReidOutput};
use crate::{
    init::Init,
    linear,
    pool::{Pool, PoolConfig},
    similarity_map::EmbeddingTerms,
};

/// Configuration of [`PooledHead`], whose documentation has an example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PooledHeadConfig {
    /// Pooling; average by default.
    pub pool: PoolConfig,
    /// The initial values of the classifier.
    #[serde(default, skip_serializing_if = "ClassifierInit::is_uniform")]
    pub init: ClassifierInit,
}

/// The initial values of a linear classifier with n inputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ClassifierInit {
    /// Weights and biases from the uniform distribution on ±√(1/n), as in PyTorch.
    #[default]
    Uniform,
    /// Weights from N(0, 2/n) and uniform biases, as in common implementations of ResNet for CIFAR.
    KaimingNormal,
    /// Uniform weights, and biases of 0, as in `DenseNet`.
    ZeroBias,
}

impl ClassifierInit {
    /// Whether this is the default.
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    const fn is_uniform(&self) -> bool {
        matches!(self, Self::Uniform)
    }

    /// Builds a classifier.
    fn classifier(self, inputs: usize, classes: usize, init: &Init<'_>) -> Linear {
        let config = LinearConfig::new(inputs, classes);
        let (uniform, fan) = (&config.initializer, [inputs, classes]);
        let normal = Initializer::KaimingNormal {
            gain: std::f64::consts::SQRT_2,
            fan_out_only: false,
        };
        let (weight, bias) = match self {
            Self::Uniform => return init.linear(&config),
            Self::KaimingNormal => (&normal, uniform),
            Self::ZeroBias => (uniform, &Initializer::Zeros),
        };
        Linear {
            weight: init.tensor([inputs, classes], weight, fan),
            bias: Some(init.tensor([classes], bias, fan)),
        }
    }
}

impl Default for PooledHeadConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl PooledHeadConfig {
    /// Average pooling and a classifier with uniform initial values.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            pool: PoolConfig::Average,
            init: ClassifierInit::Uniform,
        }
    }

    /// Sets the pooling.
    #[must_use]
    pub const fn with_pool(mut self, pool: PoolConfig) -> Self {
        self.pool = pool;
        self
    }

    /// Sets the initial values of the classifier.
    #[must_use]
    pub const fn with_init(mut self, init: ClassifierInit) -> Self {
        self.init = init;
        self
    }
}

/// Pooling and a linear classifier; the pooled features are the embedding.
///
/// ```text
/// f = pool(x)         [batch, channels]
/// y = W f + b         [batch, classes]
/// ```
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{Head, HeadConfig, Init, head::PooledHeadConfig, pool::PoolConfig};
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let config = PooledHeadConfig::new().with_pool(PoolConfig::Max);
/// let head = config.init(FeatureShape::new(16, 4, 2), 10, &init);
/// let output = head.forward(Tensor::ones([2, 16, 4, 2], &device));
/// assert_eq!(output.embedding.dims(), [2, 16]);
/// ```
#[derive(Module, Debug)]
pub struct PooledHead {
    /// Pooling.
    pub pool: Pool,
    /// The identity classifier.
    pub classifier: Linear,
}

impl HeadConfig for PooledHeadConfig {
    type Head = PooledHead;

    fn init(&self, input: FeatureShape, classes: usize, init: &Init<'_>) -> PooledHead {
        assert!(
            classes > 0,
            "a head needs at least 1 class, found {classes}"
        );
        PooledHead {
            pool: self.pool.init(init.device()),
            classifier: self.init.classifier(input.channels, classes, init),
        }
    }

    fn output(&self, input: FeatureShape, classes: usize) -> OutputShape {
        OutputShape::single(input.channels, classes)
    }

    fn validate(&self, _input: FeatureShape, problems: &mut Problems) {
        problems.nested("pool", &self.pool);
    }
}

impl Head for PooledHead {
    fn forward(&self, features: Tensor<4>) -> ReidOutput {
        let features = self.pool.forward(features);
        ReidOutput::single(features.clone(), linear::apply(&self.classifier, features))
    }

    fn embedding_terms(&self, features: Tensor<4>) -> Option<EmbeddingTerms> {
        Some(EmbeddingTerms::pooled(&self.pool, features))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn parallel_heads_are_concatenated() {
        let device = Device::default();
        let input = FeatureShape::new(2, 1, 2);
        let pair = (
            PooledHeadConfig::new(),
            PooledHeadConfig::new().with_pool(PoolConfig::Max),
        );
        assert_eq!(pair.output(input, 3).features, [2, 2]);
        let features = Tensor::<4>::from_data([[[[0.0, 2.0]], [[4.0, 4.0]]]], &device);
        let output = pair
            .init(input, 3, &crate::fixtures::init(&device))
            .forward(features);
        // Means 1 and 4, then maxima 2 and 4.
        let expected = burn::tensor::TensorData::from([[1.0_f32, 4.0, 2.0, 4.0]]);
        output.embedding.into_data().assert_eq(&expected, true);
        assert_eq!(output.logits.len(), 2);
    }

    #[test]
    fn initial_values_of_classifiers() {
        let device = Device::default();
        let draw = |init| {
            let head = PooledHeadConfig::new().with_init(init);
            let input = FeatureShape::new(64, 1, 1);
            let classifier = head
                .init(input, 100, &crate::fixtures::init(&device))
                .classifier;
            let bias = classifier.bias.expect("a bias").val().abs().max();
            let weight = classifier.weight.val();
            let deviation = weight.clone().square().mean().sqrt();
            [bias, weight.abs().max(), deviation].map(|value| value.into_scalar::<f32>())
        };
        // 1/√64 = 0.125 bounds uniform values, whose deviation is 0.125/√3; √(2/64) = 0.1768.
        let [bias, largest, deviation] = draw(ClassifierInit::Uniform);
        assert!(bias <= 0.125 && bias > 0.11 && largest <= 0.125);
        assert!((deviation - 0.0722).abs() < 0.002, "{deviation}");
        let [bias, largest, deviation] = draw(ClassifierInit::KaimingNormal);
        assert!(bias <= 0.125 && bias > 0.11 && largest > 0.4);
        assert!((deviation - 0.1768).abs() < 0.005, "{deviation}");
        let [bias, largest, _] = draw(ClassifierInit::ZeroBias);
        assert!(bias == 0.0 && largest <= 0.125);
    }

    #[test]
    #[should_panic(expected = "at least 1 class, found 0")]
    fn zero_classes_are_refused() {
        let input = FeatureShape::new(2, 1, 2);
        let _ = PooledHeadConfig::new().init(input, 0, &crate::fixtures::init(&Device::default()));
    }
}
