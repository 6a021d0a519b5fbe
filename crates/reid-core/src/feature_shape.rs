//! Feature shape: channels, height and width of a feature map.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Channels, height and width of one feature map, without the batch.
///
/// Parts are built from it: *the place gives dimensions*, so nobody computes 2048 or 16 x 8 by
/// hand.
///
/// ```
/// use reid_core::FeatureShape;
///
/// let layer4 = FeatureShape::new(2048, 16, 8);
/// assert_eq!(layer4.positions(), 128);
/// assert_eq!(layer4.to_string(), "2048x16x8");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FeatureShape {
    /// Channels.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl FeatureShape {
    /// A shape from channels, height and width.
    ///
    /// # Panics
    /// If any of them is 0.
    #[must_use]
    pub const fn new(channels: usize, height: usize, width: usize) -> Self {
        assert!(
            channels > 0 && height > 0 && width > 0,
            "a feature shape needs channels, height and width of at least 1"
        );
        Self {
            channels,
            height,
            width,
        }
    }

    /// The same places with another number of channels.
    #[must_use]
    pub const fn with_channels(self, channels: usize) -> Self {
        Self::new(channels, self.height, self.width)
    }

    /// Places in the map: height x width.
    #[must_use]
    pub const fn positions(self) -> usize {
        self.height * self.width
    }

    /// The shape after a convolution or pooling of one `kernel`, `stride` and `padding` in both
    /// directions: `floor((size + 2·padding - kernel) / stride) + 1`.
    ///
    /// # Panics
    /// If the kernel is larger than the padded map.
    ///
    /// ```
    /// use reid_core::FeatureShape;
    ///
    /// let stem = FeatureShape::new(3, 256, 128).strided(7, 2, 3);
    /// assert_eq!((stem.height, stem.width), (128, 64));
    /// ```
    #[must_use]
    pub fn strided(self, kernel: usize, stride: usize, padding: usize) -> Self {
        let after = |size: usize| {
            assert!(
                size + 2 * padding >= kernel,
                "a kernel of {kernel} with padding {padding} does not fit a map of {self}"
            );
            (size + 2 * padding - kernel) / stride + 1
        };
        Self::new(self.channels, after(self.height), after(self.width))
    }
}

impl fmt::Display for FeatureShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.channels, self.height, self.width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "kernel of 3 with padding 0 does not fit a map of 8x2x2")]
    fn a_kernel_too_large_is_refused() {
        let _ = FeatureShape::new(8, 2, 2).strided(3, 1, 0);
    }
}
