//! A 1 x 1 convolution followed by batch normalisation, with which attention blocks embed features.

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

/// A 1 x 1 convolution and the batch normalisation after it, which is absent when
/// [folded](crate::Block::fold_batch_norm).
pub type Pointwise = (Conv2d, Option<BatchNorm>);

/// Builds a layer without bias, since the batch normalisation would cancel a bias.
pub(super) fn pointwise(from: usize, to: usize, init: &Init<'_>) -> Pointwise {
    let conv = Conv2dConfig::new([from, to], [1, 1]).with_bias(false);
    (
        init.conv2d(&conv),
        Some(BatchNormConfig::new(to).init(init.device())),
    )
}

/// Computes `relu(bn(W · x))` in the dtype of the features.
pub(super) fn embed((conv, norm): &Pointwise, features: Tensor<4>) -> Tensor<4> {
    convolution::normalised(conv, norm.as_ref(), features, Epilogue::Relu)
}

/// Computes `bn(W · x)` in the dtype of the features.
pub(super) fn normalised((conv, norm): &Pointwise, features: Tensor<4>) -> Tensor<4> {
    convolution::normalised(conv, norm.as_ref(), features, Epilogue::None)
}

/// Computes `relu(bn(y))` of products `y = W · x`. If the batch normalisation is folded into the convolution,
/// the bias of the convolution replaces it.
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

/// Folds the batch normalisation into the convolution.
pub(super) fn fold_batch_norm((conv, norm): Pointwise) -> Pointwise {
    convolution::fold_if(conv, norm)
}
