//! The forms of a convolution on a GPU.

use burn::tensor::{DType, ops::ConvOptions};

/// How a convolution becomes one that a GPU computes as a product of matrices: without groups, and of as
/// many channels as its units multiply at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As it is.
    Whole,
    /// Groups side by side: weights between groups are 0. (What is not a number in one group becomes so
    /// in all.)
    Groups(usize),
    /// Every second position of at most four channels as every position of sixteen: four pixels become
    /// one.
    ///
    /// ```text
    /// x'[n, (a, b, c), i, j] = x[n, c, 2 i + a - p', 2 j + b - p']     p' the padding, made even
    /// ```
    Stem,
}

/// Channels of four pixels.
const FOUR: usize = 16;

impl Form {
    /// The options of the convolution that it becomes.
    pub(super) fn options(self, given: ConvOptions<2>) -> ConvOptions<2> {
        match self {
            Self::Whole => given,
            Self::Groups(_) => ConvOptions { groups: 1, ..given },
            Self::Stem => ConvOptions::new([1, 1], [0, 0], [1, 1], 1),
        }
    }

    /// The shape of its weights, of weights `[channels out, channels / groups, down, across]`.
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

/// How weights are laid out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) form: Form,
    /// The padding of the convolution that was given.
    pub(super) padding: [usize; 2],
    /// The type of its features.
    pub(super) dtype: DType,
}

impl Layout {
    /// The shape of weights that are laid out.
    pub(super) fn shape(&self, weight: [usize; 4]) -> [usize; 4] {
        self.form.weights(weight, self.padding)
    }
}

/// The taps of a stem, with those before the first that make its padding even, in pairs.
fn taps(kernel: [usize; 2], padding: [usize; 2]) -> [usize; 2] {
    [0, 1].map(|axis| (kernel[axis] + padding[axis] % 2).next_multiple_of(2))
}

/// Sizes of four pixels that a stem's kernel sees.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stem {
    /// `[batch, channels, height, width]` of the images.
    pub(super) images: [usize; 4],
    /// The padding, made even.
    pub(super) padding: [usize; 2],
    /// `[batch, channels, height, width]` of the pixels.
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
