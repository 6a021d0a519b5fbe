//! The head of FNC: two branches, each with its own late stages and attention (Liu et al., Vehicle
//! Re-Identification based on further non-local and channel attention, AI City 2020, §3.1).

use burn::config::Config;
use reid_core::{FeatureShape, Problems, strict};
use serde::{Deserialize, Serialize};

use super::{
    BlockThenHead, BlockThenHeadConfig, BranchedHead, BranchesConfig, HeadConfig, OutputShape,
    ReducedBnNeck, ReducedBnNeckConfig,
};
use crate::{
    attention::{FncChannel, FncChannelConfig, FncSpatial, FncSpatialConfig},
    backbone::{LateStages, LateStagesConfig},
    block::{Block, BlockConfig, Identity},
    init::Init,
    parameters,
    stage_paths::StagePaths,
};

/// A branch of FNC: its own late stages, unless the backbone has them, then attention and a neck.
pub type FncBranch<I, A> = BlockThenHead<(Option<LateStages<I>>, A), ReducedBnNeck>;

/// Configuration of a [branch of FNC](FncBranch).
pub type FncBranchConfig<I, A> =
    BlockThenHeadConfig<(Option<LateStagesConfig<I>>, A), ReducedBnNeckConfig>;

/// Configuration of [`FncHead`], which has an example. `I` configures the block inside each residual block of the
/// late stages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "I: Deserialize<'de>"))]
pub struct FncHeadConfig<I = ()> {
    /// The late stages, of which each branch gets a copy; `None` if the backbone has them ("not separate" in
    /// Table 5).
    #[serde(deserialize_with = "Option::deserialize")]
    pub late_stages: Option<LateStagesConfig<I>>,
    /// The branches.
    #[serde(deserialize_with = "strict")]
    pub branches: FncBranches,
}

/// The attention and the neck of each branch of [`FncHead`], which has an example, after the late stages.
#[derive(Config, Debug, PartialEq)]
pub struct FncBranches {
    /// The attention of the spatial branch.
    #[config(default = "FncSpatialConfig::new()")]
    pub spatial: FncSpatialConfig,
    /// The neck of the spatial branch: 1024 dimensions by default. The paper says "1024 or 512", together
    /// 1536.
    #[config(default = "ReducedBnNeckConfig::new().with_dimensions(1024)")]
    pub spatial_neck: ReducedBnNeckConfig,
    /// The attention of the channel branch.
    #[config(default = "FncChannelConfig::new()")]
    pub channel: FncChannelConfig,
    /// The neck of the channel branch: 512 dimensions by default.
    #[config(default = "ReducedBnNeckConfig::new()")]
    pub channel_neck: ReducedBnNeckConfig,
}

/// A [`BranchedHead`] of two branches, each with its own late stages and attention.
///
/// ```text
/// f_S, g_S, y_S = neck_S(SAB(late_S(x)))        1024 dimensions
/// f_C, g_C, y_C = neck_C(CAB(late_C(x)))        512 dimensions
/// g = [g_S, g_C]                                the embedding    [batch, 1536]
/// ```
///
/// The late stages of both branches start as copies of the same weights and are trained separately.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{Head, HeadConfig, Init, head::{FncBranches, FncHeadConfig, ReducedBnNeckConfig}};
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let branches = FncBranches::new()
///     .with_spatial_neck(ReducedBnNeckConfig::new().with_dimensions(8))
///     .with_channel_neck(ReducedBnNeckConfig::new().with_dimensions(4));
/// let config: FncHeadConfig = FncHeadConfig { late_stages: None, branches };
/// let head = config.init(FeatureShape::new(16, 4, 2), 10, &init);
/// let output = head.forward(Tensor::ones([2, 16, 4, 2], &device));
/// assert_eq!(output.embedding.dims(), [2, 12]);
/// assert_eq!((output.features.len(), output.logits.len()), (2, 2));
/// ```
pub type FncHead<I = Identity> = BranchedHead<(FncBranch<I, FncSpatial>, FncBranch<I, FncChannel>)>;

impl FncBranches {
    /// Adds the problems of this configuration on the last feature map of a network, each with its path from
    /// here.
    pub fn validate(&self, map: FeatureShape, problems: &mut Problems) {
        problems.at("spatial", |problems| self.spatial.validate(map, problems));
        problems.at("spatial_neck", |problems| {
            self.spatial_neck.validate(map, problems);
        });
        problems.at("channel", |problems| self.channel.validate(map, problems));
        problems.at("channel_neck", |problems| {
            self.channel_neck.validate(map, problems);
        });
    }
}

impl<I: Clone> FncHeadConfig<I> {
    /// Returns the same head as a composition of branches, in which blocks, heads and augmentations can be
    /// replaced.
    ///
    /// `init` of a composition draws the late stages of each branch separately. `set_late_stages` of the head
    /// that it builds makes them copies.
    #[must_use]
    pub fn composition(
        &self,
    ) -> BranchesConfig<(
        FncBranchConfig<I, FncSpatialConfig>,
        FncBranchConfig<I, FncChannelConfig>,
    )> {
        let FncBranches {
            spatial,
            spatial_neck,
            channel,
            channel_neck,
        } = self.branches.clone();
        BranchesConfig::new((
            BlockThenHeadConfig {
                block: (self.late_stages.clone(), spatial),
                head: spatial_neck,
            },
            BlockThenHeadConfig {
                block: (self.late_stages.clone(), channel),
                head: channel_neck,
            },
        ))
    }
}

impl<I: BlockConfig + Clone> HeadConfig for FncHeadConfig<I> {
    type Head = FncHead<I::Block>;

    fn init(&self, input: FeatureShape, classes: usize, init: &Init<'_>) -> Self::Head {
        let mut head = self.composition().init(input, classes, init);
        if let Some(late_stages) = head.branches.0.block.0.take() {
            head.set_late_stages(&late_stages);
        }
        head
    }

    fn output(&self, input: FeatureShape, classes: usize) -> OutputShape {
        self.composition().output(input, classes)
    }

    fn stage_paths(&self) -> StagePaths {
        self.composition().stage_paths()
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        let mut map = input;
        if let Some(late_stages) = &self.late_stages {
            if !problems.at("late_stages", |problems| {
                late_stages.validate(input, problems);
            }) {
                return;
            }
            map = late_stages.output(input);
        }
        problems.at("branches", |problems| self.branches.validate(map, problems));
    }
}

impl<I: Block, A: Block, B: Block> BranchedHead<(FncBranch<I, A>, FncBranch<I, B>)> {
    /// Gives each branch a copy of these late stages, which is trained separately.
    ///
    /// To use pretrained weights, load them into a whole network, [split](crate::backbone::ResNet::split) it,
    /// and pass its `late_stages`.
    pub fn set_late_stages(&mut self, late_stages: &LateStages<I>) {
        let (spatial, channel) = &mut self.branches;
        for own in [&mut spatial.block.0, &mut channel.block.0] {
            *own = Some(parameters::copy(late_stages));
        }
    }
}
