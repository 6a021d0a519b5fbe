//! Evaluates one or several checkpoints on one or several datasets, draws ranked lists, and finds the hardest
//! examples.
//!
//! Without options, the example trains two tiny models on synthetic images of people first: one on a dataset,
//! and one on this dataset and another one. Both are evaluated on both:
//!
//! ```sh
//! cargo run --release --example evaluate_checkpoint
//! ```
//!
//! With your own runs and data, or with those of `quickstart` after it has run:
//!
//! ```sh
//! cargo run --release --example evaluate_checkpoint -- --run run --data DIR
//! cargo run --release --example evaluate_checkpoint -- --run baseline --run ours --data DIR --data OTHER
//! cargo run --release --example evaluate_checkpoint -- --run run --data DIR --hard-examples 20
//! cargo run --release --example evaluate_checkpoint -- --run target/quickstart/run \
//!     --data target/quickstart/data-48
//! ```
//!
//! `--run` is the output folder of `train_baseline`, or of any other run whose network is in `reid::zoo`; the
//! checkpoint records the network. The best checkpoint is evaluated, or the last one with `--last`. `--data`
//! may be another dataset than the one trained on: this is a cross-domain evaluation.
//!
//! For one checkpoint and one dataset, it prints the path of the checkpoint, the dataset statistics and the
//! report (mAP, mINP and CMC). For several, it prints a table with 95 % confidence intervals. The table has
//! the differences of each checkpoint from the first one on the same queries, in mAP and Rank-1, with their
//! intervals and the p-value of mAP. All are evaluated with the settings of the first checkpoint, each by the
//! metric of its own. With `--json`, it prints a list with all reports, intervals and comparisons.
//!
//! It writes the ranked lists of the first checkpoint on the first dataset to
//! `target/evaluate_checkpoint/ranked.png` (change it with `--picture`). With `--hard-examples N`, it writes
//! `hard-examples.html` and `hard-examples.json` to the same folder. They have the N queries with the lowest
//! average precision and the images that rank above their first match, and the N hardest triplets of the
//! training images. Small images take seconds on two CPU cores.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "prints results to the user"
)]

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use burn::tensor::Device;
use clap::Parser;
use reid::{
    data::dataset,
    eval::{
        Comparison, Distances, HardQuery, HardTriplet, Interval, Intervals, RankedEntry,
        Resampling, RetrievalTask, hard_triplets, ranked_list,
    },
    nn::{backbone::ResNetConfig, head::BnNeckConfig},
    prelude::*,
    synthetic::SyntheticConfig,
    vis::{Page, RankedFigure, RankedRow, save_picture},
};
use serde::Serialize;
use serde_json::{Value, json};

/// The largest number of non-matches that are listed for a hard query.
const WRONG: usize = 9;

#[derive(Parser)]
#[command(about = "Evaluates checkpoints on datasets")]
#[expect(clippy::struct_excessive_bools, reason = "each is a command-line flag")]
struct Arguments {
    /// The folder of a run. May be given several times.
    #[arg(long, requires = "data")]
    run: Vec<PathBuf>,
    /// The dataset: a CSV list, or a folder in a supported layout (Market-1501, one folder per identity, …).
    /// May be given several times.
    #[arg(long, requires = "run")]
    data: Vec<PathBuf>,
    /// Evaluate the last checkpoint instead of the best.
    #[arg(long)]
    last: bool,
    /// The number of queries to draw.
    #[arg(long, default_value_t = 4)]
    draw: usize,
    /// The file for the figure of ranked lists.
    #[arg(long, default_value = "target/evaluate_checkpoint/ranked.png")]
    picture: PathBuf,
    /// Write a page with this number of the hardest queries, and of the hardest triplets of training images.
    #[arg(long, value_name = "N")]
    hard_examples: Option<usize>,
    /// Print all reports as JSON.
    #[arg(long)]
    json: bool,
    /// Also write two of the hardest examples. The default without `--run` already takes only seconds.
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

/// A dataset, and its path as it was given.
struct Dataset {
    path: String,
    splits: Splits,
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let device = device::pick()?;
    let (runs, data) = if arguments.run.is_empty() {
        train_tiny_models(&device)?
    } else {
        (arguments.run.clone(), arguments.data.clone())
    };
    let mut datasets = Vec::new();
    for path in &data {
        let (path, splits) = (path.display().to_string(), dataset::load(path)?);
        datasets.push(Dataset { path, splits });
    }
    let mut scores: Vec<Scores> = Vec::new();
    let mut hard = HardExamples::new(arguments);
    let mut config = None;
    for run in &runs {
        let checkpoint = find(run, arguments.last)?;
        let embedder = Embedder::open_on(&checkpoint, &device)?;
        let config = config.get_or_insert_with(|| embedder.evaluation().clone());
        for (at, dataset) in datasets.iter().enumerate() {
            let evaluated = Evaluated::new(&embedder, &dataset.splits, config)?;
            if scores.is_empty() {
                evaluated.draw(arguments)?;
            }
            hard.add(
                &embedder,
                &evaluated,
                [&checkpoint, Path::new(&dataset.path)],
            )?;
            // The first checkpoint has the first scores, one for each dataset.
            let first = (scores.len() >= datasets.len()).then(|| &scores[at].report);
            let new = Scores::new(&checkpoint, &dataset.path, evaluated.report, first)?;
            scores.push(new);
        }
    }
    hard.save(arguments)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&scores)?);
    } else if let ([one], [dataset]) = (scores.as_slice(), datasets.as_slice()) {
        let statistics = dataset.splits.statistics();
        println!("{}\n{statistics}\n\n{}", one.checkpoint, one.report);
    } else {
        for dataset in &datasets {
            println!(
                "{}\n{}",
                dataset.splits.statistics(),
                table(&scores, dataset)
            );
        }
    }
    Ok(())
}

fn find(run: &Path, last: bool) -> Result<PathBuf, Box<dyn Error>> {
    let kind = if last {
        CheckpointKind::Last
    } else {
        CheckpointKind::Best
    };
    let checkpoint = Checkpoints::new(run).find(kind)?;
    checkpoint.ok_or_else(|| format!("found no checkpoint in {}", run.display()).into())
}

/// The embeddings of a dataset by a checkpoint, and their evaluation.
struct Evaluated<'a> {
    splits: &'a Splits,
    query: Embeddings,
    gallery: Embeddings,
    report: Report,
}

impl<'a> Evaluated<'a> {
    fn new(
        embedder: &Embedder,
        splits: &'a Splits,
        config: &EvaluationConfig,
    ) -> Result<Self, Box<dyn Error>> {
        let mut config = config.clone().with_metric(embedder.evaluation().metric);
        if !splits.has_cameras() {
            config = config.with_protocol(Protocol::NoCameras);
        }
        let (query, gallery) = embedder.embed_splits(splits)?;
        Ok(Self {
            report: evaluate(&query, &gallery, &config)?,
            splits,
            query,
            gallery,
        })
    }

    /// Draws the ranked lists of some queries.
    fn draw(&self, arguments: &Arguments) -> Result<(), Box<dyn Error>> {
        let Self { query, gallery, .. } = self;
        let step = (query.len() / arguments.draw.max(1)).max(1);
        let rows = (0..query.len())
            .step_by(step)
            .take(arguments.draw)
            .map(|index| {
                let list = ranked_list(query, gallery, &self.report.config, index, 10)?;
                Ok(RankedRow::open(self.splits, &list)?)
            });
        let rows = rows.collect::<Result<Vec<_>, Box<dyn Error>>>()?;
        save_picture(&arguments.picture, &RankedFigure::new().draw(&rows))?;
        eprintln!("wrote {}", arguments.picture.display());
        Ok(())
    }

    /// The hardest queries, and the hardest triplets of the training images if there are any.
    fn hardest(
        &self,
        embedder: &Embedder,
        count: usize,
    ) -> Result<(Vec<HardQuery>, Vec<HardTriplet>), Box<dyn Error>> {
        let (query, gallery, config) = (&self.query, &self.gallery, &self.report.config);
        let distances = Distances::between(query, gallery, config.metric)?;
        let task = RetrievalTask::new(&distances, query.labels(), gallery.labels())
            .with_protocol(&config.protocol);
        let queries = self.report.hard_queries(&task, count, WRONG)?;
        let mut triplets = Vec::new();
        if !self.splits.train.is_empty() {
            let train = embedder.embed_samples(&self.splits.train, Split::Train)?;
            triplets = hard_triplets(&train, config.metric, count)?;
        }
        Ok((queries, triplets))
    }
}

/// The scores of a checkpoint on a dataset.
#[derive(Serialize)]
struct Scores {
    checkpoint: String,
    data: String,
    report: Report,
    intervals: Intervals,
    /// The comparison with the first checkpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<Comparison>,
}

impl Scores {
    fn new(
        checkpoint: &Path,
        data: &str,
        report: Report,
        first: Option<&Report>,
    ) -> Result<Self, reid::eval::Error> {
        let resampling = Resampling::default();
        let compared = first.map(|first| report.compared_with(first, &resampling));
        Ok(Self {
            checkpoint: checkpoint.display().to_string(),
            data: data.to_owned(),
            intervals: report.intervals(&resampling)?,
            comparison: compared.transpose()?,
            report,
        })
    }
}

/// The table of the scores of all checkpoints on a dataset.
fn table(scores: &[Scores], dataset: &Dataset) -> String {
    let percent = |value: f64| format!("{:.2} %", 100.0 * value);
    let with_range = |found: &Interval| {
        let [value, low, high] = [found.value, found.low, found.high].map(percent);
        format!("{value} ({low} to {high})")
    };
    let row = |name: &str, [precision, rank, p_value]: [&str; 3]| {
        let row = format!("  {precision:<32} {rank:<32} {p_value:>7}  {name}");
        format!("{}\n", row.trim_end())
    };
    let mut text = row("checkpoint", ["mAP", "Rank-1", "p-value"]);
    for scores in scores.iter().filter(|scores| scores.data == dataset.path) {
        let intervals = &scores.intervals;
        let precision = with_range(&intervals.mean_average_precision);
        let rank = with_range(&intervals.rank_1);
        text.push_str(&row(&scores.checkpoint, [&precision, &rank, ""]));
        if let Some(comparison) = &scores.comparison {
            let rank = comparison.rank_1_difference.as_ref();
            let values = [
                with_range(&comparison.difference),
                rank.map(with_range).unwrap_or_default(),
                format!("{:.3}", comparison.p_value),
            ];
            text.push_str(&row(
                "minus the first",
                values.each_ref().map(String::as_str),
            ));
        }
    }
    text
}

/// The page and the JSON of the hardest examples of all checkpoints and datasets.
struct HardExamples {
    /// The number of queries and of triplets; `None` if they were not asked for.
    count: Option<usize>,
    page: Page,
    lists: Vec<Value>,
}

impl HardExamples {
    fn new(arguments: &Arguments) -> Self {
        Self {
            count: arguments.hard_examples.or(arguments.smoke.then_some(2)),
            page: Page::new("Hard examples"),
            lists: Vec::new(),
        }
    }

    fn add(
        &mut self,
        embedder: &Embedder,
        evaluated: &Evaluated<'_>,
        [checkpoint, data]: [&Path; 2],
    ) -> Result<(), Box<dyn Error>> {
        let Some(count) = self.count else {
            return Ok(());
        };
        let (queries, triplets) = evaluated.hardest(embedder, count)?;
        let (splits, train) = (evaluated.splits, &evaluated.splits.train);
        let title = format!("{} on {}", checkpoint.display(), data.display());
        self.page = std::mem::replace(&mut self.page, Page::new(""))
            .with_heading(&title)
            .with_text("The queries with the lowest average precision:")
            .with_hard_queries(splits, &queries)?
            .with_text(
                "The training images nearest to another identity, of each identity at most one:",
            )
            .with_hard_triplets(train, &triplets)?;
        let queries = queries.iter().map(|hard| query_json(splits, hard));
        let triplets = triplets.iter().map(|triplet| triplet_json(train, triplet));
        self.lists.push(json!({
            "checkpoint": checkpoint.display().to_string(),
            "data": data.display().to_string(),
            "queries": queries.collect::<Vec<_>>(),
            "triplets": triplets.collect::<Vec<_>>(),
        }));
        Ok(())
    }

    fn save(&self, arguments: &Arguments) -> Result<(), Box<dyn Error>> {
        if self.count.is_none() {
            return Ok(());
        }
        let file = arguments.picture.with_file_name("hard-examples.html");
        self.page.save(&file)?;
        let json = serde_json::to_string_pretty(&self.lists)?;
        fs::write(file.with_extension("json"), json)?;
        eprintln!("wrote {}", file.display());
        Ok(())
    }
}

fn query_json(splits: &Splits, hard: &HardQuery) -> Value {
    let image = |entry: &RankedEntry| {
        let sample = &splits.gallery[entry.gallery];
        json!({
            "path": sample.path.display().to_string(),
            "identity": sample.identity,
            "distance": entry.distance,
        })
    };
    json!({
        "path": splits.query[hard.result.query].path.display().to_string(),
        "identity": hard.result.identity,
        "average_precision": hard.result.average_precision,
        "rank_of_first_match": hard.result.first_match,
        "wrong": hard.wrong.iter().map(image).collect::<Vec<_>>(),
        "first_match": image(&hard.first_match),
    })
}

fn triplet_json(train: &[Sample], triplet: &HardTriplet) -> Value {
    let path = |image: usize| train[image].path.display().to_string();
    json!({
        "anchor": path(triplet.anchor),
        "positive": path(triplet.positive),
        "negative": path(triplet.negative),
        "positive_distance": triplet.positive_distance,
        "negative_distance": triplet.negative_distance,
    })
}

/// Trains two tiny models on synthetic images, so that the example needs no input. Returns the folders of the
/// runs and of the datasets.
fn train_tiny_models(device: &Device) -> Result<(Vec<PathBuf>, Vec<PathBuf>), Box<dyn Error>> {
    let out = PathBuf::from("target/evaluate_checkpoint");
    let data = ["people", "others"].map(|name| out.join(name));
    let drawn = SyntheticConfig::new()
        .with_train_identities(8)
        .with_test_identities(8);
    drawn.write(&data[0])?;
    // Other people in front of other cameras, whose light differs more.
    let others = drawn.with_seed(Seed::new(1)).with_difficulty(0.8);
    others.write(&data[1])?;

    let people = dataset::load(&data[0])?;
    let both = Splits::merge([&people, &dataset::load(&data[1])?])?
        .with_query(people.query.clone())
        .with_gallery(people.gallery.clone());
    let runs = ["run", "run-on-both"].map(|name| out.join(name));
    for (run, splits) in runs.iter().zip([&people, &both]) {
        let backbone = ResNetConfig::resnet18().with_width(4).with_last_stride(1);
        let head = BnNeckConfig::new();
        let network = BagOfTricksConfig { backbone, head };
        let mut recipe = Recipe::strong_baseline("tiny", InputSize::new(64, 32), network);
        (recipe.epochs, recipe.sampling.identities) = (1, 8);
        recipe.sampling.balanced_sources = !splits.sources.is_empty();
        Trainer::new(&recipe, splits, LoaderConfig::default(), device)?
            .with_checkpoints(Checkpoints::new(run))
            .resume()?
            .run(&mut ())?;
    }
    Ok((runs.to_vec(), data.to_vec()))
}
