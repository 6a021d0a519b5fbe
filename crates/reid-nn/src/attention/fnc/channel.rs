//! Channel attention block (CAB) of FNC: a grouped bottleneck and squeeze-and-excitation.

use burn::{config::Config, module::Module, nn::conv::Conv2d, tensor::Tensor};
use reid_core::{FeatureShape, Problems};
use reid_ops::Epilogue;
use reid_ops::mul_gate;
use serde::{Deserialize, Serialize};

use super::Combine;
use crate::{
    attention::{Gate, SqueezeExcitation, SqueezeExcitationConfig, sigmoid},
    block::{Block, BlockConfig},
    convolution,
    head::MAX_DIMENSIONS,
    init::Init,
    norm::{BatchNorm, BatchNormConfig},
};

/// Which result of squeeze-and-excitation is the attention. The paper's "channel attention map" can be read
/// in both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChannelGate {
    /// The output of the block, `r ⊙ σ(SE(r))`, one value per channel and position, as in equation 3.
    #[default]
    Map,
    /// The gate of the block, `σ(SE(r))`, one value per channel, without a second sigmoid.
    Vector,
}

/// Configuration of [`FncChannel`], whose documentation has an example.
#[derive(Config, Debug, PartialEq)]
pub struct FncChannelConfig {
    /// The number of channels between the convolutions, a multiple of `groups` and at most 65536; 1024 in the
    /// paper.
    #[config(default = 1024)]
    pub hidden: usize,
    /// The number of groups of the 3 x 3 convolution, at least 1; 32 in the paper.
    #[config(default = 32)]
    pub groups: usize,
    /// Squeeze-and-excitation on the result. The paper gives no reduction; the default is the usual 16. It can
    /// have an `initial_gate` if its gate multiplies the features: with [`ChannelGate::Vector`] and
    /// [`Combine::Multiply`]. No layer with a bias comes last before the sigmoid of [`ChannelGate::Map`].
    #[config(default = "SqueezeExcitationConfig::new()")]
    pub squeeze: SqueezeExcitationConfig,
    /// Which of its results is the attention.
    #[config(default = "ChannelGate::Map")]
    pub gate: ChannelGate,
    /// How the attention is combined with the features; by multiplication in the paper.
    #[config(default = "Combine::Multiply")]
    pub combine: Combine,
}

/// Weighs the features with a grouped bottleneck and squeeze-and-excitation (§3.3, eq. 3).
///
/// ```text
/// r = W₃ · relu(bn₂(W₂ ⊛ relu(bn₁(W₁ · x))))      1 x 1, 3 x 3 in groups, 1 x 1
/// a = r ⊙ σ(SE(r))                                 [batch, channels, height, width]
/// y = σ(a) ⊙ x     or     a + x
/// ```
///
/// With [`ChannelGate::Vector`], `y = σ(SE(r)) ⊙ x` or `σ(SE(r)) + x`. Neither batch normalisation nor ReLU
/// follows the third convolution, since the paper mentions none.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{Block, BlockConfig, Init, attention::FncChannelConfig};
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let config = FncChannelConfig::new().with_hidden(8).with_groups(4);
/// let attention = config.init(FeatureShape::new(16, 4, 2), &init);
/// let features = Tensor::ones([2, 16, 4, 2], &device);
/// assert_eq!(attention.forward(features).dims(), [2, 16, 4, 2]);
/// ```
#[derive(Module, Debug)]
pub struct FncChannel {
    /// Channels → hidden, 1 x 1.
    pub conv1: Conv2d,
    /// Batch normalisation after `conv1`; absent when [folded](Block::fold_batch_norm).
    pub bn1: Option<BatchNorm>,
    /// Hidden → hidden, 3 x 3 in groups.
    pub conv2: Conv2d,
    /// Batch normalisation after `conv2`; absent when folded.
    pub bn2: Option<BatchNorm>,
    /// Hidden → channels, 1 x 1.
    pub conv3: Conv2d,
    /// Squeeze-and-excitation on the result of `conv3`.
    pub se: SqueezeExcitation,
    /// Which result of squeeze-and-excitation is the attention.
    #[module(skip)]
    pub gate: ChannelGate,
    /// How the attention is combined with the features.
    #[module(skip)]
    pub combine: Combine,
}

impl BlockConfig for FncChannelConfig {
    type Block = FncChannel;

    fn init(&self, input: FeatureShape, init: &Init<'_>) -> FncChannel {
        Problems::refuse("FNC channel attention", |problems| {
            self.validate(input, problems);
        });
        let (hidden, groups) = (self.hidden, self.groups);
        let channels = input.channels;
        let conv = |from, to, kernel, groups| {
            init.conv2d(&convolution::square([from, to], kernel, 1, groups))
        };
        let norm = || Some(BatchNormConfig::new(hidden).init(init.device()));
        FncChannel {
            conv1: conv(channels, hidden, 1, 1),
            bn1: norm(),
            conv2: conv(hidden, hidden, 3, groups),
            bn2: norm(),
            conv3: conv(hidden, channels, 1, 1),
            se: self.squeeze.init(input, init),
            gate: self.gate,
            combine: self.combine,
        }
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        let (hidden, groups) = (self.hidden, self.groups);
        problems.count("hidden", hidden, 1..=MAX_DIMENSIONS);
        let holds = groups > 0 && hidden.is_multiple_of(groups);
        let expected = format_args!("a divisor of the {hidden} hidden channels");
        problems.require("groups", holds, expected, groups);
        if holds && hidden <= MAX_DIMENSIONS {
            problems.at("hidden", |problems| {
                problems.weights("a layer", (hidden / groups).checked_mul(9 * hidden));
                problems.weights("a layer", hidden.checked_mul(input.channels));
            });
        }
        problems.at("squeeze", |problems| {
            self.squeeze.validate(input, problems);
            let gates = (self.gate, self.combine) == (ChannelGate::Vector, Combine::Multiply);
            if let (Some(gate), false) = (self.squeeze.initial_gate, gates) {
                let expected = "none unless the attention is a vector that multiplies the features";
                problems.require("initial_gate", false, expected, gate);
            }
        });
    }
}

impl FncChannel {
    /// Computes the factors of the features, for visualisation.
    ///
    /// # Shapes
    /// - `features`: `[batch, channels, height, width]`
    /// - result: the same, or `[batch, channels, 1, 1]` with [`ChannelGate::Vector`]
    #[must_use]
    pub fn gate(&self, features: Tensor<4>) -> Tensor<4> {
        let result = self.bottleneck(features);
        match self.gate {
            ChannelGate::Map => sigmoid(self.se.forward(result)),
            ChannelGate::Vector => self.se.gate(result),
        }
    }

    fn bottleneck(&self, features: Tensor<4>) -> Tensor<4> {
        let hidden =
            convolution::normalised(&self.conv1, self.bn1.as_ref(), features, Epilogue::Relu);
        let hidden =
            convolution::normalised(&self.conv2, self.bn2.as_ref(), hidden, Epilogue::Relu);
        convolution::apply(&self.conv3, hidden)
    }
}

impl Block for FncChannel {
    fn forward(&self, features: Tensor<4>) -> Tensor<4> {
        match (self.gate, self.combine) {
            (ChannelGate::Map, combine) => {
                let attention = self.se.forward(self.bottleneck(features.clone()));
                combine.apply(attention, features)
            }
            (ChannelGate::Vector, Combine::Multiply) => {
                mul_gate(features.clone(), self.gate(features))
            }
            (ChannelGate::Vector, Combine::Add) => self.gate(features.clone()) + features,
        }
    }

    fn fold_batch_norm(self) -> Self {
        let (conv1, bn1) = convolution::fold_if(self.conv1, self.bn1);
        let (conv2, bn2) = convolution::fold_if(self.conv2, self.bn2);
        Self {
            conv1,
            bn1,
            conv2,
            bn2,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::parameters;

    /// 2048 → 1024, 32 groups of 32 x 32 x 9, 1024 → 2048; two normalisations of 1024; SE with
    /// 2048 → 128 → 2048 and biases.
    #[test]
    fn parameter_count_matches_the_hand_computed_one() {
        let shape = FeatureShape::new(2048, 18, 24);
        let block = FncChannelConfig::new().init(shape, &crate::fixtures::init(&Device::default()));
        let convolutions = 2048 * 1024 + 32 * 32 * 32 * 9 + 1024 * 2048;
        let squeeze = 2 * 2048 * 128 + 128 + 2048;
        let by_hand = convolutions + 2 * 2 * 1024 + squeeze;
        assert_eq!((parameters::count(&block), by_hand), (5_019_776, 5_019_776));
    }

    #[test]
    #[should_panic(expected = "groups: expected a divisor of the 10 hidden channels, found 4")]
    fn groups_that_do_not_divide_the_hidden_channels_panic() {
        let config = FncChannelConfig::new().with_hidden(10).with_groups(4);
        let _ = config.init(
            FeatureShape::new(4, 4, 4),
            &crate::fixtures::init(&Device::default()),
        );
    }
}
