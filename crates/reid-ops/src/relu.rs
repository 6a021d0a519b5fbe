//! Rectified sums.

use burn::tensor::{Tensor, activation::relu};

/// The sum of two maps with negative values replaced by 0, as a residual block ends.
///
/// ```text
/// y = max(0, a + b)
/// ```
///
/// # Panics
/// If the shapes differ or are empty.
#[must_use]
pub fn add_relu<const D: usize>(left: Tensor<D>, right: Tensor<D>) -> Tensor<D> {
    crate::expect_numbers("sum", &left.dims());
    let shape = left.dims();
    assert_eq!(right.dims(), shape, "maps that are added to maps {shape:?}");
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
