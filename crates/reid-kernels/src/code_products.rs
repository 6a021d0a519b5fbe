//! Inner products of one vector and many vectors of one byte per value.
//!
//! A search in a large gallery is limited by memory bandwidth. Codes of one byte need a quarter of the
//! bandwidth of single precision.

use pulp::{Arch, Simd, WithSimd};

/// The number of codes that are converted together.
const BLOCK: usize = 64;

/// Computes the inner product of a vector with each vector of codes, on the calling thread.
///
/// ```text
/// products[r] = Σᵢ vector[i] · codes[r, i]
/// ```
///
/// `vector` is `[dimensions]`, `codes` is `[R, dimensions]` and `products` is `[R]`. The sum is in single
/// precision; its rounding error is at most `dimensions · 2⁻²⁴ · Σᵢ |vector[i] · codes[r, i]|`.
///
/// ```
/// let mut products = [0.0; 2];
/// reid_kernels::code_products(&[0.5, 2.0], &[4, 1, -127, 0], &mut products);
/// assert_eq!(products, [4.0, -63.5]);
/// ```
///
/// # Panics
/// If `vector` is empty, or if `codes` does not have one vector per product.
pub fn code_products(vector: &[f32], codes: &[i8], products: &mut [f32]) {
    assert!(!vector.is_empty(), "a vector without values");
    assert_eq!(
        codes.len(),
        products.len() * vector.len(),
        "number of codes for {} products of {} dimensions",
        products.len(),
        vector.len()
    );
    let blocks = vector.len().div_ceil(BLOCK);
    let mut padded = vector.to_vec();
    padded.resize(blocks * BLOCK, 0.0);
    Arch::new().dispatch(CodeProducts {
        vector: &padded,
        dimensions: vector.len(),
        codes,
        products,
    });
}

struct CodeProducts<'a> {
    /// The vector, padded with zeros to whole blocks.
    vector: &'a [f32],
    dimensions: usize,
    codes: &'a [i8],
    products: &'a mut [f32],
}

impl WithSimd for CodeProducts<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let codes = self.codes.chunks_exact(self.dimensions);
        for (codes, product) in codes.zip(self.products) {
            *product = inner(simd, self.vector, codes);
        }
    }
}

#[inline(always)]
fn inner<S: Simd>(simd: S, vector: &[f32], codes: &[i8]) -> f32 {
    let mut sums = [simd.splat_f32s(0.0); 4];
    let (codes, rest) = codes.as_chunks::<BLOCK>();
    let (vectors, _) = vector.as_chunks::<BLOCK>();
    for (values, codes) in vectors.iter().zip(codes) {
        add(simd, values, codes, &mut sums);
    }
    if !rest.is_empty() {
        let mut last = [0; BLOCK];
        last[..rest.len()].copy_from_slice(rest);
        add(simd, &vectors[vectors.len() - 1], &last, &mut sums);
    }
    let [a, b, c, d] = sums;
    simd.reduce_sum_f32s(simd.add_f32s(simd.add_f32s(a, b), simd.add_f32s(c, d)))
}

/// Adds the products of a block to four sums.
#[inline(always)]
fn add<S: Simd>(simd: S, values: &[f32; BLOCK], codes: &[i8; BLOCK], sums: &mut [S::f32s; 4]) {
    let mut converted = [0.0; BLOCK];
    for (converted, code) in converted.iter_mut().zip(codes) {
        *converted = f32::from(*code);
    }
    let (values, _) = S::as_simd_f32s(values);
    let (converted, _) = S::as_simd_f32s(&converted);
    for (at, (value, code)) in values.iter().zip(converted).enumerate() {
        sums[at % 4] = simd.mul_add_e_f32s(*value, *code, sums[at % 4]);
    }
}

/// The codes of a vector and how far they are from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Encoded {
    /// The value of one step of the codes; 0 for a zero vector.
    pub step: f32,
    /// `Σᵢ vector[i]²`.
    pub square: f64,
    /// `Σᵢ (vector[i] - step · codes[i])²`.
    pub error: f64,
}

/// Encodes a vector, `[dimensions]`, with one byte per value: the nearest multiple, from -127 to 127, of a 127th
/// of its largest absolute value.
///
/// ```
/// let mut codes = [0; 3];
/// let encoded = reid_kernels::encode(&[1.0, -0.25, 0.251], &mut codes);
/// assert_eq!((codes, encoded.step), ([127, -32, 32], 1.0 / 127.0));
/// assert!(encoded.error.sqrt() < 0.5 * 3.0_f64.sqrt() / 127.0);
/// ```
///
/// # Panics
/// If `vector` and `codes` have different lengths.
pub fn encode(vector: &[f32], codes: &mut [i8]) -> Encoded {
    assert_eq!(codes.len(), vector.len(), "number of codes of a vector");
    Arch::new().dispatch(Encode { vector, codes })
}

struct Encode<'a> {
    vector: &'a [f32],
    codes: &'a mut [i8],
}

// Not a closure: the compiler does not inline it, and then uses no wide vectors.
impl WithSimd for Encode<'_> {
    type Output = Encoded;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Encoded {
        encode_all(self.vector, self.codes)
    }
}

/// The number of values that are encoded together.
const LANES: usize = 16;

#[inline(always)]
fn encode_all(vector: &[f32], codes: &mut [i8]) -> Encoded {
    let (blocks, rest) = vector.as_chunks::<LANES>();
    let mut last = [0.0; LANES];
    last[..rest.len()].copy_from_slice(rest);
    let mut largest = [0.0_f32; LANES];
    for values in blocks.iter().chain([&last]) {
        for (largest, value) in largest.iter_mut().zip(values) {
            *largest = largest.max(value.abs());
        }
    }
    let largest = largest.into_iter().fold(0.0, f32::max);
    let step = largest / 127.0;
    // Infinite for a step of 0, or of nearly 0. All codes are then 0.
    let inverse = 1.0 / step;
    let mut sums = Sums {
        step,
        inverse: if inverse.is_finite() { inverse } else { 0.0 },
        squares: [0.0; LANES],
        errors: [0.0; LANES],
    };
    let (whole, rest_of_codes) = codes.as_chunks_mut::<LANES>();
    for (values, codes) in blocks.iter().zip(whole) {
        *codes = sums.encode(values);
    }
    let last = sums.encode(&last);
    rest_of_codes.copy_from_slice(&last[..rest_of_codes.len()]);
    Encoded {
        step,
        square: sums.squares.iter().sum(),
        error: sums.errors.iter().sum(),
    }
}

/// The sums of [`Encoded`], in lanes, while a vector is encoded.
struct Sums {
    step: f32,
    inverse: f32,
    squares: [f64; LANES],
    errors: [f64; LANES],
}

impl Sums {
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "codes are at most 127")]
    fn encode(&mut self, values: &[f32; LANES]) -> [i8; LANES] {
        /// 1.5 · 2²³. The sum with a number of at most 127 is rounded to an integer, ties to even, and the last byte
        /// of its bits is that number. Conversions would be computed value by value.
        const SHIFT: f32 = 12_582_912.0;
        let mut codes = [0; LANES];
        for lane in 0..LANES {
            let value = values[lane];
            let shifted = value * self.inverse + SHIFT;
            codes[lane] = shifted.to_bits() as i8;
            let off = f64::from(value) - f64::from(self.step) * f64::from(shifted - SHIFT);
            self.squares[lane] += f64::from(value) * f64::from(value);
            self.errors[lane] += off * off;
        }
        codes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_equal_sums_in_double_precision() {
        for dimensions in [1, 63, 64, 65, 512, 700] {
            let vector: Vec<f32> = (0..dimensions).map(|at| (at as f32 * 0.7).sin()).collect();
            let codes: Vec<i8> = (0..5 * dimensions)
                .map(|at| i8::try_from(at * 37 % 255).unwrap_or(-128))
                .collect();
            let mut found = [f32::NAN; 5];
            code_products(&vector, &codes, &mut found);
            for (codes, found) in codes.chunks_exact(dimensions).zip(found) {
                let terms = vector.iter().zip(codes);
                let terms: Vec<f64> = terms
                    .map(|(value, code)| f64::from(*value) * f64::from(*code))
                    .collect();
                let bound = terms.iter().map(|term| term.abs()).sum::<f64>();
                let bound = bound * dimensions as f64 * 2.0_f64.powi(-24);
                let off = (f64::from(found) - terms.iter().sum::<f64>()).abs();
                assert!(off <= bound, "{dimensions} dimensions: off by {off}");
            }
        }
    }

    #[test]
    fn errors_are_those_of_the_codes() {
        for dimensions in [1, 15, 16, 17, 100] {
            for scale in [0.0, 1e-42, 1e-38, 1.0, 1e30] {
                let mut vector: Vec<f32> = (0..dimensions)
                    .map(|at| scale * (at as f32 + 0.3).sin())
                    .collect();
                vector[dimensions / 2] = 0.0;
                let mut codes = vec![0; dimensions];
                let Encoded {
                    step,
                    square,
                    error,
                } = encode(&vector, &mut codes);
                let pairs = vector.iter().zip(&codes);
                let off = pairs
                    .map(|(value, code)| f64::from(*value) - f64::from(step) * f64::from(*code));
                let expected: f64 = off.map(|off| off * off).sum();
                assert!(
                    (error - expected).abs() <= 1e-9 * expected,
                    "{error}, {expected}"
                );
                let expected: f64 = vector.iter().map(|value| f64::from(*value).powi(2)).sum();
                assert!(
                    (square - expected).abs() <= 1e-12 * expected,
                    "{square}, {expected}"
                );
                assert!(scale < 1e-30 || error <= square / 1e4, "{error}, {square}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "number of codes for 2 products of 3 dimensions")]
    fn a_wrong_number_of_codes_is_rejected() {
        code_products(&[0.0; 3], &[0; 5], &mut [0.0; 2]);
    }
}
