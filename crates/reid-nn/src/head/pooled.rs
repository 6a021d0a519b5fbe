//! `PooledHead`: pooling and a linear classifier.

use burn::{
    config::Config,
    module::Module,
    nn::{Linear, LinearConfig},
    tensor::Tensor,
};
use reid_core::{FeatureShape, Problems};

use super::{Head, HeadConfig, OutputShape, ReidOutput};
use crate::{
    init::Init,
    linear,
    pool::{Pool, PoolConfig},
};

/// Configuration of [`PooledHead`].
#[derive(Config, Debug)]
pub struct PooledHeadConfig {
    /// Pooling; average by default.
    #[config(default = "PoolConfig::Average")]
    pub pool: PoolConfig,
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
            classifier: init.linear(&LinearConfig::new(input.channels, classes)),
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
    #[should_panic(expected = "at least 1 class, found 0")]
    fn zero_classes_are_refused() {
        let input = FeatureShape::new(2, 1, 2);
        let _ = PooledHeadConfig::new().init(input, 0, &crate::fixtures::init(&Device::default()));
    }
}
