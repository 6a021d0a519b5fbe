//! Dilation of the late stages of a ResNet, which keeps their feature maps large (Yu et al., Dilated Residual
//! Networks, CVPR 2017, arXiv:1705.09914; Chen et al., `DeepLabV3`, arXiv:1706.05587).

use serde::{Deserialize, Serialize};

/// The stages of a [`ResNet`](super::ResNet) whose stride of 2 is replaced by dilation.
///
/// A dilated stage has stride 1, and its 3 x 3 convolutions see positions at the distance that they would
/// have had with the stride. Weights of the network without dilation fit, and parameters have the same count.
///
/// ```
/// use reid_core::{FeatureShape, InputSize};
/// use reid_nn::{BlockConfig, backbone::{Dilation, FirstDilation, ResNetConfig}};
///
/// let network = ResNetConfig::resnet50().with_dilation(Dilation::Stride8(FirstDilation::Previous));
/// let output = network.output(InputSize::new(769, 769).rgb());
/// assert_eq!(output, FeatureShape::new(2048, 97, 97));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Dilation {
    /// No dilation: an output stride of 32, or 16 with a last stride of 1.
    #[default]
    None,
    /// The last stage is dilated by 2: an output stride of 16.
    Stride16(FirstDilation),
    /// The third stage is dilated by 2 and the last by 4: an output stride of 8.
    Stride8(FirstDilation),
}

/// The dilation of the first block of a dilated stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FirstDilation {
    /// That of the stage before, which is half of the stage's own: torchvision's
    /// `replace_stride_with_dilation`, and mmseg's `contract_dilation`.
    Previous,
    /// That of the stage, as in semseg and OCNet.
    Stage,
}

impl Dilation {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    pub(super) fn is_none(&self) -> bool {
        *self == Self::None
    }

    /// The dilation of the first block and of the other blocks of a stage, which counts from 0; `None` if the
    /// stage is not dilated.
    pub(super) fn of_stage(self, stage: usize) -> Option<[usize; 2]> {
        let (first, dilation) = match (self, stage) {
            (Self::Stride16(first), 3) | (Self::Stride8(first), 2) => (first, 2),
            (Self::Stride8(first), 3) => (first, 4),
            _ => return None,
        };
        Some(match first {
            FirstDilation::Previous => [dilation / 2, dilation],
            FirstDilation::Stage => [dilation; 2],
        })
    }
}
