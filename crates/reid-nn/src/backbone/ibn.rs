//! IBN-Net: instance and batch normalisation in one network (Pan et al., Two at Once: Enhancing Learning and
//! Generalization Capacities via IBN-Net, ECCV 2018, arXiv:1807.09441).

use serde::{Deserialize, Serialize};

/// Where a [`ResNet`](super::ResNet) uses instance normalisation, which reduces the influence of a camera's
/// lighting and colours.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{InputSize, Seed};
/// use reid_nn::{Block, BlockConfig, Init, backbone::{Ibn, ResNetConfig}};
///
/// let (device, image) = (Device::default(), InputSize::new(32, 16).rgb());
/// let init = Init::new(Seed::new(1), &device);
/// let config = ResNetConfig::resnet50().with_width(8).with_ibn(Ibn::A);
/// let network = config.init(image, &init);
/// assert!(network.layer3[0].in1.is_some() && network.layer4[0].in1.is_none());
/// assert_eq!(network.forward(Tensor::ones([1, 3, 32, 16], &device)).dims(), [1, 256, 1, 1]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ibn {
    /// No instance normalisation.
    #[default]
    None,
    /// IBN-a: on the first half of the channels after the first convolution of every block in stages 1 to 3.
    A,
    /// IBN-b: in the stem, and after the residual addition of the last block in stages 1 and 2.
    B,
}

/// Where a residual block uses instance normalisation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceNormed {
    /// No instance normalisation.
    #[default]
    None,
    /// On the first half of the channels after the first convolution, as in IBN-a.
    Half,
    /// On all channels after the residual addition, as in IBN-b.
    Sum,
}

impl Ibn {
    /// Returns the setting of a block; `stage` counts from 0, and `last` marks the last block of the stage.
    pub(super) fn in_block(self, stage: usize, last: bool) -> InstanceNormed {
        match self {
            Self::A if stage < 3 => InstanceNormed::Half,
            Self::B if stage < 2 && last => InstanceNormed::Sum,
            _ => InstanceNormed::None,
        }
    }
}
