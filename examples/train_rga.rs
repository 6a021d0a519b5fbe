//! Attention in a strong baseline: any row of the relation-aware paper's tables, under one recipe.
//!
//! Trains a small network on drawn people, or any network on your data, with the attention that is
//! asked for after its stages, and prints what it scored.
//!
//! ```sh
//! cargo run --release --example train_rga -- --attention rga-sc
//! cargo run --release --example train_rga -- --attention rga-sc --data DIR --recipe code --pretrained resnet50.pth
//! ```
//!
//! Minutes on two cores with drawn people; the published recipes want a GPU. `Ctrl-C` saves and stops.

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
            CbamChannelConfig, CbamSpatialConfig, FullyConnectedChannelConfig,
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
    zoo::{weights, recipes},
};
use serde::{Serialize, de::DeserializeOwned};

#[derive(Parser)]
#[command(about = "Trains a network with attention after its stages")]
struct Arguments {
    /// What stands after the stages.
    #[arg(long, value_enum, default_value = "rga-sc")]
    attention: Attention,
    /// After which stages, from 1 to 4.
    #[arg(long, value_delimiter = ',', default_value = "1,2,3,4", value_parser = stage)]
    stages: Vec<usize>,
    /// A folder in Market-1501's layout, one folder per identity, or a CSV list; drawn people if
    /// absent.
    #[arg(long)]
    data: Option<PathBuf>,
    /// How hard the drawn people are to tell apart, from 0 to 1.
    #[arg(long, default_value_t = 0.5)]
    difficulty: f32,
    /// `paper`, `code`, or the file of a baseline's recipe; small by default.
    #[arg(long)]
    recipe: Option<String>,
    /// ImageNet weights for the trunk (torchvision `.pth`, or safetensors), strictly.
    #[arg(long)]
    pretrained: Option<PathBuf>,
    /// Another seed than the recipe's.
    #[arg(long)]
    seed: Option<u64>,
    /// Another number of epochs than the recipe's.
    #[arg(long)]
    epochs: Option<usize>,
    /// Another number of identities in a batch than the recipe's: with fewer, more steps of as much work.
    #[arg(long)]
    identities: Option<usize>,
    /// Where checkpoints, recipe and report go; `target/train_rga` and the attention if absent.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Go on from the last checkpoint in `--out`.
    #[arg(long)]
    resume: bool,
    /// A run of seconds, to see that it runs.
    #[arg(long)]
    smoke: bool,
}

impl Arguments {
    fn out(&self) -> PathBuf {
        let attention = self.attention.to_possible_value();
        let attention = attention.expect("a variant that can be named");
        let name = if self.smoke {
            format!("smoke-{}", std::process::id())
        } else {
            attention.get_name().to_owned()
        };
        let folder = || Path::new("target/train_rga").join(name);
        self.out.clone().unwrap_or_else(folder)
    }
}

/// One of a network's four stages.
fn stage(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(stage @ 1..=4) => Ok(stage),
        _ => Err("expected a stage from 1 to 4".to_owned()),
    }
}

/// The rows of Tables 1 to 3.
#[derive(Clone, Copy, ValueEnum)]
enum Attention {
    /// The baseline.
    None,
    /// Squeeze-and-excitation.
    Se,
    /// CBAM over channels.
    CbamC,
    /// CBAM over places.
    CbamS,
    /// CBAM over channels, then places.
    CbamCs,
    /// Fully connected over channels.
    FcC,
    /// Fully connected over places.
    FcS,
    /// FC-S//C: fully connected over both, side by side.
    FcSPlusC,
    /// Non-local.
    NonLocal,
    /// Non-local, then RGA-S.
    NonLocalRgaS,
    /// RGA-S w/o Rel.
    RgaSWithoutRelation,
    /// RGA-S w/o Vis.
    RgaSWithoutVisual,
    /// Relation-aware over places.
    RgaS,
    /// RGA-C w/o Rel.
    RgaCWithoutRelation,
    /// RGA-C w/o Vis.
    RgaCWithoutVisual,
    /// Relation-aware over channels.
    RgaC,
    /// RGA-S//C: relation-aware over both, side by side.
    RgaSPlusC,
    /// Relation-aware over channels, then places.
    RgaCs,
    /// Relation-aware over places, then channels: the paper's.
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

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let spatial = RgaSpatialConfig::new;
    let channel = RgaChannelConfig::new;
    let (fc_spatial, fc_channel) = (
        FullyConnectedSpatialConfig::new(),
        FullyConnectedChannelConfig::new(),
    );
    match arguments.attention {
        Attention::None => train(arguments, ()),
        Attention::Se => train(arguments, SqueezeExcitationConfig::new()),
        Attention::CbamC => train(arguments, CbamChannelConfig::new()),
        Attention::CbamS => train(arguments, CbamSpatialConfig::new()),
        Attention::CbamCs => train(
            arguments,
            (CbamChannelConfig::new(), CbamSpatialConfig::new()),
        ),
        Attention::FcC => train(arguments, fc_channel),
        Attention::FcS => train(arguments, fc_spatial),
        Attention::FcSPlusC => train(arguments, ParallelConfig::new(fc_spatial, fc_channel)),
        Attention::NonLocal => train(arguments, NonLocalConfig::new()),
        Attention::NonLocalRgaS => train(arguments, (NonLocalConfig::new(), spatial())),
        Attention::RgaSWithoutRelation => train(arguments, spatial().with_terms(Terms::Visual)),
        Attention::RgaSWithoutVisual => train(arguments, spatial().with_terms(Terms::Relation)),
        Attention::RgaS => train(arguments, spatial()),
        Attention::RgaCWithoutRelation => train(arguments, channel().with_terms(Terms::Visual)),
        Attention::RgaCWithoutVisual => train(arguments, channel().with_terms(Terms::Relation)),
        Attention::RgaC => train(arguments, channel()),
        Attention::RgaSPlusC => train(arguments, ParallelConfig::new(spatial(), channel())),
        Attention::RgaCs => train(arguments, (channel(), spatial())),
        Attention::RgaSc => train(arguments, (spatial(), channel())),
    }
}

/// Trains a network with one attention and prints what it scored.
fn train<A>(arguments: &Arguments, attention: A) -> Result<(), Box<dyn Error>>
where
    A: BlockConfig + Clone + Serialize + DeserializeOwned,
{
    let device = device::pick()?;
    eprintln!("running on {}", device::backend(&device));
    let splits = splits(arguments)?;
    eprintln!("{}", splits.statistics());
    let base = recipe(arguments, &splits)?;
    let plain = base.network.clone();
    let network = plain.with_attention(&arguments.stages, attention);
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
    eprintln!("{all} parameters, {attention} of them attention");

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

/// A recipe for two cores.
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
