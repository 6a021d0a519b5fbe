//! Fully connected attention over channels or over positions (Liu et al., Spatial and Temporal Mutual
//! Promotion for Video-based Person Re-identification, AAAI 2019, arXiv:1812.10305). It has the form of
//! the baselines FC-C and FC-S of Relation-Aware Global Attention (arXiv:1904.02998, §4.1.2).

use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    tensor::{Tensor, activation::relu},
};
use reid_core::{FeatureShape, Problems};

use super::{
    Gate, checked_dims,
    initial_gate::{self, gate_config},
    pointwise::{Pointwise, embed, fold_batch_norm, pointwise},
    sigmoid, validate_reduction,
};
use crate::{block::BlockConfig, init::Init, linear, pool, precision::widened};

gate_config! {
    /// Configuration of [`FullyConnectedChannel`], whose documentation has an example.
    FullyConnectedChannelConfig {
        /// The ratio of channels to embedded channels, at least 1. Neither paper gives a value; the default of 8
        /// is that of relation-aware attention.
        reduction, with_reduction: usize = 8;
    }
}

gate_config! {
    /// Configuration of [`FullyConnectedSpatial`], whose documentation has an example.
    FullyConnectedSpatialConfig {
        /// The ratio of channels to embedded channels and of positions to hidden units, at least 1. Neither paper
        /// gives a value; the default of 8 is that of relation-aware attention.
        reduction, with_reduction: usize = 8;
    }
}

/// FC-C: gates each channel with one fully connected layer on the average of the embedded channels.
///
/// ```text
/// e = relu(bn(Wₑ · x))                             [batch, channels/reduction, height, width]
/// g = σ(W · mean_hw(e) + b)                        [batch, channels, 1, 1]
/// y = x ⊙ g                                        [batch, channels, height, width]
/// ```
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{BlockConfig, Init, attention::{FullyConnectedChannelConfig, Gate}};
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let gate = FullyConnectedChannelConfig::new().init(FeatureShape::new(32, 4, 2), &init);
/// assert_eq!(gate.gate(Tensor::ones([2, 32, 4, 2], &device)).dims(), [2, 32, 1, 1]);
/// ```
#[derive(Module, Debug)]
pub struct FullyConnectedChannel {
    /// Channels → embedded channels.
    pub embed: Pointwise,
    /// Embedded channels → channels.
    pub fc: Linear,
}

/// FC-S: gates each position with two fully connected layers over all positions.
///
/// ```text
/// e = mean_c(relu(bn(Wₑ · x)))                     [batch, height·width]
/// g = σ(W₂ · relu(W₁ · e + b₁) + b₂)               [batch, 1, height, width]
/// y = x ⊙ g                                        [batch, channels, height, width]
/// ```
///
/// The weights fit one size of the feature map; [`Resized`](super::Resized) adapts the gate to other sizes.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{BlockConfig, Init, attention::{FullyConnectedSpatialConfig, Gate}};
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let gate = FullyConnectedSpatialConfig::new().init(FeatureShape::new(32, 4, 2), &init);
/// assert_eq!(gate.gate(Tensor::ones([2, 32, 4, 2], &device)).dims(), [2, 1, 4, 2]);
/// ```
#[derive(Module, Debug)]
pub struct FullyConnectedSpatial {
    /// Channels → embedded channels.
    pub embed: Pointwise,
    /// `W₁`: positions → hidden.
    pub fc1: Linear,
    /// `W₂`: hidden → positions.
    pub fc2: Linear,
    /// The shape of the feature maps that the weights fit.
    #[module(skip)]
    pub input: FeatureShape,
}

fn embedding(input: FeatureShape, reduction: usize, init: &Init<'_>) -> Pointwise {
    pointwise(input.channels, (input.channels / reduction).max(1), init)
}

impl BlockConfig for FullyConnectedChannelConfig {
    type Block = FullyConnectedChannel;

    fn init(&self, input: FeatureShape, init: &Init<'_>) -> FullyConnectedChannel {
        Problems::refuse("FC-C", |problems| self.validate(input, problems));
        let embed = embedding(input, self.reduction, init);
        let [embedded, _, _, _] = embed.0.weight.shape().dims();
        let mut fc = init.linear(&LinearConfig::new(embedded, input.channels));
        if let Some(gate) = self.initial_gate {
            let logit = initial_gate::logit(gate);
            fc.bias = Some(initial_gate::constant_bias(logit, input.channels, init));
        }
        FullyConnectedChannel { embed, fc }
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        validate_reduction(self.reduction, input.channels, problems);
        initial_gate::validate(self.initial_gate, problems);
    }
}

impl BlockConfig for FullyConnectedSpatialConfig {
    type Block = FullyConnectedSpatial;

    fn init(&self, input: FeatureShape, init: &Init<'_>) -> FullyConnectedSpatial {
        Problems::refuse("FC-S", |problems| self.validate(input, problems));
        let embed = embedding(input, self.reduction, init);
        let positions = input.positions();
        let hidden = (positions / self.reduction).max(1);
        let fc1 = init.linear(&LinearConfig::new(positions, hidden));
        let mut fc2 = init.linear(&LinearConfig::new(hidden, positions));
        if let Some(gate) = self.initial_gate {
            let logit = initial_gate::logit(gate);
            fc2.bias = Some(initial_gate::constant_bias(logit, positions, init));
        }
        FullyConnectedSpatial {
            embed,
            fc1,
            fc2,
            input,
        }
    }

    fn fits_one_size(&self) -> bool {
        true
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        let largest = input.channels.max(input.positions());
        validate_reduction(self.reduction, largest, problems);
        initial_gate::validate(self.initial_gate, problems);
    }
}

impl Gate for FullyConnectedChannel {
    fn gate(&self, features: Tensor<4>) -> Tensor<4> {
        let ([batch, channels, _, _], dtype) = (features.dims(), features.dtype());
        let pooled = pool::average(embed(&self.embed, features));
        let gate = sigmoid(linear::apply(&self.fc, pooled));
        gate.reshape([batch, channels, 1, 1]).cast(dtype)
    }

    fn folded(self) -> Self {
        Self {
            embed: fold_batch_norm(self.embed),
            ..self
        }
    }
}

impl Gate for FullyConnectedSpatial {
    fn gate(&self, features: Tensor<4>) -> Tensor<4> {
        let [batch, _, height, width] = checked_dims("FC-S", self.input, &features);
        let dtype = features.dtype();
        let pooled = widened(embed(&self.embed, features).mean_dim(1));
        let hidden = relu(linear::apply(
            &self.fc1,
            pooled.reshape([batch, height * width]),
        ));
        let gate = sigmoid(linear::apply(&self.fc2, hidden));
        gate.reshape([batch, 1, height, width]).cast(dtype)
    }

    fn folded(self) -> Self {
        Self {
            embed: fold_batch_norm(self.embed),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    #[should_panic(expected = "FC-S was built for features of 8x4x2 and got [1, 8, 2, 4]")]
    fn features_of_another_size_panic() {
        let device = Device::default();
        let gate = FullyConnectedSpatialConfig::new()
            .init(FeatureShape::new(8, 4, 2), &crate::fixtures::init(&device));
        let _ = gate.gate(Tensor::ones([1, 8, 2, 4], &device));
    }

    #[test]
    #[should_panic(expected = "reduction: expected at least 1, found 0")]
    fn a_reduction_of_0_panics() {
        let config = FullyConnectedChannelConfig::new().with_reduction(0);
        let _ = config.init(
            FeatureShape::new(4, 4, 4),
            &crate::fixtures::init(&Device::default()),
        );
    }
}
