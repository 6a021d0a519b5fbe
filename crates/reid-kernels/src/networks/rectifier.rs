//! Sums of maps, rectified, and the gradient.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::zeros::zeros;

/// Numbers of one task.
const PART: usize = 1 << 15;

struct Zip<'a, F> {
    left: &'a [f32],
    right: &'a [f32],
    results: &'a mut [f32],
    of: F,
}

impl<F: Fn(f32, f32) -> f32> WithSimd for Zip<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let pairs = self.left.iter().zip(self.right);
        for (result, (left, right)) in self.results.iter_mut().zip(pairs) {
            *result = (self.of)(*left, *right);
        }
    }
}

fn zip(left: &[f32], right: &[f32], of: impl Fn(f32, f32) -> f32 + Copy + Sync) -> Vec<f32> {
    assert_eq!(left.len(), right.len(), "maps of the same shape");
    let arch = Arch::new();
    let mut results = zeros(left.len());
    let part = |(results, (left, right))| {
        arch.dispatch(Zip {
            left,
            right,
            results,
            of,
        });
    };
    if results.len() <= PART {
        part((&mut results, (left, right)));
        return results;
    }
    results
        .par_chunks_mut(PART)
        .zip(left.par_chunks(PART).zip(right.par_chunks(PART)))
        .for_each(part);
    results
}

/// `max(0, a + b)`; what is not a number stays so.
///
/// # Panics
/// If the sides have different lengths.
#[must_use]
pub fn add_rectified(left: &[f32], right: &[f32]) -> Vec<f32> {
    zip(left, right, |left, right| {
        let sum = left + right;
        if sum < 0.0 { 0.0 } else { sum }
    })
}

/// The gradient where the output is above 0, and 0 elsewhere.
///
/// # Panics
/// If the sides have different lengths.
#[must_use]
pub fn rectified_gradient(output: &[f32], gradient: &[f32]) -> Vec<f32> {
    zip(
        output,
        gradient,
        |output, gradient| if output <= 0.0 { 0.0 } else { gradient },
    )
}
