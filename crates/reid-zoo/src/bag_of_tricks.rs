//! Bag of Tricks: a strong baseline of a `ResNet` and a `BNNeck` (Luo et al., CVPRW 2019,
//! arXiv:1903.07071).

use burn::tensor::Device;
use reid_core::InputSize;
use reid_nn::{
    BlockConfig, HeadConfig, OutputShape, ReidModel,
    backbone::{ResNet, ResNetConfig},
    block::Nothing,
    head::{BnNeck, BnNeckConfig},
};
use serde::{Deserialize, Serialize};

/// Configuration of [`BagOfTricks`]: the `network` of a recipe. `A` is attention after its stages.
///
/// ```
/// use reid_core::InputSize;
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
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BagOfTricksConfig<A = ()> {
    /// The backbone; the paper's has a last stride of 1 and nothing after its stages.
    pub backbone: ResNetConfig<(), A>,
    /// The head.
    pub head: BnNeckConfig,
}

/// The strong baseline: a `ResNet` whose last stage keeps its resolution, and a [`BnNeck`].
///
/// ```text
/// x = ResNet(image)       last stride 1               [batch, 2048, height/16, width/16]
/// f = mean_hw(x)          the triplet loss sees f     [batch, 2048]
/// g = BN(f)               the descriptor              [batch, 2048]
/// y = W g                 the identity loss sees y    [batch, classes]
/// ```
///
/// The stem is torchvision's, with the `ReLU` that the authors' code leaves out.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::InputSize;
/// use reid_nn::backbone::ResNetConfig;
/// use reid_zoo::BagOfTricksConfig;
///
/// let mut config = BagOfTricksConfig::resnet50();
/// config.backbone = ResNetConfig::resnet18().with_width(8).with_last_stride(1);
/// let (size, device) = (InputSize::new(64, 32), Device::default());
/// let model = config.init(size, 751, &device);
/// assert_eq!(model.embed(Tensor::ones([2, 3, 64, 32], &device)).dims(), [2, 64]);
/// ```
pub type BagOfTricks<A = Nothing> = ReidModel<ResNet<Nothing, A>, BnNeck>;

impl BagOfTricksConfig {
    /// The paper's network: ResNet-50 with a last stride of 1, average pooling, and the descriptor
    /// after the neck.
    #[must_use]
    pub fn resnet50() -> Self {
        Self {
            backbone: ResNetConfig::resnet50().with_last_stride(1),
            head: BnNeckConfig::new(),
        }
    }
}

impl<A> BagOfTricksConfig<A> {
    /// Attention after each of `stages`, counted from 1, instead of what stood there.
    #[must_use]
    pub fn with_attention<B>(self, stages: &[usize], attention: B) -> BagOfTricksConfig<B> {
        BagOfTricksConfig {
            backbone: self.backbone.after(stages, attention),
            head: self.head,
        }
    }
}

impl<A: BlockConfig> BagOfTricksConfig<A> {
    /// Builds the network for images of size `input` and `classes` training identities.
    ///
    /// # Panics
    /// If `classes` is 0, or the numbers of backbone and attention do not fit the images.
    #[must_use]
    pub fn init(&self, input: InputSize, classes: usize, device: &Device) -> BagOfTricks<A::Block> {
        ReidModel::new(&self.backbone, &self.head, input, classes, device)
    }

    /// The shape of what the network gives.
    ///
    /// # Panics
    /// If the numbers of the backbone do not fit the images.
    #[must_use]
    pub fn output(&self, input: InputSize, classes: usize) -> OutputShape {
        self.head.output(self.backbone.output(input.rgb()), classes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_as_plain_json() {
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
                "inside": null,
                "after": null,
                "after_stages": []
            },
            "head": { "pool": "average", "descriptor": "after" }
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
