//! Trains progressive feature `CutMix` (Zhang et al., Grad-CAM guided progressive feature `CutMix`) or one of
//! the networks that the paper compares it with.
//!
//! The network has a global branch and up to two more. In training, the patches of the feature map where one
//! branch looks are replaced by those of another image before the next branch sees them. The next branch
//! therefore learns from other parts of the image.
//!
//! On synthetic images of people, who are often occluded, with a small network, minutes on two CPU cores:
//!
//! ```sh
//! cargo run --release --example train_progressive
//! cargo run --release --example train_progressive -- --branches bdb --seed 2
//! ```
//!
//! On your own data with a published recipe, which needs a GPU:
//!
//! ```sh
//! cargo run --release --example train_progressive -- --data DIR --recipe code --pretrained resnet50.pth
//! ```
//!
//! `Ctrl-C` saves a checkpoint and stops; `--resume` continues from it.
//!
//! It prints the final report (mAP, mINP and CMC), and training progress with the losses of each branch on
//! standard error. It writes the checkpoints, `recipe.json` and `report.json` to a folder in
//! `target/train_progressive`, named after the branches (change it with `--out`).

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
        head::{AugmentConfig, BranchConfig, BranchedHeadConfig, CamSource},
        loss::Margin,
    },
    prelude::*,
    synthetic::SyntheticConfig,
    train::{Decay, WarmUp},
    zoo::{BranchedConfig, recipes, weights},
};

#[derive(Parser)]
#[command(about = "Trains progressive feature CutMix and the networks it is compared with")]
#[expect(clippy::struct_excessive_bools, reason = "each is a command-line flag")]
struct Arguments {
    /// The branches beside the global one: a row of the paper's Tables 2 and 3.
    #[arg(long, value_enum, default_value = "pc2")]
    branches: Branches,
    /// The images that replace the cut patches: a row of Table 4.
    #[arg(long, value_enum, default_value = "n")]
    partners: Partner,
    /// The number of patches to cut (k, Figure 3).
    #[arg(long)]
    cut: Option<usize>,
    /// The height and width of a patch, such as 3x2; they must divide those of the feature map.
    #[arg(long, value_parser = patches)]
    patches: Option<Patches>,
    /// Compute Grad-CAM by a second backward pass instead of in closed form.
    #[arg(long)]
    autodiff: bool,
    /// The dataset: a CSV list, or a folder in a supported layout (Market-1501, one folder per identity, …).
    /// Default: synthetic images of people.
    #[arg(long)]
    data: Option<PathBuf>,
    /// `paper`, `code`, or a JSON recipe of a strong baseline, whose backbone gets the branches. Default: a
    /// small recipe.
    #[arg(long)]
    recipe: Option<String>,
    /// ImageNet weights for the backbone: torchvision `.pth` or safetensors. All parameters of the backbone
    /// must be in the file.
    #[arg(long)]
    pretrained: Option<PathBuf>,
    /// The seed; overrides the recipe's.
    #[arg(long)]
    seed: Option<u64>,
    /// The number of epochs; overrides the recipe's.
    #[arg(long)]
    epochs: Option<usize>,
    /// The folder for checkpoints, recipe and report. Default: `target/train_progressive/` and the branches.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Resume from the last checkpoint in `--out`.
    #[arg(long)]
    resume: bool,
    /// Run for a few seconds with tiny settings, to check that the example works.
    #[arg(long)]
    smoke: bool,
}

/// The networks of the rows of Tables 2 and 3.
#[derive(Clone, Copy, ValueEnum)]
enum Branches {
    /// G: only the global branch.
    G,
    /// BDB*: one more branch, in whose feature map a rectangle is dropped (set to zero).
    Bdb,
    /// BDB*3: two such branches, independent of each other.
    Bdb3,
    /// + PC1: one branch with feature `CutMix`.
    Pc1,
    /// + PC2: two branches with feature `CutMix`, each guided by the branch before; the paper's proposal.
    Pc2,
}

/// The donor images of the rows of Table 4.
#[derive(Clone, Copy, ValueEnum)]
enum Partner {
    /// Images of another identity.
    N,
    /// Other images of the same identity.
    P,
    /// Any other image.
    Any,
}

/// Parses the size of a patch, such as `3x2`.
fn patches(text: &str) -> Result<Patches, String> {
    let sides = text.split_once('x').and_then(|(height, width)| {
        let (height, width) = (height.parse().ok()?, width.parse().ok()?);
        (height > 0 && width > 0).then_some(Patches { height, width })
    });
    sides.ok_or_else(|| "expected a height and a width of at least 1, such as 3x2".to_owned())
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
        let branches = branches.expect("no variant is skipped on the command line");
        let name = if self.smoke {
            format!("smoke-{}", std::process::id())
        } else {
            branches.get_name().to_owned()
        };
        let folder = || Path::new("target/train_progressive").join(name);
        self.out.clone().unwrap_or_else(folder)
    }

    /// Configures the branches after the global one, with these embedding dimensions.
    fn branches(&self, dimensions: [usize; 2], patches: Patches) -> Vec<BranchConfig> {
        let partners = match self.partners {
            Partner::N => MixPartner::Negative,
            Partner::P => MixPartner::Positive,
            Partner::Any => MixPartner::Any,
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
            Branches::Bdb => (1, Some(AugmentConfig::Drop(BatchDrop::new()))),
            Branches::Bdb3 => (2, Some(AugmentConfig::Drop(BatchDrop::new()))),
            Branches::Pc1 => (1, Some(AugmentConfig::CutMix { mix, cam_source })),
            Branches::Pc2 => (2, Some(AugmentConfig::CutMix { mix, cam_source })),
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
    // The patches for the published feature maps of 24 x 8, and for the 16 x 8 maps of the small network.
    let (published, small_patches) = (
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
        let branches = arguments.branches([128, 64], small_patches);
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
    // Patch sizes and counts come from the command line: a wrong one must be an error, not a panic.
    recipe.check()?;
    Ok(recipe)
}

/// A small recipe that trains in minutes on two CPU cores, with feature maps of 16 x 8.
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
