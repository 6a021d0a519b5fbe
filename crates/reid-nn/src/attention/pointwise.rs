//! A 1 x 1 convolution and the normalisation after it, as attention embeds features.

use burn::{
    nn::conv::{Conv2d, Conv2dConfig},
    tensor::{Device, Tensor, activation::relu, ops::ConvOptions},
};

use crate::{
    block::Block,
    convolution,
    norm::{BatchNorm, BatchNormConfig},
};

/// A 1 x 1 convolution and the normalisation after it, which is absent when
/// [fused](crate::Block::fused).
pub type Pointwise = (Conv2d, Option<BatchNorm>);

/// Without bias, which the normalisation would take away.
pub(super) fn pointwise(from: usize, to: usize, device: &Device) -> Pointwise {
    let conv = Conv2dConfig::new([from, to], [1, 1]).with_bias(false);
    (
        conv.init(device),
        Some(BatchNormConfig::new(to).init(device)),
    )
}

/// `relu(bn(W · x))`, in the type of the features.
pub(super) fn embed(layer: &Pointwise, features: Tensor<4>) -> Tensor<4> {
    let hidden = convolved(layer, features);
    match &layer.1 {
        Some(norm) => norm.rectified(hidden),
        None => relu(hidden),
    }
}

/// `bn(W · x)`, in the type of the features.
pub(super) fn normalised(layer: &Pointwise, features: Tensor<4>) -> Tensor<4> {
    layer.1.forward(convolved(layer, features))
}

fn convolved((conv, _): &Pointwise, features: Tensor<4>) -> Tensor<4> {
    let dtype = features.dtype();
    let weight = conv.weight.val().cast(dtype);
    let bias = conv.bias.as_ref().map(|bias| bias.val().cast(dtype));
    let options = ConvOptions::new([1, 1], [0, 0], [1, 1], 1);
    reid_ops::conv2d(features, weight, bias, options)
}

/// The same with the normalisation folded into the convolution.
pub(super) fn fused((conv, norm): Pointwise) -> Pointwise {
    convolution::fold_if(conv, norm)
}
