//! The head of FNC: two branches with late stages and an attention of their own (Liu et al., Vehicle
//! Re-Identification based on further non-local and channel attention, AI City 2020, §3.1).

use burn::{config::Config, module::Module, tensor::Tensor};
use reid_core::{FeatureShape, Problems, strict};
use serde::{Deserialize, Serialize};

use super::{
    BlockThenHead, BlockThenHeadConfig, Head, HeadConfig, OutputShape, ReducedBnNeck,
    ReducedBnNeckConfig, ReidOutput, TrainingStep,
};
use crate::{
    attention::{FncChannel, FncChannelConfig, FncSpatial, FncSpatialConfig},
    backbone::{LateStages, LateStagesConfig},
    block::{Block, BlockConfig, Identity},
    init::Init,
    parameters,
};

/// A branch: late stages of its own, if it has any, attention, and a neck.
pub type FncBranch<I, A> = BlockThenHead<(Option<LateStages<I>>, A), ReducedBnNeck>;

/// Configuration of a branch.
pub type FncBranchConfig<I, A> =
    BlockThenHeadConfig<(Option<LateStagesConfig<I>>, A), ReducedBnNeckConfig>;

/// Configuration of [`FncHead`], on early stages with `I` in its blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "I: Deserialize<'de>"))]
pub struct FncHeadConfig<I = ()> {
    /// The late stages, of which each branch has a copy; shared with the early stages if `None` ("not
    /// separate" in Table 5).
    #[serde(deserialize_with = "Option::deserialize")]
    pub late_stages: Option<LateStagesConfig<I>>,
    /// The branches.
    #[serde(deserialize_with = "strict")]
    pub branches: FncBranches,
}

/// The branches of [`FncHead`] behind the late stages.
#[derive(Config, Debug, PartialEq)]
pub struct FncBranches {
    /// The attention of the spatial branch.
    #[config(default = "FncSpatialConfig::new()")]
    pub spatial: FncSpatialConfig,
    /// Its neck: 1024 dimensions by default. The paper says "1024 or 512", together 1536.
    #[config(default = "ReducedBnNeckConfig::new().with_dimensions(1024)")]
    pub spatial_neck: ReducedBnNeckConfig,
    /// The attention of the channel branch.
    #[config(default = "FncChannelConfig::new()")]
    pub channel: FncChannelConfig,
    /// Its neck: 512 dimensions by default.
    #[config(default = "ReducedBnNeckConfig::new()")]
    pub channel_neck: ReducedBnNeckConfig,
}

/// Two branches with late stages and an attention of their own.
///
/// ```text
/// f_S, g_S, y_S = neck_S(SAB(tail_S(x)))        1024 dimensions
/// f_C, g_C, y_C = neck_C(CAB(tail_C(x)))        512 dimensions
/// g = [g_S, g_C]                                the descriptor    [batch, 1536]
/// ```
///
/// The late stages of both start as copies of the same ones, and are trained apart from there.
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
#[derive(Module, Debug)]
pub struct FncHead<I = Identity> {
    /// The branch with spatial attention.
    pub spatial: FncBranch<I, FncSpatial>,
    /// The branch with channel attention.
    pub channel: FncBranch<I, FncChannel>,
}

impl FncBranches {
    /// Adds what is wrong with the numbers on the last map of a network, each with its path from here.
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
    fn spatial(&self) -> FncBranchConfig<I, FncSpatialConfig> {
        let FncBranches {
            spatial,
            spatial_neck,
            ..
        } = self.branches.clone();
        BlockThenHeadConfig {
            block: (self.late_stages.clone(), spatial),
            head: spatial_neck,
        }
    }

    fn channel(&self) -> FncBranchConfig<I, FncChannelConfig> {
        let FncBranches {
            channel,
            channel_neck,
            ..
        } = self.branches.clone();
        BlockThenHeadConfig {
            block: (self.late_stages.clone(), channel),
            head: channel_neck,
        }
    }
}

impl<I: BlockConfig + Clone> HeadConfig for FncHeadConfig<I> {
    type Head = FncHead<I::Block>;

    fn init(&self, input: FeatureShape, classes: usize, init: &Init<'_>) -> Self::Head {
        let mut head = FncHead {
            spatial: self.spatial().init(input, classes, &init.named("spatial")),
            channel: self.channel().init(input, classes, &init.named("channel")),
        };
        if let Some(late_stages) = head.spatial.block.0.take() {
            head.set_late_stages(&late_stages);
        }
        head
    }

    fn output(&self, input: FeatureShape, classes: usize) -> OutputShape {
        let spatial = self.spatial().output(input, classes);
        spatial.concat(self.channel().output(input, classes))
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

impl<I: Block> FncHead<I> {
    /// Gives both branches a copy of these late stages, to be trained apart.
    ///
    /// For pretrained weights: load them into a whole network, [split](crate::backbone::ResNet::split)
    /// it, and give the branches its `late_stages`.
    pub fn set_late_stages(&mut self, late_stages: &LateStages<I>) {
        for own in [&mut self.spatial.block.0, &mut self.channel.block.0] {
            *own = Some(parameters::copy(late_stages));
        }
    }
}

impl<I: Block> Head for FncHead<I> {
    fn forward(&self, features: Tensor<4>) -> ReidOutput {
        let spatial = self.spatial.forward(features.clone());
        spatial.concat(self.channel.forward(features))
    }

    fn forward_train(&self, features: Tensor<4>, step: TrainingStep<'_>) -> ReidOutput {
        let spatial = self.spatial.forward_train(features.clone(), step.at(0));
        spatial.concat(self.channel.forward_train(features, step.at(1)))
    }

    fn fold_batch_norm(self) -> Self {
        Self {
            spatial: self.spatial.fold_batch_norm(),
            channel: self.channel.fold_batch_norm(),
        }
    }
}
