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
    let (weight, bias) = matrix(conv);
    linear(
        vectors,
        weight.cast(dtype),
        bias.map(|bias| bias.cast(dtype)),
    )
}

/// The weights of a 1 x 1 convolution as those of a linear layer, `[inputs, outputs]`, and its bias.
pub(crate) fn matrix(conv: &Conv2d) -> (Tensor<2>, Option<Tensor<1>>) {
    let [to, from, _, _] = conv.weight.shape().dims();
    let weight = conv.weight.val().reshape([to, from]);
    (weight.transpose(), conv.bias.as_ref().map(Param::val))
}
