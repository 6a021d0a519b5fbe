//! `MobileNetV2` with a pooled head (Sandler et al., `MobileNetV2`, CVPR 2018, arXiv:1801.04381).

use reid_nn::{
    ReidModel,
    backbone::{MobileNetV2, MobileNetV2Config},
    block::Identity,
    head::{PooledHead, PooledHeadConfig},
};

use crate::NetworkConfig;

/// Configuration of [`MobileNetReid`]: the `network` of a recipe. `A` is attention after its stages.
pub type MobileNetReidConfig<A = ()> = NetworkConfig<MobileNetV2Config<A>, PooledHeadConfig>;

/// A `MobileNetV2` whose pooled features are the embedding, as in torchreid.
///
/// ```text
/// x = MobileNetV2(image)     [batch, 1280, height/32, width/32]
/// f = mean_hw(x)             the embedding                [batch, 1280]
/// y = W f + b                the identity loss sees y     [batch, classes]
/// ```
///
/// [`load_published`](crate::weights::load_published) loads the weights of torchvision and of torchreid, whose
/// networks differ: see [`MobileNetV2Config`].
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{InputSize, Seed};
/// use reid_nn::{Init, Network, backbone::MobileNetV2Config};
/// use reid_zoo::MobileNetReidConfig;
///
/// let config = MobileNetReidConfig::from_backbone(MobileNetV2Config::x1_0());
/// let (size, device) = (InputSize::new(64, 32), Device::default());
/// let model = config.init(size, 751, &Init::new(Seed::new(1), &device));
/// assert_eq!(model.embed(Tensor::ones([2, 3, 64, 32], &device)).dims(), [2, 1280]);
/// ```
pub type MobileNetReid<A = Identity> = ReidModel<MobileNetV2<A>, PooledHead>;

impl<A> MobileNetReidConfig<A> {
    /// The published network with this backbone: average pooling and a linear classifier.
    #[must_use]
    pub fn from_backbone(backbone: MobileNetV2Config<A>) -> Self {
        Self {
            backbone,
            head: PooledHeadConfig::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use reid_core::{InputSize, Seed};
    use reid_nn::{Init, Network, parameters};

    use super::*;

    /// torchvision's total with 1000 classes.
    #[test]
    fn the_parameter_count_is_the_published_one() {
        let device = Device::default();
        let config = MobileNetReidConfig::from_backbone(MobileNetV2Config::x1_0());
        let model = config.init(InputSize::PERSON, 1000, &Init::new(Seed::new(1), &device));
        assert_eq!(parameters::count(&model), 3_504_872);
    }
}
