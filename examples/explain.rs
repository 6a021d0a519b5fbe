//! What progressive feature `CutMix` does: where each branch looks, and what was cut for the next one
//! (Zhang et al., Grad-CAM guided progressive feature `CutMix`, Figures 2 and 4).
//!
//! Draws the network of an earlier run, or trains one for a moment on drawn people.
//!
//! ```sh
//! cargo run --release --example explain
//!
//! cargo run --release --example train_progressive
//! cargo run --release --example explain -- --run target/train_progressive/pc2 \
//!     --data target/train_progressive/people-64
//! ```
//!
//! A minute on two cores when it trains.

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
    tensor::{Device, Tensor, TensorData, s},
};
use clap::Parser;
use reid::{
    core::HeatMap,
    data::{
        dataset::{self, market1501},
        decode,
        loader::Classes,
        transform::{PadCrop, Picture},
    },
    nn::{
        Init, TrainingStep,
        backbone::{ResNetConfig, Stem},
        cut_mix::{CutMix, Patches},
        grad_cam::Target,
        head::{AugmentTrace, BranchConfig, BranchedHeadConfig, TracedOutput},
        heat_map::heat_maps,
        loss::Margin,
    },
    prelude::*,
    synthetic::SyntheticConfig,
    vis::{ContactSheet, Overlay, RgbImage, open_picture, save_picture},
    zoo::{BranchedConfig, ProgressiveCutMix},
};

#[derive(Parser)]
#[command(about = "Draws where branches look, and what is cut and mixed")]
struct Arguments {
    /// The run of a progressive network (`train_progressive`).
    #[arg(long, requires = "data")]
    run: Option<PathBuf>,
    /// Its data: a folder in Market-1501's layout, one folder per identity, or a CSV list.
    #[arg(long, requires = "run")]
    data: Option<PathBuf>,
    /// How many images are drawn.
    #[arg(long, default_value_t = 8)]
    draw: usize,
    /// Where the pictures go.
    #[arg(long, default_value = "target/explain")]
    out: PathBuf,
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
    let trained = match (&arguments.run, &arguments.data) {
        (Some(run), Some(data)) => Trained::open(run, data, &device)?,
        _ => Trained::now(arguments.smoke, &device)?,
    };
    let looks = arguments.out.join("looks.png");
    save_picture(&looks, &trained.looks(arguments.draw, &device)?.draw())?;
    println!(
        "drew {}: where each branch looks on queries",
        looks.display()
    );
    let mixes = arguments.out.join("mixes.png");
    save_picture(&mixes, &trained.mixes(arguments.draw, &device)?.draw())?;
    println!("drew {}: what is cut, and what fills it", mixes.display());
    Ok(())
}

/// A network, and what it learnt from.
struct Trained {
    splits: Splits,
    classes: Classes,
    recipe: Recipe<BranchedConfig>,
    model: ProgressiveCutMix,
}

impl Trained {
    /// The best model of a run.
    fn open(run: &Path, data: &Path, device: &Device) -> Result<Self, Box<dyn Error>> {
        let splits = dataset::load(data)?;
        let checkpoint = Checkpoints::new(run).find(CheckpointKind::Best)?;
        let checkpoint =
            checkpoint.ok_or_else(|| format!("{} holds no checkpoint", run.display()))?;
        let recipe: Recipe<BranchedConfig> = Checkpoints::recipe(&checkpoint)?;
        let classes = Checkpoints::classes(&checkpoint)?;
        let model = recipe
            .network
            .init(recipe.input, classes.len(), &Init::empty(device));
        let model = Checkpoints::load_model(&checkpoint, model)?;
        Ok(Self {
            splits,
            classes,
            recipe,
            model,
        })
    }

    /// A network that learns for a moment from drawn people.
    fn now(smoke: bool, device: &Device) -> Result<Self, Box<dyn Error>> {
        let people = if smoke { 8 } else { 32 };
        let data = format!("target/explain/people-{people}");
        SyntheticConfig::new()
            .with_train_identities(people)
            .with_test_identities(people)
            .write(&data)?;
        let splits = market1501::load(&data)?;
        let patches = Patches {
            height: 2,
            width: 2,
        };
        let branch =
            |dimensions| BranchConfig::cut_mix(dimensions, CutMix::new().with_patches(patches));
        let mut backbone = ResNetConfig::resnet18()
            .with_width(16)
            .with_last_stride(1)
            .with_stem(Stem::Small);
        backbone.blocks = [1; 4];
        let head = BranchedHeadConfig::new()
            .with_global(64)
            .with_branches(vec![branch(128), branch(64)]);
        let network = BranchedConfig { backbone, head };
        let mut recipe = Recipe::strong_baseline("a moment", InputSize::new(64, 32), network);
        recipe.augmentation.pad_crop = Some(PadCrop { padding: 4 });
        if let Some(triplet) = &mut recipe.losses.triplet {
            triplet.criterion.margin = Margin::Soft;
        }
        recipe.schedule.base = 2e-3;
        recipe.schedule.warm_up = None;
        recipe.epochs = if smoke { 1 } else { 24 };
        recipe.sampling.identities = if smoke { 4 } else { 16 };

        let classes = Classes::from_identities(splits.train.iter().map(|sample| sample.identity));
        let trainer = Trainer::new(&recipe, &splits, LoaderConfig::default(), device)?;
        let outcome = trainer.run(&mut Console::stderr())?;
        let model = outcome.learner.model.valid();
        Ok(Self {
            splits,
            classes,
            recipe,
            model,
        })
    }

    fn sheet(&self, columns: Vec<String>) -> ContactSheet {
        let InputSize { height, width } = self.recipe.input;
        ContactSheet::new(columns).with_cell(InputSize::new(192, 192 * width / height))
    }

    fn branches(&self) -> impl Iterator<Item = String> {
        let further = 1..=self.model.head.branches.len();
        std::iter::once("G".to_owned()).chain(further.map(|branch| format!("AC{branch}")))
    }

    /// Queries, and where each branch looks for the likeliest class, nothing being mixed.
    fn looks(&self, draw: usize, device: &Device) -> Result<ContactSheet, Box<dyn Error>> {
        let columns = std::iter::once("query".to_owned()).chain(self.branches());
        let mut sheet = self.sheet(columns.collect());
        for sample in evenly(&self.splits.query, draw) {
            let original = open_picture(&sample.path)?;
            let features = self.model.backbone.forward(self.batch(&[sample], device)?);
            let maps = self.model.head.grad_cams(features, Target::Highest);
            let overlays = maps
                .into_iter()
                .map(|map| Overlay::new().draw(&original, &heat_maps(map)[0]));
            let row = std::iter::once(original.clone()).chain(overlays);
            sheet = sheet.with_row(row.collect::<Vec<_>>());
        }
        Ok(sheet)
    }

    /// Training images, where each branch looks, and the cells of another image that the next one is
    /// given in their place.
    fn mixes(&self, draw: usize, device: &Device) -> Result<ContactSheet, Box<dyn Error>> {
        let samples: Vec<&Sample> = evenly(&self.splits.train, draw.max(2)).collect();
        let originals: Result<Vec<_>, _> = samples
            .iter()
            .map(|sample| open_picture(&sample.path))
            .collect();
        let originals = originals?;
        let class = |sample: &&Sample| {
            let (identity, known) = (sample.identity, &self.classes);
            let missing = || format!("identity {identity} was not learnt from in this run");
            known.class(identity).ok_or_else(missing)
        };
        let identities: Result<Vec<usize>, _> = samples.iter().map(class).collect();
        let identities = identities?;
        let features = self.model.backbone.forward(self.batch(&samples, device)?);
        let step = TrainingStep::new(&identities, self.recipe.seed);
        let TracedOutput { traces, .. } = self.model.head.forward_traced(features, step);

        let mut columns = vec!["image".to_owned()];
        for (looked, next) in self.branches().zip(self.branches().skip(1)) {
            columns.extend([
                format!("{looked} looks"),
                "donor".to_owned(),
                format!("{next} sees"),
            ]);
        }
        let mut sheet = self.sheet(columns);
        for (place, original) in originals.iter().enumerate() {
            let mut row = vec![original.clone()];
            for trace in &traces {
                let AugmentTrace::CutMix { map, mixed } = trace else {
                    return Err("the run mixes nothing".into());
                };
                let map = map.clone().slice(s![place..=place]);
                row.push(Overlay::new().draw(original, &heat_maps(map)[0]));
                let cut = mixed.cut.clone().float().slice(s![place..=place]);
                let donor = &originals[mixed.partners[place]];
                row.push(donor.clone());
                row.push(pasted(original, donor, &heat_maps(cut)[0]));
            }
            sheet = sheet.with_row(row);
        }
        Ok(sheet)
    }

    /// Images as the network takes them.
    fn batch(&self, samples: &[&Sample], device: &Device) -> Result<Tensor<4>, Box<dyn Error>> {
        let InputSize { height, width } = self.recipe.input;
        let mut values = Vec::with_capacity(samples.len() * 3 * height * width);
        for sample in samples {
            let mut picture = Picture::from(&decode(&sample.path, self.recipe.input)?);
            self.recipe.augmentation.normalise.normalise(&mut picture);
            values.append(&mut picture.values);
        }
        let data = TensorData::new(values, [samples.len(), 3, height, width]);
        Ok(Tensor::from_data(data, device))
    }
}

/// So many of the samples, evenly spread.
fn evenly(samples: &[Sample], count: usize) -> impl Iterator<Item = &Sample> {
    let step = (samples.len() / count.max(1)).max(1);
    samples.iter().step_by(step).take(count)
}

/// An image with the places of another where they were cut.
fn pasted(original: &RgbImage, donor: &RgbImage, cut: &HeatMap) -> RgbImage {
    let (width, height) = original.dimensions();
    RgbImage::from_fn(width, height, |x, y| {
        let place = |at: u32, size: u32, patches: usize| at as usize * patches / size as usize;
        let row = place(y, height, cut.height());
        let column = place(x, width, cut.width());
        if cut.values()[row * cut.width() + column] > 0.0 {
            let (x, y) = (x * donor.width() / width, y * donor.height() / height);
            *donor.get_pixel(x, y)
        } else {
            *original.get_pixel(x, y)
        }
    })
}
