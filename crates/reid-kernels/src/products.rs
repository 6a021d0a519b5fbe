//! Inner products of two sets of vectors.
//!
//! The left vectors are copied once into *panels*: several vectors are interleaved, so that one SIMD load
//! reads the same dimension of each. The right vectors are read in place, one value at a time, and each
//! value is broadcast. A search therefore passes its queries on the left and never copies the gallery.
//!
//! A tile of 6 right vectors by up to 4 SIMD vectors of left vectors stays in registers. Blocks of
//! [`DEPTH`] dimensions and [`TOGETHER`] right vectors keep its operands in the first and second cache.
//!
//! Rejected: the product of `ndarray`, which stops at AVX2; the crate `gemm`, whose function is unsafe.
//! Also rejected: inner products of two unpacked sets. They copy nothing, but load two SIMD vectors for each
//! multiplication, where this kernel loads one vector and one value.

use std::hint::black_box;

use pulp::{Arch, Simd, WithSimd};

/// The number of rows of a tile. Each row is a right vector.
const ROWS: usize = 6;

/// The number of dimensions in a block: with so many, a panel of left vectors stays in the first cache.
const DEPTH: usize = 128;

/// The number of right vectors in a block: [`DEPTH`] dimensions of each stay in the second cache. A multiple
/// of [`ROWS`].
const TOGETHER: usize = 96;

/// Computes the inner product of each left vector with each right vector, on the calling thread.
///
/// ```text
/// products[l, r] = Σᵢ left[l, i] · right[r, i]
/// ```
///
/// `left` is `[L, dimensions]`, `right` is `[R, dimensions]` and `products` is `[L, R]`. The product of a
/// pair is bit-identical whatever other vectors are in the call. The left side is copied and the right side
/// is read in place, so pass the longer set on the right. The [crate](crate) has an example.
///
/// # Panics
/// If `dimensions` is 0, if a side is not a whole number of vectors, or if `products` does not have one value
/// per pair.
pub fn products(left: &[f32], right: &[f32], dimensions: usize, products: &mut [f32]) {
    let count = |what: &str, side: &[f32]| {
        assert!(
            dimensions > 0 && side.len().is_multiple_of(dimensions),
            "{} values on the {what} side, expected whole vectors of {dimensions} values",
            side.len()
        );
        side.len() / dimensions
    };
    let (height, width) = (count("left", left), count("right", right));
    assert_eq!(
        products.len(),
        height * width,
        "length of `products` for {height} left and {width} right vectors"
    );
    if !products.is_empty() {
        Arch::new().dispatch(Products {
            left,
            right,
            dimensions,
            results: products,
        });
    }
}

struct Products<'a> {
    left: &'a [f32],
    right: &'a [f32],
    dimensions: usize,
    results: &'a mut [f32],
}

impl Products<'_> {
    /// Computes all products with tiles that are `A` SIMD vectors wide. Results do not depend on `A`.
    #[inline(always)]
    fn run<S: Simd, const A: usize>(self, simd: S) {
        let width = A * S::F32_LANES;
        let panels = panels(self.left, self.dimensions, width);
        let count = self.right.len() / self.dimensions;
        let size = self.dimensions * width;
        let mut sums = vec![0.0; panels.len() / size * TOGETHER * width];
        for first in (0..count).step_by(TOGETHER) {
            let last = (first + TOGETHER).min(count);
            let right = &self.right[first * self.dimensions..last * self.dimensions];
            sums.fill(0.0);
            let mut from = 0;
            while from < self.dimensions {
                let part = Part {
                    right,
                    dimensions: self.dimensions,
                    panels: &panels,
                    from,
                };
                from += match self.dimensions - from {
                    DEPTH.. => part.add::<S, A, DEPTH>(simd, &mut sums),
                    16.. => part.add::<S, A, 16>(simd, &mut sums),
                    _ => part.add::<S, A, 1>(simd, &mut sums),
                };
            }
            for (vector, products) in self.results.chunks_exact_mut(count).enumerate() {
                let (panel, lane) = (vector / width, vector % width);
                let sums = sums[panel * TOGETHER * width..].chunks_exact(width);
                for (product, sums) in products[first..last].iter_mut().zip(sums) {
                    *product = sums[lane];
                }
            }
        }
    }
}

/// Interleaves the left vectors in panels as wide as a tile: `[panels, dimensions, width]`. The last panel is
/// padded with zeros.
fn panels(left: &[f32], dimensions: usize, width: usize) -> Vec<f32> {
    let count = (left.len() / dimensions).div_ceil(width);
    let mut panels = vec![0.0; count * dimensions * width];
    for (vector, values) in left.chunks_exact(dimensions).enumerate() {
        let begin = vector / width * dimensions * width + vector % width;
        let positions = panels[begin..].iter_mut().step_by(width);
        for (position, value) in positions.zip(values) {
            *position = *value;
        }
    }
    panels
}

/// A range of dimensions of a block of right vectors and of all left vectors.
struct Part<'a> {
    right: &'a [f32],
    dimensions: usize,
    panels: &'a [f32],
    /// The first dimension of the range.
    from: usize,
}

impl Part<'_> {
    /// Adds the products over `D` dimensions to `sums`, `[panels, TOGETHER, width]`, and returns `D`.
    #[inline(always)]
    fn add<S: Simd, const A: usize, const D: usize>(&self, simd: S, sums: &mut [f32]) -> usize {
        let width = A * S::F32_LANES;
        let count = self.right.len() / self.dimensions;
        let panels = self.panels.chunks_exact(self.dimensions * width);
        for (panel, sums) in panels.zip(sums.chunks_exact_mut(TOGETHER * width)) {
            let columns = &panel[self.from * width..][..D * width];
            let tiles = sums.chunks_exact_mut(ROWS * width);
            for (first, sums) in (0..count).step_by(ROWS).zip(tiles) {
                // An incomplete tile repeats the last right vector.
                let mut rows = [&[0.0; D]; ROWS];
                for (r, row) in rows.iter_mut().enumerate() {
                    let begin = (first + r).min(count - 1) * self.dimensions + self.from;
                    let values = self.right[begin..].first_chunk();
                    *row = values.expect("D values of a vector");
                }
                // Keeps the compiler from recomputing these addresses for every dimension.
                let rows = black_box(rows);
                let products = multiply::<S, ROWS, A, D>(simd, rows, columns);
                let (sums, _) = S::as_mut_simd_f32s(sums);
                let (sums, _) = sums.as_chunks_mut::<A>();
                for (sums, products) in sums.iter_mut().zip(products) {
                    for a in 0..A {
                        sums[a] = simd.add_f32s(sums[a], products[a]);
                    }
                }
            }
        }
        D
    }
}

/// Multiplies `D` values of each of `R` rows with `D` rows of `A` SIMD vectors.
///
/// ```text
/// sums[r][x] = Σₖ rows[r][k] · columns[k·width + x]
/// ```
#[inline(always)]
fn multiply<S: Simd, const R: usize, const A: usize, const D: usize>(
    simd: S,
    rows: [&[f32; D]; R],
    columns: &[f32],
) -> [[S::f32s; A]; R] {
    let (columns, _) = S::as_simd_f32s(columns);
    let (columns, _) = columns.as_chunks::<A>();
    let columns: &[[S::f32s; A]; D] = columns.first_chunk().expect("D rows of columns");
    let mut sums = [[simd.splat_f32s(0.0); A]; R];
    for k in 0..D {
        let columns = &columns[k];
        for (row, sums) in rows.iter().zip(&mut sums) {
            let value = simd.splat_f32s(row[k]);
            for (sum, column) in sums.iter_mut().zip(columns) {
                *sum = simd.mul_add_e_f32s(value, *column, *sum);
            }
        }
    }
    sums
}

impl WithSimd for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let vectors = (self.left.len() / self.dimensions).div_ceil(S::F32_LANES);
        match vectors {
            1 => self.run::<S, 1>(simd),
            3.. if S::REGISTER_COUNT >= 32 => self.run::<S, 4>(simd),
            _ => self.run::<S, 2>(simd),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vectors(count: usize, dimensions: usize, step: f32) -> Vec<f32> {
        let values = 0..count * dimensions;
        values.map(|at| (at as f32 * step).sin()).collect()
    }

    #[test]
    fn products_equal_sums_in_double_precision() {
        // Fewer vectors than a tile has, as many, and more; dimensions near the block sizes.
        for (height, width) in [(0, 3), (1, 1), (3, 2), (6, 4), (7, 9), (13, 70)] {
            for dimensions in [1, 15, 16, 17, 63, 64, 100, 1536, 1601] {
                let left = vectors(height, dimensions, 0.7);
                let right = vectors(width, dimensions, 1.3);
                let mut found = vec![f32::NAN; height * width];
                products(&left, &right, dimensions, &mut found);
                let mut at = found.iter();
                for left in left.chunks_exact(dimensions) {
                    for right in right.chunks_exact(dimensions) {
                        let pairs = left.iter().zip(right);
                        let expected: f64 = pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                        let found = f64::from(*at.next().expect("a product"));
                        let off = (found - expected).abs();
                        assert!(
                            off < 1e-4,
                            "{height}x{width}, {dimensions}: {found}, {expected}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_product_does_not_depend_on_the_other_vectors() {
        let dimensions = 300;
        let (left, right) = (vectors(70, dimensions, 0.7), vectors(60, dimensions, 1.3));
        let mut all = vec![0.0; 70 * 60];
        products(&left, &right, dimensions, &mut all);
        // From one left vector to more than a tile holds.
        for count in [1, 9, 17, 33, 65] {
            let mut some = vec![0.0; count * 60];
            products(&left[..count * dimensions], &right, dimensions, &mut some);
            assert_eq!(some, all[..count * 60], "{count}");
        }
    }

    #[test]
    fn nan_affects_only_the_products_of_its_vector() {
        let mut left = vectors(5, 40, 0.7);
        left[2 * 40 + 39] = f32::NAN;
        let mut found = vec![0.0; 5 * 7];
        products(&left, &vectors(7, 40, 1.3), 40, &mut found);
        for (row, products) in found.chunks_exact(7).enumerate() {
            assert!(
                products
                    .iter()
                    .all(|product| product.is_nan() == (row == 2))
            );
        }
    }

    #[test]
    #[should_panic(expected = "5 values on the right side, expected whole vectors of 2 values")]
    fn an_incomplete_vector_is_rejected() {
        products(&[0.0; 2], &[0.0; 5], 2, &mut [0.0; 2]);
    }
}
