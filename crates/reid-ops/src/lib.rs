//! Convolution, batch normalisation, pooling, gates, feature `CutMix`, attention and steps of Adam for
//! [Burn](burn), natively where that is faster.
//!
//! Burn's CPU backend, Flex, computes convolutions through copies of patches, a batch
//! normalisation in training as a chain of a dozen operations, a max pooling window by window, and what a
//! gate multiplies on one thread.
//! They dominate the training of a convolutional network, so they are computed here in one pass each, forward
//! and backward, with the machine's widest vectors. On GPUs batch normalisation in training, the laying out of
//! a convolution's operands, its gradient by weights, [epilogues](Epilogue), gates, means of maps and a step of Adam
//! are kernels of this crate, in single and half precision. Everywhere else the same functions are Burn's own
//! operations: a caller does not know which one runs. Attention is made of Burn's operations everywhere; its
//! backward pass is this crate's.
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
mod convolution;
mod epilogue;
mod gate;
mod mixing;
mod normalisation;
mod pooling;
mod power_mean;
mod relu;

pub use adam::{AdamStep, adam};
pub use attention::attention;
pub use convolution::{conv2d, conv2d_batch_norm, conv2d_epilogue};
pub use epilogue::Epilogue;
pub use gate::{mul_gate, mul_gate_epilogue};
pub use mixing::cut_mix;
pub use normalisation::{
    BatchNormOutput, BatchNormParams, RunningStatistics, batch_norm, batch_norm_train,
    batch_norm_update,
};
pub use pooling::{global_avg_pool2d, max_pool2d};
pub use power_mean::{power_mean, power_mean_gradients};
pub use relu::add_relu;

#[cfg(any(native_flex, native_cube))]
use burn::tensor::{DType, Device};

/// Refuses maps without numbers: an empty batch is a mistake, and nothing has no mean.
fn expect_numbers(what: &str, dims: &[usize]) {
    assert!(
        !dims.contains(&0),
        "{what} of an empty map, expected at least one number, found {dims:?}"
    );
}

/// Whether maps have the same shape, type and device.
#[cfg(any(native_flex, native_cube))]
fn are_alike<const D: usize>(
    one: &burn::tensor::Tensor<D>,
    other: &burn::tensor::Tensor<D>,
) -> bool {
    let shapes = one.dims() == other.dims() && one.dtype() == other.dtype();
    shapes && one.device() == other.device()
}

/// Whether tensors of these types on this device are computed here.
#[cfg(native_flex)]
fn is_native(device: &Device, types: &[DType]) -> bool {
    use burn::backend::DispatchDevice;
    let plain = device.clone().without_autodiff();
    let on_flex = matches!(plain.as_dispatch(), DispatchDevice::Flex(_));
    on_flex && types.iter().all(|dtype| *dtype == DType::F32)
}

/// Whether tensors of these types on this device are computed here by kernels for GPUs.
#[cfg(native_cube)]
fn is_cube(device: &Device, types: &[DType]) -> bool {
    use burn::backend::DispatchDevice;
    let plain = device.clone().without_autodiff();
    let known = |dtype: &DType| matches!(dtype, DType::F32 | DType::F16 | DType::BF16);
    matches!(plain.as_dispatch(), DispatchDevice::Cube(_)) && types.iter().all(known)
}

/// Whether it is a GPU of CUDA.
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
