//! Feature shapes: the channels, height and width of a feature map.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The channels, height and width of one feature map, without the batch dimension.
///
/// Network parts are built from the shape of their input, so a configuration never repeats dimensions such as
/// 2048 or 16 x 8.
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
    /// The number of channels, at least 1.
    pub channels: usize,
    /// The number of rows, at least 1.
    pub height: usize,
    /// The number of columns, at least 1.
    pub width: usize,
}

impl FeatureShape {
    /// Creates a shape from channels, height and width.
    ///
    /// # Panics
    /// If channels, height or width is 0.
    #[must_use]
    pub const fn new(channels: usize, height: usize, width: usize) -> Self {
        assert!(
            channels > 0 && height > 0 && width > 0,
            "a feature shape needs a number of channels, a height and a width of at least 1"
        );
        Self {
            channels,
            height,
            width,
        }
    }

    /// The same height and width with another number of channels.
    ///
    /// # Panics
    /// If `channels` is 0.
    #[must_use]
    pub const fn with_channels(self, channels: usize) -> Self {
        Self::new(channels, self.height, self.width)
    }

    /// The number of positions in the feature map: height x width.
    #[must_use]
    pub const fn positions(self) -> usize {
        self.height * self.width
    }

    /// Computes the output shape of a convolution or pooling with the same `kernel`, `stride` and `padding`
    /// in both directions: `floor((size + 2·padding - kernel) / stride) + 1`. The channels stay the same.
    ///
    /// # Panics
    /// If the kernel is larger than the padded feature map, or if `stride` is 0.
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
                "a kernel of {kernel} with padding {padding} does not fit a feature map of {self}"
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
    #[should_panic(expected = "kernel of 3 with padding 0 does not fit a feature map of 8x2x2")]
    fn a_kernel_larger_than_the_padded_map_panics() {
        let _ = FeatureShape::new(8, 2, 2).strided(3, 1, 0);
    }
}
