//! Every operation gives what Burn's own operations give, forward and backward, for odd shapes too.

use burn::tensor::{
    DType, Device, Distribution, Int, Tensor, TensorData,
    activation::relu,
    module,
    ops::{ConvOptions, MaxPoolOptions},
};
use reid_ops::{
    AdamStep, Ending, Normalisation, RunningStatistics, adam, add_rectified, batch_norm,
    batch_norm_moving, batch_norm_train, conv2d, conv2d_ending, conv2d_normalised, cut_mix, gated,
    max_pool2d, means,
};

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

/// A normalisation by statistics far from 0 and 1.
fn normalisation(channels: usize, device: &Device) -> Normalisation {
    let one = || random([channels], device);
    Normalisation {
        gain: one(),
        bias: one(),
        mean: one() + 40.0,
        variance: one().square() + 0.5,
        epsilon: 1e-5,
    }
}

/// Every ending of a map of a shape.
fn endings<const D: usize>(shape: [usize; D], device: &Device) -> [Ending<D>; 3] {
    let shortcut = random(shape, device);
    [Ending::Plain, Ending::Rectified, Ending::Joined(shortcut)]
}

/// An ending by Burn's operations.
fn ended<const D: usize>(map: Tensor<D>, ending: Ending<D>) -> Tensor<D> {
    match ending {
        Ending::Plain => map,
        Ending::Rectified => relu(map),
        Ending::Joined(shortcut) => relu(map + shortcut),
    }
}

/// The largest difference, relative to the largest expected value.
fn difference<const D: usize>(found: &Tensor<D>, expected: &Tensor<D>) -> f32 {
    assert_eq!(found.dims(), expected.dims());
    let scale = expected.clone().abs().max().into_scalar::<f32>().max(1e-3);
    let worst = (found.clone() - expected.clone()).abs().max();
    worst.into_scalar::<f32>() / scale
}

fn close<const D: usize>(found: &Tensor<D>, expected: &Tensor<D>, what: &str) {
    let difference = difference(found, expected);
    assert!(difference < 1e-5, "{what}: {difference:e}");
}

struct Case {
    input: [usize; 4],
    results: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    groups: usize,
}

const CASES: [Case; 13] = [
    case([2, 3, 7, 6], 5, [3, 3], [1, 1], [1, 1], 1),
    case([1, 4, 8, 8], 16, [3, 3], [2, 2], [1, 1], 1),
    case([3, 6, 5, 9], 8, [3, 3], [1, 1], [0, 0], 2),
    case([2, 3, 15, 13], 7, [7, 7], [2, 2], [3, 3], 1),
    case([2, 8, 6, 5], 12, [1, 1], [1, 1], [0, 0], 1),
    case([2, 8, 6, 5], 12, [1, 1], [2, 2], [0, 0], 1),
    // Depthwise, a single number, and a kernel much larger than its image.
    case([1, 8, 4, 4], 8, [3, 3], [1, 1], [1, 1], 8),
    case([1, 1, 1, 1], 1, [1, 1], [1, 1], [0, 0], 1),
    case([2, 3, 1, 2], 4, [7, 7], [1, 1], [3, 3], 1),
    case([2, 13, 10, 3], 40, [2, 2], [3, 3], [1, 1], 1),
    case([2, 4, 9, 20], 6, [1, 5], [1, 2], [0, 2], 2),
    // Maps larger than a block, and more images than one task takes.
    case([1, 4, 33, 40], 4, [3, 3], [1, 1], [1, 1], 1),
    case([37, 16, 3, 2], 14, [3, 3], [1, 1], [1, 1], 1),
];

#[expect(clippy::too_many_arguments, reason = "a row of a table")]
const fn case(
    input: [usize; 4],
    results: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    groups: usize,
) -> Case {
    Case {
        input,
        results,
        kernel,
        stride,
        padding,
        groups,
    }
}

impl Case {
    fn options(&self) -> ConvOptions<2> {
        ConvOptions::new(self.stride, self.padding, [1, 1], self.groups)
    }

    fn weights(&self) -> [usize; 4] {
        let [down, across] = self.kernel;
        [self.results, self.input[1] / self.groups, down, across]
    }
}

#[test]
fn convolutions_and_their_gradients_are_burns() {
    let device = Device::default().autodiff();
    for (index, case) in CASES.iter().enumerate() {
        for biased in [false, true] {
            let input = random(case.input, &device).require_grad();
            let weight = random(case.weights(), &device).require_grad();
            let bias = random([case.results], &device).require_grad();
            let of = |native: bool| {
                let bias = biased.then(|| bias.clone());
                let (input, weight) = (input.clone(), weight.clone());
                if native {
                    conv2d(input, weight, bias, case.options())
                } else {
                    module::conv2d(input, weight, bias, case.options())
                }
            };
            let (found, expected) = (of(true), of(false));
            close(
                &found.clone().inner(),
                &expected.clone().inner(),
                &format!("{index}, forward"),
            );
            let pull = random(found.dims(), &device);
            let found = (found * pull.clone()).sum().backward();
            let expected = (expected * pull).sum().backward();
            let by = |gradients, tensor: &Tensor<4>| tensor.grad(gradients).expect("a gradient");
            close(
                &by(&found, &input),
                &by(&expected, &input),
                &format!("{index}, input"),
            );
            close(
                &by(&found, &weight),
                &by(&expected, &weight),
                &format!("{index}, weights"),
            );
            if biased {
                let by = |gradients| bias.grad(gradients).expect("a gradient");
                close(&by(&found), &by(&expected), &format!("{index}, bias"));
            }
        }
    }
}

#[test]
fn a_convolution_ends_as_its_map_would() {
    for device in [Device::default(), Device::default().autodiff()] {
        for ending in endings([2, 5, 7, 6], &device) {
            for bias in [None, Some(random([5], &device))] {
                let input = random([2, 3, 7, 6], &device);
                let weight = random([5, 3, 3, 3], &device);
                let options = || ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
                let map = conv2d(input.clone(), weight.clone(), bias.clone(), options());
                let expected = ended(map, ending.clone());
                let found = conv2d_ending(input, weight, bias, options(), ending.clone());
                assert_eq!(found.into_data(), expected.into_data());
            }
        }
    }
}

#[test]
fn a_normalised_convolution_is_a_convolution_normalised() {
    let (plain, trained) = (Device::default(), Device::default().autodiff());
    for (index, case) in CASES.iter().enumerate() {
        for biased in [false, true] {
            for [on, of] in [[&plain, &plain], [&trained, &trained], [&plain, &trained]] {
                let (input, weight) = (random(case.input, on), random(case.weights(), of));
                let bias = biased.then(|| random([case.results], of));
                let norm = Normalisation {
                    // What a convolution of so small numbers gives is off by less than statistics are.
                    mean: random([case.results], of),
                    ..normalisation(case.results, of)
                };
                // Numbers that do not lie one behind the other.
                let input = (input.swap_dims(2, 3) * 1.0).swap_dims(2, 3);
                let convolved = conv2d(input.clone(), weight.clone(), bias.clone(), case.options());
                let whole = batch_norm(convolved, norm.clone(), Ending::Plain);
                for ending in endings(whole.dims(), on) {
                    let (input, weight, bias) = (input.clone(), weight.clone(), bias.clone());
                    let expected = ended(whole.clone(), ending.clone());
                    let norm = (norm.clone(), ending.clone());
                    let found = conv2d_normalised(input, weight, bias, case.options(), norm);
                    close(&found, &expected, &format!("{index}, {biased}, {ending:?}"));
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "maps that are added to maps [1, 2, 3, 3]")]
fn a_shortcut_of_another_shape_is_refused() {
    let device = Device::default();
    let (input, weight) = (random([1, 2, 3, 3], &device), random([2, 2, 1, 1], &device));
    let options = ConvOptions::new([1, 1], [0, 0], [1, 1], 1);
    let ending = Ending::Joined(random([1, 2, 3, 1], &device));
    let _ = conv2d_ending(input, weight, Some(random([2], &device)), options, ending);
}

#[test]
fn plain_features_pass_trained_weights() {
    let (plain, trained) = (Device::default(), Device::default().autodiff());
    let one = || random([5], &trained).require_grad();
    let weight = random([5, 3, 3, 3], &trained).require_grad();
    let options = ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
    let input = random([2, 3, 7, 6], &plain);
    let features = conv2d_ending(input, weight, Some(one()), options, Ending::Rectified);
    let output = batch_norm(features, normalisation(5, &trained), Ending::Rectified);
    assert_eq!(output.dims(), [2, 5, 7, 6]);
    let map = || random([2, 5, 7, 6], &plain);
    let sum = batch_norm_train(map(), one(), one(), 1e-5, Ending::Joined(output)).output;
    assert!(add_rectified(map(), sum).min().into_scalar::<f32>() >= 0.0);
}

#[test]
fn what_is_not_contiguous_is_read_right() {
    let device = Device::default();
    let input = random([2, 6, 5, 3], &device).swap_dims(1, 3);
    let weight = random([3, 3, 3, 4], &device).swap_dims(0, 3);
    let options = || ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
    let expected = module::conv2d(input.clone(), weight.clone(), None, options());
    close(&conv2d(input, weight, None, options()), &expected, "views");
}

#[test]
fn views_are_read_right_by_every_operation() {
    type Operation<'a> = &'a dyn Fn(Tensor<4>) -> Tensor<4>;
    let device = Device::default().autodiff();
    let view = || random([2, 6, 5, 3], &device).swap_dims(1, 3);
    let one = || random([3], &device);
    let (left, right, gain, bias) = (view(), view(), one(), one());
    // The same numbers, one behind the other.
    let dense = |of: &Tensor<4>| Tensor::<4>::from_data(of.to_data(), &device);
    let pool = || MaxPoolOptions::new([3, 2]).with_stride([2, 1]);
    let operations: [Operation; 4] = [
        &|x| batch_norm_train(x, gain.clone(), bias.clone(), 1e-5, Ending::Rectified).output,
        &|x| joined(x, [gain.clone(), bias.clone()], right.clone()),
        &|x| add_rectified(x, right.clone()),
        &|x| max_pool2d(x, pool()),
    ];
    for operation in operations {
        let leaf = |of: Tensor<4>| of.detach().require_grad();
        let (viewed, laid_out) = (leaf(left.clone()), leaf(dense(&left)));
        let results = [&viewed, &laid_out].map(|leaf| operation(leaf.clone()));
        let [found, expected] = results.clone().map(Tensor::into_data);
        assert_eq!(found, expected);
        // A gradient that is a view too.
        let [of_view, of_dense] = results.map(|result| {
            let turned = result.swap_dims(2, 3);
            let shape @ [images, channels, width, height] = turned.dims();
            let count = i64::try_from(images * channels * width * height).expect("small");
            let weights = Tensor::arange(0..count, &device).float().reshape(shape);
            (turned * weights).sum().backward()
        });
        let by = |leaf: &Tensor<4>, gradients| leaf.grad(gradients).expect("a gradient");
        assert_eq!(
            by(&viewed, &of_view).into_data(),
            by(&laid_out, &of_dense).into_data()
        );
    }
}

/// A message says which operation was given nothing.
#[test]
fn an_empty_batch_is_refused() {
    type Operation = fn(Tensor<4>) -> Tensor<4>;
    let cases: [(&str, Operation); 9] = [
        ("convolution", |x| {
            let weight = Tensor::zeros([1, 2, 1, 1], &x.device());
            let options = ConvOptions::new([1, 1], [0, 0], [1, 1], 1);
            conv2d(x, weight, None, options)
        }),
        ("normalisation", |x| {
            let one = || Tensor::ones([2], &x.device());
            batch_norm_train(x.clone(), one(), one(), 1e-5, Ending::Plain).output
        }),
        ("normalisation", |x| {
            let norm = normalisation(2, &x.device());
            batch_norm(x, norm, Ending::Plain)
        }),
        ("convolution", |x| {
            let (weight, norm) = (
                Tensor::ones([2, 2, 1, 1], &x.device()),
                normalisation(2, &x.device()),
            );
            let options = ConvOptions::new([1, 1], [0, 0], [1, 1], 1);
            conv2d_normalised(x, weight, None, options, (norm, Ending::Plain))
        }),
        ("pooling", |x| max_pool2d(x, MaxPoolOptions::new([2, 2]))),
        ("sum", |x| add_rectified(x.clone(), x)),
        ("gate", |x| gated(x.clone(), x)),
        ("pooling", |x| means(x).unsqueeze()),
        ("mixing", |x| {
            let cut = Tensor::<3, Int>::zeros([0, 4, 4], &x.device()).bool();
            cut_mix(x, cut, &[], true)
        }),
    ];
    for (name, operation) in cases {
        let refused =
            std::panic::catch_unwind(|| operation(Tensor::zeros([0, 2, 4, 4], &Device::default())));
        let message = refused.expect_err("nothing in").downcast::<String>();
        let message = message.expect("a message");
        let expected = format!("{name} of an empty map, expected at least one number, found [0,");
        assert!(message.starts_with(&expected), "{message}");
    }
}

#[test]
fn other_precisions_and_dilation_are_burns_own() {
    let device = Device::default();
    let input = random([1, 2, 6, 6], &device);
    let weight = random([3, 2, 3, 3], &device);
    let options = ConvOptions::new([1, 1], [2, 2], [2, 2], 1);
    let expected = module::conv2d(input.clone(), weight.clone(), None, options.clone());
    let found = conv2d(input.clone(), weight.clone(), None, options.clone());
    assert_eq!(found.into_data(), expected.into_data());
    let double = DType::F64;
    let (input, weight) = (input.cast(double), weight.cast(double));
    let expected = module::conv2d(input.clone(), weight.clone(), None, options.clone());
    let found = conv2d(input, weight, None, options);
    assert_eq!(found.dtype(), double);
    assert_eq!(found.into_data(), expected.into_data());
}

#[test]
#[should_panic(expected = "channels")]
fn channels_that_do_not_fit_are_refused() {
    let device = Device::default();
    let options = ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
    let weight = Tensor::zeros([4, 3, 3, 3], &device);
    let _ = conv2d(Tensor::zeros([1, 2, 5, 5], &device), weight, None, options);
}

/// A batch with an offset, so that a variance by squares alone would be wrong.
fn batch(device: &Device) -> [Tensor<4>; 2] {
    let input = random([3, 5, 7, 3], device) * 0.5 + 40.0;
    [input, random([3, 5, 7, 3], device)]
}

#[test]
fn normalisations_and_their_gradients_are_burns() {
    let device = Device::default().autodiff();
    for ending in endings([3, 5, 7, 3], &device) {
        let [input, pull] = batch(&device);
        let input = input.require_grad();
        let gain = random([5], &device).require_grad();
        let bias = random([5], &device).require_grad();
        let (of, with) = (input.clone(), ending.clone());
        let found = batch_norm_train(of, gain.clone(), bias.clone(), 1e-5, with);
        // Composed in double precision: in single precision a variance about 40 loses digits.
        let double = |of: &Tensor<4>| of.clone().cast(DType::F64);
        let wide = |of: &Tensor<1>| of.clone().cast(DType::F64);
        let expected = module::batch_norm_train(double(&input), wide(&gain), wide(&bias), 1e-5);
        let single = DType::F32;
        close(
            &found.mean.inner(),
            &expected.mean.inner().cast(single),
            "mean",
        );
        close(
            &found.variance.inner(),
            &expected.variance.inner().cast(single),
            "variance",
        );
        let output = match ending {
            Ending::Joined(shortcut) => ended(expected.output, Ending::Joined(double(&shortcut))),
            other => ended(expected.output, other),
        };
        let (output, result) = (output.cast(single), found.output);
        let worst = difference(&result.clone().inner(), &output.clone().inner());
        assert!(worst < 1e-4, "{worst:e}");
        let found = (result * pull.clone()).sum().backward();
        let expected = (output * pull).sum().backward();
        let by = |gradients, tensor: &Tensor<4>| tensor.grad(gradients).expect("a gradient");
        let worst = difference(&by(&found, &input), &by(&expected, &input));
        assert!(worst < 1e-4, "{worst:e}");
        for parameter in [gain, bias] {
            let by = |gradients| parameter.grad(gradients).expect("a gradient");
            let worst = difference(&by(&found), &by(&expected));
            assert!(worst < 1e-4, "{worst:e}");
        }
    }
}

/// A normalisation that moves running statistics, joined with a shortcut.
fn joined(input: Tensor<4>, parameters: [Tensor<1>; 2], shortcut: Tensor<4>) -> Tensor<4> {
    let [mean, variance] = parameters.clone().map(Tensor::detach);
    let running = (RunningStatistics { mean, variance }, 0.1);
    let ending = Ending::Joined(shortcut);
    batch_norm_moving(input, parameters, 1e-5, ending, running).0
}

#[test]
fn a_joined_normalisation_and_its_gradients_are_burns() {
    let device = Device::default().autodiff();
    let [input, pull] = batch(&device).map(Tensor::require_grad);
    let shortcut = random([3, 5, 7, 3], &device).require_grad();
    let parameters = [(); 2].map(|()| random([5], &device).require_grad());
    let before = shortcut.to_data();
    let found = joined(input.clone(), parameters.clone(), shortcut.clone());
    assert_eq!(shortcut.to_data(), before, "what others hold stays");
    let wide = |of: &Tensor<4>| of.clone().cast(DType::F64);
    let [gain, bias] = parameters.clone().map(|of| of.cast(DType::F64));
    let expected = module::batch_norm_train(wide(&input), gain, bias, 1e-5).output;
    let expected = relu(expected + wide(&shortcut)).cast(DType::F32);
    let worst = difference(&found.clone().inner(), &expected.clone().inner());
    assert!(worst < 1e-4, "{worst:e}");
    let [found, expected] = [found, expected].map(|of| (of * pull.clone()).sum().backward());
    for tensor in [&input, &shortcut] {
        let by = |gradients| tensor.grad(gradients).expect("a gradient");
        let worst = difference(&by(&found), &by(&expected));
        assert!(worst < 1e-4, "{worst:e}");
    }
    for parameter in &parameters {
        let by = |gradients| parameter.grad(gradients).expect("a gradient");
        let worst = difference(&by(&found), &by(&expected));
        assert!(worst < 1e-4, "{worst:e}");
    }
}

#[test]
fn features_without_positions_are_normalised_too() {
    let device = Device::default();
    let input = random([6, 4], &device);
    let (gain, bias) = (Tensor::ones([4], &device), Tensor::zeros([4], &device));
    let output = batch_norm_train(input, gain, bias, 1e-5, Ending::Plain).output;
    let mean = output.clone().mean_dim(0).abs().max().into_scalar::<f32>();
    // 1 but for epsilon.
    let variance = output.square().mean_dim(0);
    let worst = difference(&variance, &Tensor::ones([1, 4], &device));
    assert!(mean < 1e-6 && worst < 1e-3, "{mean:e} {worst:e}");
}

#[test]
fn evaluation_normalises_by_what_it_is_given() {
    for device in [Device::default(), Device::default().autodiff()] {
        let [input, _] = batch(&device);
        for ending in endings(input.dims(), &device) {
            let norm = normalisation(5, &device);
            let expected = module::batch_norm(
                input.clone(),
                norm.gain.clone(),
                norm.bias.clone(),
                norm.mean.clone(),
                norm.variance.clone(),
                norm.epsilon,
            );
            let expected = ended(expected, ending.clone());
            let found = batch_norm(input.clone(), norm, ending);
            close(&found, &expected, "evaluation");
        }
    }
}

#[test]
fn a_rectified_sum_and_its_gradients_are_burns() {
    let device = Device::default().autodiff();
    let left = random([2, 3, 5, 4], &device).require_grad();
    let right = random([2, 3, 5, 4], &device).require_grad();
    let pull = random([2, 3, 5, 4], &device);
    let found = add_rectified(left.clone(), right.clone());
    let expected = relu(left.clone() + right.clone());
    assert_eq!(found.to_data(), expected.to_data());
    let found = (found * pull.clone()).sum().backward();
    let expected = (expected * pull).sum().backward();
    for side in [left, right] {
        let by = |gradients| side.grad(gradients).expect("a gradient").into_data();
        assert_eq!(by(&found), by(&expected));
    }
}

#[test]
fn poolings_and_their_gradients_are_burns() {
    let device = Device::default().autodiff();
    let cases = [
        ([2, 3, 8, 6], [3, 3], [2, 2], [1, 1]),
        ([1, 2, 7, 9], [3, 3], [2, 2], [0, 0]),
        ([2, 1, 5, 4], [2, 3], [1, 2], [1, 0]),
        ([1, 4, 1, 1], [1, 1], [1, 1], [0, 0]),
        ([1, 2, 33, 20], [3, 3], [3, 3], [1, 1]),
    ];
    for (shape, kernel, stride, padding) in cases {
        for ceil_mode in [false, true] {
            let input = random(shape, &device).require_grad();
            let options = || {
                MaxPoolOptions::new(kernel)
                    .with_stride(stride)
                    .with_padding(padding)
                    .with_ceil_mode(ceil_mode)
            };
            let found = max_pool2d(input.clone(), options());
            let expected = module::max_pool2d(input.clone(), options());
            assert_eq!(found.to_data(), expected.to_data(), "{shape:?} {ceil_mode}");
            let pull = random(found.dims(), &device);
            let found = (found * pull.clone()).sum().backward();
            let expected = (expected * pull).sum().backward();
            let by = |gradients| input.grad(gradients).expect("a gradient");
            close(
                &by(&found),
                &by(&expected),
                &format!("{shape:?} {ceil_mode}"),
            );
        }
    }
}

#[test]
fn what_is_not_a_number_stays_so() {
    let device = Device::default();
    let bad = Tensor::<4>::full([1, 1, 1, 1], f32::NAN, &device);
    let one = || Tensor::<1>::ones([1], &device);
    let options = ConvOptions::new([1, 1], [0, 0], [1, 1], 1);
    let weight = Tensor::ones([1, 1, 1, 1], &device);
    let shortcut = || Tensor::ones([1, 1, 1, 1], &device);
    let mut results = vec![
        add_rectified(bad.clone(), shortcut()),
        max_pool2d(
            bad.clone().expand([1, 1, 2, 2]),
            MaxPoolOptions::new([2, 2]),
        ),
    ];
    for ending in [Ending::Rectified, Ending::Joined(shortcut())] {
        let norm = || normalisation(1, &device);
        let (of, with) = ((bad.clone(), weight.clone()), options.clone());
        results.extend([
            batch_norm(bad.clone(), norm(), ending.clone()),
            conv2d_normalised(of.0, of.1, None, with.clone(), (norm(), ending.clone())),
            conv2d_ending(
                bad.clone(),
                weight.clone(),
                Some(one()),
                with,
                ending.clone(),
            ),
            batch_norm_train(bad.clone(), one(), one(), 1e-5, ending).output,
        ]);
    }
    results.push(joined(bad, [one(), one()], shortcut()));
    for result in results {
        assert!(result.into_scalar::<f32>().is_nan());
    }
}

/// Everything that a training step computes, with so many threads.
fn with_threads(threads: usize) -> Vec<TensorData> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.expect("threads").install(|| {
        let device = Device::default().autodiff();
        let mut state = 1_u32;
        let mut numbers = |count: usize| -> Vec<f32> {
            let next = |_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            };
            (0..count).map(next).collect()
        };
        let mut tensor = |shape: [usize; 4]| {
            let data = TensorData::new(numbers(shape.iter().product()), shape);
            Tensor::<4>::from_data(data, &device).require_grad()
        };
        // So large that a convolution is shared out.
        let (input, weight) = (tensor([5, 8, 22, 12]), tensor([20, 8, 3, 3]));
        let (gain, bias) = (Tensor::ones([20], &device), Tensor::zeros([20], &device));
        let options = ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
        let hidden = conv2d(input.clone(), weight.clone(), None, options);
        let rectified = Ending::Rectified;
        let (of, with) = (gain.clone(), bias.clone());
        let output = batch_norm_train(hidden.clone(), of, with, 1e-5, rectified).output;
        let output = joined(hidden.clone(), [gain, bias], add_rectified(output, hidden));
        let pooling = MaxPoolOptions::new([3, 3]).with_stride([2, 2]);
        let output = max_pool2d(output, pooling);
        let gradients = output.clone().powi_scalar(3).sum().backward();
        let by = |tensor: &Tensor<4>| tensor.grad(&gradients).expect("a gradient").into_data();
        vec![output.into_data(), by(&input), by(&weight)]
    })
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let one = with_threads(1);
    assert_eq!(one, with_threads(2));
    assert_eq!(one, with_threads(7));
}

/// In double precision a step is Burn's own operations.
#[test]
fn steps_of_adam_are_the_same() {
    let device = Device::default();
    let random = || random([7, 3001], &device);
    let gradients = [random(), random(), random()];
    for decay in [0.0, 0.3] {
        let first = [
            random(),
            Tensor::zeros([7, 3001], &device),
            Tensor::zeros([7, 3001], &device),
        ];
        let walk = |dtype: DType| {
            let [mut weights, mut mean, mut square] = first.clone().map(|start| start.cast(dtype));
            for (taken, gradient) in gradients.iter().enumerate() {
                // Read by columns: its numbers do not lie one behind the other.
                let gradient = gradient.clone().cast(dtype).swap_dims(0, 1);
                let turned = |tensor: Tensor<2>| tensor.swap_dims(0, 1);
                let step = AdamStep {
                    rate: 0.01,
                    beta1: 0.9,
                    beta2: 0.999,
                    epsilon: 1e-8,
                    decay,
                    time: taken + 1,
                };
                let means = [turned(mean), turned(square)];
                let (moved, [first, second]) = adam(turned(weights), gradient, means, step);
                [weights, mean, square] = [moved, first, second].map(turned);
            }
            [weights, mean, square].map(|tensor| tensor.cast(DType::F32))
        };
        let before = first[0].to_data();
        for (native, composed) in walk(DType::F32).iter().zip(&walk(DType::F64)) {
            close(native, composed, "a step of Adam");
        }
        assert_eq!(first[0].to_data(), before, "what others hold stays");
    }
}

/// Sums and gradients are written where operands lie, if no one else holds them.
#[test]
fn what_someone_else_holds_stays() {
    let device = Device::default();
    let [left, right] = [(); 2].map(|()| random::<4>([2, 3, 5, 4], &device));
    let before = [&left, &right].map(|of| of.clone().into_data());
    let sum = add_rectified(left.clone(), right.clone());
    let expected = relu(left.clone() + right.clone());
    assert_eq!(sum.into_data(), expected.into_data());
    assert_eq!([left, right].map(Tensor::into_data), before);

    // Both normalisations are given one gradient.
    let device = device.autodiff();
    let input = random::<4>([4, 3, 5, 4], &device).require_grad();
    let parameters = [(); 4].map(|()| random::<1>([3], &device));
    let [gain, bias, other_gain, other_bias] = parameters;
    let pull = random([4, 3, 5, 4], &device);
    let norm = |x: &Tensor<4>, gain: &Tensor<1>, bias: &Tensor<1>| {
        batch_norm_train(x.clone(), gain.clone(), bias.clone(), 1e-5, Ending::Plain).output
    };
    let sum = add_rectified(
        norm(&input, &gain, &bias),
        norm(&input, &other_gain, &other_bias),
    );
    let found = (sum * pull.clone()).sum().backward();
    let norm = |x: &Tensor<4>, gain: Tensor<1>, bias: Tensor<1>| {
        module::batch_norm_train(x.clone(), gain, bias, 1e-5).output
    };
    let sum = relu(norm(&input, gain, bias) + norm(&input, other_gain, other_bias));
    let expected = (sum * pull).sum().backward();
    let [found, expected] = [found, expected].map(|of| input.grad(&of).expect("a gradient"));
    let worst = difference(&found, &expected);
    assert!(worst < 1e-4, "{worst:e}");
}
