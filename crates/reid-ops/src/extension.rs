//! The operations as an extension of Burn's backends.

#![expect(
    clippy::too_many_arguments,
    reason = "an operation of a backend takes tensors and numbers, not structures of them"
)]

use burn::backend::{Backend, backend_extension, tensor::FloatTensor};
use reid_kernels::{Adam, Convolution, Mixing, Pooling};

use crate::gate::Broadcast;

/// What a backend computes natively. Shapes are those of [`crate::conv2d`]; tensors are in single
/// precision.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait ReidOps: Backend {
    /// The output of a convolution.
    fn convolve(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        convolution: Convolution,
    ) -> FloatTensor<Self>;

    /// The output of a convolution with a bias; rectified, only without autodiff.
    fn convolve_biased(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        convolution: Convolution,
        relu: bool,
    ) -> FloatTensor<Self>;

    /// The output of a convolution, normalised by given means and variances, only without autodiff.
    fn convolve_normalised(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        epsilon: f64,
        convolution: Convolution,
        relu: bool,
    ) -> FloatTensor<Self>;

    /// The output of a convolution with a bias, in place of a shortcut, which is added to it before it is
    /// rectified; only without autodiff.
    fn convolve_onto(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        shortcut: FloatTensor<Self>,
        convolution: Convolution,
    ) -> FloatTensor<Self>;

    /// The same of a convolution that is normalised by given means and variances.
    fn convolve_normalised_onto(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        shortcut: FloatTensor<Self>,
        epsilon: f64,
        convolution: Convolution,
    ) -> FloatTensor<Self>;

    /// Features normalised by given means and variances, only without autodiff.
    fn normalise_by(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        epsilon: f64,
        relu: bool,
    ) -> FloatTensor<Self>;

    /// The rectified sum of two maps.
    fn add_relu(left: FloatTensor<Self>, right: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Maps multiplied by a gate, with a shortcut added, rectified.
    fn multiply_add_relu(
        maps: FloatTensor<Self>,
        factors: FloatTensor<Self>,
        shortcut: FloatTensor<Self>,
        shared: Broadcast,
    ) -> FloatTensor<Self>;

    /// Maps whose cut places are their donors'; whether gradients flow to the donors.
    fn mix(maps: FloatTensor<Self>, mixing: Mixing, to_donors: bool) -> FloatTensor<Self>;

    /// Weights and both means after a step, only without autodiff.
    fn adam(
        weights: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        square: FloatTensor<Self>,
        step: Adam,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// The largest number of each window.
    fn pool(input: FloatTensor<Self>, pooling: Pooling) -> FloatTensor<Self>;
}

/// What the backward passes of these operations compute, on the backend under autodiff.
pub(crate) trait BackwardOps: ReidOps {
    /// The gradient by the input of a convolution.
    fn convolve_input_gradient(
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        convolution: Convolution,
    ) -> FloatTensor<Self>;

    /// The gradient by the weights of a convolution.
    fn convolve_weight_gradient(
        input: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        convolution: Convolution,
    ) -> FloatTensor<Self>;

    /// What of a gradient passes back through a rectifier with this output.
    fn add_relu_backward(
        output: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// The gradients by maps, gate and shortcut, from the output and that by it.
    fn multiply_joined_gradients(
        maps: FloatTensor<Self>,
        factors: FloatTensor<Self>,
        output: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        shared: Broadcast,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// The gradient by maps that were mixed.
    fn mix_gradient(
        gradient: FloatTensor<Self>,
        mixing: Mixing,
        to_donors: bool,
    ) -> FloatTensor<Self>;

    /// The gradient by the input of a pooling.
    fn pool_gradient(
        input: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        pooling: Pooling,
    ) -> FloatTensor<Self>;
}
