//! Average pooling in windows that do not overlap, and its gradient.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::{convolution::area, pooling::maps};
use crate::memory::zeros;

/// An average pooling whose stride is the size of its windows. Rows and columns after the last whole window are
/// ignored.
///
/// ```
/// use reid_kernels::WindowAverage;
///
/// let halves = WindowAverage { input: [2, 3], window: [2, 2] };
/// assert_eq!(halves.output(), [1, 1]);
/// assert_eq!(halves.forward(&[1.0, 2.0, 9.0, 3.0, 6.0, 9.0]), [3.0]);
/// assert_eq!(halves.gradient(&[4.0]), [1.0, 1.0, 0.0, 1.0, 1.0, 0.0]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowAverage {
    /// The height and width of a feature map.
    pub input: [usize; 2],
    /// The height and width of a window, each at least 1.
    pub window: [usize; 2],
}

impl WindowAverage {
    /// The height and width of the output.
    ///
    /// # Panics
    /// If a side of the window is 0.
    #[must_use]
    pub fn output(&self) -> [usize; 2] {
        [0, 1].map(|axis| self.input[axis] / self.window[axis])
    }

    /// Computes the mean of each window: `[maps, height, width]` to `[maps, height out, width out]`.
    ///
    /// # Panics
    /// If a side of the window is 0 or larger than the feature map, or the length of `input` is not a whole number
    /// of feature maps.
    #[must_use]
    pub fn forward(&self, input: &[f32]) -> Vec<f32> {
        let (map, pooled) = (area(self.input), area(self.output()));
        let mut output = zeros(maps(input, map, self) * pooled);
        self.each(&mut output, pooled, (input, map), |input, output| Forward {
            pooling: *self,
            input,
            output,
        });
        output
    }

    /// Computes the gradient of a loss with respect to the input, `[maps, height, width]`, from the gradient with
    /// respect to the output, `[maps, height out, width out]`.
    ///
    /// # Panics
    /// As [`forward`](Self::forward), with the length of `gradient`.
    #[must_use]
    pub fn gradient(&self, gradient: &[f32]) -> Vec<f32> {
        let (map, pooled) = (area(self.input), area(self.output()));
        let mut result = zeros(maps(gradient, pooled, self) * map);
        self.each(&mut result, map, (gradient, pooled), |gradient, result| {
            Backward {
                pooling: *self,
                gradient,
                result,
            }
        });
        result
    }

    /// Runs a pass for every feature map.
    fn each<'a, W: WithSimd<Output = ()>>(
        &self,
        results: &'a mut [f32],
        size: usize,
        (source, from): (&'a [f32], usize),
        pass: impl Fn(&'a [f32], &'a mut [f32]) -> W + Sync,
    ) {
        /// The largest number of values that one thread pools.
        const FEW: usize = 1 << 16;
        let arch = Arch::new();
        if results.len().max(source.len()) <= FEW {
            let pairs = results
                .chunks_exact_mut(size)
                .zip(source.chunks_exact(from));
            return pairs.for_each(|(result, map)| arch.dispatch(pass(map, result)));
        }
        let pairs = results
            .par_chunks_exact_mut(size)
            .zip(source.par_chunks_exact(from));
        pairs
            .with_min_len(FEW.div_ceil(2 * area(self.input)))
            .for_each(|(result, map)| arch.dispatch(pass(map, result)));
    }

    /// One divided by the number of positions of a window.
    #[expect(clippy::cast_precision_loss, reason = "windows have few positions")]
    fn share(&self) -> f32 {
        1.0 / area(self.window) as f32
    }
}

/// The forward pass of one feature map: the sums of the rows of windows, then those of their columns.
struct Forward<'a> {
    pooling: WindowAverage,
    input: &'a [f32],
    output: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let ([_, width], [high, wide]) = (self.pooling.input, self.pooling.window);
        let ([_, columns], share) = (self.pooling.output(), self.pooling.share());
        let mut line = vec![0.0; columns * wide];
        let rows = self.input.chunks_exact(high * width);
        for (output, rows) in self.output.chunks_exact_mut(columns).zip(rows) {
            line.copy_from_slice(&rows[..columns * wide]);
            for row in rows.chunks_exact(width).skip(1) {
                for (sum, value) in line.iter_mut().zip(row) {
                    *sum += value;
                }
            }
            if wide == 2 {
                // Written as pairs, so that the compiler uses SIMD shuffles.
                let (pairs, _) = line.as_chunks::<2>();
                for (mean, [left, right]) in output.iter_mut().zip(pairs) {
                    *mean = (left + right) * share;
                }
            } else {
                for (mean, window) in output.iter_mut().zip(line.chunks_exact(wide)) {
                    *mean = window.iter().sum::<f32>() * share;
                }
            }
        }
    }
}

/// The backward pass of one feature map, which holds zeros.
struct Backward<'a> {
    pooling: WindowAverage,
    gradient: &'a [f32],
    result: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let ([_, width], [high, wide]) = (self.pooling.input, self.pooling.window);
        let ([_, columns], share) = (self.pooling.output(), self.pooling.share());
        let rows = self.result.chunks_exact_mut(high * width);
        for (gradient, rows) in self.gradient.chunks_exact(columns).zip(rows) {
            let (first, others) = rows.split_at_mut(width);
            if wide == 2 {
                let (pairs, _) = first.as_chunks_mut::<2>();
                for (pair, value) in pairs.iter_mut().zip(gradient) {
                    *pair = [value * share; 2];
                }
            } else {
                for (window, value) in first.chunks_exact_mut(wide).zip(gradient) {
                    window.fill(value * share);
                }
            }
            for row in others.chunks_exact_mut(width) {
                row.copy_from_slice(first);
            }
        }
    }
}
