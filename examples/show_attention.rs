//! Where networks look: Grad-CAM of a baseline and of relation-aware attention side by side, and the
//! spatial gate after the last stage (Zhang et al., arXiv:1904.02998, Figure 3).
//!
//! Draws two runs that were trained before, or trains both for a moment on drawn people.
//!
//! ```sh
//! cargo run --release --example show_attention
//!
//! cargo run --release --example train_rga -- --attention none
//! cargo run --release --example train_rga -- --attention rga-sc
//! cargo run --release --example show_attention -- --data target/train_rga/people-64-0.5 \
//!     --baseline target/train_rga/none --rga target/train_rga/rga-sc
//! ```
//!
//! Two to three minutes on two cores when it trains.

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
        attention::{Gate, RgaChannelConfig, RgaSpatialConfig},
        backbone::{ResNetConfig, Stem},
        grad_cam::{GradCam, Target},
        heat_map::heat_maps,
    },
    prelude::*,
    synthetic::SyntheticConfig,
    vis::{ContactSheet, Overlay, RgbImage, open_picture, save_picture},
    zoo::{RgaConfig, RgaResNet50, recipes},
};
use serde::{Serialize, de::DeserializeOwned};

#[derive(Parser)]
#[command(about = "Draws where a baseline and relation-aware attention look")]
struct Arguments {
    /// The run of a baseline (`train_rga -- --attention none`).
    #[arg(long, requires = "rga", requires = "data")]
    baseline: Option<PathBuf>,
    /// The run of RGA-SC after all stages (`train_rga -- --attention rga-sc`).
    #[arg(long, requires = "baseline")]
    rga: Option<PathBuf>,
    /// The data whose queries are drawn: a folder in Market-1501's layout, one folder per identity,
    /// or a CSV list.
    #[arg(long, requires = "baseline")]
    data: Option<PathBuf>,
    /// How many queries are drawn.
    #[arg(long, default_value_t = 8)]
    draw: usize,
    /// Where the picture goes.
    #[arg(long, default_value = "target/show_attention/attention.png")]
    picture: PathBuf,
    /// A run of seconds, to see that it runs.
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
    println!("drew {}", arguments.picture.display());
    Ok(())
}

/// Two networks for the same images.
struct Pair {
    splits: Splits,
    baseline: BagOfTricks,
    rga: RgaResNet50,
    recipe: Recipe<RgaConfig>,
}

/// The query, what speaks for the likeliest class in each network, and the gate over places.
fn row(
    original: &RgbImage,
    image: &Tensor<4>,
    pair: &Pair,
) -> Result<[RgbImage; 4], Box<dyn Error>> {
    let Pair { baseline, rga, .. } = pair;
    let lay = |overlay: Overlay, map: Tensor<3>| overlay.draw(original, &heat_maps(map)[0]);
    let (cam, stretched) = (GradCam::new(), Overlay::new());
    let of_baseline = baseline.backbone.forward(image.clone());
    let [_, _, _, third, last] = rga.backbone.stages(image.clone());
    let attention = rga.backbone.after[3].as_ref();
    let (spatial, _) = attention.ok_or("the run has no attention after stage 4")?;
    let gate = spatial.gate(rga.backbone.layer4.forward(third));
    Ok([
        original.clone(),
        lay(
            stretched,
            cam.maps(&baseline.head, of_baseline, Target::Highest),
        ),
        lay(stretched, cam.maps(&rga.head, last, Target::Highest)),
        // The same colours for the same numbers in every picture.
        lay(stretched.with_range(0.0, 1.0), gate.squeeze_dim(1)),
    ])
}

fn image<N>(
    sample: &Sample,
    recipe: &Recipe<N>,
    device: &Device,
) -> Result<Tensor<4>, Box<dyn Error>> {
    let mut picture = Picture::from(&decode(&sample.path, recipe.input)?);
    recipe.augmentation.normalise.normalise(&mut picture);
    let shape = [1, 3, recipe.input.height, recipe.input.width];
    let data = TensorData::new(picture.values, shape);
    Ok(Tensor::from_data(data, device))
}

impl Pair {
    /// The best models of two runs.
    fn open(
        data: &Path,
        baseline: &Path,
        rga: &Path,
        device: &Device,
    ) -> Result<Self, Box<dyn Error>> {
        let splits = dataset::load(data)?;
        let (plain, recipe) = (checkpoint(baseline)?, checkpoint(rga)?);
        let of_baseline: Recipe<BagOfTricksConfig> = Checkpoints::recipe(&plain)?;
        let of_rga: Recipe<RgaConfig> = Checkpoints::recipe(&recipe)?;
        if of_baseline.input != of_rga.input {
            let (one, other) = (of_baseline.input, of_rga.input);
            return Err(format!("the baseline takes images of {one}, the other of {other}").into());
        }
        Ok(Self {
            splits,
            baseline: loaded(&plain, &of_baseline, device)?,
            rga: loaded(&recipe, &of_rga, device)?,
            recipe: of_rga,
        })
    }

    /// Both networks, trained for a moment on drawn people.
    fn train(smoke: bool, device: &Device) -> Result<Self, Box<dyn Error>> {
        let people = if smoke { 8 } else { 32 };
        let data = format!("target/show_attention/people-{people}");
        SyntheticConfig::new()
            .with_train_identities(people)
            .with_test_identities(people)
            .write(&data)?;
        let splits = market1501::load(&data)?;

        let mut network = RgaConfig::rga_resnet50();
        network.backbone = ResNetConfig::resnet18()
            .with_width(16)
            .with_last_stride(1)
            .with_stem(Stem::Small)
            .after(
                &[1, 2, 3, 4],
                (RgaSpatialConfig::new(), RgaChannelConfig::new()),
            );
        let mut recipe = recipes::rga_paper("a moment", InputSize::new(64, 32), network);
        recipe.augmentation.pad_crop = Some(PadCrop { padding: 4 });
        recipe.schedule.warm_up = None;
        recipe.schedule.base = 2e-3;
        recipe.epochs = if smoke { 1 } else { 12 };
        // Small batches, because relation-aware attention needs many steps to get going.
        recipe.sampling.identities = if smoke { 4 } else { 8 };
        let network = recipe.network.clone().with_attention(&[], ());
        let plain = recipe.clone().with_network(network);
        Ok(Self {
            baseline: learnt(&plain, &splits, device)?,
            rga: learnt(&recipe, &splits, device)?,
            splits,
            recipe,
        })
    }
}

/// The best checkpoint of a run.
fn checkpoint(run: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let checkpoint = Checkpoints::new(run).find(CheckpointKind::Best)?;
    Ok(checkpoint.ok_or_else(|| format!("{} holds no checkpoint", run.display()))?)
}

fn loaded<A: BlockConfig + Clone + Serialize + DeserializeOwned>(
    checkpoint: &Path,
    recipe: &Recipe<BagOfTricksConfig<A>>,
    device: &Device,
) -> Result<BagOfTricks<A::Block>, Box<dyn Error>> {
    let classes = Checkpoints::classes(checkpoint)?.len();
    let model = recipe
        .network
        .init(recipe.input, classes, &Init::empty(device));
    Ok(Checkpoints::load_model(checkpoint, model)?)
}

fn learnt<A: BlockConfig + Clone + Serialize + DeserializeOwned>(
    recipe: &Recipe<BagOfTricksConfig<A>>,
    splits: &Splits,
    device: &Device,
) -> Result<BagOfTricks<A::Block>, Box<dyn Error>> {
    let outcome = Trainer::new(recipe, splits, LoaderConfig::default(), device)?
        .run(&mut Console::stderr())?;
    Ok(outcome.learner.model.valid())
}
