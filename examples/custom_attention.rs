//! A custom attention block, inserted into a ResNet.
//!
//! The block below is a spatial gate: it multiplies each position of the feature map by a weight that a 1x1
//! convolution computes from all channels. A ResNet accepts blocks at two points. This example uses both:
//! the custom gate follows stages 3 and 4, and squeeze-and-excitation sits inside every residual block. To
//! apply two blocks one after the other, put their configs in a tuple.
//!
//! ```sh
//! cargo run --release --example custom_attention
//! ```
//!
//! This trains on synthetic images of people for about a minute on two CPU cores. It prints the custom block
//! and the final report (mAP, mINP and CMC), and training progress on standard error. It writes only the
//! synthetic dataset, to `target/custom_attention`.
//!
//! To train on your own data, replace the `SyntheticConfig` statement and the line after it with
//! `let splits = reid::data::dataset::load("DIR")?;`.

#![expect(clippy::print_stdout, reason = "prints results to the user")]

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

/// A spatial gate: one weight for each position, shared by all channels.
///
/// ```text
/// g = σ(w · x + b)        [batch, 1, height, width]
/// y = x ⊙ g               [batch, channels, height, width]
/// ```
#[derive(Module, Debug)]
struct SpatialGate {
    gate: Conv2d,
}

impl Gate for SpatialGate {
    fn gate(&self, features: Tensor<4>) -> Tensor<4> {
        sigmoid(self.gate.forward(features))
    }
}

/// The config of a [`SpatialGate`]. It has no hyper-parameters; the input shape gives the number of channels.
#[derive(Clone, Serialize, Deserialize)]
struct SpatialGateConfig;

impl BlockConfig for SpatialGateConfig {
    type Block = SpatialGate;

    fn init(&self, input: FeatureShape, init: &Init<'_>) -> SpatialGate {
        SpatialGate {
            gate: init.conv2d(&Conv2dConfig::new([input.channels, 1], [1, 1])),
        }
    }
}

#[derive(Parser)]
#[command(about = "Trains a network with a custom attention block")]
struct Arguments {
    /// Run for a few seconds with tiny settings, to check that the example works.
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
        .after(&[3, 4], SpatialGateConfig);
    let network = (backbone, BnNeckConfig::new());
    let mut recipe = Recipe::strong_baseline("gates", InputSize::new(64, 32), network);
    recipe.epochs = if smoke { 1 } else { 8 };
    recipe.sampling.identities = if smoke { 4 } else { 16 };
    recipe.schedule.warm_up = None;
    recipe.schedule.base = 1e-3;

    let mut trainer = Trainer::new(&recipe, &splits, LoaderConfig::default(), &device)?;
    let backbone = &trainer.learner_mut().model.backbone;
    println!(
        "{}",
        backbone.after[3].as_ref().expect("a block after stage 4")
    );
    let outcome = trainer.run(&mut Console::stderr())?;
    if let Some(report) = outcome.report {
        println!("{report}");
    }
    Ok(())
}
