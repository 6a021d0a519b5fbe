//! Distance: blocks of queries against the whole gallery, by matrix products.

use std::borrow::Cow;

use ndarray::{ArrayView2, ArrayViewMut2, linalg::general_mat_mul};
use rayon::prelude::*;

use crate::{Embeddings, Error, Metric};

/// Most queries in a block: enough to keep a matrix product busy.
const BLOCK_QUERIES: usize = 64;
/// Most distances in a block unless one query has more: 32 MiB per thread.
const BLOCK_DISTANCES: usize = 1 << 23;

/// Distances between all queries and the gallery, computed a block of queries at a time.
///
/// The blocks depend on the sizes alone, not on threads, and so do all roundings.
#[derive(Debug)]
pub(crate) struct Distances<'a> {
    metric: Metric,
    dimensions: usize,
    query: Side<'a>,
    gallery: Side<'a>,
}

/// The vectors of one side, at length 1 where only their direction counts.
#[derive(Debug)]
struct Side<'a> {
    values: Cow<'a, [f32]>,
    squared_lengths: Vec<f64>,
}

/// The distances of some queries that follow each other to the whole gallery.
#[derive(Debug)]
pub(crate) struct Block {
    first: usize,
    gallery: usize,
    values: Vec<f32>,
}

impl<'a> Distances<'a> {
    /// Neither side may be empty.
    pub(crate) fn between(
        query: &'a Embeddings,
        gallery: &'a Embeddings,
        metric: Metric,
    ) -> Result<Self, Error> {
        if query.dimensions() != gallery.dimensions() {
            return Err(Error::Dimensions {
                query: query.dimensions(),
                gallery: gallery.dimensions(),
            });
        }
        Ok(Self {
            metric,
            dimensions: query.dimensions(),
            query: Side::new(query, metric),
            gallery: Side::new(gallery, metric),
        })
    }

    /// Number of blocks.
    pub(crate) fn blocks(&self) -> usize {
        self.query.len().div_ceil(self.block_queries())
    }

    /// The block that holds a query.
    pub(crate) fn block_of(&self, query: usize) -> usize {
        query / self.block_queries()
    }

    /// Computes one block.
    pub(crate) fn block(&self, block: usize) -> Result<Block, Error> {
        let first = block * self.block_queries();
        let queries = self.block_queries().min(self.query.len() - first);
        let gallery = self.gallery.len();
        let mut values = vec![0.0; queries * gallery];
        general_mat_mul(
            1.0,
            &matrix(
                &self.query.values[first * self.dimensions..],
                queries,
                self.dimensions,
            ),
            &matrix(&self.gallery.values, gallery, self.dimensions).t(),
            0.0,
            &mut ArrayViewMut2::from_shape((queries, gallery), &mut values)
                .expect("as many values as the block has places"),
        );
        for (row, products) in values.chunks_exact_mut(gallery).enumerate() {
            let query = first + row;
            self.distances_in_place(query, products);
            expect_finite(query, products)?;
        }
        Ok(Block {
            first,
            gallery,
            values,
        })
    }

    /// Turns the products of one query with the gallery into distances. A product that is not
    /// finite becomes a distance that is not.
    fn distances_in_place(&self, query: usize, products: &mut [f32]) {
        match self.metric {
            Metric::Cosine => {
                for product in products {
                    *product = (1.0 - *product).clamp(0.0, 2.0);
                }
            }
            Metric::Euclidean => {
                let of_query = self.query.squared_lengths[query];
                for (product, of_gallery) in products.iter_mut().zip(&self.gallery.squared_lengths)
                {
                    *product = euclidean(of_query, *of_gallery, *product);
                }
            }
        }
    }

    fn block_queries(&self) -> usize {
        (BLOCK_DISTANCES / self.gallery.len()).clamp(1, BLOCK_QUERIES)
    }
}

impl<'a> Side<'a> {
    fn new(embeddings: &'a Embeddings, metric: Metric) -> Self {
        let (values, dimensions) = (embeddings.values(), embeddings.dimensions());
        let squared_lengths: Vec<f64> = values
            .par_chunks_exact(dimensions)
            .map(|row| row.iter().map(|&value| f64::from(value).powi(2)).sum())
            .collect();
        let values = match metric {
            Metric::Euclidean => Cow::Borrowed(values),
            Metric::Cosine => {
                let mut unit = values.to_vec();
                unit.par_chunks_exact_mut(dimensions)
                    .zip(&squared_lengths)
                    .for_each(|(row, squared_length)| shorten(row, squared_length.sqrt()));
                Cow::Owned(unit)
            }
        };
        Self {
            values,
            squared_lengths,
        }
    }

    fn len(&self) -> usize {
        self.squared_lengths.len()
    }
}

impl Block {
    /// Each query of the block with its distances to the gallery.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (usize, &[f32])> {
        (self.first..).zip(self.values.chunks_exact(self.gallery))
    }

    /// The distances of one query of the block.
    pub(crate) fn row(&self, query: usize) -> &[f32] {
        &self.values[(query - self.first) * self.gallery..][..self.gallery]
    }
}

/// Refuses distances that cannot be ranked.
pub(crate) fn expect_finite(query: usize, distances: &[f32]) -> Result<(), Error> {
    match distances.iter().position(|distance| !distance.is_finite()) {
        None => Ok(()),
        Some(gallery) => Err(Error::Distance { query, gallery }),
    }
}

fn matrix(values: &[f32], rows: usize, columns: usize) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((rows, columns), &values[..rows * columns])
        .expect("as many values as the matrix has places")
}

#[expect(clippy::cast_possible_truncation, reason = "infinite where too large")]
fn euclidean(of_query: f64, of_gallery: f64, product: f32) -> f32 {
    if product.is_finite() {
        // In `f64`, so that subtracting nearly equal numbers loses nothing more.
        (of_query + of_gallery - 2.0 * f64::from(product))
            .max(0.0)
            .sqrt() as f32
    } else {
        f32::NAN
    }
}

/// Brings a vector to length 1; zeros stay zeros.
#[expect(clippy::cast_possible_truncation, reason = "at most 1")]
fn shorten(row: &mut [f32], length: f64) {
    if length > 0.0 {
        for value in row {
            *value = (f64::from(*value) / length) as f32;
        }
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
        Ok(distances.block(0)?.values)
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
    fn a_distance_does_not_depend_on_its_place() {
        // One vector many times on either side, among vectors that fill the dimensions with
        // numbers that round: all of its distances are the same to the last bit.
        let (dimensions, rows) = (515, 131);
        let vector = |row: usize| (0..dimensions).map(move |at| ((at * row) as f32 + 0.3).sin());
        let values: Vec<f32> = (0..rows).flat_map(|row| vector(row % 5)).collect();
        let both = embeddings(dimensions, &values);
        for metric in [Metric::Euclidean, Metric::Cosine] {
            let distances = Distances::between(&both, &both, metric).expect("one space");
            assert_eq!(distances.blocks(), 3); // 64 + 64 + 3
            let blocks: Vec<Block> = (0..3)
                .map(|block| distances.block(block).expect("finite"))
                .collect();
            let first = blocks[0].row(0);
            for (query, row) in blocks.iter().flat_map(Block::rows) {
                assert_eq!(distances.block_of(query), query / 64);
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
