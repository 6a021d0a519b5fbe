//! Distances between blocks of queries and the whole gallery, computed with matrix products.

mod side;

use std::ops::Range;

pub(crate) use side::Side;

use crate::{DistanceRows, Embeddings, Error, Metric};

/// Distances from all queries to the gallery, computed in blocks with matrix products.
///
/// For two vectors that are close relative to their lengths, `‖a‖² + ‖b‖² - 2·a·b` in single precision would
/// be mostly rounding error. Their distance is computed from the differences of their values, in `f64`. So
/// duplicates have distance 0, and a small distance has the same relative accuracy as a large one.
///
/// ```
/// use reid_core::Identity;
/// use reid_eval::{Distances, Embeddings, EvaluationConfig, Metric, Protocol, evaluate_rows};
///
/// let one = |values: &[f32], ids: &[i64]| {
///     Embeddings::new(values.to_vec(), 1, ids.iter().copied().map(Identity::new).collect())
/// };
/// let (query, gallery) = (one(&[0.0, 9.0], &[1, 2])?, one(&[1.0, 7.0], &[1, 2])?);
/// let distances = Distances::between(&query, &gallery, Metric::Euclidean)?;
/// let config = EvaluationConfig::default().with_protocol(Protocol::NoCameras);
/// let report = evaluate_rows(&distances, query.labels(), gallery.labels(), &config)?;
/// assert_eq!(report.rank(1), 1.0);
/// # Ok::<(), reid_eval::Error>(())
/// ```
#[derive(Debug)]
pub struct Distances<'a> {
    pub(crate) query: Side<'a>,
    pub(crate) gallery: Side<'a>,
}

impl<'a> Distances<'a> {
    /// Prepares the distances between each query and each gallery image, `[queries, gallery images]`.
    ///
    /// [`DistanceRows::fill`] computes them.
    ///
    /// # Errors
    /// If query and gallery have different dimensions.
    pub fn between(
        query: &'a Embeddings,
        gallery: &'a Embeddings,
        metric: Metric,
    ) -> Result<Self, Error> {
        let sides = [query.dimensions(), gallery.dimensions()];
        expect_same_dimensions(sides)?;
        Ok(Self {
            query: Side::new(query, metric),
            gallery: Side::new(gallery, metric),
        })
    }

    /// Prepares the distances between each query and each image of an already prepared gallery.
    pub(crate) fn to_side(query: &'a Embeddings, gallery: &'a Side<'_>) -> Result<Self, Error> {
        expect_same_dimensions([query.dimensions(), gallery.dimensions()])?;
        Ok(Self {
            query: Side::new(query, gallery.metric()),
            gallery: gallery.borrowed(),
        })
    }
}

impl Distances<'_> {
    /// Computes the distances from one query to some gallery images, bit-identical to those of
    /// [`DistanceRows::fill`].
    pub(crate) fn to_some(&self, query: usize, images: &[usize]) -> Result<Vec<f32>, Error> {
        let distances = self.query.to_some(query, &self.gallery, images);
        match distances.iter().position(|distance| !distance.is_finite()) {
            None => Ok(distances),
            Some(at) => Err(Error::Distance {
                query,
                gallery: images[at],
            }),
        }
    }
}

fn expect_same_dimensions([query, gallery]: [usize; 2]) -> Result<(), Error> {
    if query == gallery {
        Ok(())
    } else {
        Err(Error::Dimensions { query, gallery })
    }
}

impl DistanceRows for Distances<'_> {
    fn queries(&self) -> usize {
        self.query.len()
    }

    fn gallery(&self) -> usize {
        self.gallery.len()
    }

    fn fill(&self, queries: Range<usize>, rows: &mut [f32]) -> Result<(), Error> {
        let ranges = [queries, 0..self.gallery.len()];
        self.query.fill_to(&self.gallery, ranges, rows);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use reid_core::Identity;

    use super::*;
    use crate::distance_rows::rows;

    fn embeddings(dimensions: usize, values: &[f32]) -> Embeddings {
        let identities = vec![Identity::new(1); values.len() / dimensions];
        Embeddings::new(values.to_vec(), dimensions, identities).expect("whole rows")
    }

    fn distances(metric: Metric, query: &[f32], gallery: &[f32]) -> Result<Vec<f32>, Error> {
        let (query, gallery) = (embeddings(2, query), embeddings(2, gallery));
        let distances = Distances::between(&query, &gallery, metric)?;
        rows(&distances, 0..distances.queries())
    }

    #[test]
    fn distances_match_a_hand_computed_example() {
        // (3,0) to (0,4), (3,0), (-3,0), (0,0): Euclidean √(9+16), 0, 6, 3; cosine 1-0, 1-1, 1+1 and, for the
        // zero vector, 1.
        let gallery = [0.0, 4.0, 3.0, 0.0, -3.0, 0.0, 0.0, 0.0];
        let found = |metric| distances(metric, &[3.0, 0.0], &gallery);
        assert_eq!(found(Metric::Euclidean), Ok(vec![5.0, 0.0, 6.0, 3.0]));
        assert_eq!(found(Metric::Cosine), Ok(vec![1.0, 0.0, 2.0, 1.0]));
    }

    #[test]
    fn very_long_and_very_short_vectors_have_cosine_distances() {
        let found = distances(Metric::Cosine, &[3e38, 3e38], &[1e-30, 1e-30, -1e38, 1e38]);
        let found = found.expect("finite");
        assert!(
            found[0] < 1e-6 && (found[1] - 1.0).abs() < 1e-6,
            "{found:?}"
        );
    }

    #[test]
    fn overflow_is_an_error_not_a_distance_of_zero() {
        // To the origin: √2 · 1e38, below 3.4e38. To itself: 2e76 + 2e76 - 2 · ∞.
        let found = distances(Metric::Euclidean, &[1e38, 1e38], &[0.0, 0.0, 1e38, 1e38]);
        let (query, gallery) = (0, 1);
        assert_eq!(found, Err(Error::Distance { query, gallery }));
    }

    /// Vectors of length 30 around a few centres, with noise of total length 1e-2. In single precision, the
    /// subtraction from squared lengths of 900 would leave only rounding error.
    #[test]
    fn small_distances_of_long_vectors_are_accurate() {
        let (dimensions, images) = (64, 12);
        let value = |row: usize, at: usize| {
            let centre = ((at * (1 + row % 3)) as f32 * 0.7).sin() * 5.3;
            centre + ((at * 31 + row * 17) as f32).sin() * 2e-3
        };
        let values: Vec<f32> = (0..images)
            .flat_map(|row| (0..dimensions).map(move |at| value(row, at)))
            .collect();
        let both = embeddings(dimensions, &values);
        let squares = |row: usize| both.row(row).iter().map(|&value| f64::from(value).powi(2));
        for metric in [Metric::Euclidean, Metric::Cosine] {
            let distances = Distances::between(&both, &both, metric).expect("equal dimensions");
            let found = rows(&distances, 0..images).expect("finite");
            for (at, found) in found.into_iter().enumerate() {
                let pair = [at / images, at % images];
                let scales = match metric {
                    Metric::Euclidean => [1.0, 1.0],
                    Metric::Cosine => pair.map(|row| 1.0 / squares(row).sum::<f64>().sqrt()),
                };
                let [one, other] = pair.map(|row| both.row(row));
                let terms = one.iter().zip(other);
                let terms =
                    terms.map(|(a, b)| f64::from(*a) * scales[0] - f64::from(*b) * scales[1]);
                let squared: f64 = terms.map(|term| term.powi(2)).sum();
                let expected = match metric {
                    Metric::Euclidean => squared.sqrt(),
                    Metric::Cosine => squared / 2.0,
                };
                let off = (f64::from(found) - expected).abs();
                assert!(
                    off <= 1e-4 * expected,
                    "{metric}, {pair:?}: {found}, not {expected}"
                );
            }
        }
    }

    #[test]
    fn different_dimensions_are_rejected() {
        let (query, gallery) = (embeddings(2, &[0.0; 4]), embeddings(3, &[0.0; 6]));
        let error = Distances::between(&query, &gallery, Metric::Cosine).expect_err("2 and 3");
        assert_eq!(
            error.to_string(),
            "query embeddings have 2 dimensions, gallery embeddings have 3"
        );
    }

    #[test]
    fn a_distance_does_not_depend_on_the_position_of_its_images() {
        // The same five vectors many times in query and gallery, with values that cause rounding: equal pairs
        // have bit-identical distances in every row, column and block.
        let (dimensions, images) = (515, 131);
        let vector = |row: usize| (0..dimensions).map(move |at| ((at * row) as f32 + 0.3).sin());
        let values: Vec<f32> = (0..images).flat_map(|row| vector(row % 5)).collect();
        let both = embeddings(dimensions, &values);
        for metric in [Metric::Euclidean, Metric::Cosine] {
            let distances = Distances::between(&both, &both, metric).expect("equal dimensions");
            let blocks = [0..64, 64..128, 128..131].map(|block| rows(&distances, block));
            let values: Vec<f32> = blocks
                .into_iter()
                .flat_map(|it| it.expect("finite"))
                .collect();
            let first = &values[..131];
            for (query, row) in values.chunks_exact(131).enumerate() {
                if query % 5 == 0 {
                    assert_eq!(row, first, "query {query}");
                }
                for (image, distance) in row.iter().enumerate() {
                    assert_eq!(
                        distance.to_bits(),
                        row[image % 5].to_bits(),
                        "{query}, {image}"
                    );
                }
            }
        }
    }
}
