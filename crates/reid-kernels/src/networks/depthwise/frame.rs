//! Copies of feature maps with zeros around them, of which every tap of a depthwise kernel reads one offset.

use std::{array, ops::Range};

use crate::networks::convolution::Convolution;

/// The results that some taps compute.
#[derive(Clone, Debug)]
pub(crate) struct Grid {
    /// The number of rows and columns of results.
    pub(crate) size: [usize; 2],
    /// For each tap, the index of its weight, and the position that it reads for the result at (0, 0), which
    /// may be outside the feature map.
    pub(crate) taps: Vec<(usize, [isize; 2])>,
}

impl Grid {
    /// The output of a convolution.
    pub(crate) fn forward(sizes: &Convolution) -> Self {
        Self {
            size: sizes.output(),
            taps: sizes.taps_read().into_iter().enumerate().collect(),
        }
    }

    /// The gradient with respect to the input of a convolution: for each phase, its index in row-major order
    /// and the grid that covers it.
    pub(crate) fn backward(sizes: &Convolution) -> Vec<(usize, Self)> {
        let ([height, width], [down, across]) = (sizes.input, sizes.stride);
        let begins = (0..down).flat_map(|y| (0..across).map(move |x| [y, x]));
        let inside = |(_, [y, x]): &(usize, [usize; 2])| *y < height && *x < width;
        let begins = begins.enumerate().filter(inside);
        let grid = |(phase, begin): (usize, [usize; 2])| {
            let size =
                [0, 1].map(|axis| (sizes.input[axis] - begin[axis]).div_ceil(sizes.stride[axis]));
            (
                phase,
                Self {
                    size,
                    taps: sizes.taps_reaching(begin),
                },
            )
        };
        begins.map(grid).collect()
    }
}

/// The layout of a copy of a feature map.
///
/// A copy is split by *phase*: a phase holds the positions that are a stride apart. There are zeros above and
/// below a phase, and on its right up to the pitch, which is at least the width of the results. There are
/// none on its left: taps that read another row there are masked.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// The height and width of a feature map.
    map: [usize; 2],
    stride: [usize; 2],
    /// The distance from one row of a phase to the next.
    pub(crate) pitch: usize,
    /// For each phase, in row-major order, the start of its first row; `None` if no tap reads it.
    phases: Vec<Option<usize>>,
    /// The length of a copy.
    pub(crate) size: usize,
}

impl Frame {
    /// The number of values in a cache line, and at least that of a SIMD vector.
    pub(crate) const LINE: usize = 16;

    /// The layout for the taps of some grids. From one result to the next, a tap moves by one stride.
    pub(crate) fn new(map: [usize; 2], stride: [usize; 2], grids: &[Grid]) -> Self {
        let [rows, columns] = [0, 1].map(|axis| map[axis].div_ceil(stride[axis]));
        let widths = grids.iter().map(|grid| grid.size[1]);
        let mut frame = Self {
            map,
            stride,
            pitch: widths.fold(columns, usize::max),
            phases: vec![None; stride[0] * stride[1]],
            size: 0,
        };
        // The numbers of rows and columns outside a phase that the taps read.
        let [mut above, mut below, mut aside] = [0; 3];
        for grid in grids {
            for (_, tap) in &grid.taps {
                let [down, across] = frame.step(*tap);
                let last = down + grid.size[0].cast_signed() - rows.cast_signed();
                above = above.max((-down).max(0).unsigned_abs());
                below = below.max(last.max(0).unsigned_abs());
                aside = aside.max(across.unsigned_abs());
                let phase = frame.phase(*tap);
                frame.phases[phase] = Some(0);
            }
        }
        // The last vector of results may read a line more.
        let after = (rows + below) * frame.pitch + aside + Self::LINE;
        for begin in frame.phases.iter_mut().flatten() {
            *begin = (frame.size + above * frame.pitch + aside).next_multiple_of(Self::LINE);
            frame.size = (*begin + after).next_multiple_of(Self::LINE);
        }
        frame
    }

    /// The positions of a feature map in its copy, where the copy holds it in one piece: without a stride, and
    /// with results of the same width.
    pub(crate) fn whole(&self) -> Option<Range<usize>> {
        match self.phases[..] {
            [Some(begin)] if self.pitch == self.map[1] => {
                Some(begin..begin + self.map[0] * self.map[1])
            }
            _ => None,
        }
    }

    /// Memory for some frames, filled with zeros, that begins at the start of a cache line; and their number.
    pub(crate) fn several<'a>(&self, memory: &'a mut Vec<f32>) -> (&'a mut [f32], usize) {
        /// The number of values of all frames, which stay in the first cache.
        const VALUES: usize = 1 << 12;
        let count = (VALUES / self.size).max(1);
        memory.resize(count * self.size + Self::LINE, 0.0);
        let begin = memory.as_ptr().align_offset(Self::LINE * size_of::<f32>());
        let frames = &mut memory[begin.min(Self::LINE)..];
        (&mut frames[..count * self.size], count)
    }

    /// The index of the phase that a tap reads.
    fn phase(&self, tap: [isize; 2]) -> usize {
        let [down, across] = [0, 1].map(|axis| {
            tap[axis]
                .rem_euclid(self.stride[axis].cast_signed())
                .unsigned_abs()
        });
        down * self.stride[1] + across
    }

    /// The rows and columns from the first position of its phase to the position that a tap reads.
    pub(crate) fn step(&self, tap: [isize; 2]) -> [isize; 2] {
        [0, 1].map(|axis| tap[axis].div_euclid(self.stride[axis].cast_signed()))
    }

    /// The offset at which a tap reads for the first result.
    pub(crate) fn offset(&self, tap: [isize; 2]) -> usize {
        let begin = self.phases[self.phase(tap)].unwrap_or(0);
        let [down, across] = self.step(tap);
        begin.strict_add_signed(down * self.pitch.cast_signed() + across)
    }

    /// Copies a feature map. The zeros around it are not written: `frame` must hold them.
    #[inline(always)]
    pub(crate) fn lay_out(&self, map: &[f32], frame: &mut [f32]) {
        let ([_, width], [down, across]) = (self.map, self.stride);
        if let [Some(begin)] = self.phases[..] {
            return copy_rows((map, width), (&mut frame[begin..], self.pitch));
        }
        for (y, row) in map.chunks_exact(width).enumerate() {
            let at = y / down * self.pitch;
            let phases = &self.phases[y % down * across..][..across];
            if let &[Some(even), Some(odd)] = phases {
                let (evens, odds) = frame.split_at_mut(odd + at);
                split(row, &mut evens[even + at..], odds);
                continue;
            }
            for (phase, begin) in phases.iter().enumerate() {
                let Some(begin) = begin else { continue };
                let row = row.iter().skip(phase).step_by(across);
                for (to, from) in frame[begin + at..].iter_mut().zip(row) {
                    *to = *from;
                }
            }
        }
    }
}

/// Copies rows of one width to rows of another. The rest of the wider rows is not copied or not written.
#[inline(always)]
pub(crate) fn copy_rows((from, from_width): (&[f32], usize), (to, to_width): (&mut [f32], usize)) {
    if from_width == to_width {
        let count = from.len().min(to.len());
        return to[..count].copy_from_slice(&from[..count]);
    }
    let width = from_width.min(to_width);
    for (from, to) in from.chunks_exact(from_width).zip(to.chunks_mut(to_width)) {
        to[..width].copy_from_slice(&from[..width]);
    }
}

/// Copies the values at even and odd columns.
#[inline(always)]
fn split(row: &[f32], evens: &mut [f32], odds: &mut [f32]) {
    /// Splits `2 · N` values, whose number is known to the compiler: a few SIMD shuffles.
    #[inline(always)]
    fn halves<const N: usize>(row: &[f32], evens: &mut [f32], odds: &mut [f32]) {
        let (row, _) = row.as_chunks::<2>();
        let row = row.first_chunk::<N>();
        let halves = (evens.first_chunk_mut::<N>(), odds.first_chunk_mut::<N>());
        if let (Some(row), (Some(evens), Some(odds))) = (row, halves) {
            *evens = row.map(|[even, _]| even);
            *odds = row.map(|[_, odd]| odd);
        }
    }
    match row.len() {
        8 => return halves::<4>(row, evens, odds),
        16 => return halves::<8>(row, evens, odds),
        32 => return halves::<16>(row, evens, odds),
        _ => {}
    }
    let (pairs, last) = row.as_chunks::<2>();
    for ((pair, even), odd) in pairs.iter().zip(evens.iter_mut()).zip(odds) {
        (*even, *odd) = (pair[0], pair[1]);
    }
    if let [last] = last {
        evens[pairs.len()] = *last;
    }
}

/// Interleaves the values of even and odd columns.
#[inline(always)]
pub(crate) fn join(evens: &[f32], odds: &[f32], row: &mut [f32]) {
    /// Joins two halves of `N` values each, as [`split`] splits them.
    #[inline(always)]
    fn halves<const N: usize>(evens: &[f32], odds: &[f32], row: &mut [f32]) {
        let (row, _) = row.as_chunks_mut::<2>();
        let halves = (evens.first_chunk::<N>(), odds.first_chunk::<N>());
        if let (Some(row), (Some(evens), Some(odds))) = (row.first_chunk_mut::<N>(), halves) {
            *row = array::from_fn(|at| [evens[at], odds[at]]);
        }
    }
    match row.len() {
        8 => return halves::<4>(evens, odds, row),
        16 => return halves::<8>(evens, odds, row),
        32 => return halves::<16>(evens, odds, row),
        _ => {}
    }
    let (pairs, last) = row.as_chunks_mut::<2>();
    if let [last] = last {
        *last = evens[pairs.len()];
    }
    for ((pair, even), odd) in pairs.iter_mut().zip(evens).zip(odds) {
        *pair = [*even, *odd];
    }
}
