//! Register tiles: the innermost loops of a convolution and of its gradients.
//!
//! `correlate` multiplies up to 6 rows, one value at a time, with 4 SIMD vectors of columns (2 on
//! processors with fewer than 32 vector registers). A sum stays in a register until all terms of a pass are
//! added. [`add_products`] computes the inner products of rows and columns that are both read as SIMD vectors.

use std::{hint::black_box, ops::Range};

use pulp::Simd;

/// The number of rows of the largest tile of [`correlate`].
const ROWS: usize = 6;

/// The number of terms that are added between two bounds checks.
const STEP: usize = 32;

/// The same for the terms after the last whole step.
const SHORT: usize = 8;

/// The width of a tile of [`correlate`] in SIMD vectors, given the number of vector registers.
pub(crate) const fn across(registers: usize) -> usize {
    if registers >= 32 { 4 } else { 2 }
}

/// Splits rows into panels of at most 6, of sizes as equal as even tile heights allow.
pub(crate) fn panels(rows: usize) -> Vec<Range<usize>> {
    let count = rows.div_ceil(ROWS);
    let mut first = 0;
    let panel = |panel: usize| {
        let begin = first;
        let even = (rows - begin).div_ceil(count - panel).next_multiple_of(2);
        first = (begin + even).min(rows);
        begin..first
    };
    (0..count).map(panel).collect()
}

/// The height of the tile that computes a panel of `count` rows: `count`, rounded up to an even number.
pub(crate) fn rows(count: usize) -> usize {
    count.next_multiple_of(2)
}

/// The sum of the tile heights of all panels.
pub(crate) fn all_rows(panels: &[Range<usize>]) -> usize {
    panels.iter().map(|panel| rows(panel.len())).sum()
}

/// The columns that a tile multiplies with, one row of columns per term.
pub(crate) trait Positions: Copy {
    /// The columns of a range of terms.
    fn terms(self, terms: Range<usize>, width: usize) -> Self;

    /// The columns of one term: as many values as a tile is wide.
    fn columns(&self, term: usize, width: usize) -> &[f32];
}

/// Columns of which those of term `k` begin at `shifts[k]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listed<'a> {
    pub(crate) source: &'a [f32],
    pub(crate) shifts: &'a [usize],
}

impl Positions for Listed<'_> {
    #[inline(always)]
    fn terms(self, terms: Range<usize>, _: usize) -> Self {
        Self {
            shifts: &self.shifts[terms],
            ..self
        }
    }

    #[inline(always)]
    fn columns(&self, term: usize, width: usize) -> &[f32] {
        &self.source[self.shifts[term]..][..width]
    }
}

/// Contiguous columns, `[terms, width]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dense<'a>(pub(crate) &'a [f32]);

impl Positions for Dense<'_> {
    #[inline(always)]
    fn terms(self, terms: Range<usize>, width: usize) -> Self {
        Self(&self.0[terms.start * width..terms.end * width])
    }

    #[inline(always)]
    fn columns(&self, term: usize, width: usize) -> &[f32] {
        &self.0[term * width..][..width]
    }
}

/// Where the sums of a tile are written. It is a trait instead of a closure, because the compiler inlines closures only as it
/// likes, and vectors that are passed to another function go through memory.
pub(crate) trait Write<S: Simd, const A: usize> {
    /// Writes the sums of a row for the positions from `at` on.
    fn write(&mut self, simd: S, row: usize, at: usize, sums: [S::f32s; A]);
}

/// Rows of values; each row begins `stride` values after the previous one.
#[derive(Clone, Debug)]
pub(crate) struct Rows<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) stride: usize,
    /// The range of terms in each row.
    pub(crate) terms: Range<usize>,
    /// Whether the sums already hold values to add to.
    pub(crate) begun: bool,
}

impl<'a> Rows<'a> {
    /// Adds the products of rows, panel by panel, to the sums of a tile, `[rows, width]`. If `begun` is
    /// false, the previous contents of `sums` are ignored.
    ///
    /// ```text
    /// sums[r][x] += Σₖ values[r·stride + k] · positions[k][x]
    /// ```
    #[inline(always)]
    pub(crate) fn add<S: Simd, const A: usize>(
        &self,
        simd: S,
        panels: &[Range<usize>],
        positions: impl Positions,
        sums: &mut [f32],
    ) {
        let mut rest = sums;
        for panel in panels {
            let size = rows(panel.len()) * A * S::F32_LANES;
            let (sums, after) = rest.split_at_mut(size);
            rest = after;
            match panel.len() {
                1 | 2 => self.tile::<S, 2, A>(simd, panel, positions, sums),
                3 | 4 => self.tile::<S, 4, A>(simd, panel, positions, sums),
                _ => self.tile::<S, 6, A>(simd, panel, positions, sums),
            }
        }
    }

    /// Computes the products of rows, panel by panel, and passes the sums of every row on. `at` is the position of the
    /// first column.
    #[inline(always)]
    pub(crate) fn each<S: Simd, const A: usize>(
        &self,
        simd: S,
        panels: &[Range<usize>],
        (positions, at): (impl Positions, usize),
        to: &mut impl Write<S, A>,
    ) {
        for panel in panels {
            match panel.len() {
                1 | 2 => self.write::<S, 2, A>(simd, panel, (positions, at), to),
                3 | 4 => self.write::<S, 4, A>(simd, panel, (positions, at), to),
                _ => self.write::<S, 6, A>(simd, panel, (positions, at), to),
            }
        }
    }

    #[inline(always)]
    fn write<S: Simd, const R: usize, const A: usize>(
        &self,
        simd: S,
        rows: &Range<usize>,
        (positions, at): (impl Positions, usize),
        to: &mut impl Write<S, A>,
    ) {
        let sums = self.products::<S, R, A>(simd, rows, positions);
        for (row, sums) in rows.clone().zip(sums) {
            to.write(simd, row, at, sums);
        }
    }

    /// The products of one panel. An incomplete tile repeats its last row.
    #[inline(always)]
    fn products<S: Simd, const R: usize, const A: usize>(
        &self,
        simd: S,
        rows: &Range<usize>,
        positions: impl Positions,
    ) -> [[S::f32s; A]; R] {
        let mut values: [&'a [f32]; R] = [&[]; R];
        for (r, values) in values.iter_mut().enumerate() {
            let begin = (rows.start + r).min(rows.end - 1) * self.stride;
            *values = &self.values[begin + self.terms.start..begin + self.terms.end];
        }
        correlate::<S, R, A>(simd, values, positions)
    }

    #[inline(always)]
    fn tile<S: Simd, const R: usize, const A: usize>(
        &self,
        simd: S,
        rows: &Range<usize>,
        positions: impl Positions,
        sums: &mut [f32],
    ) {
        let products = self.products::<S, R, A>(simd, rows, positions);
        let (sums, _) = S::as_mut_simd_f32s(sums);
        let (sums, _) = sums.as_chunks_mut::<A>();
        for (sums, products) in sums.iter_mut().zip(products) {
            for a in 0..A {
                // Read here and not earlier, so that the multiplications do not wait for this load.
                let before = if self.begun {
                    sums[a]
                } else {
                    simd.splat_f32s(0.0)
                };
                sums[a] = simd.add_f32s(before, products[a]);
            }
        }
    }
}

/// `sums[r][x] = Σₖ rows[r][k] · positions[k][x]`
#[inline(always)]
#[expect(
    clippy::needless_range_loop,
    reason = "iterators over arrays of registers take twice as long"
)]
fn correlate<S: Simd, const R: usize, const A: usize>(
    simd: S,
    rows: [&[f32]; R],
    positions: impl Positions,
) -> [[S::f32s; A]; R] {
    let width = A * S::F32_LANES;
    let terms = rows[0].len();
    let long = terms - terms % STEP;
    let short = terms - terms % SHORT;
    let mut sums = [[simd.splat_f32s(0.0); A]; R];
    for at in (0..long).step_by(STEP) {
        sums = add::<S, R, A, STEP>(simd, sums, rows, positions, at);
    }
    for at in (long..short).step_by(SHORT) {
        sums = add::<S, R, A, SHORT>(simd, sums, rows, positions, at);
    }
    for term in short..terms {
        let (columns, _) = S::as_simd_f32s(positions.columns(term, width));
        for r in 0..R {
            let value = simd.splat_f32s(rows[r][term]);
            for a in 0..A {
                sums[r][a] = simd.mul_add_e_f32s(value, columns[a], sums[r][a]);
            }
        }
    }
    sums
}

/// Adds the products of `N` terms from `at` on to the sums of a tile.
#[inline(always)]
#[expect(
    clippy::needless_range_loop,
    reason = "iterators over arrays of registers take twice as long"
)]
fn add<S: Simd, const R: usize, const A: usize, const N: usize>(
    simd: S,
    mut sums: [[S::f32s; A]; R],
    rows: [&[f32]; R],
    positions: impl Positions,
    at: usize,
) -> [[S::f32s; A]; R] {
    let width = A * S::F32_LANES;
    let mut values = [&[0.0; N]; R];
    for r in 0..R {
        values[r] = rows[r][at..].first_chunk().expect("rows of equal length");
    }
    // Keeps the compiler from recomputing these addresses for every term.
    let values = black_box(values);
    let positions = positions.terms(at..at + N, width);
    for step in 0..N {
        let (columns, _) = S::as_simd_f32s(positions.columns(step, width));
        for r in 0..R {
            let value = simd.splat_f32s(values[r][step]);
            for a in 0..A {
                sums[r][a] = simd.mul_add_e_f32s(value, columns[a], sums[r][a]);
            }
        }
    }
    sums
}

/// The number of SIMD vectors that [`add_products`] multiplies between two bounds checks.
pub(crate) const RUN: usize = 4;

/// Adds the products of `R` rows and `C` columns of equal length, lane by lane, to sums of which [`reduced`] gives
/// the inner products.
#[inline(always)]
pub(crate) fn add_products<S: Simd, const R: usize, const C: usize>(
    simd: S,
    mut sums: [[S::f32s; C]; R],
    rows: [&[f32]; R],
    columns: [&[f32]; C],
) -> [[S::f32s; C]; R] {
    let (rows, last_rows, end_rows) = runs::<S, R>(rows);
    let (columns, last_columns, end_columns) = runs::<S, C>(columns);
    for at in 0..rows[0].len() {
        let mut left = [&rows[0][at]; R];
        for r in 0..R {
            left[r] = &rows[r][at];
        }
        let mut right = [&columns[0][at]; C];
        for c in 0..C {
            right[c] = &columns[c][at];
        }
        for step in 0..RUN {
            for c in 0..C {
                for r in 0..R {
                    sums[r][c] = simd.mul_add_e_f32s(left[r][step], right[c][step], sums[r][c]);
                }
            }
        }
    }
    for step in 0..last_rows[0].len() {
        for c in 0..C {
            for r in 0..R {
                let (left, right) = (last_rows[r][step], last_columns[c][step]);
                sums[r][c] = simd.mul_add_e_f32s(left, right, sums[r][c]);
            }
        }
    }
    if !end_rows[0].is_empty() {
        for c in 0..C {
            let right = simd.partial_load_f32s(end_columns[c]);
            for r in 0..R {
                let left = simd.partial_load_f32s(end_rows[r]);
                sums[r][c] = simd.mul_add_e_f32s(left, right, sums[r][c]);
            }
        }
    }
    sums
}

/// The sums over all lanes.
#[inline(always)]
pub(crate) fn reduced<S: Simd, const R: usize, const C: usize>(
    simd: S,
    sums: [[S::f32s; C]; R],
) -> [[f32; C]; R] {
    let mut results = [[0.0; C]; R];
    for r in 0..R {
        for c in 0..C {
            results[r][c] = simd.reduce_sum_f32s(sums[r][c]);
        }
    }
    results
}

/// Slices of equal length as runs of [`RUN`] SIMD vectors, the vectors after the last whole run, and the values
/// after the last vector.
type Runs<'a, S, const N: usize> = (
    [&'a [[<S as Simd>::f32s; RUN]]; N],
    [&'a [<S as Simd>::f32s]; N],
    [&'a [f32]; N],
);

#[inline(always)]
fn runs<S: Simd, const N: usize>(slices: [&[f32]; N]) -> Runs<'_, S, N> {
    let mut whole: [&[[S::f32s; RUN]]; N] = [&[]; N];
    let mut rest: [&[S::f32s]; N] = [&[]; N];
    let mut end: [&[f32]; N] = [&[]; N];
    for n in 0..N {
        let (vectors, last) = S::as_simd_f32s(slices[n]);
        (whole[n], rest[n]) = vectors.as_chunks::<RUN>();
        end[n] = last;
    }
    (whole, rest, end)
}
