//! Results are bit-identical on any number of threads.

use burn::tensor::{Device, Int, Tensor, TensorData, ops::MaxPoolOptions};
use reid_ops::{
    AdamStep, BatchNormParams, Epilogue, RunningStatistics, adam, add_relu, batch_norm,
    batch_norm_train, batch_norm_update, conv2d, conv2d_batch_norm, conv2d_epilogue, cut_mix,
    global_avg_pool2d, max_pool2d, mul_gate, mul_gate_epilogue,
};

use crate::{Case, case, maps, plain, tracked, without_gradient};

/// Sizes at which every pass is divided among threads.
const CONVOLUTIONS: [Case; 13] = [
    case([5, 8, 22, 12], 20, [3, 3], [1, 1], [1, 1], 1),
    case([5, 64, 40, 24], 72, [3, 3], [1, 1], [1, 1], 1),
    case([3, 64, 41, 23], 72, [3, 3], [2, 2], [1, 1], 1),
    case([5, 96, 16, 8], 130, [1, 1], [1, 1], [0, 0], 1),
    case([5, 96, 17, 9], 130, [1, 1], [2, 2], [0, 0], 1),
    case([1, 40, 64, 32], 24, [1, 1], [1, 1], [0, 0], 1),
    case([3, 128, 16, 9], 128, [3, 3], [1, 1], [1, 1], 32),
    case([2, 3, 96, 64], 64, [7, 7], [2, 2], [3, 3], 1),
    case([70, 24, 5, 3], 17, [3, 3], [1, 1], [1, 1], 1),
    // Depthwise: few large feature maps, and many small ones.
    case([5, 66, 64, 32], 66, [3, 3], [1, 1], [1, 1], 66),
    case([2, 3, 300, 301], 3, [3, 3], [1, 1], [1, 1], 3),
    case([9, 130, 33, 17], 130, [5, 5], [2, 2], [2, 2], 130),
    case([64, 160, 8, 4], 160, [3, 3], [1, 1], [1, 1], 160),
];

/// Sizes that are divided among threads: few large feature maps, and many small ones.
const MAPS: [[usize; 4]; 4] = [
    [5, 66, 31, 29],
    [2, 3, 300, 301],
    [64, 160, 3, 3],
    [3, 2048, 16, 8],
];

/// Values that are the same on every call; some are negative.
fn values<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    let count = i64::try_from(shape.iter().product::<usize>()).expect("small");
    let values = Tensor::<1, Int>::arange(0..count, device).float();
    tracked((values * 0.37).sin().reshape(shape))
}

fn normalisation(channels: usize, device: &Device) -> BatchNormParams {
    let one = || values([channels], device);
    BatchNormParams {
        weight: one(),
        bias: one() * 0.5,
        mean: one() * 0.2,
        variance: one().square() + 0.5,
        epsilon: 1e-5,
    }
}

/// Runs operations on a thread pool of the given size.
fn with<T: Send>(threads: usize, operations: impl FnOnce() -> T + Send) -> T {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.expect("a thread pool").install(operations)
}

/// Asserts that results are bit-identical on 1, 2, 3 and 7 threads.
fn same(what: &str, operations: impl Fn() -> Vec<TensorData> + Send + Sync) {
    let one = with(1, &operations);
    for threads in [2, 3, 7] {
        let many = with(threads, &operations);
        for (index, (one, many)) in one.iter().zip(&many).enumerate() {
            assert!(
                one == many,
                "{what}: result {index} differs between 1 and {threads} threads"
            );
        }
    }
}

/// A result and its gradients with respect to the given tensors.
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
fn convolutions_are_bit_identical() {
    for case in &CONVOLUTIONS {
        let what = format!("{:?} with {:?}", case.input, case.weights());
        same(&what, || {
            let device = Device::default().autodiff();
            let (input, weight) = (values(case.input, &device), values(case.weights(), &device));
            let bias = values([case.results], &device);
            let of = || (input.clone(), weight.clone());
            let options = || case.options();
            let map = conv2d(of().0, of().1, None, options());
            let shortcut = values(map.dims(), &device);
            let mut results = all(map, &[&input, &weight], &[]);
            for epilogue in [Epilogue::Relu, Epilogue::AddRelu(shortcut.clone())] {
                let output =
                    conv2d_epilogue(of().0, of().1, Some(bias.clone()), options(), epilogue);
                results.extend(all(output, &[&input, &weight], &[&bias]));
            }
            // Without autodiff, the epilogue is applied as the result is written.
            let [input, weight, shortcut] = [&input, &weight, &shortcut].map(plain);
            let device = Device::default();
            for epilogue in [Epilogue::None, Epilogue::Relu, Epilogue::AddRelu(shortcut)] {
                let norm = (normalisation(case.results, &device), epilogue.clone());
                let of = || (input.clone(), weight.clone(), Some(plain(&bias)));
                let (x, w, b) = of();
                results.push(conv2d_batch_norm(x, w, b, options(), norm).into_data());
                let (x, w, b) = of();
                results.push(conv2d_epilogue(x, w, b, options(), epilogue).into_data());
            }
            results
        });
    }
}

#[test]
fn normalisations_are_bit_identical() {
    for shape @ [_, channels, _, _] in MAPS {
        same(&format!("{shape:?}"), || {
            let device = Device::default().autodiff();
            let (input, shortcut) = (
                values(shape, &device),
                values(shape, &device).sin().detach(),
            );
            let [gamma, bias] = [(); 2].map(|()| values([channels], &device));
            let mut results = Vec::new();
            for epilogue in [
                Epilogue::None,
                Epilogue::Relu,
                Epilogue::AddRelu(shortcut.clone()),
            ] {
                let (of, to, by) = (input.clone(), gamma.clone(), bias.clone());
                let found = batch_norm_train(of, to, by, 1e-5, epilogue.clone());
                results.extend([found.mean.into_data(), found.variance.into_data()]);
                results.extend(all(found.output, &[&input], &[&gamma, &bias]));
                let [mean, variance] = [&gamma, &bias].map(|of| of.clone().detach());
                let running = (RunningStatistics { mean, variance }, 0.1);
                let parameters = [gamma.clone(), bias.clone()];
                let (output, moved) =
                    batch_norm_update(input.clone(), parameters, 1e-5, epilogue.clone(), running);
                results.extend([moved.mean.into_data(), moved.variance.into_data()]);
                results.extend(all(output, &[&input], &[&gamma, &bias]));
                let epilogue = without_gradient(&epilogue);
                let norm = normalisation(channels, &Device::default());
                results.push(batch_norm(plain(&input), norm, epilogue).into_data());
            }
            results
        });
    }
}

#[test]
fn elementwise_operations_and_poolings_are_bit_identical() {
    for shape @ [batch, _, height, width] in MAPS.into_iter().chain(maps::SHAPES) {
        same(&format!("{shape:?}"), || {
            let device = Device::default().autodiff();
            let features = values(shape, &device);
            let [over_positions, over_channels, _] =
                maps::gates(shape).map(|of| values(of, &device));
            let sum = add_relu(features.clone(), features.clone().cos());
            let once = mul_gate(sum, over_positions.clone());
            let twice = mul_gate(once, over_channels.clone());
            let epilogue = Epilogue::AddRelu(features.clone());
            let added = mul_gate_epilogue(twice, over_positions.clone(), epilogue);
            let with_relu = mul_gate_epilogue(added, over_channels.clone(), Epilogue::Relu);
            let cut = values([batch, height, width], &device).greater_elem(0.2);
            let partners: Vec<usize> = (0..batch).rev().collect();
            let mixed = cut_mix(with_relu, cut, &partners, true);
            let kernel = [height.min(3), width.min(3)];
            let pooling = MaxPoolOptions::new(kernel).with_stride([2, 2]);
            let pooled = max_pool2d(mixed.clone(), pooling);
            let means = global_avg_pool2d(mixed).unsqueeze_dims::<4>(&[-1, -1]);
            all(
                pooled * means,
                &[&features, &over_positions, &over_channels],
                &[],
            )
        });
    }
}

#[test]
fn steps_of_adam_are_bit_identical() {
    same("Adam", || {
        let device = Device::default();
        let values = || values::<2>([700, 431], &device);
        let step = AdamStep {
            rate: 0.01,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            decay: 0.1,
            time: 3,
        };
        let means = [values() * 0.3, values().square()];
        let (weights, means) = adam(values(), values().sin(), means, step);
        [weights]
            .into_iter()
            .chain(means)
            .map(Tensor::into_data)
            .collect()
    });
}
