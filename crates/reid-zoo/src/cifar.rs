//! Networks for the classification of small images, such as those of CIFAR (He et al., CVPR 2016,
//! arXiv:1512.03385; Huang et al., CVPR 2017, arXiv:1608.06993).

use reid_nn::{
    attention::{AttentionConfig, RgaChannelConfig, RgaSpatialConfig},
    backbone::{DenseNetConfig, ResNetConfig},
    head::{ClassifierInit, PooledHeadConfig},
};

use crate::{Architecture, NetworkConfig};

/// The networks of table 7 of relation-aware global attention (Zhang et al., CVPR 2020, arXiv:1904.02998),
/// and those they are compared with.
///
/// ```
/// use reid_core::InputSize;
/// use reid_nn::Network;
/// use reid_zoo::Architecture;
///
/// let network = Architecture::cifar_resnet(20).with_rga(1, 4);
/// assert_eq!(network.output(InputSize::new(32, 32), 10).embedding, 64);
/// ```
impl Architecture {
    /// ResNet-(6n + 2) for images of 32 x 32, with the initial weights of the common implementations.
    ///
    /// # Panics
    /// If the depth is not 6n + 2 for an n of at least 1.
    #[must_use]
    pub fn cifar_resnet(depth: usize) -> Self {
        Self::cifar_resnet_from(ResNetConfig::cifar(depth))
    }

    /// A `ResNet` with average pooling and a classifier whose initial weights are normal.
    pub(crate) fn cifar_resnet_from(backbone: ResNetConfig) -> Self {
        let none = AttentionConfig::Chain(Vec::new());
        Self::ResNet(NetworkConfig {
            backbone: backbone.inside(None).after(&[], none),
            head: PooledHeadConfig::new().with_init(ClassifierInit::KaimingNormal),
        })
    }

    /// A `DenseNet` with average pooling and a classifier whose initial biases are 0.
    #[must_use]
    pub fn densenet(backbone: DenseNetConfig) -> Self {
        Self::DenseNet(NetworkConfig {
            backbone: backbone.after(&[], AttentionConfig::Chain(Vec::new())),
            head: PooledHeadConfig::new().with_init(ClassifierInit::ZeroBias),
        })
    }

    /// Replaces the attention of a `ResNet` or a `DenseNet` for classification by RGA-SC after one stage,
    /// which counts from 1. `ratio` is both s₁ and s₂. Other architectures are unchanged.
    ///
    /// | network of table 7 | after | ratio | parameters that are added |
    /// |---|---|---|---|
    /// | ResNet-110 | stage 1 | 4 | 1,329,772 |
    /// | DenseNet-BC-100 | stage 1, with its transition | 8 | 48,505 |
    /// | DenseNet-100 | stage 1, with its transition | 8 as the text says, 4 by the number of parameters | 142,088 or 286,924 |
    ///
    /// The paper states no epochs, learning rates or seeds for CIFAR. For the plain `DenseNet` it names a
    /// feature map of 16 x 16 x 108, which only the DenseNet-BC has.
    #[must_use]
    pub fn with_rga(self, stage: usize, ratio: usize) -> Self {
        let rga = AttentionConfig::Chain(vec![
            RgaSpatialConfig::new().with_s1(ratio).with_s2(ratio).into(),
            RgaChannelConfig::new().with_s1(ratio).with_s2(ratio).into(),
        ]);
        match self {
            Self::ResNet(network) => network.with_attention(&[stage], rga).into(),
            Self::DenseNet(network) => network.with_attention(&[stage], rga).into(),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use reid_core::{InputSize, Seed};
    use reid_nn::{Init, Network, parameters};

    use super::*;

    const SIZE: InputSize = InputSize::new(32, 32);

    fn count(network: &Architecture, classes: usize) -> usize {
        let device = Device::default();
        parameters::count(&network.init(SIZE, classes, &Init::new(Seed::new(1), &device)))
    }

    /// The parameters of table 7 in millions, with the number of classes for which they fit.
    #[test]
    fn parameters_are_those_of_table_7() {
        let resnet = Architecture::cifar_resnet;
        let densenet = |backbone| Architecture::densenet(backbone);
        let bc = DenseNetConfig::cifar_bc;
        let cases = [
            (resnet(110), 10, 1_727_962),
            (resnet(218), 10, 3_477_850),
            (resnet(110).with_rga(1, 4), 10, 1_727_962 + 1_329_772), // 3.06 M, "3.0M"
            (densenet(DenseNetConfig::cifar(100)), 10, 6_979_642),
            (
                densenet(DenseNetConfig::cifar(100)).with_rga(1, 4),
                10,
                7_266_566,
            ), // "7.3M"
            (densenet(bc(100)), 100, 800_032),
            (densenet(bc(115)), 100, 967_636),
            (densenet(bc(100)).with_rga(1, 8), 100, 848_537), // 0.85 M
        ];
        for (network, classes, expected) in cases {
            assert_eq!(count(&network, classes), expected, "{network:?}");
        }
    }
}
