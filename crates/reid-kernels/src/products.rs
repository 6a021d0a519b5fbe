//! Products of many vectors with many others.

use crate::inner_products::Inner;

/// The inner product of each left vector with each right one, on the calling thread.
///
/// ```text
/// products[l, r] = Σᵢ left[l, i] · right[r, i]
/// ```
///
/// Both sides hold vectors of `dimensions` numbers one behind the other; nothing is copied. What a pair
/// gives does not depend on the vectors beside it, to the last bit.
///
/// # Panics
/// If a side is no whole number of vectors, or there is not a place for each product.
pub fn products(left: &[f32], right: &[f32], dimensions: usize, products: &mut [f32]) {
    let count = |what: &str, side: &[f32]| {
        assert!(
            dimensions > 0 && side.len().is_multiple_of(dimensions),
            "{} numbers on the {what}, expected vectors of {dimensions}",
            side.len()
        );
        side.len() / dimensions
    };
    let (height, width) = (count("left", left), count("right", right));
    assert_eq!(
        products.len(),
        height * width,
        "places for the products of {height} vectors with {width}"
    );
    products.fill(0.0);
    let begin: Vec<usize> = (0..height).map(|vector| vector * dimensions).collect();
    let inner = Inner {
        rows: right,
        length: dimensions,
        copy: left,
        begin: &begin,
        results: products,
    };
    inner.run();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vectors(count: usize, dimensions: usize, of: f32) -> Vec<f32> {
        let numbers = 0..count * dimensions;
        numbers.map(|at| (at as f32 * of).sin()).collect()
    }

    #[test]
    fn each_is_the_sum_of_its_products() {
        // Fewer, as many and more than a tile has, and lengths about those of vectors and stretches.
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
    fn what_is_not_a_number_stays_with_its_own() {
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
    #[should_panic(expected = "5 numbers on the right, expected vectors of 2")]
    fn part_of_a_vector_is_refused() {
        products(&[0.0; 2], &[0.0; 5], 2, &mut [0.0; 2]);
    }
}
