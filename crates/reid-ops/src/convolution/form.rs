//! The forms of a convolution on a GPU.
//!
//! A GPU computes a convolution fast if its matrix units can be used: without groups, and with enough
//! channels. [`Form::Groups`] and [`Form::Stem`] are used on CUDA only.

use burn::tensor::{DType, ops::ConvOptions};

/// How a convolution is rewritten as one that a GPU computes as a matrix product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The convolution as given, without groups.
    Whole,
    /// A grouped convolution as one without groups, whose weights between groups are 0. It needs as many
    /// times the multiplications as there are groups, but matrix units compute them faster than one kernel
    /// per group. A NaN in one group makes the results of all groups NaN.
    Groups(usize),
    /// A stride of 2 over at most four channels as a stride of 1 over sixteen channels: each block of 2 x 2
    /// pixels becomes one pixel (space to depth). The first convolution of a network has three channels,
    /// too few for matrix units.
    ///
    /// ```text
    /// x'[n, (a, b, c), i, j] = x[n, c, 2 i + a - p', 2 j + b - p']     p' the padding, rounded up to even
    /// ```
    Stem,
}

/// The number of channels of a block of 2 x 2 pixels.
const FOUR: usize = 16;

impl Form {
    /// The form of a convolution with groups on CUDA; `None` if it is left to Burn as it is.
    ///
    /// Burn has no matrix product for groups, and its backward pass launches one kernel after another for
    /// each group. For depthwise convolutions it has kernels, forward and backward. As a dense convolution,
    /// a depthwise one would need as many times the multiplications as there are channels.
    pub(super) fn of_groups(groups: usize, channels: usize) -> Option<Self> {
        let depthwise = groups == channels;
        (!depthwise).then_some(Self::Groups(groups))
    }

    /// The options of the rewritten convolution.
    pub(super) fn options(self, given: ConvOptions<2>) -> ConvOptions<2> {
        match self {
            Self::Whole => given,
            Self::Groups(_) => ConvOptions { groups: 1, ..given },
            Self::Stem => ConvOptions::new([1, 1], [0, 0], [1, 1], 1),
        }
    }

    /// The shape of the rewritten weights, given weights `[channels out, channels / groups, height, width]`.
    fn weights(self, weight: [usize; 4], padding: [usize; 2]) -> [usize; 4] {
        let [results, channels, down, across] = weight;
        match self {
            Self::Whole => weight,
            Self::Groups(groups) => [results, channels * groups, down, across],
            Self::Stem => {
                let [down, across] = taps([down, across], padding);
                [results, FOUR, down / 2, across / 2]
            }
        }
    }
}

/// The layout of rewritten weights.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) form: Form,
    /// The padding of the original convolution.
    pub(super) padding: [usize; 2],
    /// The dtype of the features, to which weights are converted.
    pub(super) dtype: DType,
}

impl Layout {
    /// The shape of the rewritten weights.
    pub(super) fn shape(&self, weight: [usize; 4]) -> [usize; 4] {
        self.form.weights(weight, self.padding)
    }
}

/// The kernel size of a stem in pixels: extended by one at the front if the padding is odd, then rounded up
/// to an even size.
fn taps(kernel: [usize; 2], padding: [usize; 2]) -> [usize; 2] {
    [0, 1].map(|axis| (kernel[axis] + padding[axis] % 2).next_multiple_of(2))
}

/// The sizes of the images and of the blocks of 2 x 2 pixels of a stem.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stem {
    /// The shape of the images, `[batch, channels, height, width]`.
    pub(super) images: [usize; 4],
    /// The padding, rounded up to even.
    pub(super) padding: [usize; 2],
    /// The shape of the blocks, `[batch, channels, height, width]`.
    pub(super) pixels: [usize; 4],
}

impl Stem {
    pub(super) fn new(images: [usize; 4], kernel: [usize; 2], padding: [usize; 2]) -> Self {
        let [batch, _, height, width] = images;
        let taps = taps(kernel, padding);
        let [rows, columns] = [0, 1].map(|axis| {
            let size = [height, width][axis] + 2 * padding[axis];
            (size - kernel[axis]) / 2 + taps[axis] / 2
        });
        Self {
            images,
            padding: padding.map(|padding| padding.next_multiple_of(2)),
            pixels: [batch, FOUR, rows, columns],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Form;

    #[test]
    fn depthwise_convolutions_are_not_made_dense() {
        assert_eq!(Form::of_groups(32, 128), Some(Form::Groups(32)));
        assert_eq!(Form::of_groups(128, 128), None);
    }
}
