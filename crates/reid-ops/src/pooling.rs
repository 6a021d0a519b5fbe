//! Pooling.

use burn::tensor::{
    DType, Tensor, module,
    ops::{AvgPoolOptions, MaxPoolOptions},
};

#[cfg(native_cube)]
mod cube;
#[cfg(any(native_flex, native_cube))]
mod extension;
#[cfg(native_flex)]
mod flex;

/// Computes the mean of each feature map (global average pooling; Lin et al., Network In Network, ICLR 2014,
/// arXiv:1312.4400), in at least single precision.
///
/// ```text
/// y[n, c] = mean over i, j of x[n, c, i, j]
/// ```
///
/// ```
/// use burn::tensor::{Device, Tensor};
///
/// let maps = Tensor::<4>::from_data([[[[1.0, 2.0]], [[3.0, 6.0]]]], &Device::default());
/// assert_eq!(reid_ops::global_avg_pool2d(maps).into_data().try_to_vec::<f32>()?, [1.5, 4.5]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Shapes
/// - `input`: `[batch, channels, height, width]`
/// - result: `[batch, channels]`; in single precision if the input is in half precision
///
/// # Panics
/// If the input is empty.
#[must_use]
pub fn global_avg_pool2d(input: Tensor<4>) -> Tensor<2> {
    let [batch, channels, height, width] = input.dims();
    crate::expect_not_empty("pooling", &[batch, channels, height, width]);
    let dtype = input.dtype();
    #[cfg(any(native_flex, native_cube))]
    if pools_natively(&input) {
        use burn::backend::Dispatch;

        use extension::AvgPool;
        return Tensor::from_dispatch(Dispatch::global_average(input.into_dispatch()));
    }
    let maps = input.reshape([batch, channels, height * width]);
    let maps = match dtype {
        DType::F16 | DType::BF16 => maps.cast(DType::F32),
        _ => maps,
    };
    maps.mean_dim(2).squeeze_dim(2)
}

#[cfg(any(native_flex, native_cube))]
fn pools_natively(input: &Tensor<4>) -> bool {
    let (device, types) = (input.device(), [input.dtype()]);
    #[cfg(native_cube)]
    if crate::is_cube(&device, &types) {
        return true;
    }
    #[cfg(native_flex)]
    if crate::is_native(&device, &types) {
        return true;
    }
    false
}

/// Computes the maximum of each window (max pooling).
///
/// ```text
/// y[n, c, i, j] = max over k < kernel of x[n, c, i·s + k₀ - p, j·s + k₁ - p]     inside the feature map
/// ```
///
/// ```
/// use burn::tensor::{Device, Tensor, ops::MaxPoolOptions};
///
/// let map = Tensor::<4>::from_data([[[[1.0, 2.0, 9.0], [3.0, 6.0, 4.0]]]], &Device::default());
/// let options = MaxPoolOptions::new([2, 2]).with_stride([1, 1]);
/// assert_eq!(reid_ops::max_pool2d(map, options).into_data().try_to_vec::<f32>()?, [6.0, 9.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Shapes
/// - `input`: `[batch, channels, height, width]`
/// - result: `[batch, channels, height out, width out]`, where a side of `n` becomes
///   `⌊(n + 2·padding - kernel) / stride⌋ + 1`, rounded up with `ceil_mode`
///
/// # Panics
/// If a window does not fit into the padded input, or the input is empty.
#[must_use]
pub fn max_pool2d(input: Tensor<4>, options: MaxPoolOptions<2>) -> Tensor<4> {
    crate::expect_not_empty("pooling", &input.dims());
    #[cfg(native_flex)]
    if let Some(pooling) = pooling(&input, &options) {
        use burn::backend::Dispatch;

        use crate::extension::ReidOps;
        return Tensor::from_dispatch(Dispatch::pool(input.into_dispatch(), pooling));
    }
    module::max_pool2d(input, options)
}

/// Computes the mean of each window, in windows that do not overlap. Rows and columns after the last whole window
/// are ignored.
///
/// ```text
/// y[n, c, i, j] = mean over k < window of x[n, c, i·window₀ + k₀, j·window₁ + k₁]
/// ```
///
/// ```
/// use burn::tensor::{Device, Tensor};
///
/// let maps = Tensor::<4>::from_data([[[[1.0, 2.0, 9.0], [3.0, 6.0, 9.0]]]], &Device::default());
/// let means = reid_ops::window_avg_pool2d(maps, [2, 2]);
/// assert_eq!(means.into_data().try_to_vec::<f32>()?, [3.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Shapes
/// - `input`: `[batch, channels, height, width]`
/// - result: `[batch, channels, ⌊height / window₀⌋, ⌊width / window₁⌋]`
///
/// # Panics
/// If a side of the window is 0 or larger than the feature map, or the input is empty.
#[must_use]
pub fn window_avg_pool2d(input: Tensor<4>, window: [usize; 2]) -> Tensor<4> {
    let [batch, channels, height, width] = input.dims();
    crate::expect_not_empty("pooling", &[batch, channels, height, width]);
    assert!(
        window
            .iter()
            .zip([height, width])
            .all(|(of, map)| (1..=map).contains(of)),
        "a window of average pooling: expected at least 1 x 1 and at most {height} x {width}, found {} x {}",
        window[0],
        window[1]
    );
    #[cfg(native_flex)]
    if crate::is_native(&input.device(), &[input.dtype()]) {
        use burn::backend::Dispatch;

        use crate::extension::ReidOps;
        let pooling = reid_kernels::WindowAverage {
            input: [height, width],
            window,
        };
        return Tensor::from_dispatch(Dispatch::average(input.into_dispatch(), pooling));
    }
    module::avg_pool2d(input, AvgPoolOptions::new(window).with_stride(window))
}

/// The sizes of a max pooling that the CPU kernels compute; `None` if they do not.
#[cfg(native_flex)]
fn pooling(input: &Tensor<4>, options: &MaxPoolOptions<2>) -> Option<reid_kernels::Pooling> {
    let [_, _, height, width] = input.dims();
    let (kernel, stride) = (options.kernel_size, options.stride);
    let padding = options.padding.map(|(begin, _)| begin);
    let map = [height, width];
    let fits = [0, 1].into_iter().all(|axis| {
        map[axis] + 2 * padding[axis] >= kernel[axis]
            && stride[axis] > 0
            && 2 * padding[axis] <= kernel[axis]
    });
    let native = fits
        && !options.is_asymmetric()
        && options.dilation == [1, 1]
        && crate::is_native(&input.device(), &[input.dtype()]);
    native.then(|| {
        let output = [0, 1].map(|axis| {
            let room = map[axis] + 2 * padding[axis] - kernel[axis];
            let steps = if options.ceil_mode {
                room.div_ceil(stride[axis])
            } else {
                room / stride[axis]
            };
            // A window that begins after the feature map covers none of it and is dropped.
            steps.min((map[axis] + padding[axis] - 1) / stride[axis]) + 1
        });
        reid_kernels::Pooling {
            input: map,
            output,
            kernel,
            stride,
            padding,
        }
    })
}
