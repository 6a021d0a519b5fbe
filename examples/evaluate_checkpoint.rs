//! Scores a checkpoint that `train_baseline` or `quickstart` wrote, or any other run of a network of the zoo, and
//! draws what it found. The checkpoint says which network it is.
//!
//! ```sh
//! cargo run --release --example evaluate_checkpoint -- --run target/quickstart/run --data target/quickstart/data-48
//! ```
//!
//! That is after `quickstart` has run; seconds on two cores for small images. Takes the best
//! checkpoint of the run, or with `--last` the last one. `--data` may be a set of another kind: that
//! is a cross-domain test. Without `--run` it trains for a moment first.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program talks to its user"
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
#[command(about = "Scores a checkpoint")]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
struct Arguments {
    /// The folder of a run.
    #[arg(long, requires = "data")]
    run: Option<PathBuf>,
    /// The data: a folder in the Market-1501 layout, a CSV list, or a folder per identity.
    #[arg(long)]
    data: Option<PathBuf>,
    /// The last checkpoint instead of the best.
    #[arg(long)]
    last: bool,
    /// Queries to draw.
    #[arg(long, default_value_t = 4)]
    draw: usize,
    /// Where the picture goes.
    #[arg(long, default_value = "target/evaluate_checkpoint/ranked.png")]
    picture: PathBuf,
    /// The whole report as JSON.
    #[arg(long)]
    json: bool,
    /// Without effect: without `--run` the example is a smoke run.
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
        _ => train_for_a_moment(&device)?,
    };
    let kept = if arguments.last {
        CheckpointKind::Last
    } else {
        CheckpointKind::Best
    };
    let checkpoint = Checkpoints::new(&run).find(kept)?;
    let checkpoint = checkpoint.ok_or_else(|| format!("{} holds no checkpoint", run.display()))?;
    score(arguments, &splits, &checkpoint, &device)
}

/// Scores the network of a checkpoint.
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
    eprintln!("drew {}", arguments.picture.display());
    Ok(())
}

/// A tiny run, so that the example runs alone.
fn train_for_a_moment(device: &Device) -> Result<(PathBuf, Splits), Box<dyn Error>> {
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
    let mut recipe = Recipe::strong_baseline("a moment", InputSize::new(64, 32), network);
    (recipe.epochs, recipe.sampling.identities) = (1, 8);
    let run = out.join("run");
    Trainer::new(&recipe, &splits, LoaderConfig::default(), device)?
        .with_checkpoints(Checkpoints::new(&run))
        .resume()?
        .run(&mut ())?;
    Ok((run, splits))
}
