//! A gate of fixed size applied to feature maps of any size, like the region pooling of relation-aware
//! attention (Zhang et al., arXiv:1904.02998, §4.2).

use burn::{
    module::Module,
    tensor::{Device, Tensor, TensorData, module::adaptive_avg_pool2d},
};
use reid_core::{FeatureShape, InputSize, Problems, strict};
use serde::{Deserialize, Serialize};

use super::Gate;
use crate::block::BlockConfig;
use crate::init::Init;

/// Configuration of [`Resized`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "G: Deserialize<'de>"))]
pub struct ResizedConfig<G> {
    /// The height of the gate's input, 1 to 8192 rows.
    pub height: usize,
    /// The width of the gate's input, 1 to 8192 columns.
    pub width: usize,
    /// The gate.
    #[serde(deserialize_with = "strict")]
    pub gate: G,
}

impl<G> ResizedConfig<G> {
    /// Configures a gate whose input is pooled to `[height, width]`.
    #[must_use]
    pub const fn new([height, width]: [usize; 2], gate: G) -> Self {
        Self {
            height,
            width,
            gate,
        }
    }
}

/// A gate whose input is pooled to a fixed size, for attention whose weights fit one size of the feature map.
///
/// ```text
/// a = gate(average pooling of x to the fixed size)
/// y = x ⊙ (a, resized bilinearly to the size of x)       [batch, channels, height, width]
/// ```
///
/// The features keep their resolution; only the gate is resized. An input of the fixed size is neither pooled
/// nor resized, and the result is bit-identical to that of the gate.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{Block, BlockConfig, Init, attention::{ResizedConfig, RgaSpatialConfig}};
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let config = ResizedConfig::new([4, 2], RgaSpatialConfig::new());
/// let attention = config.init(FeatureShape::new(16, 8, 8), &init);
/// for (height, width) in [(8, 8), (4, 2), (11, 3)] {
///     let features = Tensor::ones([1, 16, height, width], &device);
///     assert_eq!(attention.forward(features).dims(), [1, 16, height, width]);
/// }
/// ```
#[derive(Module, Debug)]
pub struct Resized<G> {
    /// The gate.
    pub gate: G,
    #[module(skip)]
    size: [usize; 2],
}

impl<G: BlockConfig<Block: Gate>> BlockConfig for ResizedConfig<G> {
    type Block = Resized<G::Block>;

    fn init(&self, input: FeatureShape, init: &Init<'_>) -> Self::Block {
        let (height, width) = (self.height, self.width);
        Problems::refuse("a resized gate", |problems| {
            self.validate(input, problems);
        });
        let pooled = FeatureShape::new(input.channels, height, width);
        Resized {
            gate: self.gate.init(pooled, init),
            size: [height, width],
        }
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        let (height, width) = (self.height, self.width);
        let before = problems.len();
        problems.count("height", height, 1..=InputSize::MAX_SIDE);
        problems.count("width", width, 1..=InputSize::MAX_SIDE);
        if problems.len() == before {
            let pooled = FeatureShape::new(input.channels, height, width);
            problems.at("gate", |problems| self.gate.validate(pooled, problems));
        }
    }
}

impl<G: Gate> Gate for Resized<G> {
    fn gate(&self, features: Tensor<4>) -> Tensor<4> {
        let [_, _, height, width] = features.dims();
        if [height, width] == self.size {
            return self.gate.gate(features);
        }
        let gate = self.gate.gate(adaptive_avg_pool2d(features, self.size));
        match gate.dims() {
            // A gate over channels has one position, which broadcasts to all.
            [_, _, 1, 1] => gate,
            _ => resized(gate, [height, width]),
        }
    }

    fn folded(self) -> Self {
        Self {
            gate: self.gate.folded(),
            ..self
        }
    }
}

/// Resizes maps bilinearly without aligned corners, as a product with one matrix per axis. Burn's own
/// interpolation has no gradient on NdArray and on GPUs.
fn resized(maps: Tensor<4>, [height, width]: [usize; 2]) -> Tensor<4> {
    let [_, _, rows, columns] = maps.dims();
    let device: Device = maps.device();
    let dtype = maps.dtype();
    let matrix = |from, to| {
        let weights = TensorData::new(bilinear(from, to), [to, from]);
        Tensor::<2>::from_data(weights, (&device, dtype))
    };
    let down = matrix(rows, height).unsqueeze::<4>();
    let across = matrix(columns, width).transpose().unsqueeze::<4>();
    down.matmul(maps).matmul(across)
}

/// Computes the weight of each of `from` inputs in each of `to` outputs, `[to, from]` in row-major order.
fn bilinear(from: usize, to: usize) -> Vec<f32> {
    let mut weights = vec![0.0; to * from];
    for (point, row) in weights.chunks_mut(from).enumerate() {
        let centre = ((point as f32 + 0.5) * from as f32 / to as f32 - 0.5).max(0.0);
        let (whole, share) = (centre.floor(), centre.fract());
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and the number of points"
        )]
        let low = (whole as usize).min(from - 1);
        row[low] += 1.0 - share;
        row[(low + 1).min(from - 1)] += share;
    }
    weights
}

#[cfg(test)]
mod tests {
    use burn::tensor::Distribution;

    use super::*;
    use crate::{
        attention::{RgaChannelConfig, RgaSpatialConfig},
        block::Block,
    };

    #[test]
    fn bilinear_weights_match_hand_computed_ones() {
        // Two points to four: centres at -0.25 (clamped to 0), 0.25, 0.75 and 1.25 (clamped to 1).
        let expected = [[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [0.0, 1.0]];
        assert_eq!(bilinear(2, 4), expected.concat());
        assert_eq!(
            bilinear(3, 3),
            [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
        );
    }

    #[test]
    fn at_the_fixed_size_the_result_is_that_of_the_gate() {
        let device = Device::default();
        let shape = FeatureShape::new(8, 4, 2);
        let block = ResizedConfig::new([4, 2], RgaSpatialConfig::new())
            .init(shape, &crate::fixtures::init(&device));
        let features = Tensor::random([2, 8, 4, 2], Distribution::Default, &device);
        let expected = block.gate.forward(features.clone());
        assert_eq!(block.forward(features).to_data(), expected.to_data());
    }

    #[test]
    fn a_gate_over_channels_is_not_resized() {
        let device = Device::default();
        let config = ResizedConfig::new([2, 2], RgaChannelConfig::new());
        let block = config.init(FeatureShape::new(8, 4, 4), &crate::fixtures::init(&device));
        let gate = block.gate(Tensor::ones([1, 8, 6, 4], &device));
        assert_eq!(gate.dims(), [1, 8, 1, 1]);
    }

    #[test]
    #[should_panic(expected = "height: expected 1 to 8192, found 0")]
    fn a_height_of_0_panics() {
        let config = ResizedConfig::new([0, 2], RgaChannelConfig::new());
        let _ = config.init(
            FeatureShape::new(8, 4, 4),
            &crate::fixtures::init(&Device::default()),
        );
    }
}
