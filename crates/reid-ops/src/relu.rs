//! The ReLU of a sum.

use burn::tensor::{Tensor, activation::relu};

/// Adds two tensors and applies a ReLU, as at the end of a residual block.
///
/// ```text
/// y = max(0, a + b)        [batch, channels, ...], or any other shape
/// ```
///
/// ```
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::default();
/// let [one, other] = [[1.0_f32, -3.0], [2.0, 1.0]].map(|values| Tensor::<1>::from_data(values, &device));
/// assert_eq!(reid_ops::add_relu(one, other).into_data().try_to_vec::<f32>()?, [3.0, 0.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
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
