//! All convolutions of ResNet-50 or SE-ResNeXt-101, or some depthwise ones, without Burn: the forward pass,
//! and the gradients with respect to input and weights.
//!
//! Prints for every shape the milliseconds (the minimum of several runs) and the billions of operations per
//! second, and the total over the network. The benchmark serves work on the kernels. To compare two versions
//! of them, run their programs alternately.
//!
//! ```sh
//! cargo bench --bench convolutions -- --network resnet50 --threads 2 --batch 8     # --height 288 --width 384
//! ```

#![expect(clippy::print_stdout, reason = "the results are printed")]

use std::{hint::black_box, time::Instant};

use clap::{Parser, ValueEnum};
use reid_kernels::{ConvEpilogue, Convolution};

#[derive(Parser)]
struct Arguments {
    /// The network whose convolutions are timed.
    #[arg(long, value_enum, default_value = "resnet50")]
    network: Network,
    /// Batch size.
    #[arg(long, default_value_t = 8)]
    batch: usize,
    /// Height of the images in pixels.
    #[arg(long, default_value_t = 256)]
    height: usize,
    /// Width of the images in pixels.
    #[arg(long, default_value_t = 128)]
    width: usize,
    /// Number of runs; the fastest counts.
    #[arg(long, default_value_t = 7)]
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
enum Network {
    Resnet50,
    SeResnext101,
    /// Depthwise convolutions of `OSNet` and `MobileNetV2`.
    Depthwise,
}

/// A convolution: its count in the network, input and output channels, height and width of its input for
/// images of 256 x 128, kernel size and stride. A 3 x 3 kernel has the groups of the network.
type Layer = (usize, [usize; 2], [usize; 2], [usize; 2]);

const RESNET_50: [Layer; 22] = [
    (1, [3, 64], [256, 128], [7, 2]),
    (1, [64, 64], [64, 32], [1, 1]),
    (3, [64, 64], [64, 32], [3, 1]),
    (4, [64, 256], [64, 32], [1, 1]),
    (2, [256, 64], [64, 32], [1, 1]),
    (1, [256, 128], [64, 32], [1, 1]),
    (1, [128, 128], [64, 32], [3, 2]),
    (1, [256, 512], [64, 32], [1, 2]),
    (4, [128, 512], [32, 16], [1, 1]),
    (3, [512, 128], [32, 16], [1, 1]),
    (3, [128, 128], [32, 16], [3, 1]),
    (1, [512, 256], [32, 16], [1, 1]),
    (1, [256, 256], [32, 16], [3, 2]),
    (1, [512, 1024], [32, 16], [1, 2]),
    (6, [256, 1024], [16, 8], [1, 1]),
    (5, [1024, 256], [16, 8], [1, 1]),
    (5, [256, 256], [16, 8], [3, 1]),
    (1, [1024, 512], [16, 8], [1, 1]),
    (3, [512, 512], [16, 8], [3, 1]),
    (1, [1024, 2048], [16, 8], [1, 1]),
    (3, [512, 2048], [16, 8], [1, 1]),
    (2, [2048, 512], [16, 8], [1, 1]),
];

const SE_RESNEXT_101: [Layer; 23] = [
    (1, [3, 64], [256, 128], [7, 2]),
    (1, [64, 128], [64, 32], [1, 1]),
    (3, [128, 128], [64, 32], [3, 1]),
    (3, [128, 256], [64, 32], [1, 1]),
    (1, [64, 256], [64, 32], [1, 1]),
    (2, [256, 128], [64, 32], [1, 1]),
    (1, [256, 256], [64, 32], [1, 1]),
    (1, [256, 256], [64, 32], [3, 2]),
    (1, [256, 512], [64, 32], [1, 2]),
    (4, [256, 512], [32, 16], [1, 1]),
    (3, [512, 256], [32, 16], [1, 1]),
    (3, [256, 256], [32, 16], [3, 1]),
    (1, [512, 512], [32, 16], [1, 1]),
    (1, [512, 512], [32, 16], [3, 2]),
    (1, [512, 1024], [32, 16], [1, 2]),
    (23, [512, 1024], [16, 8], [1, 1]),
    (22, [1024, 512], [16, 8], [1, 1]),
    (22, [512, 512], [16, 8], [3, 1]),
    (1, [1024, 1024], [16, 8], [1, 1]),
    (3, [1024, 1024], [16, 8], [3, 1]),
    (1, [1024, 2048], [16, 8], [1, 1]),
    (3, [1024, 2048], [16, 8], [1, 1]),
    (2, [2048, 1024], [16, 8], [1, 1]),
];

/// Every channel is a group.
const DEPTHWISE: [Layer; 7] = [
    (1, [64, 64], [64, 32], [3, 1]),
    (1, [384, 384], [16, 8], [3, 1]),
    (1, [96, 96], [64, 32], [3, 2]),
    (1, [144, 144], [32, 16], [3, 1]),
    (1, [576, 576], [16, 8], [3, 2]),
    (1, [960, 960], [8, 4], [3, 1]),
    (1, [144, 144], [32, 16], [5, 1]),
];

fn main() {
    let arguments = Arguments::parse();
    // Must run before the thread pool starts.
    let threads = rayon::ThreadPoolBuilder::new().num_threads(arguments.threads);
    threads.build_global().expect("no thread pool before");
    println!("| convolution | times | forward, ms | GFLOP/s | by input | by weights |");
    println!("|---|---:|---:|---:|---:|---:|");
    let mut all = [0.0; 3];
    let layers: &[Layer] = match arguments.network {
        Network::Resnet50 => &RESNET_50,
        Network::SeResnext101 => &SE_RESNEXT_101,
        Network::Depthwise => &DEPTHWISE,
    };
    for &(count, [from, to], [height, width], [kernel, stride]) in layers {
        let height = height * arguments.height / 256;
        let width = width * arguments.width / 128;
        let shrink = if arguments.test { 16 } else { 1 };
        let groups = match arguments.network {
            Network::Depthwise => from,
            Network::SeResnext101 if kernel == 3 => 32,
            _ => 1,
        };
        let convolution = Convolution {
            batch: arguments.batch.div_ceil(shrink),
            channels: [from, to].map(|channels| channels.div_ceil(shrink)),
            groups: groups.div_ceil(shrink),
            input: [height, width].map(|side| side.div_ceil(shrink)),
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [kernel / 2; 2],
            dilation: [1, 1],
        };
        let times = arguments.times(&convolution);
        for (all, time) in all.iter_mut().zip(times) {
            *all += count as f64 * time;
        }
        let [forward, by_input, by_weights] = times;
        let [rows, columns] = convolution.output();
        let results = convolution.batch * convolution.channels[1] * rows * columns;
        let operations = 2 * results * from / convolution.groups * kernel * kernel;
        println!(
            "| {kernel}x{kernel} by {stride}, {from} to {to}, {height}x{width}, {} groups | {count} | {forward:.2} | {:.0} | {by_input:.2} | {by_weights:.2} |",
            convolution.groups,
            operations as f64 / forward / 1e6,
        );
    }
    let [forward, by_input, by_weights] = all;
    println!("| all | | {forward:.1} | | {by_input:.1} | {by_weights:.1} |");
}

impl Arguments {
    /// The milliseconds of the forward pass and of the gradients with respect to input and weights.
    fn times(&self, convolution: &Convolution) -> [f64; 3] {
        let values = |count: usize| -> Vec<f32> {
            (0..count).map(|at| (at % 17) as f32 / 17.0 - 0.5).collect()
        };
        let [from, to] = convolution.channels;
        let [rows, columns] = convolution.output();
        let input = values(convolution.batch * from * convolution.input[0] * convolution.input[1]);
        let gradient = values(convolution.batch * to * rows * columns);
        let weights =
            values(to * from / convolution.groups * convolution.kernel[0] * convolution.kernel[1]);
        let bias = values(to);
        let epilogue = ConvEpilogue {
            bias: Some(&bias),
            relu: true,
            ..ConvEpilogue::default()
        };
        [
            self.least(|| convolution.forward(&input, &weights, epilogue)),
            self.least(|| convolution.input_gradient(&weights, &gradient)),
            self.least(|| convolution.weight_gradient(&input, &gradient)),
        ]
    }

    /// The minimum time of a run, in milliseconds.
    fn least(&self, run: impl Fn() -> Vec<f32>) -> f64 {
        let repeats = if self.test { 1 } else { self.repeats };
        let timed = (0..repeats).map(|_| {
            let start = Instant::now();
            black_box(run());
            start.elapsed().as_secs_f64() * 1e3
        });
        timed.fold(f64::INFINITY, f64::min)
    }
}
