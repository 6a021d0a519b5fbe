//! Basic and bottleneck residual blocks (He et al., CVPR 2016, arXiv:1512.03385) with grouped convolutions
//! (Xie et al., CVPR 2017, arXiv:1611.05431).

use std::any::Any;

use burn::{module::Module, nn::conv::Conv2d, tensor::Tensor};
use reid_core::FeatureShape;
use reid_ops::Epilogue;
use serde::{Deserialize, Serialize};

use super::{
    ibn::InstanceNormed,
    shortcut::{PaddedShortcut, Shortcut},
};
use crate::{
    attention::SqueezeExcitation,
    block::{Block, BlockConfig, Identity},
    convolution::{self, Fan},
    init::Init,
    norm::{BatchNorm, BatchNormConfig, InstanceNorm, InstanceNormConfig},
};

/// The kind of residual block that a network is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResidualKind {
    /// Two 3 x 3 convolutions.
    Basic,
    /// A 1 x 1 convolution, a 3 x 3 convolution with the stride (v1.5, as in torchvision), and a 1 x 1
    /// convolution to four times the planes.
    Bottleneck,
}

impl ResidualKind {
    /// The number of output channels per plane: 1 for basic blocks, 4 for bottlenecks.
    #[must_use]
    pub const fn expansion(self) -> usize {
        match self {
            Self::Basic => 1,
            Self::Bottleneck => 4,
        }
    }
}

/// Configuration of a [`ResidualBlock`], which has an example, with the socket `inside`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResidualBlockConfig<I = ()> {
    /// Basic or bottleneck.
    pub kind: ResidualKind,
    /// The planes, at least 1; the output has `planes · expansion` channels.
    pub planes: usize,
    /// The number of channels of the 3 x 3 convolution of a bottleneck, a multiple of `groups`; `planes` except in
    /// wide and grouped networks.
    pub hidden: usize,
    /// The number of groups of the 3 x 3 convolution of a bottleneck, at least 1; 1 except in grouped networks.
    pub groups: usize,
    /// The stride of the block, at least 1; 1 or 2 in published networks.
    pub stride: usize,
    /// The dilation of the 3 x 3 convolution of a bottleneck, from 1.
    #[serde(default = "undilated")]
    pub dilation: usize,
    /// Where instance normalisation is used.
    #[serde(default)]
    pub instance: InstanceNormed,
    /// The shortcut where input and output differ in shape.
    #[serde(default, skip_serializing_if = "Shortcut::is_projection")]
    pub shortcut: Shortcut,
    /// The fan by which initial weights are scaled.
    #[serde(default, skip_serializing_if = "Fan::is_out")]
    pub fan: Fan,
    /// The block before the addition, such as squeeze-and-excitation.
    pub inside: I,
}

const fn undilated() -> usize {
    1
}

impl ResidualBlockConfig {
    /// A block of `planes` planes with stride 1, without groups, instance normalisation or a block inside.
    #[must_use]
    pub const fn new(kind: ResidualKind, planes: usize) -> Self {
        Self {
            kind,
            planes,
            hidden: planes,
            groups: 1,
            stride: 1,
            dilation: 1,
            instance: InstanceNormed::None,
            shortcut: Shortcut::Projection,
            fan: Fan::Out,
            inside: (),
        }
    }
}

impl<I> ResidualBlockConfig<I> {
    /// Replaces the block before the addition.
    #[must_use]
    pub fn inside<J>(self, inside: J) -> ResidualBlockConfig<J> {
        ResidualBlockConfig {
            kind: self.kind,
            planes: self.planes,
            hidden: self.hidden,
            groups: self.groups,
            stride: self.stride,
            dilation: self.dilation,
            instance: self.instance,
            shortcut: self.shortcut,
            fan: self.fan,
            inside,
        }
    }

    fn channels(&self) -> usize {
        self.planes * self.kind.expansion()
    }
}

/// A residual block with a socket before the addition.
///
/// ```text
/// basic        F(x) = bn₂(conv₂ · relu(bn₁(conv₁ · x)))
/// bottleneck   F(x) = bn₃(conv₃ · relu(bn₂(conv₂ · relu(bn₁(conv₁ · x)))))
/// y = relu(inside(F(x)) + shortcut(x))       [batch, planes·expansion, height/stride, width/stride]
/// ```
///
/// The fields are named as in torchvision; the block in the socket is named `se_module`, as in Cadene's SE
/// networks.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{Block, BlockConfig, Init, backbone::{ResidualBlockConfig, ResidualKind}};
///
/// let config = ResidualBlockConfig { stride: 2, ..ResidualBlockConfig::new(ResidualKind::Bottleneck, 8) };
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let block = config.init(FeatureShape::new(16, 8, 4), &init);
/// assert_eq!(block.forward(Tensor::ones([2, 16, 8, 4], &device)).dims(), [2, 32, 4, 2]);
/// ```
#[derive(Module, Debug)]
pub struct ResidualBlock<I = Identity> {
    /// First convolution.
    pub conv1: Conv2d,
    /// Batch normalisation after `conv1`; absent when [folded](Block::fold_batch_norm).
    pub bn1: Option<BatchNorm>,
    /// Instance normalisation of the first half of the channels after `conv1` in IBN-a; `bn1` then normalises
    /// the second half.
    pub in1: Option<InstanceNorm>,
    /// Second convolution.
    pub conv2: Conv2d,
    /// Batch normalisation after `conv2`; absent when folded.
    pub bn2: Option<BatchNorm>,
    /// Third convolution of a bottleneck.
    pub conv3: Option<Conv2d>,
    /// Batch normalisation after `conv3`; absent when folded.
    pub bn3: Option<BatchNorm>,
    /// The block before the addition.
    pub se_module: I,
    /// Instance normalisation after the addition in IBN-b.
    pub in_sum: Option<InstanceNorm>,
    /// The convolution of the shortcut, if input and output differ in shape, and its batch normalisation.
    pub downsample: Option<(Conv2d, Option<BatchNorm>)>,
    /// The shortcut without parameters, if input and output differ in shape and there is no convolution.
    #[module(skip)]
    pub padded: Option<PaddedShortcut>,
}

impl<I: BlockConfig> BlockConfig for ResidualBlockConfig<I> {
    type Block = ResidualBlock<I::Block>;

    fn init(&self, input: FeatureShape, init: &Init<'_>) -> Self::Block {
        let (kind, planes, hidden, stride) = (self.kind, self.planes, self.hidden, self.stride);
        assert!(
            kind == ResidualKind::Bottleneck || (self.groups == 1 && hidden == planes),
            "a basic block needs 1 group and {planes} hidden channels, found groups: {}, hidden: {hidden}",
            self.groups
        );
        let dilation = self.dilation;
        assert!(
            dilation == 1 || (kind == ResidualKind::Bottleneck && dilation > 0),
            "a residual block needs a dilation of at least 1, and of 1 in a basic block; found {dilation}"
        );
        let conv = |from, to, kernel, stride, groups| {
            let config = convolution::square([from, to], kernel, stride, groups);
            init.conv2d(&config.with_initializer(self.fan.initializer()))
        };
        let norm = |channels| Some(BatchNormConfig::new(channels).init(init.device()));
        let instance = |channels| Some(InstanceNormConfig::new(channels).init(init.device()));
        let (first, in1, in_sum) = match self.instance {
            InstanceNormed::None => (hidden, None, None),
            InstanceNormed::Half => (hidden - hidden / 2, instance(hidden / 2), None),
            InstanceNormed::Sum => (hidden, None, instance(self.channels())),
        };
        let (from, to) = (input.channels, self.channels());
        let (differ, project) = (stride != 1 || from != to, self.shortcut.is_projection());
        let padded = (differ && !project).then(|| PaddedShortcut::new([from, to], stride));
        let projection = || (conv(from, to, 1, stride, 1), norm(to));
        let (conv1, conv2, conv3) = match kind {
            ResidualKind::Basic => (conv(from, to, 3, stride, 1), conv(to, to, 3, 1, 1), None),
            ResidualKind::Bottleneck => (
                conv(from, hidden, 1, 1, 1),
                init.conv2d(&convolution::dilated(
                    convolution::square([hidden; 2], 3, stride, self.groups),
                    dilation,
                )),
                Some(conv(hidden, to, 1, 1, 1)),
            ),
        };
        ResidualBlock {
            conv1,
            bn1: norm(first),
            in1,
            conv2,
            bn2: norm(hidden),
            bn3: conv3.as_ref().and_then(|_| norm(to)),
            conv3,
            se_module: self.inside.init(self.output(input), &init.named("inside")),
            in_sum,
            downsample: (differ && project).then(projection),
            padded,
        }
    }

    fn output(&self, input: FeatureShape) -> FeatureShape {
        input
            .strided(3, self.stride, 1)
            .with_channels(self.channels())
    }

    fn fits_one_size(&self) -> bool {
        self.inside.fits_one_size()
    }
}

impl<I: Block> ResidualBlock<I> {
    /// Applies the first convolution, its normalisation and ReLU.
    fn first(&self, features: Tensor<4>) -> Tensor<4> {
        let (Some(half), Some(rest)) = (&self.in1, &self.bn1) else {
            let (norm, epilogue) = (self.bn1.as_ref(), Epilogue::Relu);
            return convolution::normalised(&self.conv1, norm, features, epilogue);
        };
        let hidden = convolution::apply(&self.conv1, features);
        let ([first], channels) = (half.weight.shape().dims(), hidden.dims()[1]);
        let instances = hidden.clone().narrow(1, 0, first);
        let batch = hidden.narrow(1, first, channels - first);
        Tensor::cat(
            vec![half.forward_relu(instances), rest.forward_relu(batch)],
            1,
        )
    }
}

impl<I: Block> Block for ResidualBlock<I> {
    fn forward(&self, features: Tensor<4>) -> Tensor<4> {
        let shortcut = match &self.downsample {
            Some((conv, norm)) => {
                let features = features.clone();
                convolution::normalised(conv, norm.as_ref(), features, Epilogue::None)
            }
            None => match self.padded {
                Some(padded) => padded.forward(features.clone()),
                None => features.clone(),
            },
        };
        let hidden = self.first(features);
        let (last, norm, hidden) = match &self.conv3 {
            None => (&self.conv2, self.bn2.as_ref(), hidden),
            Some(conv3) => {
                let (norm, epilogue) = (self.bn2.as_ref(), Epilogue::Relu);
                let hidden = convolution::normalised(&self.conv2, norm, hidden, epilogue);
                (conv3, self.bn3.as_ref(), hidden)
            }
        };
        if self.in_sum.is_none() && self.se_module.is_identity() {
            return convolution::normalised(last, norm, hidden, Epilogue::AddRelu(shortcut));
        }
        let residual = convolution::normalised(last, norm, hidden, Epilogue::None);
        match &self.in_sum {
            None => insert_and_add(&self.se_module, residual, shortcut),
            Some(norm) => norm.forward_relu(self.se_module.forward(residual) + shortcut),
        }
    }

    fn fold_batch_norm(self) -> Self {
        // In IBN-a `bn1` is not folded: instance normalisation of the other half depends on each image.
        let (conv1, bn1) = match self.in1 {
            None => convolution::fold_if(self.conv1, self.bn1),
            Some(_) => (self.conv1, self.bn1),
        };
        let (conv2, bn2) = convolution::fold_if(self.conv2, self.bn2);
        let (conv3, bn3) = match self.conv3 {
            Some(conv3) => {
                let (conv3, bn3) = convolution::fold_if(conv3, self.bn3);
                (Some(conv3), bn3)
            }
            None => (None, None),
        };
        Self {
            conv1,
            bn1,
            in1: self.in1,
            conv2,
            bn2,
            conv3,
            bn3,
            se_module: self.se_module.fold_batch_norm(),
            in_sum: self.in_sum,
            downsample: self
                .downsample
                .map(|(conv, norm)| convolution::fold_if(conv, norm)),
            padded: self.padded,
        }
    }
}

/// Computes `relu(inside(F(x)) + shortcut(x))`. Squeeze-and-excitation is recognised by its type, since it
/// can multiply, add and apply ReLU in one pass over the feature map.
fn insert_and_add<I: Block>(inside: &I, residual: Tensor<4>, shortcut: Tensor<4>) -> Tensor<4> {
    let epilogue = Epilogue::AddRelu(shortcut);
    let inside_any: &dyn Any = inside;
    let optional = inside_any.downcast_ref::<Option<SqueezeExcitation>>();
    let gate = inside_any.downcast_ref::<SqueezeExcitation>();
    match gate.or_else(|| optional?.as_ref()) {
        Some(gate) => gate.forward_epilogue(residual, epilogue),
        None => epilogue.apply(inside.forward(residual)),
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    #[should_panic(
        expected = "a basic block needs 1 group and 8 hidden channels, found groups: 2, hidden: 8"
    )]
    fn a_grouped_basic_block_panics() {
        let config = ResidualBlockConfig {
            groups: 2,
            ..ResidualBlockConfig::new(ResidualKind::Basic, 8)
        };
        let _ = config.init(
            FeatureShape::new(8, 4, 4),
            &crate::fixtures::init(&Device::default()),
        );
    }

    #[test]
    #[should_panic(expected = "a dilation of at least 1, and of 1 in a basic block; found 2")]
    fn a_dilated_basic_block_panics() {
        let config = ResidualBlockConfig {
            dilation: 2,
            ..ResidualBlockConfig::new(ResidualKind::Basic, 8)
        };
        let _ = config.init(
            FeatureShape::new(8, 4, 4),
            &crate::fixtures::init(&Device::default()),
        );
    }
}
