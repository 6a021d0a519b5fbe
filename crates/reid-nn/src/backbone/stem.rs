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
    /// The kernel size and the stride of the convolution.
    pub(super) const fn convolution(self) -> (usize, usize) {
        match self {
            Self::Large(_) => (7, 2),
            Self::Small => (3, 1),
        }
    }

    /// Whether the images are large enough for the pooling without padding.
    pub(super) fn fits(self, image: FeatureShape) -> bool {
        let (kernel, stride) = self.convolution();
        let convolved = image.strided(kernel, stride, kernel / 2);
        self != Self::Large(MaxPool::Ceil) || convolved.height.min(convolved.width) > 1
    }

    /// The shape after the stem, with the channels of the image.
    pub(super) fn output(self, image: FeatureShape) -> FeatureShape {
        let (kernel, stride) = self.convolution();
        let convolved = image.strided(kernel, stride, kernel / 2);
        match self {
            Self::Large(MaxPool::Padded) => convolved.strided(3, 2, 1),
            Self::Large(MaxPool::Ceil) => {
                // ceil((n - 3) / 2) + 1 = floor((n + 1 - 3) / 2) + 1
                let FeatureShape {
                    channels,
                    height,
                    width,
                } = convolved;
                FeatureShape::new(channels, height + 1, width + 1).strided(3, 2, 0)
            }
            Self::Small => convolved,
        }
    }

    /// Applies the max pooling after the convolution, if the stem has one.
    pub(super) fn pool(self, features: Tensor<4>) -> Tensor<4> {
        let (padding, ceil_mode) = match self {
            Self::Large(MaxPool::Padded) => (1, false),
            Self::Large(MaxPool::Ceil) => (0, true),
            Self::Small => return features,
        };
        let options = MaxPoolOptions::new([3, 3])
            .with_stride([2, 2])
            .with_padding([padding, padding])
            .with_ceil_mode(ceil_mode);
        max_pool2d(features, options)
    }
}
