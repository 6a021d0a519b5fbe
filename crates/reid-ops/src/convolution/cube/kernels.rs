//! GPU kernels that lay out the operands of a convolution and its gradients.

#![expect(
    clippy::used_underscore_binding,
    reason = "the dtypes of a kernel are arguments of its launch only"
)]

use burn_cubecl::cubecl::{self, ir::ElemType, prelude::*};

/// Copies the input that each tap of the kernel reads at each position, with zeros outside the image:
/// `[positions, taps, channels]`.
#[cube(launch)]
pub(super) fn gather<E: Float, N: Size>(
    input: &Tensor<Vector<E, N>>,
    patches: &mut Tensor<Vector<E, N>>,
    total: usize,
    width: usize,
    pitch: usize,
    height: usize,
    across: usize,
    height_out: usize,
    across_out: usize,
    taps: usize,
    taps_across: usize,
    stride_down: usize,
    stride_across: usize,
    padding_down: usize,
    padding_across: usize,
    #[define(E)] _dtype: ElemType,
) {
    let at = ABSOLUTE_POS;
    if at < total {
        let channel = at % width;
        let tap = (at / width) % taps;
        let position = at / (width * taps);
        let x = (position % across_out) * stride_across + tap % taps_across;
        let y = (position / across_out) % height_out * stride_down + tap / taps_across;
        let image = position / (across_out * height_out);
        let mut value = Vector::<E, N>::new(E::from_int(0));
        if y >= padding_down
            && y < height + padding_down
            && x >= padding_across
            && x < across + padding_across
        {
            let pixel = (image * height + y - padding_down) * across + x - padding_across;
            value = input[pixel * pitch + channel];
        }
        patches[at] = value;
    }
}

/// The sizes of weights, and of the dense weights `[results, taps, channels]` that they are rewritten as.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct Weights {
    /// The number of output channels per group.
    per_group: usize,
    /// The number of input channels per group.
    channels: usize,
    /// The height and width of the kernel.
    down: usize,
    across: usize,
    /// The number of taps, the width and the number of channels of the dense kernel.
    dense_taps: usize,
    dense_across: usize,
    dense_channels: usize,
    /// For a stem, the zero rows and columns before the first tap.
    before_down: usize,
    before_across: usize,
}

/// The dense weight at index `at` of `[results, taps, channels]`, from weights `[results, channels, height,
/// width]`: 0 between groups, or the weight of one pixel of a block of 2 x 2.
#[cube]
fn dense_weight<W: Float>(
    weights: &Tensor<W>,
    at: usize,
    sizes: &Weights,
    #[comptime] stem: bool,
) -> W {
    let dense_channel = at % sizes.dense_channels;
    let dense_tap = at / sizes.dense_channels % sizes.dense_taps;
    let result = at / (sizes.dense_channels * sizes.dense_taps);
    let mut channel = dense_channel % sizes.channels;
    let mut y = dense_tap / sizes.dense_across;
    let mut x = dense_tap % sizes.dense_across;
    let mut exists = dense_channel / sizes.channels == result / sizes.per_group;
    if stem {
        channel = dense_channel % 4;
        y = 2 * y + dense_channel / 8;
        x = 2 * x + dense_channel / 4 % 2;
        exists = channel < sizes.channels
            && y >= sizes.before_down
            && y < sizes.before_down + sizes.down
            && x >= sizes.before_across
            && x < sizes.before_across + sizes.across;
    }
    let mut weight = W::from_int(0);
    if exists {
        let from = result * weights.stride(0)
            + channel * weights.stride(1)
            + (y - sizes.before_down) * weights.stride(2)
            + (x - sizes.before_across) * weights.stride(3);
        weight = weights[from];
    }
    weight
}

/// Rewrites weights as dense weights.
#[cube(launch)]
pub(super) fn lay_out<W: Float, E: Float>(
    weights: &Tensor<W>,
    dense: &mut Tensor<E>,
    total: usize,
    sizes: Weights,
    #[comptime] stem: bool,
    #[define(W, E)] _dtypes: [ElemType; 2],
) {
    let at = ABSOLUTE_POS;
    if at < total {
        dense[at] = E::cast_from(dense_weight::<W>(weights, at, &sizes, stem));
    }
}

/// Rewrites weights as dense weights, with a normalisation folded in if `normalised`, and computes the bias
/// of the results.
#[cube(launch)]
pub(super) fn fold<W: Float, E: Float>(
    weights: &Tensor<W>,
    gamma: &[f32],
    bias: &[f32],
    mean: &[f32],
    variance: &[f32],
    dense: &mut Tensor<E>,
    shift: &mut Tensor<E>,
    epsilon: f32,
    total: usize,
    sizes: Weights,
    #[comptime] stem: bool,
    #[comptime] normalised: bool,
    #[define(W, E)] _dtypes: [ElemType; 2],
) {
    let at = ABSOLUTE_POS;
    if at < total {
        let each = sizes.dense_channels * sizes.dense_taps;
        let result = at / each;
        let mut weight = f32::cast_from(dense_weight::<W>(weights, at, &sizes, stem));
        let mut level = bias[result];
        if normalised {
            let scale = gamma[result] / (variance[result] + epsilon).sqrt();
            weight *= scale;
            level -= mean[result] * scale;
        }
        dense[at] = E::cast_from(weight);
        if at == result * each {
            shift[result] = E::cast_from(level);
        }
    }
}

/// Adds all parts of the gradient with respect to dense weights, `[parts, results, taps, channels]`, and
/// writes the gradient with respect to the original weights, `[results, channels, height, width]`.
#[cube(launch)]
pub(super) fn sum<E: Float, W: Float>(
    parts: &Tensor<E>,
    weights: &mut Tensor<W>,
    count: usize,
    total: usize,
    sizes: Weights,
    #[comptime] stem: bool,
    #[define(E, W)] _dtypes: [ElemType; 2],
) {
    let at = ABSOLUTE_POS;
    if at < total {
        let taps = sizes.down * sizes.across;
        let channel = at % sizes.channels;
        let tap = at / sizes.channels % taps;
        let result = at / (sizes.channels * taps);
        let mut within =
            tap * sizes.dense_channels + result / sizes.per_group * sizes.channels + channel;
        if stem {
            let y = tap / sizes.across + sizes.before_down;
            let x = tap % sizes.across + sizes.before_across;
            let dense_tap = y / 2 * sizes.dense_across + x / 2;
            within = dense_tap * sizes.dense_channels + (y % 2 * 2 + x % 2) * 4 + channel;
        }
        let mut sum = 0.0f32;
        for part in 0..count {
            let from = part * parts.stride(0) + result * parts.stride(1) + within;
            sum += f32::cast_from(parts[from]);
        }
        weights[(result * sizes.channels + channel) * taps + tap] = W::cast_from(sum);
    }
}

/// Copies each block of 2 x 2 pixels of images, `[batch, channels, height, width]`, to one pixel of sixteen
/// channels, `[batch, rows, columns, 16]`, with zeros outside the images.
#[cube(launch)]
pub(super) fn space_to_depth<E: Float>(
    images: &Tensor<E>,
    pixels: &mut Tensor<E>,
    total: usize,
    rows: usize,
    columns: usize,
    padding_down: usize,
    padding_across: usize,
    #[define(E)] _dtype: ElemType,
) {
    let at = ABSOLUTE_POS;
    if at < total {
        let channel = at % 4;
        let x = at / 16 % columns * 2 + at / 4 % 2;
        let y = at / (16 * columns) % rows * 2 + at / 8 % 2;
        let image = at / (16 * columns * rows);
        let mut pixel = E::from_int(0);
        if channel < images.shape(1)
            && y >= padding_down
            && y < images.shape(2) + padding_down
            && x >= padding_across
            && x < images.shape(3) + padding_across
        {
            let from = image * images.stride(0)
                + channel * images.stride(1)
                + (y - padding_down) * images.stride(2)
                + (x - padding_across) * images.stride(3);
            pixel = images[from];
        }
        pixels[at] = pixel;
    }
}

/// The gradient of [`space_to_depth`]: from `[batch, rows, columns, 16]` to `[batch, channels, height,
/// width]`.
#[cube(launch)]
pub(super) fn depth_to_space<E: Float>(
    pixels: &Tensor<E>,
    images: &mut Tensor<E>,
    total: usize,
    padding_down: usize,
    padding_across: usize,
    #[define(E)] _dtype: ElemType,
) {
    let at = ABSOLUTE_POS;
    if at < total {
        let width = images.shape(3);
        let height = images.shape(2);
        let x = at % width + padding_across;
        let y = at / width % height + padding_down;
        let channel = at / (width * height) % images.shape(1);
        let image = at / (width * height * images.shape(1));
        let mut gradient = E::from_int(0);
        // Pixels at the end that no tap reads have a gradient of 0.
        if y / 2 < pixels.shape(1) && x / 2 < pixels.shape(2) {
            let from = image * pixels.stride(0)
                + y / 2 * pixels.stride(1)
                + x / 2 * pixels.stride(2)
                + ((y % 2 * 2 + x % 2) * 4 + channel) * pixels.stride(3);
            gradient = pixels[from];
        }
        images[at] = gradient;
    }
}
