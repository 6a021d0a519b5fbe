//! The threads on which operations run.

use burn::tensor::Device;

/// Runs a computation on a worker thread if the CPU kernels of this crate run on the device, and waits for it.
/// Otherwise it runs on the calling thread, because GPU backends keep one stream of work per thread.
///
/// A network of many small operations is faster this way: operations that are called from another thread wait
/// until a worker has begun, each of them. Only one computation is moved at a time, and others run on their own
/// threads.
///
/// `work` must not wait for other threads, such as other ranks of a training. Thread-local settings of the calling
/// thread, such as a synchronised batch normalisation, do not apply to it.
///
/// ```
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::default();
/// let ones = Tensor::<1>::ones([3], &device);
/// let sum = reid_ops::on_workers(&device, || ones.sum().into_scalar::<f32>());
/// assert_eq!(sum, 3.0);
/// ```
///
/// # Panics
/// If `work` panics.
pub fn on_workers<T: Send>(device: &Device, work: impl FnOnce() -> T + Send) -> T {
    #[cfg(native_flex)]
    if uses_workers(device) {
        return reid_kernels::on_workers(work);
    }
    let _ = device;
    work()
}

/// Whether the CPU kernels of this crate run on the device, on the worker threads of rayon.
#[must_use]
pub fn uses_workers(device: &Device) -> bool {
    #[cfg(native_flex)]
    if crate::is_native(device, &[]) {
        return true;
    }
    let _ = device;
    false
}
