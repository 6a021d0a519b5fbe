//! An attention block of one's own, in either socket of a ResNet.
//!
//! The block below weighs places by one number each, taken from all channels. It goes after the last
//! two stages; squeeze-and-excitation goes inside every residual block; a tuple would chain two.
//!
//! ```sh
//! cargo run --release --example custom_attention
//! ```
//!
//! About a minute on two cores.

#![expect(clippy::print_stdout, reason = "a program talks to its user")]

use std::error::Error;

use burn::{
    module::Module,
    nn::conv::{Conv2d, Conv2dConfig},
    tensor::{Tensor, activation::sigmoid},
};
use clap::Parser;
use reid::{
    data::dataset::market1501,
    nn::{
        Init,
        attention::{Gate, SqueezeExcitationConfig},
        backbone::{ResNetConfig, Stem},
        head::BnNeckConfig,
    },
    prelude::*,
    synthetic::SyntheticConfig,
};
use serde::{Deserialize, Serialize};

/// Places gate themselves.
///
/// ```text
/// g = σ(w · x + b)        [batch, 1, height, width]
/// y = x ⊙ g               [batch, channels, height, width]
/// ```
#[derive(Module, Debug)]
struct PlaceGate {
    gate: Conv2d,
}

impl Gate for PlaceGate {
    fn gate(&self, features: Tensor<4>) -> Tensor<4> {
        sigmoid(self.gate.forward(features))
    }
}

/// The numbers of a [`PlaceGate`]: none. The place where it is built gives the channels.
#[derive(Clone, Serialize, Deserialize)]
struct PlaceGateConfig;

impl BlockConfig for PlaceGateConfig {
    type Block = PlaceGate;

    fn init(&self, input: FeatureShape, init: &Init<'_>) -> PlaceGate {
        PlaceGate {
            gate: init.conv2d(&Conv2dConfig::new([input.channels, 1], [1, 1])),
        }
    }
}

#[derive(Parser)]
#[command(about = "An attention block of one's own")]
struct Arguments {
    /// A run of seconds, to see that it runs.
    #[arg(long)]
    smoke: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let smoke = Arguments::parse().smoke;
    let device = device::pick()?;
    let people = if smoke { 8 } else { 32 };
    let data = format!("target/custom_attention/people-{people}");
    SyntheticConfig::new()
        .with_train_identities(people)
        .with_test_identities(people)
        .write(&data)?;
    let splits = market1501::load(&data)?;

    let backbone = ResNetConfig::resnet18()
        .with_width(16)
        .with_last_stride(1)
        .with_stem(Stem::Small)
        .inside(SqueezeExcitationConfig::new())
        .after(&[3, 4], PlaceGateConfig);
    let network = (backbone, BnNeckConfig::new());
    let mut recipe = Recipe::strong_baseline("gates", InputSize::new(64, 32), network);
    recipe.epochs = if smoke { 1 } else { 8 };
    recipe.sampling.identities = if smoke { 4 } else { 16 };
    recipe.schedule.warm_up = None;
    recipe.schedule.base = 1e-3;

    let mut trainer = Trainer::new(&recipe, &splits, LoaderConfig::default(), &device)?;
    let backbone = &trainer.learner_mut().model.backbone;
    println!("{}", backbone.after[3].as_ref().expect("after stage 4"));
    let outcome = trainer.run(&mut Console::stderr())?;
    if let Some(report) = outcome.report {
        println!("{report}");
    }
    Ok(())
}
