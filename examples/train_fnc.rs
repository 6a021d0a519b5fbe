//! Vehicles: further non-local and channel attention in two branches (Liu et al., AI City 2020), and what
//! it is compared with.
//!
//! Trains a small network on drawn vehicles with look-alikes, or any network on your data, and prints
//! what it scored: also with the mean over each track, where the data has tracks.
//!
//! ```sh
//! cargo run --release --example train_fnc
//! cargo run --release --example train_fnc -- --row spatial --seed 2
//! cargo run --release --example train_fnc -- --data VeRi --recipe paper --pretrained se_resnext101_32x4d.pth
//! ```
//!
//! Minutes on two cores with drawn vehicles; the published recipe wants a GPU. `Ctrl-C` saves and stops.

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
    zoo::{FncConfig, NetworkConfig, weights},
};
use serde::{Serialize, de::DeserializeOwned};

#[derive(Parser)]
#[command(about = "Trains two branches with late stages and attention of their own")]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
struct Arguments {
    /// Which network: a row of the paper's Table 5.
    #[arg(long, value_enum, default_value = "separate")]
    row: Row,
    /// How attention and features become one: Table 6.
    #[arg(long, value_enum, default_value = "multiply")]
    merge: MergeBy,
    /// A data set in any layout that is known, such as VeRi-776's; drawn vehicles if absent.
    #[arg(long)]
    data: Option<PathBuf>,
    /// How hard the drawn vehicles are to tell apart, from 0 to 1.
    #[arg(long, default_value_t = 0.5)]
    difficulty: f32,
    /// `paper`, or small by default.
    #[arg(long, value_enum, default_value = "small")]
    recipe: Which,
    /// ImageNet weights for the trunk (Cadene's `.pth`, or safetensors), strictly but for gates, if the
    /// file has none.
    #[arg(long)]
    pretrained: Option<PathBuf>,
    /// Another seed than the recipe's.
    #[arg(long)]
    seed: Option<u64>,
    /// Another number of epochs than the recipe's.
    #[arg(long)]
    epochs: Option<usize>,
    /// Also score re-ranked lists, as the paper does: k1 = 75, k2 = 10, lambda = 0.1.
    #[arg(long)]
    rerank: bool,
    /// Where checkpoints, recipe and report go; `target/train_fnc` and the row if absent.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Go on from the last checkpoint in `--out`.
    #[arg(long)]
    resume: bool,
    /// A run of seconds, to see that it runs.
    #[arg(long)]
    smoke: bool,
}

/// The rows of Table 5.
#[derive(Clone, Copy, ValueEnum)]
enum Row {
    /// The strong baseline.
    Baseline,
    /// With spatial attention after the last stage.
    Spatial,
    /// With channel attention after the last stage.
    Channel,
    /// Two branches that share all stages.
    Shared,
    /// Two branches with late stages of their own: the paper's.
    Separate,
}

/// The rows of Table 6.
#[derive(Clone, Copy, ValueEnum)]
enum MergeBy {
    /// Features are multiplied by attention.
    Multiply,
    /// Attention is added to features.
    Add,
}

#[derive(Clone, Copy, ValueEnum)]
enum Which {
    /// A recipe for two cores.
    Small,
    /// SE-ResNeXt-101 and Ranger on 288 x 384.
    Paper,
}

/// A trunk with squeeze-and-excitation in its blocks.
type Trunk = ResNetConfig<SqueezeExcitationConfig>;

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
    let backbone = arguments.trunk().after(&[4], attention);
    let network = NetworkConfig { backbone, head };
    train(arguments, network, |model, file| {
        weights::load_backbone(&mut model.backbone, file)?;
        Ok(())
    })
}

/// Two branches.
fn fnc(arguments: &Arguments, separate: bool) -> Result<(), Box<dyn Error>> {
    let mut network = FncConfig::from_network(arguments.trunk());
    network.branches = arguments.branches();
    if matches!(arguments.recipe, Which::Small) {
        // One block in a stage: all of stages 3 and 4 are behind the cut.
        network.split = Some(SplitPoint { stage: 3, block: 0 });
    }
    if !separate {
        network.split = None;
    }
    let config = network.clone();
    train(arguments, network, |model, file| {
        let image = arguments.input().rgb();
        let device = model.devices().remove(0);
        // What the file has no weights of is drawn from the seed.
        let seed = Seed::new(arguments.seed.unwrap_or(1)).named("whole");
        let mut whole: ResNet<_> = config.network.init(image, &Init::new(seed, &device));
        weights::load_backbone(&mut whole, file)?;
        config.start_from(model, whole);
        Ok(())
    })
}

/// Trains a network and prints what it scored.
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

/// Scores the mean over each track, where the gallery has tracks.
fn by_track(
    (query, gallery): &(Embeddings, Embeddings),
    config: &EvaluationConfig,
) -> Result<(), Box<dyn Error>> {
    if gallery.labels().tracks().is_none() {
        return Ok(());
    }
    let report = evaluate(query, &gallery.pooled_by_track()?, config)?;
    println!("by track\n{report}");
    Ok(())
}

/// Scores lists re-ranked as in the paper.
fn reranked(
    (query, gallery): &(Embeddings, Embeddings),
    config: &EvaluationConfig,
) -> Result<(), Box<dyn Error>> {
    let paper = RerankConfig::default().with_parameters(75, 10, 0.1);
    let lists = Reranked::new(query, gallery, &paper)?;
    let report = lists.evaluate(query.labels(), gallery.labels(), config)?;
    println!("re-ranked\n{report}");
    Ok(())
}

impl Arguments {
    fn out(&self) -> PathBuf {
        let row = self.row.to_possible_value();
        let row = row.expect("a variant that can be named");
        let merged = match self.merge {
            MergeBy::Multiply => "",
            MergeBy::Add => "-add",
        };
        let name = if self.smoke {
            format!("smoke-{}", std::process::id())
        } else {
            format!("{}{merged}", row.get_name())
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

    fn trunk(&self) -> Trunk {
        if matches!(self.recipe, Which::Paper) {
            return Trunk::se_resnext101().with_last_stride(1);
        }
        let mut trunk = ResNetConfig::resnet18()
            .with_width(if self.smoke { 4 } else { 16 })
            .with_last_stride(1)
            .with_stem(Stem::Small)
            .inside(SqueezeExcitationConfig::new());
        trunk.blocks = [1; 4];
        trunk
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
        let mut recipe = Recipe::fnc_paper("vehicles", network);
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
