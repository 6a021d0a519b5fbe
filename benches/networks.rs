//! ResNet-50 at 256 x 128, plain or with relation-aware attention: images per second and peak memory,
//! training and inference.
//!
//! Prints one line of JSON in the same form as its twins in PyTorch, `benches/peer/resnet50.py` and
//! `benches/peer/rga.py`:
//!
//! ```sh
//! cargo bench --bench resnet50 -- --mode train --batch 8
//! cargo bench --bench resnet50 -- --mode train --batch 8 --attention rga-sc
//! cargo bench --bench resnet50 --features x86-v4 -- --mode infer --batch 8 --fused
//! ```

#![expect(clippy::print_stdout, reason = "a program talks to its user")]

use std::{fs, time::Instant};

use burn::{
    optim::GradientsParams,
    tensor::{Device, Distribution, Tensor},
};
use clap::{Parser, ValueEnum};
use reid::{nn::TrainingStep, prelude::*, train::OptimizerConfig, zoo::RgaConfig};
use serde_json::json;

const CLASSES: usize = 751;

#[derive(Parser)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
struct Arguments {
    /// Training step or inference.
    #[arg(long, value_enum, default_value = "infer")]
    mode: Mode,
    /// What stands after the stages.
    #[arg(long, value_enum, default_value = "none")]
    attention: Attention,
    /// Images at a time; in training a multiple of 4.
    #[arg(long, default_value_t = 8)]
    batch: usize,
    /// Timed repetitions, after two that are not.
    #[arg(long, default_value_t = 8)]
    repeats: usize,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Inference with batch normalisation folded away.
    #[arg(long)]
    fused: bool,
    /// A toy size, to see that it runs.
    #[arg(long)]
    test: bool,
    /// Given by Cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Mode {
    Train,
    Infer,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Attention {
    None,
    RgaSc,
}

fn main() {
    let arguments = Arguments::parse();
    // Before the thread pool starts.
    let threads = rayon::ThreadPoolBuilder::new().num_threads(arguments.threads);
    threads.build_global().expect("the first to set it");
    let picked = device::pick().expect("a device");
    let size = if arguments.test {
        InputSize::new(32, 16)
    } else {
        InputSize::PERSON
    };
    let rga = RgaConfig::rga_resnet50();
    let mut milliseconds = match arguments.attention {
        Attention::None => run(
            &arguments,
            rga.with_attention(&[], ()),
            size,
            &picked.device,
        ),
        Attention::RgaSc => run(&arguments, rga, size, &picked.device),
    };
    milliseconds.sort_by(f64::total_cmp);
    let median = milliseconds[milliseconds.len() / 2];
    let report = json!({
        "system": format!("reid, {}", picked.backend),
        "version": env!("CARGO_PKG_VERSION"),
        "model": if arguments.attention == Attention::None { "trunk" } else { "rga" },
        "mode": if arguments.mode == Mode::Train { "train" } else { "infer" },
        "layout": if arguments.fused { "fused" } else { "plain" },
        "batch": arguments.batch,
        "threads": arguments.threads,
        "images_per_second": 1e3 * arguments.batch as f64 / median,
        "milliseconds": {
            "median": median,
            "min": milliseconds[0],
            "max": milliseconds[milliseconds.len() - 1],
        },
        "peak_memory_mb": peak_memory(),
    });
    println!("{report}");
}

fn run<A: BlockConfig>(
    arguments: &Arguments,
    network: BagOfTricksConfig<A>,
    size: InputSize,
    device: &Device,
) -> Vec<f64> {
    match arguments.mode {
        Mode::Train => train(arguments, network, size, device),
        Mode::Infer => infer(arguments, &network, size, device),
    }
}

/// Milliseconds of each repetition of `step`, after two that warm up.
fn time(arguments: &Arguments, mut step: impl FnMut()) -> Vec<f64> {
    let (warm_up, repeats) = if arguments.test {
        (0, 1)
    } else {
        (2, arguments.repeats)
    };
    let timed = (0..warm_up + repeats).map(|_| {
        let start = Instant::now();
        step();
        start.elapsed().as_secs_f64() * 1e3
    });
    timed.skip(warm_up).collect()
}

fn images(batch: usize, size: InputSize, device: &Device) -> Tensor<4> {
    Tensor::random(
        [batch, 3, size.height, size.width],
        Distribution::Default,
        device,
    )
}

fn infer<A: BlockConfig>(
    arguments: &Arguments,
    network: &BagOfTricksConfig<A>,
    size: InputSize,
    device: &Device,
) -> Vec<f64> {
    let model = network.init(size, CLASSES, device);
    let model = if arguments.fused {
        model.fused()
    } else {
        model
    };
    let images = images(arguments.batch, size, device);
    time(arguments, || {
        // Reading the result waits for it.
        let _ = model.embed(images.clone()).into_data();
    })
}

fn train<A: BlockConfig>(
    arguments: &Arguments,
    network: BagOfTricksConfig<A>,
    size: InputSize,
    device: &Device,
) -> Vec<f64> {
    let recipe = Recipe::strong_baseline("benchmark", size, network);
    let BagOfTricksConfig { backbone, head } = &recipe.network;
    let mut trainee = Trainee::build(&recipe, backbone, head, CLASSES, device);
    let mut optimizer = OptimizerConfig::adam().init();

    let device = device.clone().autodiff();
    let images = images(arguments.batch, size, &device);
    let identities: Vec<usize> = (0..arguments.batch).map(|image| image / 4).collect();
    let step = TrainingStep {
        identities: &identities,
        seed: Seed::new(1),
    };
    time(arguments, || {
        let losses = trainee.judge(images.clone(), step).losses;
        let total = losses
            .into_iter()
            .map(|loss| loss.value)
            .reduce(Tensor::add);
        let total = total.expect("two losses");
        let mut gradients = total.clone().backward();
        let gradients = GradientsParams::from_module(&mut gradients, &trainee.model);
        trainee.model = optimizer.step(3.5e-4, trainee.model.clone(), gradients);
        let _ = total.into_scalar::<f32>();
    })
}

/// The largest memory this process has held, in MB; unknown where `/proc` is not.
fn peak_memory() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes / 1024.0)
}
