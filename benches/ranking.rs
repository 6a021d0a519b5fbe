//! Evaluation and re-ranking at the size of a real dataset: seconds and peak memory.
//!
//! Prints one line of JSON in the same format as `benches/peer/ranking.py`, which measures FastReID. The
//! defaults are the image counts of Market-1501 and the embedding size of a ResNet-50:
//!
//! ```sh
//! cargo bench --bench ranking -- --mode evaluate
//! cargo bench --bench ranking -- --mode rerank
//! cargo bench --bench ranking -- --mode rerank --queries 11659 --gallery 82161
//! cargo bench --bench ranking -- --grow growth.svg
//! ```
//!
//! `--grow` draws seconds and memory against the gallery size, with 1,000 queries and 512 dimensions. Each
//! size runs in a separate process.

#![expect(clippy::print_stdout, reason = "the results are printed")]

use std::{env, fs, path::PathBuf, process::Command, time::Instant};

use clap::{Parser, ValueEnum};
use rand::RngExt;
use rayon::prelude::*;
use reid::{
    eval::{RerankConfig, Reranked},
    prelude::*,
    vis::{LineChart, Series},
};
use serde_json::{Value, json};

#[derive(Parser)]
struct Arguments {
    /// Distances and all metrics, or the same with re-ranking.
    #[arg(long, value_enum, default_value = "evaluate")]
    mode: Mode,
    /// Number of query images.
    #[arg(long, default_value_t = 3368)]
    queries: usize,
    /// Number of gallery images.
    #[arg(long, default_value_t = 15_913)]
    gallery: usize,
    /// Number of dimensions of an embedding.
    #[arg(long, default_value_t = 2048)]
    dimensions: usize,
    /// Number of threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Draws seconds and memory against the gallery size to this SVG file.
    #[arg(long)]
    grow: Option<PathBuf>,
    /// Uses a tiny size, to test that the benchmark runs.
    #[arg(long)]
    test: bool,
    /// Passed by `cargo bench`; has no effect.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Mode {
    Evaluate,
    Rerank,
}

/// Embeddings of 750 identities and six cameras: the centre of the identity plus uniform noise.
fn embeddings(side: &str, images: usize, dimensions: usize) -> Embeddings {
    let seed = Seed::new(1);
    let mut values = vec![0.0_f32; images * dimensions];
    let rows = values.par_chunks_mut(dimensions).enumerate();
    rows.for_each(|(image, row)| {
        let mut of_identity = seed.named("identity").at(image as u64 % 750).stream();
        let mut of_image = seed.named(side).at(image as u64).stream();
        for value in row {
            let centre: f32 = of_identity.random_range(-1.0..1.0);
            *value = centre + of_image.random_range(-2.0..2.0);
        }
    });
    let number = |image: usize, count: usize| i64::try_from(image % count).expect("small");
    let identities = (0..images).map(|image| Identity::new(1 + number(image, 750)));
    let mut stream = seed.named(side).named("cameras").stream();
    let cameras = (0..images).map(|_| Camera::new(stream.random_range(1..7)));
    Embeddings::new(values, dimensions, identities.collect())
        .and_then(|embeddings| embeddings.with_cameras(cameras.collect()))
        .expect("finite embeddings with one camera each")
}

fn main() {
    let mut arguments = Arguments::parse();
    if arguments.test {
        (arguments.queries, arguments.gallery, arguments.dimensions) = (20, 200, 16);
    }
    if let Some(file) = &arguments.grow {
        grow(file, arguments.threads);
        return;
    }
    let threads = rayon::ThreadPoolBuilder::new().num_threads(arguments.threads);
    threads.build_global().expect("no thread pool before");
    let side = |name, images| embeddings(name, images, arguments.dimensions);
    let query = side("query", arguments.queries);
    let gallery = side("gallery", arguments.gallery);
    let config = EvaluationConfig::default();

    let start = Instant::now();
    let report = match arguments.mode {
        Mode::Evaluate => evaluate(&query, &gallery, &config),
        Mode::Rerank => Reranked::new(&query, &gallery, &RerankConfig::default())
            .and_then(|reranked| reranked.evaluate(query.labels(), gallery.labels(), &config)),
    };
    let seconds = start.elapsed().as_secs_f64();
    let report = report.expect("queries with matches");
    let line = json!({
        "system": "reid",
        "version": env!("CARGO_PKG_VERSION"),
        "mode": if arguments.mode == Mode::Rerank { "rerank" } else { "evaluate" },
        "queries": arguments.queries,
        "gallery": arguments.gallery,
        "dimensions": arguments.dimensions,
        "threads": arguments.threads,
        "seconds": seconds,
        "map": report.mean_average_precision,
        "peak_memory_mb": peak_memory(),
    });
    println!("{line}");
}

/// Gallery sizes of both modes. They are smaller for re-ranking, which compares all pairs of images.
const GROWING: [(&str, &[usize]); 2] = [
    ("evaluate", &[10_000, 31_623, 100_000, 316_228, 1_000_000]),
    ("rerank", &[1_000, 3_162, 10_000, 31_623]),
];

fn grow(file: &PathBuf, threads: usize) {
    let mut chart = LineChart::new("1,000 queries, 512 dimensions")
        .with_axes("gallery images, as a power of ten", "seconds, megabytes")
        .with_logarithmic_y();
    for (mode, galleries) in GROWING {
        let lines = galleries.iter().map(|gallery| {
            let line = one(mode, *gallery, threads);
            println!("{line}");
            (*gallery as f64, line)
        });
        let lines: Vec<(f64, Value)> = lines.collect();
        for (name, key) in [("seconds", "seconds"), ("megabytes", "peak_memory_mb")] {
            let points = lines.iter().map(|(gallery, line)| {
                let value = line[key].as_f64().unwrap_or(f64::NAN);
                (gallery.log10(), value)
            });
            let points: Vec<(f64, f64)> = points.collect();
            chart = chart.with_series(Series::new(format!("{mode}, {name}"), points));
        }
    }
    chart.save(file).expect("a writable file");
}

/// Runs one size in a separate process and returns its report.
fn one(mode: &str, gallery: usize, threads: usize) -> Value {
    let program = env::current_exe().expect("the path of this program");
    let mut run = Command::new(program);
    run.args(["--mode", mode, "--queries", "1000", "--dimensions", "512"]);
    run.args(["--gallery", &gallery.to_string()]);
    run.args(["--threads", &threads.to_string()]);
    let run = run.output().expect("a process of this program");
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    serde_json::from_slice(&run.stdout).expect("a line of JSON")
}

/// The peak memory of this process in MB; `None` without `/proc`.
fn peak_memory() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes / 1024.0)
}
