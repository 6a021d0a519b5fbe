//! The layout of convolution operands on GPUs, and the gradient with respect to the weights as a matrix
//! product.
//!
//! ```text
//! dW[o, t, c] = Σ_r dY[r, o] · X[r, t, c]        r the positions of all images, t the taps of the kernel
//! ```
//!
//! The gradient is one copy of patches and one matrix product. Only the matrix product needs autotuning.
//! There are many positions and few weights, so the positions are split into parts whose products run in
//! parallel; the parts are then added in single precision.
//!
//! Until the product is done, the patches take as many times the memory of the features as the kernel has
//! taps. If that does not fit into the memory of the device, the gradient is computed by Burn.

use burn::{backend::ops::ModuleOps, tensor::ops::ConvOptions};
use burn_cubecl::{
    CubeBackend,
    cubecl::{calculate_cube_count_elemwise, prelude::*},
    kernel::{
        into_contiguous,
        matmul::{MatmulStrategy, matmul},
    },
    ops::{permute, reshape},
    tensor::CubeTensor,
};

mod kernels;

use kernels::{WeightsLaunch, depth_to_space, fold, gather, lay_out, space_to_depth, sum};

use super::{
    extension::GpuConvolution,
    form::{Form, Layout, Stem},
};
use crate::cube::{Rows, channels_second, elem_type, empty, single};

/// The smallest number of positions in a part, and the largest number of parts.
const MANY_WEIGHTS: [usize; 2] = [2048, 64];
/// As [`MANY_WEIGHTS`], for few weights: a part then keeps only a few units of the GPU busy.
const FEW_WEIGHTS: [usize; 2] = [512, 256];
/// The largest number of weights to which [`FEW_WEIGHTS`] applies.
const FEW: usize = 1 << 16;

/// The number of parts into which the positions are split.
fn parts(positions: usize, weights: usize) -> usize {
    let [least, most] = if weights <= FEW {
        FEW_WEIGHTS
    } else {
        MANY_WEIGHTS
    };
    let most = (positions / least).clamp(1, most);
    let powers = (0..=most.ilog2()).rev().map(|power| 1 << power);
    let mut fitting = powers.filter(|parts| positions.is_multiple_of(*parts));
    fitting.next().unwrap_or(1)
}

/// Whether patches of so many values fit into one allocation, and a kernel can index them with 32 bits.
fn has_room(features: &CubeTensor, values: usize) -> bool {
    let most = features.client.properties().memory.max_page_size;
    let bytes = (values * features.dtype.size()) as u64;
    bytes <= most && u32::try_from(values).is_ok()
}

/// Copies the patches of features under a kernel (im2col), `[1, positions, taps, channels]`.
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
    let patches = empty(tensor, shape, tensor.dtype);
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
        elem_type(tensor.dtype),
    );
    patches
}

/// The sizes of the weights and of the dense weights that they are rewritten as.
fn weights(weight: [usize; 4], layout: &Layout) -> WeightsLaunch {
    let [results, channels, down, across] = weight;
    let [_, dense_channels, dense_down, dense_across] = layout.shape(weight);
    let (groups, before) = match layout.form {
        Form::Whole => (1, [0, 0]),
        Form::Groups(groups) => (groups, [0, 0]),
        Form::Stem => (1, layout.padding.map(|padding| padding % 2)),
    };
    WeightsLaunch::new(
        results / groups,
        channels,
        down,
        across,
        dense_down * dense_across,
        dense_across,
        dense_channels,
        before[0],
        before[1],
    )
}

/// Multiplies the gradient and the patches, part by part: `[parts, results, taps · channels]`.
fn products(
    input: CubeTensor,
    gradient: CubeTensor,
    [results, channels, down, across]: [usize; 4],
    options: &ConvOptions<2>,
) -> CubeTensor {
    let [batch, _, height_out, across_out] = gradient.meta.shape().dims();
    let (taps, dtype) = (down * across, input.dtype);
    let positions = batch * height_out * across_out;
    let (input, gradient) = (Rows::new(input), Rows::new(gradient));
    let patches = if reads_one_position(taps, options) {
        input.tensor
    } else {
        unfold(&input, [down, across], [height_out, across_out], options)
    };
    let count = parts(positions, results * channels * taps);
    let each = positions / count;
    let patches = reshape(patches, [count, each, taps * channels].into());
    let gradient = reshape(gradient.tensor, [count, each, results].into());
    let gradient = permute(gradient, &[0, 2, 1]);
    let strategy = MatmulStrategy::default();
    matmul(gradient, patches, None, strategy, dtype).expect("a strategy for this matrix product")
}

/// Whether each result reads only the input at its own position, so that the input itself holds the patches.
fn reads_one_position(taps: usize, options: &ConvOptions<2>) -> bool {
    taps == 1 && options.stride == [1, 1] && options.padding_begin() == [0, 0]
}

/// Rewrites weights and a bias in the layout and its dtype. If `epsilon` is given, the normalisation
/// (weight, bias, mean, variance) is folded in; otherwise only its bias is used.
fn with_shift(
    weight: CubeTensor,
    normalisation: [CubeTensor; 4],
    epsilon: Option<f64>,
    layout: &Layout,
) -> (CubeTensor, CubeTensor) {
    let dtype = layout.dtype;
    let given = weight.meta.shape().dims();
    let [results, channels, down, across] = layout.shape(given);
    let client = weight.client.clone();
    let dense = empty(&weight, [results, down, across, channels], dtype);
    let shift = empty(&weight, [results], dtype);
    let [gamma, bias, mean, variance] = normalisation.map(into_contiguous);
    let total = results * channels * down * across;
    let cube = CubeDim::new(&client, total);
    let types = [elem_type(weight.dtype), elem_type(dtype)];
    fold::launch(
        &client,
        calculate_cube_count_elemwise(&client, total, cube),
        cube,
        weight.into_tensor_arg(),
        gamma.into_buffer_arg(),
        bias.into_buffer_arg(),
        mean.into_buffer_arg(),
        variance.into_buffer_arg(),
        dense.clone().into_tensor_arg(),
        shift.clone().into_tensor_arg(),
        single(epsilon.unwrap_or_default()),
        total,
        weights(given, layout),
        layout.form == Form::Stem,
        epsilon.is_some(),
        types,
    );
    (channels_second(dense), shift)
}

impl GpuConvolution for CubeBackend {
    fn space_to_depth(images: CubeTensor, stem: Stem) -> CubeTensor {
        let Stem {
            padding, pixels, ..
        } = stem;
        let [batch, channels, rows, columns] = pixels;
        let (client, dtype) = (images.client.clone(), images.dtype);
        let result = empty(&images, [batch, rows, columns, channels], dtype);
        let total = pixels.iter().product();
        let cube = CubeDim::new(&client, total);
        space_to_depth::launch(
            &client,
            calculate_cube_count_elemwise(&client, total, cube),
            cube,
            images.into_tensor_arg(),
            result.clone().into_tensor_arg(),
            total,
            rows,
            columns,
            padding[0],
            padding[1],
            elem_type(dtype),
        );
        channels_second(result)
    }

    fn depth_to_space(pixels: CubeTensor, stem: Stem) -> CubeTensor {
        let Stem {
            images, padding, ..
        } = stem;
        let (client, dtype) = (pixels.client.clone(), pixels.dtype);
        let result = empty(&pixels, images, dtype);
        let pixels = permute(pixels, &[0, 2, 3, 1]);
        let total = images.iter().product();
        let cube = CubeDim::new(&client, total);
        depth_to_space::launch(
            &client,
            calculate_cube_count_elemwise(&client, total, cube),
            cube,
            pixels.into_tensor_arg(),
            result.clone().into_tensor_arg(),
            total,
            padding[0],
            padding[1],
            elem_type(dtype),
        );
        result
    }

    fn laid_out(weight: CubeTensor, layout: Layout) -> CubeTensor {
        let dtype = layout.dtype;
        let given = weight.meta.shape().dims();
        let [results, channels, down, across] = layout.shape(given);
        if layout.form == Form::Whole && weight.dtype == dtype && down * across == 1 {
            return weight;
        }
        let client = weight.client.clone();
        let dense = empty(&weight, [results, down, across, channels], dtype);
        let total = results * channels * down * across;
        let cube = CubeDim::new(&client, total);
        let types = [elem_type(weight.dtype), elem_type(dtype)];
        lay_out::launch(
            &client,
            calculate_cube_count_elemwise(&client, total, cube),
            cube,
            weight.into_tensor_arg(),
            dense.clone().into_tensor_arg(),
            total,
            weights(given, &layout),
            layout.form == Form::Stem,
            types,
        );
        channels_second(dense)
    }

    fn biased(weight: CubeTensor, bias: CubeTensor, layout: Layout) -> (CubeTensor, CubeTensor) {
        // Without an epsilon, only the bias of the normalisation is used.
        let none = [(); 4].map(|()| bias.clone());
        with_shift(weight, none, None, &layout)
    }

    fn folded(
        weight: CubeTensor,
        gamma: CubeTensor,
        bias: CubeTensor,
        mean: CubeTensor,
        variance: CubeTensor,
        epsilon: f64,
        layout: Layout,
    ) -> (CubeTensor, CubeTensor) {
        let all = [gamma, bias, mean, variance];
        with_shift(weight, all, Some(epsilon), &layout)
    }

    fn weight_gradient(
        input: CubeTensor,
        dense: CubeTensor,
        weight: CubeTensor,
        gradient: CubeTensor,
        options: ConvOptions<2>,
        layout: Layout,
    ) -> CubeTensor {
        let sizes @ [results, channels, down, across] = dense.meta.shape().dims();
        let [batch, _, height_out, across_out] = gradient.meta.shape().dims();
        let (taps, positions) = (down * across, batch * height_out * across_out);
        let products = if reads_one_position(taps, &options)
            || has_room(&input, positions * taps * channels)
        {
            products(input, gradient, sizes, &options)
        } else {
            let all = Self::conv2d_weight_backward(input, dense, gradient, options);
            let all = into_contiguous(permute(all, &[0, 2, 3, 1]));
            reshape(all, [1, results, taps * channels].into())
        };

        let client = products.client.clone();
        let given = weight.meta.shape().clone();
        let by_weight = empty(&products, given.clone(), weight.dtype);
        let total = given.num_elements();
        let cube = CubeDim::new(&client, total);
        let count = products.meta.shape()[0];
        let types = [elem_type(products.dtype), elem_type(weight.dtype)];
        sum::launch(
            &client,
            calculate_cube_count_elemwise(&client, total, cube),
            cube,
            products.into_tensor_arg(),
            by_weight.clone().into_tensor_arg(),
            count,
            total,
            weights(given.dims(), &layout),
            layout.form == Form::Stem,
            types,
        );
        by_weight
    }
}
