//! `Aspp`: convolutions of several dilations side by side (Chen et al., Rethinking Atrous Convolution for
//! Semantic Image Segmentation, arXiv:1706.05587).

use burn::{module::Module, tensor::Tensor};
use reid_core::{FeatureShape, Problems};
use reid_ops::Epilogue;
use serde::{Deserialize, Serialize};

use super::{convolution, validate_channels};
use crate::{
    backbone::ConvNorm,
    block::{Block, BlockConfig},
    init::Init,
    pool,
};

/// Configuration of [`Aspp`], whose documentation has an example.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct AsppConfig {
    /// The dilations of the 3 x 3 convolutions, from 1 to 1024; 12, 24 and 36 in torchvision, for an output
    /// stride of 8. The paper has half of them for an output stride of 16.
    pub rates: Vec<usize>,
    /// The channels of each convolution, from 1 to 65536; 256 in the paper.
    pub channels: usize,
    /// Whether a 1 x 1 convolution reduces the result to these channels, as in the paper and in torchvision.
    /// In mmsegmentation, the 3 x 3 convolution of the head reduces it.
    #[serde(default = "projected", skip_serializing_if = "is_projected")]
    pub project: bool,
}

const fn projected() -> bool {
    true
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_projected(project: &bool) -> bool {
    *project
}

impl AsppConfig {
    /// The dilations for an output stride of 8.
    #[must_use]
    pub fn new() -> Self {
        Self {
            rates: vec![12, 24, 36],
            channels: 256,
            project: true,
        }
    }

    /// Sets the dilations.
    #[must_use]
    pub fn with_rates(mut self, rates: Vec<usize>) -> Self {
        self.rates = rates;
        self
    }

    /// Sets the channels of each convolution.
    #[must_use]
    pub fn with_channels(mut self, channels: usize) -> Self {
        self.channels = channels;
        self
    }

    /// Sets whether a 1 x 1 convolution reduces the result to these channels.
    #[must_use]
    pub fn with_project(mut self, project: bool) -> Self {
        self.project = project;
        self
    }

    /// The number of convolutions side by side: the 1 x 1 one, the dilated ones and that of the mean.
    fn count(&self) -> usize {
        self.rates.len().saturating_add(2)
    }
}

impl Default for AsppConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// Convolutions of several dilations and the mean over all positions, side by side, reduced by a 1 x 1
/// convolution: atrous spatial pyramid pooling. The structure and the names are torchvision's.
///
/// ```text
/// c₀ = relu(BN(W₀ · x))                     1 x 1
/// cᵢ = relu(BN(Wᵢ · x))                     3 x 3, dilated by the i-th rate
/// cₙ = relu(BN(Wₙ · mean_hw(x)))            at every position
/// y = relu(BN(W · [c₀, …, cₙ]))             [batch, channels, height, width]
/// y = [cₙ, c₀, …, cₙ₋₁]                     [batch, (n + 1)·channels, height, width] without `project`
/// ```
///
/// Without `project`, the mean is first, as in mmsegmentation.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{Block, BlockConfig, Init, segmentation::AsppConfig};
///
/// let (device, input) = (Device::default(), FeatureShape::new(16, 9, 12));
/// let config = AsppConfig::new().with_channels(4).with_rates(vec![2, 4]);
/// let context = config.init(input, &Init::new(Seed::new(1), &device));
/// let features = context.forward(Tensor::ones([1, 16, 9, 12], &device));
/// assert_eq!(features.dims(), [1, 4, 9, 12]);
/// assert_eq!(context.convs.len(), 4);
/// ```
#[derive(Module, Debug)]
pub struct Aspp {
    /// The 1 x 1 convolution, the dilated ones, and the one of the mean.
    pub convs: Vec<ConvNorm>,
    /// The convolution that reduces their channels, if there is one.
    pub project: Option<ConvNorm>,
}

impl BlockConfig for AsppConfig {
    type Block = Aspp;

    fn init(&self, input: FeatureShape, init: &Init<'_>) -> Aspp {
        Problems::refuse("Aspp", |problems| self.validate(input, problems));
        let channels = [input.channels, self.channels];
        let pointwise = || convolution(channels, 1, 1);
        let dilated = self
            .rates
            .iter()
            .map(|&rate| convolution(channels, 3, rate));
        let convs = [pointwise()]
            .into_iter()
            .chain(dilated)
            .chain([pointwise()]);
        let convs = convs.enumerate();
        let convs: Vec<_> = convs
            .map(|(index, config)| ConvNorm::new(&config, &init.at(index)))
            .collect();
        let project = self.project.then(|| {
            let config = convolution([convs.len() * self.channels, self.channels], 1, 1);
            ConvNorm::new(&config, &init.named("project"))
        });
        Aspp { convs, project }
    }

    fn output(&self, input: FeatureShape) -> FeatureShape {
        let count = if self.project { 1 } else { self.count() };
        input.with_channels(count * self.channels)
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        let holds = self.rates.len() <= 16;
        problems.require("rates", holds, "at most 16 dilations", self.rates.len());
        problems.at("rates", |problems| {
            for (index, &rate) in self.rates.iter().enumerate() {
                problems.count(&format!("[{index}]"), rate, 1..=1024);
            }
        });
        validate_channels(input.channels, self.channels, 3, problems);
    }
}

impl Block for Aspp {
    fn forward(&self, features: Tensor<4>) -> Tensor<4> {
        let [batch, channels, height, width] = features.dims();
        let last = self.convs.len() - 1;
        let mut all: Vec<_> = self.convs[..last]
            .iter()
            .map(|conv| conv.apply(features.clone(), Epilogue::Relu))
            .collect();
        let dtype = features.dtype();
        let mean = pool::average(features).cast(dtype);
        let mean = mean.reshape([batch, channels, 1, 1]);
        let mean = self.convs[last].apply(mean, Epilogue::Relu);
        let [_, channels, _, _] = mean.dims();
        let mean = mean.expand([batch, channels, height, width]);
        if let Some(project) = &self.project {
            all.push(mean);
            project.apply(Tensor::cat(all, 1), Epilogue::Relu)
        } else {
            all.insert(0, mean);
            Tensor::cat(all, 1)
        }
    }

    fn fold_batch_norm(self) -> Self {
        Self {
            convs: self.convs.into_iter().map(ConvNorm::folded).collect(),
            project: self.project.map(ConvNorm::folded),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::{fixtures, parameters};

    #[test]
    fn the_parameter_count_is_that_of_torchvision() {
        let (device, input) = (Device::default(), FeatureShape::new(2048, 65, 65));
        let context = AsppConfig::new().init(input, &fixtures::init(&device));
        assert_eq!(parameters::count(&context.convs), 15_206_912);
        assert_eq!(parameters::count(&context.project), 328_192);
    }

    #[test]
    fn a_folded_block_computes_the_same() {
        let (device, input) = (Device::default(), FeatureShape::new(3, 5, 4));
        let config = AsppConfig::new().with_channels(2).with_rates(vec![2]);
        let context = fixtures::weights(config.init(input, &fixtures::init(&device)));
        let features = fixtures::tensor([2, 3, 5, 4], -1.0..1.0, &device);
        let expected = context.forward(features.clone());
        let found = context.fold_batch_norm().forward(features);
        assert!((found - expected).abs().max().into_scalar::<f32>() < 1e-5);
    }

    #[test]
    fn without_a_projection_the_mean_is_first() {
        let (device, input) = (Device::default(), FeatureShape::new(3, 5, 4));
        let config = AsppConfig::new().with_channels(2).with_rates(vec![2]);
        let with = fixtures::weights(config.init(input, &fixtures::init(&device)));
        let config = config.with_project(false);
        assert_eq!(config.output(input).channels, 6);
        let mut without = config.init(input, &fixtures::init(&device));
        without.convs.clone_from(&with.convs);
        let features = fixtures::tensor([2, 3, 5, 4], -1.0..1.0, &device);
        let found = without.forward(features.clone());
        assert_eq!(found.dims(), [2, 6, 5, 4]);
        // The order of torchvision, projected.
        let (mean, convs) = (found.clone().narrow(1, 0, 2), found.narrow(1, 2, 4));
        let project = with.project.as_ref().expect("a projection");
        let all = Tensor::cat(vec![convs, mean.clone()], 1);
        let projected = project.apply(all, Epilogue::Relu);
        let expected = with.forward(features);
        assert!((projected - expected).abs().max().into_scalar::<f32>() < 1e-6);
        // The mean has the same value at every position.
        let spread = mean.clone().narrow(3, 0, 1) - mean.narrow(3, 3, 1);
        assert!(spread.abs().max().into_scalar::<f32>() < 1e-6);
    }

    #[test]
    #[should_panic(expected = "Aspp: rates[1]: expected 1 to 1024, found 0")]
    fn a_rate_of_0_panics() {
        let config = AsppConfig::new().with_rates(vec![6, 0]);
        let device = Device::default();
        let _ = config.init(FeatureShape::new(2, 2, 2), &fixtures::init(&device));
    }
}
