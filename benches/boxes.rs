//! From the boxes of a 1080p frame to their embeddings, with OSNet x0.25: latency, throughput and memory.
//!
//! Prints one line of JSON in the same format as `benches/peer/boxes.py`, which measures ONNX Runtime and
//! OpenVINO. Weights are random: they do not change the speed.
//!
//! ```sh
//! cargo bench --bench boxes -- --boxes 1
//! cargo bench --bench boxes -- --boxes 32
//! cargo bench --bench boxes -- --boxes 1 --repeats 1 --started $(date +%s.%N)
//! ```

#![expect(clippy::print_stdout, reason = "the results are printed")]

use std::{
    fs,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use burn::tensor::Device;
use clap::Parser;
use rand::{Rng, RngExt};
use reid::{
    core::Stream,
    data::{BoundingBox, Frame},
    nn::{Init, Model, Network, backbone::OsNetConfig},
    prelude::*,
    zoo::OsNetReidConfig,
};
use serde_json::json;

/// The size of a frame.
const SIZE: [u32; 2] = [1920, 1080];

#[derive(Parser)]
struct Arguments {
    /// Number of boxes in the frame.
    #[arg(long, default_value_t = 32)]
    boxes: usize,
    /// Number of frames.
    #[arg(long, default_value_t = 200)]
    repeats: usize,
    /// When the process was started, in seconds since 1970. Then the time up to the first embedding is printed.
    #[arg(long)]
    started: Option<f64>,
    /// Number of threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Uses a few frames, to test that the benchmark runs.
    #[arg(long)]
    test: bool,
    /// Passed by `cargo bench`; has no effect.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let mut arguments = Arguments::parse();
    if arguments.test {
        (arguments.boxes, arguments.repeats) = (2, 2);
    }
    let threads = rayon::ThreadPoolBuilder::new().num_threads(arguments.threads);
    threads.build_global().expect("no thread pool before");
    let device = Device::default();
    let config = OsNetReidConfig::from_backbone(OsNetConfig::x0_25());
    let init = Init::new(Seed::new(1), &device);
    let model = config.init(InputSize::PERSON, 1041, &init).evaluation();
    let embedder = Embedder::new(model, InputSize::PERSON, &device);

    let mut stream = Seed::new(1).stream();
    let [width, height] = SIZE;
    let mut bytes = vec![0; (3 * width * height) as usize];
    stream.fill_bytes(&mut bytes);
    let frame = Frame::from_bgr(&bytes, width, height, 3 * width as usize).expect("a whole frame");
    let mut boxes = || people(arguments.boxes, &mut stream);
    let embed = |boxes: &[BoundingBox]| {
        embedder
            .embed_boxes(&frame, boxes)
            .expect("boxes in the frame")
    };
    let first = boxes();
    assert_eq!(embed(&first).len(), arguments.boxes);
    let since_start = arguments.started.map(|started| {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970");
        1e3 * (now.as_secs_f64() - started)
    });

    let times = (0..arguments.repeats).map(|_| {
        let boxes = boxes();
        let start = Instant::now();
        let found = embed(&boxes);
        let milliseconds = 1e3 * start.elapsed().as_secs_f64();
        assert_eq!(found.dimensions(), 512);
        milliseconds
    });
    let mut times: Vec<f64> = times.collect();
    times.sort_by(f64::total_cmp);
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
    let line = json!({
        "system": "reid",
        "version": env!("CARGO_PKG_VERSION"),
        "network": "osnet-x0.25",
        "boxes": arguments.boxes,
        "threads": arguments.threads,
        "p50_ms": at(50),
        "p99_ms": at(99),
        "boxes_per_second": 1e3 * arguments.boxes as f64 / at(50),
        "first_ms": since_start,
        "peak_memory_mb": peak_memory(),
    });
    println!("{line}");
}

/// Draws boxes of people in a frame.
fn people(count: usize, stream: &mut Stream) -> Vec<BoundingBox> {
    let [width, height] = SIZE.map(|side| side as f32);
    let boxes = (0..count).map(|_| {
        let tall = stream.random_range(120.0..360.0);
        let x = stream.random_range(0.0..width - tall / 2.0);
        let y = stream.random_range(0.0..height - tall);
        BoundingBox::new(x, y, 0.4 * tall, tall)
    });
    boxes.collect()
}

/// The peak memory of this process in MB; `None` without `/proc`.
fn peak_memory() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes / 1024.0)
}
