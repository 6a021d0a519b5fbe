//! FNC's spatial attention over more and more places: by turns of queries, as it is computed here, and
//! with all weights at once.
//!
//! Prints a table of milliseconds and of the memory that a pass takes beside weights and features, each
//! from a process of its own:
//!
//! ```sh
//! cargo bench --bench tiles
//! ```

#![expect(clippy::print_stdout, reason = "a program talks to its user")]

use std::{env, fs, process::Command, time::Instant};

use burn::tensor::{Distribution, Tensor, activation::softmax};
use reid::device;

/// Channels by which places are compared: half of 2048.
const EMBEDDED: usize = 1024;
const MAPS: [[usize; 2]; 3] = [[18, 24], [36, 48], [72, 96]];

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().position(|argument| argument == "--one") {
        Some(at) => one(&arguments[at + 1..]),
        None => table(arguments.iter().any(|argument| argument == "--test")),
    }
}

/// Every cell from a process of its own.
fn table(toy: bool) {
    let maps = if toy { &[[2, 3]][..] } else { &MAPS };
    println!("| map | pass | by turns | at once |\n|---|---|---:|---:|");
    for [height, width] in maps {
        for pass in ["forward", "training"] {
            let cell = |how: &str| {
                let program = env::current_exe().expect("this program");
                let places = (height * width).to_string();
                let run = Command::new(program)
                    .args(["--one", how, pass, &places])
                    .output();
                let run = run.expect("this program runs");
                assert!(
                    run.status.success(),
                    "{}",
                    String::from_utf8_lossy(&run.stderr)
                );
                String::from_utf8_lossy(&run.stdout).trim().to_owned()
            };
            let (turns, once) = (cell("turns"), cell("once"));
            println!("| {height} x {width} | {pass} | {turns} | {once} |");
        }
    }
}

/// Milliseconds, the least of three, and megabytes beyond those before the first pass.
fn one(arguments: &[String]) {
    let [how, pass, places] = arguments else {
        panic!("expected how, pass and places, found {arguments:?}");
    };
    let places: usize = places.parse().expect("a number of places");
    let training = pass == "training";
    let device = device::pick().expect("a device");
    let device = if training { device.autodiff() } else { device };
    let map = || {
        let normal = Distribution::Normal(0.0, 0.1);
        let map = Tensor::<3>::random([1, EMBEDDED, places], normal, &device);
        if training { map.require_grad() } else { map }
    };
    let (query, key, value) = (map(), map(), map());
    let before = memory("VmRSS:");
    let run = || {
        let (query, key, value) = (query.clone(), key.clone(), value.clone());
        let gathered = if how == "turns" {
            reid_ops::attention(query.clone(), key, value)
        } else {
            let weights = softmax(query.clone().transpose().matmul(key), 2);
            value.matmul(weights.transpose())
        };
        let sum = gathered.sum();
        if training {
            let gradients = sum.backward();
            let gradient = query.grad(&gradients).expect("the query's gradient");
            gradient.sum().into_scalar::<f32>()
        } else {
            sum.into_scalar::<f32>()
        }
    };
    let times = (0..3).map(|_| {
        let started = Instant::now();
        assert!(run().is_finite());
        started.elapsed().as_secs_f64() * 1e3
    });
    let least = times.fold(f64::INFINITY, f64::min);
    println!("{least:.0} ms, {:.0} MB", memory("VmHWM:") - before);
}

/// What the system says of this process, in megabytes.
fn memory(line: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found = status.lines().find(|of| of.starts_with(line));
    let number = found.and_then(|of| of.split_whitespace().nth(1)?.parse::<f64>().ok());
    number.map_or(f64::NAN, |kilobytes| kilobytes / 1024.0)
}
