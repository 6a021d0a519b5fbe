//! Feature maps laid out so that every tap of a kernel reads them contiguously.

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
    /// Where each tap reads for the result at 0, 0, in positions of the map; may lie outside.
    pub(crate) taps: Vec<[isize; 2]>,
    /// The least tap along each side.
    first: [isize; 2],
    /// The phases that taps read.
    phases: Vec<[usize; 2]>,
    /// Height and width of one phase. Rows share the zeros between them: what is read behind a row
    /// is what lies before the next.
    phase: [usize; 2],
}

impl Window {
    pub(crate) fn new(
        map: [usize; 2],
        grid: [usize; 2],
        stride: [usize; 2],
        taps: Vec<[isize; 2]>,
    ) -> Self {
        let side = |axis: usize| {
            let of = || taps.iter().map(move |tap| tap[axis]);
            let first = of().min().unwrap_or(0);
            let reach = of().max().unwrap_or(0) - first;
            (first, grid[axis] + reach.unsigned_abs() / stride[axis])
        };
        let ((top, height), (left, read)) = (side(0), side(1));
        let phase = |tap: &[isize; 2]| {
            [
                (tap[0] - top).unsigned_abs() % stride[0],
                (tap[1] - left).unsigned_abs() % stride[1],
            ]
        };
        let mut phases: Vec<[usize; 2]> = taps.iter().map(phase).collect();
        phases.sort_unstable();
        phases.dedup();
        let columns = |x: usize| inside(left + x.cast_signed(), stride[1], map[1], read);
        let zeros = phases
            .iter()
            .map(|phase| columns(phase[1]).start)
            .min()
            .unwrap_or(0);
        let end = phases
            .iter()
            .map(|phase| columns(phase[1]).end)
            .max()
            .unwrap_or(0);
        let width = end.max(read - zeros.min(read)).max(grid[1]);
        Self {
            map,
            grid,
            stride,
            taps,
            first: [top, left],
            phases,
            phase: [height, width],
        }
    }

    /// The numbers that the copy of one map takes, of which the first phase has [`Self::area`].
    pub(crate) fn size(&self) -> usize {
        self.area() * self.phases.len()
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
        self.shifts()
            .iter()
            .map(|(_, shift)| *shift)
            .max()
            .unwrap_or(0)
    }

    /// For each tap, its phase and its shift within it.
    pub(crate) fn shifts(&self) -> Vec<(usize, usize)> {
        let shift = |tap: &[isize; 2]| {
            let down = (tap[0] - self.first[0]).unsigned_abs();
            let across = (tap[1] - self.first[1]).unsigned_abs();
            let phase = [down % self.stride[0], across % self.stride[1]];
            let phase = self
                .phases
                .iter()
                .position(|used| *used == phase)
                .unwrap_or(0);
            let shift = down / self.stride[0] * self.pitch() + across / self.stride[1];
            (phase, shift)
        };
        self.taps.iter().map(shift).collect()
    }

    /// Copies a map; `place` says where each phase begins in `copy`, which holds zeros.
    pub(crate) fn lay_out(&self, map: &[f32], copy: &mut [f32], place: impl Fn(usize) -> usize) {
        let [height, width] = self.map;
        let [down, across] = self.stride;
        for (phase, [from_y, from_x]) in self.phases.iter().copied().enumerate() {
            let begin = place(phase);
            // Row `y` of the phase is row `top + y·down` of the map, and likewise for columns.
            let top = self.first[0] + from_y.cast_signed();
            let left = self.first[1] + from_x.cast_signed();
            let columns = inside(left, across, width, self.phase[1]);
            for y in inside(top, down, height, self.phase[0]) {
                let row = (top + (y * down).cast_signed()).unsigned_abs() * width;
                let start = (left + (columns.start * across).cast_signed()).unsigned_abs();
                let source = &map[row + start..row + width];
                let at = begin + y * self.phase[1];
                let target = &mut copy[at + columns.start..at + columns.end];
                if across == 1 {
                    target.copy_from_slice(&source[..target.len()]);
                } else {
                    for (to, from) in target.iter_mut().zip(source.iter().step_by(across)) {
                        *to = *from;
                    }
                }
            }
        }
    }
}

/// The indices `i` below `count` for which `first + i·step` lies in `0..size`.
fn inside(first: isize, step: usize, size: usize, count: usize) -> std::ops::Range<usize> {
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
