//! The gradient of a convolution by its weights on GPUs: a product of matrices.
//!
//! ```text
//! dW[o, t, c] = Σ_r dY[r, o] · X[r, t, c]        r the places of all images, t the taps of the kernel
//! ```
//!
//! There are many places and few weights, so places are split into parts whose products run side by
//! side, and are summed in single precision. What taps see takes as many times the memory of the features
//! as there are taps, until the product is done; where a device has no room for it, the gradient is Burn's.

#![expect(
    clippy::used_underscore_binding,
    reason = "a kernel's types of numbers are arguments of its launch alone"
)]

use burn::tensor::ops::ConvOptions;
use burn_cubecl::{
    CubeBackend,
    cubecl::{self, calculate_cube_count_elemwise, ir::ElemType, prelude::*},
    kernel::matmul::{MatmulStrategy, matmul},
    ops::{numeric::empty_device_contiguous_dtype, permute, reshape},
    tensor::CubeTensor,
};

use super::extension::{GpuConvolution, weight_gradient_of_burn};
use crate::cube::{Rows, numbers};

/// Places of a part, at least, and parts at most.
const MANY_WEIGHTS: [usize; 2] = [2048, 64];
/// The same where there are few weights, so that a part keeps few units busy.
const FEW_WEIGHTS: [usize; 2] = [512, 256];
/// The most weights that are few.
const FEW: usize = 1 << 16;

/// What each tap of the kernel sees at each place, zeros outside: `[places, taps, channels]`.
#[cube(launch)]
fn gather<E: Float, N: Size>(
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
    #[define(E)] _numbers: ElemType,
) {
    let at = ABSOLUTE_POS;
    if at < total {
        let channel = at % width;
        let tap = (at / width) % taps;
        let place = at / (width * taps);
        let x = (place % across_out) * stride_across + tap % taps_across;
        let y = (place / across_out) % height_out * stride_down + tap / taps_across;
        let image = place / (across_out * height_out);
        let mut seen = Vector::<E, N>::new(E::from_int(0));
        if y >= padding_down
            && y < height + padding_down
            && x >= padding_across
            && x < across + padding_across
        {
            let pixel = (image * height + y - padding_down) * across + x - padding_across;
            seen = input[pixel * pitch + channel];
        }
        patches[at] = seen;
    }
}

/// The sum of all parts `[parts, results, taps, channels]`, as weights `[results, channels, taps]`.
#[cube(launch)]
fn sum<E: Float, W: Float>(
    parts: &Tensor<E>,
    weights: &mut Tensor<W>,
    count: usize,
    total: usize,
    taps: usize,
    channels: usize,
    #[define(E, W)] _numbers: [ElemType; 2],
) {
    let at = ABSOLUTE_POS;
    if at < total {
        let within = at % (taps * channels);
        let result = at / (taps * channels);
        let mut sum = 0.0f32;
        for part in 0..count {
            let from = part * parts.stride(0) + result * parts.stride(1) + within;
            sum += f32::cast_from(parts[from]);
        }
        let (tap, channel) = (within / channels, within % channels);
        weights[(result * channels + channel) * taps + tap] = W::cast_from(sum);
    }
}

/// Into how many parts so many places are split, for so many weights.
fn parts(places: usize, weights: usize) -> usize {
    let [least, most] = if weights <= FEW {
        FEW_WEIGHTS
    } else {
        MANY_WEIGHTS
    };
    let most = (places / least).clamp(1, most);
    let powers = (0..=most.ilog2()).rev().map(|power| 1 << power);
    let mut fitting = powers.filter(|parts| places.is_multiple_of(*parts));
    fitting.next().unwrap_or(1)
}

/// Whether a device can hold so many numbers of patches in one piece, and a kernel count them.
fn has_room(features: &CubeTensor, numbers: usize) -> bool {
    let most = features.client.properties().memory.max_page_size;
    let bytes = (numbers * features.dtype.size()) as u64;
    bytes <= most && u32::try_from(numbers).is_ok()
}

/// The patches of features under a kernel with so many taps down and across, `[1, places, taps, channels]`.
fn unfold(
    features: &Rows,
    [down, across]: [usize; 2],
    [height_out, across_out]: [usize; 2],
    options: &ConvOptions<2>,
) -> CubeTensor {
    let Rows { tensor, pitch } = features;
    let [batch, height, width, channels] = tensor.meta.shape().dims();
    let (client, taps) = (&tensor.client, down * across);
    let shape = [1, batch * height_out * across_out, taps, channels];
    let patches = empty_device_contiguous_dtype(
        client.clone(),
        tensor.device.clone(),
        shape.into(),
        tensor.dtype,
    );
    let sizes = client.io_optimized_vector_sizes(tensor.dtype.size());
    let fits = |vector: &usize| channels.is_multiple_of(*vector) && pitch.is_multiple_of(*vector);
    let vector = sizes.filter(fits).max().unwrap_or(1);
    let total = shape.iter().product::<usize>() / vector;
    let cube = CubeDim::new(client, total);
    let [padding_down, padding_across] = options.padding_begin();
    gather::launch(
        client,
        calculate_cube_count_elemwise(client, total, cube),
        cube,
        vector,
        tensor.clone().into_tensor_arg(),
        patches.clone().into_tensor_arg(),
        total,
        channels / vector,
        pitch / vector,
        height,
        width,
        height_out,
        across_out,
        taps,
        across,
        options.stride[0],
        options.stride[1],
        padding_down,
        padding_across,
        numbers(tensor.dtype),
    );
    patches
}

impl GpuConvolution for CubeBackend {
    fn weight_gradient(
        input: CubeTensor,
        weight: CubeTensor,
        gradient: CubeTensor,
        options: ConvOptions<2>,
    ) -> CubeTensor {
        let [results, channels, down, across] = weight.meta.shape().dims();
        let [batch, _, height_out, across_out] = gradient.meta.shape().dims();
        let (taps, dtype) = (down * across, input.dtype);
        let places = batch * height_out * across_out;
        let plain = taps == 1 && options.stride == [1, 1] && options.padding_begin() == [0, 0];
        if !plain && !has_room(&input, places * taps * channels) {
            return weight_gradient_of_burn::<Self>(input, weight, gradient, options);
        }
        let (input, gradient) = (Rows::new(input), Rows::new(gradient));
        let seen = if plain {
            input.tensor
        } else {
            unfold(&input, [down, across], [height_out, across_out], &options)
        };

        let count = parts(places, results * channels * taps);
        let each = places / count;
        let seen = reshape(seen, [count, each, taps * channels].into());
        let gradient = reshape(gradient.tensor, [count, each, results].into());
        let gradient = permute(gradient, &[0, 2, 1]);
        let strategy = MatmulStrategy::default();
        let products = matmul(gradient, seen, None, strategy, dtype).expect("a matrix product");

        let client = &products.client;
        let by_weight = empty_device_contiguous_dtype(
            client.clone(),
            products.device.clone(),
            weight.meta.shape().clone(),
            weight.dtype,
        );
        let total = results * channels * taps;
        let cube = CubeDim::new(client, total);
        sum::launch(
            client,
            calculate_cube_count_elemwise(client, total, cube),
            cube,
            products.clone().into_tensor_arg(),
            by_weight.clone().into_tensor_arg(),
            count,
            total,
            taps,
            channels,
            [numbers(dtype), numbers(weight.dtype)],
        );
        by_weight
    }
}
