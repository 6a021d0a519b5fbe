//! Batch normalisation, by the statistics of the batch and by given ones.

use burn::tensor::{DType, Device, Tensor, module};
use reid_ops::{Ending, RunningStatistics, batch_norm, batch_norm_moving, batch_norm_train};

use crate::{
    Leaves, TYPES, agree, close, ended, endings, leaf, normalisation, numbers, plain, random,
    untracked, wide, without_gradient,
};

/// Odd ones, a few places, some that are shared out, and descriptors.
const SHAPES: [[usize; 4]; 5] = [
    [3, 5, 7, 3],
    [5, 1, 1, 1],
    [2, 16, 1, 3],
    [4, 67, 31, 9],
    [6, 40, 1, 1],
];

/// Features with an offset, so that a variance by squares alone would be wrong.
const OFFSET: f64 = 4.0;

#[test]
fn normalisations_and_their_gradients_are_burns() {
    let device = Device::default().autodiff();
    for shape @ [batch, channels, height, width] in SHAPES {
        for (dtype, allowed) in TYPES {
            let place = (&device, dtype);
            for ending in endings(shape, place) {
                let what = format!("{shape:?}, {dtype:?}, {ending:?}");
                let input = leaf(shape, place)
                    .add_scalar(OFFSET)
                    .detach()
                    .require_grad();
                let [gain, bias] = [(); 2].map(|()| leaf([channels], place));
                let whole =
                    || module::batch_norm_train(wide(&input), wide(&gain), wide(&bias), 1e-5);
                let (expected, output) = (whole(), || ended(whole().output, &ending));
                let leaves = Leaves::of(&[&input], &[&gain, &bias]).and(&ending);

                let (of, with) = (input.clone(), [gain.clone(), bias.clone()]);
                let [to, by] = with.clone();
                let found = batch_norm_train(of.clone(), to, by, 1e-5, ending.clone());
                agree(&what, [&found.output, &output()], &leaves, allowed);
                close(&what, &found.mean, &expected.mean, allowed);
                close(&what, &found.variance, &expected.variance, allowed);

                let [mean, variance] = [(); 2].map(|()| leaf([channels], place).detach());
                let running = (
                    RunningStatistics {
                        mean: mean.clone(),
                        variance: variance.clone(),
                    },
                    0.1,
                );
                let (found, moved) = batch_norm_moving(of, with, 1e-5, ending.clone(), running);
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

/// Numbers whose deviation is a hundredth of their mean.
#[test]
fn numbers_far_from_zero_are_normalised() {
    let device = Device::default();
    let input = random::<4>([3, 5, 7, 3], &device) * 0.5 + 40.0;
    let (gain, bias) = (Tensor::ones([5], &device), Tensor::zeros([5], &device));
    let expected = module::batch_norm_train(wide(&input), wide(&gain), wide(&bias), 1e-5);
    let found = batch_norm_train(input, gain, bias, 1e-5, Ending::Plain);
    close("far from zero", &found.output, &expected.output, 1e-5);
}

#[test]
fn features_without_positions_are_normalised_too() {
    let device = Device::default().autodiff();
    for (dtype, allowed) in TYPES {
        let place = (&device, dtype);
        for ending in endings([6, 4], place) {
            let map = leaf([6, 4, 1, 1], place);
            let input = || map.clone().reshape([6, 4]);
            let [gain, bias] = [(); 2].map(|()| leaf([4], place));
            let expected = module::batch_norm_train(wide(&input()), wide(&gain), wide(&bias), 1e-5);
            let output = ended(expected.output, &ending);
            let of = (input(), gain.clone(), bias.clone());
            let found = batch_norm_train(of.0, of.1, of.2, 1e-5, ending);
            let leaves = Leaves::of(&[&map], &[&gain, &bias]);
            agree("descriptors", [&found.output, &output], &leaves, allowed);
        }
    }
}

#[test]
fn evaluation_normalises_by_what_it_is_given() {
    let device = Device::default().autodiff();
    for shape in SHAPES {
        for (dtype, allowed) in TYPES {
            let place = (&device, dtype);
            let (input, norm) = (leaf(shape, place), normalisation(shape[1], place));
            let whole = || {
                let [gain, bias, mean, variance] = numbers(&norm).map(wide);
                module::batch_norm(wide(&input), gain, bias, mean, variance, norm.epsilon)
            };
            for ending in endings(shape, place) {
                let what = format!("{shape:?}, {dtype:?}, {ending:?}");
                let expected = ended(whole(), &ending);
                let found = batch_norm(input.clone(), norm.clone(), ending.clone());
                let leaves = Leaves::of(&[&input], &numbers(&norm)).and(&ending);
                agree(&what, [&found, &expected], &leaves, allowed);

                let (still, shortcut) = (untracked(&norm), without_gradient(&ending));
                let found = batch_norm(plain(&input), still, shortcut);
                close(&what, &found, &expected, allowed);
            }
        }
    }
}

#[test]
fn a_normalisation_is_a_map_of_each_channel() {
    let device = Device::default();
    let (input, norm) = (
        random([2, 5, 3, 4], &device),
        normalisation(5, (&device, DType::F32)),
    );
    let (scale, shift) = norm.clone().affine();
    let [scale, shift] = [scale, shift].map(|of| of.reshape([1, 5, 1, 1]));
    let expected = input.clone() * scale + shift;
    let found = batch_norm(input, norm, Ending::Plain);
    close("affine", &found, &expected, 1e-5);
}
