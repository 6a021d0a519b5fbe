//! Attention blocks over channels or positions.
//!
//! Most of them are a [`Gate`]: they multiply the features by factors between 0 and 1 and can return these
//! factors. A tuple chains blocks, [`Parallel`] applies two gates to the same features, and [`Resized`]
//! adapts a gate to feature maps of other sizes. [`AttentionConfig`] selects a block at run time.
//!
//! # Gates that start near 1
//!
//! With random weights, a gate starts around 0.5, so that a new block halves the features of a pretrained network.
//! With the setting `initial_gate`, which is g below, the last bias b before the sigmoid starts elsewhere. All other
//! weights are bit-identical to those without the setting.
//!
//! ```text
//! a = σ(z + b),  b = ln(g / (1 - g))
//! ```
//!
//! | block | the bias b |
//! |---|---|
//! | squeeze-and-excitation, FC-C, FC-S | that of the last layer |
//! | CBAM-C | twice the bias of the last layer, which is applied to the average and to the maximum |
//! | RGA-S, RGA-C | that of the last batch normalisation |
//! | CBAM-S | that of the batch normalisation, or of the convolution without it |
//! | SAB of FNC | that of the last layer; only if the attention multiplies the features |
//! | CAB of FNC | that of squeeze-and-excitation; only if the attention is a vector that multiplies the features |
//!
//! Where no batch normalisation comes last, z is small at first, and the mean of the gate is about g. After batch
//! normalisation, z has mean 0 and standard deviation 1 in training. If it is normally distributed and g is 0.95,
//! the mean of the gate is 0.93, and two thirds of the factors are between 0.87 and 0.98. A chain or a product of
//! two gates multiplies their factors. Weights that are loaded replace the bias.
//!
//! A non-local block starts as the identity and is no gate, so that it has no such setting.

use burn::{
    module::{Module, ModuleDisplay},
    tensor::Tensor,
};
use reid_core::{FeatureShape, Problems};
use reid_ops::mul_gate;

use crate::block::Block;

mod any;
mod cbam;
mod fnc;
mod fully_connected;
mod initial_gate;
mod node_attention;
mod non_local;
mod parallel;
mod pointwise;
mod resized;
mod rga;
mod squeeze_excitation;

pub use any::{AnyGate, Attention, AttentionConfig, GateConfig};
pub use cbam::{CbamChannel, CbamChannelConfig, CbamSpatial, CbamSpatialConfig};
pub use fnc::{ChannelGate, Combine, FncChannel, FncChannelConfig, FncSpatial, FncSpatialConfig};
pub use fully_connected::{
    FullyConnectedChannel, FullyConnectedChannelConfig, FullyConnectedSpatial,
    FullyConnectedSpatialConfig,
};
pub use node_attention::{NodeAttention, Terms};
pub use non_local::{NonLocal, NonLocalConfig, Similarity};
pub use parallel::{CombineGates, Parallel, ParallelConfig};
pub use pointwise::Pointwise;
pub use resized::{FixedSize, Resized, ResizedConfig};
pub use rga::{Relations, RgaChannel, RgaChannelConfig, RgaSpatial, RgaSpatialConfig};
pub use squeeze_excitation::{SqueezeExcitation, SqueezeExcitationConfig};

/// A block that multiplies the features by factors in `[0, 1]` and can return these factors. Every gate is a
/// [`Block`]:
///
/// ```text
/// y = x ⊙ gate(x)        [batch, channels, height, width]
/// ```
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{BlockConfig, Init, attention::{Gate, RgaSpatialConfig}};
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let attention = RgaSpatialConfig::new().init(FeatureShape::new(16, 4, 2), &init);
/// let map = attention.gate(Tensor::ones([1, 16, 4, 2], &device)); // to overlay on the image
/// assert_eq!(map.dims(), [1, 1, 4, 2]);
/// ```
pub trait Gate: Module + ModuleDisplay + Sync + 'static {
    /// Computes the factors that the features are multiplied by.
    ///
    /// # Shapes
    /// - `features`: `[batch, channels, height, width]`
    /// - result: the same, or size 1 in a dimension where one factor applies to all elements
    ///
    /// # Panics
    /// If the gate was not built for features of this shape. Gates whose weights do not depend on the size of
    /// the feature map accept any height and width.
    fn gate(&self, features: Tensor<4>) -> Tensor<4>;

    /// Returns the gate with its batch normalisations folded into the convolutions before them, as part of
    /// [`Block::fold_batch_norm`]. A gate without such pairs returns itself.
    #[must_use]
    fn folded(self) -> Self {
        self
    }
}

impl<G: Gate> Block for G {
    fn forward(&self, features: Tensor<4>) -> Tensor<4> {
        mul_gate(features.clone(), self.gate(features))
    }

    fn fold_batch_norm(self) -> Self {
        self.folded()
    }
}

/// Computes `σ(x) = (1 + tanh(x/2))/2` in the dtype of the input. Burn's own sigmoid converts to single
/// precision on most backends.
fn sigmoid<const D: usize>(input: Tensor<D>) -> Tensor<D> {
    (input / 2).tanh() / 2 + 0.5
}

/// Rejects a reduction of 0, and a layer from `inputs` to `inputs / reduction` units with too many weights.
fn validate_reduction(reduction: usize, inputs: usize, problems: &mut Problems) {
    problems.count("reduction", reduction, 1..=usize::MAX);
    if let Some(hidden) = inputs.checked_div(reduction) {
        problems.at("reduction", |problems| {
            problems.weights("a layer", inputs.checked_mul(hidden.max(1)));
        });
    }
}

/// Checks that the features have the shape that the block was built for, and returns their dimensions.
fn checked_dims(name: &str, built: FeatureShape, features: &Tensor<4>) -> [usize; 4] {
    let found @ [_, channels, height, width] = features.dims();
    assert!(
        (channels, height, width) == (built.channels, built.height, built.width),
        "{name} was built for features of {built} and got {found:?}"
    );
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::BlockConfig;
    use burn::tensor::{Device, Distribution};

    fn check_gate<C: BlockConfig<Block: Gate> + std::fmt::Debug>(config: &C) {
        let device = Device::default();
        let gate = config.init(FeatureShape::new(16, 4, 3), &crate::fixtures::init(&device));
        for scale in [1.0, 1e3] {
            let distribution = Distribution::Normal(0.0, scale);
            let features = Tensor::random([2, 16, 4, 3], distribution, &device);
            let factors = gate.gate(features.clone());
            let [low, high] = [factors.clone().min(), factors.clone().max()];
            let [low, high] = [low, high].map(|value| value.into_scalar::<f32>());
            let within = (0.0..=1.0).contains(&low) && (0.0..=1.0).contains(&high);
            assert!(within, "{config:?}: from {low} to {high}");
            let product = features.clone() * factors;
            let difference = (gate.forward(features) - product).abs().max();
            let difference = difference.into_scalar::<f32>();
            assert!(
                f64::from(difference) <= 1e-6 * scale,
                "{config:?}: {difference}"
            );
        }
    }

    #[test]
    fn every_gate_multiplies_by_factors_from_0_to_1() {
        check_gate(&SqueezeExcitationConfig::new());
        check_gate(&CbamChannelConfig::new());
        check_gate(&CbamSpatialConfig::new());
        check_gate(&FullyConnectedChannelConfig::new());
        check_gate(&FullyConnectedSpatialConfig::new());
        let (spatial, channel) = (RgaSpatialConfig::new(), RgaChannelConfig::new());
        for terms in [Terms::Both, Terms::Relation, Terms::Visual] {
            check_gate(&spatial.clone().with_terms(terms));
            check_gate(&channel.clone().with_terms(terms));
        }
        for combine in [CombineGates::Product, CombineGates::Mean] {
            let gates = ParallelConfig::new(spatial.clone(), channel.clone());
            check_gate(&gates.with_combine(combine));
        }
        check_gate(&ResizedConfig::new([2, 2], spatial));
    }
}
