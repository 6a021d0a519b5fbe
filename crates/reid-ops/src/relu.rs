//! The ReLU of a sum.

use burn::tensor::{Tensor, activation::relu};

/// Adds two tensors and applies a ReLU, as at the end of a residual block.
///
/// ```text
/// y = max(0, a + b)
/// ```
///
/// # Panics
/// If the shapes differ, or the tensors are empty.
#[must_use]
pub fn add_relu<const D: usize>(left: Tensor<D>, right: Tensor<D>) -> Tensor<D> {
    crate::expect_not_empty("sum", &left.dims());
    let shape = left.dims();
    assert_eq!(
        right.dims(),
        shape,
        "shape of the tensor added to a tensor of shape {shape:?}"
    );
    #[cfg(native_flex)]
    {
        use burn::backend::Dispatch;

        use crate::extension::ReidOps;
        let types = [left.dtype(), right.dtype()];
        if left.device() == right.device() && crate::is_native(&left.device(), &types) {
            let sum = Dispatch::add_relu(left.into_dispatch(), right.into_dispatch());
            return Tensor::from_dispatch(sum);
        }
    }
    relu(left + right)
}
