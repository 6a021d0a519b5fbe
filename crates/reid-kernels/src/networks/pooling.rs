//! Max pooling of feature maps in single precision, and its gradient.
//!
//! A row of the feature map is split by *phase*, its column modulo the stride. The values that one column
//! of the windows reads are then contiguous, and all windows of a row are compared at once.

use std::{fmt, ops::Range};

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::convolution::area;
use crate::memory::zeros;

/// A max pooling of given sizes, without dilation.
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
    /// The height and width of a feature map.
    pub input: [usize; 2],
    /// The height and width of the output.
    pub output: [usize; 2],
    /// The height and width of a window, each at least 1.
    pub kernel: [usize; 2],
    /// The vertical and horizontal stride, each at least 1.
    pub stride: [usize; 2],
    /// The padding above and on the left. A padded position is never the maximum.
    pub padding: [usize; 2],
}

impl Pooling {
    /// The rows of the feature map that the windows of output row `y` cover.
    #[inline(always)]
    fn rows(&self, y: usize) -> Range<usize> {
        let begin = y * self.stride[0];
        let end = (begin + self.kernel[0]).saturating_sub(self.padding[0]);
        self.top(y)..end.min(self.input[0])
    }

    /// The first of these rows.
    #[inline(always)]
    fn top(&self, y: usize) -> usize {
        (y * self.stride[0]).saturating_sub(self.padding[0])
    }

    /// Computes the maximum of each window: `[maps, height, width]` to `[maps, height out, width out]`. A
    /// window that contains NaN gives NaN.
    ///
    /// # Panics
    /// If the length of `input` is not a whole number of feature maps.
    #[must_use]
    pub fn forward(&self, input: &[f32]) -> Vec<f32> {
        let arch = Arch::new();
        let [map, pooled] = [self.input, self.output].map(area);
        let mut output = zeros(self.maps(input, map) * pooled);
        let maps = output.par_chunks_exact_mut(pooled);
        maps.zip(input.par_chunks_exact(map)).for_each_init(
            || (vec![0.0; self.input[1]], self.phases()),
            |(line, phases), (output, input)| {
                let pooling = *self;
                arch.dispatch(Forward {
                    pooling,
                    input,
                    output,
                    line,
                    phases,
                });
            },
        );
        output
    }

    /// Computes the gradient of a loss with respect to the input, `[maps, height, width]`, from the gradient with
    /// respect to the output, `[maps, height out, width out]`. The gradient of a window goes to its maximum, or to
    /// the first one in row-major order if there are several.
    ///
    /// # Panics
    /// If a slice is not a whole number of feature maps, or the two numbers of feature maps differ.
    #[must_use]
    pub fn gradient(&self, input: &[f32], gradient: &[f32]) -> Vec<f32> {
        let arch = Arch::new();
        let [map, pooled] = [self.input, self.output].map(area);
        assert_eq!(
            self.maps(input, map),
            self.maps(gradient, pooled),
            "numbers of feature maps in the input and in the gradient"
        );
        let mut result = zeros(input.len());
        let maps = result
            .par_chunks_exact_mut(map)
            .zip(input.par_chunks_exact(map));
        maps.zip(gradient.par_chunks_exact(pooled)).for_each_init(
            || Scratch::new(self),
            |scratch, ((result, input), gradient)| {
                let pooling = *self;
                arch.dispatch(Backward {
                    pooling,
                    input,
                    gradient,
                    result,
                    scratch,
                });
            },
        );
        result
    }

    /// The number of feature maps of `size` positions.
    fn maps(&self, values: &[f32], size: usize) -> usize {
        maps(values, size, self)
    }

    /// A buffer for a row that is split by phase.
    fn phases(&self) -> Vec<f32> {
        vec![0.0; self.stride[1].min(self.kernel[1]) * self.phase()]
    }

    /// The number of values in one phase.
    fn phase(&self) -> usize {
        self.output[1] + (self.kernel[1] - 1) / self.stride[1]
    }

    /// The range of a split row that column `column` of the windows reads, one value per window.
    #[inline(always)]
    fn column(&self, column: usize) -> Range<usize> {
        let begin = column % self.stride[1] * self.phase() + column / self.stride[1];
        begin..begin + self.output[1]
    }

    /// For a phase, the range inside the feature map, and the column of the first value in that range.
    #[inline(always)]
    fn inside(&self, phase: usize) -> (Range<usize>, usize) {
        let (stride, padding) = (self.stride[1], self.padding[1]);
        let end = (self.input[1] + padding)
            .saturating_sub(phase)
            .div_ceil(stride);
        let end = end.min(self.phase());
        let first = padding.saturating_sub(phase).div_ceil(stride).min(end);
        (first..end, (first * stride + phase).saturating_sub(padding))
    }

    /// Splits a row of the feature map by phase. Values outside the feature map are -∞.
    #[inline(always)]
    fn split(&self, row: &[f32], phases: &mut [f32]) {
        for (phase, values) in phases.chunks_exact_mut(self.phase()).enumerate() {
            let (inside, column) = self.inside(phase);
            values[..inside.start].fill(f32::NEG_INFINITY);
            values[inside.end..].fill(f32::NEG_INFINITY);
            let (values, row) = (&mut values[inside], &row[column.min(row.len())..]);
            match self.stride[1] {
                // Written so that the compiler uses SIMD shuffles.
                2 => {
                    let (pairs, last) = row.as_chunks::<2>();
                    for (value, pair) in values.iter_mut().zip(pairs) {
                        *value = pair[0];
                    }
                    if let (Some(value), [last]) = (values.get_mut(pairs.len()), last) {
                        *value = *last;
                    }
                }
                stride => {
                    for (value, from) in values.iter_mut().zip(row.iter().step_by(stride)) {
                        *value = *from;
                    }
                }
            }
        }
    }

    /// Adds a row that is split by phase to a row of the feature map.
    #[inline(always)]
    fn join(&self, phases: &[f32], row: &mut [f32]) {
        for (phase, values) in phases.chunks_exact(self.phase()).enumerate() {
            let (inside, column) = self.inside(phase);
            let from = column.min(row.len());
            let (values, row) = (&values[inside], &mut row[from..]);
            for (value, to) in values.iter().zip(row.iter_mut().step_by(self.stride[1])) {
                *to += value;
            }
        }
    }
}

/// The number of feature maps of `size` positions.
///
/// # Panics
/// If there are other values than those of whole feature maps; the message names the pooling.
pub(crate) fn maps(values: &[f32], size: usize, pooling: impl fmt::Debug) -> usize {
    let count = values.len();
    assert!(
        size > 0 && count.is_multiple_of(size),
        "{count} values, expected whole feature maps of {size} values for {pooling:?}"
    );
    count / size
}

/// Whether a value replaces the maximum so far: it is larger, or it is the first NaN.
#[inline(always)]
fn larger(value: f32, than: f32) -> bool {
    value > than || (value.is_nan() && !than.is_nan())
}

/// The forward pass of one feature map: first the maxima of columns, over the full width, then those of
/// windows.
struct Forward<'a> {
    pooling: Pooling,
    input: &'a [f32],
    output: &'a mut [f32],
    line: &'a mut [f32],
    phases: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self {
            pooling,
            input,
            output,
            line,
            phases,
        } = self;
        let take = |largest: &mut f32, value: &f32| {
            *largest = if larger(*value, *largest) {
                *value
            } else {
                *largest
            };
        };
        let [_, width] = pooling.input;
        for (y, output) in output.chunks_exact_mut(pooling.output[1]).enumerate() {
            let rows = pooling.rows(y);
            line.copy_from_slice(&input[rows.start * width..][..width]);
            for row in rows.skip(1) {
                for (largest, value) in line.iter_mut().zip(&input[row * width..][..width]) {
                    take(largest, value);
                }
            }
            pooling.split(line, phases);
            output.copy_from_slice(&phases[pooling.column(0)]);
            for column in 1..pooling.kernel[1] {
                for (largest, value) in output.iter_mut().zip(&phases[pooling.column(column)]) {
                    take(largest, value);
                }
            }
        }
    }
}

/// The buffers of a backward pass, for one row of windows.
struct Scratch {
    /// A row of the feature map, split by phase.
    phases: Vec<f32>,
    /// The gradient with respect to that row, split by phase.
    passed: Vec<f32>,
    /// For each window, its first column that is inside the feature map.
    first: Vec<u32>,
    /// The maximum of each window so far.
    largest: Vec<f32>,
    /// The position of that maximum in its window, in row-major order.
    position: Vec<u32>,
}

impl Scratch {
    fn new(pooling: &Pooling) -> Self {
        let [_, windows] = pooling.output;
        let first = |window: usize| {
            let column = pooling.padding[1].saturating_sub(window * pooling.stride[1]);
            u32::try_from(column).expect("a column in a window")
        };
        Self {
            phases: pooling.phases(),
            passed: pooling.phases(),
            first: (0..windows).map(first).collect(),
            largest: vec![0.0; windows],
            position: vec![0; windows],
        }
    }
}

/// The backward pass of one feature map.
struct Backward<'a> {
    pooling: Pooling,
    input: &'a [f32],
    gradient: &'a [f32],
    result: &'a mut [f32],
    scratch: &'a mut Scratch,
}

impl Backward<'_> {
    /// Finds the maximum of each window in output row `y`.
    #[inline(always)]
    fn find(&mut self, y: usize) {
        let Self {
            pooling,
            input,
            scratch,
            ..
        } = self;
        let ([_, width], [_, kernel]) = (pooling.input, pooling.kernel);
        let (rows, top) = (pooling.rows(y), pooling.top(y));
        // At first, the maximum is the first position inside the feature map, however small its value.
        let begin = position(rows.start - top, 0, kernel);
        for (position, first) in scratch.position.iter_mut().zip(&scratch.first) {
            *position = begin + first;
        }
        scratch.largest.fill(f32::NEG_INFINITY);
        for row in rows {
            pooling.split(&input[row * width..][..width], &mut scratch.phases);
            for column in 0..kernel {
                let here = position(row - top, column, kernel);
                let found = scratch.largest.iter_mut().zip(&mut scratch.position);
                let values = &scratch.phases[pooling.column(column)];
                for ((largest, position), value) in found.zip(values) {
                    let new = larger(*value, *largest);
                    *largest = if new { *value } else { *largest };
                    *position = if new { here } else { *position };
                }
            }
        }
    }
}

/// A position in a window, in row-major order. Rows are counted from the first row inside the feature map.
#[inline(always)]
fn position(row: usize, column: usize, kernel: usize) -> u32 {
    u32::try_from(row * kernel + column).expect("a position in a window")
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) {
        let pooling = self.pooling;
        let ([_, width], [_, kernel]) = (pooling.input, pooling.kernel);
        for (y, gradient) in self.gradient.chunks_exact(pooling.output[1]).enumerate() {
            self.find(y);
            let (rows, top) = (pooling.rows(y), pooling.top(y));
            let scratch = &mut *self.scratch;
            for row in rows {
                scratch.passed.fill(0.0);
                for column in 0..kernel {
                    let here = position(row - top, column, kernel);
                    let passed = &mut scratch.passed[pooling.column(column)];
                    let windows = gradient.iter().zip(&scratch.position);
                    for (passed, (gradient, position)) in passed.iter_mut().zip(windows) {
                        *passed += if *position == here { *gradient } else { 0.0 };
                    }
                }
                pooling.join(&scratch.passed, &mut self.result[row * width..][..width]);
            }
        }
    }
}
