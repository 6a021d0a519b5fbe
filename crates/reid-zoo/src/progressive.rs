//! Progressive feature `CutMix` and Batch `DropBlock` on a ResNet-50 (Zhang et al., Grad-CAM guided
//! progressive feature `CutMix` for classification; Dai et al., ICCV 2019, arXiv:1811.07130).

use reid_nn::{
    ReidModel,
    backbone::{ResNet, ResNetConfig},
    head::{BranchedHead, BranchedHeadConfig},
};

use crate::NetworkConfig;

/// Configuration of [`ProgressiveCutMix`], [`BatchDropBlock`] and what they are compared with.
///
/// | row of Tables 2 and 3 | constructor |
/// |---|---|
/// | G | [`global`](BranchedConfig::global) |
/// | + PC1, + PC2 | [`progressive_cut_mix`](BranchedConfig::progressive_cut_mix) with 1 or 2 |
/// | BDB\*, + BDB1 | [`batch_drop_block`](BranchedConfig::batch_drop_block) with 1 |
/// | BDB\*3, + BDB2 | [`batch_drop_block`](BranchedConfig::batch_drop_block) with 2 |
///
/// Donors (Table 4), cells and their number (Figure 3) are those of
/// [`CutMix`](reid_nn::cut_mix::CutMix) in each branch.
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

/// Progressive feature `CutMix`: a global branch, and branches whose features are cut and mixed where
/// Grad-CAM says that the branch before them looked.
///
/// ```text
/// T = ResNet(image)           last stride 1     [batch, 2048, height/16, width/16]
/// f = [f_G, f_AC1, f_AC2]     the descriptor    [batch, 512 + 1024 + 512]
/// ```
///
/// The head is [`BranchedHead`]; nothing is mixed in evaluation.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{InputSize, Seed};
/// use reid_nn::{Network, Init, backbone::ResNetConfig};
/// use reid_zoo::BranchedConfig;
///
/// let mut config = BranchedConfig::progressive_cut_mix(2);
/// config.backbone = ResNetConfig::resnet18().with_width(8).with_last_stride(1);
/// let (size, device) = (InputSize::new(192, 64), Device::default()); // maps of 12 x 4
/// let init = Init::new(Seed::new(1), &device);
/// let model = config.init(size, 751, &init);
/// assert_eq!(model.embed(Tensor::ones([2, 3, 192, 64], &device)).dims(), [2, 2048]);
/// ```
pub type ProgressiveCutMix = ReidModel<ResNet, BranchedHead>;

/// Batch `DropBlock`: a global branch, and branches of which a rectangle is dropped in training, the
/// same in the whole batch.
///
/// ```text
/// T = ResNet(image)      last stride 1     [batch, 2048, height/16, width/16]
/// f = [f_G, f_BDB]       the descriptor    [batch, 512 + 1024]
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

    /// The global branch alone ("G"): 512 dimensions.
    #[must_use]
    pub fn global() -> Self {
        Self::resnet50(BranchedHeadConfig::new())
    }

    /// Progressive feature `CutMix` with this many attentive branches; the paper's has 2.
    ///
    /// # Panics
    /// If there are more than 2: give further ones their dimensions in
    /// [`branches`](BranchedHeadConfig::branches).
    #[must_use]
    pub fn progressive_cut_mix(branches: usize) -> Self {
        Self::resnet50(BranchedHeadConfig::progressive_cut_mix(branches))
    }

    /// Batch `DropBlock` with this many branches, each with rectangles of its own; its paper's has 1.
    ///
    /// # Panics
    /// If there are more than 2: give further ones their dimensions in
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
    fn a_recipe_holds_it_as_plain_json() {
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
