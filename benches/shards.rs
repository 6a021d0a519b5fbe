//! Evaluation of a gallery in shards on disk: seconds and peak memory.
//!
//! ```sh
//! cargo bench --bench shards
//! cargo bench --bench shards -- --folder target/shards --half --threads 16
//! cargo bench --bench shards --features parquet -- --folder target/parquet --format parquet
//! cargo bench --bench shards -- --gallery 200000 --memory
//! cargo bench --bench shards -- --gallery 100000 --dimensions 2048 --rerank --folder target/shards_2048
//! cargo bench --bench shards -- --gallery 100000 --dimensions 2048 --rerank-memory --folder target/shards_2048
//! ```
//!
//! The defaults are 1,000 queries and a gallery of 5 million embeddings of 256 dimensions in 8 shards: 5.1 GB, or
//! half of that with `--half`. If the folder has no shards, another process writes random ones first. Prints a line
//! of JSON for each step:
//!
//! - `write`: the shards, if they were written
//! - `open`: the hashes of all files, which are read once
//! - `labels`: the queries, and the labels of the gallery
//! - `evaluate`: CMC, mAP and mINP, for which the gallery is read twice
//! - `threshold`, with `--threshold`: a threshold at a false accept rate of 0.1 %, for which it is read three times
//! - `re-rank`, with `--rerank`: re-ranking with k₁ = 20, k₂ = 6 and λ = 0.3, and its evaluation. All pairs of images
//!   are compared, so choose a smaller gallery
//! - `in memory`, with `--memory`: the same evaluation with the gallery in memory, whose report has to be equal
//! - `re-rank in memory`, with `--rerank-memory`: re-ranking with the gallery in memory. With `--rerank` too, the
//!   reports have to be equal. The peak memory of a step includes that of the steps before it

#![expect(clippy::print_stdout, reason = "the results are printed")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use clap::Parser;
use rand::RngExt;
use rayon::prelude::*;
use reid::{
    eval::{
        Labels, RerankConfig, Reranked, Resampling, RetrievalTask, Threshold, evaluate_rows,
        files::{
            FileError, QueryAndGallery,
            shards::{Shard, ShardFormat, ShardList, ShardOptions, Shards, write_shard},
        },
        gallery::{GalleryStorage, ModelFingerprint},
    },
    prelude::*,
};
use serde_json::{Value, json};

/// The number of gallery images of each identity.
const IMAGES: usize = 50;

#[derive(Clone, Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each is a command-line flag")]
struct Arguments {
    /// The folder of the shards.
    #[arg(long, default_value = "target/bench_shards")]
    folder: PathBuf,
    /// Number of query images.
    #[arg(long, default_value_t = 1000)]
    queries: usize,
    /// Number of gallery images.
    #[arg(long, default_value_t = 5_000_000)]
    gallery: usize,
    /// Number of dimensions of an embedding.
    #[arg(long, default_value_t = 256)]
    dimensions: usize,
    /// Number of shards.
    #[arg(long, default_value_t = 8)]
    shards: usize,
    /// Number of threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Stores embeddings in half precision.
    #[arg(long)]
    half: bool,
    /// The file format: safetensors or parquet.
    #[arg(long)]
    format: Option<ShardFormat>,
    /// Calibrates a threshold too.
    #[arg(long)]
    threshold: bool,
    /// Re-ranks too.
    #[arg(long)]
    rerank: bool,
    /// The memory in MiB for the gallery images that re-ranking holds at a time.
    #[arg(long, default_value_t = Shards::PANEL_BYTES >> 20)]
    panel: usize,
    /// Evaluates with the gallery in memory too, and compares the reports.
    #[arg(long)]
    memory: bool,
    /// Re-ranks with the gallery in memory too.
    #[arg(long)]
    rerank_memory: bool,
    /// Only writes the shards.
    #[arg(long, hide = true)]
    write: bool,
    /// Uses a tiny size, to test that the benchmark runs.
    #[arg(long)]
    test: bool,
    /// Passed by `cargo bench`; has no effect.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Images of a split, named by their numbers. Each identity has [`IMAGES`] gallery images, by six cameras.
fn samples(split: Split, images: usize, arguments: &Arguments) -> Vec<Sample> {
    let identities = arguments.gallery.div_ceil(IMAGES);
    let seed = Seed::new(1).named("cameras");
    let cameras = &mut seed.named(&split.to_string()).stream();
    let sample = |image: usize| {
        let identity = i64::try_from(image % identities).expect("small");
        let camera = Camera::new(cameras.random_range(1..7));
        Sample::new(
            format!("{split}/{image:08}.jpg"),
            Identity::new(1 + identity),
        )
        .with_camera(camera)
    };
    (0..images).map(sample).collect()
}

/// The centre of the identity plus uniform noise of the image.
fn embeddings(split: Split, images: &[Sample], dimensions: usize) -> Embeddings {
    let (seed, side) = (Seed::new(1), split.to_string());
    let mut values = vec![0.0_f32; images.len() * dimensions];
    let rows = values.par_chunks_mut(dimensions).zip(images);
    rows.for_each(|(row, sample)| {
        let name = sample.path.file_stem().and_then(|name| name.to_str());
        let number: u64 = name.expect("a name").parse().expect("a number");
        let identity = sample.identity.label().unsigned_abs();
        let mut of_identity = seed.named("identity").at(identity).stream();
        let mut of_image = seed.named(&side).at(number).stream();
        for value in row {
            let centre: f32 = of_identity.random_range(-1.0..1.0);
            *value = centre + of_image.random_range(-2.0..2.0);
        }
    });
    let labels = Labels::unknown(images.len());
    Embeddings::from_parts(values, dimensions, labels).expect("finite values")
}

fn write(arguments: &Arguments) {
    let side = |split, images| samples(split, images, arguments);
    let query = side(Split::Query, arguments.queries);
    let gallery = side(Split::Gallery, arguments.gallery);
    let list = ShardList::new(query, gallery).expect("cameras of all images");
    let storage = if arguments.half {
        GalleryStorage::Half
    } else {
        GalleryStorage::Single
    };
    let options = ShardOptions::new(ModelFingerprint::new("random"))
        .with_storage(storage)
        .with_format(arguments.format.unwrap_or_default());
    for index in 0..arguments.shards {
        let shard = Shard::new(index, arguments.shards).expect("a shard");
        let embed = |split: Split, images: &[Sample]| -> Result<_, FileError> {
            Ok(embeddings(split, images, arguments.dimensions))
        };
        write_shard(&arguments.folder, &list, shard, &options, embed).expect("a writable folder");
    }
}

/// Writes the shards in a separate process, because the list of all images would count as memory of the evaluation.
fn write_in_another_process(arguments: &Arguments) {
    let program = env::current_exe().expect("the path of this program");
    let mut run = Command::new(program);
    run.arg("--write").arg("--folder").arg(&arguments.folder);
    for (name, number) in [
        ("--queries", arguments.queries),
        ("--gallery", arguments.gallery),
        ("--dimensions", arguments.dimensions),
        ("--shards", arguments.shards),
        ("--threads", arguments.threads),
    ] {
        run.arg(name).arg(number.to_string());
    }
    if arguments.half {
        run.arg("--half");
    }
    if let Some(format) = arguments.format {
        run.arg("--format").arg(format.extension());
    }
    let status = run.status().expect("a process of this program");
    assert!(status.success(), "the shards were not written");
}

/// Runs a step and prints its time, the peak memory so far, and what `more` adds.
fn step<T>(name: &str, more: impl FnOnce(&T) -> Value, run: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = run();
    let mut line = json!({
        "system": "reid",
        "version": env!("CARGO_PKG_VERSION"),
        "step": name,
        "seconds": start.elapsed().as_secs_f64(),
        "peak_memory_mb": peak_memory(),
    });
    if let (Some(line), Value::Object(more)) = (line.as_object_mut(), more(&result)) {
        line.extend(more);
    }
    println!("{line}");
    result
}

fn main() {
    let mut arguments = Arguments::parse();
    let folder = tempfile::tempdir().expect("a folder");
    if arguments.test {
        (arguments.queries, arguments.gallery, arguments.dimensions) = (20, 5_000, 16);
        (arguments.threshold, arguments.memory) = (true, true);
        (arguments.rerank, arguments.rerank_memory, arguments.panel) = (true, true, 0);
        folder.path().clone_into(&mut arguments.folder);
    }
    let threads = rayon::ThreadPoolBuilder::new().num_threads(arguments.threads);
    threads.build_global().expect("no thread pool before");
    if arguments.write {
        write(&arguments);
        return;
    }
    fs::create_dir_all(&arguments.folder).expect("a writable folder");
    if !Shards::are_in(&arguments.folder).expect("a readable folder") {
        step("write", size, || {
            write_in_another_process(&arguments);
            arguments.clone()
        });
    }
    evaluate_shards(&arguments);
}

fn size(arguments: &Arguments) -> Value {
    json!({
        "queries": arguments.queries,
        "gallery": arguments.gallery,
        "dimensions": arguments.dimensions,
        "shards": arguments.shards,
        "half": arguments.half,
        "threads": arguments.threads,
        "bytes": bytes(&arguments.folder),
    })
}

fn evaluate_shards(arguments: &Arguments) {
    let nothing = |_: &_| json!({});
    let size = |_: &_| size(arguments);
    let shards = step("open", size, || {
        Shards::open(&arguments.folder).expect("shards")
    });
    let (query, labels) = step("labels", nothing, || {
        let query = shards.load(Split::Query).expect("queries");
        (query, shards.labels(Split::Gallery).expect("labels"))
    });
    let config = EvaluationConfig::default();
    let distances = shards.distances(&query, config.metric).expect("one set");
    let map = |report: &Report| json!({ "map": report.mean_average_precision });
    let report = step("evaluate", map, || {
        let report = evaluate_rows(&distances, query.labels(), &labels, &config);
        report.expect("queries with matches")
    });
    if arguments.threshold {
        let distance = |threshold: &Threshold| json!({ "distance": threshold.distance });
        step("threshold", distance, || {
            let task = RetrievalTask::new(&distances, query.labels(), &labels);
            Threshold::calibrate(&task, 0.001, &Resampling::default()).expect("a threshold")
        });
    }
    if arguments.memory {
        let expected = step("in memory", map, || {
            let both = QueryAndGallery::load(&arguments.folder).expect("shards");
            evaluate(&both.query, &both.gallery, &config).expect("queries with matches")
        });
        assert_eq!(
            report, expected,
            "the report from shards and that in memory"
        );
    }
    rerank(arguments, &shards, &query, &labels);
}

/// Re-ranks the gallery in shards and the gallery in memory, as requested.
fn rerank(arguments: &Arguments, shards: &Shards, query: &Embeddings, labels: &Labels) {
    let (config, settings) = (EvaluationConfig::default(), RerankConfig::default());
    let map = |report: &Report| json!({ "map": report.mean_average_precision });
    let from_shards = arguments.rerank.then(|| {
        step("re-rank", map, || {
            let panel = arguments.panel << 20;
            let reranked = shards.reranked_with_panel(query, &settings, panel);
            let reranked = reranked.expect("finite distances");
            let report = reranked.evaluate(query.labels(), labels, &config);
            report.expect("queries with matches")
        })
    });
    if arguments.rerank_memory {
        let expected = step("re-rank in memory", map, || {
            let both = QueryAndGallery::load(&arguments.folder).expect("shards");
            let QueryAndGallery { query, gallery } = &both;
            let reranked = Reranked::new(query, gallery, &settings).expect("finite distances");
            let report = reranked.evaluate(query.labels(), gallery.labels(), &config);
            report.expect("queries with matches")
        });
        assert!(
            from_shards.is_none_or(|report| report == expected),
            "the re-ranked report from shards differs from that in memory"
        );
    }
}

/// The bytes of all files of a folder.
fn bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).expect("a folder");
    let sizes = entries.map(|entry| entry.and_then(|entry| entry.metadata()));
    sizes.map(|file| file.expect("a file").len()).sum()
}

/// The peak memory of this process in MB; `None` without `/proc`.
fn peak_memory() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes / 1024.0)
}
