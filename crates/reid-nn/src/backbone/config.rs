//! Configuration of ResNet and ResNeXt (He et al., CVPR 2016, arXiv:1512.03385; Xie et al., CVPR 2017,
//! arXiv:1611.05431).

use reid_core::{FeatureShape, strict};
use serde::{Deserialize, Serialize};

use super::{
    AfterStage, Dilation, Ibn, MaxPool, ResidualBlockConfig, ResidualKind, Shortcut, Stem,
    after_stage,
};
use crate::{block::BlockConfig, convolution::Fan};

/// Configuration of [`ResNet`](super::ResNet), with a block `I` inside every residual block and a block `A`
/// after chosen stages.
///
/// ```
/// use reid_core::{FeatureShape, InputSize};
/// use reid_nn::{BlockConfig, attention::SqueezeExcitationConfig, backbone::ResNetConfig};
///
/// let config = ResNetConfig::resnet50()
///     .with_last_stride(1)
///     .after(&[3], SqueezeExcitationConfig::new());
/// assert_eq!(config.output(InputSize::PERSON.rgb()), FeatureShape::new(2048, 16, 8));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    bound(deserialize = "I: Deserialize<'de>, A: Deserialize<'de>")
)]
pub struct ResNetConfig<I = (), A = ()> {
    /// Basic or bottleneck blocks.
    pub kind: ResidualKind,
    /// The number of residual blocks per stage, 1 to 256 each. The last stage may have none: the networks for
    /// CIFAR have three stages, and the feature map after stage 4 is then that after stage 3.
    pub blocks: [usize; 4],
    /// The planes of the first stage, doubled in each later stage, from 1 to 4096; 64 in the paper.
    pub width: usize,
    /// The number of groups of the 3 x 3 convolutions, from 1 to 4096; 32 in ResNeXt 32x4d.
    pub groups: usize,
    /// The number of hidden channels per group at 64 planes, from 1 to 4096; 64 in ResNet, 4 in ResNeXt
    /// 32x4d.
    pub width_per_group: usize,
    /// The stride of stage 4, 1 or 2. Re-identification uses 1, which keeps the feature map larger. It has no
    /// effect if the stage has no blocks.
    pub last_stride: usize,
    /// The stages whose stride is replaced by dilation; none by default.
    #[serde(default, skip_serializing_if = "Dilation::is_none")]
    pub dilation: Dilation,
    /// The layers before the first stage.
    pub stem: Stem,
    /// Where instance normalisation is used; nowhere by default.
    #[serde(default)]
    pub ibn: Ibn,
    /// The shortcut of the blocks whose input and output differ in shape; a projection by default.
    #[serde(default, skip_serializing_if = "Shortcut::is_projection")]
    pub shortcut: Shortcut,
    /// The fan by which the initial weights of convolutions are scaled; that of the outputs by default.
    #[serde(default, skip_serializing_if = "Fan::is_out")]
    pub fan: Fan,
    /// The block before the addition of every residual block.
    #[serde(deserialize_with = "strict")]
    pub inside: I,
    /// The blocks after stages, at most one per stage.
    pub after: Vec<AfterStage<A>>,
}

impl ResNetConfig {
    fn from_blocks(kind: ResidualKind, blocks: [usize; 4]) -> Self {
        Self {
            kind,
            blocks,
            width: 64,
            groups: 1,
            width_per_group: 64,
            last_stride: 2,
            dilation: Dilation::None,
            stem: Stem::Large(MaxPool::Padded),
            ibn: Ibn::None,
            shortcut: Shortcut::Projection,
            fan: Fan::Out,
            inside: (),
            after: Vec::new(),
        }
    }

    /// ResNet-18: basic blocks, 512 channels.
    #[must_use]
    pub fn resnet18() -> Self {
        Self::from_blocks(ResidualKind::Basic, [2, 2, 2, 2])
    }

    /// ResNet-34: basic blocks, 512 channels.
    #[must_use]
    pub fn resnet34() -> Self {
        Self::from_blocks(ResidualKind::Basic, [3, 4, 6, 3])
    }

    /// ResNet-50: bottlenecks, 2048 channels.
    #[must_use]
    pub fn resnet50() -> Self {
        Self::from_blocks(ResidualKind::Bottleneck, [3, 4, 6, 3])
    }

    /// ResNet-101: bottlenecks, 2048 channels.
    #[must_use]
    pub fn resnet101() -> Self {
        Self::from_blocks(ResidualKind::Bottleneck, [3, 4, 23, 3])
    }

    /// ResNet-152: bottlenecks, 2048 channels.
    #[must_use]
    pub fn resnet152() -> Self {
        Self::from_blocks(ResidualKind::Bottleneck, [3, 8, 36, 3])
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
    /// Sets the planes of the first stage.
    #[must_use]
    pub fn with_width(mut self, width: usize) -> Self {
        self.width = width;
        self
    }

    /// Sets the groups of the 3 x 3 convolutions, with `width_per_group` channels each at 64 planes.
    #[must_use]
    pub fn with_groups(mut self, groups: usize, width_per_group: usize) -> Self {
        (self.groups, self.width_per_group) = (groups, width_per_group);
        self
    }

    /// Sets the stride of the last stage, in the convolution and in the shortcut.
    #[must_use]
    pub fn with_last_stride(mut self, last_stride: usize) -> Self {
        self.last_stride = last_stride;
        self
    }

    /// Sets the stages whose stride is replaced by dilation. The last stride must be 2.
    #[must_use]
    pub fn with_dilation(mut self, dilation: Dilation) -> Self {
        self.dilation = dilation;
        self
    }

    /// Sets the stem.
    #[must_use]
    pub fn with_stem(mut self, stem: Stem) -> Self {
        self.stem = stem;
        self
    }

    /// Sets the shortcut of the blocks whose input and output differ in shape.
    #[must_use]
    pub fn with_shortcut(mut self, shortcut: Shortcut) -> Self {
        self.shortcut = shortcut;
        self
    }

    /// Sets where instance normalisation is used.
    #[must_use]
    pub fn with_ibn(mut self, ibn: Ibn) -> Self {
        self.ibn = ibn;
        self
    }

    /// Inserts a block before the addition of every residual block.
    #[must_use]
    pub fn inside<J>(self, inside: J) -> ResNetConfig<J, A> {
        self.with_sockets(|_, after| (inside, after))
    }

    /// Inserts a block after each of these stages, from 1 to 4, and keeps the blocks after other stages.
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
        self.after.extend(after_stage::after_stages(stages, &block));
        self
    }

    /// Removes the blocks after all stages.
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
            dilation: self.dilation,
            stem: self.stem,
            ibn: self.ibn,
            shortcut: self.shortcut,
            fan: self.fan,
            inside,
            after,
        }
    }

    /// The number of channels inside the blocks of a stage, which counts from 0.
    pub(super) fn hidden(&self, stage: usize) -> usize {
        let planes = self.width << stage;
        match self.kind {
            ResidualKind::Basic => planes,
            ResidualKind::Bottleneck => planes * self.width_per_group / 64 * self.groups,
        }
    }
}

impl<I> ResNetConfig<I> {
    /// Inserts a block after each of these stages, from 1 to 4. [`and_after`](Self::and_after) adds blocks
    /// after further stages. For blocks of several kinds, the block type can be
    /// [`AttentionConfig`](crate::attention::AttentionConfig) or your own enum.
    #[must_use]
    pub fn after<A: Clone>(self, stages: &[usize], block: A) -> ResNetConfig<I, A> {
        let network = self.with_sockets(|inside, _| (inside, Vec::new()));
        network.and_after(stages, block)
    }
}

impl<I: BlockConfig + Clone, A: BlockConfig> ResNetConfig<I, A> {
    /// The configurations of the residual blocks of a stage, which counts from 0.
    pub(super) fn stage(&self, stage: usize) -> Vec<ResidualBlockConfig<I>> {
        let (planes, hidden) = (self.width << stage, self.hidden(stage));
        let dilations = self.dilation.of_stage(stage);
        let first_stride = match stage {
            _ if stage == 0 || dilations.is_some() => 1,
            3 => self.last_stride,
            _ => 2,
        };
        let [first_dilation, dilation] = dilations.unwrap_or([1; 2]);
        let block = |index| ResidualBlockConfig {
            kind: self.kind,
            planes,
            hidden,
            groups: self.groups,
            stride: if index == 0 { first_stride } else { 1 },
            dilation: if index == 0 { first_dilation } else { dilation },
            instance: self.ibn.in_block(stage, index + 1 == self.blocks[stage]),
            shortcut: self.shortcut,
            fan: self.fan,
            inside: self.inside.clone(),
        };
        (0..self.blocks[stage]).map(block).collect()
    }

    /// The block after a stage, which counts from 0.
    pub(super) fn after_stage(&self, stage: usize) -> Option<&A> {
        after_stage::find(&self.after, stage).map(|(_, block)| block)
    }

    /// The shape of the feature map after the stem.
    pub(super) fn after_stem(&self, image: FeatureShape) -> FeatureShape {
        let channels = self.stem.channels(self.width);
        self.stem.output(image).with_channels(channels)
    }

    /// The shapes of the feature maps after the stem and after each of the four stages. The block after a
    /// stage, if there is one, belongs to the stage.
    #[must_use]
    pub fn shapes(&self, image: FeatureShape) -> [FeatureShape; 5] {
        let mut shapes = [self.after_stem(image); 5];
        for stage in 0..4 {
            let shape = self.stage(stage).output(shapes[stage]);
            shapes[stage + 1] = self
                .after_stage(stage)
                .map_or(shape, |after| after.output(shape));
        }
        shapes
    }
}
