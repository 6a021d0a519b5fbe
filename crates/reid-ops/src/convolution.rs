//! Convolution.

use burn::tensor::{Tensor, activation::relu, module, ops::ConvOptions, s};

use crate::normalisation::{Normalisation, batch_norm};

/// Convolves images with weights.
///
/// ```text
/// y[n, o, i, j] = b[o] + Σ_{c, k, l} w[o, c, k, l] · x[n, c, i·s + k - p, j·s + l - p]
/// ```
///
/// # Shapes
/// - `input`: `[batch, channels, height, width]`
/// - `weight`: `[channels out, channels / groups, kernel height, kernel width]`
/// - `bias`: `[channels out]`
/// - result: `[batch, channels out, height out, width out]`
///
/// A convolution of 1 x 1 with a stride drops the positions that it would skip before it multiplies.
///
/// # Panics
/// If the shapes do not fit each other, the kernel does not fit the padded input, or the input is empty.
#[must_use]
pub fn conv2d(
    input: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    options: ConvOptions<2>,
) -> Tensor<4> {
    convolve(input, weight, bias, options, false)
}

/// Convolves images with weights, then replaces what is negative by 0: `ReLU(conv2d(x))`, in one
/// pass where there is no gradient to keep track of.
///
/// # Panics
/// As [`conv2d`].
#[must_use]
pub fn conv2d_rectified(
    input: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    options: ConvOptions<2>,
) -> Tensor<4> {
    let tracked = [input.device(), weight.device()]
        .into_iter()
        .chain(bias.as_ref().map(Tensor::device))
        .any(|device| device.is_autodiff());
    if tracked || bias.is_none() {
        return relu(convolve(input, weight, bias, options, false));
    }
    convolve(input, weight, bias, options, true)
}

/// Convolves images with weights and normalises the result by given statistics:
/// `batch_norm(conv2d(x))`, in one pass where there is no gradient to keep track of.
///
/// # Panics
/// As [`conv2d`], and if the normalisation is of another number of channels.
#[must_use]
pub fn conv2d_normalised(
    input: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    options: ConvOptions<2>,
    normalisation: Normalisation,
) -> Tensor<4> {
    crate::expect_numbers("convolution", &input.dims());
    #[cfg(feature = "flex")]
    if let Some(convolution) = native(&input, &weight, bias.as_ref(), &options)
        && normalisation.is_native(convolution.channels[1], &input.device(), input.dtype())
        && !weight.device().is_autodiff()
        && bias
            .as_ref()
            .is_none_or(|bias| !bias.device().is_autodiff())
    {
        use burn::backend::Dispatch;

        use crate::extension::ReidOps;
        let rectify = normalisation.rectify;
        let (scale, mut shift) = normalisation.affine();
        if let Some(bias) = bias {
            shift = shift + bias * scale.clone();
        }
        return Tensor::from_dispatch(Dispatch::convolve_scaled(
            input.into_dispatch(),
            weight.into_dispatch(),
            scale.into_dispatch(),
            shift.into_dispatch(),
            convolution,
            rectify,
        ));
    }
    batch_norm(convolve(input, weight, bias, options, false), normalisation)
}

fn convolve(
    input: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    options: ConvOptions<2>,
    rectify: bool,
) -> Tensor<4> {
    crate::expect_numbers("convolution", &input.dims());
    #[cfg(feature = "flex")]
    if let Some(convolution) = native(&input, &weight, bias.as_ref(), &options) {
        use burn::backend::Dispatch;

        use crate::extension::ReidOps;
        let (input, weight) = (input.into_dispatch(), weight.into_dispatch());
        return Tensor::from_dispatch(match bias {
            None => Dispatch::convolve(input, weight, convolution),
            Some(bias) => {
                let bias = bias.into_dispatch();
                Dispatch::convolve_biased(input, weight, bias, convolution, rectify)
            }
        });
    }
    let output = composed(input, weight, bias, options);
    if rectify { relu(output) } else { output }
}

/// The same by Burn's operations.
fn composed(
    input: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    options: ConvOptions<2>,
) -> Tensor<4> {
    let strided = options.stride != [1, 1];
    let pointwise = weight.dims()[2..] == [1, 1] && options.padding_begin() == [0, 0];
    if strided && pointwise && options.padding_end() == [0, 0] {
        // Positions that are skipped are dropped first: backends have no matrix product for a
        // strided convolution, but one for what is left.
        let [down, across] = options.stride;
        let kept = input.slice(s![.., .., ..;down, ..;across]);
        let options = ConvOptions::new([1, 1], [0, 0], [1, 1], options.groups);
        return module::conv2d(kept, weight, bias, options);
    }
    module::conv2d(input, weight, bias, options)
}

/// The sizes of a convolution that is computed here.
#[cfg(feature = "flex")]
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
    let [results, per_group, down, across] = weight.dims();
    let padding = options.padding_begin();
    let fits = channels == per_group * options.groups
        && results.is_multiple_of(options.groups)
        && bias.is_none_or(|bias| bias.dims() == [results])
        && height + 2 * padding[0] >= down
        && width + 2 * padding[1] >= across
        && weight.shape().num_elements() > 0;
    // What does not fit is left to Burn, which says what is wrong with it.
    let native = fits
        && options.dilation == [1, 1]
        && options.padding_end() == padding
        && crate::is_native(&input.device(), &types);
    native.then_some(reid_kernels::Convolution {
        batch,
        channels: [channels, results],
        groups: options.groups,
        input: [height, width],
        kernel: [down, across],
        stride: options.stride,
        padding,
    })
}
