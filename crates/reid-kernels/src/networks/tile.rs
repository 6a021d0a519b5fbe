//! The kernels that all products go through, on registers.

use std::{hint::black_box, ops::Range};

use pulp::Simd;

/// Rows of the largest tile of [`correlate`].
const ROWS: usize = 6;

/// Terms that are added between two checks of bounds.
const STEP: usize = 32;

/// Vectors side by side in a tile of [`correlate`], for so many registers.
pub(crate) const fn across(registers: usize) -> usize {
    if registers >= 32 { 4 } else { 2 }
}

/// So many rows in parts that a tile takes, as even as tiles allow.
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

/// The rows of the tile that takes so many.
pub(crate) fn rows(count: usize) -> usize {
    count.next_multiple_of(2)
}

/// The rows of the tiles of all panels.
pub(crate) fn all_rows(panels: &[Range<usize>]) -> usize {
    panels.iter().map(|panel| rows(panel.len())).sum()
}

/// Where the vectors that numbers are multiplied with lie, term by term.
pub(crate) trait Positions: Copy {
    /// Some terms.
    fn terms(self, terms: Range<usize>, width: usize) -> Self;

    /// As many numbers as a tile is wide, of one of these terms.
    fn columns(&self, term: usize, width: usize) -> &[f32];
}

/// Those of a term begin where it says.
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

/// Those of a tile lie one behind the other, `[terms, width]`.
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

/// Rows of numbers, each `stride` behind the one before.
#[derive(Clone, Debug)]
pub(crate) struct Rows<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) stride: usize,
    /// Which numbers of each row.
    pub(crate) terms: Range<usize>,
    /// Whether there are sums already.
    pub(crate) begun: bool,
}

impl<'a> Rows<'a> {
    /// Adds the products of rows, by panels, to the sums of a tile, `[rows, width]`, or begins them.
    ///
    /// ```text
    /// sums[r][x] += Σₖ numbers[r·stride + k] · places[k][x]
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
            let (sums, behind) = rest.split_at_mut(size);
            rest = behind;
            match panel.len() {
                1 | 2 => self.tile::<S, 2, A>(simd, panel, positions, sums),
                3 | 4 => self.tile::<S, 4, A>(simd, panel, positions, sums),
                _ => self.tile::<S, 6, A>(simd, panel, positions, sums),
            }
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const R: usize, const A: usize>(
        &self,
        simd: S,
        rows: &Range<usize>,
        positions: impl Positions,
        sums: &mut [f32],
    ) {
        // Where they end within a tile, the last one stands for that missing.
        let mut values: [&'a [f32]; R] = [&[]; R];
        for (r, values) in values.iter_mut().enumerate() {
            let begin = (rows.start + r).min(rows.end - 1) * self.stride;
            *values = &self.values[begin + self.terms.start..begin + self.terms.end];
        }
        let products = correlate::<S, R, A>(simd, values, positions);
        let (sums, _) = S::as_mut_simd_f32s(sums);
        let (sums, _) = sums.as_chunks_mut::<A>();
        for (sums, products) in sums.iter_mut().zip(products) {
            for a in 0..A {
                // Read here and not before: nothing waits for it.
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
    let mut sums = [[simd.splat_f32s(0.0); A]; R];
    let terms = rows[0].len();
    let whole = terms - terms % STEP;
    for at in (0..whole).step_by(STEP) {
        let mut values = [&[0.0; STEP]; R];
        for r in 0..R {
            values[r] = rows[r][at..].first_chunk().expect("as long as the first");
        }
        // Kept from computing these places again for every term.
        let values = black_box(values);
        let positions = positions.terms(at..at + STEP, width);
        for step in 0..STEP {
            let (columns, _) = S::as_simd_f32s(positions.columns(step, width));
            for r in 0..R {
                let number = simd.splat_f32s(values[r][step]);
                for a in 0..A {
                    sums[r][a] = simd.mul_add_e_f32s(number, columns[a], sums[r][a]);
                }
            }
        }
    }
    for term in whole..terms {
        let (columns, _) = S::as_simd_f32s(positions.columns(term, width));
        for r in 0..R {
            let number = simd.splat_f32s(rows[r][term]);
            for a in 0..A {
                sums[r][a] = simd.mul_add_e_f32s(number, columns[a], sums[r][a]);
            }
        }
    }
    sums
}

/// Vectors that [`products`] multiplies between two checks of bounds.
pub(crate) const RUN: usize = 4;

/// The inner products of `R` rows with `C` columns of as many numbers, whole vectors only.
#[inline(always)]
pub(crate) fn products<S: Simd, const R: usize, const C: usize>(
    simd: S,
    rows: [&[f32]; R],
    columns: [&[f32]; C],
) -> [[f32; C]; R] {
    let (rows, last_rows) = runs::<S, R>(rows);
    let (columns, last_columns) = runs::<S, C>(columns);
    let mut sums = [[simd.splat_f32s(0.0); C]; R];
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
    let mut results = [[0.0; C]; R];
    for r in 0..R {
        for c in 0..C {
            results[r][c] = simd.reduce_sum_f32s(sums[r][c]);
        }
    }
    results
}

/// Each slice as runs of vectors, and the vectors behind the last whole run.
#[inline(always)]
#[expect(clippy::type_complexity, reason = "two views of the same slices")]
fn runs<S: Simd, const N: usize>(slices: [&[f32]; N]) -> ([&[[S::f32s; RUN]]; N], [&[S::f32s]; N]) {
    let mut whole: [&[[S::f32s; RUN]]; N] = [&[]; N];
    let mut rest: [&[S::f32s]; N] = [&[]; N];
    for n in 0..N {
        let (vectors, _) = S::as_simd_f32s(slices[n]);
        (whole[n], rest[n]) = vectors.as_chunks::<RUN>();
    }
    (whole, rest)
}
