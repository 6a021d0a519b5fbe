//! Evaluates embeddings from any framework: mAP, mINP, the CMC curve, verification thresholds, re-ranking,
//! open-set identification, and a comparison of two models.
//!
//! No network is needed, only one vector and its labels per image. Without a file, the example evaluates a
//! small synthetic set of embeddings, in less than a second:
//!
//! ```sh
//! cargo run --release --example rank_embeddings
//! ```
//!
//! With your own embeddings:
//!
//! ```sh
//! cargo run --release --example rank_embeddings -- --file embeddings.npz --report pages
//! cargo run --release --example rank_embeddings -- --file embeddings.safetensors \
//!     --metric euclidean --ap at-50 --json > report.json
//! cargo run --release --example rank_embeddings -- --file test.npz --rerank 20,6,0.3 --expand 5,3
//! cargo run --release --example rank_embeddings -- --file test.npz --validation val.npz \
//!     --threshold-at-far 0.001 --open-set --compare other.npz
//! ```
//!
//! A gallery that does not fit into memory comes in shards, as `embed_folder --shard` writes them. `--file` is
//! then their folder: the queries are read into memory, and the gallery is read block by block. The results are
//! the same. With `--expand` or `--report`, the gallery is read into memory too. Re-ranking holds 256 MiB of the
//! gallery at a time, besides lists whose size does not depend on the dimensions.
//!
//! ```sh
//! cargo run --release --example rank_embeddings -- --file shards --threshold-at-far 0.001 --open-set
//! cargo run --release --example rank_embeddings -- --file shards --rerank 20,6,0.3
//! ```
//!
//! It prints a table of scores with 95 % confidence intervals, or with `--json` everything as JSON. With
//! `--report DIR` it also writes `DIR/index.html`, a page with curves, breakdowns and the hardest queries.
//!
//! The file is safetensors, an `.npz` archive (`numpy.savez`), or a folder of `.npy` files, with `f32`
//! features and `i64` labels:
//!
//! ```text
//! query.features [q, d]   query.ids [q]     query.cameras [q]     query.images [q]
//! gallery.features [g, d] gallery.ids [g]   gallery.cameras [g]   gallery.images [g]
//! ```
//!
//! `q` and `g` are the numbers of query and gallery images, `d` is the dimension of the embeddings. Identity
//! -2 is unknown, -1 is junk, 0 is a distractor. With `--no-cameras`, `cameras` may be missing. `images` are
//! needed only then, and only if the gallery contains the queries: equal values in `query.images` and
//! `gallery.images` mean the same image. `reid::eval::files` documents the other arrays that a file may have.
//!
//! The size of Market-1501 (3,368 queries, 15,913 gallery images, 2,048 dimensions) takes seconds on two CPU
//! cores.
#![expect(clippy::print_stderr, reason = "prints results to the user")]

use std::{
    error::Error,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use rand::RngExt;
use reid::core::{Camera, Identity, InputSize, Seed, Split};
use reid::eval::{
    AveragePrecision, CameraPair, Comparison, Distances, Embeddings, EvaluationConfig, Expansion,
    GroupScores, Interval, Intervals, Metric, OpenSet, OpenSetConfig, Protocol, Rates, Report,
    RerankConfig, Reranked, Resampling, RetrievalTask, Threshold, Verification, camera_pairs,
    evaluate, evaluate_rows,
    files::{FileError, QueryAndGallery, shards::Shards},
    ranked_list,
};
use reid::vis::{LineChart, Page, RankedFigure, RankedRow, RankedTile, Series, open_picture};
use serde::Serialize;

/// Evaluates embeddings from any framework.
#[derive(Debug, Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each is a command-line flag")]
struct Arguments {
    /// The embeddings with labels: `.safetensors`, `.npz`, a folder of `.npy` files or a folder of shards.
    /// Default: a small synthetic set.
    #[arg(long)]
    file: Option<PathBuf>,
    /// The distance between embeddings: euclidean or cosine.
    #[arg(long, default_value_t)]
    metric: Metric,
    /// The average precision: non-interpolated, trapezoid, or at-K such as at-50.
    #[arg(long, default_value_t)]
    ap: AveragePrecision,
    /// Ignore only the query image itself in the gallery, not all images of its identity from its camera.
    #[arg(long)]
    no_cameras: bool,
    /// Expand each query with its nearest gallery images: the number of images and the exponent of their
    /// weights, such as 5,3.
    #[arg(long, value_parser = expansion)]
    expand: Option<Expansion>,
    /// Re-rank with k-reciprocal neighbours (Zhong et al. 2017): k1, k2 and lambda, such as 20,6,0.3.
    #[arg(long, value_parser = rerank)]
    rerank: Option<RerankConfig>,
    /// Calibrate the distance threshold for verification at this false accept rate, such as 0.001.
    #[arg(long, value_name = "RATE")]
    threshold_at_far: Option<f64>,
    /// The embeddings that the threshold is calibrated on; its rates are then measured on `--file`. Default:
    /// the same file.
    #[arg(long, requires = "threshold_at_far")]
    validation: Option<PathBuf>,
    /// Evaluate open-set identification, with this share of the identities removed from the gallery.
    #[arg(long, value_name = "SHARE", num_args = 0..=1, default_missing_value = "0.5")]
    open_set: Option<f64>,
    /// Embeddings of the same images from another model, to compare with.
    #[arg(long, value_name = "OTHER")]
    compare: Option<PathBuf>,
    /// Write a page with curves, breakdowns and the hardest queries to this folder.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// A text file with the paths of the query images, one per line, to draw them in the report.
    #[arg(
        long,
        value_name = "LIST",
        requires = "gallery_pictures",
        requires = "report"
    )]
    query_pictures: Option<PathBuf>,
    /// A text file with the paths of the gallery images, one per line.
    #[arg(long, value_name = "LIST", requires = "query_pictures")]
    gallery_pictures: Option<PathBuf>,
    /// Print all results as JSON, including those of each query.
    #[arg(long)]
    json: bool,
    /// Evaluate the synthetic set, as without `--file`.
    #[arg(long, conflicts_with = "file")]
    smoke: bool,
}

/// Parses the hyper-parameters of re-ranking, such as `20,6,0.3`.
fn rerank(text: &str) -> Result<RerankConfig, String> {
    let mut parts = text.split(',');
    let mut parsed = || {
        let k1 = parts.next()?.trim().parse().ok().filter(|&k1| k1 > 0)?;
        let k2 = parts.next()?.trim().parse().ok().filter(|&k2| k2 > 0)?;
        let lambda = parts.next()?.trim().parse().ok()?;
        let valid = (0.0..=1.0).contains(&lambda) && parts.next().is_none();
        valid.then_some((k1, k2, lambda))
    };
    let (k1, k2, lambda) = parsed().ok_or_else(|| {
        "expected k1 and k2 of at least 1 and lambda from 0 to 1, such as 20,6,0.3".to_owned()
    })?;
    Ok(RerankConfig::default().with_parameters(k1, k2, lambda))
}

/// Parses the hyper-parameters of query expansion, such as `5,3`.
fn expansion(text: &str) -> Result<Expansion, String> {
    let parsed = text.split_once(',').and_then(|(neighbours, alpha)| {
        let neighbours = neighbours.trim().parse().ok().filter(|&count| count > 0)?;
        let alpha = alpha.trim().parse().ok().filter(|alpha| *alpha >= 0.0)?;
        Some(Expansion::new(neighbours, alpha))
    });
    parsed.ok_or_else(|| {
        "expected a number of images of at least 1 and an exponent of at least 0, such as 5,3"
            .to_owned()
    })
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

/// The results of all requested evaluations.
#[derive(Serialize)]
struct Results {
    report: Report,
    intervals: Intervals,
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold: Option<Threshold>,
    /// The rates of the threshold on `--file`, if it was calibrated on `--validation`.
    #[serde(skip_serializing_if = "Option::is_none")]
    rates: Option<Rates>,
    /// Pairs of false alarm rate and detection and identification rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    open_set: Option<Vec<[f64; 2]>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<Comparison>,
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let protocol = if arguments.no_cameras {
        Protocol::NoCameras
    } else {
        Protocol::Market
    };
    let config = EvaluationConfig::default()
        .with_metric(arguments.metric)
        .with_protocol(protocol)
        .with_average_precision(arguments.ap);
    let results = match &arguments.file {
        Some(folder) if streams(arguments) && Shards::are_in(folder)? => {
            from_shards(arguments, folder, &config)
        }
        _ => in_memory(arguments, &config),
    };
    let results = results.map_err(|error| match &arguments.file {
        // An error about a file has its name already.
        Some(path) if !error.is::<FileError>() => format!("{}: {error}", path.display()),
        _ => error.to_string(),
    })?;
    let mut output = io::stdout().lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut output, &results)?;
        writeln!(output)?;
    } else {
        write!(output, "{}", text(&results))?;
    }
    Ok(())
}

/// Whether everything that is requested can be computed without the gallery in memory.
fn streams(arguments: &Arguments) -> bool {
    arguments.expand.is_none() && arguments.report.is_none()
}

/// Evaluates a gallery in shards, which is read block by block.
fn from_shards(
    arguments: &Arguments,
    folder: &Path,
    config: &EvaluationConfig,
) -> Result<Results, Box<dyn Error>> {
    let shards = Shards::open(folder)?;
    let query = shards.load(Split::Query)?;
    let labels = shards.labels(Split::Gallery)?;
    let distances = shards.distances(&query, config.metric)?;
    let report = match &arguments.rerank {
        None => evaluate_rows(&distances, query.labels(), &labels, config)?,
        Some(rerank) => {
            let rerank = rerank.clone().with_metric(config.metric);
            let reranked = shards.reranked(&query, &rerank)?;
            reranked.evaluate(query.labels(), &labels, config)?
        }
    };
    let task = RetrievalTask::new(&distances, query.labels(), &labels);
    let task = task.with_protocol(&config.protocol);
    results(arguments, report, &task, config)
}

/// Evaluates embeddings in memory, and writes the page if it is requested.
fn in_memory(arguments: &Arguments, config: &EvaluationConfig) -> Result<Results, Box<dyn Error>> {
    let QueryAndGallery { query, gallery } = match &arguments.file {
        Some(path) => QueryAndGallery::load(path)?,
        None => synthetic_set(Seed::new(1))?,
    };
    let query = match &arguments.expand {
        Some(expansion) => expansion.expand_queries(&query, &gallery)?,
        None => query,
    };
    let sides = [&query, &gallery];
    let report = ranked(&query, &gallery, config, arguments)?;
    let distances = Distances::between(&query, &gallery, config.metric)?;
    let results = results(arguments, report, &task(&distances, sides, config), config)?;
    if let Some(folder) = &arguments.report {
        let page = page(arguments, sides, config, &results)?;
        let file = folder.join("index.html");
        page.save(&file)?;
        eprintln!("wrote {}", file.display());
    }
    Ok(results)
}

/// Computes everything that is requested besides the report.
fn results(
    arguments: &Arguments,
    report: Report,
    task: &RetrievalTask<'_>,
    config: &EvaluationConfig,
) -> Result<Results, Box<dyn Error>> {
    let resampling = Resampling::default();
    let (mut threshold, mut rates) = (None, None);
    if let Some(target) = arguments.threshold_at_far {
        let found = match &arguments.validation {
            None => Threshold::calibrate(task, target, &resampling)?,
            Some(path) => {
                let QueryAndGallery { query, gallery } = QueryAndGallery::load(path)?;
                let distances = Distances::between(&query, &gallery, config.metric)?;
                let validation = self::task(&distances, [&query, &gallery], config);
                let found = Threshold::calibrate(&validation, target, &resampling)?;
                rates = Some(found.rates_on(task, &resampling)?);
                found
            }
        };
        threshold = Some(found);
    }
    let open_set = arguments.open_set.map(|held_out| {
        let config = OpenSetConfig::default().with_held_out(held_out);
        let open = OpenSet::from_task(task, &config)?;
        let rates = [0.0, 0.001, 0.01, 0.1, 1.0];
        Ok::<_, reid::eval::Error>(
            rates
                .map(|rate| [rate, open.detection_and_identification_rate(rate)])
                .to_vec(),
        )
    });
    let comparison = match &arguments.compare {
        None => None,
        Some(path) => {
            let QueryAndGallery { query, gallery } = QueryAndGallery::load(path)?;
            let other = ranked(&query, &gallery, config, arguments)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            Some(report.compared_with(&other, &resampling)?)
        }
    };
    Ok(Results {
        intervals: report.intervals(&resampling)?,
        report,
        threshold,
        rates,
        open_set: open_set.transpose()?,
        comparison,
    })
}

fn task<'a>(
    distances: &'a Distances<'_>,
    [query, gallery]: [&'a Embeddings; 2],
    config: &'a EvaluationConfig,
) -> RetrievalTask<'a> {
    RetrievalTask::new(distances, query.labels(), gallery.labels()).with_protocol(&config.protocol)
}

/// Evaluates the ranking, after re-ranking if `--rerank` is given.
fn ranked(
    query: &Embeddings,
    gallery: &Embeddings,
    config: &EvaluationConfig,
    arguments: &Arguments,
) -> Result<Report, reid::eval::Error> {
    let Some(rerank) = &arguments.rerank else {
        return evaluate(query, gallery, config);
    };
    let rerank = rerank.clone().with_metric(config.metric);
    let reranked = Reranked::new(query, gallery, &rerank)?;
    reranked.evaluate(query.labels(), gallery.labels(), config)
}

fn percent(value: f64) -> String {
    format!("{:.2} %", 100.0 * value)
}

fn range(interval: &Interval) -> String {
    format!("{} to {}", percent(interval.low), percent(interval.high))
}

/// The rows of the table of results: name, value, interval.
fn rows(results: &Results) -> Vec<[String; 3]> {
    let row = |name: &str, value: String, interval: String| [name.to_owned(), value, interval];
    let with = |name: &str, found: &Interval| row(name, percent(found.value), range(found));
    let mut rows = vec![
        with("mAP", &results.intervals.mean_average_precision),
        with("mINP", &results.intervals.mean_inverse_negative_penalty),
        with("Rank-1", &results.intervals.rank_1),
    ];
    for rank in [5, 10, 20] {
        let name = format!("Rank-{rank}");
        rows.push(row(
            &name,
            percent(results.report.rank(rank)),
            String::new(),
        ));
    }
    if let Some(threshold) = &results.threshold {
        let distance = format!("{:.5}", threshold.distance);
        rows.push(row("distance threshold", distance, String::new()));
        let rates = results.rates.as_ref().unwrap_or(&threshold.rates);
        rows.push(with("false accepts at threshold", &rates.false_accepts));
        rows.push(with("true accepts at threshold", &rates.true_accepts));
    }
    for [alarms, found] in results.open_set.iter().flatten() {
        let name = format!("identified at {} false alarms", percent(*alarms));
        rows.push(row(&name, percent(*found), String::new()));
    }
    if let Some(comparison) = &results.comparison {
        rows.push(with("mAP minus other mAP", &comparison.difference));
        let rank_1 = comparison.rank_1_difference.as_ref();
        rows.extend(rank_1.map(|difference| with("Rank-1 minus other Rank-1", difference)));
        let p_value = format!("{:.4}", comparison.p_value);
        rows.push(row("p-value of mAP", p_value, String::new()));
        let [better, worse] = [comparison.better, comparison.worse];
        let counts = format!("{better}, {worse}, {}", comparison.equal);
        rows.push(row("queries better, worse, equal", counts, String::new()));
    }
    rows
}

fn text(results: &Results) -> String {
    let report = &results.report;
    let mut text = format!(
        "{} queries, {} with a match; {} gallery images; 95 % confidence intervals\n",
        report.queries, report.matched_queries, report.gallery
    );
    for [name, value, interval] in rows(results) {
        text.push_str(format!("  {name:36} {value:>10}   {interval}").trim_end());
        text.push('\n');
    }
    text
}

/// Builds the HTML report: scores, curves and breakdowns.
fn page(
    arguments: &Arguments,
    [query, gallery]: [&Embeddings; 2],
    config: &EvaluationConfig,
    results: &Results,
) -> Result<Page, Box<dyn Error>> {
    let report = &results.report;
    let distances = Distances::between(query, gallery, config.metric)?;
    let task = task(&distances, [query, gallery], config);
    let title = arguments.file.as_deref().map_or_else(
        || "a small synthetic set".to_owned(),
        |file| file.display().to_string(),
    );
    let page = Page::new(format!("Embeddings: {title}"))
        .with_text(&format!(
            "{} queries, {} with a match; {} gallery images; {} distance, {} protocol, {} average precision. \
             95 % confidence intervals by bootstrap over identities.",
            report.queries,
            report.matched_queries,
            report.gallery,
            config.metric,
            config.protocol,
            config.average_precision
        ))
        .with_table(&["", "value", "interval"], rows(results))
        .with_heading("Ranking")
        .with_chart(&cmc(report))
        .with_heading("Verification")
        .with_chart(&roc(&Verification::from_task(&task)?));
    let page = breakdown(page, &task, config, report)?;
    match (&arguments.query_pictures, &arguments.gallery_pictures) {
        (Some(queries), Some(images)) => {
            let pictures = [paths(queries, query.len())?, paths(images, gallery.len())?];
            let picture = hardest(query, gallery, config, report, &pictures)?;
            let legend =
                "The hardest queries with their ten nearest gallery images, nearest first.";
            Ok(page.with_picture(legend, &picture)?)
        }
        _ => Ok(page),
    }
}

/// Adds the tables of camera pairs, hardest identities and hardest queries.
fn breakdown(
    page: Page,
    task: &RetrievalTask<'_>,
    config: &EvaluationConfig,
    report: &Report,
) -> Result<Page, reid::eval::Error> {
    let page = match task.query.cameras().and(task.gallery.cameras()) {
        None => page,
        Some(_) => page.with_heading("Pairs of cameras").with_table(
            &["query camera", "gallery camera", "queries", "Rank-1", "mAP"],
            camera_pairs(task, config)?.iter().map(camera_row),
        ),
    };
    let worst = report.by_identity(task.query);
    Ok(page
        .with_heading("The hardest identities")
        .with_table(
            &["identity", "queries", "Rank-1", "mAP"],
            worst.iter().take(20).map(|part| {
                let [queries, first, precision] = score_cells(&part.scores);
                [part.identity.to_string(), queries, first, precision]
            }),
        )
        .with_heading("The hardest queries")
        .with_table(
            &[
                "query",
                "identity",
                "rank of first match",
                "average precision",
            ],
            report.hardest(20).into_iter().map(|result| {
                [
                    result.query.to_string(),
                    task.query.identities()[result.query].to_string(),
                    result
                        .first_match
                        .map_or_else(String::new, |rank| rank.to_string()),
                    result.average_precision.map_or_else(String::new, percent),
                ]
            }),
        ))
}

fn score_cells(part: &GroupScores) -> [String; 3] {
    [
        part.queries.to_string(),
        percent(part.rank_1),
        percent(part.mean_average_precision),
    ]
}

fn camera_row(pair: &CameraPair) -> [String; 5] {
    let [queries, first, precision] = score_cells(&pair.scores);
    [
        pair.query.to_string(),
        pair.gallery.to_string(),
        queries,
        first,
        precision,
    ]
}

fn cmc(report: &Report) -> LineChart {
    let ranks = (1..).map(|rank: u32| f64::from(rank));
    let points = ranks.zip(report.cmc.iter().map(|rate| 100.0 * rate));
    LineChart::new("Cumulative matching characteristic")
        .with_axes("rank", "matching rate (%)")
        .with_series(Series::new("CMC", points))
}

fn roc(pairs: &Verification) -> LineChart {
    let points = pairs.roc(200).into_iter().map(|point| {
        (
            100.0 * point.false_accept_rate,
            100.0 * point.true_accept_rate,
        )
    });
    let name = format!("equal error rate {}", percent(pairs.equal_error_rate()));
    LineChart::new("Receiver operating characteristic")
        .with_axes("false accepts (%)", "true accepts (%)")
        .with_series(Series::new(name, points))
}

/// Reads a list of image paths, one per line, and checks their number.
fn paths(list: &Path, expected: usize) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let text = fs::read_to_string(list).map_err(|error| format!("{}: {error}", list.display()))?;
    let paths: Vec<PathBuf> = text.lines().map(PathBuf::from).collect();
    if paths.len() != expected {
        let found = paths.len();
        let list = list.display();
        return Err(
            format!("{list}: expected {expected} paths, one per line, found {found}").into(),
        );
    }
    Ok(paths)
}

/// Draws the hardest queries with their ten nearest gallery images.
fn hardest(
    query: &Embeddings,
    gallery: &Embeddings,
    config: &EvaluationConfig,
    report: &Report,
    [queries, images]: &[Vec<PathBuf>; 2],
) -> Result<reid::vis::RgbImage, Box<dyn Error>> {
    let row = |index: usize| -> Result<RankedRow, Box<dyn Error>> {
        let list = ranked_list(query, gallery, config, index, 10)?;
        let tiles = list.entries.iter().map(|entry| {
            let picture = open_picture(&images[entry.gallery])?;
            Ok(RankedTile::new(picture, entry.distance, entry.relevance))
        });
        Ok(RankedRow {
            query: open_picture(&queries[index])?,
            found: tiles.collect::<Result<_, reid::vis::Error>>()?,
            ..RankedRow::default()
        })
    };
    let rows: Vec<RankedRow> = report
        .hardest(8)
        .iter()
        .map(|result| row(result.query))
        .collect::<Result<_, _>>()?;
    let square = rows
        .first()
        .is_some_and(|row| row.query.height() < 3 * row.query.width() / 2);
    let tile = if square {
        InputSize::new(96, 96)
    } else {
        InputSize::new(128, 64)
    };
    Ok(RankedFigure::new().with_tile(tile).draw(&rows))
}

/// Generates a small set: 40 identities seen by 4 cameras, with distractors and junk in the gallery.
///
/// An embedding is the sum of a vector of its identity, a vector of its camera and noise of its image.
fn synthetic_set(seed: Seed) -> Result<QueryAndGallery, reid::eval::Error> {
    const DIMENSIONS: usize = 16;
    const IDENTITIES: i64 = 40;
    const CAMERAS: u32 = 4;
    let vector = |name: &str, index: u64| -> Vec<f32> {
        let mut stream = seed.named(name).at(index).stream();
        let values = (0..DIMENSIONS).map(|_| stream.random_range(-1.0..1.0));
        values.collect()
    };
    let embedding = |image: u64, (identity, camera): (i64, u32)| {
        let center = match identity {
            1.. => vector("identity", identity.unsigned_abs()),
            _ => vector("somewhere", image), // each distractor and junk image has its own vector
        };
        let shift = vector("camera", u64::from(camera));
        let noise = vector("image", image);
        let sums = center.into_iter().zip(shift).zip(noise);
        sums.map(|((center, shift), noise)| center + 0.5 * shift + 0.6 * noise)
            .collect::<Vec<f32>>()
    };
    let side = |first: u64, labels: &[(i64, u32)]| {
        let images = (first..).zip(labels.iter().copied());
        let values = images.flat_map(|(image, label)| embedding(image, label));
        let identities = labels.iter().map(|label| Identity::new(label.0)).collect();
        let cameras = labels.iter().map(|label| Camera::new(label.1)).collect();
        Embeddings::new(values.collect(), DIMENSIONS, identities)?.with_cameras(cameras)
    };

    let in_each_camera = |identity: i64| (1..=CAMERAS).map(move |camera| (identity, camera));
    let matched: Vec<(i64, u32)> = (1..=IDENTITIES).flat_map(in_each_camera).collect();
    let others =
        [0, Identity::JUNK.label()].map(|identity| in_each_camera(identity).cycle().take(30));
    let gallery = matched.iter().copied().chain(others.into_iter().flatten());
    let gallery: Vec<(i64, u32)> = gallery.collect();
    // The queries show every identity in cameras 1 and 2. They are other images than those of the gallery.
    let query: Vec<(i64, u32)> = matched.into_iter().filter(|it| it.1 <= 2).collect();
    Ok(QueryAndGallery {
        query: side(0, &query)?,
        gallery: side(1_000, &gallery)?,
    })
}
