//! Relation-Aware Global Attention in a ResNet-50 (Zhang et al., CVPR 2020, arXiv:1904.02998).

use std::path::Path;

use burn::tensor::Device;
use reid_core::InputSize;
use reid_nn::{
    Block, BlockConfig, HeadConfig, OutputShape, ReidModel,
    attention::{RgaChannel, RgaChannelConfig, RgaSpatial, RgaSpatialConfig},
    backbone::{ResNet, ResNetConfig},
    block::Nothing,
    head::{BnNeck, BnNeckConfig},
};
use serde::{Deserialize, Serialize};

use crate::{Error, weights::Weights};

/// Configuration of [`RgaResNet50`]: the `network` of a recipe. `A` is the attention after the
/// stages; by default RGA-SC, the paper's module.
///
/// Every row of the paper's tables is an `A`:
///
/// | row | attention |
/// |---|---|
/// | Baseline | `()` |
/// | RGA-S, RGA-C | `RgaSpatialConfig`, `RgaChannelConfig`; "w/o" with their `terms` |
/// | RGA-SC, RGA-CS | a tuple of both, in this order or the other |
/// | RGA-S//C, FC-S//C | `ParallelConfig` of both |
/// | SE, CBAM, FC | their configurations, CBAM-CS a tuple |
/// | Non-local, + RGA-S | `NonLocalConfig`, a tuple of it and `RgaSpatialConfig` |
///
/// ```
/// use reid_core::InputSize;
/// use reid_nn::attention::{NonLocalConfig, RgaSpatialConfig};
/// use reid_zoo::RgaConfig;
///
/// let config = RgaConfig::resnet50(); // RGA-SC after all four stages
/// assert_eq!(config.output(InputSize::PERSON, 767).embedding, 2048);
///
/// let attention = (NonLocalConfig::new(), RgaSpatialConfig::new());
/// let config = config.with_attention(&[3, 4], attention); // another row of Table 3
/// assert_eq!(config.backbone.after_stages, [3, 4]);
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RgaConfig<A = (RgaSpatialConfig, RgaChannelConfig)> {
    /// The backbone; the paper's has a last stride of 1, and attention after every stage.
    pub backbone: ResNetConfig<(), A>,
    /// The head.
    pub head: BnNeckConfig,
}

/// A ResNet-50 with attention after its stages, and a [`BnNeck`].
///
/// ```text
/// xₛ = attention(layerₛ(xₛ₋₁))     s = 1 … 4, last stride 1   [batch, 2048, height/16, width/16]
/// f = mean_hw(x₄)                  the triplet loss sees f    [batch, 2048]
/// g = BN(f)                        the descriptor             [batch, 2048]
/// y = W g                          the identity loss sees y   [batch, classes]
/// ```
///
/// Each gate starts near one half, so a trunk with pretrained weights gives features of another
/// scale than it was trained for until the normalisations have adapted: train before evaluating.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::InputSize;
/// use reid_zoo::RgaConfig;
///
/// let mut config = RgaConfig::resnet50();
/// config.backbone = config.backbone.with_width(8);
/// let (size, device) = (InputSize::new(64, 32), Device::default());
/// let model = config.init(size, 767, &device);
/// assert_eq!(model.embed(Tensor::ones([2, 3, 64, 32], &device)).dims(), [2, 256]);
/// ```
pub type RgaResNet50<A = (RgaSpatial, RgaChannel)> = ReidModel<ResNet<Nothing, A>, BnNeck>;

impl RgaConfig {
    /// The paper's network: ResNet-50 with a last stride of 1, RGA-SC after all four stages.
    #[must_use]
    pub fn resnet50() -> Self {
        let attention = (RgaSpatialConfig::new(), RgaChannelConfig::new());
        Self {
            backbone: ResNetConfig::resnet50()
                .with_last_stride(1)
                .after_stages(attention),
            head: BnNeckConfig::new(),
        }
    }
}

impl<A> RgaConfig<A> {
    /// Another attention, after each of `stages`, counted from 1.
    #[must_use]
    pub fn with_attention<B>(self, stages: &[usize], attention: B) -> RgaConfig<B> {
        RgaConfig {
            backbone: self.backbone.after(stages, attention),
            head: self.head,
        }
    }
}

impl<A: BlockConfig> RgaConfig<A> {
    /// Builds the network for images of size `input` and `classes` training identities.
    ///
    /// # Panics
    /// If `classes` is 0, or the numbers of the backbone do not fit the images.
    #[must_use]
    pub fn init(&self, input: InputSize, classes: usize, device: &Device) -> RgaResNet50<A::Block> {
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

/// Attention that the authors published weights of: RGA-S, RGA-C and RGA-SC.
pub trait Published: Block {
    /// Where it has which part: the authors' word for it, and its place here.
    const PARTS: &'static [(&'static str, &'static str)];
}

impl Published for RgaSpatial {
    const PARTS: &'static [(&'static str, &'static str)] = &[("spatial", "")];
}

impl Published for RgaChannel {
    const PARTS: &'static [(&'static str, &'static str)] = &[("channel", "")];
}

impl Published for (RgaSpatial, RgaChannel) {
    const PARTS: &'static [(&'static str, &'static str)] = &[("spatial", "0."), ("channel", "1.")];
}

/// The authors' names of the layers, and those here.
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

/// Loads a checkpoint of the authors' code
/// (github.com/microsoft/Relation-Aware-Global-Attention-Networks) into a network of the same size and
/// classes, strictly.
///
/// Its keys are `backbone.rga_att1.gg_spatial.0.weight` and the like, with `feat_bn` and `cls` for the
/// head, and perhaps `module.` before all of them.
///
/// # Errors
/// As [`Weights::open`] and [`Weights::load_into`].
pub fn load_published<A: Published>(
    model: &mut RgaResNet50<A>,
    path: impl AsRef<Path>,
) -> Result<(), Error> {
    let mut weights = Weights::open(path)?
        .renamed("module.", "")
        .renamed("feat_bn.", "head.bottleneck.")
        .renamed("cls.", "head.classifier.");
    for stage in 0..4 {
        for (part, place) in A::PARTS {
            for (theirs, layer, ours) in LAYERS {
                let from = format!("backbone.rga_att{}.{theirs}_{part}.{layer}", stage + 1);
                let to = format!("backbone.after.{stage}.{place}nodes.{ours}");
                weights = weights.renamed(&from, &to);
            }
        }
    }
    weights.load_into(model)
}

#[cfg(test)]
mod tests {
    use reid_nn::parameters;

    use super::*;

    #[test]
    fn the_network_is_as_large_as_published() {
        let device = Device::default();
        let config = RgaConfig::resnet50();
        let image = InputSize::PERSON.rgb();
        let trunk = config.backbone.clone().after(&[], ());
        let with = parameters::count(&config.backbone.init(image, &device));
        let without = parameters::count(&trunk.init(image, &device));
        assert_eq!((without, with - without), (23_508_032, 6_314_096));
    }

    #[test]
    fn a_recipe_holds_it_as_plain_json() {
        let json = serde_json::to_value(RgaConfig::resnet50()).expect("plain data");
        let rga = serde_json::json!({ "s1": 8, "s2": 8, "terms": "both" });
        assert_eq!(json["backbone"]["after"], serde_json::json!([rga, rga]));
        assert_eq!(
            json["backbone"]["after_stages"],
            serde_json::json!([1, 2, 3, 4])
        );
        let read: RgaConfig = serde_json::from_value(json).expect("its own JSON");
        assert_eq!(read.backbone.after.0.s1, 8);
    }
}
