//! A custom head: one struct with one `forward` method, trained and evaluated like the built-in heads.
//!
//! The head below splits the feature map into horizontal stripes, as part-based networks do (Sun et al.,
//! PCB, ECCV 2018, arXiv:1711.09349). A tuple combines it with a BNNeck: both heads see the same feature
//! map, and their embeddings are concatenated.
//!
//! ```sh
//! cargo run --release --example custom_head
//! ```
//!
//! This trains on synthetic images of people for about a minute on two CPU cores. It prints the model and the
//! final report (mAP, mINP and CMC), and training progress on standard error. It writes only the synthetic
//! dataset, to `target/custom_head`.
//!
//! To train on your own data, replace the `SyntheticConfig` statement and the line after it with
//! `let splits = reid::data::dataset::load("DIR")?;`.

#![expect(clippy::print_stdout, reason = "prints results to the user")]

use std::error::Error;

use burn::{
    config::Config,
    module::Module,
    nn::{Linear, LinearConfig},
    tensor::Tensor,
};
use clap::Parser;
use reid::{
    data::dataset::market1501,
    nn::{
        Init,
        backbone::{ResNetConfig, Stem},
        head::BnNeckConfig,
        pool,
    },
    prelude::*,
    synthetic::SyntheticConfig,
};

/// Averages each horizontal stripe separately. Each stripe has its own classifier; the embedding is the
/// concatenation of all stripes.
#[derive(Module, Debug)]
struct StripeHead {
    classifiers: Vec<Linear>,
}

impl Head for StripeHead {
    fn forward(&self, features: Tensor<4>) -> ReidOutput {
        let stripes = features.chunk(self.classifiers.len(), 2);
        let stripes = stripes.into_iter().zip(&self.classifiers);
        let outputs = stripes.map(|(stripe, classifier)| {
            let features = pool::average(stripe);
            ReidOutput::single(features.clone(), classifier.forward(features))
        });
        outputs
            .reduce(ReidOutput::concat)
            .expect("at least 1 stripe")
    }
}

/// The hyper-parameters of a [`StripeHead`]. The input shape gives the number of channels per stripe.
#[derive(Config, Debug)]
struct StripeHeadConfig {
    stripes: usize,
}

impl HeadConfig for StripeHeadConfig {
    type Head = StripeHead;

    fn init(&self, input: FeatureShape, classes: usize, init: &Init<'_>) -> StripeHead {
        let stripes = self.stripes;
        assert!(
            stripes > 0 && input.height.is_multiple_of(stripes),
            "the number of stripes must divide the height of the feature map {input}, found {stripes} stripes"
        );
        let classifier = |_| init.linear(&LinearConfig::new(input.channels, classes));
        StripeHead {
            classifiers: (0..stripes).map(classifier).collect(),
        }
    }

    fn output(&self, input: FeatureShape, classes: usize) -> OutputShape {
        let features = vec![input.channels; self.stripes];
        OutputShape::new(input.channels * self.stripes, features, classes)
    }
}

#[derive(Parser)]
#[command(about = "Trains a network with a custom head")]
struct Arguments {
    /// Run for a few seconds with tiny settings, to check that the example works.
    #[arg(long)]
    smoke: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let smoke = Arguments::parse().smoke;
    let device = device::pick()?;
    let people = if smoke { 8 } else { 32 };
    let data = format!("target/custom_head/people-{people}");
    SyntheticConfig::new()
        .with_train_identities(people)
        .with_test_identities(people)
        .write(&data)?;
    let splits = market1501::load(&data)?;

    let backbone = ResNetConfig::resnet18()
        .with_width(16)
        .with_last_stride(1)
        .with_stem(Stem::Small);
    // Two heads on the same feature map: a BNNeck and four stripes.
    let head = (BnNeckConfig::new(), StripeHeadConfig::new(4));
    let mut recipe = Recipe::strong_baseline("stripes", InputSize::new(64, 32), (backbone, head));
    recipe.epochs = if smoke { 1 } else { 24 };
    recipe.sampling.identities = if smoke { 4 } else { 16 };
    recipe.schedule.warm_up = None;
    recipe.schedule.base = 1e-3;

    let mut trainer = Trainer::new(&recipe, &splits, LoaderConfig::default(), &device)?;
    println!("{}", trainer.learner_mut().model);
    let outcome = trainer.run(&mut Console::stderr())?;
    if let Some(report) = outcome.report {
        println!("{report}");
    }
    Ok(())
}
