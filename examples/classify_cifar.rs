//! Trains or tests a classifier of small images: a `ResNet` or a `DenseNet` for CIFAR, with or without
//! relation-aware attention (Table 7 of Zhang et al., arXiv:1904.02998).
//!
//! Without data it trains on images of ten synthetic people, minutes on two CPU cores:
//!
//! ```sh
//! cargo run --release --example classify_cifar
//! ```
//!
//! On CIFAR-10 or CIFAR-100 in the binary version, or on folders `train/CLASS` and `test/CLASS` of images, by
//! the recipe of the network's paper, which needs a GPU:
//!
//! ```sh
//! cargo run --release --example classify_cifar -- --data DIR --architecture cifar-resnet110-rga
//! ```
//!
//! With published weights, such as those of `pytorch_resnet_cifar10`, or those that this program has trained:
//!
//! ```sh
//! cargo run --release --example classify_cifar -- --data DIR --architecture cifar-resnet20 --weights FILE \
//!     --evaluate --json
//! ```
//!
//! It prints the error and the top-5 error on the test images, and training progress on standard error.
//! Training writes checkpoints, `recipe.json`, `weights.safetensors` and `training.svg` to a folder in
//! `target/classify_cifar`, named after the network (change it with `--out`). `misclassified.png` there shows
//! test images of each class whose prediction is wrong. `Ctrl-C` saves a checkpoint and stops; `--resume`
//! continues from it.

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

use burn::tensor::Device;
use clap::Parser;
use reid::{
    data::{
        dataset::{self, market1501},
        loader::Classes,
    },
    eval::Classification,
    prelude::*,
    synthetic::SyntheticConfig,
    train::{Decay, EpochSummary},
    vis::{ContactSheet, Series, TrainingCurves, open_picture, save_picture, training_chart},
    zoo::{ArchitectureModel, recipes, weights},
};
use serde_json::json;

/// The number of columns and rows of the sheet of misclassified images.
const SHEET: (usize, usize) = (10, 6);

#[derive(Parser)]
#[command(about = "Trains or tests a classifier of small images")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
struct Arguments {
    /// CIFAR-10 or CIFAR-100 in the binary version, or a folder with a folder per class in `train` and
    /// `test`. Default: images of synthetic people.
    #[arg(long)]
    data: Option<PathBuf>,
    /// The name of a network, such as `cifar-resnet20`, `cifar-densenet-100-bc` or `cifar-resnet110-rga`.
    #[arg(long, default_value = "cifar-resnet20")]
    architecture: String,
    /// Weights with a classifier for the classes of the data: `.th`, `.pth` or safetensors.
    #[arg(long)]
    weights: Option<PathBuf>,
    /// Test the weights instead of training.
    #[arg(long, requires = "weights")]
    evaluate: bool,
    /// Print the results as JSON: `error` and `top5_error` in percent, and the number of `images`.
    #[arg(long)]
    json: bool,
    /// The seed; overrides the recipe's.
    #[arg(long)]
    seed: Option<u64>,
    /// The number of epochs; overrides the recipe's.
    #[arg(long)]
    epochs: Option<usize>,
    /// The folder for checkpoints, weights and figures. Default: `target/classify_cifar/` and the network's
    /// name.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Resume from the last checkpoint in `--out`.
    #[arg(long)]
    resume: bool,
    /// Run for a few seconds with tiny settings, to check that the example works.
    #[arg(long)]
    smoke: bool,
}

impl Arguments {
    fn out(&self) -> PathBuf {
        let name = if self.smoke {
            format!("smoke-{}", std::process::id())
        } else {
            self.architecture.clone()
        };
        let folder = || Path::new("target/classify_cifar").join(name);
        self.out.clone().unwrap_or_else(folder)
    }

    /// The recipe of the network's paper, or a small one for synthetic people.
    fn recipe(&self) -> Result<Recipe<Architecture>, Box<dyn Error>> {
        let mut network: Architecture = self.architecture.parse()?;
        if let (true, Architecture::ResNet(resnet)) = (self.smoke, &mut network) {
            (resnet.backbone.width, resnet.backbone.blocks) = (4, [1, 1, 1, 0]);
        }
        let name = &self.architecture;
        let mut recipe = match &network {
            Architecture::DenseNet(_) => recipes::cifar_densenet(name, network),
            Architecture::ResNet(resnet) if resnet.backbone.blocks[0] >= 18 => {
                recipes::cifar_resnet110(name, network)
            }
            _ => recipes::cifar_resnet(name, network),
        };
        if self.data.is_none() {
            recipe.schedule.base = 0.05;
            recipe.schedule.decay = Decay::Cosine { floor: 0.01 };
            recipe.sampling.shuffled = Some(32);
            recipe.epochs = if self.smoke { 1 } else { 20 };
            recipe.evaluate_every = 2;
        }
        recipe.epochs = self.epochs.unwrap_or(recipe.epochs);
        recipe.seed = self.seed.map_or(recipe.seed, Seed::new);
        recipe.check()?;
        Ok(recipe)
    }
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
    eprintln!("running on {}", device::backend(&device));
    let splits = splits(arguments)?;
    eprintln!("{}", splits.statistics());
    let recipe = arguments.recipe()?;
    let results = if arguments.evaluate {
        Some(evaluate_weights(arguments, &recipe, &splits, &device)?)
    } else {
        train(arguments, &recipe, &splits, &device)?
    };
    let Some(results) = results else {
        return Ok(()); // interrupted before the first evaluation
    };
    let sheet = arguments.out().join("misclassified.png");
    save_picture(&sheet, &misclassified(&results, &splits)?)?;
    eprintln!("wrote {}", sheet.display());
    if arguments.json {
        let summary = json!({
            "error": 100.0 * results.error(),
            "top5_error": 100.0 * results.top_k_error(5),
            "images": results.images(),
        });
        println!("{summary}");
    } else {
        println!("{results}");
    }
    Ok(())
}

/// Tests weights from a file on the test images.
fn evaluate_weights(
    arguments: &Arguments,
    recipe: &Recipe<Architecture>,
    splits: &Splits,
    device: &Device,
) -> Result<Classification, Box<dyn Error>> {
    let classes = Classes::from_identities(splits.train.iter().map(|sample| sample.identity));
    let mut model = recipe
        .network
        .init(recipe.input, classes.len(), &Init::empty(device));
    load(&mut model, arguments, classes.len())?;
    let extractor = Extractor::from_recipe(recipe, LoaderConfig::default())
        .with_progress(|done, all| eprint!("\rclassified {done} of {all} images "));
    let results = extractor.classify(&model.evaluation(), &splits.test, &classes, device)?;
    eprintln!();
    Ok(results)
}

/// Loads the weights that the arguments name, with their classifier.
fn load(
    model: &mut ArchitectureModel,
    arguments: &Arguments,
    classes: usize,
) -> Result<(), Box<dyn Error>> {
    let Some(file) = &arguments.weights else {
        return Ok(());
    };
    if weights::load_published(model, file)? || !arguments.evaluate {
        return Ok(());
    }
    let file = file.display();
    Err(format!("{file}: expected a classifier of {classes} classes, found none or another").into())
}

/// Trains by the recipe, from weights if there are some. Returns the last results.
fn train(
    arguments: &Arguments,
    recipe: &Recipe<Architecture>,
    splits: &Splits,
    device: &Device,
) -> Result<Option<Classification>, Box<dyn Error>> {
    let interrupt = Interrupt::new();
    let handler = interrupt.clone();
    ctrlc::set_handler(move || handler.request())?;
    let out = arguments.out();
    let checkpoints = if arguments.resume {
        Checkpoints::new(&out)
    } else {
        Checkpoints::begin(&out)?
    };
    let mut trainer = Trainer::new(recipe, splits, LoaderConfig::default(), device)?
        .with_checkpoints(checkpoints)
        .with_interrupt(interrupt);
    let classes = splits.statistics().train.identities;
    load(&mut trainer.learner_mut().model, arguments, classes)?;
    if arguments.resume {
        trainer = trainer.resume()?;
    }
    let outcome = trainer.run(&mut Console::stderr())?;
    weights::save(outcome.model(), out.join("weights.safetensors"))?;
    training_chart(out.join("training.svg"), &curves(&outcome.history))?;
    Ok(outcome.classification)
}

/// The loss, the learning rate, and the accuracy on training and test images.
fn curves(history: &[EpochSummary]) -> TrainingCurves {
    let series = |name: &str, value: &dyn Fn(&EpochSummary) -> Option<f64>| {
        let point = |epoch: &EpochSummary| Some((epoch.epoch as f64, value(epoch)?));
        Series::new(name, history.iter().filter_map(point))
    };
    TrainingCurves {
        losses: vec![series("cross-entropy", &|epoch| Some(epoch.loss))],
        learning_rates: vec![series("rate", &|epoch| Some(epoch.learning_rate))],
        scores: vec![
            series("training accuracy", &|epoch| epoch.accuracy),
            series("test accuracy", &|epoch| epoch.scores?.accuracy),
        ],
    }
}

/// Draws test images that were misclassified, in a column per class: the classes with the most of them.
fn misclassified(
    results: &Classification,
    splits: &Splits,
) -> Result<reid::vis::RgbImage, Box<dyn Error>> {
    let mut wrong = vec![Vec::new(); results.classes()];
    let predictions = results.labels().iter().zip(results.predictions());
    for (image, (&label, &prediction)) in predictions.enumerate() {
        if label != prediction {
            wrong[label].push(image);
        }
    }
    let mut columns: Vec<(usize, Vec<usize>)> = wrong.into_iter().enumerate().collect();
    columns.sort_by_key(|(_, images)| std::cmp::Reverse(images.len()));
    columns.truncate(SHEET.0);
    let name = |class: usize| match splits.class_names.get(class) {
        Some(name) => name.clone(),
        None => class.to_string(),
    };
    let captions = columns.iter().map(|(class, _)| name(*class));
    let mut sheet = ContactSheet::new(captions).with_cell(InputSize::new(64, 64));
    for row in 0..SHEET.1 {
        let mut pictures = Vec::with_capacity(columns.len());
        // The columns are in the order of their lengths, so those with an image in this row come first.
        for image in columns.iter().filter_map(|(_, images)| images.get(row)) {
            pictures.push(open_picture(&splits.test[*image].path)?);
        }
        sheet = sheet.with_row(pictures);
    }
    Ok(sheet.draw())
}

fn splits(arguments: &Arguments) -> Result<Splits, Box<dyn Error>> {
    let splits = match &arguments.data {
        Some(data) => dataset::load(data)?,
        None => synthetic(arguments.smoke)?,
    };
    if splits.test.is_empty() {
        let expected =
            "CIFAR in its binary version, or folders `train` and `test` with a folder per class";
        return Err(format!("{}: expected {expected}, found no test images", splits.name).into());
    }
    Ok(splits)
}

/// Ten synthetic people as classes. A quarter of the images of each are test images.
fn synthetic(smoke: bool) -> Result<Splits, Box<dyn Error>> {
    let images = if smoke { 4 } else { 16 };
    let root = PathBuf::from(format!("target/classify_cifar/people-{images}"));
    SyntheticConfig::new()
        .with_train_identities(10)
        .with_test_identities(2)
        .with_images_per_camera(images)
        .write(&root)?;
    let images = market1501::load(&root)?.train;
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for (index, image) in images.into_iter().enumerate() {
        let split = if index % 4 == 3 {
            &mut test
        } else {
            &mut train
        };
        split.push(image);
    }
    let names = (1..=10).map(|number| format!("person {number}"));
    Ok(Splits::new("ten synthetic people")
        .with_train(train)
        .with_test(test)
        .with_class_names(names.collect()))
}
