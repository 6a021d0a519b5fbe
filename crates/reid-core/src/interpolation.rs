//! Linear interpolation between the cells of a grid.

use std::ops::Range;

/// The two source cells, and the weight, from which one target cell is interpolated along one dimension.
///
/// Bilinear resizing uses one list of taps per dimension.
///
/// ```
/// use reid_core::interpolation::{LinearTap, lerp};
///
/// // Centres of 4 target cells, in source coordinates: -0.25 → 0, 0.25, 0.75, 1.25 → 1.
/// let values = [0.0, 4.0];
/// let taps = LinearTap::resize(2, 4, 0..4);
/// let resized = taps.iter().map(|tap| lerp(values[tap.first], values[tap.second], tap.weight));
/// assert_eq!(resized.collect::<Vec<_>>(), [0.0, 1.0, 3.0, 4.0]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct LinearTap {
    /// The index of the last source cell at or before the target's centre, clamped to the border.
    pub first: usize,
    /// The index of the next source cell, clamped to the border.
    pub second: usize,
    /// The weight of the second cell, 0 to 1. The weight of the first cell is `1 - weight`.
    pub weight: f32,
}

impl LinearTap {
    /// Computes the taps of the target cells `range`, when `from` source cells are resized to `to` cells.
    ///
    /// The centre of target cell `i` lies at `(i + 0.5) · from / to - 0.5` of the source, as with
    /// `align_corners=False` in PyTorch. A centre outside the outermost source centres gets the border's
    /// value.
    ///
    /// # Panics
    /// If `from` or `to` is 0.
    #[must_use]
    pub fn resize(from: usize, to: usize, range: Range<usize>) -> Vec<Self> {
        assert!(
            from > 0 && to > 0,
            "cannot resize a side of {from} cells to {to}"
        );
        let scale = from as f32 / to as f32;
        let last = from - 1;
        let tap = |cell: usize| {
            let centre = ((cell as f32 + 0.5) * scale - 0.5).clamp(0.0, last as f32);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "clamped to the indices of the source cells"
            )]
            let first = centre as usize;
            Self {
                first,
                second: (first + 1).min(last),
                weight: centre - first as f32,
            }
        };
        range.map(tap).collect()
    }
}

/// Interpolates linearly between two values: `first + (second - first) · weight`.
///
/// The computation is in double precision. If both values are equal, the result is exact. For finite values
/// and a weight from 0 to 1, the result is finite.
///
/// ```
/// use reid_core::interpolation::lerp;
///
/// assert_eq!(lerp(1.0, 3.0, 0.25), 1.5);
/// assert_eq!(lerp(0.1, 0.1, 0.3), 0.1);
/// assert_eq!(lerp(f32::MIN, f32::MAX, 0.5), 0.0);
/// ```
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the result lies between two `f32` values"
)]
pub fn lerp(first: f32, second: f32, weight: f32) -> f32 {
    let (first, second) = (f64::from(first), f64::from(second));
    (first + (second - first) * f64::from(weight)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_taps_of_a_range_are_a_slice_of_all_taps() {
        let whole = LinearTap::resize(10, 13, 0..13);
        assert_eq!(LinearTap::resize(10, 13, 4..9), whole[4..9]);
        assert!(
            whole
                .iter()
                .all(|tap| tap.second < 10 && tap.first <= tap.second)
        );
        assert!(whole.iter().all(|tap| (0.0..1.0).contains(&tap.weight)));
    }

    #[test]
    fn resizing_to_the_same_size_copies_every_cell() {
        let same = |(cell, tap): (usize, LinearTap)| tap.first == cell && tap.weight == 0.0;
        assert!(
            LinearTap::resize(7, 7, 0..7)
                .into_iter()
                .enumerate()
                .all(same)
        );
    }

    #[test]
    fn double_precision_is_at_least_as_exact_as_single() {
        // Each single-precision formula is wrong in the last bit for some of these inputs.
        let mut worse = 0;
        for step in 1..1000 {
            let (first, second, weight) = (1.0 / step as f32, 0.7, step as f32 / 1000.0);
            let exact = f64::from(first) * (1.0 - f64::from(weight))
                + f64::from(second) * f64::from(weight);
            let error = |value: f32| (f64::from(value) - exact).abs();
            let best = error(lerp(first, second, weight));
            assert!(best <= error(first + (second - first) * weight));
            assert!(best <= error(first * (1.0 - weight) + second * weight));
            worse += u32::from(best < error(first * (1.0 - weight) + second * weight));
        }
        assert!(worse > 100, "{worse}");
    }

    #[test]
    #[should_panic(expected = "cannot resize a side of 3 cells to 0")]
    fn resizing_to_0_cells_panics() {
        let _ = LinearTap::resize(3, 0, 0..0);
    }
}
