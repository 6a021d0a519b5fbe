//! Relation-Aware Global Attention in a ResNet-50 (Zhang et al., CVPR 2020, arXiv:1904.02998). Tables are
//! numbered as in version 1 of the paper.

use std::path::Path;

use reid_nn::{
    Block,
    attention::{RgaChannel, RgaChannelConfig, RgaSpatial, RgaSpatialConfig},
};

use crate::{BagOfTricks, BagOfTricksConfig, Error, weights::Weights};

/// Configuration of [`RgaResNet50`]: the strong baseline with RGA-SC after its stages.
///
/// Each row of the paper's Tables 1 to 3 is the same network with another attention after its stages:
///
/// | row | attention |
/// |---|---|
/// | Baseline | `()` |
/// | RGA-S, RGA-C | `RgaSpatialConfig`, `RgaChannelConfig`; their `terms` for the rows "w/o" |
/// | RGA-SC, RGA-CS | a tuple of both, in the order of the name |
/// | RGA-S//C, FC-S//C | `ParallelConfig` of both |
/// | SE, CBAM, FC | the configurations of these names; a tuple for CBAM-CS |
/// | Non-local, + RGA-S | `NonLocalConfig`; a tuple of it and `RgaSpatialConfig` |
///
/// ```
/// use reid_core::InputSize;
/// use reid_nn::{Network, attention::{NonLocalConfig, RgaSpatialConfig}};
/// use reid_zoo::RgaConfig;
///
/// let config = RgaConfig::rga_resnet50(); // RGA-SC after all four stages
/// assert_eq!(config.output(InputSize::PERSON, 767).embedding, 2048);
///
/// let attention = (NonLocalConfig::new(), RgaSpatialConfig::new());
/// let config = config.with_attention(&[3, 4], attention); // another row of Table 3
/// assert_eq!(config.backbone.after.len(), 2);
/// ```
pub type RgaConfig = BagOfTricksConfig<(RgaSpatialConfig, RgaChannelConfig)>;

/// The strong baseline with RGA-SC after its stages.
///
/// ```text
/// xₛ = attention(layerₛ(xₛ₋₁))     s = 1 … 4, last stride 1   [batch, 2048, height/16, width/16]
/// f = mean_hw(x₄)                  the triplet loss sees f    [batch, 2048]
/// g = BN(f)                        the embedding              [batch, 2048]
/// y = W g                          the identity loss sees y   [batch, classes]
/// ```
///
/// Each gate starts near 0.5 and changes the scale of the features. A backbone with pretrained weights therefore has
/// to be trained before it is evaluated, so that its batch normalisations adapt.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{InputSize, Seed};
/// use reid_nn::{Network, Init};
/// use reid_zoo::RgaConfig;
///
/// let mut config = RgaConfig::rga_resnet50();
/// config.backbone = config.backbone.with_width(8);
/// let (size, device) = (InputSize::new(64, 32), Device::default());
/// let init = Init::new(Seed::new(1), &device);
/// let model = config.init(size, 767, &init);
/// assert_eq!(model.embed(Tensor::ones([2, 3, 64, 32], &device)).dims(), [2, 256]);
/// ```
pub type RgaResNet50 = BagOfTricks<(RgaSpatial, RgaChannel)>;

impl RgaConfig {
    /// The paper's network: a ResNet-50 with a last stride of 1, and RGA-SC after all four stages.
    #[must_use]
    pub fn rga_resnet50() -> Self {
        let attention = (RgaSpatialConfig::new(), RgaChannelConfig::new());
        BagOfTricksConfig::resnet50().with_attention(&[1, 2, 3, 4], attention)
    }
}

/// The attention blocks that the authors' code can build: RGA-S, RGA-C and RGA-SC.
pub trait AuthorsLayout: Block {
    /// The name of each part in the authors' code, and the prefix of its parameters in this block.
    const PARTS: &'static [(&'static str, &'static str)];
}

impl AuthorsLayout for RgaSpatial {
    const PARTS: &'static [(&'static str, &'static str)] = &[("spatial", "")];
}

impl AuthorsLayout for RgaChannel {
    const PARTS: &'static [(&'static str, &'static str)] = &[("channel", "")];
}

impl AuthorsLayout for (RgaSpatial, RgaChannel) {
    const PARTS: &'static [(&'static str, &'static str)] = &[("spatial", "0."), ("channel", "1.")];
}

/// The name and the index of each layer in the authors' code, and its name in this library.
const LAYERS: [(&str, &str, &str); 8] = [
    ("theta", "", "theta."),
    ("phi", "", "phi."),
    ("gx", "", "psi."),
    ("gg", "", "varphi."),
    ("W", "0.", "w1.0."),
    ("W", "1.", "w1.1."),
    ("W", "3.", "w2.0."),
    ("W", "4.", "w2.1."),
];

/// Loads a checkpoint of the authors' code strictly, such as `checkpoint_600.pth.tar`.
///
/// The code is at github.com/microsoft/Relation-Aware-Global-Attention-Networks. The network must have the size and the
/// number of classes of the checkpoint. Keys of the attention look like `backbone.rga_att1.gg_spatial.0.weight`; those
/// of the head start with `feat_bn` and `cls`. All keys may have the prefix `module.`.
///
/// ```no_run
/// use burn::tensor::Device;
/// use reid_core::InputSize;
/// use reid_nn::{Init, Network};
/// use reid_zoo::{RgaConfig, rga};
///
/// let device = Device::default();
/// let config = RgaConfig::rga_resnet50();
/// let mut model = config.init(InputSize::PERSON, 767, &Init::empty(&device)); // CUHK03
/// rga::load_authors(&mut model, "checkpoint_600.pth.tar")?;
/// # Ok::<(), reid_zoo::Error>(())
/// ```
///
/// # Errors
/// As [`Weights::open`] and [`Weights::load_into`].
pub fn load_authors<A: AuthorsLayout>(
    model: &mut BagOfTricks<A>,
    path: impl AsRef<Path>,
) -> Result<(), Error> {
    let mut weights = Weights::open(path)?
        .renamed("module.", "")
        .renamed("feat_bn.", "head.bottleneck.")
        .renamed("cls.", "head.classifier.");
    for stage in 0..4 {
        for (part, prefix) in A::PARTS {
            for (theirs, layer, ours) in LAYERS {
                let from = format!("backbone.rga_att{}.{theirs}_{part}.{layer}", stage + 1);
                let to = format!("backbone.after.{stage}.{prefix}nodes.{ours}");
                weights = weights.renamed(&from, &to);
            }
        }
    }
    weights.load_into(model)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use reid_core::InputSize;
    use reid_nn::{BlockConfig, Init, parameters};

    use super::*;

    #[test]
    fn parameter_counts_match_a_calculation_by_hand() {
        let device = Device::default();
        let config = RgaConfig::rga_resnet50();
        let image = InputSize::PERSON.rgb();
        let backbone = config.backbone.clone().without_after();
        let with = parameters::count(&config.backbone.init(image, &Init::empty(&device)));
        let without = parameters::count(&backbone.init(image, &Init::empty(&device)));
        // The parameters of the attention after each stage, as in the tests of the blocks.
        let spatial = 1_082_178 + 164_898 + 398_154 + 1_578_570;
        let channel = 1_590_994 + 164_898 + 270_754 + 1_063_650;
        assert_eq!((without, with - without), (23_508_032, spatial + channel));
    }

    #[test]
    fn the_configuration_is_plain_json() {
        let json = serde_json::to_value(RgaConfig::rga_resnet50()).expect("plain data");
        let rga = serde_json::json!({ "s1": 8, "s2": 8, "terms": "both" });
        let last = serde_json::json!({ "stage": 4, "block": [rga, rga] });
        assert_eq!(json["backbone"]["after"][3], last);
        let read: RgaConfig = serde_json::from_value(json).expect("its own JSON");
        assert_eq!(read.backbone.after[0].block.0.s1, 8);
    }
}
