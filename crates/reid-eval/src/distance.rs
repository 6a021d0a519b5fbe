//! Distances between blocks of queries and the whole gallery, computed with matrix products.

use std::{borrow::Cow, ops::Range};

use rayon::prelude::*;

use crate::{DistanceRows, Embeddings, Error, Metric};

/// The limit below which a distance is computed again from the differences of values: `left < NEAR * of` (see
/// [`Remainder`]).
///
/// A dot product of magnitude L has a rounding error of about 1e-7 · L. After the subtraction from the
/// squared lengths, this error must be small relative to the result.
const NEAR: f64 = 1.0 / 512.0;

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

/// The vectors of the queries or of the gallery.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Side<'a> {
    metric: Metric,
    dimensions: usize,
    values: Cow<'a, [f32]>,
    /// One value per vector. Cosine: the reciprocal of its length, or 0 for a zero vector. Euclidean: its
    /// squared length.
    scales: Cow<'a, [f64]>,
}

impl<'a> Distances<'a> {
    /// Prepares the distances between each query and each gallery image.
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
        expect_same_dimensions([query.dimensions(), gallery.dimensions])?;
        Ok(Self {
            query: Side::new(query, gallery.metric),
            gallery: Side {
                values: Cow::Borrowed(&gallery.values),
                scales: Cow::Borrowed(&gallery.scales),
                ..*gallery
            },
        })
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
        let gallery = 0..self.gallery.len();
        let ranges = [queries, gallery];
        match self.query.metric {
            Metric::Cosine => {
                let same = |distance| distance;
                self.query.tile(&self.gallery, ranges, (cosine, same), rows);
            }
            Metric::Euclidean => {
                let formula = (squared_euclidean, f64::sqrt);
                self.query.tile(&self.gallery, ranges, formula, rows);
            }
        }
        Ok(())
    }
}

impl<'a> Side<'a> {
    pub(crate) fn new(embeddings: &'a Embeddings, metric: Metric) -> Self {
        let (values, dimensions) = (embeddings.values(), embeddings.dimensions());
        let mut scales: Vec<f64> = values
            .par_chunks_exact(dimensions)
            .map(|row| row.iter().map(|&value| f64::from(value).powi(2)).sum())
            .collect();
        let mut values = Cow::Borrowed(values);
        if metric == Metric::Cosine {
            for scale in &mut scales {
                *scale = if *scale > 0.0 {
                    1.0 / scale.sqrt()
                } else {
                    0.0
                };
            }
            // Products of very long or very short vectors would overflow or underflow an `f32`.
            let moderate = |scale: &f64| *scale == 0.0 || (1e-12..1e12).contains(scale);
            if !scales.iter().all(moderate) {
                values
                    .to_mut()
                    .par_chunks_exact_mut(dimensions)
                    .zip(&mut scales)
                    .for_each(|(row, scale)| normalise(row, scale));
            }
        }
        Self {
            metric,
            dimensions,
            values,
            scales: Cow::Owned(scales),
        }
    }

    /// The same side with vectors of its own.
    #[cfg(feature = "files")]
    pub(crate) fn owned(self) -> Side<'static> {
        Side {
            metric: self.metric,
            dimensions: self.dimensions,
            values: Cow::Owned(self.values.into_owned()),
            scales: Cow::Owned(self.scales.into_owned()),
        }
    }

    /// Writes the distances from a range of vectors to a range of another side: cosine distances, or
    /// **squared** Euclidean distances. Distances may be infinite or NaN.
    pub(crate) fn squared_to(&self, other: &Self, ranges: [Range<usize>; 2], out: &mut [f32]) {
        match self.metric {
            Metric::Cosine => self.tile(other, ranges, (cosine, |distance| distance), out),
            Metric::Euclidean => {
                self.tile(other, ranges, (squared_euclidean, |squared| squared), out);
            }
        }
    }

    /// Computes the same distance for one pair.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "becomes infinite if too large"
    )]
    pub(crate) fn squared_to_one(&self, row: usize, other: &Self, column: usize) -> f32 {
        let product = product(self.vector(row), other.vector(column));
        let (own, of_other) = (self.scales[row], other.scales[column]);
        let remainder = match self.metric {
            Metric::Cosine => cosine(own, of_other, product),
            Metric::Euclidean => squared_euclidean(own, of_other, product),
        };
        self.distance(row, other, column, remainder) as f32
    }

    /// Writes a tile of distances.
    ///
    /// `formula` computes each distance from two scales and a dot product, unless the pair is too close.
    /// `end` is applied last, for example the square root. If the dot product is infinite or NaN, so is the
    /// distance.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "becomes infinite if too large"
    )]
    fn tile(
        &self,
        other: &Self,
        [rows, columns]: [Range<usize>; 2],
        (formula, end): (impl Fn(f64, f64, f32) -> Remainder, impl Fn(f64) -> f64),
        out: &mut [f32],
    ) {
        reid_kernels::products(
            self.vectors(&rows),
            other.vectors(&columns),
            self.dimensions,
            out,
        );
        for (row, products) in rows.zip(out.chunks_exact_mut(columns.len())) {
            let own = self.scales[row];
            let scales = &other.scales[columns.clone()];
            for ((column, of_other), product) in columns.clone().zip(scales).zip(products) {
                let remainder = formula(own, *of_other, *product);
                *product = end(self.distance(row, other, column, remainder)) as f32;
            }
        }
    }

    /// The remainder, or the distance from differences if cancellation has made the remainder inaccurate.
    fn distance(&self, row: usize, other: &Self, column: usize, remainder: Remainder) -> f64 {
        let Remainder { left, of } = remainder;
        if left < NEAR * of {
            self.by_differences(row, other, column)
        } else {
            left
        }
    }

    /// The distance from the differences of all values, for vectors that are close to each other.
    #[cold]
    fn by_differences(&self, row: usize, other: &Self, column: usize) -> f64 {
        let pair = [self.vector(row), other.vector(column)];
        match self.metric {
            // ‖a - b‖² = 2 - 2·cos(a, b) at length 1.
            Metric::Cosine => {
                squared_difference(pair, [self.scales[row], other.scales[column]]) / 2.0
            }
            Metric::Euclidean => squared_difference(pair, [1.0, 1.0]),
        }
    }

    /// The values of a vector normalised to length 1, for a side with cosine distances. Zeros stay zeros.
    pub(crate) fn direction(&self, image: usize) -> impl Iterator<Item = f64> {
        let scale = self.scales[image];
        let row = &self.values[image * self.dimensions..][..self.dimensions];
        row.iter().map(move |value| f64::from(*value) * scale)
    }

    pub(crate) fn len(&self) -> usize {
        self.scales.len()
    }

    #[cfg(feature = "files")]
    pub(crate) fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// The values of all vectors, row by row.
    #[cfg(feature = "files")]
    pub(crate) fn values(&self) -> &[f32] {
        &self.values
    }

    pub(crate) fn vector(&self, image: usize) -> &[f32] {
        self.vectors(&(image..image + 1))
    }

    fn vectors(&self, range: &Range<usize>) -> &[f32] {
        &self.values[range.start * self.dimensions..range.end * self.dimensions]
    }
}

/// A side that owns its vectors, to which vectors are added and from which they are removed.
#[cfg(feature = "files")]
impl Side<'static> {
    /// Appends the vectors of another side with the same metric and dimensions.
    pub(crate) fn append(&mut self, other: &Side<'_>) {
        self.values.to_mut().extend_from_slice(&other.values);
        self.scales.to_mut().extend_from_slice(&other.scales);
    }

    /// Removes the vectors whose index is marked.
    pub(crate) fn remove(&mut self, marked: &[bool]) {
        let mut kept = marked
            .iter()
            .flat_map(|marked| std::iter::repeat_n(!marked, self.dimensions));
        self.values.to_mut().retain(|_| kept.next().unwrap_or(true));
        let mut kept = marked.iter().map(|marked| !marked);
        self.scales.to_mut().retain(|_| kept.next().unwrap_or(true));
    }
}

/// The dot product of two vectors, summed in `f64` in several lanes so that it vectorises.
#[expect(
    clippy::cast_possible_truncation,
    reason = "becomes infinite if too large"
)]
fn product(one: &[f32], other: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0.0_f64; LANES];
    let (one, rest_of_one) = one.as_chunks::<LANES>();
    let (other, rest_of_other) = other.as_chunks::<LANES>();
    for (one, other) in one.iter().zip(other) {
        for ((sum, a), b) in sums.iter_mut().zip(one).zip(other) {
            *sum += f64::from(*a) * f64::from(*b);
        }
    }
    let rest = rest_of_one.iter().zip(rest_of_other);
    let rest: f64 = rest.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    (sums.iter().sum::<f64>() + rest) as f32
}

/// `Σᵢ (a·oneᵢ - b·otherᵢ)²` for two vectors and their scales, summed in several lanes so that it vectorises.
fn squared_difference([one, other]: [&[f32]; 2], [a, b]: [f64; 2]) -> f64 {
    const LANES: usize = 8;
    let difference = |one: f32, other: f32| f64::from(one) * a - f64::from(other) * b;
    let mut sums = [0.0_f64; LANES];
    let (one, rest_of_one) = one.as_chunks::<LANES>();
    let (other, rest_of_other) = other.as_chunks::<LANES>();
    for (one, other) in one.iter().zip(other) {
        for ((sum, one), other) in sums.iter_mut().zip(one).zip(other) {
            *sum += difference(*one, *other).powi(2);
        }
    }
    let rest = rest_of_one.iter().zip(rest_of_other);
    let rest: f64 = rest.map(|(a, b)| difference(*a, *b).powi(2)).sum();
    sums.iter().sum::<f64>() + rest
}

/// The result `left` of subtracting a multiple of a dot product from `of`.
#[derive(Clone, Copy)]
struct Remainder {
    left: f64,
    of: f64,
}

/// The cosine distance. A zero vector has scale 0, so its distance to any vector is 1.
fn cosine(one: f64, other: f64, product: f32) -> Remainder {
    let left = (1.0 - f64::from(product) * (one * other)).clamp(0.0, 2.0);
    Remainder { left, of: 1.0 }
}

/// The squared Euclidean distance. The subtraction is in `f64`, so it adds no rounding error of its own.
fn squared_euclidean(one: f64, other: f64, product: f32) -> Remainder {
    let of = one + other;
    let left = if product.is_finite() {
        of - 2.0 * f64::from(product)
    } else {
        f64::NAN
    };
    Remainder { left, of }
}

/// Normalises a vector to length 1; zeros stay zeros.
#[expect(clippy::cast_possible_truncation, reason = "values are at most 1")]
fn normalise(row: &mut [f32], scale: &mut f64) {
    if *scale > 0.0 {
        for value in row {
            *value = (f64::from(*value) * *scale) as f32;
        }
        *scale = 1.0;
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
