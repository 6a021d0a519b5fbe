//! Custom training: which parts of a run can be replaced, and how.
//!
//! | part | in this example |
//! |---|---|
//! | loss | Proxy-NCA, whose proxies are trained too, plus a triplet loss |
//! | optimizer | `AdamW`; the backbone is frozen for 5 epochs, then trained at a tenth of the learning rate |
//! | augmentation | a custom blur |
//! | sampler | all images of four people per batch |
//! | network | two kinds of attention, after different stages |
//!
//! ```sh
//! cargo run --release --example custom_training
//! ```
//!
//! This trains on synthetic images of people for two to three minutes on two CPU cores. It prints the final
//! report (mAP, mINP and CMC), and training progress on standard error. It writes only the synthetic dataset,
//! to `target/custom_training`.
//!
//! To train on your own data, replace the `SyntheticConfig` statement and the line after it with
//! `let splits = reid::data::dataset::load("DIR")?;`.

#![expect(clippy::print_stdout, reason = "prints results to the user")]

use std::{error::Error, path::PathBuf};

use burn::{
    config::Config,
    module::{Module, Param},
    nn::Initializer,
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
        loss::TripletLossConfig,
    },
    prelude::*,
    synthetic::SyntheticConfig,
    train::OptimizerConfig,
};

/// Proxy-NCA (Movshovitz-Attias et al., ICCV 2017, arXiv:1703.07464): features come near the proxy of their
/// identity and leave those of the others. All have length 1.
///
/// ```text
/// L = mean_i ( s·d(f_i, p_{id_i}) + ln Σ_{k ≠ id_i} exp(-s·d(f_i, p_k)) )        d(f, p) = ‖f - p‖²
/// ```
#[derive(Module, Debug)]
struct ProxyNca {
    proxies: Param<Tensor<2>>,
    scale: f64,
}

#[derive(Config, Debug)]
struct ProxyNcaConfig {
    #[config(default = 8.0)]
    scale: f64,
}

impl CriterionConfig for ProxyNcaConfig {
    type Criterion = ProxyNca;

    fn init(&self, output: &OutputShape, init: &Init<'_>) -> ProxyNca {
        let fan @ [classes, dimensions] = [output.classes, output.features[0]];
        let normal = Initializer::Normal {
            mean: 0.0,
            std: 0.01,
        };
        ProxyNca {
            proxies: init.tensor([classes, dimensions], &normal, fan),
            scale: self.scale,
        }
    }
}

impl Criterion for ProxyNca {
    fn uses_logits(&self) -> bool {
        false
    }

    fn losses(&self, output: &ReidOutput, targets: &Targets) -> Vec<NamedLoss> {
        let unit = |rows: Tensor<2>| rows.clone() / (rows.square().sum_dim(1) + 1e-12).sqrt();
        let features = unit(output.features[0].clone());
        // ‖f - p‖² = 2 - 2·cos(f, p), between 0 and 4.
        let cosines = features.matmul(unit(self.proxies.val()).transpose());
        let exponents = (cosines - 1.0) * (2.0 * self.scale);
        let own: Tensor<2> = targets.labels.clone().one_hot(exponents.dims()[1]).float();
        let right = (exponents.clone() * own.clone()).sum_dim(1);
        let others = (exponents.exp() * (-own + 1.0)).sum_dim(1).log();
        vec![NamedLoss::new("proxy-nca", (others - right).mean())]
    }
}

/// Replaces each pixel by the mean of itself and its two neighbours in the row, with probability 0.5.
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

/// A sampler that puts all images of four identities in a batch. The order of identities changes every epoch.
#[derive(Debug)]
struct FourPeople;

impl Sampler for FourPeople {
    fn batches(&self, samples: &[Sample], seed: Seed) -> Result<Vec<Vec<usize>>, DataError> {
        let mut people: Vec<Identity> = samples.iter().map(|sample| sample.identity).collect();
        people.sort();
        people.dedup();
        rand::seq::SliceRandom::shuffle(&mut people[..], &mut seed.stream());
        let batch = |four: &[Identity]| {
            let all = samples.iter().enumerate();
            let own = all.filter(|(_, sample)| four.contains(&sample.identity));
            own.map(|(index, _)| index).collect()
        };
        Ok(people.chunks(4).map(batch).collect())
    }
}

#[derive(Parser)]
#[command(about = "Trains with a custom loss, sampler and transform")]
struct Arguments {
    /// Run for a few seconds with tiny settings, to check that the example works.
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

    // Relation-aware attention after stages 2 and 3, and FNC's spatial attention after stage 4.
    let backbone = ResNetConfig::resnet18()
        .with_width(16)
        .with_last_stride(1)
        .with_stem(Stem::Small)
        .after(&[2, 3], AttentionConfig::from(RgaSpatialConfig::new()))
        .and_after(&[4], FncSpatialConfig::new().into());
    let network = (backbone, BnNeckConfig::new());
    let recipe = Recipe::strong_baseline("custom", InputSize::new(64, 32), network);
    let mut recipe = recipe.with_losses((ProxyNcaConfig::new(), TripletLossConfig::new()));
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
