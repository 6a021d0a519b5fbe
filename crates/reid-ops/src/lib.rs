//! Convolution, batch normalisation, pooling, gates, feature `CutMix`, attention and Adam steps for
//! [Burn](burn), computed natively where that is faster.
//!
//! Each function checks the device and dtype of its tensors. Where this crate has an implementation, it
//! runs; elsewhere the function is a composition of Burn's own operations. Both give the same result up to
//! rounding.
//!
//! - **CPU** (Burn's backend Flex, single precision): convolution, batch normalisation, max and average
//!   pooling, generalised means, gates, feature `CutMix`, ReLU of a sum, Adam, and without autodiff also
//!   whole blocks of small networks. Flex computes convolutions through copies of patches, a batch
//!   normalisation in training as a dozen operations, max pooling window by window, and gates on one thread.
//!   These operations dominate the training of a convolutional network. The kernels of `reid-kernels` compute
//!   each in one pass, forward and backward, with the widest vectors of the processor.
//! - **GPU** (Burn's `CubeCL` backends): kernels for batch normalisation in training, the layout of
//!   convolution operands, the gradient of a convolution with respect to its weights,
//!   [epilogues](Epilogue), gates and average pooling. These have single and half precision; Adam has a
//!   kernel in single precision.
//! - **Everywhere**: [`attention()`] is a composition of Burn's operations, in chunks of queries, with a
//!   custom backward pass that recomputes the attention weights.
//!
//! A result may be written over an operand whose memory no other tensor shares. A tensor that the caller
//! still holds keeps its values.
//!
//! Use it to write layers whose speed matters on Flex or on GPUs; the layers of `reid-nn` call it already.
//! Elsewhere, and for operations that are not listed here, Burn's own functions are as good. The feature `native`,
//! which is on by default, compiles the implementations of this crate for the enabled backends.
//!
//! ```
//! use burn::tensor::{Device, Tensor, ops::ConvOptions};
//!
//! let device = Device::default();
//! let (images, weights) = (Tensor::ones([1, 3, 5, 5], &device), Tensor::ones([8, 3, 3, 3], &device));
//! let options = ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
//! let features = reid_ops::conv2d(images, weights, None, options);
//! assert_eq!(features.dims(), [1, 8, 5, 5]);
//! ```

#![doc(test(attr(deny(warnings))))]

#[cfg(native_flex)]
mod autodiff;
#[cfg(native_flex)]
mod extension;
#[cfg(native_flex)]
mod flex;

#[cfg(native_cube)]
mod cube;

mod adam;
mod attention;
mod blocks;
mod convolution;
mod epilogue;
mod gate;
mod mixing;
mod normalisation;
mod pooling;
mod power_mean;
mod rank_sum;
mod relu;
mod threads;

pub use adam::{AdamStep, adam};
pub use attention::attention;
pub use blocks::{
    ChannelAffine, ChannelGate, InvertedResidual, LightConvolution, inverted_residual, omni_scale,
};
pub use convolution::{conv2d, conv2d_batch_norm, conv2d_epilogue};
pub use epilogue::Epilogue;
pub use gate::{mul_gate, mul_gate_epilogue};
pub use mixing::cut_mix;
pub use normalisation::{
    BatchNormOutput, BatchNormParams, RunningStatistics, batch_norm, batch_norm_train,
    batch_norm_update,
};
pub use pooling::{global_avg_pool2d, max_pool2d, window_avg_pool2d};
pub use power_mean::{power_mean, power_mean_gradients};
pub use rank_sum::sum_over_ranks;
pub use relu::add_relu;
pub use threads::{HeldMemory, on_workers, uses_workers};

#[cfg(any(native_flex, native_cube))]
use burn::tensor::{DType, Device};

/// Panics if a dimension is 0: an empty batch is a mistake, and its mean is undefined.
fn expect_not_empty(what: &str, dims: &[usize]) {
    assert!(
        !dims.contains(&0),
        "{what} of an empty tensor: expected every dimension to be at least 1, found shape {dims:?}"
    );
}

/// Whether two tensors have the same shape, dtype and device.
#[cfg(any(native_flex, native_cube))]
fn are_alike<const D: usize>(
    one: &burn::tensor::Tensor<D>,
    other: &burn::tensor::Tensor<D>,
) -> bool {
    let shapes = one.dims() == other.dims() && one.dtype() == other.dtype();
    shapes && one.device() == other.device()
}

/// Whether tensors of these dtypes on this device are computed by the CPU kernels of this crate.
#[cfg(native_flex)]
fn is_native(device: &Device, types: &[DType]) -> bool {
    use burn::backend::DispatchDevice;
    let plain = device.clone().without_autodiff();
    let on_flex = matches!(plain.as_dispatch(), DispatchDevice::Flex(_));
    on_flex && types.iter().all(|dtype| *dtype == DType::F32)
}

/// Whether tensors of these dtypes on this device are computed by the GPU kernels of this crate.
#[cfg(native_cube)]
fn is_cube(device: &Device, types: &[DType]) -> bool {
    use burn::backend::DispatchDevice;
    let plain = device.clone().without_autodiff();
    let known = |dtype: &DType| matches!(dtype, DType::F32 | DType::F16 | DType::BF16);
    matches!(plain.as_dispatch(), DispatchDevice::Cube(_)) && types.iter().all(known)
}

/// Whether the device is a CUDA GPU.
#[cfg(native_cube)]
fn is_cuda(device: &Device) -> bool {
    #[cfg(feature = "cuda")]
    {
        use burn::{backend::DispatchDevice, cubecl};
        let plain = device.clone().without_autodiff();
        let device = plain.as_dispatch();
        matches!(device, DispatchDevice::Cube(cubecl::Device::Cuda(_)))
    }
    #[cfg(not(feature = "cuda"))]
    {
        let _ = device;
        false
    }
}
