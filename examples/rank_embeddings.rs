//! How good are embeddings from anywhere: mAP, mINP, the CMC curve, thresholds, and where they fail.
//!
//! Teaches that evaluation needs no network: one vector per image with labels is enough. Write
//! them from any framework as safetensors, as an `.npz` archive (`numpy.savez`), or as a folder of `.npy`
//! files, with `f32` features and `i64` labels:
//!
//! ```text
//! query.features [q, d]   query.ids [q]     query.cameras [q]     query.images [q]
//! gallery.features [g, d] gallery.ids [g]   gallery.cameras [g]   gallery.images [g]
//! ```
//!
//! `reid::eval::files` says what else a file can hold.
//!
//! Cameras may be missing with `--no-cameras`; images are needed only there, and only if the
//! queries are in the gallery too: the same number on both sides is the same image. Identity -2
//! is unknown, -1 junk, 0 a distractor.
//!
//! ```console
//! $ cargo run --release --example rank_embeddings
//! $ cargo run --release --example rank_embeddings -- --file embeddings.npz --report pages
//! $ cargo run --release --example rank_embeddings -- --file embeddings.safetensors \
//!       --metric euclidean --ap at-50 --json > report.json
//! $ cargo run --release --example rank_embeddings -- --file test.npz --rerank 20,6,0.3 --expand 5,3
//! $ cargo run --release --example rank_embeddings -- --file test.npz --validation val.npz \
//!       --threshold-at-far 0.001 --open-set --compare other.npz
//! ```
//!
//! Without a file it ranks a small set that it draws itself, in less than a second; 3,368 queries
//! against 15,913 images of 2,048 numbers, as in Market-1501, take some seconds on 2 cores.
#![expect(clippy::print_stderr, reason = "a program talks to its user")]

use std::{
    error::Error,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use rand::RngExt;
use reid::core::{Camera, Identity, InputSize, Seed};
use reid::eval::{
    AveragePrecision, CameraPair, Comparison, Distances, Embeddings, EvaluationConfig, Expansion,
    GroupScores, Interval, Intervals, Metric, OpenSet, OpenSetConfig, Protocol, Rates, Report,
    RerankConfig, Reranked, Resampling, RetrievalTask, Threshold, Verification, camera_pairs,
    evaluate, files::QueryAndGallery, ranked_list,
};
use reid::vis::{LineChart, Page, RankedFigure, RankedRow, RankedTile, Series, open_picture};
use serde::Serialize;

/// How good are embeddings from anywhere.
#[derive(Debug, Parser)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
struct Arguments {
    /// Embeddings with labels: `.safetensors`, `.npz` or a folder of `.npy`; without it, a small set is
    /// drawn.
    #[arg(long)]
    file: Option<PathBuf>,
    /// How far apart two embeddings are: euclidean or cosine.
    #[arg(long, default_value_t)]
    metric: Metric,
    /// Which average precision: non-interpolated, trapezoid, or at-K such as at-50.
    #[arg(long, default_value_t)]
    ap: AveragePrecision,
    /// Take out only the query's own image, not all that its camera took of the same identity.
    #[arg(long)]
    no_cameras: bool,
    /// Move queries towards their nearest gallery images first: how many, and how much nearness counts,
    /// such as 5,3.
    #[arg(long, value_parser = expansion)]
    expand: Option<Expansion>,
    /// Re-rank by k-reciprocal neighbours (Zhong et al. 2017): k1, k2 and lambda, such as 20,6,0.3.
    #[arg(long, value_parser = rerank)]
    rerank: Option<RerankConfig>,
    /// Find the distance up to which two images are the same at so low a false accept rate, such as 0.001.
    #[arg(long, value_name = "RATE")]
    threshold_at_far: Option<f64>,
    /// Embeddings to find the threshold on, so that `--file` measures it; the same file if absent.
    #[arg(long, requires = "threshold_at_far")]
    validation: Option<PathBuf>,
    /// Identify where a share of the identities is taken out of the gallery.
    #[arg(long, value_name = "SHARE", num_args = 0..=1, default_missing_value = "0.5")]
    open_set: Option<f64>,
    /// Other embeddings of the same images, to compare with.
    #[arg(long, value_name = "OTHER")]
    compare: Option<PathBuf>,
    /// Write a page with curves, breakdowns and the hardest queries to this folder.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// The pictures of the queries for the page, one path per line.
    #[arg(
        long,
        value_name = "LIST",
        requires = "gallery_pictures",
        requires = "report"
    )]
    query_pictures: Option<PathBuf>,
    /// The pictures of the gallery.
    #[arg(long, value_name = "LIST", requires = "query_pictures")]
    gallery_pictures: Option<PathBuf>,
    /// Print everything, with the result of each query, as JSON.
    #[arg(long)]
    json: bool,
    /// Rank the small set: the same as no file.
    #[arg(long, conflicts_with = "file")]
    smoke: bool,
}

/// The numbers of re-ranking.
fn rerank(text: &str) -> Result<RerankConfig, String> {
    let mut parts = text.split(',');
    let mut numbers = || {
        let k1 = parts.next()?.trim().parse().ok().filter(|&k1| k1 > 0)?;
        let k2 = parts.next()?.trim().parse().ok().filter(|&k2| k2 > 0)?;
        let lambda = parts.next()?.trim().parse().ok()?;
        let whole = (0.0..=1.0).contains(&lambda) && parts.next().is_none();
        whole.then_some((k1, k2, lambda))
    };
    let (k1, k2, lambda) = numbers().ok_or_else(|| {
        "expected two counts of at least 1 and a share from 0 to 1, such as 20,6,0.3".to_owned()
    })?;
    Ok(RerankConfig::default().with_parameters(k1, k2, lambda))
}

/// The numbers of query expansion.
fn expansion(text: &str) -> Result<Expansion, String> {
    let numbers = text.split_once(',').and_then(|(neighbours, alpha)| {
        let neighbours = neighbours.trim().parse().ok().filter(|&count| count > 0)?;
        let alpha = alpha.trim().parse().ok().filter(|alpha| *alpha >= 0.0)?;
        Some(Expansion::new(neighbours, alpha))
    });
    numbers.ok_or_else(|| {
        "expected a count of at least 1 and an exponent of 0 or more, such as 5,3".to_owned()
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

/// Everything that was asked for.
#[derive(Serialize)]
struct Results {
    report: Report,
    intervals: Intervals,
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold: Option<Threshold>,
    /// What the threshold does on the file, where it was found on another.
    #[serde(skip_serializing_if = "Option::is_none")]
    rates: Option<Rates>,
    /// False alarm rate, and share of queries that are found.
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
    let QueryAndGallery { query, gallery } = match &arguments.file {
        Some(path) => QueryAndGallery::load(path)?,
        None => draw(Seed::new(1))?,
    };
    let query = match &arguments.expand {
        Some(expansion) => expansion.expand_queries(&query, &gallery)?,
        None => query,
    };
    let sides = [&query, &gallery];
    let results = results(arguments, sides, &config).map_err(|error| match &arguments.file {
        Some(path) => format!("{}: {error}", path.display()),
        None => error.to_string(),
    })?;
    if let Some(folder) = &arguments.report {
        let page = page(arguments, sides, &config, &results)?;
        let file = folder.join("index.html");
        page.save(&file)?;
        eprintln!("wrote {}", file.display());
    }
    let mut output = io::stdout().lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut output, &results)?;
        writeln!(output)?;
    } else {
        write!(output, "{}", text(&results))?;
    }
    Ok(())
}

fn results(
    arguments: &Arguments,
    [query, gallery]: [&Embeddings; 2],
    config: &EvaluationConfig,
) -> Result<Results, Box<dyn Error>> {
    let resampling = Resampling::default();
    let report = ranked(query, gallery, config, arguments)?;
    let distances = Distances::between(query, gallery, config.metric)?;
    let task = task(&distances, [query, gallery], config);
    let (mut threshold, mut rates) = (None, None);
    if let Some(wanted) = arguments.threshold_at_far {
        let found = match &arguments.validation {
            None => Threshold::calibrate(&task, wanted, &resampling)?,
            Some(path) => {
                let QueryAndGallery { query, gallery } = QueryAndGallery::load(path)?;
                let distances = Distances::between(&query, &gallery, config.metric)?;
                let validation = self::task(&distances, [&query, &gallery], config);
                let found = Threshold::calibrate(&validation, wanted, &resampling)?;
                rates = Some(found.rates_on(&task, &resampling)?);
                found
            }
        };
        threshold = Some(found);
    }
    let open_set = arguments.open_set.map(|held_out| {
        let config = OpenSetConfig::default().with_held_out(held_out);
        let open = OpenSet::from_task(&task, &config)?;
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

/// The report, re-ranked if asked.
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

/// Rows of what was found: name, value, interval.
fn rows(results: &Results) -> Vec<[String; 3]> {
    let row = |name: &str, value: String, interval: String| [name.to_owned(), value, interval];
    let with = |name: &str, of: &Interval| row(name, percent(of.value), range(of));
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
        rows.push(row("same up to a distance of", distance, String::new()));
        let rates = results.rates.as_ref().unwrap_or(&threshold.rates);
        rows.push(with("false accepts there", &rates.false_accepts));
        rows.push(with("true accepts there", &rates.true_accepts));
    }
    for [alarms, found] in results.open_set.iter().flatten() {
        let name = format!("found at {} false alarms", percent(*alarms));
        rows.push(row(&name, percent(*found), String::new()));
    }
    if let Some(comparison) = &results.comparison {
        rows.push(with("mAP less the other's", &comparison.difference));
        let p_value = format!("{:.4}", comparison.p_value);
        rows.push(row("by chance", p_value, String::new()));
        let [better, worse] = [comparison.better, comparison.worse];
        let counts = format!("{better}, {worse}, {}", comparison.equal);
        rows.push(row("queries better, worse, equal", counts, String::new()));
    }
    rows
}

fn text(results: &Results) -> String {
    let report = &results.report;
    let mut text = format!(
        "{} queries, {} with a match, gallery of {}; intervals of 95 %\n",
        report.queries, report.matched_queries, report.gallery
    );
    for [name, value, interval] in rows(results) {
        text.push_str(format!("  {name:30} {value:>10}   {interval}").trim_end());
        text.push('\n');
    }
    text
}

/// The page: numbers, curves, where it fails.
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
        || "a small set".to_owned(),
        |file| file.display().to_string(),
    );
    let page = Page::new(format!("Embeddings: {title}"))
        .with_text(&format!(
            "{} queries, {} with a match, against {} gallery images; {} distance, {} protocol, \
             {} average precision. Intervals of 95 % over identities drawn anew.",
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
        .with_heading("Same or different")
        .with_chart(&roc(&Verification::from_task(&task)?));
    let page = breakdown(page, &task, config, report)?;
    match (&arguments.query_pictures, &arguments.gallery_pictures) {
        (Some(queries), Some(images)) => {
            let pictures = [paths(queries, query.len())?, paths(images, gallery.len())?];
            let picture = hardest(query, gallery, config, report, &pictures)?;
            let legend = "The hardest queries and what was found for them, nearest first.";
            Ok(page.with_picture(legend, &picture)?)
        }
        _ => Ok(page),
    }
}

/// Where it fails.
fn breakdown(
    page: Page,
    task: &RetrievalTask<'_>,
    config: &EvaluationConfig,
    report: &Report,
) -> Result<Page, reid::eval::Error> {
    let page = match task.query.cameras().and(task.gallery.cameras()) {
        None => page,
        Some(_) => page.with_heading("From camera to camera").with_table(
            &["from", "to", "queries", "Rank-1", "mAP"],
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
                "first right answer at rank",
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
        .with_series(Series::new("right answer among the first", points))
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

/// One path per line, as many as there are images.
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

/// The hardest queries with what was found for them.
fn hardest(
    query: &Embeddings,
    gallery: &Embeddings,
    config: &EvaluationConfig,
    report: &Report,
    [queries, images]: &[Vec<PathBuf>; 2],
) -> Result<reid::vis::RgbImage, Box<dyn Error>> {
    let row = |at: usize| -> Result<RankedRow, Box<dyn Error>> {
        let list = ranked_list(query, gallery, config, at, 10)?;
        let tiles = list.entries.iter().map(|entry| {
            Ok(RankedTile {
                picture: open_picture(&images[entry.gallery])?,
                distance: entry.distance,
                relevance: entry.relevance,
            })
        });
        Ok(RankedRow {
            query: open_picture(&queries[at])?,
            found: tiles.collect::<Result<_, reid::vis::Error>>()?,
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

/// A small set: 40 identities in front of 4 cameras, with distractors and junk in the gallery.
///
/// An embedding is where its identity is, moved by its camera and by chance.
fn draw(seed: Seed) -> Result<QueryAndGallery, reid::eval::Error> {
    const DIMENSIONS: usize = 16;
    const IDENTITIES: i64 = 40;
    const CAMERAS: u32 = 4;
    let point = |name: &str, place: u64| -> Vec<f32> {
        let mut stream = seed.named(name).at(place).stream();
        let values = (0..DIMENSIONS).map(|_| stream.random_range(-1.0..1.0));
        values.collect()
    };
    let embedding = |image: u64, (identity, camera): (i64, u32)| {
        let place = match identity {
            1.. => point("identity", identity.unsigned_abs()),
            _ => point("somewhere", image), // distractors and junk have nothing in common
        };
        let moved = point("camera", u64::from(camera));
        let p_value = point("image", image);
        let sums = place.into_iter().zip(moved).zip(p_value);
        sums.map(|((place, moved), p_value)| place + 0.5 * moved + 0.6 * p_value)
            .collect::<Vec<f32>>()
    };
    let side = |first: u64, labels: &[(i64, u32)]| {
        let images = (first..).zip(labels.iter().copied());
        let values = images.flat_map(|(image, label)| embedding(image, label));
        let identities = labels.iter().map(|label| Identity::new(label.0)).collect();
        let cameras = labels.iter().map(|label| Camera::new(label.1)).collect();
        Embeddings::new(values.collect(), DIMENSIONS, identities)?.with_cameras(cameras)
    };

    let filmed = |identity: i64| (1..=CAMERAS).map(move |camera| (identity, camera));
    let everybody: Vec<(i64, u32)> = (1..=IDENTITIES).flat_map(filmed).collect();
    let others = [0, Identity::JUNK.label()].map(|nobody| filmed(nobody).cycle().take(30));
    let gallery = everybody
        .iter()
        .copied()
        .chain(others.into_iter().flatten());
    let gallery: Vec<(i64, u32)> = gallery.collect();
    // Every identity is searched for from its first two cameras, with pictures of its own.
    let query: Vec<(i64, u32)> = everybody.into_iter().filter(|it| it.1 <= 2).collect();
    Ok(QueryAndGallery {
        query: side(0, &query)?,
        gallery: side(1_000, &gallery)?,
    })
}
