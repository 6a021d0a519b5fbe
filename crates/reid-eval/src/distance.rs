//! Distance: blocks of queries against the whole gallery, by matrix products.

use std::{borrow::Cow, ops::Range};

use rayon::prelude::*;

use crate::{Embeddings, Error, Metric};

/// Most queries in a block: enough to keep a matrix product busy.
const BLOCK_QUERIES: usize = 128;
/// Most distances in a block unless one query has more: 64 MiB per thread, so that a gallery of a million
/// is read once for sixteen queries.
const BLOCK_DISTANCES: usize = 1 << 24;

/// Pairs whose squared distance is a smaller share of what it is the rest of are computed from their
/// differences: a product of length L is rounded by some 1e-7 · L, which must stay small beside what is left
/// when it is taken from two squared lengths.
const NEAR: f64 = 1.0 / 512.0;

/// Where distances come from, some queries at a time: a metric, a matrix, a file or a device.
///
/// ```
/// use std::ops::Range;
/// use reid_core::Identity;
/// use reid_eval::{DistanceRows, Error, EvaluationConfig, Labels, Protocol, evaluate_rows};
///
/// /// Each image is where its number is.
/// struct Line;
///
/// impl DistanceRows for Line {
///     fn queries(&self) -> usize {
///         2
///     }
///     fn gallery(&self) -> usize {
///         3
///     }
///     fn fill(&self, queries: Range<usize>, rows: &mut [f32]) -> Result<(), Error> {
///         for (query, row) in queries.zip(rows.chunks_exact_mut(3)) {
///             for (image, distance) in row.iter_mut().enumerate() {
///                 *distance = query.abs_diff(image) as f32;
///             }
///         }
///         Ok(())
///     }
/// }
///
/// let query = Labels::new([1, 2].map(Identity::new).to_vec());
/// let gallery = Labels::new([1, 2, 1].map(Identity::new).to_vec());
/// let config = EvaluationConfig::default().with_protocol(Protocol::NoCameras);
/// let report = evaluate_rows(&Line, &query, &gallery, &config)?;
/// assert_eq!(report.rank(1), 1.0);
/// # Ok::<(), reid_eval::Error>(())
/// ```
pub trait DistanceRows: Sync {
    /// Number of queries.
    fn queries(&self) -> usize;

    /// Number of gallery images.
    fn gallery(&self) -> usize;

    /// Writes the distances of some queries to the whole gallery, row by row; smaller is nearer.
    ///
    /// It is called from several threads at once, with ranges of any length; `rows` has as many
    /// values as queries times gallery images, and what is not written is refused.
    ///
    /// # Errors
    /// If they cannot be had; [`Error::Source`] is for reasons from outside.
    fn fill(&self, queries: Range<usize>, rows: &mut [f32]) -> Result<(), Error>;
}

/// Queries that are asked for at once: the blocks depend on the size of the gallery alone, not on
/// threads, and so do all roundings.
pub(crate) fn block_queries(gallery: usize) -> usize {
    (BLOCK_DISTANCES / gallery.max(1)).clamp(1, BLOCK_QUERIES)
}

/// Distances between all queries and the gallery, by matrix products, a block at a time.
///
/// Two vectors that are near each other, measured by their lengths, are compared by their differences
/// instead, in `f64`: of `‖a‖² + ‖b‖² - 2·a·b` in single precision nothing would be left but rounding. So
/// duplicates are at distance 0, and a small distance is as exact as a large one.
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

/// The vectors of one side.
#[derive(Debug)]
pub(crate) struct Side<'a> {
    metric: Metric,
    dimensions: usize,
    values: Cow<'a, [f32]>,
    /// For cosine distances what brings each vector to length 1, 0 for zeros; for Euclidean ones its squared
    /// length.
    scales: Cow<'a, [f64]>,
}

impl<'a> Distances<'a> {
    /// Between each query and each gallery image.
    ///
    /// # Errors
    /// If the sides have different dimensions.
    pub fn between(
        query: &'a Embeddings,
        gallery: &'a Embeddings,
        metric: Metric,
    ) -> Result<Self, Error> {
        let sides = [query.dimensions(), gallery.dimensions()];
        expect_one_space(sides)?;
        Ok(Self {
            query: Side::new(query, metric),
            gallery: Side::new(gallery, metric),
        })
    }

    /// Between each query and each image of a gallery that is prepared.
    pub(crate) fn to_side(query: &'a Embeddings, gallery: &'a Side<'_>) -> Result<Self, Error> {
        expect_one_space([query.dimensions(), gallery.dimensions])?;
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

fn expect_one_space([query, gallery]: [usize; 2]) -> Result<(), Error> {
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
            // Products of very long or very short vectors leave the range of an `f32`.
            let moderate = |scale: &f64| *scale == 0.0 || (1e-12..1e12).contains(scale);
            if !scales.iter().all(moderate) {
                values
                    .to_mut()
                    .par_chunks_exact_mut(dimensions)
                    .zip(&mut scales)
                    .for_each(|(row, scale)| shorten(row, scale));
            }
        }
        Self {
            metric,
            dimensions,
            values,
            scales: Cow::Owned(scales),
        }
    }

    /// Writes the distances of some vectors to some of another side: cosine distances, or **squared**
    /// Euclidean ones. What is not finite stays so.
    pub(crate) fn squared_to(&self, other: &Self, ranges: [Range<usize>; 2], out: &mut [f32]) {
        match self.metric {
            Metric::Cosine => self.tile(other, ranges, (cosine, |distance| distance), out),
            Metric::Euclidean => {
                self.tile(other, ranges, (squared_euclidean, |squared| squared), out);
            }
        }
    }

    /// The same for one pair.
    #[expect(clippy::cast_possible_truncation, reason = "infinite where too large")]
    pub(crate) fn squared_to_one(&self, row: usize, other: &Self, column: usize) -> f32 {
        let product = product(self.vector(row), other.vector(column));
        let (own, of_other) = (self.scales[row], other.scales[column]);
        let remainder = match self.metric {
            Metric::Cosine => cosine(own, of_other, product),
            Metric::Euclidean => squared_euclidean(own, of_other, product),
        };
        self.distance(row, other, column, remainder) as f32
    }

    /// Writes distances, each from two squared lengths and a product, or from differences, and then from
    /// what that gives. A product that is not finite becomes a distance that is not.
    #[expect(clippy::cast_possible_truncation, reason = "infinite where too large")]
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

    /// What is left of two lengths and a product, unless that is too little.
    fn distance(&self, row: usize, other: &Self, column: usize, remainder: Remainder) -> f64 {
        let Remainder { left, of } = remainder;
        if left < NEAR * of {
            self.by_differences(row, other, column)
        } else {
            left
        }
    }

    /// The same from the differences of all numbers, for pairs that are near.
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

    /// A vector by its numbers at length 1, if distances are cosine distances; zeros stay zeros.
    pub(crate) fn direction(&self, image: usize) -> impl Iterator<Item = f64> {
        let scale = self.scales[image];
        let row = &self.values[image * self.dimensions..][..self.dimensions];
        row.iter().map(move |value| f64::from(*value) * scale)
    }

    pub(crate) fn len(&self) -> usize {
        self.scales.len()
    }

    fn vector(&self, image: usize) -> &[f32] {
        self.vectors(&(image..image + 1))
    }

    fn vectors(&self, range: &Range<usize>) -> &[f32] {
        &self.values[range.start * self.dimensions..range.end * self.dimensions]
    }
}

/// Maps each query and its distances to the gallery, in the order of the queries, on all threads. Distances
/// are asked for a block of queries at a time and never kept.
pub(crate) fn map_rows<R: Send>(
    source: &(impl DistanceRows + ?Sized),
    map: impl Fn(usize, &[f32]) -> R + Sync,
) -> Result<Vec<R>, Error> {
    let (queries, images) = (source.queries(), source.gallery());
    let step = block_queries(images);
    let results = |block: usize| {
        let block = block * step..((block + 1) * step).min(queries);
        let rows = rows(source, block.clone())?;
        let rows = block.zip(rows.chunks_exact(images));
        Ok(rows.map(|(query, row)| map(query, row)).collect::<Vec<_>>())
    };
    let blocks: Vec<Result<_, Error>> = (0..queries.div_ceil(step))
        .into_par_iter()
        .map(results)
        .collect();
    // Joined in order, so that of several errors it is always the first that is reported.
    let mut all = Vec::with_capacity(queries);
    for block in blocks {
        all.extend(block?);
    }
    Ok(all)
}

/// The distances of some queries, none of which is infinite or not a number.
pub(crate) fn rows(
    source: &(impl DistanceRows + ?Sized),
    queries: Range<usize>,
) -> Result<Vec<f32>, Error> {
    let gallery = source.gallery();
    // What a source leaves out is no distance.
    let mut rows = vec![f32::NAN; queries.len() * gallery];
    source.fill(queries.clone(), &mut rows)?;
    for (query, row) in queries.zip(rows.chunks_exact(gallery)) {
        expect_finite(query, row)?;
    }
    Ok(rows)
}

/// Refuses distances that cannot be ranked.
fn expect_finite(query: usize, distances: &[f32]) -> Result<(), Error> {
    match distances.iter().position(|distance| !distance.is_finite()) {
        None => Ok(()),
        Some(gallery) => Err(Error::Distance { query, gallery }),
    }
}

/// The product of two vectors, summed in lanes so that it is as fast and as exact as in a block.
#[expect(clippy::cast_possible_truncation, reason = "infinite where too large")]
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

/// `Σᵢ (a·aᵢ - b·bᵢ)²` of two vectors and their scales, summed in lanes so that it is fast.
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

/// What is left of something when a product has been taken from it.
#[derive(Clone, Copy)]
struct Remainder {
    left: f64,
    of: f64,
}

/// A vector of zeros has no direction, and is as far from one as from another.
fn cosine(one: f64, other: f64, product: f32) -> Remainder {
    let left = (1.0 - f64::from(product) * (one * other)).clamp(0.0, 2.0);
    Remainder { left, of: 1.0 }
}

/// In `f64`, so that subtracting nearly equal numbers loses nothing more.
fn squared_euclidean(one: f64, other: f64, product: f32) -> Remainder {
    let of = one + other;
    let left = if product.is_finite() {
        of - 2.0 * f64::from(product)
    } else {
        f64::NAN
    };
    Remainder { left, of }
}

/// Brings a vector to length 1; zeros stay zeros.
#[expect(clippy::cast_possible_truncation, reason = "at most 1")]
fn shorten(row: &mut [f32], scale: &mut f64) {
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
    fn by_hand() {
        // (3,0) to (0,4), (3,0), (-3,0), (0,0): Euclid √(9+16), 0, 6, 3; cosine 1-0, 1-1, 1+1 and,
        // for the vector without a direction, 1.
        let gallery = [0.0, 4.0, 3.0, 0.0, -3.0, 0.0, 0.0, 0.0];
        let found = |metric| distances(metric, &[3.0, 0.0], &gallery);
        assert_eq!(found(Metric::Euclidean), Ok(vec![5.0, 0.0, 6.0, 3.0]));
        assert_eq!(found(Metric::Cosine), Ok(vec![1.0, 0.0, 2.0, 1.0]));
    }

    #[test]
    fn very_long_and_very_short_vectors_have_a_direction() {
        let found = distances(Metric::Cosine, &[3e38, 3e38], &[1e-30, 1e-30, -1e38, 1e38]);
        let found = found.expect("finite");
        assert!(
            found[0] < 1e-6 && (found[1] - 1.0).abs() < 1e-6,
            "{found:?}"
        );
    }

    #[test]
    fn overflow_is_an_error_not_a_distance_of_zero() {
        // To the origin √2 · 1e38, below 3.4e38; to itself 2e76 + 2e76 - 2 · ∞.
        let found = distances(Metric::Euclidean, &[1e38, 1e38], &[0.0, 0.0, 1e38, 1e38]);
        let (query, gallery) = (0, 1);
        assert_eq!(found, Err(Error::Distance { query, gallery }));
    }

    /// Vectors of length 30 around a few centres, with noise of 1e-2 in all: of a difference of squared
    /// lengths of 900 nothing is left in single precision.
    #[test]
    fn small_distances_of_long_vectors_are_exact() {
        let (dimensions, rows) = (64, 12);
        let value = |row: usize, at: usize| {
            let centre = ((at * (1 + row % 3)) as f32 * 0.7).sin() * 5.3;
            centre + ((at * 31 + row * 17) as f32).sin() * 2e-3
        };
        let values: Vec<f32> = (0..rows)
            .flat_map(|row| (0..dimensions).map(move |at| value(row, at)))
            .collect();
        let both = embeddings(dimensions, &values);
        let squares = |row: usize| both.row(row).iter().map(|&value| f64::from(value).powi(2));
        for metric in [Metric::Euclidean, Metric::Cosine] {
            let distances = Distances::between(&both, &both, metric).expect("one space");
            let found = super::rows(&distances, 0..rows).expect("finite");
            for (at, found) in found.into_iter().enumerate() {
                let pair = [at / rows, at % rows];
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
    fn spaces_of_different_dimensions_are_refused() {
        let (query, gallery) = (embeddings(2, &[0.0; 4]), embeddings(3, &[0.0; 6]));
        let error = Distances::between(&query, &gallery, Metric::Cosine).expect_err("2 and 3");
        assert_eq!(
            error.to_string(),
            "query embeddings have 2 dimensions, gallery embeddings have 3"
        );
    }

    #[test]
    fn a_distance_does_not_depend_on_where_its_images_stand() {
        // One vector many times on either side, among vectors that fill the dimensions with
        // numbers that round: all of its distances are the same to the last bit.
        let (dimensions, rows) = (515, 131);
        let vector = |row: usize| (0..dimensions).map(move |at| ((at * row) as f32 + 0.3).sin());
        let values: Vec<f32> = (0..rows).flat_map(|row| vector(row % 5)).collect();
        let both = embeddings(dimensions, &values);
        for metric in [Metric::Euclidean, Metric::Cosine] {
            let distances = Distances::between(&both, &both, metric).expect("one space");
            let blocks = [0..64, 64..128, 128..131].map(|block| super::rows(&distances, block));
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
