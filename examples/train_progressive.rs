//! Progressive feature `CutMix`: three branches, each learning from where the one before did not look
//! (Zhang et al., Grad-CAM guided progressive feature `CutMix`), and what it is compared with.
//!
//! Trains a small network on drawn people who are often hidden, or any network on your data, and
//! prints what it scored. The losses of each branch are shown while it learns.
//!
//! ```sh
//! cargo run --release --example train_progressive
//! cargo run --release --example train_progressive -- --branches bdb --seed 2
//! cargo run --release --example train_progressive -- --data DIR --recipe code --pretrained resnet50.pth
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
        backbone::{ResNetConfig, Stem},
        batch_drop::BatchDrop,
        cut_mix::{CutMix, MixPartner, Patches},
        head::{BranchConfig, BranchedHeadConfig, CamSource, FeatureAugment},
        loss::Margin,
    },
    prelude::*,
    synthetic::SyntheticConfig,
    train::{Decay, WarmUp},
    zoo::{BranchedConfig, weights, recipes},
};

#[derive(Parser)]
#[command(about = "Trains branches that are cut and mixed where the one before looked")]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
struct Arguments {
    /// Which branches stand beside the global one: a row of the paper's Tables 2 and 3.
    #[arg(long, value_enum, default_value = "pc2")]
    branches: Branches,
    /// Who fills what is cut: a row of Table 4.
    #[arg(long, value_enum, default_value = "n")]
    partners: Donor,
    /// How many cells are cut (k, Figure 3).
    #[arg(long)]
    cut: Option<usize>,
    /// Rows and columns of a cell, such as 3x2: they divide the feature map.
    #[arg(long, value_parser = patches)]
    patches: Option<Patches>,
    /// Find where a branch looked by a second pass of it instead of in closed form.
    #[arg(long)]
    autodiff: bool,
    /// A folder in Market-1501's layout, one folder per identity, or a CSV list; drawn people if
    /// absent.
    #[arg(long)]
    data: Option<PathBuf>,
    /// `paper`, `code`, or the file of a baseline's recipe, whose backbone gets the branches; small by
    /// default.
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
    /// Where checkpoints, recipe and report go; `target/train_progressive` and the branches if absent.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Go on from the last checkpoint in `--out`.
    #[arg(long)]
    resume: bool,
    /// A run of seconds, to see that it runs.
    #[arg(long)]
    smoke: bool,
}

/// The rows of Tables 2 and 3.
#[derive(Clone, Copy, ValueEnum)]
enum Branches {
    /// G: the global branch alone.
    G,
    /// BDB*: one branch of which a rectangle is dropped.
    Bdb,
    /// BDB*3: two independent ones.
    Bdb3,
    /// + PC1: one branch that is cut and mixed.
    Pc1,
    /// + PC2: a chain of two, the paper's.
    Pc2,
}

/// The rows of Table 4.
#[derive(Clone, Copy, ValueEnum)]
enum Donor {
    /// Images of another identity.
    N,
    /// Other images of the same one.
    P,
    /// Any other image.
    Any,
}

/// Cells from their rows and columns.
fn patches(text: &str) -> Result<Patches, String> {
    let sides = text.split_once('x').and_then(|(height, width)| {
        let (height, width) = (height.parse().ok()?, width.parse().ok()?);
        (height > 0 && width > 0).then_some(Patches { height, width })
    });
    sides.ok_or_else(|| "expected rows and columns of at least 1, such as 3x2".to_owned())
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

    let mut trainer = Trainer::new(&recipe, &splits, LoaderConfig::default(), &device)?
        .with_checkpoints(checkpoints)
        .with_interrupt(interrupt);
    let model = &mut trainer.learner_mut().model;
    if let Some(file) = &arguments.pretrained {
        weights::load_backbone(&mut model.backbone, file)?;
    }
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

impl Arguments {
    fn out(&self) -> PathBuf {
        let branches = self.branches.to_possible_value();
        let branches = branches.expect("a variant that can be named");
        let name = if self.smoke {
            format!("smoke-{}", std::process::id())
        } else {
            branches.get_name().to_owned()
        };
        let folder = || Path::new("target/train_progressive").join(name);
        self.out.clone().unwrap_or_else(folder)
    }

    /// The branches after the global one, in these dimensions.
    fn branches(&self, dimensions: [usize; 2], patches: Patches) -> Vec<BranchConfig> {
        let partners = match self.partners {
            Donor::N => MixPartner::Negative,
            Donor::P => MixPartner::Positive,
            Donor::Any => MixPartner::Any,
        };
        let mut mix = CutMix::new()
            .with_partner(partners)
            .with_patches(self.patches.unwrap_or(patches));
        mix.cut = self.cut.unwrap_or(mix.cut);
        let cam_source = if self.autodiff {
            CamSource::Autodiff
        } else {
            CamSource::ClosedForm
        };
        let (count, augment) = match self.branches {
            Branches::G => (0, None),
            Branches::Bdb => (1, Some(FeatureAugment::Drop(BatchDrop::new()))),
            Branches::Bdb3 => (2, Some(FeatureAugment::Drop(BatchDrop::new()))),
            Branches::Pc1 => (1, Some(FeatureAugment::CutMix { mix, cam_source })),
            Branches::Pc2 => (2, Some(FeatureAugment::CutMix { mix, cam_source })),
        };
        let dimensions = dimensions.into_iter().take(count);
        let branches = dimensions.zip(augment.into_iter().cycle());
        let branch = |(dimensions, augment)| BranchConfig {
            dimensions,
            augment,
        };
        branches.map(branch).collect()
    }
}

fn splits(arguments: &Arguments) -> Result<Splits, Box<dyn Error>> {
    if let Some(data) = &arguments.data {
        return Ok(dataset::load(data)?);
    }
    let people = if arguments.smoke { 8 } else { 64 };
    let root = PathBuf::from(format!("target/train_progressive/people-{people}"));
    SyntheticConfig::new()
        .with_train_identities(people)
        .with_test_identities(people)
        .with_occlusion(0.6)
        .write(&root)?;
    Ok(market1501::load(root)?)
}

fn recipe(
    arguments: &Arguments,
    splits: &Splits,
) -> Result<Recipe<BranchedConfig>, Box<dyn Error>> {
    // Cells for maps of 24 x 8, and for those of the small network.
    let (published, small_cells) = (
        Patches {
            height: 3,
            width: 2,
        },
        Patches {
            height: 2,
            width: 2,
        },
    );
    let resnet50 = || {
        let mut network = BranchedConfig::global();
        network.head.branches = arguments.branches([1024, 512], published);
        network
    };
    let small_head = || {
        let branches = arguments.branches([128, 64], small_cells);
        BranchedHeadConfig::new()
            .with_global(64)
            .with_branches(branches)
    };
    let name = "progressive feature CutMix";
    let mut recipe = match arguments.recipe.as_deref() {
        Some("paper") => recipes::progressive_paper(name, resnet50()),
        Some("code") => recipes::progressive_code(name, resnet50()),
        Some(file) => {
            let baseline: Recipe<BagOfTricksConfig> = Recipe::load(file)?;
            let network = BranchedConfig {
                backbone: baseline.network.backbone.clone(),
                head: small_head(),
            };
            baseline.with_network(network)
        }
        None => small(small_head()),
    };
    if !splits.has_cameras() {
        recipe.evaluation.protocol = Protocol::NoCameras;
    }
    if arguments.smoke {
        recipe.network.backbone = recipe.network.backbone.with_width(4);
        (recipe.epochs, recipe.sampling.identities) = (1, 4);
    }
    recipe.epochs = arguments.epochs.unwrap_or(recipe.epochs);
    recipe.seed = arguments.seed.map_or(recipe.seed, Seed::new);
    // Cells and shares come from the command line: an error, not a panic.
    recipe.check()?;
    Ok(recipe)
}

/// A recipe for two cores: feature maps of 16 x 8.
fn small(head: BranchedHeadConfig) -> Recipe<BranchedConfig> {
    let mut backbone = ResNetConfig::resnet18()
        .with_width(16)
        .with_last_stride(1)
        .with_stem(Stem::Small);
    backbone.blocks = [1; 4];
    let network = BranchedConfig { backbone, head };
    let mut recipe = Recipe::strong_baseline("branches", InputSize::new(64, 32), network);
    recipe.augmentation.pad_crop = Some(PadCrop { padding: 4 });
    if let Some(triplet) = &mut recipe.losses.triplet {
        triplet.criterion.margin = Margin::Soft;
    }
    recipe.schedule.base = 2e-3;
    recipe.schedule.warm_up = Some(WarmUp::Linear {
        epochs: 2,
        from: 0.1,
    });
    recipe.schedule.decay = Decay::Cosine { floor: 0.01 };
    (recipe.epochs, recipe.evaluate_every) = (20, 10);
    recipe
}
