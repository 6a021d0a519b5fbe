//! Interpolation: values between the cells of a grid, linear in each dimension.

use std::ops::Range;

/// Which two cells of one side a cell of another side lies between, and how far it is from the first.
///
/// Bilinear resizing uses one list of these per dimension.
///
/// ```
/// use reid_core::interpolation::{LinearTap, lerp};
///
/// // Centres of 4 cells over 2: -0.25 → 0, 0.25, 0.75, 1.25 → 1.
/// let values = [0.0, 4.0];
/// let taps = LinearTap::resize(2, 4, 0..4);
/// let resized = taps.iter().map(|tap| lerp(values[tap.first], values[tap.second], tap.weight));
/// assert_eq!(resized.collect::<Vec<_>>(), [0.0, 1.0, 3.0, 4.0]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct LinearTap {
    /// The cell before, or the border.
    pub first: usize,
    /// The cell after, or the border.
    pub second: usize,
    /// The weight of the second, 0 to 1; that of the first is what is left to 1.
    pub weight: f32,
}

impl LinearTap {
    /// The taps of the cells `range` out of `to` cells that cover the same side as `from` cells, between
    /// cell centres (as `align_corners = False` elsewhere). Cells outside the outermost centres have the
    /// value of the border.
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
                reason = "clamped"
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

/// The value that lies `weight` of the way from `first` to `second`: `first + (second - first) · weight`.
///
/// It is exact where both are equal, and finite for all finite values: it is computed in double precision.
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
    reason = "between two numbers of single precision"
)]
pub fn lerp(first: f32, second: f32, weight: f32) -> f32 {
    let (first, second) = (f64::from(first), f64::from(second));
    (first + (second - first) * f64::from(weight)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_a_part_of_the_whole() {
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
    fn the_same_size_is_the_same_values() {
        let same = |(cell, tap): (usize, LinearTap)| tap.first == cell && tap.weight == 0.0;
        assert!(
            LinearTap::resize(7, 7, 0..7)
                .into_iter()
                .enumerate()
                .all(same)
        );
    }

    #[test]
    fn double_precision_is_nearer_than_single() {
        // Both forms in single precision are off in the last place for some of these.
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
    fn no_cells_are_refused() {
        let _ = LinearTap::resize(3, 0, 0..0);
    }
}
