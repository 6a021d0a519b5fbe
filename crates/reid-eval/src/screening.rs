//! Screening: an exact search that reads one byte per value of the gallery.
//!
//! A search of few queries is limited by the memory bandwidth. So each gallery vector `e` also has a code `c`
//! of one byte per value and a step `s`, such that `s·c` is near `e`. With a bound on the rounding errors,
//!
//! ```text
//! |q·e - s·(q·c)| ≤ ‖q‖·(‖e - s·c‖ + 2γ·(‖e‖ + ‖e - s·c‖))        γ = dimensions · 2⁻²⁴
//! ```
//!
//! gives a lower and an upper bound of every distance. Only images whose lower bound is not above the k-th
//! smallest upper bound can be among the nearest `k`. Their distances are then computed from the vectors
//! themselves, so results are bit-identical to those of a search without codes. For unit vectors of 512
//! dimensions, the bounds are about 0.01 apart.

use rayon::prelude::*;
use reid_kernels::code_products;

use crate::{Metric, distance::Side};

/// The number of vectors whose bounds one thread computes at a time.
const TOGETHER: usize = 1024;

/// The largest number of queries for which screening is faster than a matrix product with all vectors.
const MAX_QUERIES: usize = 4;

/// The largest number of nearest groups that is screened for.
const MAX_NEAREST: usize = 64;

/// The size of a gallery from which screening is worth its overhead.
const MIN_GALLERY: usize = 4096;

/// The relative error that is allowed for the evaluation of a bound in single precision.
const SLACK: f32 = 4e-6;

/// Codes of one byte per value, and bounds of their errors, for the vectors of a [`Side`].
#[derive(Clone, Debug)]
pub(crate) struct Screen {
    metric: Metric,
    dimensions: usize,
    codes: Vec<i8>,
    vectors: Vec<Bound>,
}

/// The constants in the bounds of the distances to one vector.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bound {
    /// The step of the codes. Cosine: divided by the length of the vector.
    step: f32,
    /// The bound for a query of length 1. Cosine: divided by the length of the vector.
    error: f32,
    /// Euclidean: the squared length. Cosine: 0.
    square: f32,
}

impl Screen {
    /// Whether a search of so many queries in so many images for so many nearest groups is screened.
    pub(crate) fn pays(queries: usize, gallery: usize, nearest: usize) -> bool {
        queries <= MAX_QUERIES && gallery >= MIN_GALLERY && nearest <= MAX_NEAREST
    }

    pub(crate) fn new(side: &Side<'_>) -> Self {
        let mut screen = Self {
            metric: side.metric(),
            dimensions: side.dimensions(),
            codes: Vec::new(),
            vectors: Vec::new(),
        };
        screen.append(side);
        screen
    }

    /// Appends the vectors of another side with the same metric and dimensions.
    pub(crate) fn append(&mut self, side: &Side<'_>) {
        let (metric, dimensions) = (self.metric, self.dimensions);
        let start = self.codes.len();
        self.codes.resize(start + side.len() * dimensions, 0);
        let codes = self.codes[start..].par_chunks_exact_mut(dimensions);
        let bounds = codes.enumerate().map(|(vector, codes)| {
            let (values, scale) = (side.vector(vector), side.scale(vector));
            encode(values, scale, metric, codes)
        });
        self.vectors.par_extend(bounds);
    }

    /// Removes the vectors whose index is marked.
    #[cfg(feature = "files")]
    pub(crate) fn remove(&mut self, marked: &[bool]) {
        let mut kept = marked
            .iter()
            .flat_map(|marked| std::iter::repeat_n(!marked, self.dimensions));
        self.codes.retain(|_| kept.next().unwrap_or(true));
        let mut kept = marked.iter().map(|marked| !marked);
        self.vectors.retain(|_| kept.next().unwrap_or(true));
    }

    /// Returns, for each query, the images in ascending order that can be the nearest of one of the `k`
    /// nearest groups, or `None` for images that are not searched.
    ///
    /// `group` is the group of an image, such as its identity.
    pub(crate) fn candidates(
        &self,
        queries: &Side<'_>,
        k: usize,
        group: impl Fn(usize) -> Option<usize> + Sync,
    ) -> Vec<Vec<usize>> {
        let (count, images) = (queries.len(), self.vectors.len());
        let mut lower = vec![0.0; images.div_ceil(TOGETHER) * TOGETHER * count];
        let parts = lower.par_chunks_mut(TOGETHER * count).enumerate();
        let limits: Vec<Vec<Limit>> = parts
            .map(|(part, lower)| self.bounds(queries, part * TOGETHER, lower, (k, &group)))
            .collect();
        let of_query = |query: usize| {
            let mut limit = Limit::new(k);
            for part in &limits {
                limit.merge(&part[query]);
            }
            let limit = limit.value();
            let lower = |image: usize| {
                let (part, offset) = (image / TOGETHER, image % TOGETHER);
                lower[(part * count + query) * TOGETHER + offset]
            };
            // A bound that is not finite excludes nothing: the exact distance decides.
            let possible = |image: &usize| {
                let lower = lower(*image);
                (lower <= limit || !lower.is_finite()) && group(*image).is_some()
            };
            (0..images).filter(possible).collect()
        };
        (0..count).map(of_query).collect()
    }

    /// Computes the bounds from all queries to the images from `first` on. `lower` is `[queries, TOGETHER]`.
    fn bounds(
        &self,
        queries: &Side<'_>,
        first: usize,
        lower: &mut [f32],
        (k, group): (usize, &impl Fn(usize) -> Option<usize>),
    ) -> Vec<Limit> {
        let last = (first + TOGETHER).min(self.vectors.len());
        let codes = &self.codes[first * self.dimensions..last * self.dimensions];
        let of_query = |(query, lower): (usize, &mut [f32])| {
            let lower = &mut lower[..last - first];
            code_products(queries.vector(query), codes, lower);
            let from = Query::new(queries, query);
            let mut limit = Limit::new(k);
            for (image, lower) in (first..last).zip(lower) {
                let [low, high] = from.bounds(*lower, self.vectors[image]);
                *lower = low;
                if high < limit.value()
                    && let Some(group) = group(image)
                {
                    limit.add(high, group);
                }
            }
            limit
        };
        let lower = lower.chunks_exact_mut(TOGETHER).enumerate();
        lower.map(of_query).collect()
    }
}

/// Encodes a vector and returns the constants of its bounds.
#[expect(clippy::cast_possible_truncation, reason = "bounds are rounded up")]
fn encode(values: &[f32], scale: f64, metric: Metric, codes: &mut [i8]) -> Bound {
    let encoded = reid_kernels::encode(values, codes);
    let (length, rest) = (encoded.square.sqrt(), encoded.error.sqrt());
    let rounding = 1.1 * values.len() as f64 * 2.0_f64.powi(-24);
    let error = rest + 2.0 * rounding * (length + rest);
    let (scale, square) = match metric {
        Metric::Cosine => (scale, 0.0),
        Metric::Euclidean => (1.0, encoded.square),
    };
    Bound {
        step: (f64::from(encoded.step) * scale) as f32,
        error: (error * scale * (1.0 + 1e-6)) as f32,
        square: square as f32,
    }
}

/// The constants of a query in the bounds of its distances.
struct Query {
    /// Euclidean: the squared length. Cosine: 1.
    base: f32,
    /// The factor of the product with the codes.
    product: f32,
    /// The factor of the error.
    error: f32,
    /// The largest distance: 2 for the cosine distance.
    largest: f32,
}

impl Query {
    #[expect(clippy::cast_possible_truncation, reason = "bounds have a slack")]
    fn new(queries: &Side<'_>, query: usize) -> Self {
        let scale = queries.scale(query);
        match queries.metric() {
            Metric::Cosine => Self {
                base: 1.0,
                product: scale as f32,
                error: 1.0,
                largest: 2.0,
            },
            Metric::Euclidean => Self {
                base: scale as f32,
                product: 2.0,
                error: 2.0 * scale.sqrt() as f32,
                largest: f32::INFINITY,
            },
        }
    }

    /// The smallest and the largest cosine or squared Euclidean distance with this product with the codes.
    fn bounds(&self, product: f32, vector: Bound) -> [f32; 2] {
        let (sum, error) = (self.base + vector.square, self.error * vector.error);
        let product = self.product * product * vector.step;
        let slack = SLACK * (sum + product.abs() + error) + f32::MIN_POSITIVE;
        let [low, high] = [sum - product - error - slack, sum - product + error + slack];
        // Not `min` and `max`, which would replace NaN.
        let low = if low > self.largest {
            self.largest
        } else {
            low
        };
        [low, if high < 0.0 { 0.0 } else { high }]
    }
}

/// The smallest upper bounds of `k` groups.
struct Limit {
    k: usize,
    /// Bounds and their groups, in ascending order; at most `k`.
    smallest: Vec<(f32, usize)>,
}

impl Limit {
    fn new(k: usize) -> Self {
        Self {
            k,
            smallest: Vec::with_capacity(k + 1),
        }
    }

    /// The k-th smallest bound; infinite if there are fewer groups.
    fn value(&self) -> f32 {
        if self.smallest.len() < self.k {
            return f32::INFINITY;
        }
        self.smallest
            .last()
            .map_or(f32::INFINITY, |(bound, _)| *bound)
    }

    fn add(&mut self, bound: f32, group: usize) {
        if let Some(at) = self.smallest.iter().position(|(_, other)| *other == group) {
            if self.smallest[at].0 <= bound {
                return;
            }
            self.smallest.remove(at);
        }
        let at = self.smallest.partition_point(|(other, _)| *other <= bound);
        self.smallest.insert(at, (bound, group));
        self.smallest.truncate(self.k);
    }

    fn merge(&mut self, other: &Self) {
        for (bound, group) in &other.smallest {
            if *bound < self.value() {
                self.add(*bound, *group);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reid_core::Identity;

    use super::*;
    use crate::Embeddings;

    fn embeddings(dimensions: usize, values: Vec<f32>) -> Embeddings {
        let identities = vec![Identity::new(1); values.len() / dimensions];
        Embeddings::new(values, dimensions, identities).expect("whole rows")
    }

    proptest! {
        /// The bounds hold for every pair, whatever the lengths of the vectors.
        #[test]
        fn every_distance_is_within_its_bounds(
            values in prop::collection::vec(prop_oneof![-1.0_f32..1.0, -1e-3_f32..1e-3, -1e9_f32..1e9], 8 * 6),
            scale in prop_oneof![Just(1.0_f32), Just(1e-15), Just(1e15), Just(0.0)],
            dimensions in prop_oneof![Just(1_usize), Just(2), Just(6)],
        ) {
            let mut values = values;
            for value in &mut values[..6] {
                *value *= scale;
            }
            let all = embeddings(dimensions, values);
            for metric in [Metric::Cosine, Metric::Euclidean] {
                let side = Side::new(&all, metric);
                let screen = Screen::new(&side);
                let mut exact = vec![0.0; side.len() * side.len()];
                side.squared_to(&side, [0..side.len(), 0..side.len()], &mut exact);
                for (query, exact) in exact.chunks_exact(side.len()).enumerate() {
                    let mut products = vec![0.0; side.len()];
                    code_products(side.vector(query), &screen.codes, &mut products);
                    for (image, exact) in exact.iter().enumerate() {
                        let from = Query::new(&side, query);
                        let [low, high] = from.bounds(products[image], screen.vectors[image]);
                        let known = low.is_finite() && high.is_finite() && exact.is_finite();
                        prop_assert!(
                            !known || (low <= *exact && *exact <= high),
                            "{metric:?} {query} {image}: {low} {exact} {high}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn the_limit_is_the_kth_smallest_bound_of_different_groups() {
        let mut limit = Limit::new(2);
        for (bound, group) in [(5.0, 1), (3.0, 1), (4.0, 1)] {
            limit.add(bound, group);
        }
        assert!(limit.value().is_infinite());
        let mut other = Limit::new(2);
        other.add(9.0, 3);
        other.add(7.0, 2);
        limit.merge(&other);
        assert_eq!(limit.smallest, [(3.0, 1), (7.0, 2)]);
    }
}
