//! ResNet and ResNeXt (He et al., CVPR 2016, arXiv:1512.03385; Xie et al., CVPR 2017,
//! arXiv:1611.05431).

use burn::{module::Module, nn::conv::Conv2d, tensor::Tensor};
use reid_core::{FeatureShape, Problems, strict};
use reid_ops::Epilogue;
use serde::{Deserialize, Serialize};

use super::{
    ibn::Ibn,
    residual::{ResidualBlock, ResidualBlockConfig, ResidualKind},
    stem::{MaxPool, Stem},
};
use crate::{
    block::{Block, BlockConfig, Identity, TRIAL_SHAPES},
    convolution,
    init::Init,
    norm::{BatchNorm, BatchNormConfig, InstanceNorm, InstanceNormConfig},
};

/// Configuration of [`ResNet`], with a block `I` inside every residual block and a block `A` after
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

/// A block after a stage of a [`ResNet`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "A: Deserialize<'de>"))]
pub struct AfterStage<A> {
    /// The stage, from 1 to 4 as in the field names of [`ResNet`].
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

/// A residual network with two sockets: inside every residual block before the addition, and after
/// chosen stages.
///
/// ```text
/// x₀ = pool(relu(bn1(conv1 · image)))
/// xₛ = after(layerₛ(xₛ₋₁))       s = 1 … 4
/// ```
///
/// Fields are named as in torchvision, so its weights load without renaming. The `fc` classifier is
/// left to the head.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{InputSize, Seed};
/// use reid_nn::{BlockConfig, Init, attention::SqueezeExcitationConfig, backbone::ResNetConfig};
///
/// let config = ResNetConfig::resnet50()
///     .with_width(8)
///     .with_last_stride(1)
///     .after(&[3, 4], SqueezeExcitationConfig::new());
/// let (device, image) = (Device::default(), InputSize::new(64, 32).rgb());
/// let init = Init::new(Seed::new(1), &device);
/// let network = config.init(image, &init);
///
/// assert_eq!(config.output(image).to_string(), "256x4x2");
/// let stages = network.stages(Tensor::ones([1, 3, 64, 32], &device));
/// assert_eq!(stages[4].dims(), [1, 256, 4, 2]);
/// assert_eq!(stages[1].dims(), [1, 32, 16, 8]);
/// ```
#[derive(Module, Debug)]
pub struct ResNet<I = Identity, A = Identity> {
    /// The stem's convolution.
    pub conv1: Conv2d,
    /// The stem's normalisation; absent when [fused](Block::fused), and in IBN-b.
    pub bn1: Option<BatchNorm>,
    /// The stem's normalisation in IBN-b.
    pub in1: Option<InstanceNorm>,
    /// First stage.
    pub layer1: Vec<ResidualBlock<I>>,
    /// Second stage.
    pub layer2: Vec<ResidualBlock<I>>,
    /// Third stage.
    pub layer3: Vec<ResidualBlock<I>>,
    /// Last stage.
    pub layer4: Vec<ResidualBlock<I>>,
    /// The sockets after the four stages.
    pub after: Vec<Option<A>>,
    #[module(skip)]
    stem: Stem,
}

impl<I: BlockConfig + Clone, A: BlockConfig> BlockConfig for ResNetConfig<I, A> {
    type Block = ResNet<I::Block, A::Block>;

    fn init(&self, input: FeatureShape, init: &Init<'_>) -> Self::Block {
        Problems::refuse("a ResNet", |problems| self.validate(input, problems));
        let shapes = self.shapes(input);
        let (kernel, stride) = self.stem.convolution();
        let conv1 = convolution::square([input.channels, self.width], kernel, stride, 1);
        let layer = |stage: usize| {
            let init = init.named("layer").at(stage);
            self.stage(stage).init(shapes[stage], &init)
        };
        let after = |stage: usize| {
            let residual = self.stage(stage).output(shapes[stage]);
            let init = init.named("after").at(stage);
            self.after_stage(stage)
                .map(|after| after.init(residual, &init))
        };
        ResNet {
            conv1: init.conv2d(&conv1),
            bn1: (self.ibn != Ibn::B).then(|| BatchNormConfig::new(self.width).init(init.device())),
            in1: (self.ibn == Ibn::B)
                .then(|| InstanceNormConfig::new(self.width).init(init.device())),
            layer1: layer(0),
            layer2: layer(1),
            layer3: layer(2),
            layer4: layer(3),
            after: (0..4).map(after).collect(),
            stem: self.stem,
        }
    }

    fn output(&self, input: FeatureShape) -> FeatureShape {
        self.shapes(input)[4]
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        if self.validate_numbers(problems) && self.validate_fit(input, problems) {
            self.validate_sockets(input, problems);
        } else {
            problems.at("inside", |problems| {
                problems.nested_for_any(TRIAL_SHAPES, |map, problems| {
                    self.inside.validate(map, problems);
                });
            });
            for (index, after) in self.after.iter().enumerate() {
                problems.at(&format!("after[{index}].block"), |problems| {
                    problems.nested_for_any(TRIAL_SHAPES, |map, problems| {
                        after.block.validate(map, problems);
                    });
                });
            }
        }
    }
}

impl<I: Block, A: Block> ResNet<I, A> {
    /// The maps after the stem and after each of the four stages, sockets included.
    ///
    /// # Shapes
    /// - `images`: `[batch, channels, height, width]`
    pub fn stages(&self, images: Tensor<4>) -> [Tensor<4>; 5] {
        let stem = self.stem(images);
        let one = self.after[0].forward(self.layer1.forward(stem.clone()));
        let two = self.after[1].forward(self.layer2.forward(one.clone()));
        let three = self.after[2].forward(self.layer3.forward(two.clone()));
        let four = self.after[3].forward(self.layer4.forward(three.clone()));
        [stem, one, two, three, four]
    }

    fn stem(&self, images: Tensor<4>) -> Tensor<4> {
        let features = match &self.in1 {
            None => convolution::normalised(&self.conv1, self.bn1.as_ref(), images, Epilogue::Relu),
            Some(norm) => norm.forward_relu(convolution::apply(&self.conv1, images)),
        };
        self.stem.pool(features)
    }
}

impl<I: Block, A: Block> Block for ResNet<I, A> {
    fn forward(&self, images: Tensor<4>) -> Tensor<4> {
        let [_, _, _, _, features] = self.stages(images);
        features
    }

    fn fold_batch_norm(self) -> Self {
        let (conv1, bn1) = convolution::fold_if(self.conv1, self.bn1);
        Self {
            conv1,
            bn1,
            in1: self.in1,
            layer1: self.layer1.fold_batch_norm(),
            layer2: self.layer2.fold_batch_norm(),
            layer3: self.layer3.fold_batch_norm(),
            layer4: self.layer4.fold_batch_norm(),
            after: self.after.fold_batch_norm(),
            stem: self.stem,
        }
    }
}

#[cfg(test)]
mod tests {
    use reid_core::InputSize;

    use burn::tensor::Device;

    use super::*;
    use crate::parameters;

    #[test]
    fn shapes_and_parameters_are_the_published_ones() {
        let device = Device::default();
        let image = InputSize::PERSON.rgb();
        // conv and normalisation, without the classifier: torchvision's totals less their `fc`.
        let cases = [
            (ResNetConfig::resnet18(), 11_176_512, "512x8x4"),
            (ResNetConfig::resnet34(), 21_284_672, "512x8x4"),
            (ResNetConfig::resnet50(), 23_508_032, "2048x8x4"),
            (ResNetConfig::resnet101(), 42_500_160, "2048x8x4"),
            (ResNetConfig::resnet152(), 58_143_808, "2048x8x4"),
            (ResNetConfig::resnext50(), 22_979_904, "2048x8x4"),
            (ResNetConfig::resnext101(), 42_128_704, "2048x8x4"),
        ];
        for (config, count, shape) in cases {
            let network = config.init(image, &crate::fixtures::init(&device));
            assert_eq!(parameters::count(&network), count, "{config:?}");
            assert_eq!(config.output(image).to_string(), shape);
            assert_eq!(config.with_last_stride(1).output(image).positions(), 128);
        }
    }

    #[test]
    fn both_max_poolings_give_the_announced_shape() {
        let device = Device::default();
        for pool in [MaxPool::Padded, MaxPool::Ceil] {
            for size in [InputSize::new(64, 32), InputSize::new(70, 33)] {
                let stem = Stem::Large(pool);
                let config = ResNetConfig::resnet18().with_width(2).with_stem(stem);
                let image = Tensor::ones([1, 3, size.height, size.width], &device);
                let stages = config
                    .init(size.rgb(), &crate::fixtures::init(&device))
                    .stages(image);
                for (found, expected) in stages.iter().zip(config.shapes(size.rgb())) {
                    let FeatureShape {
                        channels,
                        height,
                        width,
                    } = expected;
                    assert_eq!(
                        found.dims(),
                        [1, channels, height, width],
                        "{pool:?} {size}"
                    );
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "a ResNet: last_stride: expected 1 to 2, found 3")]
    fn a_strange_last_stride_is_refused() {
        let config = ResNetConfig::resnet18().with_last_stride(3);
        let _ = config.init(
            InputSize::PERSON.rgb(),
            &crate::fixtures::init(&Device::default()),
        );
    }

    #[test]
    #[should_panic(expected = "after[1].stage: expected a stage without a block, found 3 again")]
    fn two_blocks_after_a_stage_are_refused() {
        let config = ResNetConfig::resnet18().after(&[3], ()).and_after(&[3], ());
        let _ = config.init(
            InputSize::PERSON.rgb(),
            &crate::fixtures::init(&Device::default()),
        );
    }

    #[test]
    #[should_panic(expected = "a ResNet: after[0].stage: expected 1 to 4, found 0")]
    fn a_stage_that_is_not_there_is_refused() {
        let config = ResNetConfig::resnet18().after(&[0], ());
        let _ = config.init(
            InputSize::PERSON.rgb(),
            &crate::fixtures::init(&Device::default()),
        );
    }
}
