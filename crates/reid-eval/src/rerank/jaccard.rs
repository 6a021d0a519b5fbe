//! Jaccard distances between all images of one set, from their k-reciprocal neighbours (Zhong et al., CVPR
//! 2017, arXiv:1701.08398, section 3.3).

use super::{
    HalfK1Rounding,
    encoding::{Encodings, Inverted},
    neighbours::Neighbours,
    source::Squared,
};
use crate::{
    ClusteringConfig, Embeddings, Error, Metric,
    distance::{Distances, Side},
};

/// The Jaccard distances between the images of one set, such as those that are clustered.
///
/// ```text
/// V(i,j) = exp(-‖xᵢ - xⱼ‖²) / Σ    for j ∈ R*(i), 0 elsewhere;  then the mean over N(i, k₂)
/// J(i,j) = 1 - S / (2 - S),    S = Σₗ min(V(i,l), V(j,l))
/// ```
///
/// `x` are the embeddings, normalised to length 1. `R*` and `N` are those of [`Reranked`](crate::Reranked),
/// with the lists of [`HalfK1Rounding::FastReid`]. The weights differ from those of re-ranking, which
/// divides each distance by the largest one of the image. All this is as in the published code of cluster
/// contrast.
///
/// Neither distances nor `V` are held as a matrix. Memory is linear in the number of images: about `k₁·k₂`
/// entries of `V` for each.
///
/// ```
/// use reid_eval::{ClusteringConfig, Embeddings, JaccardDistances, Labels};
///
/// let values = vec![1.0, 0.0, 0.99, 0.1, 0.0, 1.0, 0.1, 0.99];
/// let embeddings = Embeddings::from_parts(values, 2, Labels::unknown(4))?;
/// let config = ClusteringConfig::default().with_neighbours(2, 1);
/// let distances = JaccardDistances::new(&embeddings, &config)?;
/// let near: Vec<usize> = distances.within(0, 0.5).into_iter().map(|(image, _)| image).collect();
/// assert_eq!(near, [0, 1]);
/// # Ok::<(), reid_eval::Error>(())
/// ```
#[derive(Debug)]
pub struct JaccardDistances {
    encodings: Encodings,
    /// For each image, the images with a weight on it.
    inverse: Inverted,
}

impl JaccardDistances {
    /// Finds the neighbours of all images and computes their encodings, by `k1` and `k2` of the
    /// configuration.
    ///
    /// This computes the cosine distances of all pairs of images, in tiles and on all threads.
    ///
    /// # Errors
    /// [`Error::Clustering`] if a setting is out of range.
    pub fn new(embeddings: &Embeddings, config: &ClusteringConfig) -> Result<Self, Error> {
        config.check()?;
        let images = Side::new(embeddings, Metric::Cosine);
        let source = Squared(Distances {
            query: images.without_vectors(),
            gallery: images,
        });
        let count = embeddings.len();
        // Larger values of k1 already include all images; the limit avoids an overflow.
        let (whole, half) = HalfK1Rounding::FastReid.lengths(config.k1.min(2 * count));
        let neighbours = Neighbours::find(&source, whole.max(config.k2), 0)?;
        // ‖a - b‖² = 2·(1 - cos(a, b)) at length 1.
        let encodings = Encodings::of(&source, &neighbours, (whole, half), 0, |_| 2.0)?;
        let encodings = encodings.averaged(&neighbours, config.k2);
        Ok(Self {
            inverse: Inverted::of(&encodings, 0..count),
            encodings,
        })
    }

    /// The number of images.
    #[must_use]
    pub fn len(&self) -> usize {
        self.encodings.len()
    }

    /// Whether there are no images.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lists the images whose Jaccard distance to an image is at most `limit`, by ascending index, with
    /// their distances. The image itself is one of them, at distance 0. Distances are bit-identical in both
    /// directions.
    ///
    /// Images that share no neighbour have distance 1. They are not listed, whatever the limit.
    ///
    /// # Panics
    /// If the index of the image is out of range.
    #[must_use]
    pub fn within(&self, image: usize, limit: f64) -> Vec<(usize, f64)> {
        let mut near = Vec::new();
        let add = |other, distance| near.push((other, distance));
        self.each_within(image, limit, &mut self.overlaps(), add);
        near
    }

    /// Memory for [`each_within`](Self::each_within), which can be used again for other images.
    pub(crate) fn overlaps(&self) -> Overlaps {
        Overlaps {
            sums: vec![0.0; self.len()],
            touched: Vec::new(),
        }
    }

    /// Calls `add` with each image that [`within`](Self::within) lists, and its distance.
    pub(crate) fn each_within(
        &self,
        image: usize,
        limit: f64,
        overlaps: &mut Overlaps,
        mut add: impl FnMut(usize, f64),
    ) {
        let images = self.len();
        assert!(
            image < images,
            "image {image} is out of range for {images} images (indices start at 0)"
        );
        let Overlaps { sums, touched } = overlaps;
        self.inverse
            .overlap_sparse(self.encodings.row(image), sums, touched);
        touched.sort_unstable();
        touched.dedup(); // an image is added again while its sum is 0
        for other in touched.drain(..) {
            let other = other as usize;
            let overlap = std::mem::take(&mut sums[other]);
            // The weights of an image sum to 1 only up to rounding.
            let distance = if other == image {
                0.0
            } else {
                distance(overlap)
            };
            if distance <= limit {
                add(other, distance);
            }
        }
    }
}

/// The overlaps of one image with all others.
pub(crate) struct Overlaps {
    sums: Vec<f32>,
    /// The images whose sum is not 0.
    touched: Vec<u32>,
}

/// The Jaccard distance of two encodings, from their overlap S.
pub(super) fn distance(overlap: f32) -> f64 {
    let overlap = f64::from(overlap);
    // Rounding can make the overlap of equal encodings exceed 1.
    (1.0 - overlap / (2.0 - overlap)).max(0.0)
}
