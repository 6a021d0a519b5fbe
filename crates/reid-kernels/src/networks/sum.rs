//! Sums in double precision.

use std::array;

/// The number of partial sums, which the compiler keeps in SIMD vectors.
const LANES: usize = 16;

/// Sums `term` over pairs of values. Partial sums by lane come first, so the order is always the same.
#[inline(always)]
pub(crate) fn sum(left: &[f32], right: &[f32], term: impl Fn(f32, f32) -> f32) -> f64 {
    let mut sums = [0.0; LANES];
    let (left, last_left) = left.as_chunks::<LANES>();
    let (right, last_right) = right.as_chunks::<LANES>();
    for (left, right) in left.iter().zip(right) {
        sums = array::from_fn(|lane| sums[lane] + f64::from(term(left[lane], right[lane])));
    }
    let last = last_left.iter().zip(last_right);
    let last = last.map(|(left, right)| f64::from(term(*left, *right)));
    sums.iter().sum::<f64>() + last.sum::<f64>()
}

/// Rounds to single precision.
#[expect(
    clippy::cast_possible_truncation,
    reason = "feature maps are in single precision"
)]
pub(crate) fn single(value: f64) -> f32 {
    value as f32
}
