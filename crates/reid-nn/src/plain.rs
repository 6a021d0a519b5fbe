//! Tensors without autodiff.

use burn::tensor::Tensor;

/// The same values on the plain device under an autodiff one.
pub(crate) fn plain<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    if tensor.device().is_autodiff() {
        tensor.inner()
    } else {
        tensor
    }
}
