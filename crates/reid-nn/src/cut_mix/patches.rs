//! Block ranking: the patches of a map with the highest scores (Zhang et al., progressive feature CutMix,
//! §3.3, eq. 2).

use burn::tensor::{Bool, Tensor};
use reid_core::Problems;
use serde::{Deserialize, Serialize};

/// Patches of one size that tile a map without overlap.
///
/// ```text
/// eᵢ = Σ_{hw in patch i} g_hw                the score of a patch
/// m  = 0 in the k patches of largest e, 1 elsewhere
/// ```
///
/// Patches are numbered row by row. Of patches with the same score the first ranks highest, on every device.
/// Patches whose score is NaN rank lowest.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_nn::cut_mix::Patches;
///
/// let map = Tensor::<3>::from_data([[[0.0, 1.0, 5.0, 0.0], [2.0, 1.0, 0.0, 0.0]]], &Device::default());
/// let patches = Patches { height: 2, width: 2 };
/// // The scores are 4 on the left and 5 on the right.
/// let cut = patches.top_k(map, 1).into_data().try_to_vec::<bool>()?;
/// assert_eq!(cut, [false, false, true, true, false, false, true, true]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patches {
    /// The height of a patch in rows, at least 1.
    pub height: usize,
    /// The width of a patch in columns, at least 1.
    pub width: usize,
}

impl Patches {
    /// Adds a problem if the patches do not tile a map, or if it has fewer than `k` patches.
    pub(crate) fn validate(self, [height, width]: [usize; 2], k: usize, problems: &mut Problems) {
        let Self {
            height: tall,
            width: wide,
        } = self;
        let divides = |side: usize, map: usize| side > 0 && map.is_multiple_of(side);
        if divides(tall, height) && divides(wide, width) {
            let patches = (height / tall) * (width / wide);
            let expected = format_args!(
                "at most {patches}, the number of {tall}x{wide} patches on a map of {height}x{width}"
            );
            problems.require("cut", k <= patches, expected, k);
        } else {
            let expected = format_args!("a size that divides a map of {height}x{width}");
            problems.require("patches", false, expected, format_args!("{tall}x{wide}"));
        }
    }

    /// Returns the number of rows and columns of patches on a map of `[height, width]`.
    ///
    /// # Panics
    /// If the patches do not tile the map.
    #[must_use]
    pub fn grid(self, map: [usize; 2]) -> [usize; 2] {
        Problems::refuse("feature CutMix", |problems| self.validate(map, 0, problems));
        let [height, width] = map;
        [height / self.height, width / self.width]
    }

    /// Computes the score of each patch, which is the sum of its values, row by row.
    ///
    /// # Shapes
    /// - `maps`: `[batch, height, width]`
    /// - result: `[batch, patches]`
    ///
    /// # Panics
    /// If the patches do not tile the maps.
    #[must_use]
    pub fn scores(self, maps: Tensor<3>) -> Tensor<2> {
        let [batch, height, width] = maps.dims();
        let [rows, columns] = self.grid([height, width]);
        maps.reshape([batch, rows, self.height, columns, self.width])
            .sum_dim(4)
            .sum_dim(2)
            .reshape([batch, rows * columns])
    }

    /// Marks the `k` patches with the highest scores: true where the paper's mask `m` is 0.
    ///
    /// # Shapes
    /// - `maps`: `[batch, height, width]`
    /// - result: as `maps`
    ///
    /// # Panics
    /// If the patches do not tile the maps, or there are fewer than `k`.
    #[must_use]
    pub fn top_k(self, maps: Tensor<3>, k: usize) -> Tensor<3, Bool> {
        let [batch, height, width] = maps.dims();
        let map = [height, width];
        Problems::refuse("feature CutMix", |problems| self.validate(map, k, problems));
        let [rows, columns] = self.grid([height, width]);
        let patches = rows * columns;
        let scores = self.scores(maps);
        let unknown = scores.clone().is_nan();
        let scores = scores.mask_fill(unknown, f32::NEG_INFINITY);
        let pairs = [batch, patches, patches];
        let own = scores.clone().reshape([batch, patches, 1]).expand(pairs);
        let other = scores.reshape([batch, 1, patches]).expand(pairs);
        // The rank of a patch is the number of patches with a higher score, or with the same score and a
        // lower index.
        let before = Tensor::<2>::ones([patches, patches], &own.device())
            .tril(-1)
            .bool();
        let before = before.reshape([1, patches, patches]).expand(pairs);
        let tied = own.clone().equal(other.clone()).bool_and(before);
        let ahead = other.greater(own).bool_or(tied);
        let rank = ahead.int().sum_dim(2).reshape([batch, rows, 1, columns, 1]);
        let shape = [batch, rows, self.height, columns, self.width];
        let limit = i64::try_from(k).expect("a number of patches");
        rank.lower_elem(limit)
            .expand(shape)
            .reshape([batch, height, width])
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn map(values: &[f32], width: usize) -> Tensor<3> {
        let height = values.len() / width;
        Tensor::<1>::from_floats(values, &Device::default()).reshape([1, height, width])
    }

    fn cut_patches(patches: Patches, map: Tensor<3>, k: usize) -> Vec<usize> {
        let cut = patches.top_k(map, k).float();
        let sums = patches.scores(cut).into_data();
        let whole = (patches.height * patches.width) as f32;
        let values = sums.try_to_vec::<f32>().expect("f32");
        let each = values.into_iter().enumerate();
        each.filter_map(|(patch, sum)| {
            let share = sum / whole;
            assert!([0.0, 1.0].contains(&share), "part of a patch is cut");
            (share > 0.0).then_some(patch)
        })
        .collect()
    }

    /// g[r][c] = (7r + 3c) mod 11 on 24 x 8, with patches of 3 x 2.
    #[test]
    fn ranking_on_the_papers_grid_matches_the_hand_computed_one() {
        let values = (0..24 * 8).map(|at| ((7 * (at / 8) + 3 * (at % 8)) % 11) as f32);
        let map = map(&values.collect::<Vec<_>>(), 8);
        let patches = Patches {
            height: 3,
            width: 2,
        };
        let sums = patches.scores(map.clone()).into_data();
        let expected: [f32; 32] = [
            29.0, 32.0, 24.0, 38.0, 34.0, 26.0, 29.0, 32.0, 28.0, 31.0, 34.0, 26.0, 22.0, 36.0,
            28.0, 31.0, 38.0, 30.0, 22.0, 36.0, 32.0, 24.0, 38.0, 30.0, 26.0, 29.0, 32.0, 24.0,
            31.0, 34.0, 26.0, 29.0,
        ];
        assert_eq!(sums.try_to_vec::<f32>().expect("f32"), expected);
        // 38 in patches 3, 16 and 22; 36 in 13 and 19; then 34, first in 4.
        assert_eq!(cut_patches(patches, map.clone(), 3), [3, 16, 22]);
        assert_eq!(cut_patches(patches, map, 6), [3, 4, 13, 16, 19, 22]);
    }

    #[test]
    fn k_patches_are_cut_and_ties_rank_row_by_row() {
        let zero = map(&[0.0; 16], 4);
        let patches = Patches {
            height: 2,
            width: 2,
        };
        assert_eq!(cut_patches(patches, zero.clone(), 0), [0_usize; 0]);
        assert_eq!(cut_patches(patches, zero.clone(), 1), [0]);
        assert_eq!(cut_patches(patches, zero.clone(), 3), [0, 1, 2]);
        assert_eq!(cut_patches(patches, zero, 4), [0, 1, 2, 3]);
    }

    #[test]
    fn patches_with_nan_rank_lowest() {
        let patches = Patches {
            height: 1,
            width: 1,
        };
        let map = map(&[f32::NAN, 0.0, 2.0, 1.0], 4);
        assert_eq!(cut_patches(patches, map.clone(), 2), [2, 3]);
        assert_eq!(cut_patches(patches, map, 3), [1, 2, 3]);
    }

    #[test]
    #[should_panic(expected = "patches: expected a size that divides a map of 16x8, found 3x2")]
    fn patches_that_do_not_tile_the_map_panic() {
        let _ = Patches {
            height: 3,
            width: 2,
        }
        .grid([16, 8]);
    }

    #[test]
    #[should_panic(
        expected = "cut: expected at most 4, the number of 2x2 patches on a map of 4x4, found 5"
    )]
    fn cutting_more_patches_than_exist_panics() {
        let _ = Patches {
            height: 2,
            width: 2,
        }
        .top_k(map(&[0.0; 16], 4), 5);
    }
}
