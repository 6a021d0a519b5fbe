//! Compares engines with the exact search: what they miss, the latency of a query, the time to build and memory.
//!
//! ```sh
//! cd crates/reid-engines && cargo build --release --examples
//! target/release/examples/compare_engines
//! target/release/examples/compare_engines --engine usearch --entries 1000000
//! ```
//!
//! Each engine runs in a process of its own, and each measurement is a line of JSON:
//!
//! - `recall_at_1`, `recall_at_10`: the fraction of the exact 1 or 10 nearest entries that the engine finds
//! - `map_at_10_percent`: the mean average precision of the ten nearest entries, where matches are entries of the
//!   query's identity; `map_lost_percent` is that of the exact search minus that of the engine
//! - `p50_ms`, `p99_ms`: the median and the 99th percentile of a search of one query
//! - `build_seconds`: the enrolment with the index; `peak_memory_mb` is that of the process, with building
//!
//! Embeddings are drawn, four per identity: each is a linear map of the identity's factors plus noise.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use clap::Parser;
use rand::RngExt;
use reid_core::{Identity, Seed};
use reid_engines::{UsearchConfig, UsearchEngine};
use reid_eval::{
    Embeddings, Labels,
    gallery::{
        Gallery, GalleryConfig, GalleryEntry, GalleryFilter, ModelFingerprint, SearchEngine,
    },
};
use serde_json::json;

/// The number of gallery entries of each identity.
const IMAGES: usize = 4;
/// The number of nearest entries.
const NEAREST: usize = 10;
/// The number of embeddings that are drawn and enrolled together.
const TOGETHER: usize = 50_000;

#[derive(Clone, Parser)]
#[command(about = "Compares engines with the exact search")]
struct Arguments {
    /// The engine: exact or usearch. Default: both, each in its own process.
    #[arg(long)]
    engine: Option<String>,
    /// Number of entries.
    #[arg(long, default_value_t = 100_000)]
    entries: usize,
    /// Number of dimensions of an embedding.
    #[arg(long, default_value_t = 256)]
    dimensions: usize,
    /// Number of factors of an identity.
    #[arg(long, default_value_t = 32)]
    factors: usize,
    /// The range of the noise of an image relative to that of the factors of an identity.
    #[arg(long, default_value_t = 0.5)]
    noise: f32,
    /// Number of queries, each of one identity.
    #[arg(long, default_value_t = 1000)]
    queries: usize,
    /// Numbers of candidates of a search, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "64,256")]
    expansions: Vec<usize>,
    /// The file of the exact results, which the process of the exact search writes.
    #[arg(long, hide = true)]
    exact: Option<PathBuf>,
    /// Run for a second with tiny settings, to check that the example works.
    #[arg(long)]
    smoke: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = Arguments::parse();
    if arguments.smoke {
        (arguments.entries, arguments.dimensions, arguments.queries) = (3_000, 16, 50);
        arguments.factors = 8;
    }
    let engines = arguments.engine.clone();
    let engines = engines.map_or_else(|| ENGINES.map(str::to_owned).to_vec(), |one| vec![one]);
    match &arguments.exact {
        Some(exact) => measure(&arguments, &engines[0], exact),
        None => run_all(&arguments, &engines),
    }
}

/// The engines other than the exact search.
const ENGINES: [&str; 1] = ["usearch"];

/// Runs the exact search and then each engine, in processes of this program, so that each has its own peak memory.
fn run_all(arguments: &Arguments, engines: &[String]) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let exact = folder.path().join("exact.json");
    let first = "exact".to_owned();
    let others = engines.iter().filter(|engine| **engine != first);
    for engine in std::iter::once(&first).chain(others) {
        let expansions = arguments.expansions.iter().map(ToString::to_string);
        let mut run = Command::new(env::current_exe()?);
        run.args(["--engine", engine]).arg("--exact").arg(&exact);
        for (name, value) in [
            ("--entries", arguments.entries.to_string()),
            ("--dimensions", arguments.dimensions.to_string()),
            ("--factors", arguments.factors.to_string()),
            ("--noise", arguments.noise.to_string()),
            ("--queries", arguments.queries.to_string()),
            ("--expansions", expansions.collect::<Vec<_>>().join(",")),
        ] {
            run.args([name, &value]);
        }
        let status = run.status()?;
        if !status.success() {
            return Err(format!("{engine}: {status}").into());
        }
    }
    Ok(())
}

/// Builds an engine in this process and measures it.
fn measure(arguments: &Arguments, name: &str, exact: &Path) -> Result<(), Box<dyn Error>> {
    let draw = Draw::new(arguments);
    match name {
        "exact" => {
            let mut gallery = Gallery::new(model(), GalleryConfig::default());
            let build_seconds = enrol(&mut gallery, arguments, &draw)?;
            // The first search computes the codes of a byte per value that the others read.
            let queries = draw.queries(arguments);
            search(&gallery, &queries.select(&[0]))?;
            let (found, times) = search(&gallery, &queries)?;
            fs::write(exact, serde_json::to_vec(&found)?)?;
            let measured = Measured {
                system: concat!("reid ", env!("CARGO_PKG_VERSION")),
                setting: "exact",
                build_seconds,
                found: found.clone(),
                times,
            };
            measured.print(arguments, &found);
            Ok(())
        }
        "usearch" => {
            let mut engine = UsearchEngine::new(model(), UsearchConfig::default());
            let seconds = enrol(&mut engine, arguments, &draw)?;
            let set = UsearchEngine::set_expansion_search;
            with_expansions(
                arguments,
                ("USearch 2.26.6", seconds),
                &mut engine,
                set,
                exact,
            )
        }
        other => {
            let known = ENGINES.join(", ");
            Err(format!("expected an engine: exact, {known}; found `{other}`").into())
        }
    }
}

/// Measures an engine with each number of candidates.
fn with_expansions<E: SearchEngine>(
    arguments: &Arguments,
    (system, build_seconds): (&str, f64),
    engine: &mut E,
    set: fn(&mut E, usize),
    exact: &Path,
) -> Result<(), Box<dyn Error>> {
    let exact: Vec<Vec<usize>> = serde_json::from_slice(&fs::read(exact)?)?;
    let queries = Draw::new(arguments).queries(arguments);
    for &expansion in &arguments.expansions {
        set(engine, expansion);
        let (found, times) = search(engine, &queries)?;
        let measured = Measured {
            system,
            setting: &format!("expansion {expansion}"),
            build_seconds,
            found,
            times,
        };
        measured.print(arguments, &exact);
    }
    Ok(())
}

fn model() -> ModelFingerprint {
    ModelFingerprint::new("drawn")
}

/// Where embeddings are drawn from.
struct Draw {
    seed: Seed,
    noise: f32,
    /// The linear map, as one row of factors per dimension.
    map: Vec<Vec<f32>>,
}

impl Draw {
    fn new(arguments: &Arguments) -> Self {
        let seed = Seed::new(1);
        let mut stream = seed.named("map").stream();
        let mut row = |_| -> Vec<f32> {
            let factors = 0..arguments.factors;
            factors.map(|_| stream.random_range(-1.0..1.0)).collect()
        };
        Self {
            seed,
            noise: arguments.noise,
            map: (0..arguments.dimensions).map(&mut row).collect(),
        }
    }

    /// The embedding of an image of an identity.
    fn vector(&self, side: &str, identity: usize, image: usize) -> Vec<f32> {
        let mut of_identity = self.seed.named("identity").at(identity as u64).stream();
        let mut of_image = self.seed.named(side).at(image as u64).stream();
        let factor = |_: &f32| {
            let centre: f32 = of_identity.random_range(-1.0..1.0);
            let noise: f32 = of_image.random_range(-1.0..1.0);
            centre + self.noise * noise
        };
        let factors: Vec<f32> = self.map[0].iter().map(factor).collect();
        let value = |row: &Vec<f32>| -> f32 { row.iter().zip(&factors).map(|(a, b)| a * b).sum() };
        self.map.iter().map(value).collect()
    }

    /// One query of each of some identities, which are spread over all.
    fn queries(&self, arguments: &Arguments) -> Embeddings {
        let queries = (0..arguments.queries).map(|query| {
            let identity = query_identity(arguments, query);
            self.vector("query", identity, query)
        });
        let values: Vec<f32> = queries.flatten().collect();
        let labels = Labels::unknown(arguments.queries);
        Embeddings::from_parts(values, arguments.dimensions, labels).expect("finite values")
    }
}

/// The identity of a query, from 0.
fn query_identity(arguments: &Arguments, query: usize) -> usize {
    let identities = (arguments.entries / IMAGES).max(1);
    query * identities / arguments.queries % identities
}

/// Draws and enrols all entries, and returns the seconds of the enrolment.
fn enrol(
    engine: &mut dyn SearchEngine,
    arguments: &Arguments,
    draw: &Draw,
) -> Result<f64, Box<dyn Error>> {
    let mut seconds = 0.0;
    for first in (0..arguments.entries).step_by(TOGETHER) {
        let images = first..(first + TOGETHER).min(arguments.entries);
        let entry = |image: usize| Identity::new(1 + i64::try_from(image / IMAGES).expect("small"));
        let entries: Vec<_> = images.clone().map(entry).map(GalleryEntry::new).collect();
        let vectors = images.map(|image| draw.vector("gallery", image / IMAGES, image));
        let values: Vec<f32> = vectors.flatten().collect();
        let labels = Labels::unknown(entries.len());
        let embeddings = Embeddings::from_parts(values, arguments.dimensions, labels)?;
        let start = Instant::now();
        engine.enrol(&model(), &embeddings, &entries)?;
        seconds += start.elapsed().as_secs_f64();
    }
    Ok(seconds)
}

/// The entries that each search found, and its seconds.
type Searched = (Vec<Vec<usize>>, Vec<f64>);

/// Searches each query alone, and returns the entries that it found and the seconds of each search.
fn search(engine: &dyn SearchEngine, queries: &Embeddings) -> Result<Searched, Box<dyn Error>> {
    let (mut results, mut times) = (Vec::new(), Vec::new());
    for query in 0..queries.len() {
        let query = queries.select(&[query]);
        let start = Instant::now();
        let found = engine.nearest_entries(&model(), &query, &GalleryFilter::default(), NEAREST)?;
        times.push(start.elapsed().as_secs_f64());
        let found = found.into_iter().flatten().map(|found| found.entry);
        results.push(found.collect());
    }
    Ok((results, times))
}

/// The fraction of the exact `k` nearest entries that are among the `k` that were found.
fn recall(found: &[Vec<usize>], exact: &[Vec<usize>], k: usize) -> f64 {
    let (mut common, mut all) = (0, 0);
    for (found, exact) in found.iter().zip(exact) {
        let found = &found[..k.min(found.len())];
        let exact = &exact[..k.min(exact.len())];
        common += exact.iter().filter(|entry| found.contains(entry)).count();
        all += exact.len();
    }
    common as f64 / all as f64
}

/// The mean average precision of ranked entries in percent. Matches that are not among them have precision 0.
fn map_percent(arguments: &Arguments, ranked: &[Vec<usize>]) -> f64 {
    let of_query = |(query, ranked): (usize, &Vec<usize>)| {
        let identity = query_identity(arguments, query);
        let mut matches = 0.0;
        let mut sum = 0.0;
        for (rank, entry) in ranked.iter().enumerate() {
            if entry / IMAGES == identity {
                matches += 1.0;
                sum += matches / (rank + 1) as f64;
            }
        }
        sum / IMAGES as f64
    };
    100.0 * ranked.iter().enumerate().map(of_query).sum::<f64>() / ranked.len() as f64
}

/// What an engine found, and how long it took.
struct Measured<'a> {
    system: &'a str,
    setting: &'a str,
    build_seconds: f64,
    found: Vec<Vec<usize>>,
    /// The seconds of each search.
    times: Vec<f64>,
}

impl Measured<'_> {
    fn print(mut self, arguments: &Arguments, exact: &[Vec<usize>]) {
        self.times.sort_by(f64::total_cmp);
        let last = self.times.len() - 1;
        let percentile =
            |percent: usize| 1e3 * self.times[(self.times.len() * percent / 100).min(last)];
        let map = map_percent(arguments, &self.found);
        let line = json!({
            "system": self.system,
            "setting": self.setting,
            "entries": arguments.entries,
            "dimensions": arguments.dimensions,
            "queries": arguments.queries,
            "recall_at_1": recall(&self.found, exact, 1),
            "recall_at_10": recall(&self.found, exact, NEAREST),
            "map_at_10_percent": map,
            "map_lost_percent": map_percent(arguments, exact) - map,
            "p50_ms": percentile(50),
            "p99_ms": percentile(99),
            "build_seconds": self.build_seconds,
            "peak_memory_mb": peak_memory(),
        });
        println!("{line}");
    }
}

/// The peak memory of this process in MB; `None` without `/proc`.
fn peak_memory() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes / 1024.0)
}
