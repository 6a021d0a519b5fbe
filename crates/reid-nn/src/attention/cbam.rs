//! CBAM: channel attention and spatial attention from average and max pooling (Woo et al., CBAM, ECCV 2018,
//! arXiv:1807.06521). The paper's module is a tuple of both, channels first.

use burn::{
    module::Module,
    nn::{
        PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
    },
    tensor::{Tensor, activation::relu},
};
use reid_core::{FeatureShape, Problems};

use super::{
    Gate,
    initial_gate::{self, gate_config},
    sigmoid, validate_reduction,
};
use crate::{
    block::{Block, BlockConfig},
    convolution,
    init::Init,
    linear,
    norm::{BatchNorm, BatchNormConfig},
    pool,
};

gate_config! {
    /// Configuration of [`CbamChannel`], whose documentation has an example.
    CbamChannelConfig {
        /// The ratio of channels to hidden units, at least 1; 16 in the paper and by default. The hidden layer
        /// has `channels / reduction` units, rounded down, but at least 1.
        reduction, with_reduction: usize = 16;
    }
}

gate_config! {
    /// Configuration of [`CbamSpatial`], whose documentation has an example.
    CbamSpatialConfig {
        /// The kernel size of the convolution, odd and at most 63; 7 in the paper and by default.
        kernel, with_kernel: usize = 7;
        /// Whether batch normalisation follows the convolution, as in the authors' code and by default.
        /// Otherwise the convolution has a bias.
        normalised, with_normalised: bool = true;
    }
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
        let fc1 = init.conv2d(&Conv2dConfig::new([channels, hidden], [1, 1]));
        let mut fc2 = init.conv2d(&Conv2dConfig::new([hidden, channels], [1, 1]));
        if let Some(gate) = self.initial_gate {
            // The bias counts twice: for the average and for the maximum.
            let half = initial_gate::logit(gate) / 2.0;
            fc2.bias = Some(initial_gate::constant_bias(half, channels, init));
        }
        CbamChannel { fc1, fc2 }
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        validate_reduction(self.reduction, input.channels, problems);
        initial_gate::validate(self.initial_gate, problems);
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
        let mut conv = init.conv2d(&conv);
        let norm = || BatchNormConfig::new(1).init(init.device());
        let mut norm = self.normalised.then(norm);
        if let Some(gate) = self.initial_gate {
            let bias = initial_gate::constant_bias(initial_gate::logit(gate), 1, init);
            match &mut norm {
                Some(norm) => norm.bias = bias,
                None => conv.bias = Some(bias),
            }
        }
        CbamSpatial { conv, norm }
    }

    fn validate(&self, _input: FeatureShape, problems: &mut Problems) {
        let kernel = self.kernel;
        let holds = kernel % 2 == 1 && kernel <= Self::MAX_KERNEL;
        let expected = format_args!("an odd number from 1 to {}", Self::MAX_KERNEL);
        problems.require("kernel", holds, expected, kernel);
        initial_gate::validate(self.initial_gate, problems);
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
