//! The number of threads changes no bit.

use burn::tensor::{Device, Int, Tensor, TensorData, ops::MaxPoolOptions};
use reid_ops::{
    AdamStep, Ending, Normalisation, RunningStatistics, adam, add_rectified, batch_norm,
    batch_norm_moving, batch_norm_train, conv2d, conv2d_ending, conv2d_normalised, cut_mix, gated,
    gated_ending, max_pool2d, means,
};

use crate::{Case, case, maps, plain, tracked, without_gradient};

/// So large that each pass is shared out: by images, channels, rows and results.
const CONVOLUTIONS: [Case; 9] = [
    case([5, 8, 22, 12], 20, [3, 3], [1, 1], [1, 1], 1),
    case([5, 64, 40, 24], 72, [3, 3], [1, 1], [1, 1], 1),
    case([3, 64, 41, 23], 72, [3, 3], [2, 2], [1, 1], 1),
    case([5, 96, 16, 8], 130, [1, 1], [1, 1], [0, 0], 1),
    case([5, 96, 17, 9], 130, [1, 1], [2, 2], [0, 0], 1),
    case([1, 40, 64, 32], 24, [1, 1], [1, 1], [0, 0], 1),
    case([3, 128, 16, 9], 128, [3, 3], [1, 1], [1, 1], 32),
    case([2, 3, 96, 64], 64, [7, 7], [2, 2], [3, 3], 1),
    case([70, 24, 5, 3], 17, [3, 3], [1, 1], [1, 1], 1),
];

/// Maps that are shared out, among them few of many places and many of few.
const MAPS: [[usize; 4]; 4] = [
    [5, 66, 31, 29],
    [2, 3, 300, 301],
    [64, 160, 3, 3],
    [3, 2048, 16, 8],
];

/// The same numbers whenever they are asked for, some of them below 0.
fn numbers<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    let count = i64::try_from(shape.iter().product::<usize>()).expect("small");
    let numbers = Tensor::<1, Int>::arange(0..count, device).float();
    tracked((numbers * 0.37).sin().reshape(shape))
}

fn normalisation(channels: usize, device: &Device) -> Normalisation {
    let one = || numbers([channels], device);
    Normalisation {
        gain: one(),
        bias: one() * 0.5,
        mean: one() * 0.2,
        variance: one().square() + 0.5,
        epsilon: 1e-5,
    }
}

/// What some operations give with so many threads.
fn with<T: Send>(threads: usize, operations: impl FnOnce() -> T + Send) -> T {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.expect("threads").install(operations)
}

fn same(what: &str, operations: impl Fn() -> Vec<TensorData> + Send + Sync) {
    let one = with(1, &operations);
    for threads in [2, 3, 7] {
        let many = with(threads, &operations);
        for (place, (one, many)) in one.iter().zip(&many).enumerate() {
            assert!(one == many, "{what}: result {place} with {threads} threads");
        }
    }
}

/// A result and its gradients by what it was computed from.
fn all(result: Tensor<4>, maps: &[&Tensor<4>], vectors: &[&Tensor<1>]) -> Vec<TensorData> {
    let value = result.to_data();
    let gradients = result.powi_scalar(3).sum().backward();
    let by_maps = maps
        .iter()
        .map(|map| map.grad(&gradients).expect("a gradient").into_data());
    let by_vectors = vectors
        .iter()
        .map(|of| of.grad(&gradients).expect("a gradient").into_data());
    [value]
        .into_iter()
        .chain(by_maps)
        .chain(by_vectors)
        .collect()
}

#[test]
fn of_convolutions() {
    for case in &CONVOLUTIONS {
        let what = format!("{:?} with {:?}", case.input, case.weights());
        same(&what, || {
            let device = Device::default().autodiff();
            let (input, weight) = (
                numbers(case.input, &device),
                numbers(case.weights(), &device),
            );
            let bias = numbers([case.results], &device);
            let of = || (input.clone(), weight.clone());
            let options = || case.options();
            let map = conv2d(of().0, of().1, None, options());
            let shortcut = numbers(map.dims(), &device);
            let mut results = all(map, &[&input, &weight], &[]);
            for ending in [Ending::Rectified, Ending::Joined(shortcut.clone())] {
                let ended = conv2d_ending(of().0, of().1, Some(bias.clone()), options(), ending);
                results.extend(all(ended, &[&input, &weight], &[&bias]));
            }
            // In evaluation the ending is where the map is written.
            let [input, weight, shortcut] = [&input, &weight, &shortcut].map(plain);
            let device = Device::default();
            for ending in [Ending::Plain, Ending::Rectified, Ending::Joined(shortcut)] {
                let norm = (normalisation(case.results, &device), ending.clone());
                let of = || (input.clone(), weight.clone(), Some(plain(&bias)));
                let (x, w, b) = of();
                results.push(conv2d_normalised(x, w, b, options(), norm).into_data());
                let (x, w, b) = of();
                results.push(conv2d_ending(x, w, b, options(), ending).into_data());
            }
            results
        });
    }
}

#[test]
fn of_normalisations() {
    for shape @ [_, channels, _, _] in MAPS {
        same(&format!("{shape:?}"), || {
            let device = Device::default().autodiff();
            let (input, shortcut) = (
                numbers(shape, &device),
                numbers(shape, &device).sin().detach(),
            );
            let [gain, bias] = [(); 2].map(|()| numbers([channels], &device));
            let mut results = Vec::new();
            for ending in [
                Ending::Plain,
                Ending::Rectified,
                Ending::Joined(shortcut.clone()),
            ] {
                let (of, to, by) = (input.clone(), gain.clone(), bias.clone());
                let found = batch_norm_train(of, to, by, 1e-5, ending.clone());
                results.extend([found.mean.into_data(), found.variance.into_data()]);
                results.extend(all(found.output, &[&input], &[&gain, &bias]));
                let [mean, variance] = [&gain, &bias].map(|of| of.clone().detach());
                let running = (RunningStatistics { mean, variance }, 0.1);
                let parameters = [gain.clone(), bias.clone()];
                let (output, moved) =
                    batch_norm_moving(input.clone(), parameters, 1e-5, ending.clone(), running);
                results.extend([moved.mean.into_data(), moved.variance.into_data()]);
                results.extend(all(output, &[&input], &[&gain, &bias]));
                let ending = without_gradient(&ending);
                let norm = normalisation(channels, &Device::default());
                results.push(batch_norm(plain(&input), norm, ending).into_data());
            }
            results
        });
    }
}

#[test]
fn of_maps() {
    for shape @ [batch, _, height, width] in MAPS.into_iter().chain(maps::SHAPES) {
        same(&format!("{shape:?}"), || {
            let device = Device::default().autodiff();
            let features = numbers(shape, &device);
            let [over_places, over_channels, _] = maps::gates(shape).map(|of| numbers(of, &device));
            let sum = add_rectified(features.clone(), features.clone().cos());
            let once = gated(sum, over_places.clone());
            let twice = gated(once, over_channels.clone());
            let ending = Ending::Joined(features.clone());
            let joined = gated_ending(twice, over_places.clone(), ending);
            let rectified = gated_ending(joined, over_channels.clone(), Ending::Rectified);
            let cut = numbers([batch, height, width], &device).greater_elem(0.2);
            let donors: Vec<usize> = (0..batch).rev().collect();
            let mixed = cut_mix(rectified, cut, &donors, true);
            let kernel = [height.min(3), width.min(3)];
            let pooling = MaxPoolOptions::new(kernel).with_stride([2, 2]);
            let pooled = max_pool2d(mixed.clone(), pooling);
            let means = means(mixed).unsqueeze_dims::<4>(&[-1, -1]);
            all(
                pooled * means,
                &[&features, &over_places, &over_channels],
                &[],
            )
        });
    }
}

#[test]
fn of_steps_of_adam() {
    same("Adam", || {
        let device = Device::default();
        let numbers = || numbers::<2>([700, 431], &device);
        let step = AdamStep {
            rate: 0.01,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            decay: 0.1,
            time: 3,
        };
        let means = [numbers() * 0.3, numbers().square()];
        let (weights, means) = adam(numbers(), numbers().sin(), means, step);
        [weights]
            .into_iter()
            .chain(means)
            .map(Tensor::into_data)
            .collect()
    });
}
