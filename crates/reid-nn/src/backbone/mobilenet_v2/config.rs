//! Configuration of `MobileNetV2` (Sandler et al., CVPR 2018, arXiv:1801.04381).

use reid_core::{FeatureShape, MAX_WEIGHTS, Problems};
use serde::{Deserialize, Serialize};

use super::{
    super::{AfterStage, after_stage},
    block::{InvertedResidualConfig, MAX_CHANNELS},
};
use crate::block::BlockConfig;

/// The largest number of blocks in a layer; published networks have at most 4.
const MAX_BLOCKS: usize = 256;

/// The ratio of hidden channels to input channels in all blocks but those of the first layer.
const EXPANSION: usize = 6;

/// The index of the layer with the stride [`MobileNetV2Config::last_stride`].
const LAST_STRIDED: usize = 5;

/// The layers of each stage, counted from 0. The first layer belongs to the stem.
pub(super) const STAGES: [std::ops::Range<usize>; 4] = [1..2, 2..3, 3..5, 5..7];

/// Configuration of [`MobileNetV2`](super::MobileNetV2) with a block `A` after chosen stages.
///
/// | network | channels of the layers | last | parameters |
/// |---|---|---|---|
/// | [`x1_0`](Self::x1_0) | 16, 24, 32, 64, 96, 160, 320 | 1280 | 2,223,872 |
/// | [`x1_4`](Self::x1_4) | 24, 32, 48, 88, 136, 224, 448 | 1792 | 4,315,776 |
/// | [`torchreid_x1_0`](Self::torchreid_x1_0) | 16, 24, 32, 64, 96, 160, 320 | 1280 | 2,224,960 |
/// | [`torchreid_x1_4`](Self::torchreid_x1_4) | 22, 33, 44, 89, 134, 224, 448 | 1792 | 4,291,604 |
///
/// ```
/// use reid_core::{FeatureShape, InputSize};
/// use reid_nn::{BlockConfig, backbone::MobileNetV2Config};
///
/// let config = MobileNetV2Config::x1_0().with_last_stride(1);
/// assert_eq!(config.output(InputSize::PERSON.rgb()), FeatureShape::new(1280, 16, 8));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "A: Deserialize<'de>"))]
pub struct MobileNetV2Config<A = ()> {
    /// The channels of the first convolution, from 1 to 8192; 32 in the paper.
    pub stem: usize,
    /// The channels of the seven layers of blocks, from 1 to 8192 each.
    pub channels: [usize; 7],
    /// The number of blocks of the seven layers, 1 to 256 each.
    pub blocks: [usize; 7],
    /// The channels of the last convolution, from 1 to 8192; 1280 in the paper.
    pub last: usize,
    /// Whether the blocks of the first layer have a 1 x 1 convolution before the depthwise one. The paper's
    /// expansion of these blocks is 1; torchvision omits the convolution, torchreid does not.
    pub first_expansion: bool,
    /// The stride of the sixth layer, 1 or 2. It is 2 in the published networks; 1 keeps the feature map
    /// larger.
    pub last_stride: usize,
    /// The blocks after stages, at most one per stage.
    pub after: Vec<AfterStage<A>>,
}

impl MobileNetV2Config {
    fn from_channels(stem: usize, channels: [usize; 7], last: usize) -> Self {
        Self {
            stem,
            channels,
            blocks: [1, 2, 3, 4, 3, 3, 1],
            last,
            first_expansion: false,
            last_stride: 2,
            after: Vec::new(),
        }
    }

    /// MobileNetV2 x1.0 as in torchvision: 1280 channels.
    #[must_use]
    pub fn x1_0() -> Self {
        Self::from_channels(32, [16, 24, 32, 64, 96, 160, 320], 1280)
    }

    /// MobileNetV2 x1.4: 1792 channels. The channels of the layers are rounded to multiples of 8 as in the
    /// authors' code and in torchvision.
    #[must_use]
    pub fn x1_4() -> Self {
        Self::from_channels(48, [24, 32, 48, 88, 136, 224, 448], 1792)
    }

    /// MobileNetV2 x1.0 as in torchreid, whose first block has an expansion.
    #[must_use]
    pub fn torchreid_x1_0() -> Self {
        Self {
            first_expansion: true,
            ..Self::x1_0()
        }
    }

    /// MobileNetV2 x1.4 as in torchreid, whose first block has an expansion and whose channels are rounded
    /// down.
    #[must_use]
    pub fn torchreid_x1_4() -> Self {
        Self {
            first_expansion: true,
            ..Self::from_channels(44, [22, 33, 44, 89, 134, 224, 448], 1792)
        }
    }

    /// Inserts a block after each of these stages, from 1 to 4. [`and_after`](Self::and_after) adds blocks
    /// after further stages.
    #[must_use]
    pub fn after<A: Clone>(self, stages: &[usize], block: A) -> MobileNetV2Config<A> {
        let network = MobileNetV2Config {
            stem: self.stem,
            channels: self.channels,
            blocks: self.blocks,
            last: self.last,
            first_expansion: self.first_expansion,
            last_stride: self.last_stride,
            after: Vec::new(),
        };
        network.and_after(stages, block)
    }
}

impl<A> MobileNetV2Config<A> {
    /// Sets the stride of the sixth layer.
    #[must_use]
    pub fn with_last_stride(mut self, last_stride: usize) -> Self {
        self.last_stride = last_stride;
        self
    }

    /// Inserts a block after each of these stages, from 1 to 4, and keeps the blocks after other stages.
    #[must_use]
    pub fn and_after(mut self, stages: &[usize], block: A) -> Self
    where
        A: Clone,
    {
        self.after.extend(after_stage::after_stages(stages, &block));
        self
    }

    /// The configurations of the blocks of a layer, which counts from 0.
    pub(super) fn layer(&self, layer: usize) -> Vec<InvertedResidualConfig> {
        let first_stride = match layer {
            0 | 4 | 6 => 1,
            LAST_STRIDED => self.last_stride,
            _ => 2,
        };
        let expansion = match layer {
            0 => self.first_expansion.then_some(1),
            _ => Some(EXPANSION),
        };
        let block = |index| InvertedResidualConfig {
            channels: self.channels[layer],
            expansion,
            stride: if index == 0 { first_stride } else { 1 },
        };
        (0..self.blocks[layer]).map(block).collect()
    }

    /// The block after a stage, which counts from 0.
    pub(super) fn after_stage(&self, stage: usize) -> Option<&A> {
        after_stage::find(&self.after, stage).map(|(_, block)| block)
    }

    /// The shape after the first convolution.
    pub(super) fn convolved(&self, image: FeatureShape) -> FeatureShape {
        image.strided(3, 2, 1).with_channels(self.stem)
    }

    /// The shape after a stage without the block after it.
    pub(super) fn stage_output(&self, stage: usize, input: FeatureShape) -> FeatureShape {
        let layers = STAGES[stage].clone();
        let shape = layers.fold(input, |shape, layer| self.layer(layer).output(shape));
        match stage {
            3 => shape.with_channels(self.last),
            _ => shape,
        }
    }
}

impl<A: BlockConfig> MobileNetV2Config<A> {
    /// The shapes of the feature maps after the stem and after each of the four stages. The block after a
    /// stage, if there is one, belongs to the stage.
    #[must_use]
    pub fn shapes(&self, image: FeatureShape) -> [FeatureShape; 5] {
        let mut shapes = [self.layer(0).output(self.convolved(image)); 5];
        for stage in 0..4 {
            let shape = self.stage_output(stage, shapes[stage]);
            shapes[stage + 1] = self
                .after_stage(stage)
                .map_or(shape, |after| after.output(shape));
        }
        shapes
    }

    /// Adds a problem for each hyper-parameter that is out of range; returns whether there was none.
    pub(super) fn validate_ranges(&self, problems: &mut Problems) -> bool {
        let before = problems.len();
        problems.count("stem", self.stem, 1..=MAX_CHANNELS);
        for (layer, (&channels, &blocks)) in self.channels.iter().zip(&self.blocks).enumerate() {
            problems.count(&format!("channels[{layer}]"), channels, 1..=MAX_CHANNELS);
            problems.count(&format!("blocks[{layer}]"), blocks, 1..=MAX_BLOCKS);
        }
        problems.count("last", self.last, 1..=MAX_CHANNELS);
        problems.count("last_stride", self.last_stride, 1..=2);
        after_stage::validate_stages(&self.after, problems);
        if problems.len() == before {
            let weights = self.weights();
            problems.require(
                "channels",
                weights <= MAX_WEIGHTS as f64,
                format_args!("at most {MAX_WEIGHTS} weights in all layers"),
                format_args!("{weights:.0}"),
            );
        }
        problems.len() == before
    }

    /// Adds the problems of the blocks after stages. The hyper-parameters must be in range.
    pub(super) fn validate_sockets(&self, image: FeatureShape, problems: &mut Problems) {
        let mut shape = self.layer(0).output(self.convolved(image));
        for stage in 0..4 {
            shape = self.stage_output(stage, shape);
            match after_stage::validate_block(&self.after, stage, shape, problems) {
                Some(after) => shape = after,
                None => return, // later stages have no input shape
            }
        }
    }

    /// Estimates the number of weights of all layers, in floating point because it may be large.
    fn weights(&self) -> f64 {
        let mut from = self.stem;
        let mut sum = 0.0;
        for (&to, &blocks) in self.channels.iter().zip(&self.blocks) {
            let block = |from: usize| (EXPANSION * from) as f64 * (from + to + 13) as f64;
            sum += block(from) + (blocks - 1) as f64 * block(to);
            from = to;
        }
        sum + from as f64 * self.last as f64
    }
}
