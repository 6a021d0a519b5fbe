//! PCA whitening: projects embeddings onto their principal axes and scales each axis to unit variance.

use nalgebra::{DMatrix, SymmetricEigen};

use crate::{Embeddings, Error, expansion::unit};

/// PCA whitening (Jégou and Chum, ECCV 2012), fitted on one set of embeddings and applied to others.
///
/// ```text
/// y = normalise(Λ^(-1/2) · Eᵀ · (x - μ))        C = E Λ Eᵀ the covariance, largest variance first
/// ```
///
/// Needs the feature `whitening`. [`fit`](Self::fit) has an example.
#[derive(Clone, Debug, PartialEq)]
pub struct Whitening {
    mean: Vec<f64>,
    /// `[kept, dimensions]`: principal axes divided by the square root of their variance.
    axes: Vec<f32>,
}

impl Whitening {
    /// Fits the principal axes of these embeddings and keeps the `kept` axes with the largest variance, or
    /// fewer if fewer axes have any variance.
    ///
    /// The covariance and its eigendecomposition are computed in `f64`: for `d` dimensions, they take
    /// O(images · d² + d³) time.
    ///
    /// # Errors
    /// If there are fewer than two images, if `kept` is 0, or if all embeddings are the same.
    ///
    /// ```
    /// use reid_core::Identity;
    /// use reid_eval::{Embeddings, Whitening};
    ///
    /// // The first dimension varies ten times as much as the second.
    /// let values = vec![10.0, 1.0, -10.0, 1.0, 10.0, -1.0, -10.0, -1.0];
    /// let images = Embeddings::new(values, 2, vec![Identity::new(1); 4])?;
    /// let white = Whitening::fit(&images, 2)?.apply(&images)?;
    /// for value in white.values() {
    ///     assert!((value.abs() - 0.5_f32.sqrt()).abs() < 1e-6);
    /// }
    /// # Ok::<(), reid_eval::Error>(())
    /// ```
    pub fn fit(images: &Embeddings, kept: usize) -> Result<Self, Error> {
        if kept == 0 {
            return Err(Error::Setting {
                setting: "the number of axes to keep",
            });
        }
        let (count, dimensions) = (images.len(), images.dimensions());
        if count < 2 {
            return Err(Error::Spread { images: count });
        }
        let (mean, covariance) = moments(images);
        let eigen = SymmetricEigen::new(covariance);
        let mut order: Vec<usize> = (0..dimensions).collect();
        let variance = |axis: &usize| eigen.eigenvalues[*axis];
        order.sort_by(|a, b| variance(b).total_cmp(&variance(a)).then(a.cmp(b)));
        // Variance this small is only rounding error, so the axis cannot be scaled.
        let least = variance(&order[0]) * 1e-10;
        order.retain(|axis| variance(axis) > least);
        order.truncate(kept);
        if order.is_empty() {
            return Err(Error::Spread { images: count });
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "axes are stored in single precision"
        )]
        let axes = order.iter().flat_map(|axis| {
            let scale = 1.0 / variance(axis).sqrt();
            let axis = eigen.eigenvectors.column(*axis);
            // The sign of an eigenvector is arbitrary: make its component of largest magnitude positive.
            let sign = axis.iter().copied().fold(0.0_f64, |largest, value| {
                if value.abs() > largest.abs() {
                    value
                } else {
                    largest
                }
            });
            let scale = scale * sign.signum();
            (0..dimensions)
                .map(move |at| (axis[at] * scale) as f32)
                .collect::<Vec<_>>()
        });
        Ok(Self {
            axes: axes.collect(),
            mean,
        })
    }

    /// The number of axes kept, which is the dimension of the embeddings from [`apply`](Self::apply).
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.axes.len() / self.mean.len()
    }

    /// Whitens embeddings and normalises them to length 1: `[images, kept axes]`. Labels are kept.
    ///
    /// # Errors
    /// If the embeddings do not have the dimensions that the axes were fitted on.
    pub fn apply(&self, images: &Embeddings) -> Result<Embeddings, Error> {
        let dimensions = self.mean.len();
        if images.dimensions() != dimensions {
            return Err(Error::OtherDimensions {
                operation: "whitening",
                expected: dimensions,
                found: images.dimensions(),
            });
        }
        let mut values = Vec::with_capacity(images.len() * self.dimensions());
        for row in images.values().chunks_exact(dimensions) {
            let centred: Vec<f64> = row
                .iter()
                .zip(&self.mean)
                .map(|(value, mean)| f64::from(*value) - mean)
                .collect();
            let projected: Vec<f64> = self
                .axes
                .chunks_exact(dimensions)
                .map(|axis| {
                    axis.iter()
                        .zip(&centred)
                        .map(|(a, x)| f64::from(*a) * x)
                        .sum()
                })
                .collect();
            values.extend(unit(&projected));
        }
        images.with_values(values, self.dimensions())
    }
}

/// Computes the mean and the covariance matrix of embeddings.
fn moments(images: &Embeddings) -> (Vec<f64>, DMatrix<f64>) {
    let (count, dimensions) = (images.len(), images.dimensions());
    let rows = || images.values().chunks_exact(dimensions);
    let mut mean = vec![0.0_f64; dimensions];
    for row in rows() {
        for (mean, value) in mean.iter_mut().zip(row) {
            *mean += f64::from(*value) / count as f64;
        }
    }
    let centre = |row: &[f32]| -> Vec<f64> {
        row.iter()
            .zip(&mean)
            .map(|(value, mean)| f64::from(*value) - mean)
            .collect()
    };
    let centred = DMatrix::from_vec(dimensions, count, rows().flat_map(centre).collect());
    let covariance = &centred * centred.transpose() / (count - 1) as f64;
    (mean, covariance)
}

#[cfg(test)]
mod tests {
    use rand::RngExt;
    use reid_core::{Identity, Seed};

    use super::*;

    /// 300 points in 5 dimensions, the last two of which are linear combinations of the others.
    fn points() -> Embeddings {
        let mut stream = Seed::new(3).stream();
        let values = (0..300).flat_map(|_| {
            let [a, b, c] = [(); 3].map(|()| stream.random_range(-1.0_f32..1.0));
            [3.0 * a + 5.0, a + b, 0.2 * c, 2.0 * a, b - a]
        });
        let values: Vec<f32> = values.collect();
        Embeddings::new(values, 5, vec![Identity::new(1); 300]).expect("whole rows")
    }

    #[test]
    fn whitened_axes_are_uncorrelated_with_unit_variance() {
        let points = points();
        let whitening = Whitening::fit(&points, 5).expect("variance");
        assert_eq!(
            whitening.dimensions(),
            3,
            "two of the five dimensions depend on the others"
        );
        // The projection before normalisation to length 1 has the identity matrix as covariance.
        let projected: Vec<Vec<f64>> = points
            .values()
            .chunks_exact(5)
            .map(|row| {
                let axes = whitening.axes.chunks_exact(5);
                let centred = || {
                    row.iter()
                        .zip(&whitening.mean)
                        .map(|(x, m)| f64::from(*x) - m)
                };
                axes.map(|axis| {
                    axis.iter()
                        .zip(centred())
                        .map(|(a, x)| f64::from(*a) * x)
                        .sum()
                })
                .collect()
            })
            .collect();
        for i in 0..3 {
            for j in 0..3 {
                let covariance: f64 =
                    projected.iter().map(|row| row[i] * row[j]).sum::<f64>() / 299.0;
                let expected = f64::from(u8::from(i == j));
                assert!((covariance - expected).abs() < 1e-4, "{i} {j} {covariance}");
            }
        }
        assert_eq!(
            Whitening::fit(&points, 2).expect("variance").dimensions(),
            2
        );
    }

    #[test]
    fn embeddings_without_variance_are_rejected() {
        for (values, images) in [(vec![1.0; 6], 3), (vec![0.0; 6], 3), (vec![1.0, 2.0], 1)] {
            let same = Embeddings::new(values, 2, vec![Identity::new(1); images]).expect("rows");
            let error = Whitening::fit(&same, 2)
                .expect_err("no variance")
                .to_string();
            let expected = format!(
                "whitening needs at least 2 images with different embeddings, \
                 but the embeddings of {images} images do not vary"
            );
            assert_eq!(error, expected);
        }
        let whitening = Whitening::fit(&points(), 2).expect("variance");
        let wide = Embeddings::new(vec![1.0; 3], 3, vec![Identity::new(1)]).expect("a row");
        assert_eq!(
            whitening
                .apply(&wide)
                .expect_err("3 dimensions")
                .to_string(),
            "whitening expects embeddings of 5 dimensions, found 3"
        );
    }
}
