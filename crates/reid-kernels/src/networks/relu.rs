//! Sums of maps, rectified, and the gradient.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::PART;

/// `max(0, value)`; what is not a number stays so.
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
        for (number, other) in self.values.iter_mut().zip(self.others) {
            *number = (self.of)(*number, *other);
        }
    }
}

fn zip(values: &mut [f32], others: &[f32], of: impl Fn(f32, f32) -> f32 + Copy + Sync) {
    assert_eq!(values.len(), others.len(), "maps of the same shape");
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

/// `max(0, a + b)` in place of `a`; what is not a number stays so.
///
/// # Panics
/// If the sides have different lengths.
pub fn add_relu(left: &mut [f32], right: &[f32]) {
    zip(left, right, |left, right| relu(left + right));
}

/// The gradient where the output is above 0, and 0 elsewhere, in place of the gradient.
///
/// # Panics
/// If the sides have different lengths.
pub fn relu_backward(output: &[f32], gradient: &mut [f32]) {
    zip(
        gradient,
        output,
        |gradient, output| if output <= 0.0 { 0.0 } else { gradient },
    );
}
