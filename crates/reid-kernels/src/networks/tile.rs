//! The kernels that all products go through, on registers.

use pulp::Simd;

/// Rows of the largest tile of [`correlate`].
pub(crate) const ROWS: usize = 6;

/// Vectors side by side in a tile of [`correlate`], for so many registers.
pub(crate) const fn across(registers: usize) -> usize {
    if registers >= 32 { 4 } else { 2 }
}

/// Adds to each row of results the sum over `k` of its weight times the numbers at `shifts[k]`.
///
/// ```text
/// sums[r][x] += Σₖ weights[k·R + r] · source[shifts[k] + x]
/// ```
#[inline(always)]
pub(crate) fn correlate<S: Simd, const R: usize, const A: usize>(
    simd: S,
    weights: &[f32],
    shifts: &[usize],
    source: &[f32],
    sums: &mut [[S::f32s; A]; R],
) {
    let width = A * S::F32_LANES;
    let mut local = *sums;
    for (weights, &shift) in weights.chunks_exact(R).zip(shifts) {
        let (numbers, _) = S::as_simd_f32s(&source[shift..shift + width]);
        let mut across = [simd.splat_f32s(0.0); A];
        across.copy_from_slice(numbers);
        for r in 0..R {
            let weight = simd.splat_f32s(weights[r]);
            for a in 0..A {
                local[r][a] = simd.mul_add_e_f32s(weight, across[a], local[r][a]);
            }
        }
    }
    *sums = local;
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
