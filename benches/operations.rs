//! The operations of ResNet-50 and SE-ResNeXt-101 at 256 x 128, and depthwise convolutions, one at a time, in
//! reid and in Burn.
//!
//! Prints one line of JSON for each operation. `benches/peer/operations.py` runs this benchmark and PyTorch,
//! and prints a table with ratios:
//!
//! ```sh
//! cargo bench --bench operations -- --batch 8
//! python benches/peer/operations.py --threads 2 --batch 8
//! ```

#![expect(clippy::print_stdout, reason = "the results are printed")]

use std::time::Instant;

use burn::{
    module::{Module, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::{
        Device, Distribution, Tensor,
        activation::relu,
        module,
        ops::{ConvOptions, MaxPoolOptions},
    },
};
use clap::Parser;
use reid::{
    core::Seed,
    device,
    nn::{
        Init, OutputShape, ReidOutput, Targets, TrainingStep, backbone::ResNetConfig,
        cut_mix::CutMix, loss::TripletLossConfig,
    },
    prelude::*,
    train::OptimizerConfig,
};
use reid_ops::Epilogue;
use serde_json::json;

#[derive(Parser)]
struct Arguments {
    /// Batch size.
    #[arg(long, default_value_t = 8)]
    batch: usize,
    /// Number of timed repetitions, after one warm-up repetition.
    #[arg(long, default_value_t = 7)]
    repeats: usize,
    /// Number of threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Uses a tiny size, to test that the benchmark runs.
    #[arg(long)]
    test: bool,
    /// Passed by `cargo bench`; has no effect.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A convolution: input and output channels, height and width of the input, kernel size, stride and groups.
type Convolution = ([usize; 2], [usize; 2], [usize; 3]);

const CONVOLUTIONS: [Convolution; 22] = [
    ([3, 64], [256, 128], [7, 2, 1]),
    ([64, 64], [64, 32], [1, 1, 1]),
    ([64, 64], [64, 32], [3, 1, 1]),
    ([64, 256], [64, 32], [1, 1, 1]),
    ([256, 64], [64, 32], [1, 1, 1]),
    ([256, 512], [64, 32], [1, 2, 1]),
    ([128, 128], [64, 32], [3, 2, 1]),
    ([128, 128], [32, 16], [3, 1, 1]),
    ([128, 512], [32, 16], [1, 1, 1]),
    ([256, 256], [16, 8], [3, 1, 1]),
    ([1024, 256], [16, 8], [1, 1, 1]),
    ([512, 512], [16, 8], [3, 1, 1]),
    ([512, 2048], [16, 8], [1, 1, 1]),
    ([128, 128], [64, 32], [3, 1, 32]),
    ([256, 256], [32, 16], [3, 1, 32]),
    ([512, 512], [16, 8], [3, 1, 32]),
    ([1024, 1024], [16, 8], [3, 1, 32]),
    ([64, 64], [64, 32], [3, 1, 64]),
    ([384, 384], [16, 8], [3, 1, 384]),
    ([96, 96], [64, 32], [3, 2, 96]),
    ([144, 144], [32, 16], [3, 1, 144]),
    ([960, 960], [8, 4], [3, 1, 960]),
];

/// Channels, height and width of the inputs of batch normalisation and ReLU.
const NORMALISATIONS: [(usize, [usize; 2]); 3] = [(64, [64, 32]), (256, [64, 32]), (2048, [16, 8])];

fn main() {
    let arguments = Arguments::parse();
    // Must run before the thread pool starts.
    let threads = rayon::ThreadPoolBuilder::new().num_threads(arguments.threads);
    threads.build_global().expect("no thread pool before");
    let device = device::pick().expect("a device");
    convolutions(&arguments, &device);
    normalisations(&arguments, &device);
    others(&arguments, &device);
    gates(&arguments, &device);
    outside_backbones(&arguments, &device);
    update(&arguments, &device);
}

fn convolutions(arguments: &Arguments, device: &Device) {
    for ([from, to], size, [kernel, stride, groups]) in CONVOLUTIONS {
        let shrink = if arguments.test { 16 } else { 1 };
        let [from, to] = [from, to].map(|channels| (channels / shrink).max(groups));
        let shape = arguments.shape(from, size);
        let weights = [to, from / groups, kernel, kernel];
        let padding = kernel / 2;
        let options = ConvOptions::new([stride; 2], [padding; 2], [1, 1], groups);
        let [ours, burns] = [
            |x, w, options| reid_ops::conv2d(x, w, None, options),
            |x, w, options| module::conv2d(x, w, None, options),
        ]
        .map(|convolve: fn(_, _, _) -> _| {
            arguments.time(device, shape, weights, |x, w| {
                convolve(x, w, options.clone())
            })
        });
        let of_groups = if groups > 1 {
            format!(", {groups} groups")
        } else {
            String::new()
        };
        let name = format!(
            "convolution {kernel}x{kernel}{} {from} to {to}, {}x{}{of_groups}",
            if stride > 1 { " by 2" } else { "" },
            size[0],
            size[1],
        );
        print(&name, ours, burns);
    }
}

fn normalisations(arguments: &Arguments, device: &Device) {
    for (channels, size) in NORMALISATIONS {
        let shape = arguments.shape(channels, size);
        let one = || Tensor::<1>::ones([channels], &device.clone().autodiff()).require_grad();
        let (gamma, bias) = (one(), one());
        let [ours, burns] = [true, false].map(|ours| {
            let (gamma, bias) = (&gamma, &bias);
            arguments.time(device, shape, [1; 4], move |x: Tensor<4>, _| {
                if !x.device().is_autodiff() {
                    let [gamma, bias] = [gamma, bias].map(|parameter| parameter.clone().inner());
                    let (mean, variance) = (bias.zeros_like(), bias.ones_like());
                    if ours {
                        let norm = reid_ops::BatchNormParams {
                            weight: gamma,
                            bias,
                            mean,
                            variance,
                            epsilon: 1e-5,
                        };
                        return reid_ops::batch_norm(x, norm, Epilogue::Relu);
                    }
                    return relu(module::batch_norm(x, gamma, bias, mean, variance, 1e-5));
                }
                let (gamma, bias) = (gamma.clone(), bias.clone());
                if ours {
                    let epilogue = Epilogue::Relu;
                    reid_ops::batch_norm_train(x, gamma, bias, 1e-5, epilogue).output
                } else {
                    relu(module::batch_norm_train(x, gamma, bias, 1e-5).output)
                }
            })
        });
        let [height, width] = size;
        print(
            &format!("normalisation and ReLU {channels}, {height}x{width}"),
            ours,
            burns,
        );
    }
}

fn others(arguments: &Arguments, device: &Device) {
    let shape = arguments.shape(256, [64, 32]);
    let [ours, burns] = [true, false].map(|ours| {
        arguments.time(device, shape, shape, move |x, y| {
            if ours {
                reid_ops::add_relu(x, y)
            } else {
                relu(x + y)
            }
        })
    });
    print("sum and ReLU 256, 64x32", ours, burns);
    let options = || {
        MaxPoolOptions::new([3, 3])
            .with_stride([2, 2])
            .with_padding([1, 1])
    };
    let shape = arguments.shape(64, [128, 64]);
    let [ours, burns] = [reid_ops::max_pool2d, module::max_pool2d].map(
        |pool: fn(Tensor<4>, MaxPoolOptions<2>) -> Tensor<4>| {
            arguments.time(device, shape, [1; 4], |x, _| pool(x, options()))
        },
    );
    print("max pooling 64, 128x64", ours, burns);
    let shape = arguments.shape(1024, [16, 8]);
    let [ours, burns] = [reid_ops::global_avg_pool2d, |x: Tensor<4>| {
        x.flatten::<3>(2, 3).mean_dim(2).squeeze_dim(2)
    }]
    .map(|mean: fn(Tensor<4>) -> Tensor<2>| {
        let mean = |x| mean(x).unsqueeze_dims(&[-1, -1]);
        arguments.time(device, shape, [1; 4], |x, _| mean(x))
    });
    print("mean of maps 1024, 16x8", ours, burns);
}

/// Multiplication by the gates of attention.
fn gates(arguments: &Arguments, device: &Device) {
    for (channels, size) in [(256, [64, 32]), (1024, [16, 8])] {
        let shape @ [batch, _, height, width] = arguments.shape(channels, size);
        for (over, gate) in [
            ("channels", [batch, channels, 1, 1]),
            ("positions", [batch, 1, height, width]),
        ] {
            let [ours, burns] = [reid_ops::mul_gate, |x, gate| x * gate].map(
                |multiply: fn(Tensor<4>, Tensor<4>) -> Tensor<4>| {
                    arguments.time(device, shape, gate, multiply)
                },
            );
            let [height, width] = size;
            let name = format!("gate of {over} {channels}, {height}x{width}");
            print(&name, ours, burns);
        }
    }
}

/// Operations outside the backbones, forward and backward: the batch-hard triplet loss, and feature `CutMix`
/// of the highest-scoring patches.
fn outside_backbones(arguments: &Arguments, device: &Device) {
    let device = device.clone().autodiff();
    let (images, channels) = if arguments.test { (8, 4) } else { (64, 2048) };
    let random = |shape: [usize; 4]| {
        let normal = Distribution::Normal(0.0, 1.0);
        Tensor::<4>::random(shape, normal, &device).require_grad()
    };
    let identities: Vec<usize> = (0..images).map(|image| image / 4).collect();
    let features = random([images, channels, 1, 1]);
    let triplet = TripletLossConfig::new().init(
        &OutputShape::single(channels, images / 4),
        &Init::new(Seed::new(1), &device),
    );
    let targets = Targets::new(&identities, &device);
    let mining = arguments.median(&device, || {
        let embedding = features.clone().flatten(1, 3);
        let output = ReidOutput::single(embedding, Tensor::zeros([images, images / 4], &device));
        let _ = triplet.forward(&output, &targets).backward();
    });
    let maps = random([images, 24, 8, 1]).reshape([images, 24, 8]);
    let features = random([images, channels, 24, 8]);
    let mixing = arguments.median(&device, || {
        let step = TrainingStep::new(&identities, Seed::new(1));
        let mixed = CutMix::new().apply(features.clone(), maps.clone(), step);
        let _ = mixed.features.sum().backward();
    });
    for (operation, milliseconds) in [
        ("batch-hard triplet, 64 of 2048", mining),
        ("cells cut and mixed, 64 of 2048, 24x8", mixing),
    ] {
        println!(
            "{}",
            json!({ "operation": operation, "forward": milliseconds })
        );
    }
}

/// The optimizer step for the weights of ResNet-50, with given gradients.
fn update(arguments: &Arguments, device: &Device) {
    let device = device.clone().autodiff();
    let width = if arguments.test { 2 } else { 64 };
    let network = ResNetConfig::resnet50().with_width(width);
    let network = network.init(InputSize::PERSON.rgb(), &Init::new(Seed::new(1), &device));
    let mut ones = Ones(GradientsParams::new());
    network.visit(&mut ones);
    let mut optimizer = OptimizerConfig::adam().init();
    let mut network = Some(network);
    let milliseconds = arguments.median(&device, || {
        let updated = network.take().expect("a network");
        let mut copy = Copied {
            from: &ones.0,
            to: GradientsParams::new(),
        };
        updated.visit(&mut copy);
        network = Some(optimizer.step(3.5e-4, updated, copy.to));
    });
    println!(
        "{}",
        json!({ "operation": "Adam, ResNet-50", "forward": milliseconds })
    );
}

/// A gradient of ones for every parameter.
struct Ones(GradientsParams);

impl ModuleVisitor for Ones {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        let value = parameter.val();
        if value.is_require_grad() {
            self.0.register(parameter.id, value.inner().ones_like());
        }
    }
}

/// Copies gradients, because an optimizer consumes them.
struct Copied<'a> {
    from: &'a GradientsParams,
    to: GradientsParams,
}

impl ModuleVisitor for Copied<'_> {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        if let Some(gradient) = self.from.get::<D>(parameter.id) {
            self.to.register(parameter.id, gradient);
        }
    }
}

impl Arguments {
    fn shape(&self, channels: usize, size: [usize; 2]) -> [usize; 4] {
        let [height, width] = if self.test { [4, 4] } else { size };
        let batch = if self.test { 1 } else { self.batch };
        [batch, channels, height, width]
    }

    /// The median milliseconds of an operation: forward, and forward and backward.
    fn time(
        &self,
        device: &Device,
        input: [usize; 4],
        weights: [usize; 4],
        operation: impl Fn(Tensor<4>, Tensor<4>) -> Tensor<4>,
    ) -> [f64; 2] {
        let random =
            |shape: [usize; 4]| Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), device);
        let (x, w) = (random(input), random(weights));
        let forward = self.median(device, || {
            let _ = operation(x.clone(), w.clone());
        });
        let [x, w] = [x, w].map(|tensor| tensor.autodiff().require_grad());
        let factor = random(operation(x.clone(), w.clone()).dims()).autodiff();
        let both = self.median(device, || {
            let _ = (operation(x.clone(), w.clone()) * factor.clone())
                .sum()
                .backward();
        });
        // The product with the factor and the sum are not part of the operation: their time is subtracted.
        let extra = self.median(device, || {
            let _ = (factor.clone().require_grad() * factor.clone())
                .sum()
                .backward();
        });
        [forward, both - extra]
    }

    /// The median milliseconds of a run, after one warm-up run.
    fn median(&self, device: &Device, mut run: impl FnMut()) -> f64 {
        let repeats = if self.test { 1 } else { self.repeats };
        let timed = (0..=repeats).map(|_| {
            let start = Instant::now();
            run();
            // A GPU computes asynchronously.
            device.sync().expect("a working device");
            start.elapsed().as_secs_f64() * 1e3
        });
        let mut milliseconds: Vec<f64> = timed.skip(1).collect();
        milliseconds.sort_by(f64::total_cmp);
        milliseconds[milliseconds.len() / 2]
    }
}

fn print(operation: &str, [forward, both]: [f64; 2], [burns, burns_both]: [f64; 2]) {
    let line = json!({
        "operation": operation,
        "forward": forward,
        "both": both,
        "burn_forward": burns,
        "burn_both": burns_both,
    });
    println!("{line}");
}
