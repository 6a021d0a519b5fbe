//! Quickstart: the whole workflow in one program, from a dataset to ranked search results.
//!
//! The program writes a synthetic dataset of people seen by four cameras, trains a small strong baseline on
//! it, and evaluates the trained model. It then draws figures, saves the model, loads it again and checks
//! that the loaded model scores the same.
//!
//! ```sh
//! cargo run --release --example quickstart
//! ```
//!
//! This takes under three minutes on two CPU cores. The example has no option for your own data; for that,
//! use `train_baseline`:
//!
//! ```sh
//! cargo run --release --example train_baseline -- --data DIR --out run
//! ```
//!
//! It prints the dataset statistics and the final report (mAP, mINP and CMC), and training progress on
//! standard error. It writes to `target/quickstart` (change it with `--out`):
//!
//! ```text
//! data-48/            the synthetic dataset, in the Market-1501 layout
//! recipe.json         the recipe: every setting of the run
//! run/                the checkpoints
//! ranked.png          queries with their ten nearest gallery images
//! activation.png      queries overlaid with activation maps
//! cmc.svg             the CMC curve
//! training.svg        losses, learning rate and scores per epoch
//! model.safetensors   the weights, with PyTorch's parameter names
//! ```

#![expect(clippy::print_stdout, reason = "prints results to the user")]

use std::{error::Error, fs, path::PathBuf};

use burn::{
    module::Module,
    tensor::{Device, Tensor, TensorData},
};
use clap::Parser;
use reid::{
    data::{
        dataset::market1501,
        decode,
        transform::{Augmentation, Normalise, PadCrop, Picture},
    },
    eval::ranked_list,
    nn::{
        Init,
        activation_map::activation_maps,
        backbone::{ResNetConfig, Stem},
        head::BnNeckConfig,
    },
    prelude::*,
    synthetic::SyntheticConfig,
    train::{Decay, EpochSummary, WarmUp},
    vis::{
        ContactSheet, Overlay, RankedFigure, RankedRow, Series, TrainingCurves, cmc_chart,
        open_picture, save_picture, training_chart,
    },
    zoo::weights,
};

#[derive(Parser)]
#[command(about = "Trains, evaluates and saves a small model on synthetic images")]
struct Arguments {
    /// The folder that all files are written to.
    #[arg(long, default_value = "target/quickstart")]
    out: PathBuf,
    /// Run for a few seconds with tiny settings, to check that the example works.
    #[arg(long)]
    smoke: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { out, smoke } = Arguments::parse();
    let device = device::pick()?;
    println!("running on {}", device::backend(&device));

    // 1. A dataset on disk, in the Market-1501 layout. `market1501::load` reads the published dataset too.
    let people = if smoke { 8 } else { 48 };
    let data = out.join(format!("data-{people}"));
    SyntheticConfig::new()
        .with_train_identities(people)
        .with_test_identities(people)
        .with_images_per_camera(4)
        .write(&data)?;
    let splits = market1501::load(&data)?;
    println!("{}\n", splits.statistics());

    // 2. A recipe: every setting of the run, saved next to the weights.
    let recipe = recipe(smoke);
    fs::create_dir_all(&out)?;
    recipe.save(out.join("recipe.json"))?;

    // 3. Training. If an earlier run was interrupted, `resume` continues it from its last checkpoint.
    let outcome = Trainer::new(&recipe, &splits, LoaderConfig::default(), &device)?
        .with_checkpoints(Checkpoints::new(out.join(if smoke {
            "smoke"
        } else {
            "run"
        })))
        .resume()?
        .run(&mut Console::stderr())?;

    // 4. Evaluation, with batch normalisation folded into the convolutions.
    let model = outcome.learner.model.valid().fold_batch_norm();
    let extractor = Extractor::new(recipe.input, Normalise::IMAGENET, LoaderConfig::default());
    let (query, gallery) = extractor.embed_both(&model, &splits, &device)?;
    let report = evaluate(&query, &gallery, &recipe.evaluation)?;
    println!("\n{report}\n");

    // 5. Figures and charts.
    let found = ranked_rows(&query, &gallery, &recipe.evaluation, &splits)?;
    save_picture(out.join("ranked.png"), &RankedFigure::new().draw(&found))?;
    let activation = activation_sheet(&model, &splits, &recipe, &device)?;
    save_picture(out.join("activation.png"), &activation)?;
    cmc_chart(out.join("cmc.svg"), &[("strong baseline", &report)])?;
    training_chart(out.join("training.svg"), &curves(&outcome.history))?;

    // 6. The model is saved in a format that PyTorch also reads, and loaded again.
    let file = out.join("model.safetensors");
    weights::save(&outcome.learner.model.valid(), &file)?;
    let identities = splits.statistics().train.identities;
    let mut loaded = recipe
        .network
        .init(recipe.input, identities, &Init::empty(&device));
    weights::load(&mut loaded, &file)?;
    let again = extractor.evaluate(
        &loaded.fold_batch_norm(),
        &splits,
        &recipe.evaluation,
        &device,
    )?;
    assert_eq!(
        again.cmc, report.cmc,
        "the loaded model must give the same CMC curve"
    );

    println!(
        "figures, charts, checkpoints and model.safetensors are in {}",
        out.display()
    );
    Ok(())
}

fn recipe(smoke: bool) -> Recipe<BagOfTricksConfig> {
    let network = BagOfTricksConfig {
        backbone: ResNetConfig::resnet18()
            .with_width(16)
            .with_last_stride(1)
            .with_stem(Stem::Small),
        head: BnNeckConfig::new(),
    };
    let mut recipe = Recipe::strong_baseline("quickstart", InputSize::new(64, 32), network);
    recipe.augmentation = Augmentation::default().with_pad_crop(PadCrop { padding: 4 });
    recipe.epochs = if smoke { 1 } else { 12 };
    recipe.sampling.identities = if smoke { 4 } else { 16 };
    recipe.schedule.base = 2e-3;
    recipe.schedule.warm_up = Some(WarmUp::Linear {
        epochs: 2,
        from: 0.1,
    });
    recipe.schedule.decay = Decay::Cosine { floor: 0.01 };
    recipe.evaluate_every = 4;
    recipe
}

/// Ranks the gallery for four queries and opens the ten nearest images of each.
fn ranked_rows(
    query: &Embeddings,
    gallery: &Embeddings,
    config: &EvaluationConfig,
    splits: &Splits,
) -> Result<Vec<RankedRow>, Box<dyn Error>> {
    let queries = (0..query.len()).step_by(query.len().div_ceil(4));
    let row = |index| {
        Ok(RankedRow::open(
            splits,
            &ranked_list(query, gallery, config, index, 10)?,
        )?)
    };
    queries.map(row).collect()
}

/// Draws queries overlaid with the activation map of the last stage.
fn activation_sheet(
    model: &BagOfTricks,
    splits: &Splits,
    recipe: &Recipe<BagOfTricksConfig>,
    device: &Device,
) -> Result<reid::vis::RgbImage, Box<dyn Error>> {
    let mut sheet = ContactSheet::new(["query", "activation"]);
    for sample in splits.query.iter().step_by(splits.query.len() / 6 + 1) {
        let mut picture = Picture::from(&decode(&sample.path, recipe.input)?);
        Normalise::IMAGENET.normalise(&mut picture);
        let shape = [1, 3, recipe.input.height, recipe.input.width];
        let image = Tensor::from_data(TensorData::new(picture.values, shape), device);
        let map = activation_maps(model.backbone.forward(image)).remove(0);
        let original = open_picture(&sample.path)?;
        let overlay = Overlay::new().draw(&original, &map);
        sheet = sheet.with_row([original, overlay]);
    }
    Ok(sheet.draw())
}

fn curves(history: &[EpochSummary]) -> TrainingCurves {
    let over_epochs = |name: &str, value: &dyn Fn(&EpochSummary) -> Option<f64>| {
        let points = history
            .iter()
            .filter_map(|epoch| Some((epoch.epoch as f64, value(epoch)?)));
        Series::new(name, points)
    };
    TrainingCurves {
        losses: vec![over_epochs("loss", &|epoch| Some(epoch.loss))],
        learning_rates: vec![over_epochs("rate", &|epoch| Some(epoch.learning_rate))],
        scores: vec![
            over_epochs("mAP", &|epoch| {
                epoch.scores.map(|scores| scores.mean_average_precision)
            }),
            over_epochs("Rank-1", &|epoch| epoch.scores.map(|scores| scores.rank_1)),
        ],
    }
}
