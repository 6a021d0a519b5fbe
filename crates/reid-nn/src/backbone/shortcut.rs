//! The shortcut of a residual block (He et al., CVPR 2016, arXiv:1512.03385, section 3.3).

use burn::tensor::{Tensor, s};
use serde::{Deserialize, Serialize};

/// The shortcut of the residual blocks whose input and output differ in shape. All other shortcuts return
/// their input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shortcut {
    /// A 1 x 1 convolution with the stride of the block, and batch normalisation: option B of the paper.
    #[default]
    Projection,
    /// Every `stride`-th row and column, and further channels of zeros: option A of the paper, as in its
    /// networks for CIFAR. It has no parameters.
    Padded,
}

impl Shortcut {
    /// Whether this is the default.
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    pub(crate) const fn is_projection(&self) -> bool {
        matches!(self, Self::Projection)
    }
}

/// The shortcut without parameters.
///
/// ```text
/// y = [0, x[:, :, ::stride, ::stride], 0]
///     [batch, before + channels + after, height/stride, width/stride]
/// ```
///
/// Half of the further channels are before those of the input, as in the common implementations.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_nn::backbone::PaddedShortcut;
///
/// let shortcut = PaddedShortcut::new([1, 3], 2);
/// let features = Tensor::<4>::from_data([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]], &Device::default());
/// let padded = shortcut.forward(features).into_data();
/// assert_eq!(padded.try_to_vec::<f32>().expect("f32 values"), [0.0, 0.0, 1.0, 3.0, 0.0, 0.0]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaddedShortcut {
    /// The stride, at least 1.
    pub stride: usize,
    /// The number of channels of zeros before those of the input.
    pub before: usize,
    /// The number of channels of zeros after those of the input.
    pub after: usize,
}

impl PaddedShortcut {
    /// Creates a shortcut from the number of input channels to that of output channels.
    ///
    /// # Panics
    /// If there are more input channels than output channels, or `stride` is 0.
    #[must_use]
    pub const fn new([from, to]: [usize; 2], stride: usize) -> Self {
        assert!(stride > 0, "a padded shortcut needs a stride of at least 1");
        assert!(
            from <= to,
            "a padded shortcut needs at least as many output channels as input channels"
        );
        let before = (to - from) / 2;
        Self {
            stride,
            before,
            after: to - from - before,
        }
    }

    /// Computes the shortcut.
    ///
    /// # Shapes
    /// - `features`: `[batch, channels, height, width]`
    /// - result: `[batch, before + channels + after, ceil(height / stride), ceil(width / stride)]`
    #[must_use]
    pub fn forward(self, features: Tensor<4>) -> Tensor<4> {
        let stride = self.stride;
        let kept = match stride {
            1 => features,
            _ => features.slice(s![.., .., ..;stride, ..;stride]),
        };
        let [batch, _, height, width] = kept.dims();
        let options = (&kept.device(), kept.dtype());
        let zeros = |channels| Tensor::zeros([batch, channels, height, width], options);
        let sides =
            [self.before, self.after].map(|channels| (channels > 0).then(|| zeros(channels)));
        let [before, after] = sides;
        Tensor::cat(before.into_iter().chain([kept]).chain(after).collect(), 1)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::fixtures;

    /// From 2 to 4 channels there is 1 channel of zeros on each side; odd sizes are rounded up.
    #[test]
    fn positions_are_kept_and_channels_are_padded() {
        let features = fixtures::tensor([2, 2, 5, 3], 1.0..2.0, &Device::default());
        let padded = PaddedShortcut::new([2, 4], 2).forward(features.clone());
        assert_eq!(padded.dims(), [2, 4, 3, 2]);
        let read = |tensor: Tensor<4>| -> Vec<f32> {
            tensor.into_data().try_to_vec().expect("f32 values")
        };
        for outside in [0, 3] {
            let zeros = read(padded.clone().slice(s![.., outside]));
            assert!(zeros.iter().all(|&value| value == 0.0));
        }
        for (row, column) in [(0, 0), (1, 1), (2, 0)] {
            let found = read(padded.clone().slice(s![.., 1..3, row, column]));
            let expected = features.clone().slice(s![.., .., 2 * row, 2 * column]);
            assert_eq!(found, read(expected));
        }
    }

    #[test]
    #[should_panic(expected = "at least as many output channels as input channels")]
    fn fewer_output_channels_panic() {
        let _ = PaddedShortcut::new([4, 2], 1);
    }
}
