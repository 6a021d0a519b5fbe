//! Global average pooling, and its gradient.

use std::iter::repeat_n;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::{
    ONE_THREAD, PART,
    sum::{single, sum},
};
use crate::memory::zeros;

struct Mean<'a>(&'a [f32]);

impl WithSimd for Mean<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f32 {
        let map = self.0;
        single(sum(map, map, |x, _| x) / map.len() as f64)
    }
}

/// Computes the mean of each feature map: `[maps, positions]` to `[maps]`.
///
/// ```
/// assert_eq!(reid_kernels::global_avg_pool(&[1.0, 2.0, 3.0, 6.0], 2), [1.5, 4.5]);
/// ```
///
/// # Panics
/// If `positions` is 0, or the length of `maps` is not a multiple of `positions`.
#[must_use]
pub fn global_avg_pool(maps: &[f32], positions: usize) -> Vec<f32> {
    assert!(
        positions > 0 && maps.len().is_multiple_of(positions),
        "{} values, expected whole feature maps of {positions} positions",
        maps.len()
    );
    let arch = Arch::new();
    let mean = |map| arch.dispatch(Mean(map));
    if maps.len() <= ONE_THREAD {
        return maps.chunks_exact(positions).map(mean).collect();
    }
    let maps = maps.par_chunks_exact(positions);
    maps.with_min_len(PART.div_ceil(positions))
        .map(mean)
        .collect()
}

/// Repeats each value at all positions of a feature map: `[maps]` to `[maps, positions]`.
///
/// This is the gradient of a sum over positions; for the mean, divide the values by `positions`.
///
/// ```
/// assert_eq!(reid_kernels::global_avg_pool_backward(&[1.5, 4.5], 2), [1.5, 1.5, 4.5, 4.5]);
/// ```
#[must_use]
pub fn global_avg_pool_backward(values: &[f32], positions: usize) -> Vec<f32> {
    let count = values.len() * positions;
    if count <= ONE_THREAD {
        let maps = values.iter().flat_map(|value| repeat_n(*value, positions));
        return maps.collect();
    }
    let mut maps = zeros(count);
    maps.par_chunks_exact_mut(positions)
        .with_min_len(PART.div_ceil(positions))
        .zip(values)
        .for_each(|(map, value)| map.fill(*value));
    maps
}
