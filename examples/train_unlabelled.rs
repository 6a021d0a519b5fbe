//! Trains without labels (cluster contrast, Dai et al., ACCV 2022): from published weights to your images.
//!
//! Each round clusters the images by their embeddings and trains on the clusters. With your own images, which
//! need no names, identities or cameras:
//!
//! ```sh
//! cargo run --release --example train_unlabelled -- --data crops --architecture osnet-x0.25 \
//!     --weights osnet_x0_25_msmt17.pth --out unlabelled
//! cargo run --release --example train_unlabelled -- --data crops --architecture osnet-x0.25 \
//!     --weights osnet_x0_25_msmt17.pth --out unlabelled --resume
//! ```
//!
//! For other settings, copy `recipe.json` of a round, change it, and give it as `--recipe` instead of
//! `--architecture`.
//!
//! `--data` is a folder of images, or a dataset in a supported layout. The identities of a dataset are not
//! used for training: they only tell how pure the clusters are. Its queries and gallery, if it has any, give
//! the mAP before and after.
//!
//! Without options, a small network is trained with labels on synthetic images of 32 people, and then without
//! labels on images of 64 others, in minutes on two CPU cores.
//!
//! It prints the mAP before and after, and progress on standard error; with `--json` the result of every
//! round is printed too. It writes to `--out`:
//! - `rounds.json`: the results of each round
//! - `round-0007`: the last and the best round, a run that `Embedder::open` reads
//! - `clusters-0007.png`: for each round, images of the largest clusters in rows
//!
//! `Ctrl-C` saves a checkpoint and stops; `--resume` continues from it.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program talks to its user"
)]

use std::{
    cmp::Reverse,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use burn::tensor::Device;
use clap::Parser;
use reid::{
    data::{
        FileKind,
        dataset::{self, market1501},
        file_kind,
    },
    eval::{ClusteringConfig, Clusters},
    nn::loss::ClusterContrastConfig,
    prelude::*,
    synthetic::SyntheticConfig,
    train::{Event, Observer, Schedule, UnlabelledTrainer},
    vis::{self, ContactSheet, open_picture, save_picture},
    zoo::{ArchitectureModel, recipes, weights},
};
use serde_json::json;

/// The number of clusters in a contact sheet, and the number of images of each.
const SHOWN: [usize; 2] = [8, 10];

#[derive(Parser)]
#[command(about = "Trains without labels, by clustering")]
#[expect(clippy::struct_excessive_bools, reason = "each is a command-line flag")]
struct Arguments {
    /// A folder of images, or a dataset in a supported layout. Default: synthetic images of people.
    #[arg(long)]
    data: Option<PathBuf>,
    /// The name of the network. Default: `osnet-x0.25`, or a small network for synthetic images.
    #[arg(long, value_name = "NAME", group = "network")]
    architecture: Option<Architecture>,
    /// Published weights of the network, or of its backbone: `.pth` or safetensors. Default: random weights.
    #[arg(long, requires = "network")]
    weights: Option<PathBuf>,
    /// The recipe, a JSON file with the network. Default: that of cluster contrast.
    #[arg(long, group = "network")]
    recipe: Option<PathBuf>,
    /// The number of rounds; overrides the recipe's. Default: 50, or 10 on synthetic images.
    #[arg(long)]
    rounds: Option<usize>,
    /// The seed; overrides the recipe's.
    #[arg(long)]
    seed: Option<u64>,
    /// The largest distance between neighbours in a cluster, below 1. With a smaller one, clusters are
    /// smaller. Default: 0.6, or 0.5 on synthetic images.
    #[arg(long)]
    epsilon: Option<f64>,
    /// The number of nearest images that are compared, about that of the images of a person. Default: 30, or
    /// 12 on synthetic images.
    #[arg(long)]
    neighbours: Option<usize>,
    /// The least number of images in the neighbourhood of an image from which a cluster grows, itself included.
    /// Choose 2 if there are two images of each person. Default: 4, or 2 with `--smoke`.
    #[arg(long)]
    min_samples: Option<usize>,
    /// The folder for checkpoints and contact sheets. Default: `target/train_unlabelled`.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Resume from the last checkpoint in `--out`.
    #[arg(long)]
    resume: bool,
    /// Print the results as JSON.
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
            let folder = PathBuf::from("target/train_unlabelled");
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
    let (splits, out) = (splits(arguments)?, arguments.out());
    eprintln!("{}", splits.statistics());
    let recipe = recipe(arguments, &splits)?;
    let interrupt = Interrupt::new();
    let handler = interrupt.clone();
    ctrlc::set_handler(move || handler.request())?;

    let mut trainer = UnlabelledTrainer::new(&recipe, &splits, &out, &device)?
        .with_clustering(clustering(arguments))?
        .with_interrupt(interrupt);
    match &arguments.weights {
        Some(file) => load(&recipe, trainer.model_mut(), file)?,
        None if arguments.data.is_none() => {
            *trainer.model_mut() = trained_on_others(arguments, &recipe, &device)?;
        }
        None => {}
    }
    let before = if splits.query.is_empty() || arguments.resume {
        None
    } else {
        let extractor = Extractor::from_recipe(&recipe, LoaderConfig::default());
        let model = trainer.model_mut().evaluation();
        Some(extractor.evaluate(&model, &splits, &recipe.evaluation, &device)?)
    };
    if arguments.resume {
        trainer = trainer.resume()?;
    }
    let mut sheets = Sheets {
        train: &splits.train,
        folder: &out,
        cell: recipe.input,
        failed: None,
    };
    let outcome = trainer.run(&mut (Console::stderr(), &mut sheets))?;
    if let Some(error) = sheets.failed {
        return Err(error.into());
    }

    let [before, after] = [before, outcome.report].map(|report| report.as_ref().map(scores));
    if arguments.json {
        let summary = json!({ "before": before, "after": after, "rounds": outcome.history });
        println!("{summary:#}");
        return Ok(());
    }
    for (when, scores) in [("before", before), ("after", after)] {
        if let Some([map, rank_1]) = scores.map(|scores| scores.map(|score| 100.0 * score)) {
            println!("{when}: mAP {map:.1} %, Rank-1 {rank_1:.1} %");
        }
    }
    if let Some(folder) = outcome.best.or(outcome.last) {
        println!("the model is in {}", folder.display());
    }
    Ok(())
}

/// The mAP and Rank-1.
fn scores(report: &Report) -> [f64; 2] {
    [report.mean_average_precision, report.rank(1)]
}

/// A folder of images, without labels, or a dataset.
fn splits(arguments: &Arguments) -> Result<Splits, Box<dyn Error>> {
    let Some(data) = &arguments.data else {
        return people(arguments, if arguments.smoke { 8 } else { 64 }, 0);
    };
    let crops = if data.is_dir() {
        images_of(data)?
    } else {
        Vec::new()
    };
    if crops.is_empty() {
        return Ok(dataset::load(data)?);
    }
    let crops = crops
        .into_iter()
        .map(|file| Sample::new(file, Identity::UNKNOWN));
    let name = data.file_name().unwrap_or_default().to_string_lossy();
    Ok(Splits::new(name).with_train(crops.collect()))
}

/// Synthetic images of people; another seed gives other people.
fn people(arguments: &Arguments, people: usize, seed: u64) -> Result<Splits, Box<dyn Error>> {
    let root = arguments.out().join(format!("people-{people}-{seed}"));
    SyntheticConfig::new()
        .with_train_identities(people)
        .with_test_identities(people.div_ceil(2))
        .with_seed(Seed::new(seed))
        .write(&root)?;
    Ok(market1501::load(root)?)
}

/// A model that is trained with labels on other people, instead of published weights.
fn trained_on_others(
    arguments: &Arguments,
    recipe: &Recipe<Architecture, ClusterContrastConfig>,
    device: &Device,
) -> Result<ArchitectureModel, Box<dyn Error>> {
    let others = people(arguments, if arguments.smoke { 8 } else { 32 }, 1)?;
    let others = Splits::new("other people").with_train(others.train);
    let network = recipe.network.clone();
    let mut recipe = Recipe::strong_baseline("other people", recipe.input, network);
    recipe.schedule = Schedule::constant(1e-3);
    recipe.epochs = if arguments.smoke { 1 } else { 8 };
    (recipe.sampling.identities, recipe.sampling.images) = (8, 4);
    let outcome = Trainer::new(&recipe, &others, LoaderConfig::default(), device)?
        .with_checkpoints(Checkpoints::new(arguments.out().join("other-people")))
        .resume()?
        .run(&mut Console::stderr())?;
    Ok(outcome.learner.model)
}

/// Lists the images of a folder, sorted by name.
fn images_of(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let entries = fs::read_dir(folder)?;
    let mut files = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    files.retain(|file| file_kind(file) == FileKind::Readable);
    files.sort();
    Ok(files)
}

fn clustering(arguments: &Arguments) -> ClusteringConfig {
    let (mut neighbours, mut epsilon) = (30, 0.6);
    if arguments.data.is_none() {
        // There are 12 images of each person.
        (neighbours, epsilon) = (12, 0.5);
    }
    let neighbours = arguments.neighbours.unwrap_or(neighbours);
    let config = ClusteringConfig::default();
    let averaged = config.k2.min(neighbours.div_ceil(4));
    let config = config.with_neighbours(neighbours, averaged);
    let config = config.with_epsilon(arguments.epsilon.unwrap_or(epsilon));
    // A network that has hardly been trained finds only small clusters.
    let least = arguments.min_samples.or(arguments.smoke.then_some(2));
    let least = least.unwrap_or(config.min_samples);
    config.with_min_samples(least)
}

fn recipe(
    arguments: &Arguments,
    splits: &Splits,
) -> Result<Recipe<Architecture, ClusterContrastConfig>, Box<dyn Error>> {
    let network = match &arguments.architecture {
        Some(network) => network.clone(),
        None if arguments.data.is_some() => "osnet-x0.25".parse()?,
        None => small_network(if arguments.smoke { 4 } else { 16 })?,
    };
    let mut recipe = match &arguments.recipe {
        Some(file) => Recipe::load(file)?,
        None => recipes::cluster_contrast("unlabelled", InputSize::PERSON, network),
    };
    if !splits.has_cameras() {
        recipe.evaluation.protocol = Protocol::NoCameras;
    }
    if arguments.data.is_none() && arguments.recipe.is_none() {
        recipe.input = InputSize::new(64, 32);
        recipe.augmentation.pad_crop = None;
        (recipe.sampling.identities, recipe.sampling.images) = (8, 4);
        (recipe.epochs, recipe.evaluate_every) = (10, 5);
    }
    if arguments.smoke {
        (recipe.epochs, recipe.evaluate_every) = (2, 0);
        (recipe.sampling.identities, recipe.sampling.images) = (4, 4);
    }
    recipe.epochs = arguments.rounds.unwrap_or(recipe.epochs);
    recipe.seed = arguments.seed.map_or(recipe.seed, Seed::new);
    recipe.check()?;
    Ok(recipe)
}

/// A ResNet-18 with fewer channels.
fn small_network(width: usize) -> Result<Architecture, Box<dyn Error>> {
    let mut network: Architecture = "resnet18".parse()?;
    if let Architecture::Baseline(config) = &mut network {
        config.backbone = config.backbone.clone().with_width(width);
    }
    Ok(network)
}

/// Loads published weights into a model: the whole network where it is published, and otherwise the backbone.
fn load(
    recipe: &Recipe<Architecture, ClusterContrastConfig>,
    model: &mut ArchitectureModel,
    file: &Path,
) -> Result<(), Box<dyn Error>> {
    match model {
        ArchitectureModel::OsNet(model) => weights::load_published(model, file).map(drop)?,
        ArchitectureModel::MobileNetV2(model) => weights::load_published(model, file).map(drop)?,
        ArchitectureModel::LightMbn(model) => weights::load_published(model, file).map(drop)?,
        _ => {
            let device = device::pick()?.autodiff();
            let init = Init::new(recipe.seed.named("pretrained"), &device);
            let network = &recipe.network;
            network.load_backbone(model, file, recipe.input, &init)?;
        }
    }
    Ok(())
}

/// Draws a contact sheet of the largest clusters at the start of each round.
struct Sheets<'a> {
    train: &'a [Sample],
    folder: &'a Path,
    cell: InputSize,
    /// The first error. It does not stop the training.
    failed: Option<vis::Error>,
}

impl Observer for &mut Sheets<'_> {
    fn observe(&mut self, event: &Event<'_>) {
        if let Event::Clustered { summary, clusters } = event {
            let name = format!("clusters-{:04}.png", summary.round);
            let drawn = self.draw(clusters, &self.folder.join(name));
            self.failed = self.failed.take().or(drawn.err());
        }
    }
}

impl Sheets<'_> {
    /// Draws the largest clusters in rows, with images from the whole range of each.
    fn draw(&self, clusters: &Clusters, file: &Path) -> Result<(), vis::Error> {
        let [rows, columns] = SHOWN;
        let mut members = clusters.members();
        members.sort_by_key(|images| Reverse(images.len()));
        let mut sheet = ContactSheet::new([""; SHOWN[1]]).with_cell(self.cell);
        for images in members.iter().take(rows) {
            let shown = images.len().min(columns);
            let some = (0..shown).map(|index| images[index * images.len() / shown]);
            let pictures = some.map(|image| open_picture(&self.train[image].path));
            sheet = sheet.with_row(pictures.collect::<Result<Vec<_>, _>>()?);
        }
        save_picture(file, &sheet.draw())
    }
}
