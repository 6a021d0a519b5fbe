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
    /// The phases that taps read: the position of the map that each begins with; may lie outside.
    phases: Vec<[isize; 2]>,
    /// For each tap, its phase and its shift within it.
    shifts: Vec<(usize, usize)>,
    /// Height and width of one phase. Rows share the zeros between them: what is read behind a row
    /// is what lies before the next.
    phase: [usize; 2],
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
        let side = |axis: usize| {
            let of = || taps.iter().map(move |tap| tap[axis]);
            let first = of().min().unwrap_or(0);
            let reach = of().max().unwrap_or(0) - first;
            (first, grid[axis] + reach.unsigned_abs() / stride[axis])
        };
        let (top, left) = (side(0), side(1));
        let phase = |tap: &[isize; 2]| {
            let within = |axis: usize, first: isize| {
                first + (tap[axis] - first) % stride[axis].cast_signed()
            };
            [within(0, top.0), within(1, left.0)]
        };
        let mut phases: Vec<[isize; 2]> = taps.iter().map(phase).collect();
        phases.sort_unstable();
        phases.dedup();
        // Along each side, as many numbers as lie between the zeros before the map and those after it,
        // which are the zeros before what comes next.
        let size = |axis: usize, read: usize| {
            let of = || {
                phases
                    .iter()
                    .map(|phase| inside(phase[axis], stride[axis], map[axis], read))
            };
            let zeros = of().map(|inside| inside.start).min().unwrap_or(0);
            let end = of().map(|inside| inside.end).max().unwrap_or(0);
            end.max(read - zeros.min(read)).max(grid[axis])
        };
        let size = [size(0, top.1), size(1, left.1)];
        let shift = |tap: &[isize; 2]| {
            let own = phase(tap);
            let steps = |axis: usize| (tap[axis] - own[axis]).unsigned_abs() / stride[axis];
            let place = phases.iter().position(|phase| *phase == own).unwrap_or(0);
            (place, steps(0) * size[1] + steps(1))
        };
        Self {
            map,
            grid,
            stride,
            shifts: taps.iter().map(shift).collect(),
            phases,
            phase: size,
        }
    }

    /// The same window with a phase for each tap: more to lay out, and then no position between the
    /// results' that is computed for nothing.
    fn gathered(
        map: [usize; 2],
        grid: [usize; 2],
        stride: [usize; 2],
        taps: Vec<[isize; 2]>,
    ) -> Self {
        Self {
            map,
            grid,
            stride,
            shifts: (0..taps.len()).map(|tap| (tap, 0)).collect(),
            phases: taps,
            phase: grid,
        }
    }

    /// The window that is cheaper where each number read has a part in so many results at a position.
    pub(crate) fn for_results(
        map: [usize; 2],
        grid: [usize; 2],
        stride: [usize; 2],
        taps: Vec<[isize; 2]>,
        results: usize,
    ) -> Self {
        /// Results whose sums take longer than copying what they read once more.
        const MANY: usize = 32;
        if stride == [1, 1] && results >= MANY {
            Self::gathered(map, grid, stride, taps)
        } else {
            Self::new(map, grid, stride, &taps)
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

    /// For each tap, its phase and its shift within it.
    pub(crate) fn shifts(&self) -> &[(usize, usize)] {
        &self.shifts
    }

    /// Copies some positions of a phase, of images one behind the other: those from `from` on, as many as
    /// `copy` takes. `map` gives the map of an image, and `None` behind the last one.
    #[inline(always)]
    pub(crate) fn lay_out<'a>(
        &self,
        phase: usize,
        from: usize,
        map: impl Fn(usize) -> Option<&'a [f32]>,
        copy: &mut [f32],
    ) {
        let area = self.area();
        // Where rows follow each other as they do in the map, many are copied at once.
        let together = self.pitch() == self.map[1] && self.stride == [1, 1];
        let at_once = if together { area } else { self.pitch() };
        let mut at = from;
        let mut rest = copy;
        while !rest.is_empty() {
            let Some(map) = map(at / area) else {
                return rest.fill(0.0);
            };
            let within = at % area;
            let count = (at_once - within % at_once).min(rest.len());
            let (part, behind) = rest.split_at_mut(count);
            if together {
                self.lay_out_rows(phase, within, map, part);
            } else {
                self.lay_out_row(phase, within, map, part);
            }
            rest = behind;
            at += count;
        }
    }

    /// Copies positions of an image that lie a constant way from their places in the map.
    #[inline(always)]
    fn lay_out_rows(&self, phase: usize, from: usize, map: &[f32], copy: &mut [f32]) {
        let [top, left] = self.phases[phase];
        let pitch = self.pitch();
        let place = from.cast_signed() + top * pitch.cast_signed() + left;
        let before = place.min(0).unsigned_abs().min(copy.len());
        let begin = place.max(0).unsigned_abs().min(map.len());
        let count = (map.len() - begin).min(copy.len() - before);
        copy[..before].fill(0.0);
        copy[before..before + count].copy_from_slice(&map[begin..begin + count]);
        copy[before + count..].fill(0.0);
        // Columns that lie outside were read from the row before or behind.
        let columns = inside(left, 1, self.map[1], pitch);
        for outside in (0..columns.start).chain(columns.end..pitch) {
            let first = (outside + pitch - from % pitch) % pitch;
            for number in copy.iter_mut().skip(first).step_by(pitch) {
                *number = 0.0;
            }
        }
    }

    /// Copies positions of one row.
    #[inline(always)]
    fn lay_out_row(&self, phase: usize, from: usize, map: &[f32], copy: &mut [f32]) {
        let [height, width] = self.map;
        let [down, across] = self.stride;
        let [top, left] = self.phases[phase];
        let (y, x) = (from / self.pitch(), from % self.pitch());
        if !inside(top, down, height, self.phase[0]).contains(&y) {
            return copy.fill(0.0);
        }
        let row = (top + (y * down).cast_signed()).unsigned_abs();
        let map = &map[row * width..][..width];
        // What of this part of the row lies in the map.
        let columns = inside(left, across, width, self.pitch());
        let begin = columns.start.clamp(x, x + copy.len());
        let end = columns.end.clamp(begin, x + copy.len());
        copy[..begin - x].fill(0.0);
        copy[end - x..].fill(0.0);
        let copy = &mut copy[begin - x..end - x];
        if copy.is_empty() {
            return;
        }
        let map = &map[(left + (begin * across).cast_signed()).unsigned_abs()..];
        if across == 1 {
            copy.copy_from_slice(&map[..copy.len()]);
        } else {
            for (to, from) in copy.iter_mut().zip(map.iter().step_by(across)) {
                *to = *from;
            }
        }
    }
}

/// The indices `i` below `count` for which `first + i·step` lies in `0..size`.
#[inline(always)]
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
