//! Memory for results.

use rayon::prelude::*;

/// Numbers that are written at once.
const RUN: usize = 256;

/// Numbers that are worth a thread of their own.
const LEAST: usize = 1 << 16;

/// A copy of numbers, written by all threads.
#[must_use]
pub fn copied(values: &[f32]) -> Vec<f32> {
    if values.len() < 2 * LEAST {
        return values.to_vec();
    }
    let values = values.par_iter().copied();
    values.with_min_len(LEAST).collect()
}

/// So many zeros, written by all threads: where memory is fresh, who writes first waits for its pages.
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
