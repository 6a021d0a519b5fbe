//! Linear layers of heads and gates.

use burn::{
    module::Param,
    nn::{Linear, conv::Conv2d},
    tensor::{Tensor, module::linear},
};

/// Computes `W·x + b` in the dtype of the vectors.
pub(crate) fn apply(layer: &Linear, vectors: Tensor<2>) -> Tensor<2> {
    let dtype = vectors.dtype();
    let bias = layer.bias.as_ref().map(|bias| bias.val().cast(dtype));
    linear(vectors, layer.weight.val().cast(dtype), bias)
}

/// Applies a 1 x 1 convolution to vectors, `[batch, channels]`. Some published networks store a linear layer
/// as such a convolution.
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
