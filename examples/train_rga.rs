//! Trains a strong baseline with attention after its stages: relation-aware global attention (RGA, Zhang et
//! al., arXiv:1904.02998) or any other attention in Tables 1 to 3 of that paper, all with the same recipe.
//!
//! On synthetic images of people with a small network, minutes on two CPU cores:
//!
//! ```sh
//! cargo run --release --example train_rga -- --attention rga-sc
//! ```
//!
//! On your own data with a published recipe, which needs a GPU:
//!
//! ```sh
//! cargo run --release --example train_rga -- --attention rga-sc --data DIR --recipe code \
//!     --pretrained resnet50.pth
//! ```
//!
//! `Ctrl-C` saves a checkpoint and stops; `--resume` continues from it.
//!
//! It prints the final report (mAP, mINP and CMC), and training progress on standard error. It writes the
//! checkpoints, `recipe.json` and `report.json` to a folder in `target/train_rga`, named after the attention
//! (change it with `--out`).

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program talks to its user"
)]

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, ValueEnum};
use reid::{
    data::{
        dataset::{self, market1501},
        transform::PadCrop,
    },
    nn::{
        attention::{
            AttentionConfig, CbamChannelConfig, CbamSpatialConfig, FullyConnectedChannelConfig,
            FullyConnectedSpatialConfig, NonLocalConfig, ParallelConfig, RgaChannelConfig,
            RgaSpatialConfig, SqueezeExcitationConfig, Terms,
        },
        backbone::{ResNetConfig, Stem},
        head::BnNeckConfig,
        parameters,
    },
    prelude::*,
    synthetic::SyntheticConfig,
    train::{Decay, WarmUp},
    zoo::{recipes, weights},
};

#[derive(Parser)]
#[command(about = "Trains a strong baseline with attention after its stages")]
struct Arguments {
    /// The attention after the stages.
    #[arg(long, value_enum, default_value = "rga-sc")]
    attention: Attention,
    /// The stages that attention follows, from 1 to 4.
    #[arg(long, value_delimiter = ',', default_value = "1,2,3,4", value_parser = stage)]
    stages: Vec<usize>,
    /// The dataset: a CSV list, or a folder in a supported layout (Market-1501, one folder per identity, …).
    /// Default: synthetic images of people.
    #[arg(long)]
    data: Option<PathBuf>,
    /// The difficulty of the synthetic images, from 0 to 1: how alike people look.
    #[arg(long, default_value_t = 0.5)]
    difficulty: f32,
    /// `paper`, `code`, or a JSON recipe of a strong baseline. Default: a small recipe.
    #[arg(long)]
    recipe: Option<String>,
    /// ImageNet weights for the backbone: torchvision `.pth` or safetensors. All parameters of the backbone
    /// must be in the file, except those of attention.
    #[arg(long)]
    pretrained: Option<PathBuf>,
    /// The seed; overrides the recipe's.
    #[arg(long)]
    seed: Option<u64>,
    /// The number of epochs; overrides the recipe's.
    #[arg(long)]
    epochs: Option<usize>,
    /// The number of identities in a batch; overrides the recipe's. Fewer identities give more steps.
    #[arg(long)]
    identities: Option<usize>,
    /// The folder for checkpoints, recipe and report. Default: `target/train_rga/` and the attention's name.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Resume from the last checkpoint in `--out`.
    #[arg(long)]
    resume: bool,
    /// Run for a few seconds with tiny settings, to check that the example works.
    #[arg(long)]
    smoke: bool,
}

impl Arguments {
    fn out(&self) -> PathBuf {
        let attention = self.attention.to_possible_value();
        let attention = attention.expect("no variant is skipped on the command line");
        let name = if self.smoke {
            format!("smoke-{}", std::process::id())
        } else {
            attention.get_name().to_owned()
        };
        let folder = || Path::new("target/train_rga").join(name);
        self.out.clone().unwrap_or_else(folder)
    }
}

/// Parses the number of a stage, from 1 to 4.
fn stage(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(stage @ 1..=4) => Ok(stage),
        _ => Err("expected the number of a stage, from 1 to 4".to_owned()),
    }
}

/// The attention of the rows of Tables 1 to 3.
#[derive(Clone, Copy, ValueEnum)]
enum Attention {
    /// The baseline, without attention.
    None,
    /// Squeeze-and-excitation.
    Se,
    /// CBAM over channels.
    CbamC,
    /// CBAM over positions.
    CbamS,
    /// CBAM over channels, then over positions.
    CbamCs,
    /// Fully connected over channels.
    FcC,
    /// Fully connected over positions.
    FcS,
    /// FC-S//C: fully connected over positions and over channels, in parallel.
    FcSPlusC,
    /// A non-local block.
    NonLocal,
    /// A non-local block, then RGA-S.
    NonLocalRgaS,
    /// RGA-S without its relation term.
    RgaSWithoutRelation,
    /// RGA-S without its visual term.
    RgaSWithoutVisual,
    /// RGA-S: relation-aware over positions.
    RgaS,
    /// RGA-C without its relation term.
    RgaCWithoutRelation,
    /// RGA-C without its visual term.
    RgaCWithoutVisual,
    /// RGA-C: relation-aware over channels.
    RgaC,
    /// RGA-S//C: relation-aware over positions and over channels, in parallel.
    RgaSPlusC,
    /// RGA-CS: relation-aware over channels, then over positions.
    RgaCs,
    /// RGA-SC: relation-aware over positions, then over channels; the paper's proposal.
    RgaSc,
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

/// The configuration of the attention, which is chosen at run time.
fn configuration(attention: Attention) -> AttentionConfig {
    let spatial = RgaSpatialConfig::new();
    let channel = RgaChannelConfig::new();
    let fc_spatial = FullyConnectedSpatialConfig::new();
    let fc_channel = FullyConnectedChannelConfig::new();
    let chain = |first, second| AttentionConfig::Chain(vec![first, second]);
    let parallel = |first, second| AttentionConfig::Parallel(ParallelConfig::new(first, second));
    match attention {
        Attention::None => AttentionConfig::Chain(Vec::new()),
        Attention::Se => SqueezeExcitationConfig::new().into(),
        Attention::CbamC => CbamChannelConfig::new().into(),
        Attention::CbamS => CbamSpatialConfig::new().into(),
        Attention::CbamCs => chain(
            CbamChannelConfig::new().into(),
            CbamSpatialConfig::new().into(),
        ),
        Attention::FcC => fc_channel.into(),
        Attention::FcS => fc_spatial.into(),
        Attention::FcSPlusC => parallel(fc_spatial.into(), fc_channel.into()),
        Attention::NonLocal => NonLocalConfig::new().into(),
        Attention::NonLocalRgaS => chain(NonLocalConfig::new().into(), spatial.into()),
        Attention::RgaSWithoutRelation => spatial.with_terms(Terms::Visual).into(),
        Attention::RgaSWithoutVisual => spatial.with_terms(Terms::Relation).into(),
        Attention::RgaS => spatial.into(),
        Attention::RgaCWithoutRelation => channel.with_terms(Terms::Visual).into(),
        Attention::RgaCWithoutVisual => channel.with_terms(Terms::Relation).into(),
        Attention::RgaC => channel.into(),
        Attention::RgaSPlusC => parallel(spatial.into(), channel.into()),
        Attention::RgaCs => chain(channel.into(), spatial.into()),
        Attention::RgaSc => chain(spatial.into(), channel.into()),
    }
}

/// Trains a network with the attention, and prints and writes the report.
fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let device = device::pick()?;
    eprintln!("running on {}", device::backend(&device));
    let splits = splits(arguments)?;
    eprintln!("{}", splits.statistics());
    let base = recipe(arguments, &splits)?;
    let attention = configuration(arguments.attention);
    let baseline = base.network.clone();
    let stages = match arguments.attention {
        Attention::None => &[],
        _ => &*arguments.stages,
    };
    let network = baseline.with_attention(stages, attention);
    let recipe = base.with_network(network);
    let interrupt = Interrupt::new();
    let handler = interrupt.clone();
    ctrlc::set_handler(move || handler.request())?;
    let out = arguments.out();
    let checkpoints = if arguments.resume {
        Checkpoints::new(&out)
    } else {
        Checkpoints::begin(&out)?
    };

    let mut trainer = Trainer::new(&recipe, &splits, LoaderConfig::default(), &device)?
        .with_checkpoints(checkpoints)
        .with_interrupt(interrupt);
    let model = &mut trainer.learner_mut().model;
    if let Some(file) = &arguments.pretrained {
        weights::load_backbone(&mut model.backbone, file)?;
    }
    let attention = parameters::count(&model.backbone.after);
    let all = parameters::count(model);
    eprintln!("{all} parameters, {attention} of them in attention blocks");

    if arguments.resume {
        trainer = trainer.resume()?;
    }
    let outcome = trainer.run(&mut Console::stderr())?;
    if let Some(report) = outcome.report {
        let json = serde_json::to_string_pretty(&report)?;
        fs::write(out.join("report.json"), json)?;
        println!("{report}");
    }
    Ok(())
}

fn splits(arguments: &Arguments) -> Result<Splits, Box<dyn Error>> {
    if let Some(data) = &arguments.data {
        return Ok(dataset::load(data)?);
    }
    let people = if arguments.smoke { 8 } else { 64 };
    let difficulty = arguments.difficulty;
    let root = PathBuf::from(format!("target/train_rga/people-{people}-{difficulty}"));
    SyntheticConfig::new()
        .with_train_identities(people)
        .with_test_identities(people)
        .with_difficulty(difficulty)
        .write(&root)?;
    Ok(market1501::load(root)?)
}

fn recipe(
    arguments: &Arguments,
    splits: &Splits,
) -> Result<Recipe<BagOfTricksConfig>, Box<dyn Error>> {
    let network = BagOfTricksConfig::resnet50();
    let mut recipe = match arguments.recipe.as_deref() {
        Some("paper") => recipes::rga_paper("RGA, as in the paper", InputSize::PERSON, network),
        Some("code") => recipes::rga_code("RGA, as in the code", InputSize::PERSON, network),
        Some(file) => Recipe::load(file)?,
        None => small(),
    };
    if !splits.has_cameras() {
        recipe.evaluation.protocol = Protocol::NoCameras;
    }
    if arguments.smoke {
        recipe.network.backbone = recipe.network.backbone.with_width(4);
        (recipe.epochs, recipe.sampling.identities) = (1, 4);
    }
    recipe.epochs = arguments.epochs.unwrap_or(recipe.epochs);
    recipe.sampling.identities = arguments.identities.unwrap_or(recipe.sampling.identities);
    recipe.seed = arguments.seed.map_or(recipe.seed, Seed::new);
    recipe.check()?;
    Ok(recipe)
}

/// A small recipe that trains in minutes on two CPU cores.
fn small() -> Recipe<BagOfTricksConfig> {
    let mut backbone = ResNetConfig::resnet18()
        .with_width(16)
        .with_last_stride(1)
        .with_stem(Stem::Small);
    backbone.blocks = [1; 4];
    let head = BnNeckConfig::new();
    let network = BagOfTricksConfig { backbone, head };
    let mut recipe = Recipe::strong_baseline("attention", InputSize::new(64, 32), network);
    recipe.augmentation.pad_crop = Some(PadCrop { padding: 4 });
    recipe.schedule.base = 2e-3;
    recipe.schedule.warm_up = Some(WarmUp::Linear {
        epochs: 2,
        from: 0.1,
    });
    recipe.schedule.decay = Decay::Cosine { floor: 0.01 };
    (recipe.epochs, recipe.evaluate_every) = (20, 10);
    recipe
}
