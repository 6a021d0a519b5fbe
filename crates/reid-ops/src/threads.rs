//! The threads on which operations run, and the memory that their process keeps.

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

/// Keeps the memory of the process that is in use now, also after it is freed, while this value lives.
///
/// Create it between the forward and the backward pass of a training step on a CPU. The next steps then need not
/// request the memory of their feature maps from the system again. This concerns the heap of glibc and the thread that
/// was started first; elsewhere, and without the feature `native`, it does nothing. The value itself takes addresses
/// and no memory.
///
/// ```
/// let held = reid_ops::HeldMemory::new();
/// drop(held);
/// ```
#[derive(Debug, Default)]
pub struct HeldMemory {
    #[cfg(native_flex)]
    _memory: reid_kernels::HeldMemory,
}

impl HeldMemory {
    /// Keeps what is in use now.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}
