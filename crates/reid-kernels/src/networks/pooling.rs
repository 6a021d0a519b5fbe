//! Max pooling of maps in single precision, and its gradient.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::memory::zeros;

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
    /// The rows of the map that the windows of a row of results cover.
    #[inline(always)]
    fn rows(&self, y: usize) -> Range<usize> {
        let begin = y * self.stride[0];
        let end = (begin + self.kernel[0]).saturating_sub(self.padding[0]);
        self.top(y)..end.min(self.input[0])
    }

    /// The first of them.
    #[inline(always)]
    fn top(&self, y: usize) -> usize {
        (y * self.stride[0]).saturating_sub(self.padding[0])
    }

    /// The largest number of each window: `[maps, input]` to `[maps, output]`.
    ///
    /// # Panics
    /// If the input is no whole number of maps.
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

    /// The gradient of a loss by the input, from that by the output: each passes to the largest number of
    /// its window, the first one in reading order if there are several.
    ///
    /// # Panics
    /// If there are not as many maps of both, or they are no whole number.
    #[must_use]
    pub fn gradient(&self, input: &[f32], gradient: &[f32]) -> Vec<f32> {
        let arch = Arch::new();
        let [map, pooled] = [self.input, self.output].map(area);
        assert_eq!(
            self.maps(input, map),
            self.maps(gradient, pooled),
            "maps of the input and of the gradient"
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

    /// How many maps there are.
    fn maps(&self, values: &[f32], size: usize) -> usize {
        let count = values.len();
        assert!(
            size > 0 && count.is_multiple_of(size),
            "{count} numbers are no whole maps of {self:?}"
        );
        count / size
    }

    /// Room for a row split by its columns' place within a stride.
    fn phases(&self) -> Vec<f32> {
        vec![0.0; self.stride[1].min(self.kernel[1]) * self.phase()]
    }

    /// Numbers of one phase.
    fn phase(&self) -> usize {
        self.output[1] + (self.kernel[1] - 1) / self.stride[1]
    }

    /// What a column of the windows reads in a split row, side by side for all windows.
    #[inline(always)]
    fn column(&self, column: usize) -> Range<usize> {
        let begin = column % self.stride[1] * self.phase() + column / self.stride[1];
        begin..begin + self.output[1]
    }

    /// For a phase, the places that lie in the map, and the column of the map that the first of them is.
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

    /// Splits a row of the map by phase; outside the map nothing is larger than anything.
    #[inline(always)]
    fn split(&self, row: &[f32], phases: &mut [f32]) {
        for (phase, values) in phases.chunks_exact_mut(self.phase()).enumerate() {
            let (inside, column) = self.inside(phase);
            values[..inside.start].fill(f32::NEG_INFINITY);
            values[inside.end..].fill(f32::NEG_INFINITY);
            let (values, row) = (&mut values[inside], &row[column.min(row.len())..]);
            match self.stride[1] {
                // Written so that the compiler shuffles vectors.
                2 => {
                    let (pairs, last) = row.as_chunks::<2>();
                    for (number, pair) in values.iter_mut().zip(pairs) {
                        *number = pair[0];
                    }
                    if let (Some(number), [last]) = (values.get_mut(pairs.len()), last) {
                        *number = *last;
                    }
                }
                stride => {
                    for (number, from) in values.iter_mut().zip(row.iter().step_by(stride)) {
                        *number = *from;
                    }
                }
            }
        }
    }

    /// Adds a row split by phase to a row of the map.
    #[inline(always)]
    fn join(&self, phases: &[f32], row: &mut [f32]) {
        for (phase, values) in phases.chunks_exact(self.phase()).enumerate() {
            let (inside, column) = self.inside(phase);
            let from = column.min(row.len());
            let (values, row) = (&values[inside], &mut row[from..]);
            for (number, to) in values.iter().zip(row.iter_mut().step_by(self.stride[1])) {
                *to += number;
            }
        }
    }
}

fn area([height, width]: [usize; 2]) -> usize {
    height * width
}

/// Whether a number takes the place of another: what is not a number does, and keeps it.
#[inline(always)]
fn larger(number: f32, than: f32) -> bool {
    number > than || (number.is_nan() && !than.is_nan())
}

/// One map: the largest of each column of a window first, which is as wide as the map.
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
        let take = |largest: &mut f32, number: &f32| {
            *largest = if larger(*number, *largest) {
                *number
            } else {
                *largest
            };
        };
        let [_, width] = pooling.input;
        for (y, output) in output.chunks_exact_mut(pooling.output[1]).enumerate() {
            let rows = pooling.rows(y);
            line.copy_from_slice(&input[rows.start * width..][..width]);
            for row in rows.skip(1) {
                for (largest, number) in line.iter_mut().zip(&input[row * width..][..width]) {
                    take(largest, number);
                }
            }
            pooling.split(line, phases);
            output.copy_from_slice(&phases[pooling.column(0)]);
            for column in 1..pooling.kernel[1] {
                for (largest, number) in output.iter_mut().zip(&phases[pooling.column(column)]) {
                    take(largest, number);
                }
            }
        }
    }
}

/// What a backward pass needs for one row of windows.
struct Scratch {
    /// A row of the map, split.
    phases: Vec<f32>,
    /// The gradient by it.
    passed: Vec<f32>,
    /// The first column of each window that lies in the map.
    first: Vec<u32>,
    /// The largest number of each window so far.
    largest: Vec<f32>,
    /// Where it is in its window, in reading order.
    position: Vec<u32>,
}

impl Scratch {
    fn new(pooling: &Pooling) -> Self {
        let [_, windows] = pooling.output;
        let first = |window: usize| {
            let column = pooling.padding[1].saturating_sub(window * pooling.stride[1]);
            u32::try_from(column).expect("a kernel's side")
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

/// The gradient of one map.
struct Backward<'a> {
    pooling: Pooling,
    input: &'a [f32],
    gradient: &'a [f32],
    result: &'a mut [f32],
    scratch: &'a mut Scratch,
}

impl Backward<'_> {
    /// Finds the largest number of each window of a row.
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
        // Until a larger one is found it is the first in the map, however small that is.
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
                for ((largest, position), number) in found.zip(values) {
                    let new = larger(*number, *largest);
                    *largest = if new { *number } else { *largest };
                    *position = if new { here } else { *position };
                }
            }
        }
    }
}

/// A place in a window, in reading order; rows are counted from the window's own first.
#[inline(always)]
fn position(row: usize, column: usize, kernel: usize) -> u32 {
    u32::try_from(row * kernel + column).expect("a place in a kernel")
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
