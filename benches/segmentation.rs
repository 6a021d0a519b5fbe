//! Segmentation of one large image: seconds and peak memory.
//!
//! Prints one line of JSON. `benches/peer/segmentation.py` runs this benchmark and PyTorch, and compares them:
//!
//! ```sh
//! cargo bench --bench segmentation -- --network rga --size 1024x2048
//! python benches/peer/segmentation.py
//! ```

#![expect(clippy::print_stdout, reason = "the result is printed")]

use std::{fs, time::Instant};

use burn::tensor::{Device, Distribution, Tensor};
use clap::{Parser, ValueEnum};
use reid::{
    core::Seed,
    nn::{Init, backbone::ResNetConfig, segmentation::PixelModel},
    prelude::*,
    zoo::segmentation,
};
use serde_json::json;

/// The classes of Cityscapes.
const CLASSES: usize = 19;

/// The side of the map on which relations are computed.
const SIDE: usize = 32;

#[derive(Parser)]
struct Arguments {
    /// The network.
    #[arg(long, value_enum, default_value = "rga")]
    network: Name,
    /// Height and width of the image.
    #[arg(long, default_value = "1024x2048")]
    size: InputSize,
    /// Number of timed repetitions, after one that is not timed.
    #[arg(long, default_value_t = 3)]
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

/// Networks with a ResNet-101 of output stride 8.
#[derive(Clone, Copy, ValueEnum)]
enum Name {
    /// torchvision's `fcn_resnet101`, without its auxiliary head.
    Fcn,
    /// torchvision's `deeplabv3_resnet101`, without its auxiliary head.
    #[value(name = "deeplab-v3")]
    DeepLabV3,
    /// RGA-SC of Table 6 of its paper.
    Rga,
}

fn main() {
    let arguments = Arguments::parse();
    // Must run before the thread pool starts.
    let threads = rayon::ThreadPoolBuilder::new().num_threads(arguments.threads);
    threads.build_global().expect("no thread pool before");
    let device = device::pick().expect("a device");
    let backbone = ResNetConfig::resnet101();
    let (size, backbone) = if arguments.test {
        (InputSize::new(65, 97), backbone.with_width(4))
    } else {
        (arguments.size, backbone)
    };
    let init = Init::new(Seed::new(1), &device);
    let seconds = match arguments.network {
        Name::Fcn => {
            let config = segmentation::fcn(backbone);
            time(
                &arguments,
                &config.init(size, CLASSES, &init),
                size,
                &device,
            )
        }
        Name::DeepLabV3 => {
            let config = segmentation::deeplab_v3(backbone);
            time(
                &arguments,
                &config.init(size, CLASSES, &init),
                size,
                &device,
            )
        }
        Name::Rga => {
            let config = segmentation::rga(backbone, SIDE);
            time(
                &arguments,
                &config.init(size, CLASSES, &init),
                size,
                &device,
            )
        }
    };
    let value = arguments.network.to_possible_value().expect("not skipped");
    let report = json!({
        "system": format!("reid, {}", device::backend(&device)),
        "version": env!("CARGO_PKG_VERSION"),
        "network": value.get_name(),
        "size": size.to_string(),
        "threads": arguments.threads,
        "seconds": seconds,
        "peak_memory_mb": peak_memory(),
    });
    println!("{report}");
}

/// The median of the seconds of a pass over one image.
fn time(arguments: &Arguments, model: &impl PixelModel, size: InputSize, device: &Device) -> f64 {
    let model = model.evaluation();
    let image = Tensor::random(
        [1, 3, size.height, size.width],
        Distribution::Default,
        device,
    );
    let repeats = if arguments.test { 1 } else { arguments.repeats };
    let mut seconds: Vec<f64> = (0..=repeats)
        .map(|_| {
            let start = Instant::now();
            // Reading the result waits for the device.
            let _ = model.forward(image.clone()).into_data();
            start.elapsed().as_secs_f64()
        })
        .skip(1)
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// The peak memory of this process in MB; `None` without `/proc`.
fn peak_memory() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes / 1024.0)
}
