//! A 1 x 1 convolution and the normalisation after it, as attention embeds features.

use burn::{
    nn::conv::{Conv2d, Conv2dConfig},
    tensor::{Tensor, activation::relu},
};
use reid_ops::Epilogue;

use crate::{
    convolution,
    init::Init,
    norm::{BatchNorm, BatchNormConfig},
};

/// A 1 x 1 convolution and the normalisation after it, which is absent when
/// [fused](crate::Block::fold_batch_norm).
pub type Pointwise = (Conv2d, Option<BatchNorm>);

/// Without bias, which the normalisation would take away.
pub(super) fn pointwise(from: usize, to: usize, init: &Init<'_>) -> Pointwise {
    let conv = Conv2dConfig::new([from, to], [1, 1]).with_bias(false);
    (
        init.conv2d(&conv),
        Some(BatchNormConfig::new(to).init(init.device())),
    )
}

/// `relu(bn(W · x))`, in the type of the features.
pub(super) fn embed((conv, norm): &Pointwise, features: Tensor<4>) -> Tensor<4> {
    convolution::normalised(conv, norm.as_ref(), features, Epilogue::Relu)
}

/// `bn(W · x)`, in the type of the features.
pub(super) fn normalised((conv, norm): &Pointwise, features: Tensor<4>) -> Tensor<4> {
    convolution::normalised(conv, norm.as_ref(), features, Epilogue::None)
}

/// `relu(bn(y))` of products `W · x`, with the bias that the layer has when its normalisation is folded
/// into it.
pub(super) fn relu_of_norm((conv, norm): &Pointwise, products: Tensor<4>) -> Tensor<4> {
    let biased = match &conv.bias {
        Some(bias) => {
            let bias = bias.val().cast(products.dtype());
            products + bias.reshape([1, -1, 1, 1])
        }
        None => products,
    };
    match norm {
        Some(norm) => norm.forward_relu(biased),
        None => relu(biased),
    }
}

/// The same with the normalisation folded into the convolution.
pub(super) fn fold_batch_norm((conv, norm): Pointwise) -> Pointwise {
    convolution::fold_if(conv, norm)
}
