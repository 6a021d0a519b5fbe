//! Distances between all pairs of a batch.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// How far two features are apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distance {
    /// `‖a - b‖`, at least 1e-6 so that its gradient is finite.
    Euclidean,
    /// `1 - cos(a, b)`, between 0 and 2.
    Cosine,
}

impl Distance {
    /// Distances between all pairs of rows.
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
            Self::Euclidean => euclidean(features),
            Self::Cosine => cosine(features),
        }
    }
}

/// `√max(‖a‖² + ‖b‖² - 2·a·b, 1e-12)`: the floor keeps the square root's gradient finite where rows
/// coincide, and stops it there.
fn euclidean(features: Tensor<2>) -> Tensor<2> {
    let squares = features.clone().square().sum_dim(1);
    let products = features.clone().matmul(features.transpose());
    let squared = squares.clone() + squares.transpose() - products * 2.0;
    squared.clamp_min(1e-12).sqrt()
}

fn cosine(features: Tensor<2>) -> Tensor<2> {
    let norms = features.clone().square().sum_dim(1).clamp_min(1e-24).sqrt();
    let unit = features / norms;
    unit.clone().matmul(unit.transpose()).neg() + 1.0
}
