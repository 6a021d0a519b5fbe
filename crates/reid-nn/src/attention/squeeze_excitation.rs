//! Squeeze-and-excitation: channel attention from global average pooling (Hu et al., CVPR 2018,
//! arXiv:1709.01507).

use burn::{
    module::Module,
    nn::conv::{Conv2d, Conv2dConfig},
    tensor::{Tensor, activation::relu},
};
use reid_core::{FeatureShape, Problems};
use reid_ops::{Epilogue, mul_gate_epilogue};

use super::{
    Gate,
    initial_gate::{self, gate_config},
    sigmoid, validate_reduction,
};
use crate::{block::BlockConfig, init::Init, linear, pool};

gate_config! {
    /// Configuration of [`SqueezeExcitation`], whose documentation has an example.
    SqueezeExcitationConfig {
        /// The ratio of channels to hidden units, at least 1; 16 in the paper and by default. The hidden layer
        /// has `channels / reduction` units, rounded down, but at least 1.
        reduction, with_reduction: usize = 16;
    }
}

/// Gates each channel with a two-layer network on the averages of all channels.
///
/// ```text
/// g = σ(W₂ · relu(W₁ · mean_hw(x) + b₁) + b₂)        [batch, channels, 1, 1]
/// y = x ⊙ g                                          [batch, channels, height, width]
/// ```
///
/// `W₁` and `W₂` are 1 x 1 convolutions with bias, named `fc1` and `fc2` as in Cadene's
/// pretrained SE networks.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{Block, BlockConfig, Init, attention::SqueezeExcitationConfig};
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let gate = SqueezeExcitationConfig::new().init(FeatureShape::new(32, 4, 2), &init);
/// let gated = gate.forward(Tensor::ones([2, 32, 4, 2], &device));
/// assert_eq!(gated.dims(), [2, 32, 4, 2]);
/// assert!(gated.max().into_scalar::<f32>() < 1.0);
/// ```
#[derive(Module, Debug)]
pub struct SqueezeExcitation {
    /// `W₁`: channels → hidden.
    pub fc1: Conv2d,
    /// `W₂`: hidden → channels.
    pub fc2: Conv2d,
}

impl BlockConfig for SqueezeExcitationConfig {
    type Block = SqueezeExcitation;

    fn init(&self, input: FeatureShape, init: &Init<'_>) -> SqueezeExcitation {
        Problems::refuse("squeeze-and-excitation", |problems| {
            self.validate(input, problems);
        });
        let reduction = self.reduction;
        let channels = input.channels;
        let hidden = (channels / reduction).max(1);
        let fc1 = init.conv2d(&Conv2dConfig::new([channels, hidden], [1, 1]));
        let mut fc2 = init.conv2d(&Conv2dConfig::new([hidden, channels], [1, 1]));
        if let Some(gate) = self.initial_gate {
            let logit = initial_gate::logit(gate);
            fc2.bias = Some(initial_gate::constant_bias(logit, channels, init));
        }
        SqueezeExcitation { fc1, fc2 }
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        validate_reduction(self.reduction, input.channels, problems);
        initial_gate::validate(self.initial_gate, problems);
    }
}

impl Gate for SqueezeExcitation {
    fn gate(&self, features: Tensor<4>) -> Tensor<4> {
        let ([batch, channels, _, _], dtype) = (features.dims(), features.dtype());
        let hidden = relu(linear::apply_convolution(
            &self.fc1,
            pool::average(features),
        ));
        let gate = sigmoid(linear::apply_convolution(&self.fc2, hidden));
        gate.reshape([batch, channels, 1, 1]).cast(dtype)
    }
}

impl SqueezeExcitation {
    /// Gates the features and applies an epilogue, in one pass over the feature map where the backend has a
    /// fused operation.
    pub(crate) fn forward_epilogue(&self, features: Tensor<4>, epilogue: Epilogue<4>) -> Tensor<4> {
        mul_gate_epilogue(features.clone(), self.gate(features), epilogue)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn the_hidden_layer_has_at_least_one_unit() {
        let gate = SqueezeExcitationConfig::new().init(
            FeatureShape::new(4, 2, 2),
            &crate::fixtures::init(&Device::default()),
        );
        assert_eq!(gate.fc1.weight.dims(), [1, 4, 1, 1]);
    }

    #[test]
    #[should_panic(expected = "reduction: expected at least 1, found 0")]
    fn a_reduction_of_0_panics() {
        let config = SqueezeExcitationConfig::new().with_reduction(0);
        let _ = config.init(
            FeatureShape::new(4, 2, 2),
            &crate::fixtures::init(&Device::default()),
        );
    }
}
