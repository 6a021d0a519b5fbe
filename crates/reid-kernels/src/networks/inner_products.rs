//! Inner products of rows with stretches of one slice: the gradient of a convolution with respect to its
//! weights, where the channels do not fill SIMD vectors.

use pulp::{Arch, Simd, WithSimd};

use super::tile;

/// The number of values of each row in a block, so that a tile stays in the first cache.
const STRETCH: usize = 1536;

/// The number of rows in a block, so that they stay in the second cache.
const ROWS: usize = 64;

/// Computes `results[c, r] += Σᵢ rows[r, i] · copy[begin[c] + i]`.
pub(crate) struct Inner<'a> {
    /// `[rows, length]`.
    pub(crate) rows: &'a [f32],
    pub(crate) length: usize,
    pub(crate) copy: &'a [f32],
    /// The start of each column in `copy`.
    pub(crate) begin: &'a [usize],
    /// `[columns, rows]`, zeros at first.
    pub(crate) results: &'a mut [f32],
}

impl Inner<'_> {
    /// Computes the products.
    pub(crate) fn run(self) {
        Arch::new().dispatch(self);
    }

    #[inline(always)]
    fn tiles<S: Simd, const R: usize, const C: usize>(&mut self, simd: S) {
        let count = self.rows.len() / self.length;
        // Parts of equal length: a short part costs as many sums over lanes as a long one.
        let parts = self.length.div_ceil(STRETCH);
        let part = self
            .length
            .div_ceil(parts)
            .next_multiple_of(tile::RUN * S::F32_LANES);
        for from in (0..self.length).step_by(part) {
            let to = (from + part).min(self.length);
            for first in (0..count).step_by(ROWS) {
                let last = (first + ROWS).min(count);
                for column in (0..self.begin.len()).step_by(C) {
                    for row in (first..last).step_by(R) {
                        self.tile::<S, R, C>(simd, row, column, from..to);
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
        part: std::ops::Range<usize>,
    ) {
        let count = self.rows.len() / self.length;
        let mut rows: [&[f32]; R] = [&[]; R];
        for (r, slot) in rows.iter_mut().enumerate() {
            let row = (row + r).min(count - 1);
            *slot = &self.rows[row * self.length..][part.clone()];
        }
        let mut columns: [&[f32]; C] = [&[]; C];
        for (c, slot) in columns.iter_mut().enumerate() {
            let begin = self.begin[(column + c).min(self.begin.len() - 1)];
            *slot = &self.copy[begin + part.start..begin + part.end];
        }
        let sums = tile::products::<S, R, C>(simd, rows, columns);
        // The values after the last whole SIMD vector.
        let whole = part.len() / S::F32_LANES * S::F32_LANES;
        for c in 0..C.min(self.begin.len() - column) {
            let results = &mut self.results[(column + c) * count + row..];
            for (r, result) in results.iter_mut().enumerate().take(R.min(count - row)) {
                let rest: f32 = rows[r][whole..]
                    .iter()
                    .zip(&columns[c][whole..])
                    .map(|(a, b)| a * b)
                    .sum();
                *result += sums[r][c] + rest;
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
