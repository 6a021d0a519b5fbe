//! Max pooling of maps in single precision, and its gradient.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// The sizes of a pooling, and what it computes.
///
/// ```
/// use reid_kernels::Pooling;
///
/// let halves = Pooling {
///     input: [2, 2],
///     output: [1, 2],
///     kernel: [2, 1],
///     stride: [2, 1],
///     padding: [0, 0],
/// };
/// assert_eq!(halves.forward(&[1.0, 5.0, 3.0, 2.0]), [3.0, 5.0]);
/// assert_eq!(halves.gradient(&[1.0, 5.0, 3.0, 2.0], &[0.1, 0.2]), [0.0, 0.2, 0.1, 0.0]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pooling {
    /// Height and width of a map.
    pub input: [usize; 2],
    /// Height and width of what it is pooled to.
    pub output: [usize; 2],
    /// Height and width of a window.
    pub kernel: [usize; 2],
    /// Step down and across.
    pub stride: [usize; 2],
    /// How far windows reach beyond the map, above and left.
    pub padding: [usize; 2],
}

impl Pooling {
    /// The part of the map that the window of a result covers, along one side.
    fn window(&self, axis: usize, at: usize) -> Range<usize> {
        let begin = at * self.stride[axis];
        let end = (begin + self.kernel[axis]).saturating_sub(self.padding[axis]);
        begin.saturating_sub(self.padding[axis])..end.min(self.input[axis])
    }

    /// The largest number of each window: `[maps, input]` to `[maps, output]`.
    ///
    /// # Panics
    /// If the input is no whole number of maps.
    #[must_use]
    pub fn forward(&self, input: &[f32]) -> Vec<f32> {
        let arch = Arch::new();
        let [map, pooled] = [self.input, self.output].map(|[height, width]| height * width);
        self.maps(input, map);
        let mut output = vec![0.0; input.len() / map * pooled];
        output
            .par_chunks_exact_mut(pooled)
            .zip(input.par_chunks_exact(map))
            .for_each_init(
                || vec![0.0; self.input[1]],
                |line, (output, input)| {
                    let pooling = *self;
                    arch.dispatch(Map {
                        pooling,
                        input,
                        output,
                        line,
                    });
                },
            );
        output
    }

    /// The gradient of a loss by the input, from that by the output: each passes to the largest number of
    /// its window, the first one in reading order if there are several.
    ///
    /// # Panics
    /// If there are not as many maps of both, or they are no whole number.
    #[must_use]
    pub fn gradient(&self, input: &[f32], gradient: &[f32]) -> Vec<f32> {
        let [map, pooled] = [self.input, self.output].map(|[height, width]| height * width);
        assert_eq!(
            self.maps(input, map),
            self.maps(gradient, pooled),
            "maps of the input and of the gradient"
        );
        let mut result = vec![0.0; input.len()];
        let maps = result
            .par_chunks_exact_mut(map)
            .zip(input.par_chunks_exact(map));
        maps.zip(gradient.par_chunks_exact(pooled))
            .for_each(|((result, input), gradient)| self.pass_back(input, gradient, result));
        result
    }

    /// How many maps there are.
    fn maps(&self, numbers: &[f32], size: usize) -> usize {
        let count = numbers.len();
        assert!(
            size > 0 && count.is_multiple_of(size),
            "{count} numbers are no whole maps of {self:?}"
        );
        count / size
    }

    fn pass_back(&self, input: &[f32], gradient: &[f32], result: &mut [f32]) {
        let width = self.input[1];
        for (y, gradient) in gradient.chunks_exact(self.output[1]).enumerate() {
            let rows = self.window(0, y);
            for (x, gradient) in gradient.iter().enumerate() {
                let columns = self.window(1, x);
                let mut best = rows.start * width + columns.start;
                let mut largest = input[best];
                for row in rows.clone() {
                    let numbers = &input[row * width..][columns.clone()];
                    for (at, number) in numbers.iter().enumerate() {
                        if larger(*number, largest) {
                            (best, largest) = (row * width + columns.start + at, *number);
                        }
                    }
                }
                result[best] += gradient;
            }
        }
    }
}

/// Whether a number takes the place of another: what is not a number does, and keeps it.
#[inline(always)]
fn larger(number: f32, than: f32) -> bool {
    number > than || (number.is_nan() && !than.is_nan())
}

/// One map: the largest of each column of a window first, which is as wide as the map.
struct Map<'a> {
    pooling: Pooling,
    input: &'a [f32],
    output: &'a mut [f32],
    line: &'a mut [f32],
}

impl WithSimd for Map<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self {
            pooling,
            input,
            output,
            line,
        } = self;
        let width = pooling.input[1];
        for (y, output) in output.chunks_exact_mut(pooling.output[1]).enumerate() {
            let rows = pooling.window(0, y);
            line.copy_from_slice(&input[rows.start * width..][..width]);
            for row in rows.skip(1) {
                for (largest, number) in line.iter_mut().zip(&input[row * width..][..width]) {
                    *largest = if larger(*number, *largest) {
                        *number
                    } else {
                        *largest
                    };
                }
            }
            for (x, result) in output.iter_mut().enumerate() {
                let columns = &line[pooling.window(1, x)];
                *result = columns.iter().copied().fold(columns[0], |largest, number| {
                    if larger(number, largest) {
                        number
                    } else {
                        largest
                    }
                });
            }
        }
    }
}
