//! The ReLU of a sum of feature maps, and its gradient.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::PART;

/// Computes `max(0, value)`; NaN stays NaN.
#[inline(always)]
pub(crate) fn relu(value: f32) -> f32 {
    if value < 0.0 { 0.0 } else { value }
}

struct Zip<'a, F> {
    values: &'a mut [f32],
    others: &'a [f32],
    of: F,
}

impl<F: Fn(f32, f32) -> f32> WithSimd for Zip<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (value, other) in self.values.iter_mut().zip(self.others) {
            *value = (self.of)(*value, *other);
        }
    }
}

fn zip(values: &mut [f32], others: &[f32], of: impl Fn(f32, f32) -> f32 + Copy + Sync) {
    assert_eq!(
        values.len(),
        others.len(),
        "lengths of the two feature maps"
    );
    let arch = Arch::new();
    let part = |(values, others)| {
        arch.dispatch(Zip { values, others, of });
    };
    if values.len() <= PART {
        part((values, others));
        return;
    }
    values
        .par_chunks_mut(PART)
        .zip(others.par_chunks(PART))
        .for_each(part);
}

/// Computes `max(0, left + right)` in place in `left`; NaN stays NaN.
///
/// # Panics
/// If the slices have different lengths.
pub fn add_relu(left: &mut [f32], right: &[f32]) {
    zip(left, right, |left, right| relu(left + right));
}

/// Computes the gradient of a ReLU in place: `gradient` becomes 0 wherever `output`, the result of the
/// ReLU, is 0.
///
/// # Panics
/// If the slices have different lengths.
pub fn relu_backward(output: &[f32], gradient: &mut [f32]) {
    zip(
        gradient,
        output,
        |gradient, output| if output <= 0.0 { 0.0 } else { gradient },
    );
}
