//! The spatial attention of FNC over feature maps of increasing size: in chunks of queries, as reid computes
//! it, and with all attention weights at once.
//!
//! Prints a table of the milliseconds and the memory of a pass. The memory excludes the inputs. Every cell is
//! measured in a separate process:
//!
//! ```sh
//! cargo bench --bench tiles
//! ```

#![expect(clippy::print_stdout, reason = "the results are printed")]

use std::{env, fs, process::Command, time::Instant};

use burn::tensor::{Distribution, Tensor, activation::softmax};
use reid::device;

/// Number of channels of query and key: half of 2048.
const EMBEDDED: usize = 1024;
const MAPS: [[usize; 2]; 3] = [[18, 24], [36, 48], [72, 96]];

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().position(|argument| argument == "--one") {
        Some(at) => one(&arguments[at + 1..]),
        None => table(arguments.iter().any(|argument| argument == "--test")),
    }
}

/// Prints the table. Every cell is measured in a separate process.
fn table(toy: bool) {
    let maps = if toy { &[[2, 3]][..] } else { &MAPS };
    println!("| map | pass | in chunks | at once |\n|---|---|---:|---:|");
    for [height, width] in maps {
        for pass in ["forward", "training"] {
            let cell = |how: &str| {
                let program = env::current_exe().expect("the path of this program");
                let positions = (height * width).to_string();
                let run = Command::new(program)
                    .args(["--one", how, pass, &positions])
                    .output();
                let run = run.expect("a process of this program");
                assert!(
                    run.status.success(),
                    "{}",
                    String::from_utf8_lossy(&run.stderr)
                );
                String::from_utf8_lossy(&run.stdout).trim().to_owned()
            };
            let (chunks, once) = (cell("chunks"), cell("once"));
            println!("| {height} x {width} | {pass} | {chunks} | {once} |");
        }
    }
}

/// Prints the milliseconds of a pass (the minimum of three) and the megabytes that the passes allocate.
fn one(arguments: &[String]) {
    let [how, pass, positions] = arguments else {
        panic!(
            "expected `chunks` or `once`, a pass and a number of positions, found {arguments:?}"
        );
    };
    let positions: usize = positions.parse().expect("a number of positions");
    let training = pass == "training";
    let device = device::pick().expect("a device");
    let device = if training { device.autodiff() } else { device };
    let map = || {
        let normal = Distribution::Normal(0.0, 0.1);
        let map = Tensor::<3>::random([1, EMBEDDED, positions], normal, &device);
        if training { map.require_grad() } else { map }
    };
    let (query, key, value) = (map(), map(), map());
    let before = memory("VmRSS:");
    let run = || {
        let (query, key, value) = (query.clone(), key.clone(), value.clone());
        let gathered = if how == "chunks" {
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

/// A memory value of this process in megabytes, from the line of `/proc/self/status` with this name.
fn memory(name: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found = status.lines().find(|line| line.starts_with(name));
    let number = found.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    number.map_or(f64::NAN, |kilobytes| kilobytes / 1024.0)
}
