//! Freed memory stays with the process while it is held, and not longer.
//!
//! This is a program without the test harness, whose threads have heaps of their own.

use std::fs;

use reid_kernels::HeldMemory;

/// The number of blocks of 2 MB.
const BLOCKS: usize = 100;

fn blocks() -> Vec<Vec<u8>> {
    (0..BLOCKS).map(|_| vec![1; 2 << 20]).collect()
}

/// The memory of this process in MB.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("Linux has this file");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
    let kilobytes: usize = kilobytes.expect("a size").parse().expect("a number");
    kilobytes / 1024
}

fn main() {
    if !cfg!(all(target_os = "linux", target_env = "gnu")) {
        return;
    }
    // Afterwards blocks of this size are in the heap.
    drop(HeldMemory::new());
    let used = blocks();
    let held = HeldMemory::new();
    let full = resident();
    drop(used);
    let kept = resident();
    assert!(full >= 2 * BLOCKS, "{full} MB are in use");
    assert!(kept + 8 >= full, "{kept} of {full} MB are kept");
    drop(held);
    let left = resident();
    assert!(left < BLOCKS, "{left} of {full} MB are left");
}
