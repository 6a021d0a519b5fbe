//! Convolutions on GPUs: selection of the form, the bias, and folding of a batch normalisation.
//!
//! The forward pass and the gradient with respect to the input are Burn's convolutions. One kernel of this
//! crate converts the weights and lays them out, with channels innermost, once for the forward and the
//! backward pass. In half precision and without autodiff, that kernel also folds in a batch normalisation,
//! so that no feature map is written in single precision between convolution and normalisation. The
//! epilogue is one more kernel.

use burn::{
    backend::Dispatch,
    tensor::{DType, Tensor, ops::ConvOptions},
};

use super::{extension::GpuConvolution, fits, form::Form};
use crate::{epilogue::Epilogue, normalisation::BatchNormParams};

/// The form in which a convolution is computed on a GPU; `None` if it is left to Burn as it is.
pub(super) fn form(
    input: &Tensor<4>,
    weight: &Tensor<4>,
    bias: Option<&Tensor<1>>,
    options: &ConvOptions<2>,
) -> Option<Form> {
    let types = [input.dtype(), weight.dtype()];
    let native = fits(input, weight, bias, options)
        && options.dilation == [1, 1]
        && crate::is_cube(&input.device(), &types);
    if !native {
        return None;
    }
    if crate::is_cuda(&input.device()) {
        if options.groups > 1 {
            return Form::of_groups(options.groups, input.dims()[1]);
        }
        // Up to four channels are too few for a matrix product.
        if options.stride == [2, 2] && input.dims()[1] <= 4 {
            return Some(Form::Stem);
        }
    }
    (options.groups == 1).then_some(Form::Whole)
}

/// Computes a convolution in a form, with a bias and an epilogue.
pub(super) fn convolve(
    input: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    (options, form): (ConvOptions<2>, Form),
    epilogue: Epilogue<4>,
) -> Tensor<4> {
    let ([results, _, _, _], dtype) = (weight.dims(), input.dtype());
    let plain = |of: &Tensor<1>| of.dtype() == DType::F32 && !of.device().is_autodiff();
    let untracked = !is_tracked(&input, &weight);
    let (input, weight) = (input.into_dispatch(), weight.into_dispatch());
    match bias {
        Some(bias) if untracked && plain(&bias) && is_half(dtype) => {
            // The bias is converted by the same kernel as the weights.
            let bias = bias.into_dispatch();
            let (output, shift) = Dispatch::convolve_biased(input, weight, bias, options, form);
            epilogue.apply_shifted(Tensor::from_dispatch(output), Tensor::from_dispatch(shift))
        }
        bias => {
            let output = Tensor::from_dispatch(Dispatch::convolve(input, weight, options, form));
            match bias {
                Some(bias) if untracked && plain(&bias) => epilogue.apply_shifted(output, bias),
                Some(bias) => epilogue.apply(output + bias.cast(dtype).reshape([1, results, 1, 1])),
                None => epilogue.apply(output),
            }
        }
    }
}

fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

fn is_tracked(input: &Tensor<4>, weight: &Tensor<4>) -> bool {
    input.device().is_autodiff() || weight.device().is_autodiff()
}

/// The form of a convolution into whose weights a normalisation is folded; `None` if that is not possible.
/// Only half precision qualifies, because its weights are converted in any case.
pub(super) fn folds(
    input: &Tensor<4>,
    weight: &Tensor<4>,
    bias: Option<&Tensor<1>>,
    options: &ConvOptions<2>,
    normalisation: &BatchNormParams,
) -> Option<Form> {
    let BatchNormParams {
        weight: gamma,
        bias: level,
        mean,
        variance,
        ..
    } = normalisation;
    let results = weight.dims()[0];
    let all = [gamma, level, mean, variance].into_iter().chain(bias);
    let fits = all
        .into_iter()
        .all(|of| of.dims() == [results] && of.dtype() == DType::F32 && !of.device().is_autodiff());
    if !fits || is_tracked(input, weight) || !is_half(input.dtype()) {
        return None;
    }
    form(input, weight, bias, options)
}

/// Computes a convolution in a form, with a normalisation folded into its weights, and an epilogue.
pub(super) fn folded(
    input: Tensor<4>,
    weight: Tensor<4>,
    (options, form): (ConvOptions<2>, Form),
    normalisation: BatchNormParams,
    epilogue: Epilogue<4>,
) -> Tensor<4> {
    let (output, shift) = Dispatch::convolve_folded(
        input.into_dispatch(),
        weight.into_dispatch(),
        normalisation.weight.into_dispatch(),
        normalisation.bias.into_dispatch(),
        normalisation.mean.into_dispatch(),
        normalisation.variance.into_dispatch(),
        normalisation.epsilon,
        options,
        form,
    );
    epilogue.apply_shifted(Tensor::from_dispatch(output), Tensor::from_dispatch(shift))
}

#[cfg(all(test, feature = "wgpu"))]
mod tests {
    use burn::tensor::{Device, module, s};

    use super::*;
    use crate::normalisation::batch_norm;

    /// Values that are the same in every run.
    fn waves(shape: [usize; 4], step: f32, device: &Device) -> Tensor<4> {
        let count = shape.iter().product::<usize>();
        let values: Vec<f32> = (0..count).map(|at| (at as f32 * step).sin()).collect();
        Tensor::<1>::from_data(values.as_slice(), device).reshape(shape)
    }

    /// A GPU and a CPU.
    fn devices() -> [Device; 2] {
        let gpu = Device::wgpu(burn::tensor::DeviceKind::DefaultDevice);
        [gpu, Device::flex()].map(Device::autodiff)
    }

    /// Asserts that a convolution in a form on a GPU equals Burn's convolution on a CPU, forward and
    /// backward. The operands are contiguous tensors, then views of every second row.
    fn assert_equals_burn(form: Form, sizes: [[usize; 4]; 2], options: &ConvOptions<2>) {
        for views in [false, true] {
            let results = devices().map(|device| {
                let [mut input, mut weight] = [sizes[0], sizes[1]];
                if views {
                    (input[2], weight[0]) = (2 * input[2], 2 * weight[0]);
                }
                let input = waves(input, 0.7, &device);
                let weight = waves(weight, 1.3, &device);
                let (input, weight) = if views {
                    (
                        input.slice(s![.., .., ..;2, ..]),
                        weight.slice(s![..;2, .., .., ..]),
                    )
                } else {
                    (input, weight)
                };
                let [input, weight] = [input, weight].map(|of| of.detach().require_grad());
                let output = if crate::is_cube(&device, &[]) {
                    let both = (options.clone(), form);
                    convolve(input.clone(), weight.clone(), None, both, Epilogue::None)
                } else {
                    module::conv2d(input.clone(), weight.clone(), None, options.clone())
                };
                let upstream = waves(output.dims(), 0.9, &device);
                let gradients = (output.clone() * upstream).sum().backward();
                let by = |of: &Tensor<4>| of.grad(&gradients).expect("a gradient");
                [output.inner(), by(&input), by(&weight)].map(|of| {
                    let data = of.into_data();
                    (
                        data.shape().to_vec(),
                        data.try_to_vec::<f32>().expect("values"),
                    )
                })
            });
            let [found, expected] = results;
            for ((shape, found), (same, expected)) in found.into_iter().zip(expected) {
                assert_eq!(shape, same);
                let off = found
                    .iter()
                    .zip(&expected)
                    .map(|(one, other)| (one - other).abs());
                let off = off.fold(0.0, f32::max);
                assert!(
                    off < 1e-4,
                    "{form:?} of {sizes:?}, {options:?}: {shape:?} differs by {off}"
                );
            }
        }
    }

    #[test]
    fn dense_weights_convolve_like_groups() {
        let options = ConvOptions::new([2, 1], [1, 0], [1, 1], 3);
        assert_equals_burn(Form::Groups(3), [[2, 6, 5, 4], [9, 2, 3, 2]], &options);
        let options = ConvOptions::new([1, 1], [1, 1], [1, 1], 4);
        assert_equals_burn(Form::Groups(4), [[1, 4, 4, 3], [4, 1, 3, 3]], &options);
    }

    #[test]
    fn blocks_of_four_pixels_convolve_like_a_stride_of_two() {
        for (channels, size, kernel, padding) in [
            (3, [12, 8], [7, 7], [3, 3]),
            (4, [11, 9], [7, 4], [3, 2]),
            (1, [5, 6], [3, 1], [1, 0]),
            (3, [7, 7], [2, 5], [0, 1]),
        ] {
            let options = ConvOptions::new([2, 2], padding, [1, 1], 1);
            let input = [2, channels, size[0], size[1]];
            let weight = [5, channels, kernel[0], kernel[1]];
            assert_equals_burn(Form::Stem, [input, weight], &options);
        }
    }

    #[test]
    fn every_form_supports_biases_and_normalisations() {
        let cases = [
            (Form::Whole, [5, 4, 3, 3], [1, 2], 1),
            (Form::Groups(2), [6, 2, 3, 2], [1, 1], 2),
            (Form::Stem, [5, 4, 7, 3], [2, 2], 1),
        ];
        for (form, sizes, stride, groups) in cases {
            let options = ConvOptions::new(stride, [1, 1], [1, 1], groups);
            let results = devices().map(|device| {
                let device = device.without_autodiff();
                let of_results =
                    |step: f32| waves([1, 1, 1, sizes[0]], step, &device).reshape([sizes[0]]);
                let norm = BatchNormParams {
                    weight: of_results(0.3),
                    bias: of_results(0.5),
                    mean: of_results(0.7),
                    variance: of_results(0.9).abs() + 0.5,
                    epsilon: 1e-5,
                };
                let input = waves([2, 4, 9, 8], 0.7, &device);
                let (weight, bias) = (waves(sizes, 1.3, &device), of_results(1.1));
                let biased = module::conv2d(
                    input.clone(),
                    weight.clone(),
                    Some(bias.clone()),
                    options.clone(),
                );
                let shortcut = waves(biased.dims(), 1.7, &device);
                let epilogues = [Epilogue::None, Epilogue::Relu, Epilogue::AddRelu(shortcut)];
                let outputs = epilogues.map(|epilogue| {
                    let epilogue = || epilogue.clone();
                    if !crate::is_cube(&device, &[]) {
                        let normalised = batch_norm(biased.clone(), norm.clone(), Epilogue::None);
                        return [normalised, biased.clone()].map(|map| epilogue().apply(map));
                    }
                    let (input_of, weight_of) = (input.clone(), weight.clone());
                    let (norm, both) = (norm.clone().after(Some(bias.clone())), options.clone());
                    let normalised = folded(input_of, weight_of, (both, form), norm, epilogue());
                    let (output, shift) = Dispatch::convolve_biased(
                        input.clone().into_dispatch(),
                        weight.clone().into_dispatch(),
                        bias.clone().into_dispatch(),
                        options.clone(),
                        form,
                    );
                    let (output, shift) =
                        (Tensor::from_dispatch(output), Tensor::from_dispatch(shift));
                    [normalised, epilogue().apply_shifted(output, shift)]
                });
                let outputs = outputs.into_iter().flatten();
                let read = |of: Tensor<4>| of.into_data().try_to_vec::<f32>().expect("values");
                outputs.map(read).collect::<Vec<_>>()
            });
            let [found, expected] = results;
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!(found.len(), expected.len());
                let off = found
                    .iter()
                    .zip(expected)
                    .map(|(one, other)| (one - other).abs());
                let off = off.fold(0.0, f32::max);
                assert!(off < 1e-4, "{form:?}: differs by {off}");
            }
        }
    }

    #[test]
    fn whole_convolutions_equal_burns() {
        let options = ConvOptions::new([1, 2], [1, 0], [1, 1], 1);
        assert_equals_burn(Form::Whole, [[2, 6, 5, 4], [9, 6, 3, 2]], &options);
        let options = ConvOptions::new([1, 1], [0, 0], [1, 1], 1);
        assert_equals_burn(Form::Whole, [[2, 8, 5, 4], [7, 8, 1, 1]], &options);
    }
}
