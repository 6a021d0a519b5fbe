//! Convolution.

#[cfg(any(test, feature = "cuda"))]
use burn::tensor::{Int, ops::PadMode};
use burn::tensor::{Tensor, activation::relu, module, ops::ConvOptions, s};

use crate::normalisation::{Normalisation, batch_norm};

#[cfg(feature = "_cube")]
mod cube;
#[cfg(feature = "_cube")]
mod extension;

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
/// - result: `[batch, channels out, height out, width out]`, in the type of the input, whatever that of
///   weights and bias
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
        // What is added before the mean is subtracted.
        let mean = match bias {
            Some(bias) => normalisation.mean - bias,
            None => normalisation.mean,
        };
        return Tensor::from_dispatch(Dispatch::convolve_normalised(
            input.into_dispatch(),
            weight.into_dispatch(),
            normalisation.gain.into_dispatch(),
            normalisation.bias.into_dispatch(),
            mean.into_dispatch(),
            normalisation.variance.into_dispatch(),
            normalisation.epsilon,
            convolution,
            normalisation.rectify,
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

/// The same by Burn's operations, in the form that suits the device.
fn composed(
    input: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    options: ConvOptions<2>,
) -> Tensor<4> {
    #[cfg(feature = "cuda")]
    if crate::is_cuda(&input.device()) {
        if is_grouped(&input, &weight, &options) {
            // With groups Burn has no matrix product there, and in the backward pass one kernel after
            // another for each of them.
            let whole = ConvOptions {
                groups: 1,
                ..options
            };
            return composed(input, block_diagonal(weight, options.groups), bias, whole);
        }
        if is_stem(&input, &weight, &options) {
            let (input, weight) = blocks(input, weight, options.padding_begin());
            let plain = ConvOptions::new([1, 1], [0, 0], [1, 1], 1);
            return on_gpu(input, weight, bias, plain);
        }
    }
    #[cfg(feature = "_cube")]
    if crate::is_cube(&input.device(), &[]) {
        return on_gpu(input, weight, bias, options);
    }
    let strided = options.stride != [1, 1];
    let pointwise = weight.dims()[2..] == [1, 1] && options.padding_begin() == [0, 0];
    if strided && pointwise && options.padding_end() == [0, 0] {
        // Positions that are skipped are dropped first: CPU backends have no matrix product for a
        // strided convolution, but one for what is left.
        let [down, across] = options.stride;
        let kept = input.slice(s![.., .., ..;down, ..;across]);
        let options = ConvOptions::new([1, 1], [0, 0], [1, 1], options.groups);
        return converted(kept, weight, bias, options);
    }
    converted(input, weight, bias, options)
}

/// Burn's convolution, with weights in the type of the input.
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

/// Burn's convolution, with a backward pass of this crate where there are no groups.
#[cfg(feature = "_cube")]
fn on_gpu(
    input: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    options: ConvOptions<2>,
) -> Tensor<4> {
    use burn::backend::Dispatch;
    use extension::GpuConvolution;

    let types = [input.dtype(), weight.dtype()];
    let fits = options.groups == 1
        && fits(&input, &weight, bias.as_ref(), &options)
        && crate::is_cube(&input.device(), &types);
    if !fits {
        return converted(input, weight, bias, options);
    }
    let [results, _, _, _] = weight.dims();
    let dtype = input.dtype();
    let (input, weight) = (input.into_dispatch(), weight.into_dispatch());
    let output = Tensor::from_dispatch(Dispatch::convolve_whole(input, weight, options));
    match bias {
        Some(bias) => output + bias.cast(dtype).reshape([1, results, 1, 1]),
        None => output,
    }
}

/// Whether a convolution has groups, and fits them.
#[cfg(feature = "cuda")]
fn is_grouped(input: &Tensor<4>, weight: &Tensor<4>, options: &ConvOptions<2>) -> bool {
    let groups = options.groups;
    let [results, per_group, _, _] = weight.dims();
    groups > 1 && input.dims()[1] == per_group * groups && results.is_multiple_of(groups)
}

/// Whether a convolution is one of every second position of an image: too few channels for a matrix
/// product.
#[cfg(any(test, feature = "cuda"))]
fn is_stem(input: &Tensor<4>, weight: &Tensor<4>, options: &ConvOptions<2>) -> bool {
    let few = options.groups == 1 && input.dims()[1] <= 4;
    few && options.stride == [2, 2] && fits(input, weight, None, options)
}

/// Images and weights of a convolution of every second position, as ones of every position: four pixels
/// become one of sixteen channels, with zeros for channels and taps that are not there.
///
/// ```text
/// x'[n, (a, b, c), i, j] = x[n, c, 2 i + a - p', 2 j + b - p']        p' the padding, or one more, so that it is even
/// ```
#[cfg(any(test, feature = "cuda"))]
fn blocks(input: Tensor<4>, weight: Tensor<4>, padding: [usize; 2]) -> (Tensor<4>, Tensor<4>) {
    let [batch, channels, height, width] = input.dims();
    let [results, _, down, across] = weight.dims();
    // Taps before the first, and all of them, in pairs.
    let before = padding.map(|padding| padding % 2);
    let taps = [down + before[0], across + before[1]].map(|taps| taps.next_multiple_of(2));
    let seen = [0, 1].map(|axis| {
        let (size, kernel) = ([height, width][axis], [down, across][axis]);
        (size + 2 * padding[axis] - kernel) / 2 * 2 + taps[axis]
    });
    let more = 4 - channels;
    let begin = [0, 1].map(|axis| padding[axis] + before[axis]);
    // What no tap sees at the end is left out.
    let kept = [0, 1].map(|axis| [height, width][axis].min(seen[axis] - begin[axis]));
    let input = input.slice(s![.., .., ..kept[0], ..kept[1]]);
    let end = [0, 1].map(|axis| seen[axis] - begin[axis] - kept[axis]);
    let input = input.pad(
        [(0, 0), (0, more), (begin[0], end[0]), (begin[1], end[1])],
        PadMode::Constant(0.0),
    );
    let [rows, columns] = seen.map(|seen| seen / 2);
    let input = input.reshape([batch, 4, rows, 2, columns, 2]);
    let input = input.permute([0, 2, 4, 3, 5, 1]);
    let input = input.reshape([batch, rows, columns, 16]);

    let after = [taps[0] - before[0] - down, taps[1] - before[1] - across];
    let around = [
        (0, 0),
        (0, more),
        (before[0], after[0]),
        (before[1], after[1]),
    ];
    let weight = weight.pad(around, PadMode::Constant(0.0));
    let [down, across] = taps.map(|taps| taps / 2);
    let weight = weight.reshape([results, 4, down, 2, across, 2]);
    let weight = weight.permute([0, 2, 4, 3, 5, 1]);
    let weight = weight.reshape([results, down, across, 16]);
    // Channels stay innermost.
    let [input, weight] = [input, weight].map(|of| of.permute([0, 3, 1, 2]));
    (input, weight)
}

/// The weights `[channels out, channels, height, width]` of a convolution without groups that gives what
/// these give with groups: those between groups are 0. Channels lie innermost. (What is not a number in one
/// group becomes so in all.)
#[cfg(any(test, feature = "cuda"))]
fn block_diagonal(weight: Tensor<4>, groups: usize) -> Tensor<4> {
    let [results, per_group, down, across] = weight.dims();
    let device = weight.device();
    let group = |shape: [usize; 4]| {
        let numbers = 0..i64::try_from(groups).expect("a number of groups");
        Tensor::<1, Int>::arange(numbers, &device).reshape(shape)
    };
    let other = group([groups, 1, 1, 1]).not_equal(group([1, 1, groups, 1]));
    let each = results / groups * down * across;
    let own = weight.permute([0, 2, 3, 1]);
    let own = own.reshape([groups, each, 1, per_group]);
    let shape = [groups, each, groups, per_group];
    let all = own.expand(shape).mask_fill(other.expand(shape), 0.0);
    let all = all.reshape([results, down, across, groups * per_group]);
    all.permute([0, 3, 1, 2])
}

/// Whether a convolution is one that is computed here, by its sizes. What does not fit is left to Burn, which
/// says what is wrong with it.
#[cfg(any(test, feature = "flex", feature = "_cube"))]
fn fits(
    input: &Tensor<4>,
    weight: &Tensor<4>,
    bias: Option<&Tensor<1>>,
    options: &ConvOptions<2>,
) -> bool {
    let [_, channels, height, width] = input.dims();
    let [results, per_group, down, across] = weight.dims();
    let padding = options.padding_begin();
    channels == per_group * options.groups
        && results.is_multiple_of(options.groups)
        && bias.is_none_or(|bias| bias.dims() == [results])
        && options.dilation == [1, 1]
        && options.padding_end() == padding
        && height + 2 * padding[0] >= down
        && width + 2 * padding[1] >= across
        && weight.shape().num_elements() > 0
}

/// The sizes of a convolution that is computed here on a CPU.
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
    })
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    /// The same numbers in every run.
    fn waves(shape: [usize; 4], step: f32, device: &Device) -> Tensor<4> {
        let count = shape.iter().product::<usize>();
        let numbers: Vec<f32> = (0..count).map(|at| (at as f32 * step).sin()).collect();
        Tensor::<1>::from_data(numbers.as_slice(), device).reshape(shape)
    }

    #[test]
    fn groups_side_by_side_convolve_like_groups() {
        let device = Device::default().autodiff();
        let input = waves([2, 6, 5, 4], 0.7, &device);
        let weight = waves([9, 2, 3, 2], 1.3, &device).require_grad();
        let options = |groups| ConvOptions::new([2, 1], [1, 0], [1, 1], groups);
        let results = [(weight.clone(), 3), (block_diagonal(weight.clone(), 3), 1)];
        let [(grouped, by_grouped), (whole, by_whole)] = results.map(|(weights, groups)| {
            let output = module::conv2d(input.clone(), weights, None, options(groups));
            let gradients = output.clone().square().sum().backward();
            (output, weight.grad(&gradients).expect("a gradient"))
        });
        let off = (grouped - whole).abs().max().into_scalar::<f32>();
        assert!(off < 1e-5, "{off}");
        let off = (by_grouped - by_whole).abs().max().into_scalar::<f32>();
        assert!(off < 1e-4, "{off}");
    }

    #[test]
    fn four_pixels_at_once_convolve_like_every_second_position() {
        let device = Device::default().autodiff();
        for (size, kernel, padding) in [
            ([12, 8], [7, 7], [3, 3]),
            ([11, 9], [7, 4], [3, 2]),
            ([5, 6], [3, 1], [1, 0]),
            ([7, 7], [2, 5], [0, 1]),
        ] {
            let input = waves([2, 3, size[0], size[1]], 0.7, &device).require_grad();
            let weight = waves([5, 3, kernel[0], kernel[1]], 1.3, &device).require_grad();
            let options = ConvOptions::new([2, 2], padding, [1, 1], 1);
            assert!(is_stem(&input, &weight, &options));
            let (four, taps) = blocks(input.clone(), weight.clone(), padding);
            let expected = module::conv2d(input.clone(), weight.clone(), None, options);
            let options = ConvOptions::new([1, 1], [0, 0], [1, 1], 1);
            let found = module::conv2d(four, taps, None, options);
            let results = [found, expected].map(|output| {
                let gradients = output.clone().square().sum().backward();
                let by = |of: &Tensor<4>| of.grad(&gradients).expect("a gradient");
                [output.inner(), by(&input), by(&weight)]
            });
            let [found, expected] = results;
            for (found, expected) in found.into_iter().zip(expected) {
                let off = (found - expected).abs().max().into_scalar::<f32>();
                assert!(off < 1e-3, "{size:?}, {kernel:?}, {padding:?}: {off}");
            }
        }
    }
}
