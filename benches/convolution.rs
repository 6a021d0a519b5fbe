//! The strided 1 x 1 convolutions of ResNet-50's shortcuts at 256 x 128: as the backend computes them,
//! and with the positions that they skip dropped first.
//!
//! ```sh
//! cargo bench --bench convolution -- --batch 8
//! ```

#![expect(clippy::print_stdout, reason = "a program talks to its user")]

use std::time::Instant;

use burn::{
    nn::conv::Conv2dConfig,
    tensor::{Distribution, Tensor},
};
use clap::Parser;
use reid::{device, nn::convolution};

#[derive(Parser)]
struct Arguments {
    /// Images at a time.
    #[arg(long, default_value_t = 8)]
    batch: usize,
    /// Timed repetitions, after one that is not.
    #[arg(long, default_value_t = 9)]
    repeats: usize,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// A toy size, to see that it runs.
    #[arg(long)]
    test: bool,
    /// Given by Cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Channels before and after, and the size before, of the shortcuts of stages 2, 3 and 4.
const SHORTCUTS: [([usize; 2], [usize; 2]); 3] = [
    ([256, 512], [64, 32]),
    ([512, 1024], [32, 16]),
    ([1024, 2048], [16, 8]),
];

fn main() {
    let arguments = Arguments::parse();
    // Before the thread pool starts.
    let threads = rayon::ThreadPoolBuilder::new().num_threads(arguments.threads);
    threads.build_global().expect("the first to set it");
    let picked = device::pick().expect("a device");
    let (batch, repeats) = if arguments.test {
        (1, 1)
    } else {
        (arguments.batch, arguments.repeats)
    };
    println!("{picked}, batch {batch}, milliseconds, median of {repeats}");
    println!("channels        size     as it is   dropped first");
    for (channels, [height, width]) in SHORTCUTS {
        let conv = Conv2dConfig::new(channels, [1, 1])
            .with_stride([2, 2])
            .with_bias(false)
            .init(&picked.device);
        let shape = [batch, channels[0], height, width];
        let features = Tensor::<4>::random(shape, Distribution::Default, &picked.device);
        let plain = median(repeats, || conv.forward(features.clone()));
        let dropped = median(repeats, || convolution::apply(&conv, features.clone()));
        let [from, to] = channels;
        println!("{from:4} to {to:<7} {height:2}x{width:<5} {plain:8.2}   {dropped:8.2}");
    }
}

/// The median time of a function, after one call that is not timed.
fn median(repeats: usize, run: impl Fn() -> Tensor<4>) -> f64 {
    let timed = (0..=repeats).map(|_| {
        let start = Instant::now();
        let _ = run().into_data(); // waits for the result
        start.elapsed().as_secs_f64() * 1e3
    });
    let mut milliseconds: Vec<f64> = timed.skip(1).collect();
    milliseconds.sort_by(f64::total_cmp);
    milliseconds[milliseconds.len() / 2]
}
