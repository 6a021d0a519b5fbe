//! The CPU operations as an extension of Burn's backends.

#![expect(
    clippy::too_many_arguments,
    reason = "an operation of a backend takes tensors and scalars, not structs"
)]

use burn::backend::{Backend, backend_extension, tensor::FloatTensor};
use reid_kernels::{Adam, Convolution, Mixing, Pooling, WindowAverage};

use crate::gate::Broadcast;

/// Operations that Flex computes natively, in single precision. The shapes are those of the public functions.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait ReidOps: Backend {
    /// Computes a convolution.
    fn convolve(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        convolution: Convolution,
    ) -> FloatTensor<Self>;

    /// Computes a convolution with a bias and, without autodiff only, a ReLU.
    fn convolve_biased(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        convolution: Convolution,
        relu: bool,
    ) -> FloatTensor<Self>;

    /// Computes a convolution, normalised by given means and variances; without autodiff only.
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

    /// Computes a convolution with a bias, adds a shortcut and applies a ReLU; without autodiff only. The
    /// result may overwrite the shortcut.
    fn convolve_onto(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        shortcut: FloatTensor<Self>,
        convolution: Convolution,
    ) -> FloatTensor<Self>;

    /// As [`convolve_onto`](Self::convolve_onto), for a convolution that is normalised by given means and
    /// variances.
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

    /// Normalises features by given means and variances; without autodiff only.
    fn normalise_by(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        epsilon: f64,
        relu: bool,
    ) -> FloatTensor<Self>;

    /// Adds two tensors and applies a ReLU.
    fn add_relu(left: FloatTensor<Self>, right: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Multiplies features by a gate, adds a shortcut and applies a ReLU.
    fn multiply_add_relu(
        maps: FloatTensor<Self>,
        factors: FloatTensor<Self>,
        shortcut: FloatTensor<Self>,
        broadcast: Broadcast,
    ) -> FloatTensor<Self>;

    /// Fills cut positions from the mix partners. `to_partners` says whether gradients flow to the partners.
    fn mix(maps: FloatTensor<Self>, mixing: Mixing, to_partners: bool) -> FloatTensor<Self>;

    /// Computes the weights and both moments after a step of Adam; without autodiff only.
    fn adam(
        weights: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        square: FloatTensor<Self>,
        step: Adam,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// Computes a max pooling.
    fn pool(input: FloatTensor<Self>, pooling: Pooling) -> FloatTensor<Self>;

    /// Computes the means of windows that do not overlap.
    fn average(input: FloatTensor<Self>, pooling: WindowAverage) -> FloatTensor<Self>;
}

/// The gradients of these operations, computed on the backend inside autodiff.
pub(crate) trait BackwardOps: ReidOps {
    /// The gradient of a convolution with respect to the input.
    fn convolve_input_gradient(
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        convolution: Convolution,
    ) -> FloatTensor<Self>;

    /// The gradient of a convolution with respect to the weights.
    fn convolve_weight_gradient(
        input: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        convolution: Convolution,
    ) -> FloatTensor<Self>;

    /// The gradient of a ReLU, given its output.
    fn add_relu_backward(
        output: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// The gradients of [`multiply_add_relu`](ReidOps::multiply_add_relu) with respect to features, gate
    /// and shortcut.
    fn multiply_add_relu_gradients(
        maps: FloatTensor<Self>,
        factors: FloatTensor<Self>,
        output: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        broadcast: Broadcast,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// The gradient of [`mix`](ReidOps::mix) with respect to the features.
    fn mix_gradient(
        gradient: FloatTensor<Self>,
        mixing: Mixing,
        to_partners: bool,
    ) -> FloatTensor<Self>;

    /// The gradient of a max pooling with respect to the input.
    fn pool_gradient(
        input: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        pooling: Pooling,
    ) -> FloatTensor<Self>;

    /// The gradient of [`average`](ReidOps::average) with respect to the input.
    fn average_gradient(gradient: FloatTensor<Self>, pooling: WindowAverage) -> FloatTensor<Self>;
}
