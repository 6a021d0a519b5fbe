//! Every block, head and criterion runs forward and backward on the device at hand, at toy size, in every
//! precision that it has.
//!
//! The device is the one that `reid::device::pick` finds, so `BURN_DEVICE` and Cargo features choose
//! it. One test, one process: GPU backends compile kernels anew in each.

use std::cell::Cell;

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{
        DType, Device, Gradients, Tensor, TensorData,
        activation::{relu, softmax},
        module,
        ops::ConvOptions,
    },
};
use rand::RngExt;
use reid::{
    core::Seed,
    nn::{
        Init, Precision, Targets, TrainingStep,
        attention::{
            CbamChannelConfig, CbamSpatialConfig, CombineGates, FncChannelConfig, FncSpatialConfig,
            FullyConnectedChannelConfig, FullyConnectedSpatialConfig, NonLocalConfig,
            ParallelConfig, ResizedConfig, RgaChannelConfig, RgaSpatialConfig, Similarity,
            SqueezeExcitationConfig,
        },
        backbone::{
            Ibn, InstanceNormed, LateStagesConfig, MaxPool, ResNetConfig, ResidualBlockConfig,
            ResidualKind, SplitPoint, Stem,
        },
        batch_drop::BatchDrop,
        cut_mix::{CutMix, Patches},
        distance::Distance,
        head::{
            BnNeckConfig, BranchConfig, BranchedHeadConfig, CamSource, FeatureAugment, FncBranches,
            FncHeadConfig, MgnHeadConfig, NeckFeature, PooledHeadConfig, ReducedBnNeckConfig,
            StripeHeadConfig,
        },
        loss::{
            BatchHardTripletConfig, CenterLossConfig, IdentityLossConfig, Margin, Reduction,
            Smoothing, WeightedConfig,
        },
        norm::BatchNormConfig,
        pool::PoolConfig,
    },
    prelude::*,
};
use reid_ops::{
    AdamStep, BatchNormParams, Epilogue, RunningStatistics, adam, batch_norm, batch_norm_train,
    batch_norm_update, conv2d, conv2d_batch_norm, conv2d_epilogue, global_avg_pool2d, mul_gate,
    mul_gate_epilogue,
};

use skipped::skipped;

mod skipped;

const PLACE: FeatureShape = FeatureShape::new(4, 4, 2);
const CLASSES: usize = 2;

#[test]
fn every_part_runs_forward_and_backward() {
    let device = device::pick().expect("a device");
    println!("running on {}", device::backend(&device));
    for precision in [Precision::BFloat16, Precision::Float16] {
        if !precision.is_supported(&device) {
            skipped("every part", &format!("{precision:?}"), &device);
        }
    }
    let device = device.autodiff();
    // What weights are drawn from: a network of two channels may be drawn such that half precision is far
    // off. No other test here draws from it.
    device.seed(1);
    blocks(&device);
    attention(&device);
    if ["flex", "ndarray"].contains(&device::backend(&device)) {
        // A GPU would tune each of two dozen products for seconds.
        attention_by_turns(&device);
    }
    heads(&device);
    criteria(&device);
}

/// Normalisation in training and its gradients are those of Burn's operations on a CPU, however features lie.
#[test]
fn normalisation_is_its_composition() {
    let device = device::pick().expect("a device").autodiff();
    for features in layouts(&device) {
        // Laid out as the features, and as it comes.
        let along = (features.clone() * 7.0).sin();
        let shortcuts = [along, random(features.dims(), &device)].map(Epilogue::AddRelu);
        let epilogues = [Epilogue::None, Epilogue::Relu].into_iter();
        for epilogue in epilogues.chain(shortcuts) {
            for precision in precisions(&device) {
                let features = precision.cast(features.clone() * 2.0 + 3.0);
                let case = Normalised::new(features, &epilogue, precision);
                let pull = random(case.maps[1].dims(), &device);
                for output in case.outputs() {
                    case.compare(output, pull.clone());
                }
            }
        }
    }
}

/// Convolutions and their gradients are those of Burn's operations on a CPU.
#[test]
fn convolution_is_its_composition() {
    let device = device::pick().expect("a device").autodiff();
    let innermost = |shape: [usize; 4]| random(shape, &device).permute([0, 3, 1, 2]);
    // With a stride and more places than a part has; a matrix product; the start of a network; groups.
    let cases = [
        (innermost([4, 68, 36, 8]), [12, 8, 3, 3], [2, 2], [1, 1]),
        (random([2, 6, 5, 3], &device), [4, 6, 1, 1], [1, 1], [0, 0]),
        (
            random([2, 3, 12, 10], &device),
            [8, 3, 7, 7],
            [2, 2],
            [3, 3],
        ),
        (innermost([2, 5, 6, 8]), [12, 4, 3, 3], [1, 1], [1, 1]),
    ];
    for (features, weights, stride, padding) in cases {
        let name = format!("{:?} with {weights:?}", features.dims());
        let groups = features.dims()[1] / weights[1];
        let options = ConvOptions::new(stride, padding, [1, 1], groups);
        let (weight, bias) = (random(weights, &device), random([weights[0]], &device));
        let (wide, taps, shift) = (on_cpu(&features), on_cpu(&weight), on_cpu(&bias));
        let (of, by) = (wide.clone(), taps.clone());
        let whole = module::conv2d(of, by, Some(shift.clone()), options.clone());
        let pull = random(whole.dims(), &device);
        let expected = pulled(&whole, &on_cpu(&pull).inner(), [&wide, &taps], &shift);
        for precision in precisions(&device) {
            let allowed = match (precision, tensor_units(&device)) {
                (Precision::Single, false) => 1e-5,
                (Precision::Single, true) => 2e-3,
                (Precision::BFloat16 | Precision::Float16, _) => 2e-2,
            };
            let features = precision.cast(features.clone()).detach().require_grad();
            let weight = weight.clone().detach().require_grad();
            let bias = bias.clone().detach().require_grad();
            let (of, by) = (features.clone(), weight.clone());
            let output = conv2d(of, by, Some(bias.clone()), options.clone());
            let found = pulled(&output, &pull.clone().inner(), [&features, &weight], &bias);
            let (maps, by_bias) = expected.clone();
            for (found, expected) in found.0.into_iter().zip(maps) {
                assert_near(&name, found, expected, allowed);
            }
            assert_near(&name, found.1, by_bias, allowed);
        }
    }
}

/// An output and the gradients of its product with a map by features and weights, and by a bias, on a CPU.
fn pulled(
    output: &Tensor<4>,
    pull: &Tensor<4>,
    [features, weight]: [&Tensor<4>; 2],
    bias: &Tensor<1>,
) -> ([Tensor<4>; 3], Tensor<1>) {
    let wide = output.clone().cast(DType::F32);
    let gradients = (wide * Tensor::from_inner(pull.clone())).sum().backward();
    let by = |of: &Tensor<4>| on_cpu(&of.grad(&gradients).expect("a gradient")).inner();
    let by_bias = bias.grad(&gradients).expect("a gradient");
    let maps = [on_cpu(output).inner(), by(features), by(weight)];
    (maps, on_cpu(&by_bias).inner())
}

/// A tensor in single precision where no kernels are tuned, with a gradient of its own.
fn on_cpu<const D: usize>(tensor: &Tensor<D>) -> Tensor<D> {
    let backends = ["flex", "ndarray"].into_iter();
    let mut picked = backends.filter_map(|backend| device::pick_named(backend).ok());
    let device = picked.next().expect("a CPU backend").autodiff();
    let data = tensor.clone().cast(DType::F32).into_data();
    Tensor::from_data(data, &device).require_grad()
}

/// Whether single precision is multiplied in units that keep ten bits of it.
fn tensor_units(device: &Device) -> bool {
    format!("{device:?}").contains("Cuda")
}

/// Steps of Adam are its formula, of weights that someone else holds and of such that no one does.
#[test]
fn a_step_of_adam_is_its_formula() {
    let device = device::pick().expect("a device");
    let step = |time| AdamStep {
        rate: 0.3,
        beta1: 0.9,
        beta2: 0.99,
        epsilon: 1e-4,
        decay: 0.1,
        time,
    };
    let [mut weights, mut mean, square] = [(); 3].map(|()| random::<2>([7, 5], &device));
    let mut square = square.abs();
    let mut found = [weights.clone(), mean.clone(), square.clone()];
    for time in 3..6 {
        let gradient = random([7, 5], &device);
        let [of, means @ ..] = found;
        let (moved, [first, second]) = adam(of, gradient.clone(), means, step(time));
        found = [moved, first, second];

        let gradient = gradient + weights.clone() * 0.1;
        mean = mean * 0.9 + gradient.clone() * 0.1;
        square = square * 0.99 + gradient.square() * 0.01;
        let passed = i32::try_from(time).expect("a few");
        let corrected = square.clone() / (1.0 - 0.99_f32.powi(passed));
        let along = mean.clone() / (1.0 - 0.9_f32.powi(passed)) * 0.3;
        weights = weights - along / (corrected.sqrt() + 1e-4);
    }
    let expected = [weights, mean, square];
    for ((found, expected), name) in found
        .into_iter()
        .zip(expected)
        .zip(["weights", "mean", "square"])
    {
        assert_near(name, found, expected, 1e-5);
    }
}

/// A convolution in evaluation with a bias or a normalisation is Burn's operations on a CPU.
#[test]
fn convolution_in_evaluation_is_its_composition() {
    let device = device::pick().expect("a device");
    for [channels, results, groups] in [[3, 8, 1], [8, 12, 2]] {
        let images = random::<4>([2, channels, 12, 10], &device);
        let weight = random([results, channels / groups, 3, 3], &device);
        let [gamma, bias, mean, variance] = [(); 4].map(|()| random::<1>([results], &device));
        let variance = variance.square() + 0.5;
        let options = ConvOptions::new([2, 2], [1, 1], [1, 1], groups);
        let norm = |[gamma, bias, mean, variance]: [Tensor<1>; 4]| BatchNormParams {
            weight: gamma,
            bias,
            mean,
            variance,
            epsilon: 1e-5,
        };
        let all = [&gamma, &bias, &mean, &variance];
        let (wide, taps) = (on_cpu(&images).inner(), on_cpu(&weight).inner());
        let wide_bias = on_cpu(&bias).inner();
        let whole = module::conv2d(wide.clone(), taps.clone(), None, options.clone());
        let wide_norm = norm(all.map(|of| on_cpu(of).inner()));
        let whole = batch_norm(whole, wide_norm, Epilogue::None);
        let biased = module::conv2d(wide, taps, Some(wide_bias), options.clone());
        let rectified = || Epilogue::Relu;
        for precision in precisions(&device) {
            let allowed = match (precision, tensor_units(&device)) {
                (Precision::Single, false) => 1e-5,
                (Precision::Single, true) => 2e-3,
                (Precision::BFloat16 | Precision::Float16, _) => 2e-2,
            };
            let images = precision.cast(images.clone());
            let own = norm(all.map(Tensor::clone));
            let shortcut = precision.cast(random(whole.dims(), &device));
            let wide_shortcut = on_cpu(&shortcut).inner();
            let (of, with) = ((images.clone(), weight.clone()), options.clone());
            let found = conv2d_batch_norm(of.0, of.1, None, with, (own.clone(), rectified()));
            assert_eq!(found.dtype(), images.dtype());
            let expected = relu(whole.clone());
            assert_near("normalised", on_cpu(&found).inner(), expected, allowed);
            let (of, with) = ((images.clone(), weight.clone()), options.clone());
            let epilogue = (own, Epilogue::AddRelu(shortcut.clone()));
            let found = conv2d_batch_norm(of.0, of.1, None, with, epilogue);
            let expected = relu(whole.clone() + wide_shortcut.clone());
            assert_near("joined", on_cpu(&found).inner(), expected, allowed);
            for (epilogue, expected) in [
                (rectified(), relu(biased.clone())),
                (
                    Epilogue::AddRelu(shortcut),
                    relu(biased.clone() + wide_shortcut),
                ),
            ] {
                let (images, weight, bias) = (images.clone(), weight.clone(), bias.clone());
                let found = conv2d_epilogue(images, weight, Some(bias), options.clone(), epilogue);
                assert_near("biased", on_cpu(&found).inner(), expected, allowed);
            }
        }
    }
}

/// Means of maps and their gradients are those of Burn's operations on a CPU, in single precision.
#[test]
fn means_of_maps_are_their_composition() {
    let device = device::pick().expect("a device").autodiff();
    for maps in layouts(&device) {
        for precision in precisions(&device) {
            let maps = precision.cast(maps.clone() + 0.5).detach().require_grad();
            let found = global_avg_pool2d(maps.clone());
            assert_eq!(found.dtype(), DType::F32);
            let wide = on_cpu(&maps);
            let expected: Tensor<2> = wide.clone().flatten::<3>(2, 3).mean_dim(2).squeeze_dim(2);
            let [one, other] = [&found, &expected].map(|of| on_cpu(of).inner());
            assert_near("means", one, other, 1e-5);
            let pull = random(found.dims(), &device);
            let wide_pull = Tensor::from_inner(on_cpu(&pull).inner());
            // Maps that something else reads too.
            let (read, wide_read) = (maps.clone().square(), wide.clone().square());
            let found = ((found * pull).sum() + read.cast(DType::F32).sum()).backward();
            let expected = ((expected * wide_pull).sum() + wide_read.sum()).backward();
            let [one, other] = [maps.grad(&found), wide.grad(&expected)];
            let [one, other] = [one, other].map(|of| on_cpu(&of.expect("a gradient")).inner());
            let allowed = match precision {
                Precision::Single => 1e-5,
                Precision::BFloat16 | Precision::Float16 => 1e-2,
            };
            assert_near("by maps", one, other, allowed);
        }
    }
}

/// Gates and their gradients are those of Burn's operations on a CPU, however features lie.
#[test]
fn gates_are_their_composition() {
    let device = device::pick().expect("a device").autodiff();
    for features in layouts(&device) {
        let [batch, channels, height, width] = features.dims();
        for gate in [[batch, channels, 1, 1], [batch, 1, height, width]] {
            // A view, as a gate often is.
            let [images, channels, rows, columns] = gate;
            let transposed = random([channels, images, columns, rows], &device);
            let gate = transposed.permute([1, 0, 3, 2]);
            let shortcut = random(features.dims(), &device);
            for precision in precisions(&device) {
                let leaf = |of: &Tensor<4>| precision.cast(of.clone()).detach().require_grad();
                let leaves = [&features, &gate, &shortcut].map(leaf);
                let wide = leaves.each_ref().map(on_cpu);
                let allowed = match precision {
                    Precision::Single => 1e-5,
                    Precision::BFloat16 | Precision::Float16 => 2e-2,
                };
                for joined in [false, true] {
                    let [of, by, shortcut] = leaves.clone();
                    let found = if joined {
                        mul_gate_epilogue(of, by, Epilogue::AddRelu(shortcut))
                    } else {
                        mul_gate(of, by) + shortcut
                    };
                    let [of, by, shortcut] = wide.clone();
                    let sum = of * by + shortcut;
                    let (seen, pull) = (on_cpu(&found).inner(), random(found.dims(), &device));
                    let mut wide_pull = on_cpu(&pull).inner();
                    let mut expected = sum.clone().inner();
                    if joined {
                        // What is rounded to 0 passes no gradient; whether it is 0 is compared here.
                        wide_pull = wide_pull.mask_fill(seen.clone().lower_equal_elem(0.0), 0.0);
                        expected = relu(expected);
                    }
                    assert_near("gated", seen, expected, allowed);
                    let found = (found.cast(DType::F32) * pull).sum().backward();
                    let expected = (sum * Tensor::from_inner(wide_pull)).sum().backward();
                    for (own, wide) in leaves.iter().zip(&wide) {
                        let pair = [own.grad(&found), wide.grad(&expected)];
                        let pair = pair.map(|of| on_cpu(&of.expect("a gradient")).inner());
                        let [one, other] = pair;
                        assert_near("a gate's gradient", one, other, allowed);
                    }
                }
            }
        }
    }
}

/// Maps as they lie: with channels innermost, few and many, in the middle, and in rows that lie apart.
fn layouts(device: &Device) -> [Tensor<4>; 5] {
    let innermost = |shape: [usize; 4]| random(shape, device).permute([0, 3, 1, 2]);
    [
        innermost([3, 5, 4, 64]),
        random([2, 5, 3, 2], device),
        innermost([2, 3, 3, 12]).slice([0..2, 4..12]),
        innermost([70, 2, 1, 33]),
        innermost([2, 40, 3, 257]),
    ]
}

/// A normalisation whose operands are tracked, here and on a CPU.
struct Normalised {
    maps: [Tensor<4>; 2],
    parameters: [[Tensor<1>; 2]; 2],
    shortcuts: Option<[Tensor<4>; 2]>,
    rectify: bool,
    allowed: f32,
}

impl Normalised {
    fn new(features: Tensor<4>, epilogue: &Epilogue<4>, precision: Precision) -> Self {
        let device = features.device();
        let both = |map: Tensor<4>| {
            let map = map.detach().require_grad();
            [on_cpu(&map), map]
        };
        let channels = features.dims()[1];
        let own = [(); 2].map(|()| random::<1>([channels], &device).require_grad());
        Self {
            maps: both(features),
            parameters: [own.each_ref().map(on_cpu), own],
            shortcuts: match epilogue {
                Epilogue::AddRelu(shortcut) => Some(both(precision.cast(shortcut.clone()))),
                _ => None,
            },
            rectify: !matches!(epilogue, Epilogue::None),
            allowed: match precision {
                Precision::Single => 1e-5,
                Precision::BFloat16 | Precision::Float16 => 1e-2,
            },
        }
    }

    fn epilogue(&self) -> Epilogue<4> {
        match &self.shortcuts {
            Some([_, shortcut]) => Epilogue::AddRelu(shortcut.clone()),
            None if self.rectify => Epilogue::Relu,
            None => Epilogue::None,
        }
    }

    /// The result with running statistics and the one without, whose statistics are compared.
    fn outputs(&self) -> [Tensor<4>; 2] {
        let [wide, features] = self.maps.clone();
        let [[wide_gain, wide_bias], [gamma, bias]] = self.parameters.clone();
        let (of, with) = (gamma.clone(), bias.clone());
        let found = batch_norm_train(features.clone(), of, with, 1e-5, self.epilogue());
        let (of, with) = (wide_gain.clone(), wide_bias.clone());
        let expected = module::batch_norm_train(wide, of, with, 1e-5);
        let near = |name: &str, found: &Tensor<1>, expected: &Tensor<1>| {
            let [found, expected] = [found, expected].map(|of| on_cpu(of).inner());
            assert_near(name, found, expected, self.allowed);
        };
        near("mean", &found.mean, &expected.mean);
        near("variance", &found.variance, &expected.variance);
        let [mean, variance] = [gamma.clone(), bias.clone()].map(Tensor::detach);
        let running = (RunningStatistics { mean, variance }, 0.1);
        let (of, epilogue) = (features.clone(), self.epilogue());
        let (output, running) = batch_norm_update(of, [gamma, bias], 1e-5, epilogue, running);
        let samples = features.shape().num_elements() / features.dims()[1];
        let unbiased = samples as f64 / (samples - 1) as f64;
        let moved = wide_gain * 0.9 + expected.mean * 0.1;
        near("running mean", &running.mean, &moved);
        let moved = wide_bias * 0.9 + expected.variance * (0.1 * unbiased);
        near("running variance", &running.variance, &moved);
        [found.output, output].map(|output| {
            assert_eq!(output.dtype(), features.dtype());
            output.cast(DType::F32)
        })
    }

    /// Compares a result and its gradients with Burn's operations.
    fn compare(&self, output: Tensor<4>, pull: Tensor<4>) {
        let [wide, features] = &self.maps;
        let [[gamma, bias], _] = self.parameters.clone();
        let mut sum = module::batch_norm_train(wide.clone(), gamma, bias, 1e-5).output;
        if let Some([shortcut, _]) = &self.shortcuts {
            sum = sum + shortcut.clone();
        }
        let (seen, mut wide_pull) = (on_cpu(&output).inner(), on_cpu(&pull).inner());
        let mut expected = sum.clone().inner();
        if self.rectify {
            expected = relu(expected);
            // What half precision rounds to 0 passes no gradient; whether it is 0 is compared here.
            wide_pull = wide_pull.mask_fill(seen.clone().lower_equal_elem(0.0), 0.0);
        }
        assert_near("output", seen, expected, self.allowed);
        let weighted = |output: Tensor<4>, pull: Tensor<4>| (output * pull).sum().backward();
        let expected = weighted(sum, Tensor::from_inner(wide_pull));
        let found = weighted(output, pull);
        let shortcuts = self.shortcuts.as_ref().map(|[wide, own]| (wide, own));
        for (wide, own) in [(wide, features)].into_iter().chain(shortcuts) {
            let [one, other] = [own.grad(&found), wide.grad(&expected)];
            let [one, other] = [one, other].map(|of| on_cpu(&of.expect("a gradient")).inner());
            assert_near("by a map", one, other, self.allowed);
        }
        let [wide, own] = &self.parameters;
        for (wide, own) in wide.iter().zip(own) {
            let [one, other] = [own.grad(&found), wide.grad(&expected)];
            let [one, other] = [one, other].map(|of| on_cpu(&of.expect("a gradient")).inner());
            assert_near("by gain or bias", one, other, self.allowed);
        }
    }
}

/// Numbers from -1 to 1, the same in every run: each test has a thread, and the process's generator of
/// Burn is drawn from by all of them.
fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    thread_local! {
        static DRAWN: Cell<u64> = const { Cell::new(0) };
    }
    let seed = DRAWN.get();
    DRAWN.set(seed + 1);
    let mut stream = Seed::new(seed).stream();
    let numbers = (0..shape.iter().product()).map(|_| stream.random_range(-1.0..1.0_f32));
    Tensor::from_data(TensorData::new(numbers.collect(), shape), device)
}

fn assert_finite<const D: usize>(name: &str, tensor: Tensor<D>) {
    let largest = tensor.abs().max().into_scalar::<f32>();
    assert!(
        largest.is_finite() && largest > 0.0,
        "{name}: largest value {largest}"
    );
}

/// The gradient at the input of a function is there and finite.
fn backward<const D: usize>(
    name: &str,
    input: Tensor<D>,
    function: impl FnOnce(Tensor<D>) -> Tensor<1>,
) {
    let input = input.require_grad();
    let gradients = function(input.clone()).backward();
    let gradient = input
        .grad(&gradients)
        .unwrap_or_else(|| panic!("{name}: no gradient"));
    assert_finite(name, gradient);
}

/// The gradients of a loss at an input of zeros, by input and parameters, are finite: no root, logarithm or
/// quotient is without a floor.
fn backward_at_zero<M: Module, const D: usize>(
    name: &str,
    module: &M,
    (shape, device): ([usize; D], &Device),
    loss: impl FnOnce(Tensor<D>) -> Tensor<1>,
) {
    struct Finite<'a>(&'a str, &'a Gradients);
    impl ModuleVisitor for Finite<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let gradient = param.val().grad(self.1);
            // Unlike the largest value, a sum is not a number if one is none.
            let sum = gradient.map_or(0.0, |of| of.abs().sum().into_scalar::<f32>());
            assert!(
                sum.is_finite(),
                "{} at zero: a parameter of {:?}",
                self.0,
                param.shape()
            );
        }
    }
    let input = Tensor::zeros(shape, device).require_grad();
    let gradients = loss(input.clone()).backward();
    module.visit(&mut Finite(name, &gradients));
    let gradient = input.grad(&gradients);
    let sum = gradient.map_or(0.0, |of| of.abs().sum().into_scalar::<f32>());
    assert!(sum.is_finite(), "{name} at zero: by the input");
}

fn block<C: BlockConfig>(name: &str, config: &C, place: FeatureShape, device: &Device) {
    let block = config.init(place, &Init::new(Seed::new(1), device));
    let FeatureShape {
        channels,
        height,
        width,
    } = place;
    let input = random([2, channels, height, width], device);

    let output = config.output(place);
    let expected = [2, output.channels, output.height, output.width];
    // One copy for all: weights are drawn when they are first used.
    let valid = block.valid();
    let evaluate = |input: Tensor<4>| valid.forward(input.inner());
    let evaluated = evaluate(input.clone());
    assert_eq!(evaluated.dims(), expected, "{name}");
    assert_finite(name, evaluated.clone());
    for precision in precisions(device) {
        if precision != Precision::Single {
            let found = evaluate(precision.cast(input.clone()));
            assert_near(name, found, evaluated.clone(), HALF);
        }
        backward(name, input.clone(), |input| {
            let output = block.forward(precision.cast(input)).cast(DType::F32);
            (output + 0.1).square().sum()
        });
    }
    let at = ([2, channels, height, width], device);
    backward_at_zero(name, &block, at, |input| {
        (block.forward(input) + 0.1).square().sum()
    });
}

/// The precisions that the device has.
fn precisions(device: &Device) -> Vec<Precision> {
    let mut all = vec![Precision::Single, Precision::BFloat16, Precision::Float16];
    all.retain(|precision| precision.is_supported(device));
    all
}

/// What numbers of bfloat16, with eight bits of mantissa, are off by after some layers, on average.
const HALF: f32 = 0.03;

/// Two tensors agree but for a share of their root mean square.
fn assert_near<const D: usize>(name: &str, found: Tensor<D>, expected: Tensor<D>, allowed: f32) {
    let size = |tensor: Tensor<D>| tensor.square().mean().sqrt().into_scalar::<f32>();
    let (whole, off) = (
        size(expected.clone()),
        size(found.cast(DType::F32) - expected),
    );
    assert!(off <= allowed * whole, "{name}: off by {off} of {whole}");
}

fn blocks(device: &Device) {
    let gate = SqueezeExcitationConfig::new().with_reduction(2);
    block("empty", &(), PLACE, device);
    block("squeeze-and-excitation", &gate, PLACE, device);
    block("tuple", &(gate.clone(), ()), PLACE, device);
    block("vector", &vec![gate.clone()], PLACE, device);
    block("option", &Some(gate.clone()), PLACE, device);

    let residual = |kind, groups| ResidualBlockConfig {
        kind,
        planes: 4,
        hidden: 4,
        groups,
        stride: 2,
        instance: InstanceNormed::None,
        inside: gate.clone(),
    };
    block("basic", &residual(ResidualKind::Basic, 1), PLACE, device);
    block(
        "bottleneck",
        &residual(ResidualKind::Bottleneck, 2),
        PLACE,
        device,
    );

    let mut network = ResNetConfig::resnet18().with_width(2).after(&[4], gate);
    network.blocks = [1; 4];
    let image = InputSize::new(32, 32).rgb();
    let ceil = Stem::Large(MaxPool::Ceil);
    for ibn in [Ibn::None, Ibn::A, Ibn::B] {
        let network = network.clone().with_stem(ceil).with_ibn(ibn);
        block("network", &network, image, device);
    }

    let norm = BatchNormConfig::new(4).init(device);
    backward(
        "batch normalisation",
        random([2, 4, 4, 2], device),
        |input| norm.forward(input).powi_scalar(3).sum(),
    );
}

fn attention(device: &Device) {
    let cbam = (CbamChannelConfig::new(), CbamSpatialConfig::new());
    block("channel, then spatial", &cbam, PLACE, device);
    let fully_connected = ParallelConfig::new(
        FullyConnectedSpatialConfig::new(),
        FullyConnectedChannelConfig::new(),
    );
    block("fully connected", &fully_connected, PLACE, device);
    let dot = NonLocalConfig::new().with_similarity(Similarity::DotProduct);
    block("non-local", &(NonLocalConfig::new(), dot), PLACE, device);
    let channel = FncChannelConfig::new().with_hidden(4).with_groups(2);
    let further = (FncSpatialConfig::new(), channel);
    block("further non-local and channel", &further, PLACE, device);
    let rga = (RgaSpatialConfig::new(), RgaChannelConfig::new());
    block("relation-aware", &rga, PLACE, device);
    let (spatial, channel) = rga;
    let resized = ResizedConfig::new([2, 2], spatial);
    let parallel = ParallelConfig::new(resized, channel).with_combine(CombineGates::Mean);
    block("side by side", &parallel, PLACE, device);
}

/// What places gather, and the gradients by what they gather it from, are those of all weights at once:
/// here in four turns.
fn attention_by_turns(device: &Device) {
    let leaf = |shape| random::<3>(shape, device).require_grad();
    let maps = [[1, 4, 2048], [1, 4, 3], [1, 2, 3]].map(leaf);
    let [query, key, value] = maps.clone();
    let found = reid_ops::attention(query.clone(), key.clone(), value.clone());
    let weights = softmax(query.transpose().matmul(key), 2);
    let expected = value.matmul(weights.transpose());
    let (one, other) = (found.clone().inner(), expected.clone().inner());
    assert_near("attention", one, other, 1e-4);
    let pull = random(found.dims(), device);
    let [found, expected] =
        [found, expected].map(|gathered| (gathered * pull.clone()).sum().backward());
    for map in maps {
        let by = |gradients| map.grad(gradients).expect("a gradient");
        assert_near("attention's gradient", by(&found), by(&expected), 1e-4);
    }
}

fn head<C: HeadConfig>(name: &str, config: &C, device: &Device) {
    let head = config.init(PLACE, CLASSES, &Init::new(Seed::new(1), device));
    let input = random([2, 4, 4, 2], device);
    let valid = head.valid();
    let output = valid.forward(input.clone().inner());
    let expected = config.output(PLACE, CLASSES);
    assert_eq!(output.embedding.dims(), [2, expected.embedding], "{name}");
    let embedding = output.embedding;
    let features = output.features.iter().map(|features| features.dims()[1]);
    assert_eq!(features.collect::<Vec<_>>(), expected.features, "{name}");
    for precision in precisions(device) {
        if precision != Precision::Single {
            let found = valid.forward(precision.cast(input.clone().inner()));
            assert_near(name, found.embedding, embedding.clone(), HALF);
        }
        backward(name, random([3, 4, 4, 2], device), |features| {
            let step = TrainingStep::new(&[0, 1, 0], Seed::new(1));
            let output = head.forward_train(precision.cast(features), step);
            let logits = output.logits.into_iter();
            let logits = logits.map(|logits| logits.square().sum());
            logits.fold(output.embedding.powi_scalar(3).sum(), Tensor::add)
        });
    }
    backward_at_zero(name, &head, ([3, 4, 4, 2], device), |features| {
        let step = TrainingStep::new(&[0, 1, 0], Seed::new(1));
        let output = head.forward_train(features, step);
        let logits = output
            .logits
            .into_iter()
            .map(|logits| (logits + 0.1).square().sum());
        logits.fold((output.embedding + 0.1).square().sum(), Tensor::add)
    });
}

fn heads(device: &Device) {
    let pooled = PooledHeadConfig::new().with_pool(PoolConfig::Max);
    head("pooled", &pooled, device);
    head(
        "generalised mean",
        &PooledHeadConfig::new().with_pool(PoolConfig::GEM),
        device,
    );
    for exponent in [1e-30, 9.0, 100.0, 1e30] {
        let pool = PoolConfig::GeneralisedMean { exponent };
        let config = PooledHeadConfig::new().with_pool(pool);
        head(&format!("generalised mean of {exponent}"), &config, device);
    }
    head(
        "neck",
        &BnNeckConfig::new().with_embedding(NeckFeature::Before),
        device,
    );
    head("tuple", &(BnNeckConfig::new(), pooled), device);

    let patches = Patches {
        height: 2,
        width: 1,
    };
    let mix = CutMix::new().with_patches(patches).with_cut(2);
    let guided = |cam_source| BranchConfig {
        dimensions: 3,
        augment: FeatureAugment::CutMix {
            mix: mix.clone(),
            cam_source,
        },
    };
    let branched = BranchedHeadConfig::new().with_global(3).with_branches(vec![
        guided(CamSource::ClosedForm),
        guided(CamSource::Autodiff),
        BranchConfig::drop(3, BatchDrop::new()),
    ]);
    head("branched", &branched, device);
    late_stages(device);
}

/// Heads whose branches have late stages of their own.
fn late_stages(device: &Device) {
    let mut network = ResNetConfig::resnet18().with_width(2).with_last_stride(1);
    network.blocks = [1, 1, 1, 1];
    network.width = 1;
    let cut = SplitPoint { stage: 4, block: 0 };
    let late_stages = LateStagesConfig {
        network,
        split: cut,
    };
    let neck = ReducedBnNeckConfig::new().with_dimensions(3);
    let branches = FncBranches::new()
        .with_spatial_neck(neck.clone())
        .with_channel(FncChannelConfig::new().with_hidden(4).with_groups(2))
        .with_channel_neck(neck);
    let further = FncHeadConfig {
        late_stages: Some(late_stages.clone()),
        branches,
    };
    head("further attention", &further, device);
    let granules = |stripes| {
        StripeHeadConfig::new()
            .with_stripes(stripes)
            .with_dimensions(3)
    };
    let branches = vec![granules(0), granules(2)];
    head(
        "granules",
        &MgnHeadConfig {
            late_stages,
            branches,
        },
        device,
    );
}

fn criterion<C: CriterionConfig>(name: &str, config: &C, device: &Device) {
    let shape = OutputShape::new(3, vec![3, 3], CLASSES);
    let criterion = config.init(&shape, &Init::new(Seed::new(1), device));
    let targets = Targets::new(&[0, 0, 1, 1, 1], device);
    let loss = |features: Tensor<2>| {
        let logits = features.clone().slice([0..5, 0..CLASSES]);
        let branch = ReidOutput::single(features, logits);
        criterion.forward(&branch.clone().concat(branch), &targets)
    };
    backward(name, random([5, 3], device), loss);
    backward_at_zero(name, &criterion, ([5, 3], device), loss);
}

fn criteria(device: &Device) {
    let identity = IdentityLossConfig::new().with_smoothing(0.1);
    criterion("identity", &identity, device);
    criterion(
        "identity, other form",
        &identity.clone().with_form(Smoothing::OtherClasses),
        device,
    );
    let triplet = BatchHardTripletConfig::new();
    criterion(
        "triplet",
        &triplet.clone().with_margin(Margin::Hard(3.0)),
        device,
    );
    let soft = triplet
        .with_margin(Margin::Soft)
        .with_reduction(Reduction::Sum);
    criterion("soft triplet", &soft, device);
    criterion(
        "cosine triplet",
        &soft.clone().with_distance(Distance::Cosine),
        device,
    );
    let center = CenterLossConfig::new().with_weight(0.5);
    criterion("center", &center, device);
    let weighted = WeightedConfig {
        weight: 2.0,
        criterion: identity,
    };
    criterion("sum", &(weighted, Some(soft), vec![center]), device);
}
