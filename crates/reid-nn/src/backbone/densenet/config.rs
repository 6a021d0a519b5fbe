//! Configuration of `DenseNet` (Huang et al., CVPR 2017, arXiv:1608.06993).

use std::ops::Bound;

use reid_core::{FeatureShape, MAX_WEIGHTS, Problems};
use serde::{Deserialize, Serialize};

use super::{
    super::{AfterStage, MaxPool, Stem, after_stage},
    layer::{DenseLayerConfig, MAX_CHANNELS},
};
use crate::block::BlockConfig;

/// The largest number of layers in a block; published networks have at most 64.
const MAX_LAYERS: usize = 512;

/// Configuration of [`DenseNet`](super::DenseNet) with a block `A` after chosen stages.
///
/// | network | layers of the blocks | stem | parameters of the backbone |
/// |---|---|---|---|
/// | [`cifar(100)`](Self::cifar) | 32, 32, 32 | 16 | 6,967,952 |
/// | [`cifar_bc(100)`](Self::cifar_bc) | 16, 16, 16 | 24 | 765,732 |
/// | [`densenet121`](Self::densenet121) | 6, 12, 24, 16 | 64 | 6,953,856 |
///
/// ```
/// use reid_core::{FeatureShape, InputSize};
/// use reid_nn::{BlockConfig, backbone::DenseNetConfig};
///
/// let config = DenseNetConfig::densenet121();
/// assert_eq!(config.output(InputSize::PERSON.rgb()), FeatureShape::new(1024, 8, 4));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "A: Deserialize<'de>"))]
pub struct DenseNetConfig<A = ()> {
    /// The number of layers per dense block, 1 to 512 each. The last block may have none: the networks for
    /// CIFAR have three.
    pub blocks: [usize; 4],
    /// The layers before the first block.
    pub stem: Stem,
    /// The channels of the stem, from 1 to 4096; 16 or twice the growth in the paper's networks for CIFAR.
    pub stem_channels: usize,
    /// The number of channels k that a layer adds, from 1 to 4096; 12 in the paper's networks for CIFAR.
    pub growth: usize,
    /// The ratio of hidden channels to new channels, from 1 to 64; 4 in the paper. `None` omits the 1 x 1
    /// convolutions of the layers.
    #[serde(deserialize_with = "Option::deserialize")]
    pub bottleneck: Option<usize>,
    /// The share θ of channels that a transition keeps, rounded down, above 0 and up to 1; 0.5 or 1 in the
    /// paper.
    pub compression: f64,
    /// The rate of the dropout after each convolution in training, in `[0, 1)`; 0.2 in the paper for training
    /// without augmentation, and otherwise 0.
    pub dropout: f64,
    /// The blocks after stages, at most one per stage.
    pub after: Vec<AfterStage<A>>,
}

impl DenseNetConfig {
    /// A plain `DenseNet` for images of 32 x 32: three blocks of `(depth - 4) / 3` layers, rounded down, with
    /// a growth of 12. The stem has 16 channels as in the paper; common implementations have 24.
    ///
    /// | depth | parameters, with a classifier of 10 classes | of 100 classes |
    /// |---|---|---|
    /// | 40 | 1,019,722 | |
    /// | 100 | 6,979,642 | 7,084,852 |
    /// | 115 | 9,302,122 | 9,423,532 |
    ///
    /// ```
    /// use reid_core::InputSize;
    /// use reid_nn::{BlockConfig, backbone::DenseNetConfig};
    ///
    /// let image = InputSize::new(32, 32).rgb();
    /// assert_eq!(DenseNetConfig::cifar(100).output(image).to_string(), "1168x8x8");
    /// assert_eq!(DenseNetConfig::cifar_bc(100).output(image).to_string(), "342x8x8");
    /// ```
    ///
    /// # Panics
    /// If the depth is below 7.
    #[must_use]
    pub fn cifar(depth: usize) -> Self {
        assert!(
            depth >= 7,
            "a DenseNet for CIFAR needs a depth of at least 7, found {depth}"
        );
        let layers = (depth - 4) / 3;
        Self {
            blocks: [layers, layers, layers, 0],
            stem: Stem::Small,
            stem_channels: 16,
            growth: 12,
            bottleneck: None,
            compression: 1.0,
            dropout: 0.0,
            after: Vec::new(),
        }
    }

    /// A DenseNet-BC for images of 32 x 32: bottlenecks, transitions that keep half of the channels, and
    /// three blocks of `(depth - 4) / 6` layers, rounded down. The growth is 12 and the stem has 24 channels.
    ///
    /// A depth of 115, as in table 7 of relation-aware global attention, gives 18 layers per block, so the
    /// network has a depth of 112.
    ///
    /// | depth | parameters, with a classifier of 10 classes | of 100 classes |
    /// |---|---|---|
    /// | 100 | 769,162 | 800,032 |
    /// | 112, 115 | 932,986 | 967,636 |
    ///
    /// # Panics
    /// If the depth is below 10.
    #[must_use]
    pub fn cifar_bc(depth: usize) -> Self {
        assert!(
            depth >= 10,
            "a DenseNet-BC for CIFAR needs a depth of at least 10, found {depth}"
        );
        let layers = (depth - 4) / 6;
        Self {
            blocks: [layers, layers, layers, 0],
            stem_channels: 24,
            bottleneck: Some(4),
            compression: 0.5,
            ..Self::cifar(100)
        }
    }

    /// DenseNet-121 for `ImageNet`, as in torchvision: 1024 channels.
    #[must_use]
    pub fn densenet121() -> Self {
        Self {
            blocks: [6, 12, 24, 16],
            stem: Stem::Large(MaxPool::Padded),
            stem_channels: 64,
            growth: 32,
            ..Self::cifar_bc(100)
        }
    }

    /// Inserts a block after each of these stages, from 1 to 4. [`and_after`](Self::and_after) adds blocks
    /// after further stages.
    #[must_use]
    pub fn after<A: Clone>(self, stages: &[usize], block: A) -> DenseNetConfig<A> {
        self.with_after(Vec::new()).and_after(stages, block)
    }
}

impl<A> DenseNetConfig<A> {
    /// Removes the blocks after all stages.
    #[must_use]
    pub fn without_after(self) -> DenseNetConfig {
        self.with_after(Vec::new())
    }

    fn with_after<B>(self, after: Vec<AfterStage<B>>) -> DenseNetConfig<B> {
        DenseNetConfig {
            blocks: self.blocks,
            stem: self.stem,
            stem_channels: self.stem_channels,
            growth: self.growth,
            bottleneck: self.bottleneck,
            compression: self.compression,
            dropout: self.dropout,
            after,
        }
    }

    /// Sets the number of channels of the stem.
    #[must_use]
    pub fn with_stem_channels(mut self, channels: usize) -> Self {
        self.stem_channels = channels;
        self
    }

    /// Sets the rate of the dropout in training.
    #[must_use]
    pub fn with_dropout(mut self, dropout: f64) -> Self {
        self.dropout = dropout;
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

    /// The layers of a dense block, which counts from 0.
    pub(super) fn layers(&self, block: usize) -> Vec<DenseLayerConfig> {
        let layer = DenseLayerConfig {
            growth: self.growth,
            bottleneck: self.bottleneck,
            dropout: self.dropout,
        };
        vec![layer; self.blocks[block]]
    }

    /// The block after a stage, which counts from 0.
    pub(super) fn after_stage(&self, stage: usize) -> Option<&A> {
        after_stage::find(&self.after, stage).map(|(_, block)| block)
    }

    /// The stage of the last dense block, which counts from 0.
    pub(super) const fn last_stage(&self) -> usize {
        if self.blocks[3] > 0 { 3 } else { 2 }
    }

    /// Whether a transition follows a dense block, which counts from 0: all but the last have one.
    pub(super) fn has_transition(&self, block: usize) -> bool {
        self.blocks.get(block + 1).is_some_and(|&layers| layers > 0)
    }

    /// The number of channels after the transition from a block with this many.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a number of channels is one"
    )]
    pub(super) fn compressed(&self, channels: usize) -> usize {
        (self.compression * channels as f64) as usize
    }

    /// The shape after a stage without the block after it: a dense block and its transition.
    pub(super) fn stage_output(&self, stage: usize, input: FeatureShape) -> FeatureShape {
        let dense = self.layers(stage).output(input);
        if self.has_transition(stage) {
            let channels = self.compressed(dense.channels);
            dense.strided(2, 2, 0).with_channels(channels)
        } else {
            dense
        }
    }

    /// The shape after the stem.
    pub(super) fn stem_output(&self, image: FeatureShape) -> FeatureShape {
        self.stem.output(image).with_channels(self.stem_channels)
    }
}

impl<A: BlockConfig> DenseNetConfig<A> {
    /// The shapes of the feature maps after the stem and after each of the four stages. A stage is a dense
    /// block and the transition after it; the block after a stage, if there is one, belongs to the stage.
    ///
    /// # Panics
    /// If the images are too small for the network.
    #[must_use]
    pub fn shapes(&self, image: FeatureShape) -> [FeatureShape; 5] {
        let mut shapes = [self.stem_output(image); 5];
        for stage in 0..4 {
            let shape = self.stage_output(stage, shapes[stage]);
            let after = self.after_stage(stage);
            shapes[stage + 1] = after.map_or(shape, |after| after.output(shape));
        }
        shapes
    }

    /// Adds a problem for each hyper-parameter that is out of range; returns whether there was none.
    pub(super) fn validate_ranges(&self, problems: &mut Problems) -> bool {
        let before = problems.len();
        for (block, &layers) in self.blocks.iter().enumerate() {
            let least = usize::from(block < 3);
            problems.count(&format!("blocks[{block}]"), layers, least..=MAX_LAYERS);
        }
        problems.count("stem_channels", self.stem_channels, 1..=MAX_CHANNELS);
        // A layer of few channels: its growth, bottleneck and dropout.
        let layer = DenseLayerConfig {
            growth: self.growth,
            bottleneck: self.bottleneck,
            dropout: self.dropout,
        };
        layer.validate(FeatureShape::new(1, 1, 1), problems);
        let shares = (Bound::Excluded(0.0), Bound::Included(1.0));
        problems.number("compression", self.compression, shares);
        after_stage::validate_stages(&self.after, problems);
        after_stage::validate_last(&self.after, self.blocks[3], problems);
        if problems.len() == before {
            self.validate_weights(problems);
        }
        problems.len() == before
    }

    /// Adds a problem if the network has too many weights, or a transition keeps no channel.
    fn validate_weights(&self, problems: &mut Problems) {
        let (mut channels, mut weights) = (self.stem_channels, 0.0);
        for block in 0..4 {
            for layer in self.layers(block) {
                weights += layer.weights(channels).unwrap_or(usize::MAX) as f64;
                channels += self.growth;
            }
            if self.has_transition(block) {
                let kept = self.compressed(channels);
                if kept == 0 {
                    let expected = format_args!("a share that keeps one of {channels} channels");
                    problems.require("compression", false, expected, self.compression);
                    return;
                }
                weights += channels as f64 * kept as f64;
                channels = kept;
            }
        }
        let expected = format_args!("at most {MAX_WEIGHTS} weights in all layers");
        let holds = weights <= MAX_WEIGHTS as f64;
        problems.require("growth", holds, expected, format_args!("{weights:.0}"));
    }

    /// Adds a problem if the images are too small, and the problems of the blocks after stages. The
    /// hyper-parameters must be in range.
    pub(super) fn validate_shapes(&self, image: FeatureShape, problems: &mut Problems) {
        let too_small = |problems: &mut Problems| {
            let expected = "images large enough for the 2 x 2 poolings after the stem";
            problems.require("stem", false, expected, format_args!("images of {image}"));
        };
        if !self.stem.fits(image) {
            return too_small(problems);
        }
        let mut shape = self.stem_output(image);
        for stage in 0..4 {
            if self.has_transition(stage) && shape.height.min(shape.width) < 2 {
                return too_small(problems);
            }
            shape = self.stage_output(stage, shape);
            match after_stage::validate_block(&self.after, stage, shape, problems) {
                Some(after) => shape = after,
                None => return, // later stages have no input shape
            }
        }
    }
}
