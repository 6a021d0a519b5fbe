//! A training step of progressive feature `CutMix` with three branches on ResNet-50, 384 x 128: without
//! mixing, guided by Grad-CAM in closed form, and by a second pass of each branch.
//!
//! The three take turns in every round, so that a slow moment of the machine hits all of them. Prints
//! one line of JSON in the same form as its twin in PyTorch, `benches/peer/progressive.py`:
//!
//! ```sh
//! cargo bench --bench progressive -- --batch 8 --rounds 5
//! ```

#![expect(clippy::print_stdout, reason = "a program talks to its user")]

use std::time::Instant;

use burn::{
    optim::GradientsParams,
    tensor::{Device, Distribution, Tensor},
};
use clap::Parser;
use reid::{
    nn::{
        TrainingStep,
        cut_mix::CutMix,
        head::{CamSource, FeatureAugment},
    },
    prelude::*,
    train::{Learner, OptimizerConfig, ReidLearner},
    zoo::{BranchedConfig, recipes},
};
use serde_json::json;

const CLASSES: usize = 751;
const VARIANTS: [(&str, Option<CamSource>); 3] = [
    ("without", None),
    ("closed_form", Some(CamSource::ClosedForm)),
    ("autodiff", Some(CamSource::Autodiff)),
];

#[derive(Parser)]
struct Arguments {
    /// Images at a time, in multiples of 4.
    #[arg(long, default_value_t = 8)]
    batch: usize,
    /// Timed rounds, after one that is not.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// A toy size, to see that it runs.
    #[arg(long)]
    test: bool,
    /// Given by Cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let arguments = Arguments::parse();
    // Before the thread pool starts.
    let threads = rayon::ThreadPoolBuilder::new().num_threads(arguments.threads);
    threads.build_global().expect("the first to set it");
    let device = device::pick().expect("a device");
    let (size, rounds) = if arguments.test {
        (InputSize::new(192, 64), 1)
    } else {
        (InputSize::new(384, 128), arguments.rounds)
    };
    let batch = if arguments.test { 8 } else { arguments.batch };
    let seconds = time(batch, rounds, size, &device);

    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let mut report = json!({
        "system": format!("reid, {}", device::backend(&device)),
        "version": env!("CARGO_PKG_VERSION"),
        "batch": batch,
        "threads": arguments.threads,
        "rounds": rounds,
    });
    for (variant, (name, _)) in VARIANTS.iter().enumerate() {
        let mut own: Vec<f64> = seconds.iter().map(|round| round[variant]).collect();
        let ratios = seconds.iter().map(|round| round[variant] / round[0]);
        let mut ratios: Vec<f64> = ratios.collect();
        report[name] = json!({
            "seconds": median(&mut own),
            "of_without": median(&mut ratios),
            "least": ratios[0],
            "most": ratios[ratios.len() - 1],
        });
    }
    println!("{report}");
}

/// The seconds of a step of each variant, in every round.
fn time(batch: usize, rounds: u64, size: InputSize, device: &Device) -> Vec<[f64; 3]> {
    let network = BranchedConfig::progressive_cut_mix(2);
    let mut recipe = recipes::progressive_code("benchmark", network);
    recipe.input = size;
    let mut learner = ReidLearner::build(&recipe, CLASSES, device);
    let mut optimizer = OptimizerConfig::adam().init();
    let device = device.clone().autodiff();
    let shape = [batch, 3, size.height, size.width];
    let images = Tensor::<4>::random(shape, Distribution::Default, &device);
    let identities: Vec<usize> = (0..batch).map(|image| image / 4).collect();
    let mut measured = Vec::new();
    for round in 0..=rounds {
        let mut seconds = [0.0; 3];
        for turn in 0..3 {
            // Each variant follows each other one.
            let variant = (turn + measured.len()) % 3;
            let head = learner.model.head.clone();
            learner.model.head = head.with_augments(augments(VARIANTS[variant].1));
            let step = TrainingStep::new(&identities, Seed::new(round));
            let start = Instant::now();
            let losses = learner.training_step(images.clone(), step).losses;
            let total = losses.into_iter().map(|loss| loss.value);
            let total = total.reduce(Tensor::add).expect("six losses");
            let mut gradients = total.clone().backward();
            let gradients = GradientsParams::from_module(&mut gradients, &learner.model);
            learner.model = optimizer.step(1e-3, learner.model.clone(), gradients);
            let _ = total.into_scalar::<f32>(); // waits for the device
            seconds[variant] = start.elapsed().as_secs_f64();
        }
        measured.push(seconds);
    }
    measured.split_off(1)
}

/// What is done to both branches.
fn augments(cam_source: Option<CamSource>) -> Vec<FeatureAugment> {
    let mix = CutMix::new();
    let augment = match cam_source {
        Some(cam_source) => FeatureAugment::CutMix { mix, cam_source },
        None => FeatureAugment::None,
    };
    vec![augment; 2]
}
