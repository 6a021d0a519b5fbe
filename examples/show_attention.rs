//! Draws where two networks look: Grad-CAM heat maps of a baseline and of a network with relation-aware
//! attention, side by side, and the attention's spatial gate after the last stage. This is Figure 3 of Zhang et
//! al., arXiv:1904.02998.
//!
//! Without options, the example trains both networks on synthetic images of people first, two to three
//! minutes on two CPU cores:
//!
//! ```sh
//! cargo run --release --example show_attention
//! ```
//!
//! With two runs of `train_rga`, on its synthetic dataset or on your own:
//!
//! ```sh
//! cargo run --release --example train_rga -- --attention none
//! cargo run --release --example train_rga -- --attention rga-sc
//! cargo run --release --example show_attention -- --data target/train_rga/people-64-0.5 \
//!     --baseline target/train_rga/none --rga target/train_rga/rga-sc
//! cargo run --release --example show_attention -- --data DIR --baseline run-none --rga run-rga
//! ```
//!
//! It prints the path of the figure, which it writes to `target/show_attention/attention.png` (change it with
//! `--picture`). Each row has a query, the two heat maps and the gate.

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

use burn::{
    module::Module,
    tensor::{Device, Tensor, TensorData},
};
use clap::Parser;
use reid::{
    data::{
        dataset::{self, market1501},
        decode,
        transform::{PadCrop, Picture},
    },
    nn::{
        Init,
        attention::{
            Attention, AttentionConfig, Gate, RgaChannelConfig, RgaSpatial, RgaSpatialConfig,
        },
        backbone::{ResNetConfig, Stem},
        grad_cam::{GradCam, Target},
        heat_map::heat_maps,
    },
    prelude::*,
    synthetic::SyntheticConfig,
    vis::{ContactSheet, Overlay, RgbImage, open_picture, save_picture},
    zoo::recipes,
};

/// The networks of `train_rga`, whose attention is chosen at run time.
type AttentionNetwork = BagOfTricksConfig<AttentionConfig>;
type Model = BagOfTricks<Attention>;

#[derive(Parser)]
#[command(about = "Draws where a baseline and relation-aware attention look")]
struct Arguments {
    /// The run of the baseline (`train_rga -- --attention none`).
    #[arg(long, requires = "rga", requires = "data")]
    baseline: Option<PathBuf>,
    /// The run of RGA-SC after all stages (`train_rga -- --attention rga-sc`).
    #[arg(long, requires = "baseline")]
    rga: Option<PathBuf>,
    /// The dataset whose queries are drawn: a CSV list, or a folder in a supported layout.
    #[arg(long, requires = "baseline")]
    data: Option<PathBuf>,
    /// The number of queries to draw.
    #[arg(long, default_value_t = 8)]
    draw: usize,
    /// The file for the figure.
    #[arg(long, default_value = "target/show_attention/attention.png")]
    picture: PathBuf,
    /// Run for a few seconds with tiny settings, to check that the example works.
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
    let pair = match (&arguments.data, &arguments.baseline, &arguments.rga) {
        (Some(data), Some(baseline), Some(rga)) => Pair::open(data, baseline, rga, &device)?,
        _ => Pair::train(arguments.smoke, &device)?,
    };

    let columns = ["query", "baseline", "RGA-SC", "gate after stage 4"];
    let InputSize { height, width } = pair.recipe.input;
    let cell = InputSize::new(192, 192 * width / height);
    let mut sheet = ContactSheet::new(columns).with_cell(cell);
    let queries = &pair.splits.query;
    let step = (queries.len() / arguments.draw.max(1)).max(1);
    for sample in queries.iter().step_by(step).take(arguments.draw) {
        let image = image(sample, &pair.recipe, &device)?;
        let original = open_picture(&sample.path)?;
        sheet = sheet.with_row(row(&original, &image, &pair)?);
    }
    save_picture(&arguments.picture, &sheet.draw())?;
    println!("wrote {}", arguments.picture.display());
    Ok(())
}

/// Two networks with the same input size, and the data to draw.
struct Pair {
    splits: Splits,
    baseline: Model,
    rga: Model,
    recipe: Recipe<AttentionNetwork>,
}

/// Draws one query: the image, each network's Grad-CAM heat map for its highest-scoring class, and the
/// spatial gate.
fn row(
    original: &RgbImage,
    image: &Tensor<4>,
    pair: &Pair,
) -> Result<[RgbImage; 4], Box<dyn Error>> {
    let Pair { baseline, rga, .. } = pair;
    let draw = |overlay: Overlay, map: Tensor<3>| overlay.draw(original, &heat_maps(map)[0]);
    let (cam, stretched) = (GradCam::new(), Overlay::new());
    let of_baseline = baseline.backbone.forward(image.clone());
    let [_, _, _, third, last] = rga.backbone.stages(image.clone());
    let spatial = spatial(rga.backbone.after[3].as_ref())
        .ok_or("expected RGA-SC after stage 4 in the run `--rga`, found none")?;
    let gate = spatial.gate(rga.backbone.layer4.forward(third));
    Ok([
        original.clone(),
        draw(
            stretched,
            cam.maps(&baseline.head, of_baseline, Target::Highest),
        ),
        draw(stretched, cam.maps(&rga.head, last, Target::Highest)),
        // A fixed range gives equal gate values equal colours in all images.
        draw(stretched.with_range(0.0, 1.0), gate.squeeze_dim(1)),
    ])
}

/// The spatial gate of RGA-SC.
fn spatial(attention: Option<&Attention>) -> Option<&RgaSpatial> {
    match attention {
        Some(Attention::Chain(blocks)) => match blocks.as_slice() {
            [Attention::RgaSpatial(spatial), Attention::RgaChannel(_)] => Some(spatial),
            _ => None,
        },
        _ => None,
    }
}

fn image(
    sample: &Sample,
    recipe: &Recipe<AttentionNetwork>,
    device: &Device,
) -> Result<Tensor<4>, Box<dyn Error>> {
    let mut picture = Picture::from(&decode(&sample.path, recipe.input)?);
    recipe.augmentation.normalise.normalise(&mut picture);
    let shape = [1, 3, recipe.input.height, recipe.input.width];
    let data = TensorData::new(picture.values, shape);
    Ok(Tensor::from_data(data, device))
}

impl Pair {
    /// Loads the best checkpoints of two runs.
    fn open(
        data: &Path,
        baseline: &Path,
        rga: &Path,
        device: &Device,
    ) -> Result<Self, Box<dyn Error>> {
        let splits = dataset::load(data)?;
        let (plain, recipe) = (checkpoint(baseline)?, checkpoint(rga)?);
        let of_baseline: Recipe<AttentionNetwork> = Checkpoints::recipe(&plain)?;
        let of_rga: Recipe<AttentionNetwork> = Checkpoints::recipe(&recipe)?;
        if of_baseline.input != of_rga.input {
            let (one, other) = (of_baseline.input, of_rga.input);
            return Err(format!(
                "expected the same input size in both runs, found {one} and {other}"
            )
            .into());
        }
        Ok(Self {
            splits,
            baseline: loaded(&plain, &of_baseline, device)?,
            rga: loaded(&recipe, &of_rga, device)?,
            recipe: of_rga,
        })
    }

    /// Trains both networks on synthetic images of people.
    fn train(smoke: bool, device: &Device) -> Result<Self, Box<dyn Error>> {
        let people = if smoke { 8 } else { 32 };
        let data = format!("target/show_attention/people-{people}");
        SyntheticConfig::new()
            .with_train_identities(people)
            .with_test_identities(people)
            .write(&data)?;
        let splits = market1501::load(&data)?;

        let mut network = BagOfTricksConfig::resnet50();
        network.backbone = ResNetConfig::resnet18()
            .with_width(16)
            .with_last_stride(1)
            .with_stem(Stem::Small);
        let rga = AttentionConfig::Chain(vec![
            RgaSpatialConfig::new().into(),
            RgaChannelConfig::new().into(),
        ]);
        let network = network.with_attention(&[1, 2, 3, 4], rga.clone());
        let mut recipe = recipes::rga_paper("small", InputSize::new(64, 32), network);
        recipe.augmentation.pad_crop = Some(PadCrop { padding: 4 });
        recipe.schedule.warm_up = None;
        recipe.schedule.base = 2e-3;
        recipe.epochs = if smoke { 1 } else { 12 };
        // Small batches give more training steps, which relation-aware attention needs.
        recipe.sampling.identities = if smoke { 4 } else { 8 };
        let network = recipe.network.clone().with_attention(&[], rga);
        let plain = recipe.clone().with_network(network);
        Ok(Self {
            baseline: trained(&plain, &splits, device)?,
            rga: trained(&recipe, &splits, device)?,
            splits,
            recipe,
        })
    }
}

/// Finds the best checkpoint of a run.
fn checkpoint(run: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let checkpoint = Checkpoints::new(run).find(CheckpointKind::Best)?;
    Ok(checkpoint.ok_or_else(|| format!("found no checkpoint in {}", run.display()))?)
}

fn loaded(
    checkpoint: &Path,
    recipe: &Recipe<AttentionNetwork>,
    device: &Device,
) -> Result<Model, Box<dyn Error>> {
    let classes = Checkpoints::classes(checkpoint)?.len();
    let model = recipe
        .network
        .init(recipe.input, classes, &Init::empty(device));
    Ok(Checkpoints::load_model(checkpoint, model)?)
}

fn trained(
    recipe: &Recipe<AttentionNetwork>,
    splits: &Splits,
    device: &Device,
) -> Result<Model, Box<dyn Error>> {
    let outcome = Trainer::new(recipe, splits, LoaderConfig::default(), device)?
        .run(&mut Console::stderr())?;
    Ok(outcome.learner.model.valid())
}
