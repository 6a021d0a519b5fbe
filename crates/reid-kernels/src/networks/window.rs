//! Feature maps laid out so that every tap of a kernel reads them contiguously.

use std::{iter, ops::Range};

/// A window over maps of one size: which positions of the map each tap of the kernel reads.
///
/// Positions that the kernel reads outside the map are zeros, kept in the map's copy; with a stride
/// the copy is split by phase, so that the positions of one tap lie side by side again. A tap is
/// then a constant shift, and a convolution a sum of shifted, scaled copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// Height and width of a map.
    pub(crate) map: [usize; 2],
    /// Height and width of the grid of results.
    pub(crate) grid: [usize; 2],
    /// Step between results, in positions of the map.
    pub(crate) stride: [usize; 2],
    /// The phases that taps read.
    phases: Vec<Phase>,
    /// For each tap, its phase and its shift within it.
    shifts: Vec<(usize, usize)>,
    /// Height and width of one phase. Rows share the zeros between them: what is read behind a row
    /// is what lies before the next.
    phase: [usize; 2],
}

/// The positions that some taps read, a stride apart.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Phase {
    /// The position of the map that it begins with; may lie outside.
    begin: [isize; 2],
    /// Its rows and columns that lie in the map.
    inside: [Range<usize>; 2],
}

impl Phase {
    /// The phase that begins at a position, of a size, over a map.
    fn new(begin: [isize; 2], stride: [usize; 2], map: [usize; 2], size: [usize; 2]) -> Self {
        let inside = [0, 1].map(|axis| inside(begin[axis], stride[axis], map[axis], size[axis]));
        Self { begin, inside }
    }
}

impl Window {
    /// A window whose taps read where they say for the result at 0, 0, in positions of the map, and a
    /// stride further for the next; they may read outside.
    pub(crate) fn new(
        map: [usize; 2],
        grid: [usize; 2],
        stride: [usize; 2],
        taps: &[[isize; 2]],
    ) -> Self {
        Self::parted(map, grid, stride, taps, [false; 2])
    }

    /// The window that is cheapest where each number read has a part in so many results at a position.
    pub(crate) fn for_results(
        map: [usize; 2],
        grid: [usize; 2],
        stride: [usize; 2],
        taps: &[[isize; 2]],
        results: usize,
    ) -> Self {
        /// Results whose sums take longer than copying what they read once for every row of taps.
        const MANY: usize = 192;
        let apart = stride == [1, 1];
        Self::parted(map, grid, stride, taps, [apart && results >= MANY, apart])
    }

    /// A window with a phase for each row or column of taps where they are apart: more to lay out, and then
    /// no row or column between the results' that is computed for nothing.
    fn parted(
        map: [usize; 2],
        grid: [usize; 2],
        stride: [usize; 2],
        taps: &[[isize; 2]],
        apart: [bool; 2],
    ) -> Self {
        // Where the phase of a tap begins, along one side.
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
        // Along each side, as many numbers as lie between the zeros before the map and those after it,
        // which are the zeros before what comes next.
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

    /// The phases that are laid out.
    pub(crate) fn phases(&self) -> usize {
        self.phases.len()
    }

    /// The numbers in one phase.
    pub(crate) fn area(&self) -> usize {
        self.phase[0] * self.phase[1]
    }

    /// The step from a row of results to the next, in numbers of a phase.
    pub(crate) fn pitch(&self) -> usize {
        self.phase[1]
    }

    /// The numbers from the first result to behind the last one, for images one behind the other.
    pub(crate) fn span(&self, images: usize) -> usize {
        (images - 1) * self.area() + (self.grid[0] - 1) * self.pitch() + self.grid[1]
    }

    /// How far a tap reads behind the place of its result, at most.
    pub(crate) fn reach(&self) -> usize {
        self.shifts
            .iter()
            .map(|(_, shift)| *shift)
            .max()
            .unwrap_or(0)
    }

    /// Whether every tap has a phase of its own, in their order, and reads it as it is.
    pub(crate) fn is_apart(&self) -> bool {
        let mut shifts = self.shifts.iter().enumerate();
        shifts.all(|(tap, shift)| *shift == (tap, 0))
    }

    /// For each tap, its phase and its shift within it.
    pub(crate) fn shifts(&self) -> &[(usize, usize)] {
        &self.shifts
    }

    /// Positions of images one behind the other as parts of one image each: the image, the first position in
    /// it, and which positions these are.
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

    /// Copies some positions of a phase of one image: those from `from` on, as many as `copy` takes.
    #[inline(always)]
    pub(crate) fn lay_out(&self, phase: usize, from: usize, map: &[f32], copy: &mut [f32]) {
        let pitch = self.pitch();
        // Where rows follow each other as they do in the map, they are copied at once.
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

    /// Copies positions of an image that lie a constant way from their places in the map.
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
        // Columns that lie outside were read from the row before or behind.
        for outside in (0..inside[1].start).chain(inside[1].end..pitch) {
            let first = (outside + pitch - from % pitch) % pitch;
            for number in copy.iter_mut().skip(first).step_by(pitch) {
                *number = 0.0;
            }
        }
    }

    /// Copies positions of one row, from `x` on.
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
                // As pairs, of which the compiler takes the first numbers with vectors.
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

/// The indices `i` below `count` for which `first + i·step` lies in `0..size`.
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
