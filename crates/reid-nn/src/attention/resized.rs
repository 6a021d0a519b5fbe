//! A gate of fixed size applied to feature maps of any size, like the region pooling of relation-aware
//! attention (Zhang et al., arXiv:1904.02998, §4.2).

use burn::{
    module::Module,
    tensor::{Tensor, module::adaptive_avg_pool2d},
};
use reid_core::{FeatureShape, InputSize, Problems, strict};
use serde::{Deserialize, Serialize};

use super::Gate;
use crate::{
    block::BlockConfig,
    init::Init,
    resample::{self, Alignment, RoiAlign},
};

/// Configuration of [`Resized`], whose documentation has an example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "G: Deserialize<'de>"))]
pub struct ResizedConfig<G> {
    /// The height of the gate's input, 1 to 8192 rows.
    pub height: usize,
    /// The width of the gate's input, 1 to 8192 columns.
    pub width: usize,
    /// How the features are brought to this size; by average pooling by default.
    #[serde(default, skip_serializing_if = "FixedSize::is_average")]
    pub pooling: FixedSize,
    /// The gate.
    #[serde(deserialize_with = "strict")]
    pub gate: G,
}

/// How [`Resized`] brings the features to the fixed size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FixedSize {
    /// The average over windows of whole positions, which cover the feature map.
    #[default]
    Average,
    /// [`RoIAlign`](RoiAlign) of the whole feature map, aligned and with adaptive sampling. A feature map
    /// that is smaller than the fixed size is interpolated.
    RoiAlign,
}

impl FixedSize {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    fn is_average(&self) -> bool {
        *self == Self::Average
    }

    fn pool(self, features: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
        match self {
            Self::Average => adaptive_avg_pool2d(features, size),
            Self::RoiAlign => RoiAlign::new(size).whole(features),
        }
    }
}

impl<G> ResizedConfig<G> {
    /// Configures a gate whose input is pooled to `[height, width]`.
    #[must_use]
    pub const fn new([height, width]: [usize; 2], gate: G) -> Self {
        Self {
            height,
            width,
            pooling: FixedSize::Average,
            gate,
        }
    }

    /// Sets how the features are brought to the fixed size.
    #[must_use]
    pub fn with_pooling(mut self, pooling: FixedSize) -> Self {
        self.pooling = pooling;
        self
    }
}

/// A gate whose input is pooled to a fixed size, for attention whose weights fit one size of the feature map.
///
/// ```text
/// a = gate(x, pooled to the fixed size)
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
    /// The height and width of the gate's input.
    #[module(skip)]
    pub size: [usize; 2],
    /// How the features are brought to this size.
    #[module(skip)]
    pub pooling: FixedSize,
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
            pooling: self.pooling,
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
        let gate = self.gate.gate(self.pooling.pool(features, self.size));
        match gate.dims() {
            // A gate over channels has one position, which broadcasts to all.
            [_, _, 1, 1] => gate,
            _ => resample::bilinear(gate, [height, width], Alignment::Edges),
        }
    }

    fn folded(self) -> Self {
        Self {
            gate: self.gate.folded(),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;
    use crate::{
        attention::{RgaChannelConfig, RgaSpatialConfig},
        block::Block,
    };

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

    /// A gate whose factor is the mean over channels of the features, limited to 1.
    #[derive(Module, Debug)]
    struct Mean {}

    impl Gate for Mean {
        fn gate(&self, features: Tensor<4>) -> Tensor<4> {
            features.mean_dim(1).clamp(0.0, 1.0)
        }
    }

    #[test]
    fn features_are_sampled_or_averaged() {
        let features = Tensor::<4>::from_data([[[[0.0, 0.3, 0.9]]]], &Device::default());
        let gate = |pooling| {
            let (gate, size) = (Mean {}, [1, 2]);
            let resized = Resized {
                gate,
                size,
                pooling,
            };
            let values = resized.gate(features.clone()).into_data();
            values.try_to_vec::<f32>().expect("f32 values")
        };
        // Averages of two positions: 0.15 and 0.6. Samples of RoIAlign, two per bin of 1.5 positions, are at
        // -0.125, 0.625, 1.375 and 2.125: 0 and 0.1875, 0.525 and 0.9.
        let pooled = [
            (FixedSize::Average, [0.15, 0.6]),
            (FixedSize::RoiAlign, [0.093_75, 0.712_5]),
        ];
        for (pooling, [low, high]) in pooled {
            // Two points to three: the outer ones, and the middle of both.
            let expected = [low, f32::midpoint(low, high), high];
            for (found, expected) in gate(pooling).into_iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 1e-6,
                    "{pooling:?}: {found}, {expected}"
                );
            }
        }
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
