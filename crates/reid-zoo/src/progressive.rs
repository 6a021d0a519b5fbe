//! Progressive feature `CutMix` and Batch `DropBlock` on a ResNet-50 (Zhang et al., Grad-CAM guided
//! progressive feature `CutMix` for classification; Dai et al., ICCV 2019, arXiv:1811.07130).

use reid_nn::{
    ReidModel,
    backbone::{ResNet, ResNetConfig},
    head::{BranchedHead, BranchedHeadConfig},
};

use crate::NetworkConfig;

/// Configuration of [`ProgressiveCutMix`], [`BatchDropBlock`] and the networks that they are compared with.
///
/// | row of Tables 2 and 3 | constructor |
/// |---|---|
/// | G | [`global`](BranchedConfig::global) |
/// | + PC1, + PC2 | [`progressive_cut_mix`](BranchedConfig::progressive_cut_mix) with 1 or 2 |
/// | BDB\*, + BDB1 | [`batch_drop_block`](BranchedConfig::batch_drop_block) with 1 |
/// | BDB\*3, + BDB2 | [`batch_drop_block`](BranchedConfig::batch_drop_block) with 2 |
///
/// The partners (Table 4), and the size and number of the patches (Figure 3), are settings of the
/// [`CutMix`](reid_nn::cut_mix::CutMix) of each branch.
///
/// ```
/// use reid_core::InputSize;
/// use reid_nn::Network;
/// use reid_zoo::BranchedConfig;
///
/// let size = InputSize::new(384, 128);
/// assert_eq!(BranchedConfig::progressive_cut_mix(2).output(size, 751).features, [512, 1024, 512]);
/// assert_eq!(BranchedConfig::batch_drop_block(1).output(size, 751).embedding, 1536);
/// ```
pub type BranchedConfig = NetworkConfig<ResNetConfig, BranchedHeadConfig>;

/// Progressive feature `CutMix`: a global branch, and further branches with feature `CutMix` in training. The patches
/// with the highest Grad-CAM of the branch before are replaced.
///
/// ```text
/// T = ResNet(image)           last stride 1     [batch, 2048, height/16, width/16]
/// f = [f_G, f_AC1, f_AC2]     the embedding     [batch, 512 + 1024 + 512]
/// ```
///
/// The head is [`BranchedHead`]. In evaluation, no features are mixed.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{InputSize, Seed};
/// use reid_nn::{Network, Init, backbone::ResNetConfig};
/// use reid_zoo::BranchedConfig;
///
/// let mut config = BranchedConfig::progressive_cut_mix(2);
/// config.backbone = ResNetConfig::resnet18().with_width(8).with_last_stride(1);
/// let (size, device) = (InputSize::new(192, 64), Device::default()); // feature maps of 12 x 4
/// let init = Init::new(Seed::new(1), &device);
/// let model = config.init(size, 751, &init);
/// assert_eq!(model.embed(Tensor::ones([2, 3, 192, 64], &device)).dims(), [2, 2048]);
/// ```
pub type ProgressiveCutMix = ReidModel<ResNet, BranchedHead>;

/// Batch `DropBlock`: a global branch, and branches that drop a rectangle of the feature map in training. The
/// rectangle is the same for all images of a batch.
///
/// ```text
/// T = ResNet(image)      last stride 1     [batch, 2048, height/16, width/16]
/// f = [f_G, f_BDB]       the embedding     [batch, 512 + 1024]
/// ```
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{InputSize, Seed};
/// use reid_nn::{Network, Init, backbone::ResNetConfig};
/// use reid_zoo::{BatchDropBlock, BranchedConfig};
///
/// let mut config = BranchedConfig::batch_drop_block(1);
/// config.backbone = ResNetConfig::resnet18().with_width(8).with_last_stride(1);
/// let (size, device) = (InputSize::new(64, 32), Device::default());
/// let init = Init::new(Seed::new(1), &device);
/// let model: BatchDropBlock = config.init(size, 751, &init);
/// assert_eq!(model.embed(Tensor::ones([2, 3, 64, 32], &device)).dims(), [2, 1536]);
/// ```
pub type BatchDropBlock = ReidModel<ResNet, BranchedHead>;

impl BranchedConfig {
    fn resnet50(head: BranchedHeadConfig) -> Self {
        Self {
            backbone: ResNetConfig::resnet50().with_last_stride(1),
            head,
        }
    }

    /// Only the global branch ("G"), with an embedding of 512 dimensions.
    #[must_use]
    pub fn global() -> Self {
        Self::resnet50(BranchedHeadConfig::new())
    }

    /// Progressive feature `CutMix` with up to 2 attentive branches; 2 in the paper.
    ///
    /// # Panics
    /// If `branches` is more than 2. Further branches, with their dimensions, can be added to
    /// [`branches`](BranchedHeadConfig::branches).
    #[must_use]
    pub fn progressive_cut_mix(branches: usize) -> Self {
        Self::resnet50(BranchedHeadConfig::progressive_cut_mix(branches))
    }

    /// Batch `DropBlock` with up to 2 branches, each with its own random rectangles; 1 in its paper.
    ///
    /// # Panics
    /// If `branches` is more than 2. Further branches, with their dimensions, can be added to
    /// [`branches`](BranchedHeadConfig::branches).
    #[must_use]
    pub fn batch_drop_block(branches: usize) -> Self {
        Self::resnet50(BranchedHeadConfig::batch_drop_block(branches))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_plain_json() {
        let json =
            serde_json::to_value(BranchedConfig::progressive_cut_mix(1)).expect("plain data");
        let expected = serde_json::json!({
            "global": 512,
            "branches": [{
                "dimensions": 1024,
                "augment": { "cut-mix": {
                    "mix": {
                        "patches": { "height": 3, "width": 2 },
                        "cut": 6,
                        "partner": "negative",
                        "partner_gradient": "flows",
                        "on_empty_cam": "cut"
                    },
                    "cam_source": "closed-form"
                } }
            }]
        });
        assert_eq!(json["head"], expected);
        let read: BranchedConfig = serde_json::from_value(json).expect("its own JSON");
        assert_eq!(read.head, BranchedConfig::progressive_cut_mix(1).head);
    }

    #[test]
    #[should_panic(expected = "up to 2 branches after the global one, found 3")]
    fn more_branches_than_published_are_refused() {
        let _ = BranchedConfig::progressive_cut_mix(3);
    }
}
