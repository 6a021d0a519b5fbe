//! The vectors of one side of a comparison, and the formulas of their distances.

use std::{borrow::Cow, ops::Range};

use rayon::prelude::*;

use crate::{Embeddings, Metric};

/// The limit below which a distance is computed again from the differences of values: `left < NEAR * of` (see
/// [`Remainder`]).
///
/// A dot product of magnitude L has a rounding error of about 1e-7 · L. After the subtraction from the
/// squared lengths, this error must be small relative to the result.
const NEAR: f64 = 1.0 / 512.0;

/// The number of vectors that are copied together before their distances are computed.
const GATHERED: usize = 96;

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

impl<'a> Side<'a> {
    pub(crate) fn new(embeddings: &'a Embeddings, metric: Metric) -> Self {
        let (values, dimensions) = (embeddings.values(), embeddings.dimensions());
        let mut scales: Vec<f64> = values
            .par_chunks_exact(dimensions)
            .map(|row| scale(row, metric))
            .collect();
        let mut values = Cow::Borrowed(values);
        if scales.iter().any(|scale| is_extreme(*scale, metric)) {
            values
                .to_mut()
                .par_chunks_exact_mut(dimensions)
                .zip(&mut scales)
                .filter(|(_, scale)| is_extreme(**scale, metric))
                .for_each(|(row, scale)| normalise(row, scale));
        }
        Self {
            metric,
            dimensions,
            values,
            scales: Cow::Owned(scales),
        }
    }

    /// Prepares vectors on the calling thread, for a block of a gallery that is one of many.
    #[cfg(feature = "files")]
    pub(crate) fn of_block(
        mut values: Vec<f32>,
        dimensions: usize,
        metric: Metric,
    ) -> Side<'static> {
        let rows = values.chunks_exact_mut(dimensions).map(|row| {
            let mut scale = scale(row, metric);
            if is_extreme(scale, metric) {
                normalise(row, &mut scale);
            }
            scale
        });
        let scales: Vec<f64> = rows.collect();
        Side {
            metric,
            dimensions,
            values: Cow::Owned(values),
            scales: Cow::Owned(scales),
        }
    }

    /// The same side with borrowed vectors.
    pub(crate) fn borrowed(&self) -> Side<'_> {
        Side {
            metric: self.metric,
            dimensions: self.dimensions,
            values: Cow::Borrowed(&self.values),
            scales: Cow::Borrowed(&self.scales),
        }
    }

    /// A range of the vectors.
    pub(crate) fn part(&self, range: Range<usize>) -> Side<'_> {
        Side {
            metric: self.metric,
            dimensions: self.dimensions,
            values: Cow::Borrowed(self.vectors(&range)),
            scales: Cow::Borrowed(&self.scales[range]),
        }
    }

    /// A copy of some vectors.
    pub(crate) fn gathered(&self, vectors: &[usize]) -> Side<'static> {
        let values = vectors.iter().flat_map(|vector| self.vector(*vector));
        let scales = vectors.iter().map(|vector| self.scales[*vector]);
        Side {
            metric: self.metric,
            dimensions: self.dimensions,
            values: Cow::Owned(values.copied().collect()),
            scales: Cow::Owned(scales.collect()),
        }
    }

    /// A side of the same metric and dimensions without vectors.
    pub(crate) fn without_vectors(&self) -> Side<'static> {
        Side {
            metric: self.metric,
            dimensions: self.dimensions,
            values: Cow::Owned(Vec::new()),
            scales: Cow::Owned(Vec::new()),
        }
    }

    /// The side of embeddings that are not needed any more.
    #[cfg(feature = "files")]
    pub(crate) fn of(embeddings: Embeddings, metric: Metric) -> Side<'static> {
        let side = Side::new(&embeddings, metric);
        let (dimensions, scales) = (side.dimensions, side.scales.into_owned());
        let values = match side.values {
            Cow::Borrowed(_) => None,
            Cow::Owned(normalised) => Some(normalised),
        };
        let values = values.unwrap_or_else(|| embeddings.into_values());
        Side {
            metric,
            dimensions,
            values: Cow::Owned(values),
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
        let product = product(self.vector(row), other.vector(column)) as f32;
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

    pub(crate) fn metric(&self) -> Metric {
        self.metric
    }

    pub(crate) fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// The scale of a vector. Cosine: the reciprocal of its length, or 0 for a zero vector. Euclidean: its
    /// squared length.
    pub(crate) fn scale(&self, vector: usize) -> f64 {
        self.scales[vector]
    }

    /// Computes the distances from one vector to some vectors of another side, bit-identical to those of
    /// [`DistanceRows::fill`](crate::DistanceRows::fill).
    pub(crate) fn to_some(&self, row: usize, other: &Self, columns: &[usize]) -> Vec<f32> {
        let mut distances = vec![f32::NAN; columns.len()];
        let blocks = columns.par_chunks(GATHERED);
        blocks
            .zip(distances.par_chunks_mut(GATHERED))
            .for_each(|(columns, distances)| self.to_gathered(row, other, columns, distances));
        distances
    }

    /// Writes the distances from one vector to some vectors of another side, like [`to_some`](Self::to_some), on
    /// the calling thread. The vectors are copied.
    fn to_gathered(&self, row: usize, other: &Side<'_>, columns: &[usize], distances: &mut [f32]) {
        let (query, gathered) = (self.part(row..row + 1), other.gathered(columns));
        query.fill_to(&gathered, [0..1, 0..columns.len()], distances);
    }

    /// Writes the distances from a range of vectors to a range of another side.
    pub(crate) fn fill_to(&self, other: &Side<'_>, ranges: [Range<usize>; 2], rows: &mut [f32]) {
        match self.metric {
            Metric::Cosine => self.tile(other, ranges, (cosine, |distance| distance), rows),
            Metric::Euclidean => {
                self.tile(other, ranges, (squared_euclidean, f64::sqrt), rows);
            }
        }
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

/// The dot product of two vectors, summed in several lanes so that it vectorises.
fn product(one: &[f32], other: &[f32]) -> f64 {
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
    sums.iter().sum::<f64>() + rest
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

/// The scale of a vector: see [`Side::scale`].
fn scale(row: &[f32], metric: Metric) -> f64 {
    let squared = product(row, row);
    match metric {
        Metric::Euclidean => squared,
        Metric::Cosine if squared > 0.0 => 1.0 / squared.sqrt(),
        Metric::Cosine => 0.0,
    }
}

/// Whether a vector is so long or so short that its products could overflow or underflow an `f32`. It is then
/// normalised. Other vectors are not changed, so a distance depends on the two vectors only.
fn is_extreme(scale: f64, metric: Metric) -> bool {
    metric == Metric::Cosine && scale != 0.0 && !(1e-12..1e12).contains(&scale)
}

/// Normalises a vector to length 1, up to rounding, of which its scale takes account. Zeros stay zeros.
#[expect(clippy::cast_possible_truncation, reason = "values are at most 1")]
fn normalise(row: &mut [f32], scale: &mut f64) {
    if *scale > 0.0 {
        for value in row.iter_mut() {
            *value = (f64::from(*value) * *scale) as f32;
        }
        *scale = self::scale(row, Metric::Cosine);
    }
}
