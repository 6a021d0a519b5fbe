//! A training step of progressive feature `CutMix` with three branches on ResNet-50, at 384 x 128. There
//! are three variants: without mixing, with Grad-CAM in closed form, and with Grad-CAM by a second pass of each branch.
//!
//! Every round runs each variant once, so that a slow moment of the machine affects all variants. Prints one
//! line of JSON in the same format as `benches/peer/progressive.py`, which measures PyTorch:
//!
//! ```sh
//! cargo bench --bench progressive -- --batch 8 --rounds 5
//! ```

#![expect(clippy::print_stdout, reason = "the results are printed")]

use std::{sync::Arc, time::Instant};

use burn::{
    optim::GradientsParams,
    tensor::{Device, Distribution, Tensor},
};
use clap::Parser;
use reid::{
    nn::{
        TrainingStep,
        cut_mix::CutMix,
        head::{AugmentConfig, CamSource, FeatureAugment},
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
    /// Batch size, a multiple of 4.
    #[arg(long, default_value_t = 8)]
    batch: usize,
    /// Number of timed rounds, after one warm-up round.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
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

fn main() {
    let arguments = Arguments::parse();
    // Must run before the thread pool starts.
    let threads = rayon::ThreadPoolBuilder::new().num_threads(arguments.threads);
    threads.build_global().expect("no thread pool before");
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
        let mut steps: Vec<f64> = seconds.iter().map(|round| round[variant]).collect();
        let ratios = seconds.iter().map(|round| round[variant] / round[0]);
        let mut ratios: Vec<f64> = ratios.collect();
        report[name] = json!({
            "seconds": median(&mut steps),
            "of_without": median(&mut ratios),
            "least": ratios[0],
            "most": ratios[ratios.len() - 1],
        });
    }
    println!("{report}");
}

/// Measures the seconds of a step of each variant in every round.
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
        for offset in 0..3 {
            // The order of the variants rotates from round to round.
            let variant = (offset + measured.len()) % 3;
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
            let _ = total.into_scalar::<f32>(); // Waits for the device.
            seconds[variant] = start.elapsed().as_secs_f64();
        }
        measured.push(seconds);
    }
    measured.split_off(1)
}

/// The feature augmentations of both branches.
fn augments(cam_source: Option<CamSource>) -> Vec<Arc<dyn FeatureAugment>> {
    let mix = CutMix::new();
    let augment: Arc<dyn FeatureAugment> = Arc::new(match cam_source {
        Some(cam_source) => AugmentConfig::CutMix { mix, cam_source },
        None => AugmentConfig::None,
    });
    vec![augment; 2]
}
