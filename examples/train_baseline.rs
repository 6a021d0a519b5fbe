//! Trains the strong baseline (Luo et al., CVPR Workshops 2019) on your own data or on synthetic images.
//!
//! On synthetic images of people, minutes on two CPU cores:
//!
//! ```sh
//! cargo run --release --example train_baseline -- --recipe examples/recipes/small_objects.json
//! ```
//!
//! On your own data:
//!
//! ```sh
//! cargo run --release --example train_baseline -- --data Market-1501-v15.09.15 --out run
//! cargo run --release --example train_baseline -- --data index.csv --out run \
//!     --recipe examples/recipes/small_objects.json
//! cargo run --release --example train_baseline -- --data Market-1501-v15.09.15 --out run --resume
//! cargo run --release --example train_baseline -- --data Market-1501-v15.09.15 --data MSMT17_V1 \
//!     --balanced-sources --balanced-cameras --out run-on-both
//! cargo run --release --example train_baseline -- --data Market-1501-v15.09.15 \
//!     --backbone osnet-x0.25 --pretrained osnet_x0_25_imagenet.pth --freeze 5
//! cargo run --release --example train_baseline -- --data Market-1501-v15.09.15 --out small \
//!     --backbone osnet-x0.25 --teacher run
//! ```
//!
//! Without `--recipe`, the published recipe is used: ResNet-50 on images of 256 x 128 for 120 epochs, which
//! takes hours on a GPU. The recipes in `examples/recipes` are for small images. `Ctrl-C` saves a checkpoint
//! and stops; `--resume` continues from it, and the result is bit-identical to an uninterrupted run on a CPU.
//!
//! With several `--data`, the training images of all datasets are merged, and the queries of the first one
//! are evaluated. `evaluate_checkpoint` evaluates the run on each of them, and on datasets that it was not
//! trained on.
//!
//! With `--teacher`, the model also learns to reproduce the cosine similarities between the embeddings of a
//! trained model, which may be larger.
//!
//! It prints the final report (mAP, mINP and CMC), and training progress on standard error; with `--json`
//! progress goes to standard output as JSON lines. It writes to `--out`: checkpoints, `recipe.json`,
//! `report.json`, `training.svg`, `cmc.svg`, and the weights as `model.safetensors`.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program talks to its user"
)]

use std::{error::Error, fs, io, path::PathBuf, process::ExitCode};

use burn::{module::Module, tensor::Device};
use clap::Parser;
use reid::{
    data::dataset,
    nn::loss::{DistillationConfig, WeightedConfig},
    prelude::*,
    synthetic::SyntheticConfig,
    train::{EpochSummary, JsonLines, LossesConfig, Observer, ReidLearner},
    vis::{Series, TrainingCurves, cmc_chart, training_chart},
    zoo::{ArchitectureModel, weights},
};

/// The weight of distillation if the recipe has none. Cosine similarities differ by a few tenths, so the mean of
/// their squared differences is small beside the other losses.
const DISTILLATION: f64 = 10.0;

#[derive(Parser)]
#[command(about = "Trains the strong baseline")]
#[expect(clippy::struct_excessive_bools, reason = "each is a command-line flag")]
struct Arguments {
    /// The dataset: a CSV list, or a folder in a supported layout (Market-1501, one folder per identity, …).
    /// May be given several times. Default: synthetic images of people.
    #[arg(long)]
    data: Vec<PathBuf>,
    /// The recipe, a JSON file. Default: the published recipe.
    #[arg(long)]
    recipe: Option<PathBuf>,
    /// The number of epochs; overrides the recipe's.
    #[arg(long)]
    epochs: Option<usize>,
    /// The seed; overrides the recipe's.
    #[arg(long)]
    seed: Option<u64>,
    /// The name of another network, such as `resnet18`, `osnet-x0.25` or `mobilenet-v2`; overrides the
    /// recipe's.
    #[arg(long, value_name = "NAME")]
    backbone: Option<Architecture>,
    /// Published weights for the backbone, such as torchvision's or torchreid's: `.pth` or safetensors. All
    /// parameters of the backbone must be in the file.
    #[arg(long)]
    pretrained: Option<PathBuf>,
    /// A run, a checkpoint or a model folder whose embeddings the model learns to reproduce.
    #[arg(long, value_name = "DIR")]
    teacher: Option<PathBuf>,
    /// The number of epochs from the start in which only the head is trained; overrides the recipe's.
    #[arg(long, value_name = "EPOCHS")]
    freeze: Option<usize>,
    /// Draw equally many identities of each dataset in a batch; overrides the recipe's setting.
    #[arg(long)]
    balanced_sources: bool,
    /// Draw the images of an identity from as many cameras as possible; overrides the recipe's setting.
    #[arg(long)]
    balanced_cameras: bool,
    /// The folder for checkpoints, charts and the model. Default: `target/train_baseline`.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Resume from the last checkpoint in `--out`.
    #[arg(long)]
    resume: bool,
    /// Print progress as JSON lines on standard output.
    #[arg(long)]
    json: bool,
    /// Run for a few seconds with tiny settings, to check that the example works.
    #[arg(long)]
    smoke: bool,
}

impl Arguments {
    /// The output folder. A smoke run has its own, so that it never meets the checkpoints of another run.
    fn out(&self) -> PathBuf {
        let folder = || {
            let folder = PathBuf::from("target/train_baseline");
            if self.smoke {
                folder.join(format!("smoke-{}", std::process::id()))
            } else {
                folder
            }
        };
        self.out.clone().unwrap_or_else(folder)
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let device = device::pick()?;
    eprintln!("running on {}", device::backend(&device));
    let splits = splits(arguments)?;
    eprintln!("{}", splits.statistics());
    let recipe = recipe(arguments, &splits)?;

    let interrupt = Interrupt::new();
    let handler = interrupt.clone();
    ctrlc::set_handler(move || handler.request())?;

    let out = arguments.out();
    let checkpoints = if arguments.resume {
        Checkpoints::new(&out)
    } else {
        Checkpoints::begin(&out)?
    };
    let mut trainer = trainer(arguments, &recipe, &splits, &device)?
        .with_checkpoints(checkpoints)
        .with_interrupt(interrupt);
    if arguments.resume {
        trainer = trainer.resume()?;
    }
    let mut observer: Box<dyn Observer> = if arguments.json {
        Box::new(JsonLines::new(io::stdout()))
    } else {
        Box::new(Console::stderr())
    };
    let outcome = trainer.run(&mut observer)?;

    training_chart(out.join("training.svg"), &curves(&outcome.history))?;
    weights::save(outcome.model(), out.join("model.safetensors"))?;
    if let Some(report) = &outcome.report {
        cmc_chart(out.join("cmc.svg"), &[(&recipe.name, report)])?;
        fs::write(
            out.join("report.json"),
            serde_json::to_string_pretty(report)?,
        )?;
        if !arguments.json {
            println!("{report}");
        }
    }
    Ok(())
}

type Learner = ReidLearner<ArchitectureModel, <LossesConfig as CriterionConfig>::Criterion>;

/// A trainer of the recipe, with the teacher and the pretrained weights.
fn trainer<'a>(
    arguments: &Arguments,
    recipe: &Recipe<Architecture>,
    splits: &'a Splits,
    device: &Device,
) -> Result<Trainer<'a, Learner>, Box<dyn Error>> {
    let loading = LoaderConfig::default();
    let mut trainer = Trainer::new(recipe, splits, loading, device)?;
    if let Some(teacher) = &arguments.teacher {
        let teacher = Embedder::open_on(teacher, device)?.into_teacher()?;
        trainer = trainer.with_teacher(teacher);
    }
    if let Some(file) = &arguments.pretrained {
        let model = &mut trainer.learner_mut().model;
        let device = model.devices().remove(0);
        let init = Init::new(recipe.seed.named("pretrained"), &device);
        let network = &recipe.network;
        network.load_backbone(model, file, recipe.input, &init)?;
    }
    Ok(trainer)
}

/// Reads or draws the dataset. Of several datasets, the training images are merged, and the queries and the
/// gallery are those of the first.
fn splits(arguments: &Arguments) -> Result<Splits, Box<dyn Error>> {
    let paths = match arguments.data.as_slice() {
        [] => drawn(arguments)?,
        paths => paths.to_vec(),
    };
    let mut datasets = Vec::new();
    for path in &paths {
        datasets.push(dataset::load(path)?);
    }
    if datasets.len() == 1 {
        return Ok(datasets.remove(0));
    }
    for (dataset, path) in datasets.iter_mut().zip(&paths) {
        // Two folders can have one name.
        dataset.name = path.display().to_string();
    }
    let merged = Splits::merge(&datasets)?;
    let first = datasets.remove(0);
    Ok(merged.with_query(first.query).with_gallery(first.gallery))
}

/// Draws synthetic people, and in a smoke run a second dataset of other people. Returns the folders.
fn drawn(arguments: &Arguments) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let people = if arguments.smoke { 8 } else { 64 };
    let config = SyntheticConfig::new()
        .with_train_identities(people)
        .with_test_identities(people);
    let mut folders = vec![arguments.out().join(format!("people-{people}"))];
    config.write(&folders[0])?;
    if arguments.smoke {
        let others = config.with_train_identities(4).with_seed(Seed::new(1));
        folders.push(arguments.out().join("others"));
        others.write(&folders[1])?;
    }
    Ok(folders)
}

fn recipe(arguments: &Arguments, splits: &Splits) -> Result<Recipe<Architecture>, Box<dyn Error>> {
    let mut recipe = match &arguments.recipe {
        Some(file) => Recipe::load(file)?,
        None => Recipe::strong_baseline(
            "strong baseline",
            InputSize::PERSON,
            Architecture::strong_baseline(),
        ),
    };
    if let Some(network) = &arguments.backbone {
        recipe.network = network.clone();
    }
    if !splits.has_cameras() {
        recipe.evaluation.protocol = Protocol::NoCameras;
    }
    if arguments.smoke {
        if arguments.backbone.is_none() {
            recipe.network = "resnet18".parse()?;
        }
        if let Architecture::Baseline(network) = &mut recipe.network {
            network.backbone = network.backbone.clone().with_width(4);
        }
        recipe.input = InputSize::new(64, 32);
        (recipe.epochs, recipe.sampling.identities) = (1, 4);
        recipe.sampling.balanced_sources = !splits.sources.is_empty();
    }
    recipe.sampling.balanced_sources |= arguments.balanced_sources;
    recipe.sampling.balanced_cameras |= arguments.balanced_cameras;
    if let Some(epochs) = arguments.epochs {
        recipe.epochs = epochs;
    }
    if let Some(seed) = arguments.seed {
        recipe.seed = Seed::new(seed);
    }
    if arguments.teacher.is_some() && recipe.losses.distillation.is_none() {
        recipe.losses.distillation = Some(WeightedConfig {
            weight: DISTILLATION,
            criterion: DistillationConfig::new(),
        });
    }
    if let Some(epochs) = arguments.freeze {
        let named = |group: &ParameterGroup| group.parameters == ["backbone"];
        match recipe.groups.iter_mut().find(|group| named(group)) {
            Some(group) => group.frozen_epochs = epochs,
            None => recipe
                .groups
                .push(ParameterGroup::new(["backbone"]).with_frozen_epochs(epochs)),
        }
    }
    recipe.check()?;
    Ok(recipe)
}

fn curves(history: &[EpochSummary]) -> TrainingCurves {
    let series = |name: &str, value: &dyn Fn(&EpochSummary) -> Option<f64>| {
        let points = history
            .iter()
            .filter_map(|epoch| Some((epoch.epoch as f64, value(epoch)?)));
        Series::new(name, points)
    };
    // Losses are matched by name, because a loss may be absent in some epochs.
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in history.iter().flat_map(|epoch| &epoch.losses) {
        if !names.contains(&&**name) {
            names.push(name);
        }
    }
    let losses = names.into_iter().map(|name| {
        series(name, &move |epoch| {
            let loss = epoch.losses.iter().find(|(other, _)| other == name);
            loss.map(|(_, loss)| *loss)
        })
    });
    TrainingCurves {
        losses: losses.collect(),
        learning_rates: vec![series("rate", &|epoch| Some(epoch.learning_rate))],
        scores: vec![
            series("mAP", &|epoch| epoch.scores?.mean_average_precision),
            series("Rank-1", &|epoch| epoch.scores?.rank_1),
        ],
    }
}
