//! Splits a network into early stages, which branches share, and late stages, of which each branch has a copy
//! (Wang et al., ACM MM 2018, arXiv:1804.01438; Liu et al., AI City 2020).

use burn::{module::Module, tensor::Tensor};
use reid_core::{FeatureShape, Problems};
use serde::{Deserialize, Serialize};

use super::{ResNet, ResNetConfig, ResidualBlock, after_stage};
use crate::{
    block::{Block, BlockConfig, Identity},
    init::Init,
    stage_paths::StagePaths,
};

/// The network that is split, in messages.
const RESNET: &str = "a ResNet";

/// The block of a stage before which a ResNet or an OSNet is split.
///
/// In an OSNet, the transition to a stage belongs to its block 0, and stage 4 is a single block.
///
/// ```
/// use reid_nn::backbone::SplitPoint;
///
/// // Stages 1 and 2 and the first block of stage 3 are shared, as in MGN.
/// let split = SplitPoint { stage: 3, block: 1 };
/// assert_eq!(split.to_string(), "before block 1 of stage 3");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitPoint {
    /// The stage, from 1 to 4.
    pub stage: usize,
    /// The index of the block in the stage, from 0.
    pub block: usize,
}

impl SplitPoint {
    /// Adds a problem if a network with `blocks` blocks per stage has no such block.
    pub fn validate(self, blocks: [usize; 4], problems: &mut Problems) {
        problems.count("stage", self.stage, 1..=4);
        if let Some(most) = self
            .stage
            .checked_sub(1)
            .and_then(|stage| blocks.get(stage))
        {
            let expected =
                format_args!("below {most}, the number of blocks in stage {}", self.stage);
            problems.require("block", self.block < *most, expected, self.block);
        }
    }

    /// The paths of late stages, which are `stages` and `after` in a list of their own.
    pub(super) fn stage_paths(self) -> StagePaths {
        let stages = (self.stage..=4).enumerate();
        let stages = stages.map(|(index, stage)| (format!("stages.{index}"), stage));
        StagePaths::new(stages).and(after_stage::stage_paths(self.stage))
    }

    /// Checks that a network, such as `a ResNet`, has a block at the split point.
    ///
    /// # Panics
    /// If a network with `blocks` blocks per stage has no such block.
    pub(super) fn check(self, network: &str, blocks: [usize; 4]) {
        let exists = (1..=4).contains(&self.stage) && self.block < blocks[self.stage - 1];
        assert!(
            exists,
            "{network} with {blocks:?} blocks per stage cannot be split {self}; \
             stages count from 1, blocks from 0"
        );
    }
}

impl std::fmt::Display for SplitPoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "before block {} of stage {}", self.block, self.stage)
    }
}

/// Configuration of the part of a [`ResNet`] before a split point: a [`ResNet`] with fewer blocks.
/// [`MgnHead`](crate::head::MgnHead) has an example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStagesConfig<I = (), A = ()> {
    /// The whole network.
    pub network: ResNetConfig<I, A>,
    /// The split point; `None` for the whole network.
    #[serde(deserialize_with = "Option::deserialize")]
    pub split: Option<SplitPoint>,
}

/// Configuration of the part of a [`ResNet`] after a split point: a [`LateStages`].
/// [`MgnHead`](crate::head::MgnHead) has an example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LateStagesConfig<I = (), A = ()> {
    /// The whole network.
    pub network: ResNetConfig<I, A>,
    /// The split point.
    pub split: SplitPoint,
}

/// The part of a [`ResNet`] after a split point.
///
/// ```text
/// x_s = after_s(layer_s(x_{s-1}))        s = stage of the split point … 4
/// ```
///
/// The first of these stages has only the blocks from the split point on.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{InputSize, Seed};
/// use reid_nn::{Block, BlockConfig, Init, backbone::{SplitPoint, ResNetConfig}};
///
/// let (device, image) = (Device::default(), InputSize::new(32, 16).rgb());
/// let init = Init::new(Seed::new(1), &device);
/// let network = ResNetConfig::resnet18().with_width(8).init(image, &init);
/// let images = Tensor::ones([1, 3, 32, 16], &device);
/// let whole = network.forward(images.clone());
///
/// let (early_stages, late_stages) = network.split(SplitPoint { stage: 3, block: 1 });
/// assert_eq!(late_stages.forward(early_stages.forward(images)).to_data(), whole.to_data());
/// ```
#[derive(Module, Debug)]
pub struct LateStages<I = Identity, A = Identity> {
    /// The blocks of the remaining stages.
    pub stages: Vec<Vec<ResidualBlock<I>>>,
    /// The blocks after these stages, if there are any.
    pub after: Vec<Option<A>>,
}

impl<I: Block, A: Block> Block for LateStages<I, A> {
    fn forward(&self, features: Tensor<4>) -> Tensor<4> {
        let stages = self.stages.iter().zip(&self.after);
        stages.fold(features, |features, (stage, after)| {
            after.forward(stage.forward(features))
        })
    }

    fn fold_batch_norm(self) -> Self {
        Self {
            stages: self.stages.fold_batch_norm(),
            after: self.after.into_iter().map(Block::fold_batch_norm).collect(),
        }
    }
}

impl<I: Block, A: Block> ResNet<I, A> {
    /// Splits the network into the parts before and after a split point.
    ///
    /// # Panics
    /// If the network has no block at the split point.
    #[must_use]
    pub fn split(mut self, split: SplitPoint) -> (Self, LateStages<I, A>) {
        let layers = [
            &mut self.layer1,
            &mut self.layer2,
            &mut self.layer3,
            &mut self.layer4,
        ];
        let blocks = layers.each_ref().map(|layer| layer.len());
        split.check(RESNET, blocks);
        let late = layers.into_iter().enumerate().skip(split.stage - 1);
        let stages = late.map(|(stage, layer)| {
            let kept = if stage == split.stage - 1 {
                split.block
            } else {
                0
            };
            layer.split_off(kept)
        });
        let late_stages = LateStages {
            stages: stages.collect(),
            after: self.after.split_off(split.stage - 1),
        };
        self.after.resize_with(4, || None);
        (self, late_stages)
    }
}

impl<I: BlockConfig + Clone, A: BlockConfig> BlockConfig for EarlyStagesConfig<I, A> {
    type Block = ResNet<I::Block, A::Block>;

    fn init(&self, input: FeatureShape, init: &Init<'_>) -> Self::Block {
        let network = self.network.init(input, init);
        match self.split {
            Some(split) => network.split(split).0,
            None => network,
        }
    }

    fn output(&self, input: FeatureShape) -> FeatureShape {
        let Some(split) = self.split else {
            return self.network.output(input);
        };
        split.check(RESNET, self.network.blocks);
        let stage = split.stage - 1;
        let mut blocks = self.network.stage(stage);
        blocks.truncate(split.block);
        blocks.output(self.network.shapes(input)[stage])
    }

    fn fits_one_size(&self) -> bool {
        self.network.fits_one_size()
    }

    fn stage_paths(&self) -> StagePaths {
        self.network.stage_paths()
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        problems.at("network", |problems| self.network.validate(input, problems));
        if let Some(split) = self.split {
            problems.at("split", |problems| {
                split.validate(self.network.blocks, problems);
            });
        }
    }
}

impl<I: BlockConfig + Clone, A: BlockConfig> LateStagesConfig<I, A> {
    /// The residual blocks of each stage after the split point, and the block after the stage.
    fn stages(&self) -> impl Iterator<Item = (Vec<super::ResidualBlockConfig<I>>, Option<&A>)> {
        self.split.check(RESNET, self.network.blocks);
        let first = self.split.stage - 1;
        (first..4).map(move |stage| {
            let mut blocks = self.network.stage(stage);
            if stage == first {
                blocks.drain(..self.split.block);
            }
            (blocks, self.network.after_stage(stage))
        })
    }
}

impl<I: BlockConfig + Clone, A: BlockConfig> BlockConfig for LateStagesConfig<I, A> {
    type Block = LateStages<I::Block, A::Block>;

    fn init(&self, mut input: FeatureShape, init: &Init<'_>) -> Self::Block {
        let (mut stages, mut sockets) = (Vec::new(), Vec::new());
        for (index, (blocks, after)) in self.stages().enumerate() {
            let init = init.at(index);
            stages.push(blocks.init(input, &init.named("layer")));
            input = blocks.output(input);
            sockets.push(after.map(|after| after.init(input, &init.named("after"))));
            input = after.map_or(input, |after| after.output(input));
        }
        LateStages {
            stages,
            after: sockets,
        }
    }

    fn output(&self, input: FeatureShape) -> FeatureShape {
        self.stages().fold(input, |input, (blocks, after)| {
            let input = blocks.output(input);
            after.map_or(input, |after| after.output(input))
        })
    }

    fn fits_one_size(&self) -> bool {
        self.network.fits_one_size()
    }

    fn stage_paths(&self) -> StagePaths {
        self.split.stage_paths()
    }

    fn validate(&self, _input: FeatureShape, problems: &mut Problems) {
        problems.at("network", |problems| {
            self.network.validate_ranges(problems);
        });
        problems.at("split", |problems| {
            self.split.validate(self.network.blocks, problems);
        });
    }
}

#[cfg(test)]
mod tests {
    use reid_core::InputSize;

    use burn::tensor::Device;

    use super::*;
    use crate::{attention::SqueezeExcitationConfig, parameters};

    /// For every split point, both parts have the announced shapes and together all parameters.
    #[test]
    fn both_parts_have_the_announced_shapes_and_all_parameters() {
        let device = Device::default();
        let image = InputSize::new(64, 32).rgb();
        let network = ResNetConfig::resnet50()
            .with_width(4)
            .after(&[2, 4], SqueezeExcitationConfig::new());
        let whole = parameters::count(&network.init(image, &crate::fixtures::init(&device)));
        for (stage, block) in [(1, 0), (2, 3), (3, 0), (3, 1), (4, 0), (4, 1)] {
            let split = SplitPoint { stage, block };
            let early_stages = EarlyStagesConfig {
                network: network.clone(),
                split: Some(split),
            };
            let late_stages = LateStagesConfig {
                network: network.clone(),
                split,
            };
            let between = early_stages.output(image);
            assert_eq!(
                late_stages.output(between),
                network.output(image),
                "{split}"
            );
            let (early_stages, late_stages) = (
                early_stages.init(image, &crate::fixtures::init(&device)),
                late_stages.init(between, &crate::fixtures::init(&device)),
            );
            let together = parameters::count(&early_stages) + parameters::count(&late_stages);
            assert_eq!(together, whole, "{split}");
            let features = early_stages.forward(Tensor::ones([1, 3, 64, 32], &device));
            let [_, channels, height, width] = features.dims();
            assert_eq!(
                FeatureShape::new(channels, height, width),
                between,
                "{split}"
            );
            let [_, channels, height, width] = late_stages.forward(features).dims();
            let found = FeatureShape::new(channels, height, width);
            assert_eq!(found, network.output(image), "{split}");
        }
    }

    #[test]
    #[should_panic(
        expected = "[2, 2, 2, 2] blocks per stage cannot be split before block 2 of stage 3"
    )]
    fn a_split_before_a_missing_block_panics() {
        let config = ResNetConfig::resnet18().with_width(4);
        let network = config.init(
            InputSize::new(32, 16).rgb(),
            &crate::fixtures::init(&Device::default()),
        );
        let _ = network.split(SplitPoint { stage: 3, block: 2 });
    }
}
