//! Bag of Tricks: a strong baseline of a `ResNet` and a `BNNeck` (Luo et al., CVPRW 2019,
//! arXiv:1903.07071).

use reid_nn::{
    ReidModel,
    backbone::{ResNet, ResNetConfig},
    block::Identity,
    head::{BnNeck, BnNeckConfig},
};

use crate::NetworkConfig;

/// Configuration of [`BagOfTricks`], such as the `network` of a recipe. `A` configures the attention after stages.
///
/// ```
/// use reid_core::InputSize;
/// use reid_nn::Network;
/// use reid_zoo::BagOfTricksConfig;
///
/// let config = BagOfTricksConfig::resnet50();
/// assert_eq!(config.output(InputSize::PERSON, 751).embedding, 2048);
///
/// let json = serde_json::to_string(&config)?;
/// let read: BagOfTricksConfig = serde_json::from_str(&json)?;
/// assert_eq!(read.backbone, config.backbone);
/// # Ok::<(), serde_json::Error>(())
/// ```
pub type BagOfTricksConfig<A = ()> = NetworkConfig<ResNetConfig<(), A>, BnNeckConfig>;

/// The strong baseline: a `ResNet` whose last stage keeps its resolution, and a [`BnNeck`].
///
/// ```text
/// x = ResNet(image)       last stride 1               [batch, 2048, height/16, width/16]
/// f = mean_hw(x)          the triplet loss sees f     [batch, 2048]
/// g = BN(f)               the embedding               [batch, 2048]
/// y = W g                 the identity loss sees y    [batch, classes]
/// ```
///
/// The stem is that of torchvision, with a `ReLU`. The stem of the authors' code has none.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{InputSize, Seed};
/// use reid_nn::{Network, Init, backbone::ResNetConfig};
/// use reid_zoo::BagOfTricksConfig;
///
/// let mut config = BagOfTricksConfig::resnet50();
/// config.backbone = ResNetConfig::resnet18().with_width(8).with_last_stride(1);
/// let (size, device) = (InputSize::new(64, 32), Device::default());
/// let init = Init::new(Seed::new(1), &device);
/// let model = config.init(size, 751, &init);
/// assert_eq!(model.embed(Tensor::ones([2, 3, 64, 32], &device)).dims(), [2, 64]);
/// ```
pub type BagOfTricks<A = Identity> = ReidModel<ResNet<Identity, A>, BnNeck>;

impl BagOfTricksConfig {
    /// The paper's network: ResNet-50 with a last stride of 1, average pooling, and the embedding
    /// after the neck.
    #[must_use]
    pub fn resnet50() -> Self {
        Self {
            backbone: ResNetConfig::resnet50().with_last_stride(1),
            head: BnNeckConfig::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use reid_core::InputSize;
    use reid_nn::BlockConfig;

    use super::*;

    #[test]
    fn the_configuration_is_plain_json() {
        let json = serde_json::to_value(BagOfTricksConfig::resnet50()).expect("plain data");
        let expected = serde_json::json!({
            "backbone": {
                "kind": "bottleneck",
                "blocks": [3, 4, 6, 3],
                "width": 64,
                "groups": 1,
                "width_per_group": 64,
                "last_stride": 1,
                "stem": { "large": "padded" },
                "ibn": "none",
                "inside": null,
                "after": []
            },
            "head": { "pool": "average", "embedding": "after" }
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn the_last_stage_keeps_its_resolution() {
        let config = BagOfTricksConfig::resnet50();
        let map = config.backbone.output(InputSize::PERSON.rgb());
        assert_eq!(map.to_string(), "2048x16x8");
    }
}
