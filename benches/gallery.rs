//! A gallery of a million embeddings: seconds of a search, of saving and of opening, and memory.
//!
//! Prints one line of JSON per measurement, in the same format as `benches/peer/gallery.py`, which measures
//! FAISS and `USearch`:
//!
//! ```sh
//! cargo bench --bench gallery
//! cargo bench --bench gallery -- --storage half
//! ```

#![expect(clippy::print_stdout, reason = "the results are printed")]

use std::{fs, time::Instant};

use clap::{Parser, ValueEnum};
use rand::RngExt;
use rayon::prelude::*;
use reid::{
    eval::{
        Labels,
        gallery::{
            Gallery, GalleryConfig, GalleryEntry, GalleryFilter, GalleryStorage, ModelFingerprint,
        },
    },
    prelude::*,
};
use serde_json::json;

#[derive(Parser)]
struct Arguments {
    /// Number of embeddings in the gallery, four per identity.
    #[arg(long, default_value_t = 1_000_000)]
    entries: usize,
    /// Number of dimensions of an embedding.
    #[arg(long, default_value_t = 512)]
    dimensions: usize,
    /// The precision in which embeddings are stored.
    #[arg(long, value_enum, default_value = "single")]
    storage: Storage,
    /// Number of nearest identities.
    #[arg(long, default_value_t = 10)]
    nearest: usize,
    /// Number of searches of one query; a tenth as many searches of 64.
    #[arg(long, default_value_t = 50)]
    repeats: usize,
    /// Number of threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Uses a tiny size, to test that the benchmark runs.
    #[arg(long)]
    test: bool,
    /// Passed by `cargo bench`; has no effect.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Storage {
    Single,
    Half,
}

/// Embeddings of some images, four per identity: the centre of the identity plus uniform noise.
fn embeddings(images: std::ops::Range<usize>, dimensions: usize, side: &str) -> Embeddings {
    let (seed, first) = (Seed::new(1), images.start);
    let mut values = vec![0.0_f32; images.len() * dimensions];
    let rows = values.par_chunks_mut(dimensions).enumerate();
    rows.for_each(|(row, values)| {
        let image = (first + row) as u64;
        let mut of_identity = seed.named("identity").at(image / 4).stream();
        let mut of_image = seed.named(side).at(image).stream();
        for value in values {
            let centre: f32 = of_identity.random_range(-1.0..1.0);
            *value = centre + of_image.random_range(-1.0..1.0);
        }
    });
    Embeddings::from_parts(values, dimensions, Labels::unknown(images.len())).expect("finite")
}

fn main() {
    let mut arguments = Arguments::parse();
    if arguments.test {
        (arguments.entries, arguments.dimensions, arguments.repeats) = (6_000, 16, 10);
    }
    let Arguments {
        entries,
        dimensions,
        nearest,
        repeats,
        ..
    } = arguments;
    let threads = rayon::ThreadPoolBuilder::new().num_threads(arguments.threads);
    threads.build_global().expect("no thread pool before");
    let print = |task: &str, queries: usize, mut seconds: Vec<f64>| {
        seconds.sort_by(f64::total_cmp);
        let line = json!({
            "system": "reid",
            "version": env!("CARGO_PKG_VERSION"),
            "task": task,
            "storage": match arguments.storage {
                Storage::Single => "single",
                Storage::Half => "half",
            },
            "entries": entries,
            "dimensions": dimensions,
            "queries": queries,
            "threads": arguments.threads,
            "seconds": seconds[seconds.len() / 2],
            "p99_seconds": seconds[(seconds.len() * 99 / 100).min(seconds.len() - 1)],
            "peak_memory_mb": peak_memory(),
        });
        println!("{line}");
    };

    let model = ModelFingerprint::new("benchmark");
    let gallery = filled(&arguments, &model);
    let search = |queries: &Embeddings| {
        let filter = GalleryFilter::default();
        gallery
            .search(&model, queries, &filter, nearest)
            .expect("queries of the model")
    };
    let timed = |queries: usize, repeats: usize| {
        let times = (0..repeats).map(|repeat| {
            let first = repeat * queries * 4 % entries.saturating_sub(queries).max(1);
            let queries = embeddings(first..first + queries, dimensions, "query");
            let start = Instant::now();
            let found = search(&queries);
            let seconds = start.elapsed().as_secs_f64();
            assert_eq!(found.len(), queries.len());
            seconds
        });
        times.collect()
    };
    print("first search", 1, timed(1, 1));
    print("search", 1, timed(1, repeats));
    print("search", 64, timed(64, repeats.div_ceil(10)));

    save_and_open(gallery, &model, print);
}

/// Fills a gallery in parts, so that memory holds the embeddings once.
fn filled(arguments: &Arguments, model: &ModelFingerprint) -> Gallery {
    let (entries, dimensions) = (arguments.entries, arguments.dimensions);
    let storage = match arguments.storage {
        Storage::Single => GalleryStorage::Single,
        Storage::Half => GalleryStorage::Half,
    };
    let mut gallery = Gallery::new(
        model.clone(),
        GalleryConfig::default().with_storage(storage),
    );
    for first in (0..entries).step_by(50_000) {
        let images = first..(first + 50_000).min(entries);
        let labels = images.clone().map(|image| {
            let identity = i64::try_from(image / 4).expect("small");
            GalleryEntry::new(Identity::new(identity + 1))
        });
        let labels: Vec<GalleryEntry> = labels.collect();
        let values = embeddings(images, dimensions, "gallery");
        gallery
            .enrol(model, &values, &labels)
            .expect("valid entries");
    }
    gallery
}

fn save_and_open(
    gallery: Gallery,
    model: &ModelFingerprint,
    print: impl Fn(&str, usize, Vec<f64>),
) {
    let entries = gallery.entries().len();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("gallery");
    let start = Instant::now();
    gallery.save(&path).expect("a writable folder");
    print("save", 0, vec![start.elapsed().as_secs_f64()]);
    drop(gallery);
    let open = (0..3).map(|_| {
        let start = Instant::now();
        let gallery = Gallery::open(&path, model).expect("just saved");
        let seconds = start.elapsed().as_secs_f64();
        assert_eq!(gallery.entries().len(), entries);
        seconds
    });
    print("open", 0, open.collect());
}

/// The peak memory of this process in MB; `None` without `/proc`.
fn peak_memory() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes / 1024.0)
}
