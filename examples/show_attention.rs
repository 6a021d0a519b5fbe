//! Where networks look: Grad-CAM of a baseline and of relation-aware attention side by side, and the
//! spatial gate after the last stage (Zhang et al., arXiv:1904.02998, Figure 3).
//!
//! Draws two runs that were trained before, or trains both for a moment on drawn people.
//!
//! ```sh
//! cargo run --release --example show_attention
//! cargo run --release --example show_attention -- --baseline RUN --rga RUN --data DIR
//! ```
//!
//! `train_rga` makes such runs, with `--attention none` and with `--attention rga-sc`. Two to three
//! minutes on two cores when it trains.

#![expect(clippy::print_stdout, reason = "a program talks to its user")]

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
        dataset::{csv, market1501, synthetic::SyntheticConfig},
        decode,
        transform::{PadCrop, Picture},
    },
    nn::{
        activation_map::heat_maps,
        attention::{Gate, RgaChannelConfig, RgaSpatialConfig},
        backbone::{ResNetConfig, Stem},
        block::Nothing,
        grad_cam::{GradCam, Target},
        head::BnNeckConfig,
    },
    prelude::*,
    vis::{ContactSheet, Overlay, RgbImage, open_picture, save_picture},
    zoo::{RgaConfig, RgaResNet50},
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
    /// The data whose queries are drawn: a folder in Market-1501's layout or a CSV list.
    #[arg(long)]
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

type Baseline = RgaResNet50<Nothing>;
type Both = (RgaSpatialConfig, RgaChannelConfig);

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
    let device = device::pick()?.device;
    let (splits, baseline, rga, recipe) =
        match (&arguments.data, &arguments.baseline, &arguments.rga) {
            (Some(data), Some(baseline), Some(rga)) => {
                let splits = if data.extension().is_some_and(|extension| extension == "csv") {
                    csv::load(data)?
                } else {
                    market1501::load(data)?
                };
                let (baseline, _) = opened::<()>(baseline, &device)?;
                let (rga, recipe) = opened::<Both>(rga, &device)?;
                (splits, baseline, rga, recipe)
            }
            _ => trained(arguments.smoke, &device)?,
        };

    let columns = ["query", "baseline", "RGA-SC", "gate after stage 4"];
    let mut sheet = ContactSheet::new(columns).with_cell(recipe.input);
    let step = splits.query.len().div_ceil(arguments.draw.max(1));
    for sample in splits.query.iter().step_by(step) {
        let image = image(sample, &recipe, &device)?;
        let original = open_picture(&sample.path)?;
        sheet = sheet.with_row(row(&original, &image, &baseline, &rga));
    }
    save_picture(&arguments.picture, &sheet.draw())?;
    println!("drew {}", arguments.picture.display());
    Ok(())
}

/// The query, what speaks for the likeliest class in each network, and the gate over places.
fn row(
    original: &RgbImage,
    image: &Tensor<4>,
    baseline: &Baseline,
    rga: &RgaResNet50,
) -> [RgbImage; 4] {
    let overlay = |map: Tensor<3>| Overlay::new().draw(original, &heat_maps(map)[0]);
    let cam = GradCam::new();
    let of_baseline = baseline.backbone.forward(image.clone());
    let [_, _, _, third, last] = rga.backbone.stages(image.clone());
    let (spatial, _) = rga.backbone.after[3]
        .as_ref()
        .expect("attention after stage 4");
    let gate = spatial.gate(rga.backbone.layer4.forward(third));
    [
        original.clone(),
        overlay(cam.maps(&baseline.head, of_baseline, Target::Highest)),
        overlay(cam.maps(&rga.head, last, Target::Highest)),
        overlay(gate.squeeze_dim(1)),
    ]
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

/// The best model of a run, with its recipe.
fn opened<A>(
    run: &Path,
    device: &Device,
) -> Result<(RgaResNet50<A::Block>, Recipe<RgaConfig<A>>), Box<dyn Error>>
where
    A: BlockConfig + Serialize + DeserializeOwned,
{
    let checkpoint = Checkpoints::new(run).find(Kept::Best)?;
    let checkpoint = checkpoint.ok_or_else(|| format!("{} holds no checkpoint", run.display()))?;
    let recipe: Recipe<RgaConfig<A>> = Checkpoints::recipe(&checkpoint)?;
    let classes = Checkpoints::classes(&checkpoint)?.len();
    let model = recipe.network.init(recipe.input, classes, device);
    Ok((Checkpoints::load_model(&checkpoint, model)?, recipe))
}

type Trained = (Splits, Baseline, RgaResNet50, Recipe<RgaConfig>);

/// Both networks, trained for a moment on drawn people.
fn trained(smoke: bool, device: &Device) -> Result<Trained, Box<dyn Error>> {
    let people = if smoke { 8 } else { 32 };
    let data = format!("target/show_attention/people-{people}");
    SyntheticConfig::new()
        .with_train_identities(people)
        .with_test_identities(people)
        .write(&data)?;
    let splits = market1501::load(&data)?;

    let rga = RgaConfig::resnet50();
    let backbone = ResNetConfig::resnet18()
        .with_width(16)
        .with_last_stride(1)
        .with_stem(Stem::Small)
        .after_stages(rga.backbone.after);
    let head = BnNeckConfig::new();
    let network = RgaConfig { backbone, head };
    let mut recipe = Recipe::rga_paper("a moment", InputSize::new(64, 32), network);
    recipe.augmentation.pad_crop = Some(PadCrop { padding: 4 });
    recipe.schedule.warm_up = None;
    recipe.epochs = if smoke { 1 } else { 8 };
    recipe.sampling.identities = if smoke { 4 } else { 16 };
    let network = recipe.network.clone().with_attention(&[], ());
    let plain = recipe.clone().with_network(network);
    let (baseline, rga) = (
        learnt(&plain, &splits, device)?,
        learnt(&recipe, &splits, device)?,
    );
    Ok((splits, baseline, rga, recipe))
}

fn learnt<A: BlockConfig + Serialize>(
    recipe: &Recipe<RgaConfig<A>>,
    splits: &Splits,
    device: &Device,
) -> Result<RgaResNet50<A::Block>, Box<dyn Error>> {
    let RgaConfig { backbone, head } = &recipe.network;
    let classes = splits.statistics().train.identities;
    let trainee = Trainee::build(recipe, backbone, head, classes, device);
    let outcome = Trainer::new(recipe, splits, trainee, LoaderConfig::default(), device)?
        .run(&mut Console::stderr())?;
    Ok(outcome.trainee.model.valid())
}
