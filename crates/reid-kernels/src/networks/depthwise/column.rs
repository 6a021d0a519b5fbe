//! The taps of a depthwise kernel, by the columns of positions that they read.

use pulp::Simd;

use super::{
    frame::{Frame, Grid},
    tile::VECTORS,
};

/// Taps that read one phase of a frame in consecutive rows, the same number of columns away from a result.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    /// The offset that the first tap reads for the first result. Each further tap reads one row below.
    pub(crate) begin: usize,
    /// The number of taps.
    pub(crate) count: usize,
    /// For each column of results, 1 if the taps read their own row there, otherwise 0. The columns repeat,
    /// so that a tile may begin in any of them.
    inside: Vec<f32>,
}

impl Column {
    /// The columns of taps that compute a grid, and for each tap in their order, the index of its weight.
    pub(crate) fn all(frame: &Frame, grid: &Grid) -> (Vec<Self>, Vec<usize>) {
        let mut taps: Vec<(isize, usize, usize)> = grid
            .taps
            .iter()
            .map(|(weight, tap)| (frame.step(*tap)[1], frame.offset(*tap), *weight))
            .collect();
        taps.sort_unstable();
        let mut columns: Vec<Self> = Vec::new();
        let mut last = None;
        for (across, offset, _) in &taps {
            match columns.last_mut() {
                Some(column) if last == Some(across) && column.below(frame) == *offset => {
                    column.count += 1;
                }
                _ => columns.push(Self {
                    begin: *offset,
                    count: 1,
                    inside: inside(frame, grid.size[1], *across),
                }),
            }
            last = Some(across);
        }
        let order = taps.iter().map(|(_, _, weight)| *weight);
        (columns, order.collect())
    }

    /// The offset of the row below the last tap.
    fn below(&self, frame: &Frame) -> usize {
        self.begin + self.count * frame.pitch
    }

    /// For `A` vectors of results from a column of a row on, the lanes that read their own row.
    #[inline(always)]
    pub(crate) fn masks<S: Simd, const A: usize>(&self, simd: S, x: usize) -> [S::m32s; A] {
        let (inside, _) = S::as_simd_f32s(&self.inside[x..][..A * S::F32_LANES]);
        let zero = simd.splat_f32s(0.0);
        let mut masks = [simd.less_than_f32s(zero, zero); A];
        for a in 0..A {
            masks[a] = simd.less_than_f32s(zero, inside[a]);
        }
        masks
    }
}

/// [`Column::inside`] for taps that read `across` columns away. A column beyond the results counts as
/// outside.
fn inside(frame: &Frame, results: usize, across: isize) -> Vec<f32> {
    let one = |column: usize| {
        let column = column % frame.pitch;
        let read = column.checked_add_signed(across);
        let inside = column < results && read.is_some_and(|read| read < frame.pitch);
        f32::from(u8::from(inside))
    };
    (0..frame.pitch + VECTORS * Frame::LINE).map(one).collect()
}
