//! Allocation of result buffers by all threads.
//!
//! Safe Rust has no uninitialised memory that is written once, so result buffers are first filled with
//! zeros. If one thread fills them, the other threads wait for it and for the page faults of fresh memory.
//! That was a fifth of the time of an inference pass.

use rayon::prelude::*;

/// The number of values in the array that is written at a time.
const RUN: usize = 256;

/// The smallest number of values that is worth a task for another thread.
const LEAST: usize = 1 << 16;

/// Copies a slice; a long one is copied by all threads.
#[must_use]
pub fn copied(values: &[f32]) -> Vec<f32> {
    if values.len() < 2 * LEAST {
        return values.to_vec();
    }
    let values = values.par_iter().copied();
    values.with_min_len(LEAST).collect()
}

/// Returns `count` zeros; a long buffer is filled by all threads.
pub(crate) fn zeros(count: usize) -> Vec<f32> {
    if count < 2 * LEAST {
        return vec![0.0; count];
    }
    let runs = rayon::iter::repeat_n([0.0; RUN], count.div_ceil(RUN));
    let runs: Vec<[f32; RUN]> = runs.with_min_len(LEAST / RUN).collect();
    let mut values = runs.into_flattened();
    values.truncate(count);
    values
}
