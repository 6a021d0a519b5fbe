//! CBAM: channel attention and spatial attention from average and max pooling (Woo et al., CBAM, ECCV 2018,
//! arXiv:1807.06521). The paper's module is a tuple of both, channels first.

use burn::{
    config::Config,
    module::Module,
    nn::{
        PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
    },
    tensor::{Tensor, activation::relu},
};
use reid_core::{FeatureShape, Problems};

use super::{Gate, sigmoid, validate_reduction};
use crate::{
    block::{Block, BlockConfig},
    convolution,
    init::Init,
    linear,
    norm::{BatchNorm, BatchNormConfig},
    pool,
};

/// Configuration of [`CbamChannel`], whose documentation has an example.
#[derive(Config, Debug, PartialEq)]
pub struct CbamChannelConfig {
    /// The ratio of channels to hidden units, at least 1; 16 in the paper. The hidden layer has
    /// `channels / reduction` units, rounded down, but at least 1.
    #[config(default = 16)]
    pub reduction: usize,
}

/// Configuration of [`CbamSpatial`], whose documentation has an example.
#[derive(Config, Debug, PartialEq)]
pub struct CbamSpatialConfig {
    /// The kernel size of the convolution, odd and at most 63; 7 in the paper.
    #[config(default = 7)]
    pub kernel: usize,
    /// Whether batch normalisation follows the convolution, as in the authors' code and by default. Otherwise
    /// the convolution has a bias.
    #[config(default = true)]
    pub normalised: bool,
}

/// CBAM-C: gates each channel with a two-layer network on its average and its maximum over all positions.
///
/// ```text
/// f(v) = W₂ · relu(W₁ · v + b₁) + b₂                        one network for average and maximum
/// g = σ(f(mean_hw(x)) + f(max_hw(x)))                        [batch, channels, 1, 1]
/// y = x ⊙ g                                                  [batch, channels, height, width]
/// ```
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{BlockConfig, Init, attention::{CbamChannelConfig, Gate}};
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let gate = CbamChannelConfig::new().init(FeatureShape::new(32, 4, 2), &init);
/// assert_eq!(gate.gate(Tensor::ones([2, 32, 4, 2], &device)).dims(), [2, 32, 1, 1]);
/// ```
#[derive(Module, Debug)]
pub struct CbamChannel {
    /// `W₁`: channels → hidden.
    pub fc1: Conv2d,
    /// `W₂`: hidden → channels.
    pub fc2: Conv2d,
}

/// CBAM-S: gates each position with a convolution over the average and the maximum of the channels.
///
/// ```text
/// g = σ(bn(W * [mean_c(x), max_c(x)]))                      [batch, 1, height, width]
/// y = x ⊙ g                                                 [batch, channels, height, width]
/// ```
///
/// The average is the first input channel, as in the paper's equation 3. The authors' code puts the maximum
/// first.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{BlockConfig, Init, attention::{CbamSpatialConfig, Gate}};
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let gate = CbamSpatialConfig::new().init(FeatureShape::new(32, 4, 2), &init);
/// assert_eq!(gate.gate(Tensor::ones([2, 32, 4, 2], &device)).dims(), [2, 1, 4, 2]);
/// ```
#[derive(Module, Debug)]
pub struct CbamSpatial {
    /// Average and maximum → one channel.
    pub conv: Conv2d,
    /// Batch normalisation after `conv`; absent when the configuration has none or when
    /// [folded](Block::fold_batch_norm).
    pub norm: Option<BatchNorm>,
}

impl BlockConfig for CbamChannelConfig {
    type Block = CbamChannel;

    fn init(&self, input: FeatureShape, init: &Init<'_>) -> CbamChannel {
        Problems::refuse("CBAM-C", |problems| self.validate(input, problems));
        let channels = input.channels;
        let hidden = (channels / self.reduction).max(1);
        CbamChannel {
            fc1: init.conv2d(&Conv2dConfig::new([channels, hidden], [1, 1])),
            fc2: init.conv2d(&Conv2dConfig::new([hidden, channels], [1, 1])),
        }
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        validate_reduction(self.reduction, input.channels, problems);
    }
}

impl CbamSpatialConfig {
    /// The largest kernel size.
    const MAX_KERNEL: usize = 63;
}

impl BlockConfig for CbamSpatialConfig {
    type Block = CbamSpatial;

    fn init(&self, input: FeatureShape, init: &Init<'_>) -> CbamSpatial {
        Problems::refuse("CBAM-S", |problems| self.validate(input, problems));
        let kernel = self.kernel;
        let padding = kernel / 2;
        let conv = Conv2dConfig::new([2, 1], [kernel, kernel])
            .with_padding(PaddingConfig2d::Explicit(
                padding, padding, padding, padding,
            ))
            .with_bias(!self.normalised);
        let norm = || BatchNormConfig::new(1).init(init.device());
        CbamSpatial {
            conv: init.conv2d(&conv),
            norm: self.normalised.then(norm),
        }
    }

    fn validate(&self, _input: FeatureShape, problems: &mut Problems) {
        let kernel = self.kernel;
        let holds = kernel % 2 == 1 && kernel <= Self::MAX_KERNEL;
        let expected = format_args!("an odd number from 1 to {}", Self::MAX_KERNEL);
        problems.require("kernel", holds, expected, kernel);
    }
}

impl Gate for CbamChannel {
    fn gate(&self, features: Tensor<4>) -> Tensor<4> {
        let ([batch, channels, _, _], dtype) = (features.dims(), features.dtype());
        let network = |pooled: Tensor<2>| {
            let hidden = relu(linear::apply_convolution(&self.fc1, pooled));
            linear::apply_convolution(&self.fc2, hidden)
        };
        let [average, max] = [pool::average(features.clone()), pool::max(features)].map(network);
        let gate = sigmoid(average + max);
        gate.reshape([batch, channels, 1, 1]).cast(dtype)
    }
}

impl Gate for CbamSpatial {
    fn gate(&self, features: Tensor<4>) -> Tensor<4> {
        let pooled = Tensor::cat(vec![features.clone().mean_dim(1), features.max_dim(1)], 1);
        sigmoid(self.norm.forward(convolution::apply(&self.conv, pooled)))
    }

    fn folded(self) -> Self {
        let (conv, norm) = convolution::fold_if(self.conv, self.norm);
        Self { conv, norm }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    #[should_panic(expected = "kernel: expected an odd number from 1 to 63, found 4")]
    fn an_even_kernel_size_panics() {
        let config = CbamSpatialConfig::new().with_kernel(4);
        let _ = config.init(
            FeatureShape::new(4, 4, 4),
            &crate::fixtures::init(&Device::default()),
        );
    }

    #[test]
    #[should_panic(expected = "reduction: expected at least 1, found 0")]
    fn a_reduction_of_0_panics() {
        let config = CbamChannelConfig::new().with_reduction(0);
        let _ = config.init(
            FeatureShape::new(4, 4, 4),
            &crate::fixtures::init(&Device::default()),
        );
    }
}
