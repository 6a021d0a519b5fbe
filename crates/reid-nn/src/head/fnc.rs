//! The head of FNC: two branches with late stages and an attention of their own (Liu et al., Vehicle
//! Re-Identification based on further non-local and channel attention, AI City 2020, §3.1).

use burn::{
    config::Config,
    module::Module,
    tensor::{Device, Tensor},
};
use reid_core::{FeatureShape, Problems, strict};
use serde::{Deserialize, Serialize};

use super::{
    Behind, BehindConfig, Head, HeadConfig, OutputShape, ReducedNeck, ReducedNeckConfig,
    ReidOutput, TrainingStep,
};
use crate::{
    attention::{FncChannel, FncChannelConfig, FncSpatial, FncSpatialConfig},
    backbone::{Tail, TailConfig},
    block::{Block, BlockConfig, Nothing},
    parameters,
};

/// A branch: late stages of its own, if it has any, attention, and a neck.
pub type FncBranch<I, A> = Behind<(Option<Tail<I>>, A), ReducedNeck>;

/// Configuration of a branch.
pub type FncBranchConfig<I, A> = BehindConfig<(Option<TailConfig<I>>, A), ReducedNeckConfig>;

/// Configuration of [`FncHead`], on a trunk with `I` in its blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "I: Deserialize<'de>"))]
pub struct FncHeadConfig<I = ()> {
    /// The late stages, of which each branch has a copy; shared with the trunk if `None` ("not
    /// separate" in Table 5).
    #[serde(deserialize_with = "Option::deserialize")]
    pub tail: Option<TailConfig<I>>,
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
    #[config(default = "ReducedNeckConfig::new().with_dimensions(1024)")]
    pub spatial_neck: ReducedNeckConfig,
    /// The attention of the channel branch.
    #[config(default = "FncChannelConfig::new()")]
    pub channel: FncChannelConfig,
    /// Its neck: 512 dimensions by default.
    #[config(default = "ReducedNeckConfig::new()")]
    pub channel_neck: ReducedNeckConfig,
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
/// use reid_core::FeatureShape;
/// use reid_nn::{Head, HeadConfig, head::{FncBranches, FncHeadConfig, ReducedNeckConfig}};
///
/// let device = Device::default();
/// let branches = FncBranches::new()
///     .with_spatial_neck(ReducedNeckConfig::new().with_dimensions(8))
///     .with_channel_neck(ReducedNeckConfig::new().with_dimensions(4));
/// let config: FncHeadConfig = FncHeadConfig { tail: None, branches };
/// let head = config.init(FeatureShape::new(16, 4, 2), 10, &device);
/// let output = head.forward(Tensor::ones([2, 16, 4, 2], &device));
/// assert_eq!(output.embedding.dims(), [2, 12]);
/// assert_eq!((output.features.len(), output.logits.len()), (2, 2));
/// ```
#[derive(Module, Debug)]
pub struct FncHead<I = Nothing> {
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
        BehindConfig {
            block: (self.tail.clone(), spatial),
            head: spatial_neck,
        }
    }

    fn channel(&self) -> FncBranchConfig<I, FncChannelConfig> {
        let FncBranches {
            channel,
            channel_neck,
            ..
        } = self.branches.clone();
        BehindConfig {
            block: (self.tail.clone(), channel),
            head: channel_neck,
        }
    }
}

impl<I: BlockConfig + Clone> HeadConfig for FncHeadConfig<I> {
    type Head = FncHead<I::Block>;

    fn init(&self, input: FeatureShape, classes: usize, device: &Device) -> Self::Head {
        let mut head = FncHead {
            spatial: self.spatial().init(input, classes, device),
            channel: self.channel().init(input, classes, device),
        };
        if let Some(tail) = head.spatial.block.0.take() {
            head.set_tails(&tail);
        }
        head
    }

    fn output(&self, input: FeatureShape, classes: usize) -> OutputShape {
        let spatial = self.spatial().output(input, classes);
        spatial.beside(self.channel().output(input, classes))
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        let mut map = input;
        if let Some(tail) = &self.tail {
            if !problems.at("tail", |problems| tail.validate(input, problems)) {
                return;
            }
            map = tail.output(input);
        }
        problems.at("branches", |problems| self.branches.validate(map, problems));
    }
}

impl<I: Block> FncHead<I> {
    /// Gives both branches a copy of these late stages, to be trained apart.
    ///
    /// For pretrained weights: load them into a whole network, [split](crate::backbone::ResNet::split)
    /// it, and give the branches its tail.
    pub fn set_tails(&mut self, tail: &Tail<I>) {
        for own in [&mut self.spatial.block.0, &mut self.channel.block.0] {
            *own = Some(parameters::copy(tail));
        }
    }
}

impl<I: Block> Head for FncHead<I> {
    fn forward(&self, features: Tensor<4>) -> ReidOutput {
        let spatial = self.spatial.forward(features.clone());
        spatial.beside(self.channel.forward(features))
    }

    fn forward_train(&self, features: Tensor<4>, step: TrainingStep<'_>) -> ReidOutput {
        let spatial = self.spatial.forward_train(features.clone(), step.at(0));
        spatial.beside(self.channel.forward_train(features, step.at(1)))
    }

    fn fused(self) -> Self {
        Self {
            spatial: self.spatial.fused(),
            channel: self.channel.fused(),
        }
    }
}
