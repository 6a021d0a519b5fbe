//! Query expansion and database-side augmentation: adds the nearest neighbours to an embedding.

use reid_core::Split;

use crate::{
    Embeddings, Error, Metric, distance::Distances, distance_rows::map_rows, ranking::nearest,
};

/// Query expansion and database-side augmentation: replaces an embedding by the normalised weighted sum of
/// itself and its nearest neighbours.
///
/// ```text
/// d' = normalise(d + Σ_{i ≤ k} s(d, gᵢ)^α · gᵢ)        s: cosine similarity; d, gᵢ: normalised to length 1
/// ```
///
/// With α = 0 this is average query expansion (Chum et al., ICCV 2007), with α = 3 α-weighted query
/// expansion (Radenović et al., TPAMI 2019). For α > 0, neighbours with a negative cosine similarity have
/// weight 0. [`expand_queries`](Self::expand_queries) has an example.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Expansion {
    /// k, the number of neighbours; at least 1.
    pub neighbours: usize,
    /// α, the exponent of the similarity; 0 or more.
    pub alpha: f64,
}

impl Expansion {
    /// An expansion by `neighbours` neighbours (at least 1), weighted by their cosine similarity to the
    /// power of `alpha` (0 or more).
    #[must_use]
    pub const fn new(neighbours: usize, alpha: f64) -> Self {
        Self { neighbours, alpha }
    }

    /// Query expansion: adds to each query its nearest gallery images.
    ///
    /// The result, `[queries, dimensions]`, has length 1 and the labels of the queries.
    ///
    /// # Errors
    /// If query and gallery have different dimensions, if either is empty, if `neighbours` is 0, or if
    /// `alpha` is negative or NaN.
    ///
    /// ```
    /// use reid_core::Identity;
    /// use reid_eval::{Embeddings, Expansion};
    ///
    /// let two = |values: &[f32]| {
    ///     Embeddings::new(values.to_vec(), 2, vec![Identity::new(1); values.len() / 2])
    /// };
    /// let (query, gallery) = (two(&[1.0, 0.0])?, two(&[0.0, 1.0, -1.0, 0.0])?);
    /// let expanded = Expansion::new(1, 0.0).expand_queries(&query, &gallery)?;
    /// // The normalised sum of the query and the nearer of the two.
    /// assert!((expanded.row(0)[0] - 0.5_f32.sqrt()).abs() < 1e-6);
    /// # Ok::<(), reid_eval::Error>(())
    /// ```
    pub fn expand_queries(
        &self,
        query: &Embeddings,
        gallery: &Embeddings,
    ) -> Result<Embeddings, Error> {
        self.towards(query, gallery, false)
    }

    /// Database-side augmentation: adds to each gallery image its nearest other gallery images (Turcot and
    /// Lowe, ICCV workshops 2009; Arandjelović and Zisserman, CVPR 2012).
    ///
    /// The result, `[gallery images, dimensions]`, has length 1 and the labels of the gallery.
    ///
    /// # Errors
    /// The errors of [`expand_queries`](Self::expand_queries).
    pub fn expand_gallery(&self, gallery: &Embeddings) -> Result<Embeddings, Error> {
        self.towards(gallery, gallery, true)
    }

    fn towards(
        &self,
        images: &Embeddings,
        others: &Embeddings,
        same: bool,
    ) -> Result<Embeddings, Error> {
        if self.neighbours == 0 {
            return Err(Error::Setting {
                setting: "the number of neighbours of the expansion",
            });
        }
        if self.alpha.is_nan() || self.alpha < 0.0 {
            return Err(Error::Negative {
                setting: "alpha of the expansion",
                found: self.alpha,
            });
        }
        let of_images = if same { Split::Gallery } else { Split::Query };
        for (side, split) in [(images, of_images), (others, Split::Gallery)] {
            if side.is_empty() {
                return Err(Error::Empty { split });
            }
        }
        let distances = Distances::between(images, others, Metric::Cosine)?;
        let moved = map_rows(&distances, |image, row| {
            self.moved(&distances, image, row, same)
        })?;
        images.with_values(moved.concat(), images.dimensions())
    }

    /// Computes one expanded embedding.
    fn moved(&self, distances: &Distances<'_>, image: usize, row: &[f32], same: bool) -> Vec<f32> {
        let others = row.iter().copied().enumerate();
        let others = others.filter(|&(other, _)| !(same && other == image));
        let mut sum: Vec<f64> = distances.query.direction(image).collect();
        for (other, distance) in nearest(others, self.neighbours) {
            let nearness = (1.0 - f64::from(distance)).max(0.0);
            let weight = if self.alpha == 0.0 {
                1.0
            } else {
                nearness.powf(self.alpha)
            };
            for (sum, value) in sum.iter_mut().zip(distances.gallery.direction(other)) {
                *sum += weight * value;
            }
        }
        unit(&sum)
    }
}

/// Normalises a vector to length 1; a zero vector stays zero.
#[expect(clippy::cast_possible_truncation, reason = "values are at most 1")]
pub(crate) fn unit(values: &[f64]) -> Vec<f32> {
    let length = values.iter().map(|value| value * value).sum::<f64>().sqrt();
    let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
    values.iter().map(|value| (value * scale) as f32).collect()
}

#[cfg(test)]
mod tests {
    use reid_core::Identity;

    use super::*;

    fn two(values: &[f32]) -> Embeddings {
        let identities = (0..).take(values.len() / 2).map(Identity::new).collect();
        Embeddings::new(values.to_vec(), 2, identities).expect("pairs")
    }

    #[test]
    fn neighbours_are_weighted_by_similarity() {
        // Cosines 0.6 and 0.8; the lengths 2 and 3 do not matter. For α = 1: 1 + 0.6·0.6 + 0.8·0.8 = 2 and
        // 0.6·0.8 + 0.8·0.6 = 0.96.
        let (query, gallery) = (two(&[5.0, 0.0]), two(&[1.2, 1.6, 2.4, 1.8, -1.0, 0.1]));
        let expansion = Expansion::new(2, 1.0);
        let moved = expansion
            .expand_queries(&query, &gallery)
            .expect("equal dimensions");
        let length = 2.0_f32.hypot(0.96);
        let expected = [2.0 / length, 0.96 / length];
        for (found, expected) in moved.row(0).iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
        assert_eq!(moved.labels(), query.labels());
        // More neighbours than gallery images: all are used, and the one with a negative cosine has weight 0.
        let all = Expansion::new(9, 1.0);
        assert_eq!(
            all.expand_queries(&query, &gallery)
                .expect("equal dimensions"),
            moved
        );
    }

    #[test]
    fn an_image_is_not_its_own_neighbour() {
        let gallery = two(&[1.0, 0.0, 0.0, 1.0]);
        let moved = Expansion::new(1, 0.0)
            .expand_gallery(&gallery)
            .expect("images");
        let half = 0.5_f32.sqrt();
        for value in moved.values() {
            assert!((value - half).abs() < 1e-6, "{value}");
        }
    }

    #[test]
    fn an_empty_side_is_named() {
        let (none, some) = (two(&[]), two(&[1.0, 0.0]));
        let expansion = Expansion::new(1, 0.0);
        let of_queries = expansion.expand_queries(&none, &some);
        let of_gallery = expansion.expand_gallery(&none);
        let [query, gallery] =
            [of_queries, of_gallery].map(|expanded| expanded.expect_err("no images").to_string());
        assert_eq!(query, "the query has no images, expected at least 1");
        assert_eq!(gallery, "the gallery has no images, expected at least 1");
    }

    #[test]
    fn invalid_settings_are_rejected() {
        let side = two(&[1.0, 0.0]);
        let message = |neighbours, alpha| {
            let moved = Expansion { neighbours, alpha }.expand_queries(&side, &side);
            moved.expect_err("invalid").to_string()
        };
        assert_eq!(
            message(0, 1.0),
            "the number of neighbours of the expansion is 0, expected at least 1"
        );
        assert_eq!(
            message(1, -1.0),
            "alpha of the expansion is -1, expected 0 or more"
        );
        assert_eq!(
            message(1, f64::NAN),
            "alpha of the expansion is NaN, expected 0 or more"
        );
    }
}
