//! Euclidean and cosine distances between the features of a batch.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// The distance between two feature vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distance {
    /// `‖a - b‖`, at least 1e-6 so that its gradient is finite.
    Euclidean,
    /// `1 - cos(a, b)`, between 0 and 2; 1 if a vector is zero.
    Cosine,
}

impl Distance {
    /// Computes the distances between all pairs of rows.
    ///
    /// # Shapes
    /// - `features`: `[batch, dimensions]`
    /// - result: `[batch, batch]`
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use reid_nn::distance::Distance;
    ///
    /// let features = Tensor::<2>::from_data([[0.0, 0.0], [3.0, 4.0]], &Device::default());
    /// let far = Distance::Euclidean.pairwise(features).max().into_scalar::<f32>();
    /// assert!((far - 5.0).abs() < 1e-5);
    /// ```
    #[must_use]
    pub fn pairwise(self, features: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Euclidean => {
                let mean = features.clone().mean_dim(0).detach();
                root(squared(features - mean, Tensor::matmul))
            }
            Self::Cosine => {
                let unit = unit(features);
                unit.clone().matmul(unit.transpose()).neg() + 1.0
            }
        }
    }

    /// Computes the distances between each row of `one` and each row of `other`.
    ///
    /// # Shapes
    /// - `one`: `[rows, dimensions]`
    /// - `other`: `[columns, dimensions]`
    /// - result: `[rows, columns]`
    pub(crate) fn between_all(self, one: Tensor<2>, other: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Euclidean => {
                let mean = one.clone().mean_dim(0).detach();
                let (one, other) = (one - mean.clone(), other - mean);
                let squares = |rows: &Tensor<2>| rows.clone().square().sum_dim(1);
                let sums = squares(&one) + squares(&other).transpose();
                root(sums - one.matmul(other.transpose()) * 2.0)
            }
            Self::Cosine => unit(one).matmul(unit(other).transpose()).neg() + 1.0,
        }
    }

    /// Computes the distances between rows of the same group. The matrix `means` maps each row to the mean of
    /// its group, which is subtracted from the row for precision. Results for rows of different groups are
    /// meaningless.
    ///
    /// # Shapes
    /// - `features`: `[batch, dimensions]`
    /// - `means`: `[batch, batch]`
    /// - result: `[batch, batch]`
    pub(crate) fn within_groups(self, features: Tensor<2>, means: Tensor<2>) -> Tensor<2> {
        let centred = |rows: Tensor<2>| rows.clone() - means.matmul(rows);
        match self {
            Self::Euclidean => root(squared(centred(features), Tensor::matmul)),
            // ‖a - b‖² = 2 - 2·cos(a, b) for unit vectors.
            Self::Cosine => squared(centred(unit(features)), Tensor::matmul).clamp_min(0.0) / 2.0,
        }
    }

    /// Computes the distances between corresponding rows of two tensors, from their differences.
    ///
    /// # Shapes
    /// - `one`, `other`: `[batch, dimensions]`
    /// - result: `[batch, 1]`
    pub(crate) fn between(self, one: Tensor<2>, other: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Euclidean => root((one - other).square().sum_dim(1)),
            Self::Cosine => (unit(one) * unit(other)).sum_dim(1).neg() + 1.0,
        }
    }
}

/// Computes the square root. The lower bound keeps its gradient finite, and makes it 0, for identical rows.
fn root(squared: Tensor<2>) -> Tensor<2> {
    squared.clamp_min(1e-12).sqrt()
}

/// Computes `‖a‖² + ‖b‖² - 2·a·b` for all pairs of rows from a matrix product.
///
/// GPUs multiply with 10 bits of mantissa (TF32), and even single precision loses differences below 1e-7 of
/// the squared lengths. Callers therefore subtract a common mean from the rows first, which shortens the rows
/// but keeps their distances.
fn squared(rows: Tensor<2>, product: impl FnOnce(Tensor<2>, Tensor<2>) -> Tensor<2>) -> Tensor<2> {
    let squares = rows.clone().square().sum_dim(1);
    let products = product(rows.clone(), rows.transpose());
    squares.clone() + squares.transpose() - products * 2.0
}

/// Normalises rows to length 1. A row shorter than 1e-12 is unchanged, since the division by its length would
/// have a gradient above 1e12.
pub(crate) fn unit(features: Tensor<2>) -> Tensor<2> {
    let lengths = lengths(features.clone());
    features / lengths
}

/// Computes the lengths of rows, `[rows, 1]`, by which [`unit`] divides them: 1 for a row shorter than 1e-12.
pub(crate) fn lengths(features: Tensor<2>) -> Tensor<2> {
    let squares = features.square().sum_dim(1);
    let short = squares.clone().lower_elem(1e-24);
    squares.mask_fill(short, 1.0).sqrt()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::fixtures;

    /// Rounds to 10 bits of mantissa after the leading bit, as matrix units of GPUs do (Veltkamp's
    /// splitting).
    fn to_tf32(values: Tensor<2>) -> Tensor<2> {
        let high = values.clone() * 8193.0;
        high.clone() - (high - values)
    }

    fn in_tf32(one: Tensor<2>, other: Tensor<2>) -> Tensor<2> {
        to_tf32(one).matmul(to_tf32(other))
    }

    /// Eight rows with a length of about 30 that are about 1e-2 apart, and their distances in double
    /// precision.
    fn near_rows(device: &Device) -> (Tensor<2>, Vec<f64>) {
        // A vector of 64 uniform values in ±√3·s/8 has length s.
        let [rows, dimensions] = [8, 64];
        let common = fixtures::tensor::<2>([1, dimensions], -6.5..6.5, device);
        let apart = fixtures::tensor::<2>([rows, dimensions], -2.17e-3..2.17e-3, device);
        let features = common + apart;
        let values: Vec<f64> = features.to_data().iter::<f64>().collect();
        let row = |at: usize| &values[at * dimensions..][..dimensions];
        let distance = |a: usize, b: usize| {
            let terms = row(a).iter().zip(row(b)).map(|(a, b)| (a - b).powi(2));
            terms.sum::<f64>().sqrt()
        };
        let pairs = (0..rows).flat_map(|a| (0..rows).map(move |b| (a, b)));
        (features, pairs.map(|(a, b)| distance(a, b)).collect())
    }

    /// The largest relative error of the distances that are not 0.
    fn worst(found: Tensor<2>, expected: &[f64]) -> f64 {
        let found = found.into_data();
        let pairs = found.iter::<f64>().zip(expected);
        let apart = pairs.filter(|(_, expected)| **expected > 0.0);
        apart.fold(0.0, |worst, (found, expected)| {
            worst.max((found - expected).abs() / expected)
        })
    }

    #[test]
    fn small_distances_of_long_rows_are_precise() {
        let device = Device::default();
        let (features, expected) = near_rows(&device);
        let found = Distance::Euclidean.pairwise(features.clone());
        assert!(worst(found, &expected) < 1e-4);
        let means = Tensor::full([8, 8], 1.0 / 8.0, &device);
        let found = Distance::Euclidean.within_groups(features.clone(), means);
        assert!(worst(found, &expected) < 1e-4);
        let rotated = Tensor::cat(
            vec![
                features.clone().narrow(0, 1, 7),
                features.clone().narrow(0, 0, 1),
            ],
            0,
        );
        let found = Distance::Euclidean.between(features, rotated);
        let next: Vec<f64> = (0..8)
            .map(|row| expected[row * 8 + (row + 1) % 8])
            .collect();
        assert!(worst(found, &next) < 1e-4);
    }

    #[test]
    fn distances_of_centred_rows_are_precise_in_tf32() {
        let (features, expected) = near_rows(&Device::default());
        let mean = features.clone().mean_dim(0);
        let found = root(squared(features.clone() - mean, in_tf32));
        assert!(worst(found, &expected) < 2e-2);
        // Without centring, rounding errors exceed the distances.
        let found = root(squared(features, in_tf32));
        assert!(worst(found, &expected) > 1.0);
    }

    #[test]
    fn distances_between_two_sets_are_those_within_their_union() {
        let device = Device::default();
        let rows = fixtures::tensor::<2>([7, 5], -1.0..1.0, &device);
        let (one, other) = (rows.clone().narrow(0, 0, 3), rows.clone().narrow(0, 3, 4));
        for distance in [Distance::Euclidean, Distance::Cosine] {
            let expected = distance.pairwise(rows.clone()).slice([0..3, 3..7]);
            let found = distance.between_all(one.clone(), other.clone());
            let difference = (found - expected).abs().max().into_scalar::<f32>();
            assert!(difference < 1e-5, "{distance:?}: {difference}");
        }
    }

    #[test]
    fn a_row_of_zeros_has_cosine_distance_1_and_a_small_gradient() {
        let device = Device::default().autodiff();
        let features = Tensor::<2>::from_data([[0.0, 0.0], [3.0, 4.0]], &device).require_grad();
        let distances = Distance::Cosine.pairwise(features.clone());
        let gradient = features.grad(&distances.clone().sum().backward());
        let largest = gradient.expect("a gradient").abs().max();
        assert!(largest.into_scalar::<f32>() <= 2.0);
        let found: Vec<f32> = distances.into_data().iter::<f32>().collect();
        for (found, expected) in found.into_iter().zip([1.0, 1.0, 1.0, 0.0]) {
            assert!((found - expected).abs() < 1e-6);
        }
    }
}
