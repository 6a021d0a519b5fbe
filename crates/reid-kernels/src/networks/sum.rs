//! Sums in double precision.

use std::array;

/// Sums that are kept apart, so that they lie side by side in vectors.
const LANES: usize = 16;

/// The sum of a term of each pair of numbers: by lanes first, so that the order is always the same.
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

/// Rounds to the precision of maps.
#[expect(
    clippy::cast_possible_truncation,
    reason = "maps are in single precision"
)]
pub(crate) fn single(value: f64) -> f32 {
    value as f32
}
