//! Training with parts of one's own: an `ArcFace` loss with its own weights, `AdamW` with a tenth of the rate for a
//! backbone that is frozen at first, a blur, a sampler, and attention of two kinds.
//!
//! ```sh
//! cargo run --release --example custom_training
//! ```
//!
//! Two to three minutes on two cores.

#![expect(clippy::print_stdout, reason = "a program talks to its user")]

use std::{error::Error, path::PathBuf};

use burn::{
    config::Config,
    module::{Module, Param},
    nn::{Initializer, loss::CrossEntropyLossConfig},
    tensor::Tensor,
};
use clap::Parser;
use reid::{
    core::Stream,
    data::{
        Error as DataError,
        dataset::market1501,
        sampler::Sampler,
        transform::{PadCrop, Picture, Transform},
    },
    nn::{
        Init, NamedLoss, Targets,
        attention::{AttentionConfig, FncSpatialConfig, RgaSpatialConfig},
        backbone::{ResNetConfig, Stem},
        head::BnNeckConfig,
        loss::BatchHardTripletConfig,
    },
    prelude::*,
    synthetic::SyntheticConfig,
    train::OptimizerConfig,
};

/// `ArcFace` (Deng et al., CVPR 2019, arXiv:1801.07698): `s·cos(θ + m)` for an image's own class.
#[derive(Module, Debug)]
struct ArcFace {
    weight: Param<Tensor<2>>,
    scale: f64,
    margin: f64,
}

#[derive(Config, Debug)]
struct ArcFaceConfig {
    #[config(default = 16.0)]
    scale: f64,
    #[config(default = 0.3)]
    margin: f64,
}

impl CriterionConfig for ArcFaceConfig {
    type Criterion = ArcFace;

    fn init(&self, output: &OutputShape, init: &Init<'_>) -> ArcFace {
        let fan @ [classes, dimensions] = [output.classes, output.features[0]];
        let normal = Initializer::Normal {
            mean: 0.0,
            std: 0.01,
        };
        ArcFace {
            weight: init.tensor([classes, dimensions], &normal, fan),
            scale: self.scale,
            margin: self.margin,
        }
    }
}

impl Criterion for ArcFace {
    fn losses(&self, output: &ReidOutput, targets: &Targets) -> Vec<NamedLoss> {
        let unit = |rows: Tensor<2>| rows.clone() / (rows.square().sum_dim(1) + 1e-12).sqrt();
        let features = unit(output.features[0].clone());
        let cosines = features.matmul(unit(self.weight.val()).transpose());
        let own: Tensor<2> = targets.labels.clone().one_hot(cosines.dims()[1]).float();
        let angles = cosines.clone().clamp(-0.999, 0.999).acos() + self.margin;
        let logits = (angles.cos() * own.clone() + cosines * (-own + 1.0)) * self.scale;
        let loss = CrossEntropyLossConfig::new().init(&logits.device());
        let loss = loss.forward(logits, targets.labels.clone());
        vec![NamedLoss::new("arc face", loss)]
    }
}

/// The mean of each pixel and its two neighbours in the row, half of the time.
#[derive(Debug)]
struct Blur;

impl Transform for Blur {
    fn apply(&self, picture: &mut Picture, stream: &mut Stream) {
        if rand::RngExt::random::<f32>(stream) < 0.5 {
            return;
        }
        for row in picture.values.chunks_exact_mut(picture.width) {
            let before = row.to_vec();
            for (at, value) in row.iter_mut().enumerate() {
                let near = &before[at.saturating_sub(1)..before.len().min(at + 2)];
                *value = near.iter().sum::<f32>() / near.len() as f32;
            }
        }
    }
}

/// All images of four identities at a time, identities in an order of their own in each epoch.
#[derive(Debug)]
struct FourPeople;

impl Sampler for FourPeople {
    fn batches(&self, samples: &[Sample], seed: Seed) -> Result<Vec<Vec<usize>>, DataError> {
        let mut people: Vec<Identity> = samples.iter().map(|sample| sample.identity).collect();
        people.sort();
        people.dedup();
        rand::seq::SliceRandom::shuffle(&mut people[..], &mut seed.stream());
        let of = |four: &[Identity]| {
            let all = samples.iter().enumerate();
            let own = all.filter(|(_, sample)| four.contains(&sample.identity));
            own.map(|(index, _)| index).collect()
        };
        Ok(people.chunks(4).map(of).collect())
    }
}

#[derive(Parser)]
#[command(about = "Trains with parts of one's own")]
struct Arguments {
    /// As small as it can be, to see that it works.
    #[arg(long)]
    smoke: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let smoke = Arguments::parse().smoke;
    let people = if smoke { 8 } else { 32 };
    let out = PathBuf::from("target/custom_training").join(people.to_string());
    SyntheticConfig::new()
        .with_train_identities(people)
        .with_test_identities(8)
        .write(out.join("people"))?;
    let splits = market1501::load(out.join("people"))?;

    // Relation-aware attention after stages 2 and 3, further non-local attention after 4.
    let backbone = ResNetConfig::resnet18()
        .with_width(16)
        .with_last_stride(1)
        .with_stem(Stem::Small)
        .after(&[2, 3], AttentionConfig::from(RgaSpatialConfig::new()))
        .and_after(&[4], FncSpatialConfig::new().into());
    let network = (backbone, BnNeckConfig::new());
    let recipe = Recipe::strong_baseline("custom", InputSize::new(64, 32), network);
    let mut recipe = recipe.with_losses((ArcFaceConfig::new(), BatchHardTripletConfig::new()));
    recipe.augmentation.pad_crop = Some(PadCrop { padding: 4 });
    recipe.optimizer = OptimizerConfig::adam_w();
    recipe.groups = vec![
        ParameterGroup::new(["backbone"])
            .with_rate_factor(0.1)
            .with_frozen_epochs(if smoke { 1 } else { 5 }),
    ];
    recipe.schedule.warm_up = None;
    recipe.schedule.base = 2e-3;
    recipe.epochs = if smoke { 2 } else { 16 };
    recipe.sampling.identities = 4;

    let outcome = Trainer::new(&recipe, &splits, LoaderConfig::default(), &device::pick()?)?
        .with_sampler(FourPeople)
        .with_transform(Blur)
        .run(&mut Console::stderr())?;
    if let Some(report) = outcome.report {
        println!("{report}");
    }
    Ok(())
}
