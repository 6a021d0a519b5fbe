//! Copies of feature maps that every tap of a kernel reads contiguously.
//!
//! A copy contains the zeros that the kernel reads outside the feature map. With a stride it is split by
//! *phase*: a phase holds the positions that are a stride apart, so the positions that one tap reads are
//! adjacent. A tap is then a constant offset, and a convolution is a sum of shifted, scaled copies.
//!
//! Copies are larger where that saves work later:
//!
//! - Without a stride, every column of taps has its own phase. Its rows follow each other as in the feature
//!   map, so many rows are copied, and many results written, at once.
//! - Where each value read contributes to 192 output channels or more, every tap has its own phase. The
//!   copies cost little compared with the sums. No position between images is computed in vain, and the
//!   values that a tile reads are contiguous: the innermost loop has one pointer and no bounds checks.
//! - So it has where the rows of taps are dilated: one phase would hold all rows between them.

use std::{iter, ops::Range};

/// The layout of the copy of a feature map: its phases, and the offset at which each tap reads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// The height and width of a feature map.
    pub(crate) map: [usize; 2],
    /// The height and width of the grid of results.
    pub(crate) grid: [usize; 2],
    /// The step between results, in positions of the feature map.
    pub(crate) stride: [usize; 2],
    /// The phases that the taps read.
    phases: Vec<Phase>,
    /// For each tap, the index of its phase and its offset in that phase.
    shifts: Vec<(usize, usize)>,
    /// The height and width of one phase. Adjacent rows share zeros: the zeros after one row are the zeros
    /// before the next.
    phase: [usize; 2],
}

/// Positions of a feature map that are a stride apart.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Phase {
    /// The first position, which may be outside the feature map.
    begin: [isize; 2],
    /// The rows and columns of the phase that are inside the feature map.
    inside: [Range<usize>; 2],
}

impl Phase {
    /// The phase of the given size that begins at `begin`.
    fn new(begin: [isize; 2], stride: [usize; 2], map: [usize; 2], size: [usize; 2]) -> Self {
        let inside = [0, 1].map(|axis| inside(begin[axis], stride[axis], map[axis], size[axis]));
        Self { begin, inside }
    }
}

impl Window {
    /// A window with as few phases as the stride allows.
    ///
    /// `taps` holds the position that each tap reads for the result at (0, 0); it may be outside the feature
    /// map. For the next result every tap reads one stride further.
    pub(crate) fn new(
        map: [usize; 2],
        grid: [usize; 2],
        stride: [usize; 2],
        taps: &[[isize; 2]],
    ) -> Self {
        Self::parted(map, grid, stride, taps, [false; 2])
    }

    /// The cheapest window if each value read contributes to `results` output channels.
    pub(crate) fn for_results(
        map: [usize; 2],
        grid: [usize; 2],
        stride: [usize; 2],
        taps: &[[isize; 2]],
        results: usize,
    ) -> Self {
        /// From this number of output channels on, the sums take longer than a copy for every row of taps.
        const MANY: usize = 192;
        let apart = stride == [1, 1];
        let dilated = taps
            .windows(2)
            .any(|taps| taps[1][0].abs_diff(taps[0][0]) > 1);
        let rows_apart = apart && (results >= MANY || dilated);
        Self::parted(map, grid, stride, taps, [rows_apart, apart])
    }

    /// A window with a separate phase for each row (`apart[0]`) and each column (`apart[1]`) of taps. Such a
    /// copy is larger, but no row or column between those of the results is computed in vain.
    fn parted(
        map: [usize; 2],
        grid: [usize; 2],
        stride: [usize; 2],
        taps: &[[isize; 2]],
        apart: [bool; 2],
    ) -> Self {
        // The first position of a tap's phase along one axis.
        let begin = |axis: usize, tap: &[isize; 2]| {
            let first = taps.iter().map(|tap| tap[axis]).min().unwrap_or(0);
            if apart[axis] {
                tap[axis]
            } else {
                first + (tap[axis] - first) % stride[axis].cast_signed()
            }
        };
        let steps = |axis: usize, tap: &[isize; 2]| {
            (tap[axis] - begin(axis, tap)).unsigned_abs() / stride[axis]
        };
        let phase = |tap: &[isize; 2]| [begin(0, tap), begin(1, tap)];
        let mut phases: Vec<[isize; 2]> = Vec::new();
        for phase in taps.iter().map(phase) {
            if !phases.contains(&phase) {
                phases.push(phase);
            }
        }
        // Along each axis, the size includes only one border of zeros: the zeros after a row or an image are
        // the zeros before the next.
        let size = [0, 1].map(|axis| {
            if apart[axis] {
                return grid[axis];
            }
            let read = grid[axis] + taps.iter().map(|tap| steps(axis, tap)).max().unwrap_or(0);
            let within = || {
                phases
                    .iter()
                    .map(|phase| inside(phase[axis], stride[axis], map[axis], read))
            };
            let zeros = within().map(|inside| inside.start).min().unwrap_or(0);
            let end = within().map(|inside| inside.end).max().unwrap_or(0);
            end.max(read - zeros.min(read)).max(grid[axis])
        });
        let shift = |tap: &[isize; 2]| {
            let own = phase(tap);
            let position = phases.iter().position(|phase| *phase == own).unwrap_or(0);
            (position, steps(0, tap) * size[1] + steps(1, tap))
        };
        Self {
            map,
            grid,
            stride,
            shifts: taps.iter().map(shift).collect(),
            phases: phases
                .iter()
                .map(|begin| Phase::new(*begin, stride, map, size))
                .collect(),
            phase: size,
        }
    }

    /// The number of phases.
    pub(crate) fn phases(&self) -> usize {
        self.phases.len()
    }

    /// The number of positions in one phase.
    pub(crate) fn area(&self) -> usize {
        self.phase[0] * self.phase[1]
    }

    /// The distance from one row of results to the next, in positions of a phase.
    pub(crate) fn pitch(&self) -> usize {
        self.phase[1]
    }

    /// The number of phase positions from the first result to the last one, inclusive, for consecutive
    /// images.
    pub(crate) fn span(&self, images: usize) -> usize {
        (images - 1) * self.area() + (self.grid[0] - 1) * self.pitch() + self.grid[1]
    }

    /// The largest offset at which a tap reads.
    pub(crate) fn reach(&self) -> usize {
        self.shifts
            .iter()
            .map(|(_, shift)| *shift)
            .max()
            .unwrap_or(0)
    }

    /// Whether there is one tap, and every result reads the position with its own index.
    pub(crate) fn is_identity(&self) -> bool {
        let [phase] = self.phases.as_slice() else {
            return false;
        };
        self.shifts == [(0, 0)]
            && phase.begin == [0, 0]
            && (self.map, self.stride) == (self.grid, [1, 1])
    }

    /// Whether every tap reads its own phase at offset 0, in the order of the taps.
    pub(crate) fn is_apart(&self) -> bool {
        let mut shifts = self.shifts.iter().enumerate();
        shifts.all(|(tap, shift)| *shift == (tap, 0))
    }

    /// For each tap, the index of its phase and its offset in that phase.
    pub(crate) fn shifts(&self) -> &[(usize, usize)] {
        &self.shifts
    }

    /// Splits a range of positions of consecutive images at the borders of the images. Each part consists of
    /// the index of its image, its first position in that image, and its range.
    pub(crate) fn parts(
        &self,
        positions: Range<usize>,
    ) -> impl Iterator<Item = (usize, usize, Range<usize>)> {
        let area = self.area();
        let (mut at, end) = (positions.start, positions.end);
        iter::from_fn(move || {
            let (image, within) = (at / area, at % area);
            let part = at..(at + area - within).min(end);
            at = part.end;
            (!part.is_empty()).then_some((image, within, part))
        })
    }

    /// Fills `copy` with consecutive positions of a phase of one image, from position `from` on.
    #[inline(always)]
    pub(crate) fn lay_out(&self, phase: usize, from: usize, map: &[f32], copy: &mut [f32]) {
        let pitch = self.pitch();
        // Rows that follow each other as in the feature map are copied at once.
        if pitch == self.map[1] && self.stride == [1, 1] {
            return self.lay_out_rows(phase, from, map, copy);
        }
        let (mut y, mut x) = (from / pitch, from % pitch);
        let mut rows = copy;
        while !rows.is_empty() {
            let (row, below) = rows.split_at_mut((pitch - x).min(rows.len()));
            self.lay_out_row(phase, [y, x], map, row);
            (rows, y, x) = (below, y + 1, 0);
        }
    }

    /// Copies positions whose distance from their source in the feature map is constant.
    #[inline(always)]
    fn lay_out_rows(&self, phase: usize, from: usize, map: &[f32], copy: &mut [f32]) {
        let Phase { begin, inside } = &self.phases[phase];
        let pitch = self.pitch();
        let position = from.cast_signed() + begin[0] * pitch.cast_signed() + begin[1];
        let before = position.min(0).unsigned_abs().min(copy.len());
        let begin = position.max(0).unsigned_abs().min(map.len());
        let count = (map.len() - begin).min(copy.len() - before);
        copy[..before].fill(0.0);
        copy[before..before + count].copy_from_slice(&map[begin..begin + count]);
        copy[before + count..].fill(0.0);
        // Columns outside the feature map were read from the previous or the next row.
        for outside in (0..inside[1].start).chain(inside[1].end..pitch) {
            let first = (outside + pitch - from % pitch) % pitch;
            for value in copy.iter_mut().skip(first).step_by(pitch) {
                *value = 0.0;
            }
        }
    }

    /// Copies positions of row `y` of a phase, from column `x` on.
    #[inline(always)]
    fn lay_out_row(&self, phase: usize, [y, x]: [usize; 2], map: &[f32], copy: &mut [f32]) {
        let Phase { begin, inside } = &self.phases[phase];
        let [down, across] = self.stride;
        let end = inside[1].end.clamp(x, x + copy.len());
        let start = inside[1].start.clamp(x, end);
        if start == end || !inside[0].contains(&y) {
            return copy.fill(0.0);
        }
        copy[..start - x].fill(0.0);
        copy[end - x..].fill(0.0);
        let copy = &mut copy[start - x..end - x];
        let row = (begin[0] + (y * down).cast_signed()).unsigned_abs();
        let column = (begin[1] + (start * across).cast_signed()).unsigned_abs();
        let map = &map[row * self.map[1]..][column..self.map[1]];
        match across {
            1 => copy.copy_from_slice(&map[..copy.len()]),
            2 => {
                // Written as pairs, so that the compiler extracts their first values with SIMD shuffles.
                let (pairs, last) = map.as_chunks::<2>();
                for (to, [first, _]) in copy.iter_mut().zip(pairs) {
                    *to = *first;
                }
                if let (Some(to), [last]) = (copy.get_mut(pairs.len()), last) {
                    *to = *last;
                }
            }
            _ => {
                for (to, from) in copy.iter_mut().zip(map.iter().step_by(across)) {
                    *to = *from;
                }
            }
        }
    }
}

/// The range of the indices `i` below `count` for which `first + i·step` is in `0..size`.
#[inline(always)]
fn inside(first: isize, step: usize, size: usize, count: usize) -> Range<usize> {
    let before = |bound: isize| {
        let distance = bound - first;
        if distance <= 0 {
            0
        } else {
            distance.unsigned_abs().div_ceil(step)
        }
    };
    let end = before(size.cast_signed()).min(count);
    before(0).min(end)..end
}
