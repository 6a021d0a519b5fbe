//! Trains a vehicle re-identification network: further non-local and channel attention in two branches (FNC,
//! Liu et al., AI City 2020), or one of the networks that the paper compares it with.
//!
//! On synthetic images of vehicles, some of which look alike, with a small network, minutes on two CPU cores:
//!
//! ```sh
//! cargo run --release --example train_fnc
//! cargo run --release --example train_fnc -- --row spatial --seed 2
//! ```
//!
//! On your own data with the published recipe, which needs a GPU:
//!
//! ```sh
//! cargo run --release --example train_fnc -- --data VeRi --recipe paper \
//!     --pretrained se_resnext101_32x4d.pth
//! ```
//!
//! `Ctrl-C` saves a checkpoint and stops; `--resume` continues from it.
//!
//! It prints the final report (mAP, mINP and CMC), and training progress on standard error. If the dataset
//! has tracks, it prints a second report in which the mean embedding of each track stands for its images. It
//! writes the checkpoints, `recipe.json` and `report.json` to a folder in `target/train_fnc`, named after the
//! row (change it with `--out`).

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

use burn::module::Module;
use clap::{Parser, ValueEnum};
use reid::{
    core::Seed,
    data::{
        dataset::{self, veri776},
        transform::PadCrop,
    },
    eval::{RerankConfig, Reranked},
    nn::{
        Init,
        attention::{Combine, FncChannelConfig, FncSpatialConfig, SqueezeExcitationConfig},
        backbone::{ResNet, ResNetConfig, SplitPoint, Stem},
        head::{BnNeckConfig, FncBranches, ReducedBnNeckConfig},
        parameters,
    },
    prelude::*,
    synthetic::VehiclesConfig,
    train::{Decay, OptimizerConfig, WarmUp},
    zoo::{FncConfig, NetworkConfig, recipes, weights},
};
use serde::{Serialize, de::DeserializeOwned};

#[derive(Parser)]
#[command(about = "Trains FNC, two branches with separate late stages and attention, on vehicles")]
#[expect(clippy::struct_excessive_bools, reason = "each is a command-line flag")]
struct Arguments {
    /// The network: a row of the paper's Table 5.
    #[arg(long, value_enum, default_value = "separate")]
    row: Row,
    /// How attention is applied to the features: a row of Table 6.
    #[arg(long, value_enum, default_value = "multiply")]
    merge: MergeBy,
    /// The dataset: a CSV list, or a folder in a supported layout (VeRi-776, VehicleID, …). Default:
    /// synthetic images of vehicles.
    #[arg(long)]
    data: Option<PathBuf>,
    /// The difficulty of the synthetic images, from 0 to 1: how alike vehicles look.
    #[arg(long, default_value_t = 0.5)]
    difficulty: f32,
    /// The recipe.
    #[arg(long, value_enum, default_value = "small")]
    recipe: Which,
    /// ImageNet weights for the backbone: Cadene's `.pth` or safetensors. All parameters of the backbone
    /// must be in the file, except those of attention; squeeze-and-excitation may be missing as a whole.
    #[arg(long)]
    pretrained: Option<PathBuf>,
    /// The seed; overrides the recipe's.
    #[arg(long)]
    seed: Option<u64>,
    /// The number of epochs; overrides the recipe's.
    #[arg(long)]
    epochs: Option<usize>,
    /// Also evaluate after re-ranking, as the paper does: k1 = 75, k2 = 10, lambda = 0.1.
    #[arg(long)]
    rerank: bool,
    /// The folder for checkpoints, recipe and report. Default: `target/train_fnc/` and the row's name.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Resume from the last checkpoint in `--out`.
    #[arg(long)]
    resume: bool,
    /// Run for a few seconds with tiny settings, to check that the example works.
    #[arg(long)]
    smoke: bool,
}

/// The networks of the rows of Table 5.
#[derive(Clone, Copy, ValueEnum)]
enum Row {
    /// The strong baseline.
    Baseline,
    /// The baseline with spatial attention after the last stage.
    Spatial,
    /// The baseline with channel attention after the last stage.
    Channel,
    /// Two branches that share all stages.
    Shared,
    /// Two branches, each with its own late stages; the paper's proposal.
    Separate,
}

/// The two ways of applying attention in Table 6.
#[derive(Clone, Copy, ValueEnum)]
enum MergeBy {
    /// Multiply the features by the attention.
    Multiply,
    /// Add the attention to the features.
    Add,
}

#[derive(Clone, Copy, ValueEnum)]
enum Which {
    /// A small recipe that trains in minutes on two CPU cores.
    Small,
    /// The published recipe: SE-ResNeXt-101 with the Ranger optimizer on images of 288 x 384.
    Paper,
}

/// A `ResNet` with squeeze-and-excitation in its blocks.
type Backbone = ResNetConfig<SqueezeExcitationConfig>;

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
    match arguments.row {
        Row::Baseline => with_attention(arguments, ()),
        Row::Spatial => with_attention(arguments, arguments.branches().spatial),
        Row::Channel => with_attention(arguments, arguments.branches().channel),
        Row::Shared => fnc(arguments, false),
        Row::Separate => fnc(arguments, true),
    }
}

/// The strong baseline, with attention after its last stage.
fn with_attention<A>(arguments: &Arguments, attention: A) -> Result<(), Box<dyn Error>>
where
    A: BlockConfig + Clone + Serialize + DeserializeOwned,
{
    let head = BnNeckConfig::new();
    let backbone = arguments.backbone().after(&[4], attention);
    let network = NetworkConfig { backbone, head };
    train(arguments, network, |model, file| {
        weights::load_backbone(&mut model.backbone, file)?;
        Ok(())
    })
}

/// Trains FNC's two branches, with separate or shared late stages.
fn fnc(arguments: &Arguments, separate: bool) -> Result<(), Box<dyn Error>> {
    let mut network = FncConfig::from_network(arguments.backbone());
    network.branches = arguments.branches();
    if matches!(arguments.recipe, Which::Small) {
        // The small network has one block per stage: each branch has its own stages 3 and 4.
        network.split = Some(SplitPoint { stage: 3, block: 0 });
    }
    if !separate {
        network.split = None;
    }
    let config = network.clone();
    train(arguments, network, |model, file| {
        let image = arguments.input().rgb();
        let device = model.devices().remove(0);
        // Parameters that the file lacks are initialised from the seed.
        let seed = Seed::new(arguments.seed.unwrap_or(1)).named("whole");
        let mut whole: ResNet<_> = config.network.init(image, &Init::new(seed, &device));
        weights::load_backbone(&mut whole, file)?;
        config.start_from(model, whole);
        Ok(())
    })
}

/// Trains a network, and prints and writes the report.
fn train<N: Network>(
    arguments: &Arguments,
    network: N,
    load: impl FnOnce(&mut N::Model, &Path) -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let device = device::pick()?;
    eprintln!("running on {}", device::backend(&device));
    let splits = splits(arguments)?;
    eprintln!("{}", splits.statistics());
    let recipe = arguments.recipe(network, &splits)?;
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
        load(model, file)?;
    }
    eprintln!("{} parameters", parameters::count(model));
    if arguments.resume {
        trainer = trainer.resume()?;
    }
    let outcome = trainer.run(&mut Console::stderr())?;
    if let Some(report) = outcome.report {
        let json = serde_json::to_string_pretty(&report)?;
        fs::write(out.join("report.json"), json)?;
        println!("{report}");
        let extractor = Extractor::from_recipe(&recipe, LoaderConfig::default());
        let model = outcome.learner.model.evaluation();
        let both = extractor.embed_both(&model, &splits, &device)?;
        by_track(&both, &recipe.evaluation)?;
        if arguments.rerank {
            reranked(&both, &recipe.evaluation)?;
        }
    }
    Ok(())
}

/// Evaluates with the mean embedding of each gallery track, if the gallery has tracks.
fn by_track(
    (query, gallery): &(Embeddings, Embeddings),
    config: &EvaluationConfig,
) -> Result<(), Box<dyn Error>> {
    if gallery.labels().tracks().is_none() {
        return Ok(());
    }
    let report = evaluate(query, &gallery.pooled_by_track()?, config)?;
    println!("with one mean embedding per gallery track\n{report}");
    Ok(())
}

/// Evaluates after re-ranking with the paper's parameters.
fn reranked(
    (query, gallery): &(Embeddings, Embeddings),
    config: &EvaluationConfig,
) -> Result<(), Box<dyn Error>> {
    let paper = RerankConfig::default().with_parameters(75, 10, 0.1);
    let lists = Reranked::new(query, gallery, &paper)?;
    let report = lists.evaluate(query.labels(), gallery.labels(), config)?;
    println!("after re-ranking\n{report}");
    Ok(())
}

impl Arguments {
    fn out(&self) -> PathBuf {
        let row = self.row.to_possible_value();
        let row = row.expect("no variant is skipped on the command line");
        let suffix = match self.merge {
            MergeBy::Multiply => "",
            MergeBy::Add => "-add",
        };
        let name = if self.smoke {
            format!("smoke-{}", std::process::id())
        } else {
            format!("{}{suffix}", row.get_name())
        };
        let folder = || Path::new("target/train_fnc").join(name);
        self.out.clone().unwrap_or_else(folder)
    }

    fn input(&self) -> InputSize {
        match self.recipe {
            Which::Small => InputSize::new(48, 48),
            Which::Paper => InputSize::new(288, 384),
        }
    }

    fn backbone(&self) -> Backbone {
        if matches!(self.recipe, Which::Paper) {
            return Backbone::se_resnext101().with_last_stride(1);
        }
        let mut backbone = ResNetConfig::resnet18()
            .with_width(if self.smoke { 4 } else { 16 })
            .with_last_stride(1)
            .with_stem(Stem::Small)
            .inside(SqueezeExcitationConfig::new());
        backbone.blocks = [1; 4];
        backbone
    }

    fn branches(&self) -> FncBranches {
        let merge = match self.merge {
            MergeBy::Multiply => Combine::Multiply,
            MergeBy::Add => Combine::Add,
        };
        let spatial = FncSpatialConfig::new().with_combine(merge);
        let mut channel = FncChannelConfig::new().with_combine(merge);
        let mut branches = FncBranches::new();
        if matches!(self.recipe, Which::Small) {
            channel = channel.with_hidden(64).with_groups(8);
            let neck = |dimensions| ReducedBnNeckConfig::new().with_dimensions(dimensions);
            (branches.spatial_neck, branches.channel_neck) = (neck(128), neck(64));
        }
        branches.with_spatial(spatial).with_channel(channel)
    }

    fn recipe<N: Network>(&self, network: N, splits: &Splits) -> Result<Recipe<N>, Box<dyn Error>> {
        let mut recipe = recipes::fnc_paper("vehicles", network);
        if matches!(self.recipe, Which::Small) {
            recipe.input = self.input();
            recipe.augmentation.pad_crop = Some(PadCrop { padding: 4 });
            recipe.optimizer = OptimizerConfig::adam();
            recipe.schedule.base = 2e-3;
            recipe.schedule.warm_up = Some(WarmUp::Linear {
                epochs: 2,
                from: 0.1,
            });
            recipe.schedule.decay = Decay::Cosine { floor: 0.01 };
            (recipe.epochs, recipe.evaluate_every) = (15, 5);
        }
        if !splits.has_cameras() {
            recipe.evaluation.protocol = Protocol::NoCameras;
        }
        if self.smoke {
            (recipe.epochs, recipe.sampling.identities) = (1, 4);
        }
        recipe.epochs = self.epochs.unwrap_or(recipe.epochs);
        recipe.seed = self.seed.map_or(recipe.seed, Seed::new);
        recipe.check()?;
        Ok(recipe)
    }
}

fn splits(arguments: &Arguments) -> Result<Splits, Box<dyn Error>> {
    if let Some(data) = &arguments.data {
        return Ok(dataset::load(data)?);
    }
    let vehicles = if arguments.smoke { 8 } else { 64 };
    let difficulty = arguments.difficulty;
    let root = PathBuf::from(format!("target/train_fnc/vehicles-{vehicles}-{difficulty}"));
    VehiclesConfig::new()
        .with_train_identities(vehicles)
        .with_test_identities(vehicles)
        .with_difficulty(difficulty)
        .write(&root)?;
    Ok(veri776::load(root)?)
}
