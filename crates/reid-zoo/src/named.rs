//! Names of networks, for command lines and settings.

use std::str::FromStr;

use reid_nn::{
    attention::{AttentionConfig, SqueezeExcitationConfig},
    backbone::{DenseNetConfig, MobileNetV2Config, OsNetConfig, ResNetConfig, Shortcut},
    head::BnNeckConfig,
};

use crate::{
    Architecture, BranchedConfig, FncConfig, LightMbnConfig, MobileNetReidConfig, NetworkConfig,
    OsNetReidConfig, RgaConfig,
};

/// A name and the function that builds its network.
type Named = (&'static str, fn() -> Architecture);

const NETWORKS: [Named; 39] = [
    ("resnet18", || baseline(ResNetConfig::resnet18())),
    ("resnet34", || baseline(ResNetConfig::resnet34())),
    ("resnet50", || baseline(ResNetConfig::resnet50())),
    ("resnet101", || baseline(ResNetConfig::resnet101())),
    ("resnet152", || baseline(ResNetConfig::resnet152())),
    ("resnext50", || baseline(ResNetConfig::resnext50())),
    ("resnext101", || baseline(ResNetConfig::resnext101())),
    ("se-resnext50", || se_baseline(ResNetConfig::se_resnext50())),
    ("se-resnext101", || {
        se_baseline(ResNetConfig::se_resnext101())
    }),
    ("rga-resnet50", || RgaConfig::rga_resnet50().into()),
    ("fnc", fnc),
    ("progressive-cut-mix", progressive),
    ("osnet-x1.0", || osnet(OsNetConfig::x1_0())),
    ("osnet-x0.75", || osnet(OsNetConfig::x0_75())),
    ("osnet-x0.5", || osnet(OsNetConfig::x0_5())),
    ("osnet-x0.25", || osnet(OsNetConfig::x0_25())),
    ("osnet-ibn-x1.0", || osnet(OsNetConfig::ibn_x1_0())),
    ("osnet-ain-x1.0", || osnet(OsNetConfig::ain_x1_0())),
    ("light-mbn", light_mbn),
    ("mobilenet-v2", || mobile(MobileNetV2Config::x1_0())),
    ("mobilenet-v2-x1.4", || mobile(MobileNetV2Config::x1_4())),
    ("mobilenet-v2-torchreid", || {
        mobile(MobileNetV2Config::torchreid_x1_0())
    }),
    ("mobilenet-v2-x1.4-torchreid", || {
        mobile(MobileNetV2Config::torchreid_x1_4())
    }),
    ("cifar-resnet20", || Architecture::cifar_resnet(20)),
    ("cifar-resnet32", || Architecture::cifar_resnet(32)),
    ("cifar-resnet44", || Architecture::cifar_resnet(44)),
    ("cifar-resnet56", || Architecture::cifar_resnet(56)),
    ("cifar-resnet110", || Architecture::cifar_resnet(110)),
    ("cifar-resnet218", || Architecture::cifar_resnet(218)),
    ("cifar-resnet20-b", || option_b(20)),
    ("cifar-resnet56-b", || option_b(56)),
    ("cifar-resnet110-b", || option_b(110)),
    ("cifar-densenet-40", || {
        Architecture::densenet(DenseNetConfig::cifar(40))
    }),
    ("cifar-densenet-100", || {
        Architecture::densenet(DenseNetConfig::cifar(100))
    }),
    ("cifar-densenet-115", || {
        Architecture::densenet(DenseNetConfig::cifar(115))
    }),
    ("cifar-densenet-100-bc", || {
        Architecture::densenet(DenseNetConfig::cifar_bc(100))
    }),
    ("cifar-densenet-115-bc", || {
        Architecture::densenet(DenseNetConfig::cifar_bc(115))
    }),
    ("cifar-resnet110-rga", || {
        Architecture::cifar_resnet(110).with_rga(1, 4)
    }),
    ("cifar-densenet-100-bc-rga", || {
        Architecture::densenet(DenseNetConfig::cifar_bc(100)).with_rga(1, 8)
    }),
];

fn baseline(backbone: ResNetConfig) -> Architecture {
    Architecture::baseline_with(backbone)
}

/// A `ResNet` with squeeze-and-excitation in its blocks, and a last stride of 1.
fn gated(
    backbone: ResNetConfig<SqueezeExcitationConfig>,
) -> ResNetConfig<Option<SqueezeExcitationConfig>> {
    let gate = backbone.inside.clone();
    backbone.with_last_stride(1).inside(Some(gate))
}

fn se_baseline(backbone: ResNetConfig<SqueezeExcitationConfig>) -> Architecture {
    let network = NetworkConfig {
        backbone: gated(backbone).after(&[], AttentionConfig::Chain(Vec::new())),
        head: BnNeckConfig::new(),
    };
    network.into()
}

fn fnc() -> Architecture {
    FncConfig::from_network(gated(ResNetConfig::se_resnext101())).into()
}

fn progressive() -> Architecture {
    let config = BranchedConfig::progressive_cut_mix(2);
    let network = NetworkConfig {
        backbone: config.backbone.inside(None),
        head: config.head,
    };
    network.into()
}

fn osnet(backbone: OsNetConfig) -> Architecture {
    let backbone = backbone.after(&[], AttentionConfig::Chain(Vec::new()));
    OsNetReidConfig::from_backbone(backbone).into()
}

fn light_mbn() -> Architecture {
    let network = OsNetConfig::x1_0().after(&[], AttentionConfig::Chain(Vec::new()));
    LightMbnConfig::from_network(network).into()
}

fn mobile(backbone: MobileNetV2Config) -> Architecture {
    let backbone = backbone.after(&[], AttentionConfig::Chain(Vec::new()));
    MobileNetReidConfig::from_backbone(backbone).into()
}

/// A `ResNet` for CIFAR whose shortcuts are projections.
fn option_b(depth: usize) -> Architecture {
    Architecture::cifar_resnet_from(ResNetConfig::cifar(depth).with_shortcut(Shortcut::Projection))
}

impl Architecture {
    /// The names of networks that can be [parsed](str::parse).
    pub fn names() -> impl Iterator<Item = &'static str> {
        NETWORKS.iter().map(|(name, _)| *name)
    }

    /// The name from which this network can be parsed; `None` if it has other settings than every named network.
    ///
    /// ```
    /// use reid_zoo::Architecture;
    ///
    /// let mut network: Architecture = "osnet-x0.25".parse()?;
    /// assert_eq!(network.name(), Some("osnet-x0.25"));
    /// if let Architecture::OsNet(config) = &mut network {
    ///     config.head.dimensions = 256;
    /// }
    /// assert_eq!(network.name(), None);
    /// # Ok::<(), reid_zoo::UnknownNetwork>(())
    /// ```
    #[must_use]
    pub fn name(&self) -> Option<&'static str> {
        let json = self.to_json();
        let mut networks = NETWORKS.iter();
        let named = networks.find(|(_, build)| build().to_json() == json);
        named.map(|(name, _)| *name)
    }
}

/// Parses the name of a backbone or a network. A ResNet becomes the strong baseline; OSNet and `MobileNetV2` have
/// the heads that they were published with.
///
/// `fnc` has an SE-ResNeXt-101, and `progressive-cut-mix` a ResNet-50 with two branches with feature `CutMix`.
///
/// Names that start with `cifar-` are classifiers of images of 32 x 32: `cifar-resnet20` is not a strong
/// baseline, as `resnet18` is. `-b` is for shortcuts with a projection, `-bc` for bottlenecks with
/// compression, and `-rga` for RGA-SC as in table 7 of its paper ([`Architecture::with_rga`]).
///
/// ```
/// use reid_core::InputSize;
/// use reid_nn::Network;
/// use reid_zoo::Architecture;
///
/// let network: Architecture = "osnet-x0.25".parse()?;
/// assert_eq!(network.output(InputSize::PERSON, 751).embedding, 512);
///
/// let error = "osnet".parse::<Architecture>().expect_err("no width");
/// assert!(error.to_string().starts_with("expected one of `resnet18`, "));
/// # Ok::<(), reid_zoo::UnknownNetwork>(())
/// ```
impl FromStr for Architecture {
    type Err = UnknownNetwork;

    fn from_str(name: &str) -> Result<Self, UnknownNetwork> {
        let mut networks = NETWORKS.iter();
        match networks.find(|(known, _)| *known == name) {
            Some((_, build)) => Ok(build()),
            None => Err(UnknownNetwork {
                name: name.to_owned(),
            }),
        }
    }
}

/// The name of a network is not one of [`Architecture::names`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected one of {}, found `{name}`", listed())]
pub struct UnknownNetwork {
    /// The name.
    pub name: String,
}

fn listed() -> String {
    let names = Architecture::names().map(|name| format!("`{name}`"));
    names.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use reid_core::{InputSize, Problems};
    use reid_nn::{Init, Network, parameters};

    use super::*;

    /// The parameters are those of the published backbone, of a neck and of a classifier.
    #[test]
    fn names_of_gated_networks_keep_their_gates() {
        let device = Device::default();
        let network: Architecture = "se-resnext50".parse().expect("a name");
        let model = network.init(InputSize::new(64, 32), 10, &Init::empty(&device));
        // The neck has 2048 weights and biases, and the classifier no bias.
        let expected = 25_510_896 + 2 * 2048 + 10 * 2048;
        assert_eq!(parameters::count(&model), expected);
    }

    #[test]
    fn every_name_is_a_valid_network_that_is_read_as_it_is_written() {
        for name in Architecture::names() {
            let network: Architecture = name.parse().expect(name);
            let mut problems = Problems::new();
            let size = match name {
                name if name.starts_with("cifar-") => InputSize::new(32, 32),
                "progressive-cut-mix" => InputSize::PERSON_TALL,
                _ => InputSize::PERSON,
            };
            network.validate_network(size, &mut problems);
            assert!(problems.is_empty(), "{name}: {problems}");
            let json = serde_json::to_value(&network).expect("plain data");
            let read: Architecture = serde_json::from_value(json.clone()).expect(name);
            assert_eq!(serde_json::to_value(&read).expect("plain data"), json);
        }
    }
}
