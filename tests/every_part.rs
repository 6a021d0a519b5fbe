//! Runs every block, head and criterion forward and backward at a tiny size, in every precision that the
//! device supports.
//!
//! The device is the one that `reid::device::pick` returns, so `BURN_DEVICE` and Cargo features choose it.
//! All parts are in one test, because GPU backends compile their kernels again in every process.

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
            CbamChannelConfig, CbamSpatialConfig, CombineGates, FixedSize, FncChannelConfig,
            FncSpatialConfig, FullyConnectedChannelConfig, FullyConnectedSpatialConfig,
            NonLocalConfig, ParallelConfig, ResizedConfig, RgaChannelConfig, RgaSpatialConfig,
            Similarity, SqueezeExcitationConfig,
        },
        backbone::{
            DenseNetConfig, Dilation, FirstDilation, Ibn, InvertedResidualConfig, LateStagesConfig,
            MaxPool, MobileNetV2Config, OsBlockConfig, OsInstanceNorm, OsNetConfig,
            OsNetLateStagesConfig, ResNetConfig, ResidualBlockConfig, ResidualKind, Shortcut,
            SplitPoint, Stem,
        },
        batch_drop::BatchDrop,
        cut_mix::{CutMix, Patches},
        distance::Distance,
        head::{
            AugmentConfig, BnNeckConfig, BranchConfig, BranchedHeadConfig, CamSource, FncBranches,
            FncHeadConfig, LightMbnBranches, LightMbnHeadConfig, MgnHeadConfig, NeckFeature,
            PooledHeadConfig, ReducedBnNeckConfig, StripeHeadConfig,
        },
        loss::{
            ArcFaceConfig, CenterLossConfig, CentroidUpdate, CircleLossConfig,
            ClusterContrastConfig, CosFaceConfig, CrossBatchMemoryConfig, DistillationConfig,
            DistillationObjective, IdentityLossConfig, Margin, MultiSimilarityConfig, Reduction,
            Smoothing, SupervisedContrastiveConfig, TripletLossConfig, TripletMining,
            WeightedConfig, WeightedRegularisedTripletConfig,
        },
        norm::BatchNormConfig,
        pool::PoolConfig,
        resample::RoiAlign,
        segmentation::{
            AsppConfig, DecodeHeadConfig, LabelMaps, PixelLoss, PyramidPoolingConfig,
            SegmentationConfig,
        },
        top_drop::TopDrop,
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

const INPUT: FeatureShape = FeatureShape::new(4, 4, 2);
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
    // Weights are initialised from this seed. With other seeds, a network of two channels may lose much
    // accuracy in half precision. No other test in this file uses the generator of the device.
    device.seed(1);
    blocks(&device);
    attention(&device);
    if ["flex", "ndarray"].contains(&device::backend(&device)) {
        // A GPU would autotune each of two dozen matrix products for seconds.
        attention_in_query_chunks(&device);
    }
    heads(&device);
    criteria(&device);
    segmentation(&device);
}

/// Batch normalisation in training and its gradients must equal Burn's operations on a CPU, for every memory
/// layout of the features.
#[test]
fn normalisation_equals_burns_operations() {
    let device = device::pick().expect("a device").autodiff();
    for features in layouts(&device) {
        // One residual with the memory layout of the features, and a contiguous one.
        let same_layout = (features.clone() * 7.0).sin();
        let shortcuts = [same_layout, random(features.dims(), &device)].map(Epilogue::AddRelu);
        let epilogues = [Epilogue::None, Epilogue::Relu].into_iter();
        for epilogue in epilogues.chain(shortcuts) {
            for precision in precisions(&device) {
                let features = precision.cast(features.clone() * 2.0 + 3.0);
                let case = BatchNormCase::new(features, &epilogue, precision);
                let grad_output = random(case.maps[1].dims(), &device);
                for output in case.outputs() {
                    case.compare(output, grad_output.clone());
                }
            }
        }
    }
}

/// Convolutions and their gradients must equal Burn's operations on a CPU.
#[test]
fn convolution_equals_burns_operations() {
    let device = device::pick().expect("a device").autodiff();
    let innermost = |shape: [usize; 4]| random(shape, &device).permute([0, 3, 1, 2]);
    // A stride with more positions than one block of a kernel; a 1x1 convolution; a stem; groups.
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
        let grad_output = random(whole.dims(), &device);
        let expected = output_and_gradients(
            &whole,
            &on_cpu(&grad_output).inner(),
            [&wide, &taps],
            &shift,
        );
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
            let found = output_and_gradients(
                &output,
                &grad_output.clone().inner(),
                [&features, &weight],
                &bias,
            );
            let (maps, by_bias) = expected.clone();
            for (found, expected) in found.0.into_iter().zip(maps) {
                assert_near(&name, found, expected, allowed);
            }
            assert_near(&name, found.1, by_bias, allowed);
        }
    }
}

/// An output, and its gradients with respect to features, weight and bias for the output gradient
/// `grad_output`, all on a CPU.
fn output_and_gradients(
    output: &Tensor<4>,
    grad_output: &Tensor<4>,
    [features, weight]: [&Tensor<4>; 2],
    bias: &Tensor<1>,
) -> ([Tensor<4>; 3], Tensor<1>) {
    let wide = output.clone().cast(DType::F32);
    let gradients = (wide * Tensor::from_inner(grad_output.clone()))
        .sum()
        .backward();
    let by = |of: &Tensor<4>| on_cpu(&of.grad(&gradients).expect("a gradient")).inner();
    let by_bias = bias.grad(&gradients).expect("a gradient");
    let maps = [on_cpu(output).inner(), by(features), by(weight)];
    (maps, on_cpu(&by_bias).inner())
}

/// Copies a tensor to a CPU in single precision, as a leaf that tracks its gradient.
fn on_cpu<const D: usize>(tensor: &Tensor<D>) -> Tensor<D> {
    let backends = ["flex", "ndarray"].into_iter();
    let mut picked = backends.filter_map(|backend| device::pick_named(backend).ok());
    let device = picked.next().expect("a CPU backend").autodiff();
    let data = tensor.clone().cast(DType::F32).into_data();
    Tensor::from_data(data, &device).require_grad()
}

/// Whether the device multiplies single precision in tensor cores (TF32), which keep ten bits of the
/// mantissa.
fn tensor_units(device: &Device) -> bool {
    format!("{device:?}").contains("Cuda")
}

/// Adam's steps must equal its formula, for weights that are shared with another tensor and for weights that
/// are not.
#[test]
fn a_step_of_adam_equals_its_formula() {
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
        let [current, moments @ ..] = found;
        let (updated, [first, second]) = adam(current, gradient.clone(), moments, step(time));
        found = [updated, first, second];

        let gradient = gradient + weights.clone() * 0.1;
        mean = mean * 0.9 + gradient.clone() * 0.1;
        square = square * 0.99 + gradient.square() * 0.01;
        let steps = i32::try_from(time).expect("a small number of steps");
        let corrected = square.clone() / (1.0 - 0.99_f32.powi(steps));
        let update = mean.clone() / (1.0 - 0.9_f32.powi(steps)) * 0.3;
        weights = weights - update / (corrected.sqrt() + 1e-4);
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

/// A convolution in evaluation, with a bias or a batch normalisation, must equal Burn's operations on a CPU.
#[test]
fn convolution_in_evaluation_equals_burns_operations() {
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
        let relu_epilogue = || Epilogue::Relu;
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
            let found = conv2d_batch_norm(of.0, of.1, None, with, (own.clone(), relu_epilogue()));
            assert_eq!(found.dtype(), images.dtype());
            let expected = relu(whole.clone());
            assert_near("normalised", on_cpu(&found).inner(), expected, allowed);
            let (of, with) = ((images.clone(), weight.clone()), options.clone());
            let epilogue = (own, Epilogue::AddRelu(shortcut.clone()));
            let found = conv2d_batch_norm(of.0, of.1, None, with, epilogue);
            let expected = relu(whole.clone() + wide_shortcut.clone());
            assert_near("residual added", on_cpu(&found).inner(), expected, allowed);
            for (epilogue, expected) in [
                (relu_epilogue(), relu(biased.clone())),
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

/// Global average pooling and its gradient must equal Burn's operations on a CPU, in single precision.
#[test]
fn global_average_pooling_equals_burns_operations() {
    let device = device::pick().expect("a device").autodiff();
    for maps in layouts(&device) {
        for precision in precisions(&device) {
            let maps = precision.cast(maps.clone() + 0.5).detach().require_grad();
            let found = global_avg_pool2d(maps.clone());
            assert_eq!(found.dtype(), DType::F32);
            let wide = on_cpu(&maps);
            let expected: Tensor<2> = wide.clone().flatten::<3>(2, 3).mean_dim(2).squeeze_dim(2);
            let [one, other] = [&found, &expected].map(|of| on_cpu(of).inner());
            assert_near("global average", one, other, 1e-5);
            let grad_output = random(found.dims(), &device);
            let wide_grad_output = Tensor::from_inner(on_cpu(&grad_output).inner());
            // The feature maps are also used by another operation.
            let (read, wide_read) = (maps.clone().square(), wide.clone().square());
            let found = ((found * grad_output).sum() + read.cast(DType::F32).sum()).backward();
            let expected = ((expected * wide_grad_output).sum() + wide_read.sum()).backward();
            let [one, other] = [maps.grad(&found), wide.grad(&expected)];
            let [one, other] = [one, other].map(|of| on_cpu(&of.expect("a gradient")).inner());
            let allowed = match precision {
                Precision::Single => 1e-5,
                Precision::BFloat16 | Precision::Float16 => 1e-2,
            };
            assert_near("gradient of the feature maps", one, other, allowed);
        }
    }
}

/// Gates and their gradients must equal Burn's operations on a CPU, for every memory layout of the features.
#[test]
fn gates_equal_burns_operations() {
    let device = device::pick().expect("a device").autodiff();
    for features in layouts(&device) {
        let [batch, channels, height, width] = features.dims();
        for gate in [[batch, channels, 1, 1], [batch, 1, height, width]] {
            // A gate is often a view that is not contiguous.
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
                for add_relu in [false, true] {
                    let [of, by, shortcut] = leaves.clone();
                    let found = if add_relu {
                        mul_gate_epilogue(of, by, Epilogue::AddRelu(shortcut))
                    } else {
                        mul_gate(of, by) + shortcut
                    };
                    let [of, by, shortcut] = wide.clone();
                    let sum = of * by + shortcut;
                    let (seen, grad_output) =
                        (on_cpu(&found).inner(), random(found.dims(), &device));
                    let mut wide_grad_output = on_cpu(&grad_output).inner();
                    let mut expected = sum.clone().inner();
                    if add_relu {
                        // An output that half precision rounds to 0 passes no gradient. The outputs are
                        // compared below, so the mask may use the rounded ones.
                        wide_grad_output =
                            wide_grad_output.mask_fill(seen.clone().lower_equal_elem(0.0), 0.0);
                        expected = relu(expected);
                    }
                    assert_near("gated", seen, expected, allowed);
                    let found = (found.cast(DType::F32) * grad_output).sum().backward();
                    let expected = (sum * Tensor::from_inner(wide_grad_output))
                        .sum()
                        .backward();
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

/// Feature maps in different memory layouts: contiguous, with channels innermost (few and many), and a slice
/// of the channels.
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

/// The operands of a batch normalisation, on a CPU and on the device; all of them track gradients.
struct BatchNormCase {
    maps: [Tensor<4>; 2],
    parameters: [[Tensor<1>; 2]; 2],
    shortcuts: Option<[Tensor<4>; 2]>,
    relu: bool,
    allowed: f32,
}

impl BatchNormCase {
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
            relu: !matches!(epilogue, Epilogue::None),
            allowed: match precision {
                Precision::Single => 1e-5,
                Precision::BFloat16 | Precision::Float16 => 1e-2,
            },
        }
    }

    fn epilogue(&self) -> Epilogue<4> {
        match &self.shortcuts {
            Some([_, shortcut]) => Epilogue::AddRelu(shortcut.clone()),
            None if self.relu => Epilogue::Relu,
            None => Epilogue::None,
        }
    }

    /// The outputs of `batch_norm_train` and of `batch_norm_update`. Compares the batch statistics and the
    /// running statistics.
    fn outputs(&self) -> [Tensor<4>; 2] {
        let [wide, features] = self.maps.clone();
        let [[wide_gamma, wide_bias], [gamma, bias]] = self.parameters.clone();
        let (of, with) = (gamma.clone(), bias.clone());
        let found = batch_norm_train(features.clone(), of, with, 1e-5, self.epilogue());
        let (of, with) = (wide_gamma.clone(), wide_bias.clone());
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
        let updated = wide_gamma * 0.9 + expected.mean * 0.1;
        near("running mean", &running.mean, &updated);
        let updated = wide_bias * 0.9 + expected.variance * (0.1 * unbiased);
        near("running variance", &running.variance, &updated);
        [found.output, output].map(|output| {
            assert_eq!(output.dtype(), features.dtype());
            output.cast(DType::F32)
        })
    }

    /// Compares an output and its gradients with Burn's operations.
    fn compare(&self, output: Tensor<4>, grad_output: Tensor<4>) {
        let [wide, features] = &self.maps;
        let [[gamma, bias], _] = self.parameters.clone();
        let mut sum = module::batch_norm_train(wide.clone(), gamma, bias, 1e-5).output;
        if let Some([shortcut, _]) = &self.shortcuts {
            sum = sum + shortcut.clone();
        }
        let (seen, mut wide_grad_output) = (on_cpu(&output).inner(), on_cpu(&grad_output).inner());
        let mut expected = sum.clone().inner();
        if self.relu {
            expected = relu(expected);
            // An output that half precision rounds to 0 passes no gradient. The outputs are compared below,
            // so the mask may use the rounded ones.
            wide_grad_output = wide_grad_output.mask_fill(seen.clone().lower_equal_elem(0.0), 0.0);
        }
        assert_near("output", seen, expected, self.allowed);
        let weighted =
            |output: Tensor<4>, grad_output: Tensor<4>| (output * grad_output).sum().backward();
        let expected = weighted(sum, Tensor::from_inner(wide_grad_output));
        let found = weighted(output, grad_output);
        let shortcuts = self.shortcuts.as_ref().map(|[wide, own]| (wide, own));
        for (wide, own) in [(wide, features)].into_iter().chain(shortcuts) {
            let [one, other] = [own.grad(&found), wide.grad(&expected)];
            let [one, other] = [one, other].map(|of| on_cpu(&of.expect("a gradient")).inner());
            assert_near("gradient of features or residual", one, other, self.allowed);
        }
        let [wide, own] = &self.parameters;
        for (wide, own) in wide.iter().zip(own) {
            let [one, other] = [own.grad(&found), wide.grad(&expected)];
            let [one, other] = [one, other].map(|of| on_cpu(&of.expect("a gradient")).inner());
            assert_near("gradient of weight or bias", one, other, self.allowed);
        }
    }
}

/// Random values from -1 to 1, the same in every run. The seeds are counted per thread, because every test
/// has its own thread, and Burn's generator is shared by all tests of the process.
fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    thread_local! {
        static SEED: Cell<u64> = const { Cell::new(0) };
    }
    let seed = SEED.get();
    SEED.set(seed + 1);
    let mut stream = Seed::new(seed).stream();
    let values = (0..shape.iter().product()).map(|_| stream.random_range(-1.0..1.0_f32));
    Tensor::from_data(TensorData::new(values.collect(), shape), device)
}

fn assert_finite<const D: usize>(name: &str, tensor: Tensor<D>) {
    let largest = tensor.abs().max().into_scalar::<f32>();
    assert!(
        largest.is_finite() && largest > 0.0,
        "{name}: expected finite values that are not all zero, found a largest magnitude of {largest}"
    );
}

/// Checks that a function has a finite gradient with respect to its input.
fn backward<const D: usize>(
    name: &str,
    input: Tensor<D>,
    function: impl FnOnce(Tensor<D>) -> Tensor<1>,
) {
    let input = input.require_grad();
    let gradients = function(input.clone()).backward();
    let gradient = input
        .grad(&gradients)
        .unwrap_or_else(|| panic!("{name}: no gradient reaches the input"));
    assert_finite(name, gradient);
}

/// Checks that the gradients of a loss at an input of zeros are finite, with respect to input and
/// parameters. A square root, logarithm or quotient without a lower bound would fail.
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
            // A sum is NaN if any value is NaN; a maximum may ignore NaN.
            let sum = gradient.map_or(0.0, |of| of.abs().sum().into_scalar::<f32>());
            assert!(
                sum.is_finite(),
                "{} at zero input: the gradient of a parameter of shape {:?} is not finite",
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
    assert!(
        sum.is_finite(),
        "{name} at zero input: the gradient of the input is not finite"
    );
}

fn block<C: BlockConfig>(name: &str, config: &C, shape: FeatureShape, device: &Device) {
    let block = config.init(shape, &Init::new(Seed::new(1), device));
    let FeatureShape {
        channels,
        height,
        width,
    } = shape;
    let input = random([2, channels, height, width], device);

    let output = config.output(shape);
    let expected = [2, output.channels, output.height, output.width];
    // One copy serves all calls: parameters are initialised lazily, at their first use.
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

/// The precisions that the device supports.
fn precisions(device: &Device) -> Vec<Precision> {
    let mut all = vec![Precision::Single, Precision::BFloat16, Precision::Float16];
    all.retain(|precision| precision.is_supported(device));
    all
}

/// The tolerance for bfloat16, whose mantissa has eight bits, after a few layers.
const HALF: f32 = 0.03;

/// Checks that the root mean square error is at most `allowed` times the root mean square of `expected`.
fn assert_near<const D: usize>(name: &str, found: Tensor<D>, expected: Tensor<D>, allowed: f32) {
    let size = |tensor: Tensor<D>| tensor.square().mean().sqrt().into_scalar::<f32>();
    let (whole, off) = (
        size(expected.clone()),
        size(found.cast(DType::F32) - expected),
    );
    assert!(
        off <= allowed * whole,
        "{name}: the error is {off}, at most {allowed} of {whole} is allowed (root mean squares)"
    );
}

/// OSNet, `MobileNetV2` and their blocks.
fn light_networks(gate: &SqueezeExcitationConfig, device: &Device) {
    let image = InputSize::new(32, 32).rgb();
    for instance in [
        OsInstanceNorm::None,
        OsInstanceNorm::Sum,
        OsInstanceNorm::Residual,
    ] {
        let config = OsBlockConfig {
            channels: 8,
            instance,
        };
        block("omni-scale block", &config, INPUT, device);
    }
    let osnet = OsNetConfig::x0_25().with_channels([4, 8, 8, 8]);
    block("OSNet", &osnet.after(&[2], gate.clone()), image, device);

    for (channels, expansion, stride) in [(4, Some(6), 1), (6, None, 2)] {
        let config = InvertedResidualConfig {
            channels,
            expansion,
            stride,
        };
        block("inverted residual block", &config, INPUT, device);
    }
    let mobile = MobileNetV2Config {
        stem: 4,
        channels: [4; 7],
        blocks: [1; 7],
        last: 4,
        ..MobileNetV2Config::x1_0()
    };
    let mobile = mobile.with_last_stride(1).after(&[3], gate.clone());
    block("MobileNetV2", &mobile, image, device);
}

/// Networks for images of 32 x 32, with both shortcuts, both kinds of dense layer, and dropout.
fn small_images(gate: &SqueezeExcitationConfig, device: &Device) {
    let image = InputSize::new(8, 8).rgb();
    for shortcut in [Shortcut::Padded, Shortcut::Projection] {
        let network = ResNetConfig::cifar(8).with_width(2);
        let network = network.with_shortcut(shortcut).after(&[3], gate.clone());
        block("ResNet for CIFAR", &network, image, device);
    }
    for network in [DenseNetConfig::cifar(7), DenseNetConfig::cifar_bc(10)] {
        let dense = DenseNetConfig {
            stem_channels: 4,
            growth: 2,
            dropout: 0.5,
            ..network
        };
        let built = dense.init(image, &Init::new(Seed::new(1), device));
        let input = random([2, 3, 8, 8], device);
        backward("dropout", input, |input| {
            built
                .forward_train(input, Seed::new(1))
                .powi_scalar(2)
                .sum()
        });
        block("DenseNet", &dense.after(&[1], gate.clone()), image, device);
    }
}

fn blocks(device: &Device) {
    let gate = SqueezeExcitationConfig::new().with_reduction(2);
    block("empty", &(), INPUT, device);
    block("squeeze-and-excitation", &gate, INPUT, device);
    block("tuple", &(gate.clone(), ()), INPUT, device);
    block("vector", &vec![gate.clone()], INPUT, device);
    block("option", &Some(gate.clone()), INPUT, device);

    let residual = |kind, groups, dilation| {
        let config = ResidualBlockConfig {
            groups,
            stride: 2,
            dilation,
            ..ResidualBlockConfig::new(kind, 4)
        };
        config.inside(gate.clone())
    };
    block("basic", &residual(ResidualKind::Basic, 1, 1), INPUT, device);
    block(
        "bottleneck",
        &residual(ResidualKind::Bottleneck, 2, 2),
        INPUT,
        device,
    );

    light_networks(&gate, device);
    small_images(&gate, device);

    let mut network = ResNetConfig::resnet18().with_width(2).after(&[4], gate);
    network.blocks = [1; 4];
    let image = InputSize::new(32, 32).rgb();
    let ceil = Stem::Large(MaxPool::Ceil);
    for ibn in [Ibn::None, Ibn::A, Ibn::B] {
        let network = network.clone().with_stem(ceil).with_ibn(ibn);
        block("network", &network, image, device);
    }

    let mut network = ResNetConfig::resnet50().with_width(2);
    network.blocks = [1; 4];
    let network = network
        .with_stem(Stem::Deep(MaxPool::Padded))
        .with_dilation(Dilation::Stride8(FirstDilation::Stage));
    block("dilated network", &network, image, device);

    let norm = BatchNormConfig::new(4).init(device);
    backward(
        "batch normalisation",
        random([2, 4, 4, 2], device),
        |input| norm.forward(input).powi_scalar(3).sum(),
    );
}

fn attention(device: &Device) {
    let cbam = (CbamChannelConfig::new(), CbamSpatialConfig::new());
    block("channel, then spatial", &cbam, INPUT, device);
    let fully_connected = ParallelConfig::new(
        FullyConnectedSpatialConfig::new(),
        FullyConnectedChannelConfig::new(),
    );
    block("fully connected", &fully_connected, INPUT, device);
    let dot = NonLocalConfig::new().with_similarity(Similarity::DotProduct);
    block("non-local", &(NonLocalConfig::new(), dot), INPUT, device);
    let channel = FncChannelConfig::new().with_hidden(4).with_groups(2);
    let further = (FncSpatialConfig::new(), channel);
    block("further non-local and channel", &further, INPUT, device);
    let rga = (RgaSpatialConfig::new(), RgaChannelConfig::new());
    block("relation-aware", &rga, INPUT, device);
    let (spatial, channel) = rga;
    let near = (
        SqueezeExcitationConfig::new().with_initial_gate(0.95),
        spatial.clone().with_initial_gate(0.95),
    );
    block("gates that start near 1", &near, INPUT, device);
    let resized = ResizedConfig::new([2, 2], spatial);
    let sampled = resized.clone().with_pooling(FixedSize::RoiAlign);
    block("sampled to a fixed size", &sampled, INPUT, device);
    let parallel = ParallelConfig::new(resized, channel).with_combine(CombineGates::Mean);
    block("side by side", &parallel, INPUT, device);
}

/// Attention in four chunks of queries, and its gradients, must equal attention with all weights in memory at
/// once.
fn attention_in_query_chunks(device: &Device) {
    let leaf = |shape| random::<3>(shape, device).require_grad();
    let maps = [[1, 4, 2048], [1, 4, 3], [1, 2, 3]].map(leaf);
    let [query, key, value] = maps.clone();
    let found = reid_ops::attention(query.clone(), key.clone(), value.clone());
    let weights = softmax(query.transpose().matmul(key), 2);
    let expected = value.matmul(weights.transpose());
    let (one, other) = (found.clone().inner(), expected.clone().inner());
    assert_near("attention", one, other, 1e-4);
    let grad_output = random(found.dims(), device);
    let [found, expected] =
        [found, expected].map(|gathered| (gathered * grad_output.clone()).sum().backward());
    for map in maps {
        let by = |gradients| map.grad(gradients).expect("a gradient");
        assert_near("attention's gradient", by(&found), by(&expected), 1e-4);
    }
}

fn head<C: HeadConfig>(name: &str, config: &C, device: &Device) {
    let head = config.init(INPUT, CLASSES, &Init::new(Seed::new(1), device));
    let input = random([2, 4, 4, 2], device);
    let valid = head.valid();
    let output = valid.forward(input.clone().inner());
    let expected = config.output(INPUT, CLASSES);
    assert_eq!(output.embedding.dims(), [2, expected.embedding], "{name}");
    let embedding = output.embedding;
    let terms = valid.embedding_terms(input.clone().inner());
    let terms = terms.unwrap_or_else(|| panic!("{name}: no terms in closed form"));
    assert_near(name, terms.embedding(), embedding.clone(), 2e-3);
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
    let cut_mix = |cam_source| BranchConfig {
        dimensions: 3,
        augment: AugmentConfig::CutMix {
            mix: mix.clone(),
            cam_source,
        },
    };
    let branched = BranchedHeadConfig::new().with_global(3).with_branches(vec![
        cut_mix(CamSource::ClosedForm),
        cut_mix(CamSource::Autodiff),
        BranchConfig::drop(3, BatchDrop::new()),
    ]);
    head("branched", &branched, device);
    late_stages(device);
}

/// Heads whose branches have separate late stages.
fn late_stages(device: &Device) {
    let mut network = ResNetConfig::resnet18().with_width(2).with_last_stride(1);
    network.blocks = [1, 1, 1, 1];
    network.width = 1;
    let split = SplitPoint { stage: 4, block: 0 };
    let late_stages = LateStagesConfig { network, split };
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
    let stripe_head = |stripes| {
        StripeHeadConfig::new()
            .with_stripes(stripes)
            .with_dimensions(3)
    };
    let branches = vec![stripe_head(0), stripe_head(2)];
    head(
        "MGN",
        &MgnHeadConfig {
            late_stages,
            branches,
        },
        device,
    );
    let network = OsNetConfig::x0_25().with_channels([2, 4, 4, 4]);
    let split = SplitPoint { stage: 2, block: 1 };
    let light = LightMbnHeadConfig {
        late_stages: OsNetLateStagesConfig { network, split },
        branches: LightMbnBranches::new()
            .with_dimensions(3)
            .with_drop(TopDrop::new().with_height(0.5)),
    };
    head("LightMBN", &light, device);
}

fn criterion<C: CriterionConfig>(name: &str, config: &C, device: &Device) {
    let shape = OutputShape::new(6, vec![3, 3], CLASSES);
    let criterion = config.init(&shape, &Init::new(Seed::new(1), device));
    let targets = Targets::new(&[0, 0, 1, 1, 1], device).with_teacher(random([5, 6], device));
    let loss = |features: Tensor<2>| {
        let logits = features.clone().slice([0..5, 0..CLASSES]);
        let branch = ReidOutput::single(features, logits);
        criterion.forward(&branch.clone().concat(branch), &targets)
    };
    // A memory is empty in the first batch.
    let _ = loss(random([5, 3], device));
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
    let triplet = TripletLossConfig::new();
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
    let similarity = MultiSimilarityConfig::new().with_margin(2.0);
    criterion("multi-similarity", &similarity, device);
    let center = CenterLossConfig::new().with_weight(0.5);
    criterion("center", &center, device);
    let cluster = ClusterContrastConfig::new();
    criterion("cluster contrast", &cluster, device);
    criterion(
        "cluster contrast, hardest image",
        &cluster.with_update(CentroidUpdate::HardestImage),
        device,
    );
    let weighted = WeightedConfig {
        weight: 2.0,
        criterion: identity,
    };
    criterion("sum", &(weighted, Some(soft), vec![center]), device);
    further_criteria(device);
}

/// Mined triplets, other losses of pairs, those with class weights, and a memory.
fn further_criteria(device: &Device) {
    for mining in [TripletMining::SemiHard, TripletMining::All] {
        let config = TripletLossConfig::new().with_mining(mining);
        let config = config.with_reduction(Reduction::NonZeroMean);
        criterion("mined triplets", &config, device);
    }
    let circle = CircleLossConfig::new();
    criterion("circle", &circle, device);
    let contrastive = SupervisedContrastiveConfig::new();
    criterion("supervised contrastive", &contrastive, device);
    let weighted = WeightedRegularisedTripletConfig::new();
    criterion("weighted regularised triplet", &weighted, device);
    criterion("ArcFace", &ArcFaceConfig::new(), device);
    criterion("CosFace", &CosFaceConfig::new(), device);
    let memory = CrossBatchMemoryConfig::new(circle).with_capacity(8);
    criterion("cross-batch memory", &memory.with_start(0), device);
    let memory = CrossBatchMemoryConfig::new(TripletLossConfig::new()).with_capacity(4);
    criterion("memory of a part of a batch", &memory.with_start(0), device);
    for objective in [
        DistillationObjective::Similarities,
        DistillationObjective::Distances,
        DistillationObjective::Cosine,
        DistillationObjective::SquaredError,
    ] {
        let config = DistillationConfig::new().with_objective(objective);
        criterion("distillation", &config, device);
    }
}

/// Context blocks, `RoIAlign`, and a segmentation model with its losses.
fn segmentation(device: &Device) {
    let pyramid = PyramidPoolingConfig::new().with_bins(vec![1, 2]);
    block("pyramid pooling", &pyramid, INPUT, device);
    let aspp = AsppConfig::new().with_rates(vec![2]).with_channels(3);
    block("ASPP", &aspp, INPUT, device);
    let aspp = aspp.with_project(false);
    block("ASPP without projection", &aspp, INPUT, device);

    let boxes = [vec![[0.5, 0.0, 2.0, 3.5]], vec![[-1.0, 1.0, 1.0, 6.0]]];
    let align = RoiAlign::new([2, 2]);
    let features = random([2, 4, 4, 2], device);
    let [found, expected] = [features.clone(), on_cpu(&features)].map(|of| {
        let pooled = align.forward(&of, &boxes);
        assert_eq!(pooled.dims(), [2, 4, 2, 2]);
        on_cpu(&pooled).inner()
    });
    assert_near("RoIAlign", found, expected, 2e-3);
    backward("RoIAlign", features, |features| {
        align.forward(&features, &boxes).square().sum()
    });

    let mut backbone = ResNetConfig::resnet18().with_width(2);
    backbone.blocks = [1; 4];
    let head = DecodeHeadConfig::plain().with_channels(3);
    let config = SegmentationConfig::new(backbone, head)
        .with_auxiliary(DecodeHeadConfig::auxiliary().with_channels(3));
    let size = InputSize::new(32, 32);
    let model = config.init(size, CLASSES, &Init::new(Seed::new(1), device));
    let labels = (0..2 * 32 * 32).map(|pixel| [0, 1, 255][pixel % 3]);
    let labels = LabelMaps::new(labels.collect(), [2, 32, 32], device);
    for precision in precisions(device) {
        backward("segmentation", random([2, 3, 32, 32], device), |images| {
            let output = model.forward_train(precision.cast(images), Seed::new(1));
            assert_eq!(output.logits.dims(), [2, CLASSES, 32, 32]);
            let losses = PixelLoss::new().losses(output, &labels).into_iter();
            losses
                .map(|loss| loss.value)
                .reduce(Tensor::add)
                .expect("losses")
        });
    }
    let images = random::<4>([2, 3, 32, 32], device).inner();
    let classes = model
        .evaluation()
        .predict(images)
        .max()
        .into_scalar::<i32>();
    assert!((0..2).contains(&classes), "class {classes}");
}
