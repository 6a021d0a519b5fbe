//! Inner products of rows and columns: the gradient of a convolution with respect to its weights, where the channels
//! do not fill SIMD vectors.

use pulp::{Arch, Simd, WithSimd};

use super::tile;

/// The number of values of each row and column that are read together, so that a tile stays in the first cache.
const STRETCH: usize = 1536;

/// The number of rows in a block, so that they stay in the second cache.
const ROWS: usize = 64;

/// Contiguous values of every row and column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch {
    /// Its start, counted from the start of a row.
    pub(crate) in_row: usize,
    /// Its start, counted from the start of a column.
    pub(crate) in_column: usize,
    pub(crate) length: usize,
}

impl Stretch {
    /// Divides a long stretch into parts of about equal length.
    pub(crate) fn parts(self) -> impl Iterator<Item = Self> {
        /// A multiple of the length of a SIMD vector.
        const LANES: usize = 16;
        let parts = self.length.div_ceil(STRETCH).max(1);
        let part = self
            .length
            .div_ceil(parts)
            .next_multiple_of(tile::RUN * LANES);
        (0..self.length).step_by(part).map(move |from| Self {
            in_row: self.in_row + from,
            in_column: self.in_column + from,
            length: part.min(self.length - from),
        })
    }
}

/// Computes `results[c, r] += Σₛ Σᵢ rows[row_begins[r] + sᵣ + i] · columns[column_begins[c] + s꜀ + i]` over all stretches
/// `s` and the values `i` of each.
pub(crate) struct Inner<'a> {
    pub(crate) rows: &'a [f32],
    /// The start of each row in `rows`.
    pub(crate) row_begins: &'a [usize],
    pub(crate) columns: &'a [f32],
    /// The start of each column in `columns`.
    pub(crate) column_begins: &'a [usize],
    pub(crate) stretches: &'a [Stretch],
    /// `[columns, rows]`.
    pub(crate) results: &'a mut [f32],
}

impl Inner<'_> {
    /// Adds the products.
    pub(crate) fn run(self) {
        Arch::new().dispatch(self);
    }

    #[inline(always)]
    fn tiles<S: Simd, const R: usize, const C: usize>(&mut self, simd: S) {
        let (rows, columns) = (self.row_begins.len(), self.column_begins.len());
        let mut rest = self.stretches;
        while let Some(first) = rest.first() {
            // Short stretches are read together, so that the sums over lanes are rare.
            let (mut count, mut length) = (1, first.length);
            while let Some(next) = rest.get(count)
                && length + next.length <= STRETCH
            {
                (count, length) = (count + 1, length + next.length);
            }
            let (stretches, after) = rest.split_at(count);
            rest = after;
            for first in (0..rows).step_by(ROWS) {
                let last = (first + ROWS).min(rows);
                for column in (0..columns).step_by(C) {
                    for row in (first..last).step_by(R) {
                        self.tile::<S, R, C>(simd, row, column, stretches);
                    }
                }
            }
        }
    }

    /// Computes one tile. An incomplete tile repeats its last row or column.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const C: usize>(
        &mut self,
        simd: S,
        row: usize,
        column: usize,
        stretches: &[Stretch],
    ) {
        let (rows, columns) = (self.row_begins.len(), self.column_begins.len());
        let mut row_begins = [0; R];
        for (r, begin) in row_begins.iter_mut().enumerate() {
            *begin = self.row_begins[(row + r).min(rows - 1)];
        }
        let mut column_begins = [0; C];
        for (c, begin) in column_begins.iter_mut().enumerate() {
            *begin = self.column_begins[(column + c).min(columns - 1)];
        }
        let mut sums = [[simd.splat_f32s(0.0); C]; R];
        for stretch in stretches {
            let mut left: [&[f32]; R] = [&[]; R];
            for r in 0..R {
                left[r] = &self.rows[row_begins[r] + stretch.in_row..][..stretch.length];
            }
            let mut right: [&[f32]; C] = [&[]; C];
            for c in 0..C {
                right[c] = &self.columns[column_begins[c] + stretch.in_column..][..stretch.length];
            }
            sums = tile::add_products::<S, R, C>(simd, sums, left, right);
        }
        let sums = tile::reduced::<S, R, C>(simd, sums);
        for (r, sums) in sums.iter().enumerate().take(R.min(rows - row)) {
            for (c, sum) in sums.iter().enumerate().take(C.min(columns - column)) {
                self.results[(column + c) * rows + row + r] += sum;
            }
        }
    }
}

impl WithSimd for Inner<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        if S::REGISTER_COUNT >= 32 {
            self.tiles::<S, 4, 6>(simd);
        } else {
            self.tiles::<S, 3, 4>(simd);
        }
    }
}
