//! Maps multiplied by a gate.

use burn::tensor::Tensor;

/// The product of features and a gate, as attention ends.
///
/// ```text
/// y = x ⊙ g        ∂g = Σ ∂y ⊙ x over what shares a number        ∂x = ∂y ⊙ g
/// ```
///
/// ```
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::default();
/// let features = Tensor::<4>::from_data([[[[1.0, 2.0]], [[3.0, 4.0]]]], &device);
/// let places = Tensor::<4>::from_data([[[[0.0, 1.0]]]], &device);
/// let gated = reid_ops::gated(features, places);
/// assert_eq!(gated.into_data().try_to_vec::<f32>()?, [0.0, 2.0, 0.0, 4.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Shapes
/// - `features` and result: `[batch, channels, height, width]`
/// - `gate`: the same, or 1 where all channels or all places share a number
///
/// # Panics
/// If the shapes do not fit, or the features are empty.
#[must_use]
pub fn gated(features: Tensor<4>, gate: Tensor<4>) -> Tensor<4> {
    crate::expect_numbers("gate", &features.dims());
    #[cfg(feature = "flex")]
    if let Some(sizes) = sizes(&features, &gate) {
        use burn::backend::Dispatch;

        use crate::extension::ReidOps;
        let (features, gate) = (features.into_dispatch(), gate.into_dispatch());
        return Tensor::from_dispatch(Dispatch::multiply(features, gate, sizes));
    }
    features * gate
}

/// The sizes of a product that is computed here.
#[cfg(feature = "flex")]
fn sizes(features: &Tensor<4>, gate: &Tensor<4>) -> Option<reid_kernels::Gate> {
    use reid_kernels::Shared;
    let [batch, channels, height, width] = features.dims();
    let shared = match gate.dims() {
        dims if dims == [batch, channels, 1, 1] => Shared::Places,
        dims if dims == [batch, 1, height, width] => Shared::Channels,
        _ => return None,
    };
    let native = features.device() == gate.device()
        && crate::is_native(&features.device(), &[features.dtype(), gate.dtype()]);
    native.then_some(reid_kernels::Gate {
        batch,
        channels,
        places: height * width,
        shared,
    })
}
