//! Loading: JPEG files to augmented batches, in images per second, and memory.
//!
//! Prints one line of JSON in the same format as `benches/peer/loading.py`, which runs this benchmark and
//! PyTorch's `DataLoader` on the same files and compares them:
//!
//! ```sh
//! cargo bench --bench loading
//! cargo bench --bench loading -- --source 360x144 --input 384x128
//! cargo bench --bench loading -- --cache-bytes 1073741824
//! python benches/peer/loading.py --source 128x64 --input 256x128
//! ```

#![expect(clippy::print_stdout, reason = "the results are printed")]

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use clap::Parser;
use reid::{
    data::{dataset::market1501, loader::TrainLoader, transform::Augmentation},
    prelude::*,
    synthetic::SyntheticConfig,
};
use serde_json::json;

#[derive(Parser)]
#[expect(clippy::struct_excessive_bools, reason = "command-line flags")]
struct Arguments {
    /// The size of the JPEG files, at most as wide as high; that of Market-1501 by default.
    #[arg(long, value_name = "HEIGHTxWIDTH", default_value_t = InputSize::new(128, 64))]
    source: InputSize,
    /// The size of the images in a batch.
    #[arg(long, value_name = "HEIGHTxWIDTH", default_value_t = InputSize::PERSON)]
    input: InputSize,
    /// The folder of the JPEG files, which are written if it does not have them. Default: a temporary folder.
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Only writes the JPEG files.
    #[arg(long, requires = "images")]
    prepare: bool,
    /// Batch size.
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Number of batches in an epoch.
    #[arg(long, default_value_t = 24)]
    batches: usize,
    /// Number of timed epochs, after one warm-up epoch.
    #[arg(long, default_value_t = 5)]
    epochs: u64,
    /// Number of worker threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// The size of the cache of decoded images, in bytes; without a cache by default.
    #[arg(long, default_value_t = 0)]
    cache_bytes: usize,
    /// Uses a tiny size, to test that the benchmark runs.
    #[arg(long)]
    test: bool,
    /// Passed by `cargo bench`; has no effect.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let mut arguments = Arguments::parse();
    let mut identities = 64;
    if arguments.test {
        (arguments.batches, arguments.epochs, identities) = (2, 1, 2);
    }
    let temporary = tempfile::tempdir().expect("a folder");
    let folder = arguments.images.as_deref().unwrap_or(temporary.path());
    // 12 training images of each identity.
    let InputSize { height, width } = arguments.source;
    SyntheticConfig::new()
        .with_height(height)
        .with_width(width)
        .with_train_identities(identities)
        .with_test_identities(1)
        .with_distractors(0)
        .with_junk(0)
        .write(folder)
        .expect("a written dataset");
    if arguments.prepare {
        return;
    }
    let mut times = epochs(&arguments, folder);
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    let loaded = (arguments.batch * arguments.batches) as f64;
    let report = json!({
        "system": "reid",
        "version": env!("CARGO_PKG_VERSION"),
        "source": arguments.source.to_string(),
        "input": arguments.input.to_string(),
        "batch": arguments.batch,
        "batches": arguments.batches,
        "threads": arguments.threads,
        "cache_bytes": arguments.cache_bytes,
        "images_per_second": 1e3 * loaded / median,
        "milliseconds": {
            "median": median,
            "min": times[0],
            "max": times[times.len() - 1],
        },
        "peak_memory_mb": peak_memory(),
    });
    println!("{report}");
}

/// Loads the epochs and returns the milliseconds of each after the first.
fn epochs(arguments: &Arguments, folder: &Path) -> Vec<f64> {
    let splits = market1501::load(folder).expect("a readable dataset");
    let images = splits.train.len();
    let config = LoaderConfig::new()
        .with_workers(arguments.threads)
        .with_cache_bytes(arguments.cache_bytes);
    let loader = TrainLoader::new(splits.train, arguments.input, Seed::new(1))
        .with_config(config)
        .with_augmentation(&Augmentation::default());
    // The images in the order of their names, over and over.
    let indices: Vec<usize> = (0..arguments.batch * arguments.batches)
        .map(|index| index % images)
        .collect();
    let batches: Vec<Vec<usize>> = indices
        .chunks(arguments.batch)
        .map(<[usize]>::to_vec)
        .collect();
    let times = (0..=arguments.epochs).map(|epoch| {
        let start = Instant::now();
        for batch in loader.epoch(epoch, batches.clone()) {
            let batch = batch.expect("readable images");
            assert_eq!(batch.classes.len(), arguments.batch);
        }
        1e3 * start.elapsed().as_secs_f64()
    });
    times.skip(1).collect()
}

/// The peak memory of this process in MB; `None` without `/proc`.
fn peak_memory() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes / 1024.0)
}
