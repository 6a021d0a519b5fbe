//! Batch normalisation, by the statistics of the batch and by given statistics.

use burn::tensor::{DType, Device, Tensor, module};
use reid_ops::{Epilogue, RunningStatistics, batch_norm, batch_norm_train, batch_norm_update};

use crate::{
    Leaves, TYPES, agree, apply_epilogue, close, epilogues, leaf, normalisation, plain, random,
    untracked, values, wide, without_gradient,
};

/// Odd sizes, few positions, sizes that are divided among threads, and embeddings.
const SHAPES: [[usize; 4]; 5] = [
    [3, 5, 7, 3],
    [5, 1, 1, 1],
    [2, 16, 1, 3],
    [4, 67, 31, 9],
    [6, 40, 1, 1],
];

/// An offset of the features, so that a variance computed from plain squares would be inexact.
const OFFSET: f64 = 4.0;

#[test]
fn normalisations_and_their_gradients_equal_burns() {
    let device = Device::default().autodiff();
    for shape @ [batch, channels, height, width] in SHAPES {
        for (dtype, allowed) in TYPES {
            let target = (&device, dtype);
            for epilogue in epilogues(shape, target) {
                let what = format!("{shape:?}, {dtype:?}, {epilogue:?}");
                let input = leaf(shape, target)
                    .add_scalar(OFFSET)
                    .detach()
                    .require_grad();
                let [gamma, bias] = [(); 2].map(|()| leaf([channels], target));
                let whole =
                    || module::batch_norm_train(wide(&input), wide(&gamma), wide(&bias), 1e-5);
                let (expected, output) = (whole(), || apply_epilogue(whole().output, &epilogue));
                let leaves = Leaves::of(&[&input], &[&gamma, &bias]).and(&epilogue);

                let (of, with) = (input.clone(), [gamma.clone(), bias.clone()]);
                let [to, by] = with.clone();
                let found = batch_norm_train(of.clone(), to, by, 1e-5, epilogue.clone());
                agree(&what, [&found.output, &output()], &leaves, allowed);
                close(&what, &found.mean, &expected.mean, allowed);
                close(&what, &found.variance, &expected.variance, allowed);

                let [mean, variance] = [(); 2].map(|()| leaf([channels], target).detach());
                let running = (
                    RunningStatistics {
                        mean: mean.clone(),
                        variance: variance.clone(),
                    },
                    0.1,
                );
                let (found, moved) = batch_norm_update(of, with, 1e-5, epilogue.clone(), running);
                agree(&what, [&found, &output()], &leaves, allowed);
                let samples = (batch * height * width) as f64;
                let unbiased = samples / (samples - 1.0).max(1.0);
                let mean = wide(&mean) * 0.9 + expected.mean * 0.1;
                let variance = wide(&variance) * 0.9 + expected.variance * (0.1 * unbiased);
                close(&what, &moved.mean, &mean, allowed);
                close(&what, &moved.variance, &variance, allowed);
            }
        }
    }
}

/// The standard deviation is about a hundredth of the mean.
#[test]
fn values_far_from_zero_are_normalised() {
    let device = Device::default();
    let input = random::<4>([3, 5, 7, 3], &device) * 0.5 + 40.0;
    let (gamma, bias) = (Tensor::ones([5], &device), Tensor::zeros([5], &device));
    let expected = module::batch_norm_train(wide(&input), wide(&gamma), wide(&bias), 1e-5);
    let found = batch_norm_train(input, gamma, bias, 1e-5, Epilogue::None);
    close("far from zero", &found.output, &expected.output, 1e-5);
}

#[test]
fn features_without_positions_are_normalised_too() {
    let device = Device::default().autodiff();
    for (dtype, allowed) in TYPES {
        let target = (&device, dtype);
        for epilogue in epilogues([6, 4], target) {
            let map = leaf([6, 4, 1, 1], target);
            let input = || map.clone().reshape([6, 4]);
            let [gamma, bias] = [(); 2].map(|()| leaf([4], target));
            let expected =
                module::batch_norm_train(wide(&input()), wide(&gamma), wide(&bias), 1e-5);
            let output = apply_epilogue(expected.output, &epilogue);
            let of = (input(), gamma.clone(), bias.clone());
            let found = batch_norm_train(of.0, of.1, of.2, 1e-5, epilogue);
            let leaves = Leaves::of(&[&map], &[&gamma, &bias]);
            agree("embeddings", [&found.output, &output], &leaves, allowed);
        }
    }
}

#[test]
fn batch_norm_normalises_by_the_given_statistics() {
    let device = Device::default().autodiff();
    for shape in SHAPES {
        for (dtype, allowed) in TYPES {
            let target = (&device, dtype);
            let (input, norm) = (leaf(shape, target), normalisation(shape[1], target));
            let whole = || {
                let [gamma, bias, mean, variance] = values(&norm).map(wide);
                module::batch_norm(wide(&input), gamma, bias, mean, variance, norm.epsilon)
            };
            for epilogue in epilogues(shape, target) {
                let what = format!("{shape:?}, {dtype:?}, {epilogue:?}");
                let expected = apply_epilogue(whole(), &epilogue);
                let found = batch_norm(input.clone(), norm.clone(), epilogue.clone());
                let leaves = Leaves::of(&[&input], &values(&norm)).and(&epilogue);
                agree(&what, [&found, &expected], &leaves, allowed);

                let (still, shortcut) = (untracked(&norm), without_gradient(&epilogue));
                let found = batch_norm(plain(&input), still, shortcut);
                close(&what, &found, &expected, allowed);
            }
        }
    }
}

#[test]
fn a_normalisation_is_an_affine_map_of_each_channel() {
    let device = Device::default();
    let (input, norm) = (
        random([2, 5, 3, 4], &device),
        normalisation(5, (&device, DType::F32)),
    );
    let (scale, shift) = norm.clone().affine();
    let [scale, shift] = [scale, shift].map(|of| of.reshape([1, 5, 1, 1]));
    let expected = input.clone() * scale + shift;
    let found = batch_norm(input, norm, Epilogue::None);
    close("affine", &found, &expected, 1e-5);
}
