//! Splits an `OSNet` into early stages, which branches share, and late stages, of which each branch has a
//! copy (Herzog et al., `LightMBN`, ICIP 2021, arXiv:2101.10774).

use std::ops::Range;

use burn::{module::Module, tensor::Tensor};
use reid_core::{FeatureShape, Problems};
use serde::{Deserialize, Serialize};

use super::{
    super::{ConvNorm, SplitPoint, after_stage},
    OsBlock, OsBlockConfig, OsNet, OsNetConfig, pointwise, transition,
};
use crate::{
    block::{Block, BlockConfig, Identity},
    init::Init,
    stage_paths::StagePaths,
};

/// The network that is split, in messages.
const OSNET: &str = "an OSNet";

/// Configuration of the part of an [`OsNet`] before a split point: an [`OsNet`] without its late stages.
/// [`LightMbnHead`](crate::head::LightMbnHead) has an example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "A: Deserialize<'de>"))]
pub struct OsNetEarlyStagesConfig<A = ()> {
    /// The whole network.
    pub network: OsNetConfig<A>,
    /// The split point.
    pub split: SplitPoint,
}

/// Configuration of the part of an [`OsNet`] after a split point: an [`OsNetLateStages`].
/// [`LightMbnHead`](crate::head::LightMbnHead) has an example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "A: Deserialize<'de>"))]
pub struct OsNetLateStagesConfig<A = ()> {
    /// The whole network.
    pub network: OsNetConfig<A>,
    /// The split point.
    pub split: SplitPoint,
}

/// The part of an [`OsNet`] after a split point.
///
/// ```text
/// x_s = after_s(stage_s(x_{s-1}))        s = stage of the split point … 4
/// ```
///
/// The first of these stages has only the blocks from the split point on. Its transition is part of it only
/// if the network is split before block 0.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{InputSize, Seed};
/// use reid_nn::{Block, BlockConfig, Init, backbone::{OsNetConfig, SplitPoint}};
///
/// let (device, image) = (Device::default(), InputSize::new(32, 16).rgb());
/// let network = OsNetConfig::x0_25().init(image, &Init::new(Seed::new(1), &device));
/// let images = Tensor::ones([1, 3, 32, 16], &device);
/// let whole = network.forward(images.clone());
///
/// let (early_stages, late_stages) = network.split(SplitPoint { stage: 2, block: 1 });
/// assert_eq!(late_stages.forward(early_stages.forward(images)).to_data(), whole.to_data());
/// ```
#[derive(Module, Debug)]
pub struct OsNetLateStages<A = Identity> {
    /// The remaining stages.
    pub stages: Vec<OsNetStage>,
    /// The blocks after these stages, if there are any.
    pub after: Vec<Option<A>>,
}

/// A stage of an [`OsNet`], or the part of it after a split point.
///
/// ```text
/// x = relu(bn(last · blocks(transition(x))))        each part may be absent
/// ```
///
/// [`OsNet::split`] and [`OsNetLateStagesConfig`] build it.
#[derive(Module, Debug)]
pub struct OsNetStage {
    /// The transition before the blocks, which halves height and width; stages 2 and 3 have one.
    pub transition: Option<ConvNorm>,
    /// The blocks.
    pub blocks: Vec<OsBlock>,
    /// The 1 x 1 convolution of stage 4.
    pub last: Option<ConvNorm>,
}

impl Block for OsNetStage {
    fn forward(&self, features: Tensor<4>) -> Tensor<4> {
        let features = transition(self.transition.as_ref(), features);
        pointwise(self.last.as_ref(), self.blocks.forward(features))
    }

    fn fold_batch_norm(self) -> Self {
        Self {
            transition: self.transition.map(ConvNorm::folded),
            blocks: self.blocks.fold_batch_norm(),
            last: self.last.map(ConvNorm::folded),
        }
    }
}

impl<A: Block> Block for OsNetLateStages<A> {
    fn forward(&self, features: Tensor<4>) -> Tensor<4> {
        let stages = self.stages.iter().zip(&self.after);
        stages.fold(features, |features, (stage, after)| {
            after.forward(stage.forward(features))
        })
    }

    fn fold_batch_norm(self) -> Self {
        Self {
            stages: self.stages.fold_batch_norm(),
            after: self.after.fold_batch_norm(),
        }
    }
}

impl<A: Block> OsNet<A> {
    /// Splits the network into the parts before and after a split point.
    ///
    /// # Panics
    /// If the network has no block at the split point.
    #[must_use]
    pub fn split(mut self, split: SplitPoint) -> (Self, OsNetLateStages<A>) {
        let blocks = [&self.conv2, &self.conv3, &self.conv4].map(Vec::len);
        let [one, two, three] = blocks;
        let last = usize::from(self.conv5.is_some());
        split.check(OSNET, [one, two, three, last]);
        let first = split.stage - 1;
        let kept = |stage| if stage == first { split.block } else { 0 };
        let stages = (first..4).map(|stage| self.split_stage(stage, kept(stage)));
        let late_stages = OsNetLateStages {
            stages: stages.collect(),
            after: self.after.split_off(first),
        };
        self.after.resize_with(4, || None);
        (self, late_stages)
    }

    /// Removes a stage, which counts from 0, except its first blocks. If it keeps some, it keeps its
    /// transition.
    fn split_stage(&mut self, stage: usize, kept: usize) -> OsNetStage {
        let mut none = (Vec::new(), None);
        let (blocks, transition) = match stage {
            0 => (&mut self.conv2, &mut none.1),
            1 => (&mut self.conv3, &mut self.pool2),
            2 => (&mut self.conv4, &mut self.pool3),
            _ => (&mut none.0, &mut none.1),
        };
        OsNetStage {
            transition: transition.take_if(|_| kept == 0),
            blocks: blocks.split_off(kept),
            last: self.conv5.take_if(|_| stage == 3),
        }
    }
}

/// Configuration of an [`OsNetStage`].
struct StageConfig {
    /// The number of channels of the transition, if there is one.
    transition: Option<usize>,
    blocks: Vec<OsBlockConfig>,
    /// The number of channels of the last convolution, if there is one.
    last: Option<usize>,
}

impl StageConfig {
    /// The given blocks of a stage, which counts from 0.
    fn new<A>(network: &OsNetConfig<A>, stage: usize, blocks: Range<usize>) -> Self {
        let (has_first, channels) = (blocks.contains(&0), &network.channels);
        Self {
            transition: (has_first && matches!(stage, 1 | 2)).then(|| channels[stage]),
            last: (has_first && stage == 3).then(|| channels[3]),
            blocks: if stage < 3 {
                network.stage(stage)[blocks].to_vec()
            } else {
                Vec::new()
            },
        }
    }

    /// The shape after the transition.
    fn pooled(&self, input: FeatureShape) -> FeatureShape {
        self.transition.map_or(input, |channels| {
            input.strided(2, 2, 0).with_channels(channels)
        })
    }
}

impl BlockConfig for StageConfig {
    type Block = OsNetStage;

    fn init(&self, input: FeatureShape, init: &Init<'_>) -> OsNetStage {
        let pointwise = |from: FeatureShape, to, name| {
            ConvNorm::pointwise(from.channels, to, &init.named(name))
        };
        let pooled = self.pooled(input);
        let last = self.blocks.output(pooled);
        OsNetStage {
            transition: self
                .transition
                .map(|channels| pointwise(input, channels, "transition")),
            blocks: self.blocks.init(pooled, &init.named("blocks")),
            last: self.last.map(|channels| pointwise(last, channels, "last")),
        }
    }

    fn output(&self, input: FeatureShape) -> FeatureShape {
        let output = self.blocks.output(self.pooled(input));
        self.last
            .map_or(output, |channels| output.with_channels(channels))
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        let holds = self.transition.is_none() || input.height.min(input.width) > 1;
        let expected = "feature maps of at least 2 x 2 before a 2 x 2 pooling";
        problems.require("", holds, expected, input);
    }
}

impl<A: BlockConfig> BlockConfig for OsNetEarlyStagesConfig<A> {
    type Block = OsNet<A::Block>;

    fn init(&self, input: FeatureShape, init: &Init<'_>) -> Self::Block {
        self.network.init(input, init).split(self.split).0
    }

    fn output(&self, input: FeatureShape) -> FeatureShape {
        let SplitPoint { stage, block } = self.split;
        self.split.check(OSNET, self.network.blocks_per_stage());
        let before = self.network.shapes(input)[stage - 1];
        StageConfig::new(&self.network, stage - 1, 0..block).output(before)
    }

    fn fits_one_size(&self) -> bool {
        self.network.fits_one_size()
    }

    fn stage_paths(&self) -> StagePaths {
        self.network.stage_paths()
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        problems.at("network", |problems| self.network.validate(input, problems));
        problems.at("split", |problems| {
            let blocks = self.network.blocks_per_stage();
            self.split.validate(blocks, problems);
        });
    }
}

impl<A> OsNetLateStagesConfig<A> {
    /// The index of each stage after the split point, and its configuration.
    fn stages(&self) -> impl Iterator<Item = (usize, StageConfig)> {
        let blocks = self.network.blocks_per_stage();
        self.split.check(OSNET, blocks);
        let first = self.split.stage - 1;
        (first..4).map(move |stage| {
            let start = if stage == first { self.split.block } else { 0 };
            let config = StageConfig::new(&self.network, stage, start..blocks[stage]);
            (stage, config)
        })
    }
}

impl<A: BlockConfig> OsNetLateStagesConfig<A> {
    /// Adds a problem if the feature maps are too small, and the problems of the blocks after stages.
    fn validate_shapes(&self, mut input: FeatureShape, problems: &mut Problems) {
        for (stage, config) in self.stages() {
            if !problems.at("", |problems| config.validate(input, problems)) {
                return;
            }
            let output = config.output(input);
            match after_stage::validate_block(&self.network.after, stage, output, problems) {
                Some(after) => input = after,
                None => return, // later stages have no input shape
            }
        }
    }
}

impl<A: BlockConfig> BlockConfig for OsNetLateStagesConfig<A> {
    type Block = OsNetLateStages<A::Block>;

    fn init(&self, mut input: FeatureShape, init: &Init<'_>) -> Self::Block {
        Problems::refuse("the late stages of an OSNet", |problems| {
            self.validate(input, problems);
        });
        let (mut stages, mut sockets) = (Vec::new(), Vec::new());
        for (index, (stage, config)) in self.stages().enumerate() {
            let init = init.at(index);
            stages.push(config.init(input, &init));
            input = config.output(input);
            let after = self.network.after_stage(stage);
            sockets.push(after.map(|after| after.init(input, &init.named("after"))));
            input = after.map_or(input, |after| after.output(input));
        }
        OsNetLateStages {
            stages,
            after: sockets,
        }
    }

    fn output(&self, input: FeatureShape) -> FeatureShape {
        self.stages().fold(input, |input, (stage, config)| {
            let output = config.output(input);
            let after = self.network.after_stage(stage);
            after.map_or(output, |after| after.output(output))
        })
    }

    fn fits_one_size(&self) -> bool {
        self.network.fits_one_size()
    }

    fn stage_paths(&self) -> StagePaths {
        self.split.stage_paths()
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        let in_range = problems.at("network", |problems| {
            self.network.validate_ranges(problems);
        });
        let blocks = self.network.blocks_per_stage();
        let exists = problems.at("split", |problems| self.split.validate(blocks, problems));
        if in_range && exists {
            problems.at("network", |problems| self.validate_shapes(input, problems));
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use reid_core::InputSize;

    use super::*;
    use crate::{attention::SqueezeExcitationConfig, fixtures, parameters};

    fn shape(features: &Tensor<4>) -> FeatureShape {
        let [_, channels, height, width] = features.dims();
        FeatureShape::new(channels, height, width)
    }

    /// For every split point, both parts have the announced shapes and together all parameters, and the parts
    /// of a whole network compute its output.
    #[test]
    fn both_parts_have_the_announced_shapes_and_all_parameters() {
        let device = Device::default();
        let image = InputSize::new(64, 32).rgb();
        let gate = SqueezeExcitationConfig::new();
        let network = OsNetConfig::x0_25()
            .with_channels([4, 8, 12, 16])
            .after(&[1, 2, 4], gate);
        let network_output = network.output(image);
        let whole = network.init(image, &fixtures::init(&device));
        let images: Tensor<4> = fixtures::tensor([1, 3, 64, 32], -1.0..1.0, &device);
        let expected = whole.forward(images.clone()).to_data();
        for (stage, block) in [(1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1), (4, 0)] {
            let split = SplitPoint { stage, block };
            let (early, late) = whole.clone().split(split);
            let features = early.forward(images.clone());
            assert_eq!(late.forward(features).to_data(), expected, "{split}");

            let network = network.clone();
            let early = OsNetEarlyStagesConfig { network, split };
            let OsNetEarlyStagesConfig { network, split } = early.clone();
            let late = OsNetLateStagesConfig { network, split };
            let between = early.output(image);
            let output = late.output(between);
            let early = early.init(image, &fixtures::init(&device));
            let late = late.init(between, &fixtures::init(&device));
            let features = early.forward(images.clone());
            assert_eq!(shape(&features), between, "{split}");
            let features = late.forward(features);
            assert_eq!(shape(&features), output, "{split}");
            assert_eq!(output, network_output, "{split}");
            let together = parameters::count(&early) + parameters::count(&late);
            assert_eq!(together, parameters::count(&whole), "{split}");
        }
    }

    #[test]
    #[should_panic(
        expected = "an OSNet with [2, 2, 2, 1] blocks per stage cannot be split before block 1 of stage 4"
    )]
    fn a_split_before_a_missing_block_panics() {
        let image = InputSize::new(32, 16).rgb();
        let network = OsNetConfig::x0_25().init(image, &fixtures::init(&Device::default()));
        let _ = network.split(SplitPoint { stage: 4, block: 1 });
    }

    #[test]
    fn problems_of_late_stages_have_their_path() {
        let report = |network: OsNetConfig, split, input| {
            let mut problems = Problems::new();
            OsNetLateStagesConfig { network, split }.validate(input, &mut problems);
            problems.to_string()
        };
        let (network, input) = (OsNetConfig::x0_25(), FeatureShape::new(96, 4, 1));
        let split = |stage, block| SplitPoint { stage, block };
        assert_eq!(
            report(network.clone(), split(2, 1), input),
            "network: expected feature maps of at least 2 x 2 before a 2 x 2 pooling, found 96x4x1"
        );
        assert_eq!(report(network.clone(), split(3, 1), input), "");
        assert_eq!(
            report(network, split(3, 2), input),
            "split.block: expected below 2, the number of blocks in stage 3, found 2"
        );
    }
}
