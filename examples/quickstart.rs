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
//! similarity.png      why queries are similar to their nearest gallery images
//! grad_cam.png        which positions of queries raise the score of the identity that the network finds
//! cmc.svg             the CMC curve
//! training.svg        losses, learning rate and scores per epoch
//! model.safetensors   the weights, with PyTorch's parameter names
//! ```

#![expect(clippy::print_stdout, reason = "prints results to the user")]

use std::{error::Error, fs, path::PathBuf};

use burn::module::Module;
use clap::Parser;
use reid::{
    data::{
        dataset::market1501,
        transform::{Augmentation, Normalise, PadCrop},
    },
    eval::{Relevance, ranked_list},
    nn::{
        Init,
        backbone::{ResNetConfig, Stem},
        head::BnNeckConfig,
    },
    prelude::*,
    synthetic::SyntheticConfig,
    train::{Decay, EpochSummary, WarmUp},
    vis::{
        ContactSheet, Overlay, RankedFigure, RankedRow, RgbImage, Series, SimilarityFigure,
        SimilarityRow, TrainingCurves, cmc_chart, save_picture, training_chart,
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
    let embedder = Embedder::new(model, recipe.input, &device);
    let [similarity, grad_cam] = explanations(&embedder, &found)?;
    save_picture(out.join("similarity.png"), &similarity)?;
    save_picture(out.join("grad_cam.png"), &grad_cam)?;
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

/// Draws why each query is similar to its nearest gallery image that is not ignored, and its Grad-CAM.
fn explanations(embedder: &Embedder, found: &[RankedRow]) -> Result<[RgbImage; 2], Box<dyn Error>> {
    let mut pairs = Vec::new();
    let mut cams = ContactSheet::new(["query", "Grad-CAM"]);
    for row in found {
        let mut tiles = row.found.iter();
        if let Some(nearest) = tiles.find(|tile| tile.relevance != Relevance::Ignored) {
            let (first, second) = (row.query.clone(), nearest.picture.clone());
            let mut maps = embedder.similarity_maps(&first, std::slice::from_ref(&second))?;
            let map = maps.remove(0);
            pairs.push(SimilarityRow { first, second, map });
        }
        let maps = embedder.heat_maps(std::slice::from_ref(&row.query))?;
        let overlay = Overlay::new().draw(&row.query, &maps[0]);
        cams = cams.with_row([row.query.clone(), overlay]);
    }
    Ok([SimilarityFigure::new().draw(&pairs), cams.draw()])
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
            over_epochs("mAP", &|epoch| epoch.scores?.mean_average_precision),
            over_epochs("Rank-1", &|epoch| epoch.scores?.rank_1),
        ],
    }
}
