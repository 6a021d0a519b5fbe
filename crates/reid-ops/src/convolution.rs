//! Convolution.
//!
//! - On Flex, convolutions run on the kernels of `reid-kernels`. A 1 x 1 convolution with a stride reads only
//!   the positions that it needs.
//! - On GPUs, `gpu` selects a form in which Burn's convolution is fast. Depthwise convolutions are left to
//!   Burn, which has kernels for them.
//! - Elsewhere it is Burn's convolution. There, a 1 x 1 convolution with a stride first drops the positions
//!   that it would skip, because CPU backends have a fast path for 1 x 1 only without a stride.

#[cfg(native_flex)]
use burn::tensor::Device;
use burn::tensor::{Tensor, module, ops::ConvOptions, s};

use crate::{
    epilogue::Epilogue,
    normalisation::{BatchNormParams, batch_norm},
};

#[cfg(native_cube)]
mod cube;
#[cfg(native_cube)]
mod extension;
#[cfg(native_cube)]
mod form;
#[cfg(native_cube)]
mod gpu;

/// Convolves images with weights.
///
/// ```text
/// y[n, o, i, j] = b[o] + Σ_{c, k, l} w[o, c, k, l] · x[n, c, i·s + k·d - p, j·s + l·d - p]
/// ```
///
/// # Shapes
/// - `input`: `[batch, channels, height, width]`
/// - `weight`: `[channels out, channels / groups, kernel height, kernel width]`
/// - `bias`: `[channels out]`
/// - result: `[batch, channels out, height out, width out]`, in the dtype of the input, whatever the dtypes
///   of weight and bias
///
/// # Panics
/// If the shapes do not match, the kernel does not fit into the padded input, or the input is empty.
#[must_use]
pub fn conv2d(
    input: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    options: ConvOptions<2>,
) -> Tensor<4> {
    crate::expect_not_empty("convolution", &input.dims());
    #[cfg(native_flex)]
    if let Some(convolution) = native(&input, &weight, bias.as_ref(), &options) {
        use burn::backend::Dispatch;

        use crate::extension::ReidOps;
        let (input, weight) = (input.into_dispatch(), weight.into_dispatch());
        return Tensor::from_dispatch(match bias {
            None => Dispatch::convolve(input, weight, convolution),
            Some(bias) => {
                let bias = bias.into_dispatch();
                Dispatch::convolve_biased(input, weight, bias, convolution, false)
            }
        });
    }
    composed(input, weight, bias, options)
}

/// Convolves images with weights and applies an [epilogue](Epilogue) to the result: `epilogue(conv2d(x))`.
///
/// On Flex this is one pass if there is a bias and no operand is on an autodiff device.
///
/// # Shapes
/// As in [`conv2d`]; a shortcut of the epilogue has that of the result.
///
/// # Panics
/// As [`conv2d`], and if a shortcut differs in shape from the result.
#[must_use]
pub fn conv2d_epilogue(
    input: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    options: ConvOptions<2>,
    epilogue: Epilogue<4>,
) -> Tensor<4> {
    crate::expect_not_empty("convolution", &input.dims());
    #[cfg(native_flex)]
    if let Some(convolution) = untracked(&input, &weight, bias.as_ref(), &options)
        && let Some(bias) = &bias
    {
        use burn::backend::Dispatch;

        use crate::extension::ReidOps;
        let device = input.device();
        let (input, weight) = (input.into_dispatch(), weight.into_dispatch());
        let bias = bias.clone().into_dispatch();
        let (relu, epilogue) = match epilogue {
            Epilogue::AddRelu(shortcut) if fits_output(&shortcut, &convolution, &device) => {
                let shortcut = shortcut.into_dispatch();
                let output = Dispatch::convolve_onto(input, weight, bias, shortcut, convolution);
                return Tensor::from_dispatch(output);
            }
            epilogue => epilogue.split(),
        };
        let output = Dispatch::convolve_biased(input, weight, bias, convolution, relu);
        return epilogue.apply(Tensor::from_dispatch(output));
    }
    #[cfg(native_cube)]
    if let Some(form) = gpu::form(&input, &weight, bias.as_ref(), &options) {
        return gpu::convolve(input, weight, bias, (options, form), epilogue);
    }
    epilogue.apply(conv2d(input, weight, bias, options))
}

/// Convolves images with weights, normalises the result by given statistics and applies an
/// [epilogue](Epilogue): `epilogue(batch_norm(conv2d(x)))`.
///
/// On Flex this is one pass if no operand is on an autodiff device. On GPUs, in half precision and without
/// autodiff, the normalisation is folded into the weights.
///
/// The result has the dtype of the input. In between, features in half precision are converted to the dtype
/// of the normalisation, unless the normalisation is folded into the weights.
///
/// # Shapes
/// As in [`conv2d_epilogue`]; the parameters of the normalisation are `[channels out]`.
///
/// # Panics
/// As [`conv2d_epilogue`], and if the normalisation has another number of channels than the result.
#[must_use]
pub fn conv2d_batch_norm(
    input: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    options: ConvOptions<2>,
    (normalisation, epilogue): (BatchNormParams, Epilogue<4>),
) -> Tensor<4> {
    crate::expect_not_empty("convolution", &input.dims());
    #[cfg(native_flex)]
    if let Some(convolution) = untracked(&input, &weight, bias.as_ref(), &options)
        && normalisation.is_native(convolution.channels[1], &input.device(), input.dtype())
    {
        let normalisation = normalisation.after(bias);
        return on_flex(input, weight, convolution, normalisation, epilogue);
    }
    #[cfg(native_cube)]
    if let Some(form) = gpu::folds(&input, &weight, bias.as_ref(), &options, &normalisation) {
        let normalisation = normalisation.after(bias);
        return gpu::folded(input, weight, (options, form), normalisation, epilogue);
    }
    let dtype = input.dtype();
    let output = conv2d(input, weight, bias, options).cast(normalisation.mean.dtype());
    epilogue.apply(batch_norm(output, normalisation, Epilogue::None).cast(dtype))
}

#[cfg(native_flex)]
fn on_flex(
    input: Tensor<4>,
    weight: Tensor<4>,
    convolution: reid_kernels::Convolution,
    normalisation: BatchNormParams,
    epilogue: Epilogue<4>,
) -> Tensor<4> {
    use burn::backend::Dispatch;

    use crate::extension::ReidOps;
    let device = input.device();
    let (input, weight) = (input.into_dispatch(), weight.into_dispatch());
    let BatchNormParams {
        weight: gamma,
        bias,
        mean,
        variance,
        epsilon,
    } = normalisation;
    let [gamma, bias, mean, variance] = [gamma, bias, mean, variance].map(Tensor::into_dispatch);
    match epilogue {
        Epilogue::AddRelu(shortcut) if fits_output(&shortcut, &convolution, &device) => {
            Tensor::from_dispatch(Dispatch::convolve_normalised_onto(
                input,
                weight,
                gamma,
                bias,
                mean,
                variance,
                shortcut.into_dispatch(),
                epsilon,
                convolution,
            ))
        }
        epilogue => {
            let (relu, epilogue) = epilogue.split();
            epilogue.apply(Tensor::from_dispatch(Dispatch::convolve_normalised(
                input,
                weight,
                gamma,
                bias,
                mean,
                variance,
                epsilon,
                convolution,
                relu,
            )))
        }
    }
}

/// Computes [`conv2d`] by Burn's convolution, in the form that is fastest on the device.
fn composed(
    input: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    options: ConvOptions<2>,
) -> Tensor<4> {
    #[cfg(native_cube)]
    if let Some(form) = gpu::form(&input, &weight, bias.as_ref(), &options) {
        return gpu::convolve(input, weight, bias, (options, form), Epilogue::None);
    }
    let strided = options.stride != [1, 1];
    let pointwise = weight.dims()[2..] == [1, 1] && options.padding_begin() == [0, 0];
    if strided && pointwise && options.padding_end() == [0, 0] {
        // Drop the skipped positions first: CPU backends compute a 1 x 1 convolution as a matrix product only
        // without a stride.
        let [down, across] = options.stride;
        let kept = input.slice(s![.., .., ..;down, ..;across]);
        let options = ConvOptions::new([1, 1], [0, 0], [1, 1], options.groups);
        return converted(kept, weight, bias, options);
    }
    converted(input, weight, bias, options)
}

/// Burn's convolution, with weight and bias cast to the dtype of the input.
fn converted(
    input: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    options: ConvOptions<2>,
) -> Tensor<4> {
    let dtype = input.dtype();
    let bias = bias.map(|bias| bias.cast(dtype));
    module::conv2d(input, weight.cast(dtype), bias, options)
}

/// Whether this crate computes convolutions of these sizes. Others are left to Burn, which also reports
/// shapes that do not match.
#[cfg(any(native_flex, native_cube))]
fn fits(
    input: &Tensor<4>,
    weight: &Tensor<4>,
    bias: Option<&Tensor<1>>,
    options: &ConvOptions<2>,
) -> bool {
    let [_, channels, height, width] = input.dims();
    let [results, per_group, down, across] = weight.dims();
    let (padding, dilation) = (options.padding_begin(), options.dilation);
    weight.shape().num_elements() > 0
        && channels == per_group * options.groups
        && results.is_multiple_of(options.groups)
        && bias.is_none_or(|bias| bias.dims() == [results])
        && options.padding_end() == padding
        && height + 2 * padding[0] > dilation[0] * (down - 1)
        && width + 2 * padding[1] > dilation[1] * (across - 1)
}

/// The sizes of a convolution that the CPU kernels compute; `None` if they do not.
#[cfg(native_flex)]
fn native(
    input: &Tensor<4>,
    weight: &Tensor<4>,
    bias: Option<&Tensor<1>>,
    options: &ConvOptions<2>,
) -> Option<reid_kernels::Convolution> {
    let types = [
        input.dtype(),
        weight.dtype(),
        bias.map_or(input.dtype(), Tensor::dtype),
    ];
    let [batch, channels, height, width] = input.dims();
    let [results, _, down, across] = weight.dims();
    let native = fits(input, weight, bias, options) && crate::is_native(&input.device(), &types);
    native.then_some(reid_kernels::Convolution {
        batch,
        channels: [channels, results],
        groups: options.groups,
        input: [height, width],
        kernel: [down, across],
        stride: options.stride,
        padding: options.padding_begin(),
        dilation: options.dilation,
    })
}

/// As [`native`], but `None` if an operand is on an autodiff device.
#[cfg(native_flex)]
fn untracked(
    input: &Tensor<4>,
    weight: &Tensor<4>,
    bias: Option<&Tensor<1>>,
    options: &ConvOptions<2>,
) -> Option<reid_kernels::Convolution> {
    let mut devices = [input.device(), weight.device()]
        .into_iter()
        .chain(bias.map(Tensor::device));
    let tracked = devices.any(|device| device.is_autodiff());
    let native = || native(input, weight, bias, options);
    (!tracked).then(native).flatten()
}

/// Whether a convolution can write its result, added to a shortcut, over that shortcut.
#[cfg(native_flex)]
fn fits_output(shortcut: &Tensor<4>, of: &reid_kernels::Convolution, device: &Device) -> bool {
    let [height, width] = of.output();
    let shape = [of.batch, of.channels[1], height, width];
    let same = shortcut.dims() == shape && shortcut.device() == *device;
    same && crate::is_native(device, &[shortcut.dtype()])
}
