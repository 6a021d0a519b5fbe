//! Whole blocks of small networks as one operation, for inference on CPUs.
//!
//! The convolutions of these blocks take little time each, and their feature maps fit the caches of one thread. As
//! separate operations, every one of them would read and write the feature maps of the whole batch.

use burn::tensor::Tensor;

use crate::normalisation::BatchNormParams;

mod inverted_residual;
mod omni_scale;

#[cfg(native_flex)]
mod flex;

pub use inverted_residual::{InvertedResidual, inverted_residual};
pub use omni_scale::{ChannelGate, LightConvolution, omni_scale};

/// An affine map of each channel, after a convolution.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "it is short-lived, and there is one per convolution"
)]
pub enum ChannelAffine {
    /// The addition of a bias, `[channels]`. A normalisation may be folded into it and the weights.
    Bias(Tensor<1>),
    /// A normalisation by given statistics.
    BatchNorm(BatchNormParams),
}

/// Whether there are blocks as one operation for features on this device and of this dtype.
#[cfg(native_flex)]
fn is_native(features: &Tensor<4>) -> bool {
    let device = features.device();
    !device.is_autodiff() && crate::is_native(&device, &[features.dtype()])
}
