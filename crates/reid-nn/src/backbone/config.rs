//! Configuration of ResNet and ResNeXt (He et al., CVPR 2016, arXiv:1512.03385; Xie et al., CVPR 2017,
//! arXiv:1611.05431).

use reid_core::{FeatureShape, strict};
use serde::{Deserialize, Serialize};

use super::{Ibn, MaxPool, ResidualBlockConfig, ResidualKind, Stem};
use crate::block::BlockConfig;

/// Configuration of [`ResNet`](super::ResNet), with a block `I` inside every residual block and a block `A` after
/// chosen stages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    bound(deserialize = "I: Deserialize<'de>, A: Deserialize<'de>")
)]
pub struct ResNetConfig<I = (), A = ()> {
    /// Basic or bottleneck blocks.
    pub kind: ResidualKind,
    /// Residual blocks per stage, each at least 1.
    pub blocks: [usize; 4],
    /// Planes of the first stage, doubled in each further one; 64 in the paper.
    pub width: usize,
    /// Groups of the 3 x 3 convolutions; 32 in `ResNeXt` 32x4d.
    pub groups: usize,
    /// Hidden channels per group and 64 planes; 64 in `ResNet`, 4 in `ResNeXt` 32x4d.
    pub width_per_group: usize,
    /// Stride of the last stage, 1 or 2. Re-identification keeps the larger map of 1.
    pub last_stride: usize,
    /// What an image passes before the first stage.
    pub stem: Stem,
    /// Where each image is normalised by itself; nowhere by default.
    #[serde(default)]
    pub ibn: Ibn,
    /// What stands before the addition of every residual block.
    #[serde(deserialize_with = "strict")]
    pub inside: I,
    /// What stands after stages, at most one block for each.
    pub after: Vec<AfterStage<A>>,
}

/// A block after a stage of a [`ResNet`](super::ResNet).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "A: Deserialize<'de>"))]
pub struct AfterStage<A> {
    /// The stage, from 1 to 4 as in the field names of [`ResNet`](super::ResNet).
    pub stage: usize,
    /// The block.
    #[serde(deserialize_with = "strict")]
    pub block: A,
}

impl ResNetConfig {
    fn of(kind: ResidualKind, blocks: [usize; 4]) -> Self {
        Self {
            kind,
            blocks,
            width: 64,
            groups: 1,
            width_per_group: 64,
            last_stride: 2,
            stem: Stem::Large(MaxPool::Padded),
            ibn: Ibn::None,
            inside: (),
            after: Vec::new(),
        }
    }

    /// ResNet-18: basic blocks, 512 channels.
    #[must_use]
    pub fn resnet18() -> Self {
        Self::of(ResidualKind::Basic, [2, 2, 2, 2])
    }

    /// ResNet-34: basic blocks, 512 channels.
    #[must_use]
    pub fn resnet34() -> Self {
        Self::of(ResidualKind::Basic, [3, 4, 6, 3])
    }

    /// ResNet-50: bottlenecks, 2048 channels.
    #[must_use]
    pub fn resnet50() -> Self {
        Self::of(ResidualKind::Bottleneck, [3, 4, 6, 3])
    }

    /// ResNet-101: bottlenecks, 2048 channels.
    #[must_use]
    pub fn resnet101() -> Self {
        Self::of(ResidualKind::Bottleneck, [3, 4, 23, 3])
    }

    /// ResNet-152: bottlenecks, 2048 channels.
    #[must_use]
    pub fn resnet152() -> Self {
        Self::of(ResidualKind::Bottleneck, [3, 8, 36, 3])
    }

    /// ResNeXt-50 32x4d: grouped bottlenecks, 2048 channels.
    #[must_use]
    pub fn resnext50() -> Self {
        Self::resnet50().with_groups(32, 4)
    }

    /// ResNeXt-101 32x4d: grouped bottlenecks, 2048 channels.
    #[must_use]
    pub fn resnext101() -> Self {
        Self::resnet101().with_groups(32, 4)
    }
}

impl<I, A> ResNetConfig<I, A> {
    /// Another number of planes in the first stage.
    #[must_use]
    pub fn with_width(mut self, width: usize) -> Self {
        self.width = width;
        self
    }

    /// Grouped 3 x 3 convolutions: `groups`, with `width_per_group` channels each at 64 planes.
    #[must_use]
    pub fn with_groups(mut self, groups: usize, width_per_group: usize) -> Self {
        (self.groups, self.width_per_group) = (groups, width_per_group);
        self
    }

    /// Another stride of the last stage, in the convolution and in the shortcut.
    #[must_use]
    pub fn with_last_stride(mut self, last_stride: usize) -> Self {
        self.last_stride = last_stride;
        self
    }

    /// Another stem.
    #[must_use]
    pub fn with_stem(mut self, stem: Stem) -> Self {
        self.stem = stem;
        self
    }

    /// Images normalised by themselves at these places.
    #[must_use]
    pub fn with_ibn(mut self, ibn: Ibn) -> Self {
        self.ibn = ibn;
        self
    }

    /// A block before the addition of every residual block.
    #[must_use]
    pub fn inside<J>(self, inside: J) -> ResNetConfig<J, A> {
        self.with_sockets(|_, after| (inside, after))
    }

    /// The same block after each of these stages, from 1 to 4, beside what stands after others.
    ///
    /// ```
    /// use reid_nn::{attention::AttentionConfig, backbone::ResNetConfig};
    /// use reid_nn::attention::{FncSpatialConfig, RgaSpatialConfig};
    ///
    /// let rga = AttentionConfig::RgaSpatial(RgaSpatialConfig::new());
    /// let sab = AttentionConfig::FncSpatial(FncSpatialConfig::new());
    /// let network = ResNetConfig::resnet50().after(&[2, 3], rga).and_after(&[4], sab);
    /// let stages: Vec<_> = network.after.iter().map(|after| after.stage).collect();
    /// assert_eq!(stages, [2, 3, 4]);
    /// ```
    #[must_use]
    pub fn and_after(mut self, stages: &[usize], block: A) -> Self
    where
        A: Clone,
    {
        let after = |&stage| AfterStage {
            stage,
            block: block.clone(),
        };
        self.after.extend(stages.iter().map(after));
        self
    }

    /// Nothing after any stage.
    #[must_use]
    pub fn without_after(self) -> ResNetConfig<I> {
        self.with_sockets(|inside, _| (inside, Vec::new()))
    }

    fn with_sockets<J, B>(
        self,
        change: impl FnOnce(I, Vec<AfterStage<A>>) -> (J, Vec<AfterStage<B>>),
    ) -> ResNetConfig<J, B> {
        let (inside, after) = change(self.inside, self.after);
        ResNetConfig {
            kind: self.kind,
            blocks: self.blocks,
            width: self.width,
            groups: self.groups,
            width_per_group: self.width_per_group,
            last_stride: self.last_stride,
            stem: self.stem,
            ibn: self.ibn,
            inside,
            after,
        }
    }

    /// Channels inside the blocks of a stage.
    pub(super) fn hidden(&self, stage: usize) -> usize {
        let planes = self.width << stage;
        match self.kind {
            ResidualKind::Basic => planes,
            ResidualKind::Bottleneck => planes * self.width_per_group / 64 * self.groups,
        }
    }
}

impl<I> ResNetConfig<I> {
    /// The same block after each of these stages, from 1 to 4, in a network that has none yet. Further stages
    /// get theirs by [`and_after`](Self::and_after); blocks of several kinds are one type by
    /// [`AttentionConfig`](crate::attention::AttentionConfig) or an enum of one's own.
    #[must_use]
    pub fn after<A: Clone>(self, stages: &[usize], block: A) -> ResNetConfig<I, A> {
        let network = self.with_sockets(|inside, _| (inside, Vec::new()));
        network.and_after(stages, block)
    }
}

impl<I: BlockConfig + Clone, A: BlockConfig> ResNetConfig<I, A> {
    /// The residual blocks of a stage, counted from 0.
    pub(super) fn stage(&self, stage: usize) -> Vec<ResidualBlockConfig<I>> {
        let (planes, hidden) = (self.width << stage, self.hidden(stage));
        let first_stride = match stage {
            0 => 1,
            3 => self.last_stride,
            _ => 2,
        };
        let block = |index| ResidualBlockConfig {
            kind: self.kind,
            planes,
            hidden,
            groups: self.groups,
            stride: if index == 0 { first_stride } else { 1 },
            instance: self.ibn.of_block(stage, index + 1 == self.blocks[stage]),
            inside: self.inside.clone(),
        };
        (0..self.blocks[stage]).map(block).collect()
    }

    /// What stands after a stage, counted from 0.
    pub(super) fn after_stage(&self, stage: usize) -> Option<&A> {
        let mut after = self.after.iter();
        let here = after.find(|after| after.stage == stage + 1);
        here.map(|after| &after.block)
    }

    /// The shapes after the stem and after each of the four stages, sockets included.
    #[must_use]
    pub fn shapes(&self, image: FeatureShape) -> [FeatureShape; 5] {
        let mut shapes = [self.stem.output(image).with_channels(self.width); 5];
        for stage in 0..4 {
            let shape = self.stage(stage).output(shapes[stage]);
            shapes[stage + 1] = self
                .after_stage(stage)
                .map_or(shape, |after| after.output(shape));
        }
        shapes
    }
}
