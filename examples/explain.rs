//! Draws how progressive feature `CutMix` works: where each branch looks, and which patches of the feature
//! map the next branch gets from another image. These are Figures 2 and 4 of Zhang et al., Grad-CAM guided
//! progressive feature `CutMix`. It also draws why two images of one person match.
//!
//! Without options, the example trains a small network on synthetic images of people first, about a minute on
//! two CPU cores:
//!
//! ```sh
//! cargo run --release --example explain
//! ```
//!
//! With a run of `train_progressive`, on its synthetic dataset or on your own:
//!
//! ```sh
//! cargo run --release --example train_progressive
//! cargo run --release --example explain -- --run target/train_progressive/pc2 \
//!     --data target/train_progressive/people-64
//! cargo run --release --example train_progressive -- --data DIR --out run
//! cargo run --release --example explain -- --run run --data DIR
//! ```
//!
//! It prints the paths of the three figures, which it writes to `target/explain` (change it with `--out`).
//! `looks.png` has the Grad-CAM heat map of each branch on some queries, and `mixes.png` the patches that
//! were replaced in some training images. `similarities.png` has queries beside a gallery image of the same
//! person: the positions and the links that contribute to their similarity.

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
        similarity_map::{EmbeddingTerms, similarity_maps},
    },
    prelude::*,
    synthetic::SyntheticConfig,
    vis::{
        ContactSheet, Overlay, RgbImage, SimilarityFigure, SimilarityRow, open_picture,
        save_picture,
    },
    zoo::{BranchedConfig, ProgressiveCutMix},
};

#[derive(Parser)]
#[command(about = "Draws where each branch looks, which patches are mixed and why images match")]
struct Arguments {
    /// The output folder of `train_progressive`.
    #[arg(long, requires = "data")]
    run: Option<PathBuf>,
    /// The dataset that the run was trained on: a CSV list, or a folder in a supported layout.
    #[arg(long, requires = "run")]
    data: Option<PathBuf>,
    /// The number of images to draw.
    #[arg(long, default_value_t = 8)]
    draw: usize,
    /// The folder for the three figures.
    #[arg(long, default_value = "target/explain")]
    out: PathBuf,
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
    let trained = match (&arguments.run, &arguments.data) {
        (Some(run), Some(data)) => Trained::open(run, data, &device)?,
        _ => Trained::on_synthetic_images(arguments.smoke, &device)?,
    };
    let looks = arguments.out.join("looks.png");
    save_picture(&looks, &trained.looks(arguments.draw, &device)?.draw())?;
    println!(
        "wrote {}: where each branch looks on queries",
        looks.display()
    );
    let mixes = arguments.out.join("mixes.png");
    save_picture(&mixes, &trained.mixes(arguments.draw, &device)?.draw())?;
    println!(
        "wrote {}: which patches are replaced, and by what",
        mixes.display()
    );
    let similarities = arguments.out.join("similarities.png");
    let rows = trained.similarities(arguments.draw, &device)?;
    save_picture(&similarities, &SimilarityFigure::new().draw(&rows))?;
    println!(
        "wrote {}: why two images of one person match",
        similarities.display()
    );
    Ok(())
}

/// A trained network with its recipe and its data.
struct Trained {
    splits: Splits,
    classes: Classes,
    recipe: Recipe<BranchedConfig>,
    model: ProgressiveCutMix,
}

impl Trained {
    /// Loads the best checkpoint of a run.
    fn open(run: &Path, data: &Path, device: &Device) -> Result<Self, Box<dyn Error>> {
        let splits = dataset::load(data)?;
        let checkpoint = Checkpoints::new(run).find(CheckpointKind::Best)?;
        let checkpoint =
            checkpoint.ok_or_else(|| format!("found no checkpoint in {}", run.display()))?;
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

    /// Trains a small network on synthetic images of people.
    fn on_synthetic_images(smoke: bool, device: &Device) -> Result<Self, Box<dyn Error>> {
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
        let mut recipe = Recipe::strong_baseline("small", InputSize::new(64, 32), network);
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

    /// Draws queries with each branch's Grad-CAM heat map for the class with the highest score. As in
    /// evaluation, nothing is mixed.
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

    /// Draws training images with each branch's Grad-CAM heat map. Beside it are the donor image and the mix
    /// that the next branch gets: the top patches of the heat map are replaced by the donor's.
    fn mixes(&self, draw: usize, device: &Device) -> Result<ContactSheet, Box<dyn Error>> {
        let samples: Vec<&Sample> = evenly(&self.splits.train, draw.max(2)).collect();
        let originals: Result<Vec<_>, _> = samples
            .iter()
            .map(|sample| open_picture(&sample.path))
            .collect();
        let originals = originals?;
        let class = |sample: &&Sample| {
            let (identity, known) = (sample.identity, &self.classes);
            let missing = || format!("the run was not trained on identity {identity} of `--data`");
            known.class(identity).ok_or_else(missing)
        };
        let labels: Result<Vec<usize>, _> = samples.iter().map(class).collect();
        let labels = labels?;
        let features = self.model.backbone.forward(self.batch(&samples, device)?);
        let step = TrainingStep::new(&labels, self.recipe.seed);
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
        for (index, original) in originals.iter().enumerate() {
            let mut row = vec![original.clone()];
            for trace in &traces {
                let AugmentTrace::CutMix { map, mixed } = trace else {
                    return Err("a branch of the run has no feature CutMix".into());
                };
                let map = map.clone().slice(s![index..=index]);
                row.push(Overlay::new().draw(original, &heat_maps(map)[0]));
                let cut = mixed.cut.clone().float().slice(s![index..=index]);
                let partner = &originals[mixed.partners[index]];
                row.push(partner.clone());
                row.push(pasted(original, partner, &heat_maps(cut)[0]));
            }
            sheet = sheet.with_row(row);
        }
        Ok(sheet)
    }

    /// Computes what makes queries similar to a gallery image of the same person from another camera. What
    /// gallery images have in common at a position counts equally everywhere.
    fn similarities(
        &self,
        draw: usize,
        device: &Device,
    ) -> Result<Vec<SimilarityRow>, Box<dyn Error>> {
        let reference: Vec<&Sample> = evenly(&self.splits.gallery, 32).collect();
        let reference = self.terms(&reference, device)?;
        let mut rows = Vec::new();
        for query in evenly(&self.splits.query, draw) {
            let same = |found: &&Sample| {
                let other = query.camera.is_none() || found.camera != query.camera;
                found.identity == query.identity && found.path != query.path && other
            };
            let Some(found) = self.splits.gallery.iter().find(same) else {
                continue;
            };
            let terms = self.terms(&[query, found], device)?.centred_on(&reference);
            let mut maps = similarity_maps(&terms.image(0), &terms.image(1))?;
            rows.push(SimilarityRow {
                first: open_picture(&query.path)?,
                second: open_picture(&found.path)?,
                map: maps.remove(0),
            });
        }
        if rows.is_empty() && draw > 0 {
            return Err("no query has a gallery image of the same person".into());
        }
        Ok(rows)
    }

    /// Splits the embeddings of images into one term per position.
    fn terms(
        &self,
        samples: &[&Sample],
        device: &Device,
    ) -> Result<EmbeddingTerms, Box<dyn Error>> {
        let features = self.model.backbone.forward(self.batch(samples, device)?);
        Ok(EmbeddingTerms::of(&self.model.head, features))
    }

    /// Decodes, resizes and normalises images: `[samples, 3, height, width]`.
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

/// Selects `count` samples at equal distances.
fn evenly(samples: &[Sample], count: usize) -> impl Iterator<Item = &Sample> {
    let step = (samples.len() / count.max(1)).max(1);
    samples.iter().step_by(step).take(count)
}

/// Replaces the cut patches of an image by the same patches of its mix partner.
fn pasted(original: &RgbImage, partner: &RgbImage, cut: &HeatMap) -> RgbImage {
    let (width, height) = original.dimensions();
    RgbImage::from_fn(width, height, |x, y| {
        let scaled = |at: u32, size: u32, positions: usize| at as usize * positions / size as usize;
        let row = scaled(y, height, cut.height());
        let column = scaled(x, width, cut.width());
        if cut.values()[row * cut.width() + column] > 0.0 {
            let (x, y) = (x * partner.width() / width, y * partner.height() / height);
            *partner.get_pixel(x, y)
        } else {
            *original.get_pixel(x, y)
        }
    })
}
