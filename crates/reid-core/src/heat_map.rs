//! Heat maps: the importance of each position of an image.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::interpolation::{LinearTap, lerp};

/// The importance of each position of an image: a grid of finite values in row-major order.
///
/// Grad-CAM and attention masks produce heat maps; `reid-vis` draws them.
///
/// ```
/// use reid_core::HeatMap;
///
/// let map = HeatMap::new(1, 3, vec![2.0, 4.0, 3.0])?;
/// assert_eq!(map.normalised().values(), [0.0, 1.0, 0.5]);
/// # Ok::<(), reid_core::HeatMapError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct HeatMap {
    height: usize,
    width: usize,
    values: Vec<f32>,
}

/// A heat map as it is serialized, before its values are checked.
#[derive(Deserialize)]
struct Unchecked {
    height: usize,
    width: usize,
    values: Vec<f32>,
}

impl TryFrom<Unchecked> for HeatMap {
    type Error = HeatMapError;

    fn try_from(map: Unchecked) -> Result<Self, HeatMapError> {
        Self::new(map.height, map.width, map.values)
    }
}

/// The error of building a [`HeatMap`] from values.
#[derive(Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HeatMapError {
    /// The number of values is 0 or not height x width.
    #[error("a heat map of {height}x{width} needs {} values, found {found}", height.saturating_mul(*width))]
    Size {
        /// The requested number of rows.
        height: usize,
        /// The requested number of columns.
        width: usize,
        /// The number of values given.
        found: usize,
    },
    /// A value is infinite or NaN.
    #[error("heat map value at row {row}, column {column} is {value}, expected a finite number")]
    NotFinite {
        /// The row of the value, from 0.
        row: usize,
        /// The column of the value, from 0.
        column: usize,
        /// The value.
        value: f32,
    },
}

impl fmt::Debug for HeatMapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::debug_error(self, f)
    }
}

impl HeatMap {
    /// Creates a heat map from its values in row-major order, `[height, width]`.
    ///
    /// # Errors
    /// [`HeatMapError::Size`] if the number of values is 0 or not `height * width`, and
    /// [`HeatMapError::NotFinite`] if a value is infinite or NaN.
    pub fn new(height: usize, width: usize, values: Vec<f32>) -> Result<Self, HeatMapError> {
        if values.is_empty() || Some(values.len()) != height.checked_mul(width) {
            let found = values.len();
            return Err(HeatMapError::Size {
                height,
                width,
                found,
            });
        }
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return Err(HeatMapError::NotFinite {
                row: at / width,
                column: at % width,
                value: values[at],
            });
        }
        Ok(Self {
            height,
            width,
            values,
        })
    }

    /// The number of rows.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// The number of columns.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// The values in row-major order, `[height, width]`.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The heat map rescaled so that its smallest value is 0 and its largest is 1. A constant heat map
    /// becomes 0 everywhere.
    #[must_use]
    pub fn normalised(&self) -> Self {
        let low = self.values.iter().copied().fold(f32::INFINITY, f32::min);
        let high = self
            .values
            .iter()
            .copied()
            .fold(f32::NEG_INFINITY, f32::max);
        let range = high - low;
        let scale = |value: &f32| {
            if range > 0.0 {
                (value - low) / range
            } else {
                0.0
            }
        };
        Self {
            values: self.values.iter().map(scale).collect(),
            ..*self
        }
    }

    /// The heat map resized by bilinear interpolation between cell centres, as with `align_corners=False` in
    /// PyTorch. Cells outside the outermost centres get the border's value.
    ///
    /// # Panics
    /// If `height` or `width` is 0.
    #[must_use]
    pub fn resized(&self, height: usize, width: usize) -> Self {
        assert!(
            height > 0 && width > 0,
            "cannot resize a heat map to {height}x{width}"
        );
        let rows = LinearTap::resize(self.height, height, 0..height);
        let columns = LinearTap::resize(self.width, width, 0..width);
        let mut values = Vec::with_capacity(height * width);
        for row in &rows {
            let upper = &self.values[row.first * self.width..][..self.width];
            let lower = &self.values[row.second * self.width..][..self.width];
            values.extend(columns.iter().map(|column| {
                let between =
                    |line: &[f32]| lerp(line[column.first], line[column.second], column.weight);
                lerp(between(upper), between(lower), row.weight)
            }));
        }
        Self {
            height,
            width,
            values,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_that_is_read_is_checked() {
        let read = |json| serde_json::from_str::<HeatMap>(json).map_err(|error| error.to_string());
        let map = HeatMap::new(1, 2, vec![0.0, 4.0]).expect("two values");
        let json = serde_json::to_string(&map).expect("plain data");
        assert_eq!(read(&json), Ok(map));
        let short = read(r#"{"height":2,"width":2,"values":[1.0]}"#).expect_err("one value");
        assert!(
            short.contains("a heat map of 2x2 needs 4 values, found 1"),
            "{short}"
        );
        let huge = r#"{"height":4294967296,"width":4294967296,"values":[1.0]}"#;
        assert!(read(huge).expect_err("too large").contains("found 1"));
    }

    #[test]
    fn doubling_interpolates_between_centres() {
        // Centres of 4 target cells, in source coordinates: -0.25 → 0, 0.25, 0.75, 1.25 → 1.
        let map = HeatMap::new(1, 2, vec![0.0, 4.0]).expect("two values");
        assert_eq!(
            map.resized(2, 4).values(),
            [0.0, 1.0, 3.0, 4.0, 0.0, 1.0, 3.0, 4.0]
        );
    }

    #[test]
    fn a_constant_map_normalises_to_zero() {
        let map = HeatMap::new(1, 2, vec![7.0, 7.0]).expect("two values");
        assert_eq!(map.normalised().values(), [0.0, 0.0]);
    }

    #[test]
    fn errors_name_the_wrong_count_or_value() {
        let size = HeatMap::new(2, 2, vec![0.0; 3]).expect_err("three values");
        assert_eq!(
            size.to_string(),
            "a heat map of 2x2 needs 4 values, found 3"
        );
        let nan = HeatMap::new(2, 2, vec![0.0, 0.0, 0.0, f32::NAN]).expect_err("not a number");
        assert!(nan.to_string().contains("row 1, column 1 is NaN"), "{nan}");
    }
}
