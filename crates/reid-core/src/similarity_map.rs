//! Similarity map: how much each pair of positions of two images contributes to their similarity.

use crate::{HeatMap, HeatMapError};

/// The contribution of each pair of positions of two images to their cosine similarity.
///
/// The contributions of all pairs add up to the similarity. The sum over the positions of one image is a
/// [`HeatMap`] of the other. `reid-nn` computes similarity maps, and `reid-vis` draws them.
///
/// The pairs take 4 bytes each: 64 KiB for two feature maps of 16 x 8.
///
/// ```
/// use reid_core::SimilarityMap;
///
/// // Two positions in the first image, two in the second; rows are those of the first.
/// let map = SimilarityMap::new((2, 1), (1, 2), vec![0.5, 0.25, -0.25, 0.0])?;
/// assert_eq!(map.similarity(), 0.5);
/// assert_eq!(map.first().values(), [0.75, -0.25]);
/// assert_eq!(map.second().values(), [0.25, 0.25]);
/// let strongest = map.strongest_links(1)[0];
/// assert_eq!((strongest.first, strongest.second), ((0, 0), (0, 0)));
/// # Ok::<(), reid_core::HeatMapError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct SimilarityMap {
    similarity: f32,
    first: HeatMap,
    second: HeatMap,
    /// One row per position of the first image, one column per position of the second.
    pairs: HeatMap,
}

/// A pair of positions of two images, and its contribution to their similarity.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Link {
    /// The row and the column in the first image, from 0.
    pub first: (usize, usize),
    /// The row and the column in the second image, from 0.
    pub second: (usize, usize),
    /// The contribution to the similarity; negative if the pair lowers it.
    pub contribution: f32,
}

impl SimilarityMap {
    /// Creates a similarity map from the rows and columns of both images, and the contribution of each pair,
    /// `[positions of the first image, positions of the second]` in row-major order.
    ///
    /// # Errors
    /// [`HeatMapError::Size`] if the number of pairs is 0 or not the product of the numbers of positions;
    /// it counts the positions of the first image as rows and those of the second as columns.
    /// [`HeatMapError::NotFinite`] if a contribution or a sum of contributions is infinite or NaN.
    pub fn new(
        first: (usize, usize),
        second: (usize, usize),
        pairs: Vec<f32>,
    ) -> Result<Self, HeatMapError> {
        let positions = [first, second].map(|(rows, columns)| rows.saturating_mul(columns));
        let pairs = HeatMap::new(positions[0], positions[1], pairs)?;
        let mut sums = [vec![0.0; positions[0]], vec![0.0; positions[1]]];
        for (at, row) in pairs.values().chunks(positions[1]).enumerate() {
            for (index, &pair) in row.iter().enumerate() {
                sums[0][at] += f64::from(pair);
                sums[1][index] += f64::from(pair);
            }
        }
        let similarity = single(sums[0].iter().sum());
        let [of_first, of_second] = sums.map(|sums| sums.into_iter().map(single).collect());
        Ok(Self {
            similarity,
            first: HeatMap::new(first.0, first.1, of_first)?,
            second: HeatMap::new(second.0, second.1, of_second)?,
            pairs,
        })
    }

    /// The cosine similarity of the two images: the sum over all pairs.
    #[must_use]
    pub fn similarity(&self) -> f32 {
        self.similarity
    }

    /// The contribution of each position of the first image. The values add up to the similarity.
    #[must_use]
    pub fn first(&self) -> &HeatMap {
        &self.first
    }

    /// The contribution of each position of the second image. The values add up to the similarity.
    #[must_use]
    pub fn second(&self) -> &HeatMap {
        &self.second
    }

    /// The contribution of each pair, `[positions of the first image, positions of the second]` in row-major
    /// order.
    #[must_use]
    pub fn pairs(&self) -> &[f32] {
        self.pairs.values()
    }

    /// Finds the pairs that contribute most to the similarity, in descending order. A position is in at most
    /// one of them, so that several parts of the images appear. Equal contributions are in order of position.
    ///
    /// There are fewer than `count` links if an image has fewer positions, and pairs that do not raise
    /// the similarity are no links.
    #[must_use]
    pub fn strongest_links(&self, count: usize) -> Vec<Link> {
        let (pairs, positions) = (self.pairs(), [self.pairs.height(), self.pairs.width()]);
        let contributes = |&at: &usize| pairs[at] > 0.0;
        let mut order: Vec<usize> = (0..pairs.len()).filter(contributes).collect();
        order.sort_by(|&one, &other| pairs[other].total_cmp(&pairs[one]));
        let mut linked = positions.map(|count| vec![false; count]);
        let mut links = Vec::new();
        for at in order {
            if links.len() == count {
                break;
            }
            let (first, second) = (at / positions[1], at % positions[1]);
            if linked[0][first] || linked[1][second] {
                continue;
            }
            (linked[0][first], linked[1][second]) = (true, true);
            links.push(Link {
                first: row_and_column(&self.first, first),
                second: row_and_column(&self.second, second),
                contribution: pairs[at],
            });
        }
        links
    }
}

/// The row and the column of the position with this index.
fn row_and_column(heat: &HeatMap, index: usize) -> (usize, usize) {
    (index / heat.width(), index % heat.width())
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a sum beyond single precision becomes infinite and is rejected"
)]
fn single(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two positions side by side, and two rows of one position.
    fn map() -> SimilarityMap {
        let pairs = vec![0.4, 0.3, 0.2, -0.5];
        SimilarityMap::new((1, 2), (2, 1), pairs).expect("four pairs")
    }

    #[test]
    fn sums_match_hand_computed_ones() {
        let map = map();
        // 0.4 + 0.3 and 0.2 - 0.5; 0.4 + 0.2 and 0.3 - 0.5.
        assert_eq!((map.first().height(), map.first().width()), (1, 2));
        assert_eq!((map.second().height(), map.second().width()), (2, 1));
        let close = |found: &[f32], expected: [f32; 2]| {
            let mut pairs = found.iter().zip(expected);
            assert!(
                pairs.all(|(found, expected)| (found - expected).abs() < 1e-6),
                "{found:?}"
            );
        };
        close(map.first().values(), [0.7, -0.3]);
        close(map.second().values(), [0.6, -0.2]);
        assert!((map.similarity() - 0.4).abs() < 1e-6);
        assert_eq!(map.pairs(), [0.4, 0.3, 0.2, -0.5]);
    }

    #[test]
    fn links_share_no_position_and_raise_the_similarity() {
        // 0.4 uses position 0 of both images. Of the rest, only -0.5 shares no position with it.
        let links = map().strongest_links(5);
        assert_eq!(links.len(), 1);
        assert_eq!((links[0].first, links[0].second), ((0, 0), (0, 0)));
        assert!((links[0].contribution - 0.4).abs() < 1e-6);
        let square = SimilarityMap::new((1, 2), (1, 2), vec![0.1, 0.4, 0.3, 0.9]).expect("pairs");
        let ends = |links: Vec<Link>| -> Vec<_> {
            let links = links.into_iter();
            links.map(|link| (link.first, link.second)).collect()
        };
        let expected = [((0, 1), (0, 1)), ((0, 0), (0, 0))];
        assert_eq!(ends(square.strongest_links(2)), expected);
        assert_eq!(ends(square.strongest_links(1)), expected[..1]);
        assert!(square.strongest_links(0).is_empty());
    }

    #[test]
    fn errors_name_the_wrong_count_or_value() {
        let size = SimilarityMap::new((1, 2), (2, 1), vec![0.0; 3]).expect_err("three pairs");
        assert_eq!(
            size.to_string(),
            "a heat map of 2x2 needs 4 values, found 3"
        );
        let none = SimilarityMap::new((usize::MAX, 2), (0, 1), Vec::new());
        assert!(matches!(none, Err(HeatMapError::Size { .. })));
        let nan = SimilarityMap::new((1, 1), (1, 2), vec![0.0, f32::NAN]).expect_err("NaN");
        assert!(nan.to_string().contains("row 0, column 1 is NaN"), "{nan}");
        let sum = SimilarityMap::new((1, 1), (1, 2), vec![f32::MAX; 2]).expect_err("infinite");
        assert!(matches!(sum, HeatMapError::NotFinite { .. }), "{sum}");
    }
}
