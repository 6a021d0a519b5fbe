//! Whitening: descriptors turned onto their principal axes and scaled to the same spread.

use nalgebra::{DMatrix, SymmetricEigen};

use crate::{Embeddings, Error, expansion::unit};

/// Principal component analysis with whitening (Jégou and Chum, ECCV 2012), fitted on one set and
/// applied to others.
///
/// ```text
/// y = normalise(Λ^(-1/2) · Eᵀ · (x - μ))        C = E Λ Eᵀ the covariance, largest axes first
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Whitening {
    mean: Vec<f64>,
    /// `[kept, dimensions]`: axes divided by the square root of their variance.
    axes: Vec<f32>,
}

impl Whitening {
    /// Fits axes to descriptors and keeps `kept` of them, or fewer where there are no more that vary.
    ///
    /// # Errors
    /// If there are fewer than two images, `kept` is 0, or all descriptors are the same.
    ///
    /// ```
    /// use reid_core::Identity;
    /// use reid_eval::{Embeddings, Whitening};
    ///
    /// // Ten times as wide as high.
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
        // An axis along which nothing varies but rounding has no scale.
        let least = variance(&order[0]) * 1e-10;
        order.retain(|axis| variance(axis) > least);
        order.truncate(kept);
        if order.is_empty() {
            return Err(Error::Spread { images: count });
        }
        #[expect(clippy::cast_possible_truncation, reason = "axes of single precision")]
        let axes = order.iter().flat_map(|axis| {
            let scale = 1.0 / variance(axis).sqrt();
            let axis = eigen.eigenvectors.column(*axis);
            // An axis has no sign of its own; its largest part is positive.
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

    /// Axes that are kept: the dimensions of what [`apply`](Self::apply) gives.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.axes.len() / self.mean.len()
    }

    /// Whitened descriptors at length 1; labels stay.
    ///
    /// # Errors
    /// If the dimensions are not those that it was fitted on.
    pub fn apply(&self, images: &Embeddings) -> Result<Embeddings, Error> {
        let dimensions = self.mean.len();
        if images.dimensions() != dimensions {
            return Err(Error::Dimensions {
                query: dimensions,
                gallery: images.dimensions(),
            });
        }
        let mut values = Vec::with_capacity(images.len() * self.dimensions());
        for row in images.values().chunks_exact(dimensions) {
            let centred: Vec<f64> = row
                .iter()
                .zip(&self.mean)
                .map(|(value, mean)| f64::from(*value) - mean)
                .collect();
            let transposed: Vec<f64> = self
                .axes
                .chunks_exact(dimensions)
                .map(|axis| {
                    axis.iter()
                        .zip(&centred)
                        .map(|(a, x)| f64::from(*a) * x)
                        .sum()
                })
                .collect();
            values.extend(unit(&transposed));
        }
        images.with_values(values, self.dimensions())
    }
}

/// The mean and the covariance of descriptors.
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

    /// 300 points in 5 dimensions of which the last two follow from the others.
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
    fn what_is_white_has_the_same_spread_along_every_axis() {
        let points = points();
        let whitening = Whitening::fit(&points, 5).expect("spread");
        assert_eq!(
            whitening.dimensions(),
            3,
            "two of five dimensions follow from the others"
        );
        // Before they are brought to length 1: covariance 1.
        let transposed: Vec<Vec<f64>> = points
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
                    transposed.iter().map(|row| row[i] * row[j]).sum::<f64>() / 299.0;
                let expected = f64::from(u8::from(i == j));
                assert!((covariance - expected).abs() < 1e-4, "{i} {j} {covariance}");
            }
        }
        assert_eq!(Whitening::fit(&points, 2).expect("spread").dimensions(), 2);
    }

    #[test]
    fn what_has_no_spread_is_refused() {
        let same = Embeddings::new(vec![1.0; 6], 2, vec![Identity::new(1); 3]).expect("rows");
        assert_eq!(
            Whitening::fit(&same, 2).expect_err("no spread").to_string(),
            "whitening needs at least 2 images with different embeddings, found 3 images"
        );
        let whitening = Whitening::fit(&points(), 2).expect("spread");
        assert!(matches!(
            whitening.apply(&same),
            Err(Error::Dimensions { .. })
        ));
    }
}
