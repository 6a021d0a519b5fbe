//! Whole networks: images per second and peak memory in training and inference.
//!
//! Prints one line of JSON. `benches/peer/networks.py` runs this benchmark and PyTorch, and compares them:
//!
//! ```sh
//! cargo bench --bench networks -- --network se-resnext101 --mode train --batch 8
//! cargo bench --bench networks --features cuda -- --network rga --mode train --batch 64 --precision bfloat16
//! python benches/peer/networks.py --network resnet50 --batch 8
//! ```

#![expect(clippy::print_stdout, reason = "the results are printed")]

use std::{fs, time::Instant};

use burn::{
    optim::GradientsParams,
    tensor::{Device, Distribution, Tensor},
};
use clap::{Parser, ValueEnum, builder::PossibleValue};
use reid::{
    core::Seed,
    nn::{Init, Precision, TrainingStep, backbone::ResNetConfig, head::BnNeckConfig},
    prelude::*,
    train::{Learner, ReidLearner},
    zoo::{BranchedConfig, FncConfig, RgaConfig, recipes},
};
use reid_ops::HeldMemory;
use serde_json::json;

/// The identities of Market-1501.
const IDENTITIES: usize = 751;

/// The classes of CIFAR-10.
const CLASSES: usize = 10;

#[derive(Parser)]
#[expect(clippy::struct_excessive_bools, reason = "command-line flags")]
struct Arguments {
    /// The network.
    #[arg(long, value_enum, default_value = "resnet50")]
    network: Name,
    /// A training step or inference.
    #[arg(long, value_enum, default_value = "infer")]
    mode: Mode,
    /// The precision of the computation.
    #[arg(long, value_enum, default_value = "single")]
    precision: Dtype,
    /// Batch size; in training a multiple of 4, at least 8 for a network with a triplet loss.
    #[arg(long, default_value_t = 8)]
    batch: usize,
    /// Number of timed repetitions, after two warm-up repetitions.
    #[arg(long, default_value_t = 8)]
    repeats: usize,
    /// Number of threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Folds batch normalisation into the convolutions (inference only).
    #[arg(long)]
    fused: bool,
    /// Uses a tiny size, to test that the benchmark runs.
    #[arg(long)]
    test: bool,
    /// Passed by `cargo bench`; has no effect.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Mode {
    Train,
    Infer,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Name {
    /// ResNet-50 with a BNNeck head, at 256 x 128.
    Resnet50,
    /// SE-ResNeXt-101 with a BNNeck head, at 256 x 128.
    SeResnext101,
    /// ResNet-50 with relation-aware attention after every stage, at 256 x 128.
    Rga,
    /// SE-ResNeXt-101 with two branches from stage 3 on, at 288 x 384.
    Fnc,
    /// ResNet-50 with a global branch and two attentive branches with feature CutMix, at 384 x 128.
    Progressive,
    /// OSNet x0.25 with torchreid's head, at 256 x 128.
    #[value(name = "osnet-x0.25")]
    OsNetQuarter,
    /// OSNet x1.0 with torchreid's head, at 256 x 128.
    #[value(name = "osnet-x1.0")]
    OsNet,
    /// MobileNetV2 with pooled features as the embedding, at 256 x 128.
    #[value(name = "mobilenet-v2")]
    MobileNetV2,
    /// ResNet-20 for CIFAR-10, at 32 x 32, with the recipe of its paper.
    #[value(name = "cifar-resnet20")]
    CifarResNet20,
}

impl Name {
    /// The name on the command line.
    fn text(self) -> String {
        let value = self.to_possible_value().expect("not skipped");
        value.get_name().to_owned()
    }

    /// The network with this name in the zoo.
    fn architecture(self) -> Architecture {
        self.text().parse().expect("a network of the zoo")
    }
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Dtype {
    Single,
    #[value(name = "bfloat16")]
    BFloat16,
    #[value(name = "float16")]
    Float16,
}

impl From<Dtype> for Precision {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::Single => Self::Single,
            Dtype::BFloat16 => Self::BFloat16,
            Dtype::Float16 => Self::Float16,
        }
    }
}

fn main() {
    let arguments = Arguments::parse();
    // Must run before the thread pool starts.
    let threads = rayon::ThreadPoolBuilder::new().num_threads(arguments.threads);
    threads.build_global().expect("no thread pool before");
    let device = device::pick().expect("a device");
    let Times {
        first,
        mut milliseconds,
    } = named(&arguments, &device);
    milliseconds.sort_by(f64::total_cmp);
    let median = milliseconds[milliseconds.len() / 2];
    let name = |value: Option<PossibleValue>| value.expect("a name").get_name().to_owned();
    let report = json!({
        "system": format!("reid, {}", device::backend(&device)),
        "version": env!("CARGO_PKG_VERSION"),
        "network": arguments.network.text(),
        "mode": name(arguments.mode.to_possible_value()),
        "precision": name(arguments.precision.to_possible_value()),
        "layout": if arguments.fused { "fused" } else { "plain" },
        "batch": arguments.batch,
        "threads": arguments.threads,
        "images_per_second": 1e3 * arguments.batch as f64 / median,
        "milliseconds": {
            "median": median,
            "min": milliseconds[0],
            "max": milliseconds[milliseconds.len() - 1],
        },
        // On a GPU, the first step also compiles and tunes kernels.
        "first_step_seconds": first / 1e3,
        "peak_memory_mb": peak_memory(),
    });
    println!("{report}");
}

/// The durations of steps, in milliseconds.
struct Times {
    /// The first warm-up step.
    first: f64,
    /// The measured steps.
    milliseconds: Vec<f64>,
}

/// Times the network given on the command line.
fn named(arguments: &Arguments, device: &Device) -> Times {
    let person = if arguments.test {
        InputSize::new(32, 16)
    } else {
        InputSize::PERSON
    };
    let vehicle = if arguments.test {
        InputSize::new(32, 48)
    } else {
        InputSize::VEHICLE
    };
    let tall = if arguments.test {
        InputSize::new(192, 64)
    } else {
        InputSize::PERSON_TALL
    };
    match arguments.network {
        Name::Resnet50 => {
            let backbone = ResNetConfig::resnet50().with_last_stride(1);
            let network = (backbone, BnNeckConfig::new());
            run(arguments, &baseline(person, network), IDENTITIES, device)
        }
        Name::SeResnext101 => {
            let backbone = ResNetConfig::se_resnext101().with_last_stride(1);
            let network = (backbone, BnNeckConfig::new());
            run(arguments, &baseline(person, network), IDENTITIES, device)
        }
        Name::Rga => {
            let recipe = baseline(person, RgaConfig::rga_resnet50());
            run(arguments, &recipe, IDENTITIES, device)
        }
        Name::Fnc => {
            let recipe = baseline(vehicle, FncConfig::se_resnext101());
            run(arguments, &recipe, IDENTITIES, device)
        }
        Name::Progressive => {
            let recipe = baseline(tall, BranchedConfig::progressive_cut_mix(2));
            run(arguments, &recipe, IDENTITIES, device)
        }
        name @ (Name::OsNetQuarter | Name::OsNet | Name::MobileNetV2) => {
            let recipe = baseline(person, name.architecture());
            run(arguments, &recipe, IDENTITIES, device)
        }
        name @ Name::CifarResNet20 => {
            let recipe = recipes::cifar_resnet("benchmark", name.architecture());
            run(arguments, &recipe, CLASSES, device)
        }
    }
}

/// The strong baseline's recipe of a network.
fn baseline<N>(size: InputSize, network: N) -> Recipe<N> {
    Recipe::strong_baseline("benchmark", size, network)
}

fn run(
    arguments: &Arguments,
    recipe: &Recipe<impl Network>,
    classes: usize,
    device: &Device,
) -> Times {
    match arguments.mode {
        Mode::Train => train(arguments, recipe, classes, device),
        Mode::Infer => infer(arguments, recipe, classes, device),
    }
}

/// Times each repetition of `step`, after the warm-up repetitions.
fn time(arguments: &Arguments, mut step: impl FnMut()) -> Times {
    let (warm_ups, repeats) = if arguments.test {
        (1, 1)
    } else {
        (2, arguments.repeats)
    };
    let timed = (0..warm_ups + repeats).map(|_| {
        let start = Instant::now();
        step();
        start.elapsed().as_secs_f64() * 1e3
    });
    let mut milliseconds: Vec<f64> = timed.collect();
    Times {
        first: milliseconds[0],
        milliseconds: milliseconds.split_off(warm_ups),
    }
}

fn images(arguments: &Arguments, size: InputSize, device: &Device) -> Tensor<4> {
    let shape = [arguments.batch, 3, size.height, size.width];
    Tensor::random(shape, Distribution::Default, device)
}

fn infer(
    arguments: &Arguments,
    recipe: &Recipe<impl Network>,
    classes: usize,
    device: &Device,
) -> Times {
    let (network, size) = (&recipe.network, recipe.input);
    let model = network.init(size, classes, &Init::new(Seed::new(1), device));
    let model = if arguments.fused {
        model.fold_batch_norm()
    } else {
        model
    };
    let images = images(arguments, size, device);
    let precision = Precision::from(arguments.precision);
    time(arguments, || {
        // Reading the result waits for the device.
        let _ = model.embed(precision.cast(images.clone())).into_data();
    })
}

/// Times the steps of a recipe on one batch, with four images of each identity.
fn train(
    arguments: &Arguments,
    recipe: &Recipe<impl Network>,
    classes: usize,
    device: &Device,
) -> Times {
    let learner = ReidLearner::build(recipe, classes, device);
    let mut optimizer = recipe.optimizer.init();
    let rate = recipe.schedule.base;

    let device = device.clone().autodiff();
    let images = images(arguments, recipe.input, &device);
    let precision = Precision::from(arguments.precision);
    let labels = (0..arguments.batch).map(|image| image / 4 % classes);
    let labels: Vec<usize> = labels.collect();
    let step = TrainingStep::new(&labels, Seed::new(1));
    let mut learner = Some(learner);
    let mut memory = None;
    time(arguments, || {
        let current = learner.take().expect("the learner of the last step");
        let losses = current
            .training_step(precision.cast(images.clone()), step)
            .losses;
        let total = losses
            .into_iter()
            .map(|loss| loss.value)
            .reduce(Tensor::add);
        let total = total.expect("a loss");
        // As the trainer does.
        memory.get_or_insert_with(HeldMemory::new);
        let loss = total.clone().without_autodiff();
        let mut gradients = total.backward();
        let gradients = GradientsParams::from_module(&mut gradients, &current.model);
        let ReidLearner { model, criterion } = current;
        learner = Some(ReidLearner {
            model: optimizer.step(rate, model, gradients),
            criterion,
        });
        let _ = loss.into_scalar::<f32>();
    })
}

/// The peak memory of this process in MB; `None` without `/proc`.
fn peak_memory() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes / 1024.0)
}
