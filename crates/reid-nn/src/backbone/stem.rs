//! The stem of a ResNet: the layers before the first stage.

use burn::tensor::{Tensor, ops::MaxPoolOptions};
use reid_core::FeatureShape;
use reid_ops::max_pool2d;
use serde::{Deserialize, Serialize};

/// The layers before the first stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stem {
    /// A 7 x 7 convolution with stride 2, then 3 x 3 max pooling with stride 2: a quarter of the image size.
    Large(MaxPool),
    /// Three 3 x 3 convolutions, the first with stride 2 and the last with twice the width, then 3 x 3 max
    /// pooling with stride 2: a quarter of the image size. For a [`ResNet`](super::ResNet) only; the deep
    /// stem of semseg's `PSPNet` (Zhao et al., CVPR 2017, arXiv:1612.01105).
    Deep(MaxPool),
    /// As [`Deep`](Self::Deep) with half the channels, so that the last convolution has the width. For a
    /// [`ResNet`](super::ResNet) of an even width only; the stem of ResNet-C (He et al., CVPR 2019,
    /// arXiv:1812.01187), which mmsegmentation calls `ResNetV1c`.
    DeepHalf(MaxPool),
    /// A 3 x 3 convolution with stride 1 and no pooling, for small images such as those of CIFAR.
    Small,
}

/// How the max pooling of the large stem pads its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MaxPool {
    /// Padding of 1, as in torchvision.
    Padded,
    /// No padding, output size rounded up, as in Cadene's SE networks and FastReID.
    Ceil,
}

impl Stem {
    /// The kernel size and the stride of the first convolution; further ones keep the size of the feature
    /// map.
    pub(super) const fn convolution(self) -> (usize, usize) {
        match self {
            Self::Large(_) => (7, 2),
            Self::Deep(_) | Self::DeepHalf(_) => (3, 2),
            Self::Small => (3, 1),
        }
    }

    /// Whether the images are large enough for the pooling without padding.
    pub(super) fn fits(self, image: FeatureShape) -> bool {
        let (kernel, stride) = self.convolution();
        let convolved = image.strided(kernel, stride, kernel / 2);
        let pools_inside = self.max_pool() == Some(MaxPool::Ceil);
        !pools_inside || convolved.height.min(convolved.width) > 1
    }

    /// Whether the stem has three convolutions.
    pub(super) const fn is_deep(self) -> bool {
        matches!(self, Self::Deep(_) | Self::DeepHalf(_))
    }

    /// The max pooling after the convolutions, if the stem has one.
    #[must_use]
    pub const fn max_pool(self) -> Option<MaxPool> {
        match self {
            Self::Large(pool) | Self::Deep(pool) | Self::DeepHalf(pool) => Some(pool),
            Self::Small => None,
        }
    }

    /// The number of channels after the first convolution in a network of this width.
    pub(super) const fn first_channels(self, width: usize) -> usize {
        match self {
            Self::DeepHalf(_) => width / 2,
            Self::Large(_) | Self::Deep(_) | Self::Small => width,
        }
    }

    /// The number of channels after the stem of a network of this width.
    pub(super) const fn channels(self, width: usize) -> usize {
        match self {
            Self::Deep(_) => 2 * width,
            Self::Large(_) | Self::DeepHalf(_) | Self::Small => width,
        }
    }

    /// The shape after the stem, with the channels of the image.
    pub(super) fn output(self, image: FeatureShape) -> FeatureShape {
        let (kernel, stride) = self.convolution();
        let convolved = image.strided(kernel, stride, kernel / 2);
        match self.max_pool() {
            None => convolved,
            Some(MaxPool::Padded) => convolved.strided(3, 2, 1),
            Some(MaxPool::Ceil) => {
                // ceil((n - 3) / 2) + 1 = floor((n + 1 - 3) / 2) + 1
                let FeatureShape {
                    channels,
                    height,
                    width,
                } = convolved;
                FeatureShape::new(channels, height + 1, width + 1).strided(3, 2, 0)
            }
        }
    }

    /// Applies the max pooling after the convolution, if the stem has one.
    pub(super) fn pool(self, features: Tensor<4>) -> Tensor<4> {
        let (padding, ceil_mode) = match self.max_pool() {
            None => return features,
            Some(MaxPool::Padded) => (1, false),
            Some(MaxPool::Ceil) => (0, true),
        };
        let options = MaxPoolOptions::new([3, 3])
            .with_stride([2, 2])
            .with_padding([padding, padding])
            .with_ceil_mode(ceil_mode);
        max_pool2d(features, options)
    }
}
