//! Re-ranking with k-reciprocal encoding (Zhong et al., CVPR 2017, arXiv:1701.08398), without the matrix of
//! all pairwise distances.

use std::ops::Range;

use rayon::prelude::*;
use reid_core::Split;
use serde::{Deserialize, Serialize};

mod columns;
mod completion;
mod encoding;
mod jaccard;
mod neighbours;
mod source;

use crate::{
    DistanceColumns, DistanceRows, Embeddings, Error, EvaluationConfig, Labels, Metric, Report,
    distance::Distances, distance_rows::block_queries, evaluate_rows,
};
use encoding::{Encodings, Inverted};
pub use jaccard::JaccardDistances;
pub(crate) use jaccard::Overlaps;
use neighbours::Neighbours;
#[cfg(not(feature = "files"))]
use source::ImageSource;
use source::Squared;
#[cfg(feature = "files")]
pub(crate) use source::{Block, ImageSource};

/// The hyper-parameters of k-reciprocal re-ranking.
///
/// ```
/// use reid_eval::RerankConfig;
///
/// let config = RerankConfig::default(); // 20, 6 and 0.3, the paper's values for Market-1501
/// assert_eq!((config.k1, config.k2, config.lambda), (20, 6, 0.3));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RerankConfig {
    /// k₁, the number of nearest neighbours that can be reciprocal; at least 1, by default 20.
    pub k1: usize,
    /// k₂, the number of nearest neighbours (the image included) whose encodings are averaged; at least 1,
    /// by default 6. With 1 there is no averaging.
    pub k2: usize,
    /// λ, the weight of the original distance, from 0 to 1; by default 0.3.
    pub lambda: f64,
    /// The rounding of half of k₁; by default that of the authors' Python code.
    #[serde(alias = "half_set")]
    pub half_k1: HalfK1Rounding,
    /// The metric of the original distances; by default cosine.
    pub metric: Metric,
}

impl Default for RerankConfig {
    fn default() -> Self {
        Self {
            k1: 20,
            k2: 6,
            lambda: 0.3,
            half_k1: HalfK1Rounding::Python,
            metric: Metric::Cosine,
        }
    }
}

/// The rounding of h in [`Reranked`], the length of the neighbour lists of `R½`: about half of k₁.
///
/// Three published implementations differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HalfK1Rounding {
    /// `h = round(k₁/2) + 1` with halves rounded to even: the authors' Python code.
    #[default]
    Python,
    /// `h = round((k₁ + 1)/2)` with halves rounded up: the authors' MATLAB code.
    Matlab,
    /// `h` as in `Python`, but `R(i)` uses lists of `k₁` images instead of `k₁ + 1`: the lists of
    /// `FastReID`'s `compute_jaccard_distance`. Weights and normalisation stay those of the authors.
    ///
    /// Use `Python` for the results of `FastReID`'s re-ranking of a gallery.
    FastReid,
}

impl HalfK1Rounding {
    /// The lengths of a whole list and of a half list, both with the image itself.
    fn lengths(self, k1: usize) -> (usize, usize) {
        let to_even = k1 / 2 + usize::from(k1 % 4 == 3);
        match self {
            Self::Python => (k1 + 1, to_even + 1),
            Self::Matlab => (k1 + 1, (k1 + 1).div_ceil(2)),
            Self::FastReid => (k1, to_even + 1),
        }
    }
}

impl RerankConfig {
    /// Sets k₁, k₂ and λ.
    #[must_use]
    pub fn with_parameters(self, k1: usize, k2: usize, lambda: f64) -> Self {
        Self {
            k1,
            k2,
            lambda,
            ..self
        }
    }

    /// Sets the metric of the original distances.
    #[must_use]
    pub fn with_metric(self, metric: Metric) -> Self {
        Self { metric, ..self }
    }

    /// Sets how half of k₁ is rounded.
    #[must_use]
    pub fn with_half_k1(self, half_k1: HalfK1Rounding) -> Self {
        Self { half_k1, ..self }
    }

    /// Checks the settings, and that there are queries and gallery images.
    pub(crate) fn check(&self, queries: usize, gallery: usize) -> Result<(), Error> {
        self.check_ranges()?;
        for (images, split) in [(queries, Split::Query), (gallery, Split::Gallery)] {
            if images == 0 {
                return Err(Error::Empty { split });
            }
        }
        Ok(())
    }

    fn check_ranges(&self) -> Result<(), Error> {
        for (setting, value) in [("k1 of re-ranking", self.k1), ("k2 of re-ranking", self.k2)] {
            if value == 0 {
                return Err(Error::Setting { setting });
            }
        }
        if !(0.0..=1.0).contains(&self.lambda) {
            return Err(Error::Share {
                setting: "lambda of re-ranking",
                found: self.lambda,
            });
        }
        Ok(())
    }
}

/// Re-ranked distances between queries and gallery, computed from their k-reciprocal neighbours.
///
/// `dᵢⱼ` is the squared Euclidean (or the cosine) distance from image `i` to image `j`, divided by the
/// largest distance from `i` to any query or gallery image:
///
/// ```text
/// R(i)   = { j ∈ N(i, k₁+1) : i ∈ N(j, k₁+1) }                      reciprocal neighbours
/// R½(c)  = { j ∈ N(c, h) : c ∈ N(j, h) }                            h by HalfK1Rounding
/// R*(i)  = R(i) ∪ all R½(c), c ∈ R(i), with |R½(c) ∩ R(i)| > ⅔ |R½(c)|
/// V(i,j) = exp(-dᵢⱼ) / Σ    for j ∈ R*(i), 0 elsewhere;  then the mean over N(i, k₂)
/// J(q,g) = 1 - S / (2 - S),    S = Σⱼ min(V(q,j), V(g,j))
/// d*     = (1 - λ) J + λ d
/// ```
///
/// `N(i, k)` are the `k` nearest images of `i`, with `i` itself first. All images are queries and gallery
/// images together.
///
/// Neither `d` nor `V` is held as a matrix. Beside the embeddings, memory holds the non-zero entries of `V`
/// for the queries and an inverted index of those for the gallery: about `k₁·k₂` entries per image. Rows
/// of distances are computed on demand, so [`evaluate_rows`](crate::evaluate_rows) needs no matrix either.
///
/// With the Cargo feature `files`, `Shards::reranked` re-ranks a gallery that stays on disk. Its results are
/// bit-identical to those in memory.
///
/// ```
/// use reid_core::Identity;
/// use reid_eval::{Embeddings, EvaluationConfig, Protocol, RerankConfig, Reranked};
///
/// let ids = |labels: &[i64]| labels.iter().copied().map(Identity::new).collect();
/// let query = Embeddings::new(vec![1.0, 0.0], 2, ids(&[1]))?;
/// let gallery = Embeddings::new(vec![0.9, 0.3, 0.8, 0.5, 0.0, 1.0], 2, ids(&[1, 1, 2]))?;
///
/// let config = RerankConfig::default().with_parameters(2, 1, 0.3);
/// let reranked = Reranked::new(&query, &gallery, &config)?;
/// let protocol = EvaluationConfig::default().with_protocol(Protocol::NoCameras);
/// let report = reranked.evaluate(query.labels(), gallery.labels(), &protocol)?;
/// assert_eq!(report.mean_average_precision, 1.0);
/// # Ok::<(), reid_eval::Error>(())
/// ```
#[derive(Debug)]
pub struct Reranked<'a> {
    /// The original distances, squared if they are Euclidean.
    source: Box<dyn ImageSource + 'a>,
    config: RerankConfig,
    /// The largest original distance of each query.
    largest: Vec<f32>,
    /// The encodings of the queries.
    encodings: Encodings,
    /// For each image, the gallery images with a non-zero weight on it.
    inverse: Inverted,
}

impl<'a> Reranked<'a> {
    /// Finds the neighbours of all images and computes their encodings.
    ///
    /// This computes the distances of all pairs of images, queries and gallery together, in tiles and on all
    /// threads.
    ///
    /// # Errors
    /// If the query or the gallery is empty, if their dimensions differ, if a hyper-parameter is out of
    /// range, or if a distance (for the Euclidean metric, a squared distance) does not fit an `f32`.
    pub fn new(
        query: &'a Embeddings,
        gallery: &'a Embeddings,
        config: &RerankConfig,
    ) -> Result<Self, Error> {
        config.check(query.len(), gallery.len())?;
        let distances = Distances::between(query, gallery, config.metric)?;
        Self::from_source(Box::new(Squared(distances)), config, 0)
    }

    /// Re-ranks images of which at most `held` bytes are read into memory together, or one block.
    pub(crate) fn from_source(
        source: Box<dyn ImageSource + 'a>,
        config: &RerankConfig,
        held: usize,
    ) -> Result<Self, Error> {
        let (queries, gallery) = (source.queries(), source.gallery());
        let images = queries + gallery;
        // Larger values of k1 already include all images; the limit avoids an overflow.
        let (whole, half) = config.half_k1.lengths(config.k1.min(2 * images));
        let neighbours = Neighbours::find(&*source, whole.max(config.k2), held)?;
        let scale = |image| match neighbours.largest(image) {
            0.0 => 0.0,
            largest => f64::from(largest).recip(),
        };
        let encodings = Encodings::of(&*source, &neighbours, (whole, half), held, scale)?;
        let averaged = encodings.averaged(&neighbours, config.k2);
        // Frees the lists before the weights are copied into the inverted index.
        let largest = neighbours.into_largest(queries);
        Ok(Self {
            config: config.clone(),
            inverse: Inverted::of(&averaged, queries..images),
            encodings: averaged.truncated(queries),
            largest,
            source,
        })
    }

    /// Computes CMC, mAP and mINP of the re-ranked gallery, as [`evaluate`](crate::evaluate) does.
    ///
    /// The report records the hyper-parameters of re-ranking ([`Report::rerank`]) and their metric in place
    /// of [`EvaluationConfig::metric`].
    ///
    /// # Errors
    /// The errors of [`evaluate_rows`], and [`Error::Source`] if a file of the gallery cannot be read.
    pub fn evaluate(
        &self,
        query: &Labels,
        gallery: &Labels,
        config: &EvaluationConfig,
    ) -> Result<Report, Error> {
        let config = config.clone().with_metric(self.config.metric);
        let report = evaluate_rows(self, query, gallery, &config)?;
        Ok(Report {
            rerank: Some(self.config.clone()),
            ..report
        })
    }

    /// Computes all re-ranked distances, `[queries, gallery images]` in rows. A gallery on disk is read once for
    /// every 128 queries, or fewer if it has more than 131,072 images.
    ///
    /// # Errors
    /// [`Error::Source`] if a file of the gallery cannot be read. Distances that are not finite have been rejected
    /// before.
    pub fn matrix(&self) -> Result<Vec<f32>, Error> {
        let (queries, gallery) = (self.queries(), self.gallery());
        let mut matrix = vec![0.0; queries * gallery];
        let step = block_queries(gallery);
        matrix
            .par_chunks_mut(step * gallery)
            .enumerate()
            .try_for_each(|(block, rows)| {
                let first = block * step;
                self.fill(first..first + rows.len() / gallery, rows)
            })?;
        Ok(matrix)
    }
}

impl Reranked<'_> {
    /// Replaces original distances from a query by re-ranked ones: `overlaps` are S of the same images. With a λ of 0
    /// the original distances are not used.
    #[expect(clippy::cast_possible_truncation, reason = "distances are at most 1")]
    fn combine(&self, query: usize, overlaps: &[f32], distances: &mut [f32]) {
        let lambda = self.config.lambda;
        let scale = match self.largest[query] {
            0.0 => 0.0,
            largest => lambda / f64::from(largest),
        };
        for (distance, overlap) in distances.iter_mut().zip(overlaps) {
            let jaccard = jaccard::distance(*overlap);
            let original = if lambda > 0.0 {
                scale * f64::from(*distance)
            } else {
                0.0
            };
            *distance = ((1.0 - lambda) * jaccard + original) as f32;
        }
    }
}

impl DistanceRows for Reranked<'_> {
    fn queries(&self) -> usize {
        self.source.queries()
    }

    fn gallery(&self) -> usize {
        self.source.gallery()
    }

    fn fill(&self, queries: Range<usize>, rows: &mut [f32]) -> Result<(), Error> {
        let gallery = self.gallery();
        if self.config.lambda > 0.0 {
            self.source.fill(queries.clone(), rows)?;
        }
        let mut overlaps = vec![0.0; gallery];
        for (query, row) in queries.zip(rows.chunks_exact_mut(gallery)) {
            overlaps.fill(0.0);
            let encoding = self.encodings.row(query);
            self.inverse.overlap(encoding, 0, &mut overlaps);
            self.combine(query, &overlaps, row);
        }
        Ok(())
    }

    fn columns(&self) -> Option<&dyn DistanceColumns> {
        self.original_columns()
            .map(|_| -> &dyn DistanceColumns { self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares with the authors' two programs: Python's `around(k1 / 2) + 1` and MATLAB's
    /// `round((k1 + 1) / 2)`.
    #[test]
    fn half_of_k1_is_rounded_as_published() {
        for (k1, python, matlab) in [(20, 11, 11), (25, 13, 13), (75, 39, 38), (15, 9, 8)] {
            assert_eq!(HalfK1Rounding::Python.lengths(k1), (k1 + 1, python));
            assert_eq!(HalfK1Rounding::Matlab.lengths(k1), (k1 + 1, matlab));
            assert_eq!(HalfK1Rounding::FastReid.lengths(k1), (k1, python));
        }
    }

    #[test]
    fn invalid_parameters_are_rejected() {
        let refused = |k1, k2, lambda| {
            let config = RerankConfig::default().with_parameters(k1, k2, lambda);
            config.check_ranges().expect_err("invalid").to_string()
        };
        assert_eq!(
            refused(0, 6, 0.3),
            "k1 of re-ranking is 0, expected at least 1"
        );
        assert_eq!(
            refused(20, 0, 0.3),
            "k2 of re-ranking is 0, expected at least 1"
        );
        let lambda = "lambda of re-ranking is 1.5, expected a fraction from 0 to 1";
        assert_eq!(refused(20, 6, 1.5), lambda);
        assert!(refused(20, 6, f64::NAN).contains("NaN"));
    }
}
