//! Semantic segmentation: trains a network that computes the class of every pixel, and draws its predictions.
//!
//! Without data it trains on synthetic streets with vehicles, minutes on two CPU cores:
//!
//! ```sh
//! cargo run --release --example segment_streets
//! cargo run --release --example segment_streets -- --rga 8 --out target/segment_rga
//! ```
//!
//! On Cityscapes by the recipe of OCNet, which needs a GPU:
//!
//! ```sh
//! cargo run --release --example segment_streets -- --data cityscapes --network resnet101 --rga 32
//! ```
//!
//! A folder is read as Cityscapes if it has `leftImg8bit`, and otherwise as pairs (`images/train`,
//! `labels/train`, `images/val`, `labels/val`) of `--classes` classes. With `--rga SIDE`, the head has
//! relation-aware attention at SIDE x SIDE positions, as in Table 6 of its paper.
//!
//! It prints the intersection over union of each class and their mean (mIoU) on the validation images, and
//! training progress on standard error. It writes to `--out`: checkpoints, `recipe.json`,
//! `model.safetensors`, `report.json`, and `predictions.png` with images, labels and predictions. `Ctrl-C`
//! saves a checkpoint and stops; `--resume` continues from it. For other settings, copy `recipe.json`, change
//! it, and give it as `--recipe`.
//!
//! With `--evaluate`, it only evaluates: the best checkpoint in `--out`, or `--weights`, which may have the
//! names of this library, torchvision or semseg. Weights of mmsegmentation need a `--recipe` with its network.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program talks to its user"
)]

use std::{error::Error, fs, path::PathBuf, process::ExitCode};

use burn::tensor::Device;
use clap::{Parser, ValueEnum};
use reid::{
    data::segmentation::{LabelEncoding, PixelSplits, cityscapes, pairs},
    nn::{
        attention::{
            AttentionConfig, FixedSize, ResizedConfig, RgaChannelConfig, RgaSpatialConfig,
        },
        backbone::{Dilation, FirstDilation, ResNetConfig, Stem},
        segmentation::{
            AsppConfig, DecodeHeadConfig, PixelLoss, PixelModel, PixelNetwork,
            PyramidPoolingConfig, SegmentationConfig, SlidingWindow,
        },
    },
    prelude::*,
    synthetic::StreetsConfig,
    train::{SegmentationRecipe, Segmenter},
    vis::{ContactSheet, Palette, SegmentationOverlay, open_picture, save_picture},
    zoo::{
        recipes, segmentation,
        weights::{self, PublishedNetwork},
    },
};

/// The number of images that are drawn.
const DRAWN: usize = 6;

#[derive(Clone, Copy, ValueEnum)]
enum Backbone {
    /// Six bottlenecks, 8 to 256 channels.
    Small,
    Resnet50,
    Resnet101,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Context {
    /// No context block: OCNet's baseline.
    Plain,
    /// Pyramid pooling: PSPNet.
    Pyramid,
    /// Dilated convolutions side by side: DeepLabV3.
    Aspp,
}

#[derive(Parser)]
#[command(about = "Trains and evaluates a network for semantic segmentation")]
#[expect(clippy::struct_excessive_bools, reason = "each is a command-line flag")]
struct Arguments {
    /// The dataset: Cityscapes, or folders of images and label maps. Default: synthetic streets.
    #[arg(long)]
    data: Option<PathBuf>,
    /// The number of classes of `--data`, unless it is Cityscapes.
    #[arg(long)]
    classes: Option<usize>,
    /// The recipe, a JSON file of a network with this `--context`. Default: that of OCNet, or a small one for
    /// synthetic streets.
    #[arg(long)]
    recipe: Option<PathBuf>,
    /// The backbone, with an output stride of 8.
    #[arg(long, value_enum, default_value = "small", conflicts_with = "recipe")]
    network: Backbone,
    /// The context block of the head.
    #[arg(long, value_enum, default_value = "plain")]
    context: Context,
    /// Add relation-aware attention at SIDE x SIDE positions.
    #[arg(long, value_name = "SIDE", conflicts_with = "recipe")]
    rga: Option<usize>,
    /// The number of epochs; overrides the recipe's.
    #[arg(long)]
    epochs: Option<usize>,
    /// Weights to start from, or to evaluate.
    #[arg(long)]
    weights: Option<PathBuf>,
    /// Only evaluate: `--weights`, or else the best checkpoint in `--out`.
    #[arg(long)]
    evaluate: bool,
    /// Evaluate in windows of SIDE x SIDE pixels instead of the whole image.
    #[arg(long, value_name = "SIDE")]
    window: Option<usize>,
    /// The folder that all files are written to. Default: `target/segment_streets`.
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
    /// The output folder. A smoke run has its own, so that it never meets the checkpoints of another run.
    fn out(&self) -> PathBuf {
        let folder = || {
            let folder = PathBuf::from("target/segment_streets");
            if self.smoke {
                folder.join(format!("smoke-{}", std::process::id()))
            } else {
                folder
            }
        };
        self.out.clone().unwrap_or_else(folder)
    }
}

/// The samples, and the classes of their labels.
struct Data {
    splits: PixelSplits,
    encoding: LabelEncoding,
    palette: Palette,
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

/// Selects the type of the network by its context block.
fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    match arguments.context {
        Context::Plain => run_as(arguments, |arguments| {
            network::<()>(arguments, DecodeHeadConfig::plain())
        }),
        Context::Pyramid => run_as(arguments, |arguments| {
            network::<PyramidPoolingConfig>(arguments, DecodeHeadConfig::pyramid_pooling())
        }),
        Context::Aspp => run_as(arguments, |arguments| {
            network::<AsppConfig>(arguments, DecodeHeadConfig::aspp())
        }),
    }
}

/// Trains or evaluates a network, and writes its report and predictions.
fn run_as<N>(arguments: &Arguments, network: impl Fn(&Arguments) -> N) -> Result<(), Box<dyn Error>>
where
    N: PixelNetwork<Model: PublishedNetwork>,
{
    let device = device::pick()?;
    eprintln!("running on {}", device::backend(&device));
    let data = data(arguments)?;
    let recipe = recipe(arguments, &data, network)?;
    recipe.validate(&data.splits, &data.encoding, &device)?;
    let model = if arguments.evaluate {
        Some(saved(arguments, &recipe, &device)?)
    } else {
        train(arguments, &data, &recipe, &device)?
    };
    let Some(model) = model else {
        return Ok(()); // interrupted
    };
    let segmenter = Segmenter::from_recipe(&recipe);
    let model = model.evaluation();
    let (samples, encoding) = (&data.splits.val, &data.encoding);
    let report = segmenter.evaluate(&model, samples, encoding, &device)?;
    println!("{}", report.table(&data.palette.names()));
    let out = arguments.out();
    fs::create_dir_all(&out)?;
    let report = serde_json::to_string_pretty(&report)?;
    fs::write(out.join("report.json"), report)?;

    let overlay = SegmentationOverlay::new(data.palette.clone());
    let mut rows = Vec::new();
    for sample in samples.iter().take(DRAWN) {
        let segmented = segmenter.segment(&model, sample, encoding, &device)?;
        let image = open_picture(&sample.image)?;
        let maps = [segmented.labels, segmented.predictions];
        let [labels, predicted] = maps.map(|of| overlay.draw(&image, &of));
        rows.push([image, labels, predicted]);
    }
    let (width, height) = rows.first().ok_or("no validation images")?[0].dimensions();
    let cell = InputSize::new(height as usize, width as usize);
    let sheet = ContactSheet::new(["image", "labels", "prediction"]).with_cell(cell);
    let sheet = rows.into_iter().fold(sheet, ContactSheet::with_row);
    let figure = overlay.with_legend(&sheet.draw());
    save_picture(out.join("predictions.png"), &figure)?;
    Ok(())
}

fn data(arguments: &Arguments) -> Result<Data, Box<dyn Error>> {
    let Some(folder) = &arguments.data else {
        let streets = if arguments.smoke {
            StreetsConfig::new().with_train(2).with_val(1)
        } else {
            StreetsConfig::new().with_train(192)
        };
        let folder = arguments.out().join(format!("streets-{}", streets.train));
        streets.write(&folder)?;
        return Ok(Data {
            splits: pairs::load(folder)?,
            encoding: LabelEncoding::classes(StreetsConfig::CLASSES.len()),
            palette: Palette::distinct(StreetsConfig::CLASSES),
        });
    };
    if folder.join("leftImg8bit").exists() {
        return Ok(Data {
            splits: cityscapes::load(folder)?,
            encoding: LabelEncoding::CITYSCAPES_IDS,
            palette: Palette::cityscapes(),
        });
    }
    let classes = arguments
        .classes
        .filter(|classes| (1..=255).contains(classes));
    let classes = classes.ok_or("--classes is needed for pairs of images and labels: 1 to 255")?;
    Ok(Data {
        splits: pairs::load(folder)?,
        encoding: LabelEncoding::classes(classes),
        palette: Palette::distinct((0..classes).map(|class| format!("class {class}"))),
    })
}

/// The recipe of a file or of the data, with the settings of the arguments.
fn recipe<N: PixelNetwork>(
    arguments: &Arguments,
    data: &Data,
    network: impl Fn(&Arguments) -> N,
) -> Result<SegmentationRecipe<N>, Box<dyn Error>> {
    let checkpoint = match (arguments.evaluate, &arguments.weights) {
        (true, None) => Checkpoints::new(arguments.out()).find(CheckpointKind::Best)?,
        _ => None,
    };
    let mut recipe = match (&arguments.recipe, checkpoint) {
        (Some(file), _) => SegmentationRecipe::load(file)?,
        (None, Some(checkpoint)) => Checkpoints::segmentation_recipe(&checkpoint)?,
        (None, None) if arguments.data.is_none() => recipes::streets("streets", network(arguments)),
        (None, None) => {
            let mut recipe = SegmentationRecipe::ocnet("segmentation", network(arguments));
            if data.encoding != LabelEncoding::CITYSCAPES_IDS {
                (recipe.classes, recipe.losses) = (data.encoding.count(), PixelLoss::new());
            }
            recipe
        }
    };
    if arguments.smoke {
        recipe.crop.size = InputSize::new(33, 33);
        (recipe.sampling.images, recipe.sampling.batches) = (2, 1);
        recipe.epochs = 2;
    }
    recipe.epochs = arguments.epochs.unwrap_or(recipe.epochs);
    if let Some(side) = arguments.window {
        recipe.window = Some(SlidingWindow {
            size: InputSize::new(side, side),
            stride: (2 * side / 3).max(1), // as in semseg
        });
    }
    recipe.check()?;
    Ok(recipe)
}

/// The configuration of the network.
fn network<C>(
    arguments: &Arguments,
    head: DecodeHeadConfig<C>,
) -> SegmentationConfig<C, AttentionConfig> {
    let side = arguments.rga.unwrap_or(1);
    let resized = |gate| {
        let config = ResizedConfig::new([side, side], gate);
        AttentionConfig::Resized(config.with_pooling(FixedSize::RoiAlign))
    };
    let (spatial, channel) = (RgaSpatialConfig::new(), RgaChannelConfig::new());
    let rga = vec![resized(spatial.into()), resized(channel.into())];
    let mut head = head.with_attention(AttentionConfig::Chain(rga));
    if arguments.rga.is_none() {
        head.attention = None;
    }
    let auxiliary = DecodeHeadConfig::auxiliary();
    match arguments.network {
        Backbone::Small => {
            let mut backbone = ResNetConfig::resnet50()
                .with_width(8)
                .with_stem(Stem::Small);
            backbone.blocks = [1, 1, 2, 2];
            let backbone = backbone.with_dilation(Dilation::Stride8(FirstDilation::Previous));
            SegmentationConfig::new(backbone, head.with_channels(64))
                .with_auxiliary(auxiliary.with_channels(32))
        }
        Backbone::Resnet50 | Backbone::Resnet101 => {
            let backbone = match arguments.network {
                Backbone::Resnet101 => ResNetConfig::resnet101(),
                _ => ResNetConfig::resnet50(),
            };
            // torchvision's backbone for its head, and semseg's for the others.
            let (backbone, alignment) = match arguments.context {
                Context::Aspp => {
                    let config = segmentation::deeplab_v3(backbone);
                    (config.backbone, config.alignment)
                }
                Context::Plain | Context::Pyramid => {
                    let config = segmentation::pspnet(backbone);
                    (config.backbone, config.alignment)
                }
            };
            SegmentationConfig::new(backbone, head)
                .with_auxiliary(auxiliary)
                .with_alignment(alignment)
        }
    }
}

/// The model that is evaluated without training.
fn saved<N>(
    arguments: &Arguments,
    recipe: &SegmentationRecipe<N>,
    device: &Device,
) -> Result<N::Model, Box<dyn Error>>
where
    N: PixelNetwork<Model: PublishedNetwork>,
{
    let (size, classes) = (recipe.crop.size, recipe.classes);
    let mut model = recipe.network.init(size, classes, &Init::empty(device));
    if let Some(file) = &arguments.weights {
        if weights::load_published(&mut model, file)? {
            return Ok(model);
        }
        return Err(format!("{}: no classifier of {classes} classes", file.display()).into());
    }
    let out = arguments.out();
    let missing = || format!("{}: no checkpoint that was evaluated", out.display());
    let checkpoint = Checkpoints::new(&out).find(CheckpointKind::Best)?;
    let checkpoint = checkpoint.ok_or_else(missing)?;
    Ok(Checkpoints::load_model(&checkpoint, model)?)
}

/// Trains by the recipe. Returns the model, or its average if the recipe averages weights; `None` if the run
/// was interrupted.
fn train<N>(
    arguments: &Arguments,
    data: &Data,
    recipe: &SegmentationRecipe<N>,
    device: &Device,
) -> Result<Option<N::Model>, Box<dyn Error>>
where
    N: PixelNetwork<Model: PublishedNetwork>,
{
    let interrupt = Interrupt::new();
    let handler = interrupt.clone();
    ctrlc::set_handler(move || handler.request())?;
    let out = arguments.out();
    let checkpoints = if arguments.resume {
        Checkpoints::new(&out)
    } else {
        Checkpoints::begin(&out)?
    };
    let (splits, encoding) = (&data.splits, &data.encoding);
    let loading = LoaderConfig::default();
    let mut trainer = Trainer::segmentation(recipe, splits, encoding, loading, device)?
        .with_checkpoints(checkpoints)
        .with_interrupt(interrupt);
    if let Some(file) = &arguments.weights {
        weights::load_published(&mut trainer.learner_mut().model, file)?;
    }
    if arguments.resume {
        trainer = trainer.resume()?;
    }
    let outcome = trainer.run(&mut Console::stderr())?;
    let model = outcome.average.unwrap_or(outcome.learner.model);
    weights::save(&model, out.join("model.safetensors"))?;
    Ok((!outcome.interrupted).then_some(model))
}
