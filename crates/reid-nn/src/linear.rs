//! Linear layers as heads and gates use them.

use burn::{
    module::Param,
    nn::{Linear, conv::Conv2d},
    tensor::{Tensor, module::linear},
};

/// `W·x + b`, in the type of the vectors.
pub(crate) fn apply(layer: &Linear, vectors: Tensor<2>) -> Tensor<2> {
    let dtype = vectors.dtype();
    let bias = layer.bias.as_ref().map(|bias| bias.val().cast(dtype));
    linear(vectors, layer.weight.val().cast(dtype), bias)
}

/// A 1 x 1 convolution of maps of one place, `[batch, channels]`: a linear layer that is published as a
/// convolution.
pub(crate) fn apply_convolution(conv: &Conv2d, vectors: Tensor<2>) -> Tensor<2> {
    let dtype = vectors.dtype();
    let [to, from, _, _] = conv.weight.shape().dims();
    let weight = conv.weight.val().cast(dtype).reshape([to, from]);
    let bias = conv.bias.as_ref().map(Param::val);
    linear(
        vectors,
        weight.transpose(),
        bias.map(|bias| bias.cast(dtype)),
    )
}
