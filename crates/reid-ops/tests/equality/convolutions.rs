//! Convolutions: plain, with an epilogue, and normalised.

use burn::tensor::{DType, Device, Tensor, module};
use reid_ops::{BatchNormParams, Epilogue, conv2d, conv2d_batch_norm, conv2d_epilogue};

use crate::{
    Case, Leaves, TYPES, agree, apply_epilogue, case, close, epilogues, leaf, normalisation, plain,
    random, untracked, values, wide, without_gradient,
};

const CASES: [Case; 23] = [
    case([2, 3, 7, 6], 5, [3, 3], [1, 1], [1, 1], 1),
    case([1, 4, 8, 8], 16, [3, 3], [2, 2], [1, 1], 1),
    case([3, 6, 5, 9], 8, [3, 3], [1, 1], [0, 0], 2),
    case([2, 3, 15, 13], 7, [7, 7], [2, 2], [3, 3], 1),
    case([2, 8, 6, 5], 12, [1, 1], [1, 1], [0, 0], 1),
    case([2, 8, 6, 5], 12, [1, 1], [2, 2], [0, 0], 1),
    // Depthwise, a single value, and a kernel much larger than its image.
    case([1, 8, 4, 4], 8, [3, 3], [1, 1], [1, 1], 8),
    case([1, 1, 1, 1], 1, [1, 1], [1, 1], [0, 0], 1),
    case([2, 3, 1, 2], 4, [7, 7], [1, 1], [3, 3], 1),
    case([2, 13, 10, 3], 40, [2, 2], [3, 3], [1, 1], 1),
    case([2, 4, 9, 20], 6, [1, 5], [1, 2], [0, 2], 2),
    // Feature maps larger than a block, and more images than one task has.
    case([1, 4, 33, 40], 4, [3, 3], [1, 1], [1, 1], 1),
    case([37, 16, 3, 2], 14, [3, 3], [1, 1], [1, 1], 1),
    // Depthwise: rows of whole vectors and others, strides, large kernels, no padding and one result per row.
    case([2, 5, 6, 16], 5, [3, 3], [1, 1], [1, 1], 5),
    case([3, 4, 9, 7], 4, [3, 3], [2, 2], [1, 1], 4),
    case([2, 3, 5, 32], 3, [5, 5], [1, 1], [2, 2], 3),
    case([2, 6, 11, 9], 6, [5, 4], [2, 3], [2, 1], 6),
    case([2, 3, 8, 10], 3, [7, 10], [1, 1], [3, 0], 3),
    // Two output channels per input channel.
    case([2, 4, 6, 5], 8, [3, 3], [1, 1], [1, 1], 4),
    // Dilated: as in segmentation, beyond the feature map, with a stride, and depthwise.
    case([2, 16, 9, 12], 8, [3, 3], [1, 1], [2, 2], 1).dilated([2, 2]),
    case([1, 3, 5, 6], 4, [3, 3], [1, 1], [12, 12], 1).dilated([12, 12]),
    case([2, 4, 11, 9], 6, [3, 2], [2, 1], [3, 0], 2).dilated([3, 4]),
    case([2, 5, 8, 16], 5, [3, 3], [1, 1], [2, 2], 5).dilated([2, 2]),
];

/// Runs a test for every case and dtype, with and without a bias.
fn every(test: impl Fn(&str, &Case, (&Device, DType), f64, bool)) {
    let device = Device::default().autodiff();
    for (index, case) in CASES.iter().enumerate() {
        for (dtype, allowed) in TYPES {
            for biased in [false, true] {
                let what = format!("{index}, {dtype:?}, {biased}");
                test(&what, case, (&device, dtype), allowed, biased);
            }
        }
    }
}

#[test]
fn convolutions_and_their_gradients_equal_burns() {
    every(|what, case, target, allowed, biased| {
        let (input, weight) = (leaf(case.input, target), leaf(case.weights(), target));
        let bias = biased.then(|| leaf([case.results], target));
        let wide_bias = || bias.as_ref().map(wide);
        let map = || {
            let (of, by) = (wide(&input), wide(&weight));
            module::conv2d(of, by, wide_bias(), case.options())
        };
        let vectors: Vec<_> = bias.iter().collect();
        let leaves = Leaves::of(&[&input, &weight], &vectors);
        let of = || (input.clone(), weight.clone());
        let found = conv2d(of().0, of().1, bias.clone(), case.options());
        assert_eq!(found.dtype(), target.1);
        agree(what, [&found, &map()], &leaves, allowed);
        for epilogue in epilogues(found.dims(), target) {
            let expected = apply_epilogue(map(), &epilogue);
            let found = conv2d_epilogue(
                of().0,
                of().1,
                bias.clone(),
                case.options(),
                epilogue.clone(),
            );
            let what = format!("{what}, {epilogue:?}");
            agree(
                &what,
                [&found, &expected],
                &leaves.clone().and(&epilogue),
                allowed,
            );
        }
    });
}

#[test]
fn conv2d_batch_norm_equals_convolution_then_normalisation() {
    every(|what, case, target, allowed, biased| {
        let (input, weight) = (leaf(case.input, target), leaf(case.weights(), target));
        let bias = biased.then(|| leaf([case.results], target));
        let norm = normalisation(case.results, target);
        let wide_bias = || bias.as_ref().map(wide);
        let whole = || {
            let (of, by) = (wide(&input), wide(&weight));
            let map = module::conv2d(of, by, wide_bias(), case.options());
            let [gamma, shift, mean, variance] = values(&norm).map(wide);
            module::batch_norm(map, gamma, shift, mean, variance, norm.epsilon)
        };
        let mut vectors = values(&norm).to_vec();
        vectors.extend(&bias);
        for epilogue in epilogues(whole().dims(), target) {
            let expected = apply_epilogue(whole(), &epilogue);
            let found = normalised(case, [&input, &weight], bias.as_ref(), (&norm, &epilogue));
            let what = format!("{what}, {epilogue:?}");
            let leaves = Leaves::of(&[&input, &weight], &vectors).and(&epilogue);
            agree(&what, [&found, &expected], &leaves, allowed);

            // Without autodiff, as in evaluation; then with a tracked network and untracked features.
            let (still, shortcut) = (untracked(&norm), without_gradient(&epilogue));
            let plain_bias = bias.as_ref().map(plain);
            let found = normalised(
                case,
                [&plain(&input), &plain(&weight)],
                plain_bias.as_ref(),
                (&still, &shortcut),
            );
            close(&what, &found, &expected, allowed);
            let mixed = (&norm, &shortcut);
            let found = normalised(case, [&plain(&input), &weight], bias.as_ref(), mixed);
            close(&what, &found, &expected, allowed);
        }
    });
}

fn normalised(
    case: &Case,
    [input, weight]: [&Tensor<4>; 2],
    bias: Option<&Tensor<1>>,
    (norm, epilogue): (&BatchNormParams, &Epilogue<4>),
) -> Tensor<4> {
    let with = (norm.clone(), epilogue.clone());
    let (input, weight) = (input.clone(), weight.clone());
    conv2d_batch_norm(input, weight, bias.cloned(), case.options(), with)
}

/// Depthwise convolutions are written over an input that no other tensor shares.
#[test]
fn depthwise_convolutions_keep_a_shared_input() {
    let device = Device::default();
    for case in CASES.iter().filter(|case| case.input[1] == case.results) {
        let (input, weight) = (random(case.input, &device), random(case.weights(), &device));
        let bias = random([case.results], &device);
        let before = input.to_data();
        let of = |input: Tensor<4>| {
            let (weight, bias) = (weight.clone(), Some(bias.clone()));
            conv2d_epilogue(input, weight, bias, case.options(), Epilogue::Relu).into_data()
        };
        let shared = of(input.clone());
        assert_eq!(input.to_data(), before);
        assert_eq!(of(input * 1.0), shared);
    }
}
