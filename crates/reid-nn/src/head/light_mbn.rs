//! The head of `LightMBN`: three branches with their own late stages (Herzog et al., Lightweight Multi-Branch
//! Network for Person Re-Identification, ICIP 2021, arXiv:2101.10774).

use burn::config::Config;
use reid_core::{FeatureShape, Problems, strict};
use serde::{Deserialize, Serialize};

use super::{
    AugmentConfig, BlockThenHead, BlockThenHeadConfig, BranchedHead, BranchesConfig,
    ChannelGroupsHead, ChannelGroupsHeadConfig, HeadConfig, LinearBnNeck, LinearBnNeckConfig,
    NeckFeature, OutputShape, StripeHead, StripesConfig, channel_groups::validate_groups,
    stripes::validate_stripes,
};
use crate::{
    backbone::{OsBlock, OsBlockConfig, OsInstanceNorm, OsNetLateStages, OsNetLateStagesConfig},
    block::{Block, BlockConfig, Identity},
    init::Init,
    parameters,
    pool::PoolConfig,
    stage_paths::StagePaths,
    top_drop::TopDrop,
};

/// Configuration of [`LightMbnHead`], which has an example. `A` configures the blocks after the late stages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "A: Deserialize<'de>"))]
pub struct LightMbnHeadConfig<A = ()> {
    /// The late stages, of which each branch gets a copy.
    pub late_stages: OsNetLateStagesConfig<A>,
    /// The heads of the branches.
    #[serde(deserialize_with = "strict")]
    pub branches: LightMbnBranches,
}

/// The heads of the branches of [`LightMbnHead`], which has an example, after the late stages.
#[derive(Config, Debug, PartialEq)]
pub struct LightMbnBranches {
    /// Dimensions of each of the parts of the embedding, from 1 to [`MAX_DIMENSIONS`](super::MAX_DIMENSIONS);
    /// 512 in the paper.
    #[config(default = 512)]
    pub dimensions: usize,
    /// The rows that are dropped in the global branch in training.
    #[config(default = "TopDrop::new()")]
    pub drop: TopDrop,
    /// The number of stripes of the part branch, a divisor of the height of the feature map or 0; 2 in the paper.
    #[config(default = 2)]
    pub stripes: usize,
    /// The number of groups of the channel branch, at least 1, which divides the channels of the feature map; 2 in
    /// the paper.
    #[config(default = 2)]
    pub groups: usize,
    /// The side of the necks from which the parts of the embedding are taken. By default after them, at
    /// length 1: the authors compare images by the mean of the cosine similarities of the parts.
    #[config(default = "NeckFeature::AfterUnit")]
    pub embedding: NeckFeature,
}

/// A [`BranchedHead`] of three branches, each with its own late stages of an `OSNet`.
///
/// ```text
/// T = block(late₁(x))                   an omni-scale block
/// g₁ = neck(mean_hw(T))                 the whole feature map
/// g₂ = neck(max_hw(drop(T)))            drop: its most active rows, in training only
/// P = late₂(x)
/// g₃ = neck(max_hw(P))                  the whole feature map
/// g₄, g₅ = neck(mean_hw(stripes of P))
/// g₆, g₇ = neck(shared(groups of mean_hw(late₃(x))))
/// g = [g₁, …, g₇]                       the embedding    [batch, 7·512]
/// ```
///
/// Metric losses see the features of g₁, g₂ and g₃, and identity losses see the logits of all seven. The late
/// stages of all branches start as copies of the same weights and are trained separately.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{InputSize, Seed};
/// use reid_nn::backbone::{OsNetConfig, OsNetEarlyStagesConfig, OsNetLateStagesConfig, SplitPoint};
/// use reid_nn::{Block, BlockConfig, Head, HeadConfig, Init, head::{LightMbnBranches, LightMbnHeadConfig}};
///
/// let (device, image) = (Device::default(), InputSize::new(64, 32).rgb());
/// let init = Init::new(Seed::new(1), &device);
/// let (network, split) = (OsNetConfig::x0_25(), SplitPoint { stage: 2, block: 1 });
/// let early_stages = OsNetEarlyStagesConfig { network: network.clone(), split };
/// let late_stages = OsNetLateStagesConfig { network, split };
/// let branches = LightMbnBranches::new().with_dimensions(4);
///
/// let head = LightMbnHeadConfig { late_stages, branches }.init(early_stages.output(image), 10, &init);
/// let map = early_stages.init(image, &init).forward(Tensor::ones([2, 3, 64, 32], &device));
/// let output = head.forward(map);
/// assert_eq!(output.embedding.dims(), [2, 7 * 4]);
/// assert_eq!((output.features.len(), output.logits.len()), (3, 7));
/// ```
pub type LightMbnHead<A = Identity> = BranchedHead<(
    BlockThenHead<(OsNetLateStages<A>, OsBlock), BranchedHead<Vec<LinearBnNeck>>>,
    BlockThenHead<OsNetLateStages<A>, StripeHead<LinearBnNeck>>,
    BlockThenHead<OsNetLateStages<A>, ChannelGroupsHead>,
)>;

/// The configurations of the branches of [`LightMbnHead`].
type LightMbnComposition<A> = (
    BlockThenHeadConfig<
        (OsNetLateStagesConfig<A>, OsBlockConfig),
        BranchesConfig<Vec<LinearBnNeckConfig>>,
    >,
    BlockThenHeadConfig<OsNetLateStagesConfig<A>, StripesConfig<LinearBnNeckConfig>>,
    BlockThenHeadConfig<OsNetLateStagesConfig<A>, ChannelGroupsHeadConfig>,
);

impl LightMbnBranches {
    fn neck(&self, pool: PoolConfig) -> LinearBnNeckConfig {
        LinearBnNeckConfig {
            dimensions: self.dimensions,
            pool,
            embedding: self.embedding,
        }
    }

    /// The two necks of the global branch; the rows are dropped before the second.
    fn global(&self) -> BranchesConfig<Vec<LinearBnNeckConfig>> {
        let necks = [PoolConfig::Average, PoolConfig::Max].map(|pool| self.neck(pool));
        let drop = AugmentConfig::DropTop(self.drop.clone());
        BranchesConfig::new(necks.to_vec()).with_augments(vec![AugmentConfig::None, drop])
    }

    fn part(&self) -> StripesConfig<LinearBnNeckConfig> {
        StripesConfig {
            stripes: self.stripes,
            whole: self.neck(PoolConfig::Max),
            stripe: self.neck(PoolConfig::Average),
        }
    }

    fn channel(&self) -> ChannelGroupsHeadConfig {
        ChannelGroupsHeadConfig {
            groups: self.groups,
            dimensions: self.dimensions,
            embedding: self.embedding,
        }
    }

    /// Adds the problems of this configuration on the last feature map of a network, each with its path from
    /// here.
    pub fn validate(&self, map: FeatureShape, problems: &mut Problems) {
        self.neck(PoolConfig::Average).validate(map, problems);
        problems.nested("drop", &self.drop);
        validate_stripes(self.stripes, map, problems);
        validate_groups(self.groups, map, problems);
    }
}

impl<A: Clone> LightMbnHeadConfig<A> {
    /// Returns the same head as a composition of branches, in which blocks, heads and augmentations can be
    /// replaced.
    ///
    /// `init` of a composition draws the late stages of each branch separately. `set_late_stages` of the head
    /// that it builds makes them copies.
    #[must_use]
    pub fn composition(&self) -> BranchesConfig<LightMbnComposition<A>> {
        let late_stages = &self.late_stages;
        let block = OsBlockConfig {
            channels: late_stages.network.channels[3],
            instance: OsInstanceNorm::None,
        };
        BranchesConfig::new((
            BlockThenHeadConfig {
                block: (late_stages.clone(), block),
                head: self.branches.global(),
            },
            BlockThenHeadConfig {
                block: late_stages.clone(),
                head: self.branches.part(),
            },
            BlockThenHeadConfig {
                block: late_stages.clone(),
                head: self.branches.channel(),
            },
        ))
    }
}

impl<A: BlockConfig + Clone> HeadConfig for LightMbnHeadConfig<A> {
    type Head = LightMbnHead<A::Block>;

    fn init(&self, input: FeatureShape, classes: usize, init: &Init<'_>) -> Self::Head {
        Problems::refuse("the head of LightMBN", |problems| {
            self.validate(input, problems);
        });
        let mut head = self.composition().init(input, classes, init);
        let late_stages = head.branches.1.block.clone();
        head.set_late_stages(&late_stages);
        head
    }

    fn output(&self, input: FeatureShape, classes: usize) -> OutputShape {
        self.composition().output(input, classes)
    }

    fn stage_paths(&self) -> StagePaths {
        self.composition().stage_paths()
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        if problems.at("late_stages", |problems| {
            self.late_stages.validate(input, problems);
        }) {
            let map = self.late_stages.output(input);
            problems.at("branches", |problems| self.branches.validate(map, problems));
        }
    }
}

impl<A: Block> LightMbnHead<A> {
    /// Gives each branch a copy of these late stages, which is trained separately.
    pub fn set_late_stages(&mut self, late_stages: &OsNetLateStages<A>) {
        let (global, part, channel) = &mut self.branches;
        for own in [&mut global.block.0, &mut part.block, &mut channel.block] {
            *own = parameters::copy(late_stages);
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};
    use reid_core::Seed;

    use super::*;
    use crate::{
        Head, ReidOutput, TrainingStep,
        backbone::{OsNetConfig, SplitPoint},
        fixtures,
    };

    const INPUT: FeatureShape = FeatureShape {
        channels: 12,
        height: 8,
        width: 4,
    };

    fn config() -> LightMbnHeadConfig {
        let network = OsNetConfig::x0_25().with_channels([4, 8, 12, 16]);
        let split = SplitPoint { stage: 2, block: 1 };
        LightMbnHeadConfig {
            late_stages: OsNetLateStagesConfig { network, split },
            branches: LightMbnBranches::new().with_dimensions(6),
        }
    }

    fn parts(output: &ReidOutput) -> Vec<Vec<f32>> {
        let logits = output.logits.iter();
        logits
            .map(|of| of.to_data().iter::<f32>().collect())
            .collect()
    }

    /// Only the second part depends on the rows that are dropped, and only in training.
    #[test]
    fn rows_are_dropped_in_training_for_one_part() {
        let device = Device::default();
        let head = fixtures::weights(config().init(INPUT, 3, &fixtures::init(&device)));
        let features: Tensor<4> = fixtures::tensor([2, 12, 8, 4], -1.0..2.0, &device);
        let step = |seed| TrainingStep::new(&[0, 1], Seed::new(seed));
        let evaluated = parts(&head.forward(features.clone()));
        let trained = parts(&head.forward_train(features.clone(), step(1)));
        assert_eq!(evaluated.len(), 7);
        for (part, (one, other)) in evaluated.iter().zip(&trained).enumerate() {
            assert_eq!(one != other, part == 1, "part {part}");
        }
        assert_eq!(
            parts(&head.forward_train(features.clone(), step(2))),
            trained
        );

        let mut config = config();
        config.branches.drop.height = 0.0;
        let head = fixtures::weights(config.init(INPUT, 3, &fixtures::init(&device)));
        assert_eq!(parts(&head.forward_train(features, step(1))), evaluated);
    }

    #[test]
    fn problems_have_their_path() {
        let mut config = config();
        config.branches = LightMbnBranches::new()
            .with_dimensions(0)
            .with_drop(TopDrop::new().with_height(2.0))
            .with_stripes(3)
            .with_groups(5);
        let mut problems = Problems::new();
        config.validate(INPUT, &mut problems);
        assert_eq!(
            problems.to_string(),
            "branches.dimensions: expected 1 to 65536, found 0\n\
            branches.drop.height: expected 0 to 1, found 2\n\
            branches.stripes: expected 0 or a divisor of the height of the feature map 16x4x2, found 3\n\
            branches.groups: expected a divisor of the 16 channels of the feature map, found 5"
        );
    }
}
