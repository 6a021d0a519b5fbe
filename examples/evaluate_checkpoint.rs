//! Evaluates a checkpoint on a dataset and draws the ranked lists of some queries.
//!
//! Without options, the example trains a tiny model on synthetic images of people first:
//!
//! ```sh
//! cargo run --release --example evaluate_checkpoint
//! ```
//!
//! With your own run and data, or with those of `quickstart` after it has run:
//!
//! ```sh
//! cargo run --release --example evaluate_checkpoint -- --run run --data DIR
//! cargo run --release --example evaluate_checkpoint -- --run target/quickstart/run \
//!     --data target/quickstart/data-48
//! ```
//!
//! `--run` is the output folder of `train_baseline`, or of any other run whose network is in `reid::zoo`; the
//! checkpoint records the network. The best checkpoint is evaluated, or the last one with `--last`. `--data`
//! may be another dataset than the one trained on: this is a cross-domain evaluation.
//!
//! It prints the path of the checkpoint, the dataset statistics and the report (mAP, mINP and CMC); with
//! `--json` the report as JSON. It writes the ranked lists to `target/evaluate_checkpoint/ranked.png` (change
//! it with `--picture`). Small images take seconds on two CPU cores.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "prints results to the user"
)]

use std::{
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
};

use burn::tensor::Device;
use clap::Parser;
use reid::{
    data::dataset::{self, market1501},
    eval::ranked_list,
    nn::{backbone::ResNetConfig, head::BnNeckConfig},
    prelude::*,
    synthetic::SyntheticConfig,
    vis::{RankedFigure, RankedRow, save_picture},
};

#[derive(Parser)]
#[command(about = "Evaluates a checkpoint on a dataset")]
#[expect(clippy::struct_excessive_bools, reason = "each is a command-line flag")]
struct Arguments {
    /// The folder of a run.
    #[arg(long, requires = "data")]
    run: Option<PathBuf>,
    /// The dataset: a CSV list, or a folder in a supported layout (Market-1501, one folder per identity, …).
    #[arg(long)]
    data: Option<PathBuf>,
    /// Evaluate the last checkpoint instead of the best.
    #[arg(long)]
    last: bool,
    /// The number of queries to draw.
    #[arg(long, default_value_t = 4)]
    draw: usize,
    /// The file for the figure of ranked lists.
    #[arg(long, default_value = "target/evaluate_checkpoint/ranked.png")]
    picture: PathBuf,
    /// Print the whole report as JSON.
    #[arg(long)]
    json: bool,
    /// No effect; the default without `--run` already takes only seconds.
    #[arg(long)]
    smoke: bool,
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
    let (run, splits) = match (&arguments.run, &arguments.data) {
        (Some(run), Some(data)) => (run.clone(), dataset::load(data)?),
        _ => train_tiny_model(&device)?,
    };
    let kind = if arguments.last {
        CheckpointKind::Last
    } else {
        CheckpointKind::Best
    };
    let checkpoint = Checkpoints::new(&run).find(kind)?;
    let checkpoint =
        checkpoint.ok_or_else(|| format!("found no checkpoint in {}", run.display()))?;
    score(arguments, &splits, &checkpoint, &device)
}

/// Evaluates a checkpoint, prints the report and draws ranked lists.
fn score(
    arguments: &Arguments,
    splits: &Splits,
    checkpoint: &Path,
    device: &Device,
) -> Result<(), Box<dyn Error>> {
    let embedder = Embedder::open_on(checkpoint, device)?;
    let mut evaluation = embedder.evaluation().clone();
    if !splits.has_cameras() {
        evaluation.protocol = Protocol::NoCameras;
    }
    let (query, gallery) = embedder.embed_splits(splits)?;
    let report = evaluate(&query, &gallery, &evaluation)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!(
            "{}\n{}\n\n{report}",
            checkpoint.display(),
            splits.statistics()
        );
    }

    let step = (splits.query.len() / arguments.draw.max(1)).max(1);
    let rows = (0..splits.query.len())
        .step_by(step)
        .take(arguments.draw)
        .map(|index| {
            let list = ranked_list(&query, &gallery, &evaluation, index, 10)?;
            Ok(RankedRow::open(splits, &list)?)
        });
    let rows = rows.collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    save_picture(&arguments.picture, &RankedFigure::new().draw(&rows))?;
    eprintln!("wrote {}", arguments.picture.display());
    Ok(())
}

/// Trains a tiny model on synthetic images, so that the example needs no input.
fn train_tiny_model(device: &Device) -> Result<(PathBuf, Splits), Box<dyn Error>> {
    let out = PathBuf::from("target/evaluate_checkpoint");
    let data = out.join("people");
    SyntheticConfig::new()
        .with_train_identities(8)
        .with_test_identities(8)
        .write(&data)?;
    let splits = market1501::load(&data)?;
    let backbone = ResNetConfig::resnet18().with_width(4).with_last_stride(1);
    let head = BnNeckConfig::new();
    let network = BagOfTricksConfig { backbone, head };
    let mut recipe = Recipe::strong_baseline("tiny", InputSize::new(64, 32), network);
    (recipe.epochs, recipe.sampling.identities) = (1, 8);
    let run = out.join("run");
    Trainer::new(&recipe, &splits, LoaderConfig::default(), device)?
        .with_checkpoints(Checkpoints::new(&run))
        .resume()?
        .run(&mut ())?;
    Ok((run, splits))
}
