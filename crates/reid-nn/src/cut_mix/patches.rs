//! Block ranking: the patches of a map that stand out most (Zhang et al., progressive feature `CutMix`,
//! §3.3, eq. 2).

use burn::tensor::{Bool, Tensor};
use reid_core::Problems;
use serde::{Deserialize, Serialize};

/// Cells of one size that tile a map without overlap.
///
/// ```text
/// eᵢ = Σ_{hw in cell i} g_hw                 the evidence of a cell
/// m  = 0 in the k cells of largest e, 1 elsewhere
/// ```
///
/// Cells are counted row by row; of cells with the same evidence the first is cut first, on every
/// device. A sum that is not a number is no evidence: such cells are cut last.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_nn::cut_mix::Patches;
///
/// let map = Tensor::<3>::from_data([[[0.0, 1.0, 5.0, 0.0], [2.0, 1.0, 0.0, 0.0]]], &Device::default());
/// let patches = Patches { height: 2, width: 2 };
/// // The evidence is 4 on the left and 5 on the right.
/// let cut = patches.top_k(map, 1).into_data().try_to_vec::<bool>()?;
/// assert_eq!(cut, [false, false, true, true, false, false, true, true]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patches {
    /// Rows of a cell, at least 1.
    pub height: usize,
    /// Columns of a cell, at least 1.
    pub width: usize,
}

impl Patches {
    /// Refuses cells that do not tile a map, and more than there are on it.
    pub(crate) fn validate(self, [height, width]: [usize; 2], k: usize, problems: &mut Problems) {
        let Self {
            height: tall,
            width: wide,
        } = self;
        let divides = |cell: usize, map: usize| cell > 0 && map.is_multiple_of(cell);
        if divides(tall, height) && divides(wide, width) {
            let patches = (height / tall) * (width / wide);
            let expected = format_args!(
                "at most {patches}, the patches of {tall}x{wide} on a map of {height}x{width}"
            );
            problems.require("cut", k <= patches, expected, k);
        } else {
            let expected = format_args!("a size that divides a map of {height}x{width}");
            problems.require("patches", false, expected, format_args!("{tall}x{wide}"));
        }
    }

    /// Rows and columns of cells on a map.
    ///
    /// # Panics
    /// If the cells do not divide the map.
    #[must_use]
    pub fn grid(self, map: [usize; 2]) -> [usize; 2] {
        Problems::refuse("feature CutMix", |problems| self.validate(map, 0, problems));
        let [height, width] = map;
        [height / self.height, width / self.width]
    }

    /// The sum of each cell, row by row.
    ///
    /// # Shapes
    /// - `maps`: `[batch, height, width]`
    /// - result: `[batch, patches]`
    ///
    /// # Panics
    /// If the cells do not divide the maps.
    #[must_use]
    pub fn scores(self, maps: Tensor<3>) -> Tensor<2> {
        let [batch, height, width] = maps.dims();
        let [rows, columns] = self.grid([height, width]);
        maps.reshape([batch, rows, self.height, columns, self.width])
            .sum_dim(4)
            .sum_dim(2)
            .reshape([batch, rows * columns])
    }

    /// The places of the `k` cells with the most evidence: true where the paper's mask `m` is 0.
    ///
    /// # Shapes
    /// - `maps`: `[batch, height, width]`
    /// - result: as `maps`
    ///
    /// # Panics
    /// If the cells do not divide the maps, or there are fewer than `k`.
    #[must_use]
    pub fn top_k(self, maps: Tensor<3>, k: usize) -> Tensor<3, Bool> {
        let [batch, height, width] = maps.dims();
        let map = [height, width];
        Problems::refuse("feature CutMix", |problems| self.validate(map, k, problems));
        let [rows, columns] = self.grid([height, width]);
        let patches = rows * columns;
        let evidence = self.scores(maps);
        let unknown = evidence.clone().is_nan();
        let evidence = evidence.mask_fill(unknown, f32::NEG_INFINITY);
        let pairs = [batch, patches, patches];
        let own = evidence.clone().reshape([batch, patches, 1]).expand(pairs);
        let other = evidence.reshape([batch, 1, patches]).expand(pairs);
        // The rank of a cell: how many others have more, or as much and come before it.
        let before = Tensor::<2>::ones([patches, patches], &own.device())
            .tril(-1)
            .bool();
        let before = before.reshape([1, patches, patches]).expand(pairs);
        let tied = own.clone().equal(other.clone()).bool_and(before);
        let ahead = other.greater(own).bool_or(tied);
        let rank = ahead.int().sum_dim(2).reshape([batch, rows, 1, columns, 1]);
        let shape = [batch, rows, self.height, columns, self.width];
        let limit = i64::try_from(k).expect("a count of cells");
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

    fn cut_cells(patches: Patches, map: Tensor<3>, k: usize) -> Vec<usize> {
        let cut = patches.top_k(map, k).float();
        let evidence = patches.scores(cut).into_data();
        let whole = (patches.height * patches.width) as f32;
        let values = evidence.try_to_vec::<f32>().expect("f32");
        let each = values.into_iter().enumerate();
        each.filter_map(|(cell, sum)| {
            let share = sum / whole;
            assert!([0.0, 1.0].contains(&share), "half a cell is cut");
            (share > 0.0).then_some(cell)
        })
        .collect()
    }

    /// g[r][c] = (7r + 3c) mod 11 on 24 x 8, cells of 3 x 2.
    #[test]
    fn ranking_is_as_by_hand_on_the_papers_grid() {
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
        // 38 in cells 3, 16 and 22; 36 in 13 and 19; then 34 first in 4.
        assert_eq!(cut_cells(patches, map.clone(), 3), [3, 16, 22]);
        assert_eq!(cut_cells(patches, map, 6), [3, 4, 13, 16, 19, 22]);
    }

    #[test]
    fn none_and_all_are_exact_and_ties_go_row_by_row() {
        let zero = map(&[0.0; 16], 4);
        let patches = Patches {
            height: 2,
            width: 2,
        };
        assert_eq!(cut_cells(patches, zero.clone(), 0), [0_usize; 0]);
        assert_eq!(cut_cells(patches, zero.clone(), 1), [0]);
        assert_eq!(cut_cells(patches, zero.clone(), 3), [0, 1, 2]);
        assert_eq!(cut_cells(patches, zero, 4), [0, 1, 2, 3]);
    }

    #[test]
    fn cells_that_are_no_number_are_cut_last() {
        let patches = Patches {
            height: 1,
            width: 1,
        };
        let map = map(&[f32::NAN, 0.0, 2.0, 1.0], 4);
        assert_eq!(cut_cells(patches, map.clone(), 2), [2, 3]);
        assert_eq!(cut_cells(patches, map, 3), [1, 2, 3]);
    }

    #[test]
    #[should_panic(expected = "patches: expected a size that divides a map of 16x8, found 3x2")]
    fn cells_that_do_not_divide_are_refused() {
        let _ = Patches {
            height: 3,
            width: 2,
        }
        .grid([16, 8]);
    }

    #[test]
    #[should_panic(
        expected = "cut: expected at most 4, the patches of 2x2 on a map of 4x4, found 5"
    )]
    fn more_cells_than_there_are_are_refused() {
        let _ = Patches {
            height: 2,
            width: 2,
        }
        .top_k(map(&[0.0; 16], 4), 5);
    }
}
