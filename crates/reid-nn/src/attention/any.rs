//! Any attention block of the library, chosen at run time.

use burn::{module::Module, tensor::Tensor};
use reid_core::{FeatureShape, Problems, strict};
use serde::{Deserialize, Serialize};

use super::{
    CbamChannel, CbamChannelConfig, CbamSpatial, CbamSpatialConfig, FncChannel, FncChannelConfig,
    FncSpatial, FncSpatialConfig, FullyConnectedChannel, FullyConnectedChannelConfig,
    FullyConnectedSpatial, FullyConnectedSpatialConfig, NonLocal, NonLocalConfig, RgaChannel,
    RgaChannelConfig, RgaSpatial, RgaSpatialConfig, SqueezeExcitation, SqueezeExcitationConfig,
};
use crate::{
    block::{Block, BlockConfig},
    init::Init,
};

macro_rules! any_attention {
    ($($(#[doc = $doc:literal])+ $name:ident($config:ident),)+) => {
        /// Configuration of an [`Attention`] block: one of the library's, or a chain of them. As JSON it is an
        /// object with one field, the name of the block: `{ "rga-spatial": { "s1": 8, "s2": 8, "terms": "both" } }`.
        ///
        /// With it different blocks stand after different stages of one network. A block of one's own has a
        /// type of its own in its place: every generic that takes this takes any
        /// [`BlockConfig`].
        ///
        /// ```
        /// use burn::tensor::{Device, Tensor};
        /// use reid_core::{InputSize, Seed};
        /// use reid_nn::{Block, BlockConfig, Init, backbone::ResNetConfig};
        /// use reid_nn::attention::{AttentionConfig, FncSpatialConfig, RgaChannelConfig, RgaSpatialConfig};
        ///
        /// let rga = AttentionConfig::Chain(vec![
        ///     RgaSpatialConfig::new().into(),
        ///     RgaChannelConfig::new().into(),
        /// ]);
        /// let network = ResNetConfig::resnet18()
        ///     .with_width(8)
        ///     .after(&[2, 3], rga)
        ///     .and_after(&[4], FncSpatialConfig::new().into());
        ///
        /// let (device, image) = (Device::default(), InputSize::new(64, 32).rgb());
        /// let network = network.init(image, &Init::new(Seed::new(1), &device));
        /// assert_eq!(network.forward(Tensor::ones([1, 3, 64, 32], &device)).dims(), [1, 64, 2, 1]);
        /// ```
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        #[non_exhaustive]
        pub enum AttentionConfig {
            $($(#[doc = $doc])+ $name(#[serde(deserialize_with = "strict")] $config),)+
            /// Blocks one behind the other.
            Chain(Vec<AttentionConfig>),
        }

        /// An attention block of the library, chosen at run time by [`AttentionConfig`].
        ///
        /// In saved weights the name of the kind comes before the names of its parameters, so a network whose
        /// blocks have a type of their own is another one.
        #[derive(Module, Debug)]
        #[non_exhaustive]
        pub enum Attention {
            $($(#[doc = $doc])+ $name($name),)+
            /// Blocks one behind the other.
            Chain(Vec<Attention>),
        }

        $(impl From<$config> for AttentionConfig {
            fn from(config: $config) -> Self {
                Self::$name(config)
            }
        })+

        impl BlockConfig for AttentionConfig {
            type Block = Attention;

            fn init(&self, input: FeatureShape, init: &Init<'_>) -> Attention {
                match self {
                    $(Self::$name(config) => Attention::$name(config.init(input, init)),)+
                    Self::Chain(configs) => Attention::Chain(configs.init(input, init)),
                }
            }

            fn output(&self, input: FeatureShape) -> FeatureShape {
                match self {
                    $(Self::$name(config) => config.output(input),)+
                    Self::Chain(configs) => configs.output(input),
                }
            }

            fn validate(&self, input: FeatureShape, problems: &mut Problems) {
                match self {
                    $(Self::$name(config) => config.validate(input, problems),)+
                    Self::Chain(configs) => configs.validate(input, problems),
                }
            }
        }

        impl Block for Attention {
            fn forward(&self, features: Tensor<4>) -> Tensor<4> {
                match self {
                    $(Self::$name(block) => block.forward(features),)+
                    Self::Chain(blocks) => blocks.forward(features),
                }
            }

            fn is_identity(&self) -> bool {
                match self {
                    $(Self::$name(block) => block.is_identity(),)+
                    Self::Chain(blocks) => blocks.is_identity(),
                }
            }

            fn fold_batch_norm(self) -> Self {
                match self {
                    $(Self::$name(block) => Self::$name(block.fold_batch_norm()),)+
                    Self::Chain(blocks) => Self::Chain(blocks.fold_batch_norm()),
                }
            }
        }
    };
}

any_attention! {
    /// Squeeze-and-excitation.
    SqueezeExcitation(SqueezeExcitationConfig),
    /// CBAM over channels.
    CbamChannel(CbamChannelConfig),
    /// CBAM over positions.
    CbamSpatial(CbamSpatialConfig),
    /// Fully connected attention over channels.
    FullyConnectedChannel(FullyConnectedChannelConfig),
    /// Fully connected attention over positions.
    FullyConnectedSpatial(FullyConnectedSpatialConfig),
    /// RGA-S: relation-aware attention over positions.
    RgaSpatial(RgaSpatialConfig),
    /// RGA-C: relation-aware attention over channels.
    RgaChannel(RgaChannelConfig),
    /// A non-local block.
    NonLocal(NonLocalConfig),
    /// SAB: the spatial attention of FNC.
    FncSpatial(FncSpatialConfig),
    /// CAB: the channel attention of FNC.
    FncChannel(FncChannelConfig),
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::{backbone::ResNetConfig, fixtures, parameters};

    fn rga() -> AttentionConfig {
        AttentionConfig::Chain(vec![
            RgaSpatialConfig::new().into(),
            RgaChannelConfig::new().into(),
        ])
    }

    #[test]
    fn a_chain_computes_what_a_tuple_does() {
        let device = Device::default();
        let place = FeatureShape::new(16, 4, 2);
        let tuple = (RgaSpatialConfig::new(), RgaChannelConfig::new());
        let tuple = tuple.init(place, &fixtures::init(&device));
        let chain = rga().init(place, &fixtures::init(&device));
        assert_eq!(parameters::count(&chain), parameters::count(&tuple));
        let features = fixtures::tensor([2, 16, 4, 2], -1.0..1.0, &device);
        let expected = tuple.forward(features.clone());
        assert_eq!(
            chain.forward(features.clone()).to_data(),
            expected.to_data()
        );
        let folded = chain.fold_batch_norm().forward(features);
        let difference = (folded - expected).abs().max().into_scalar::<f32>();
        assert!(difference < 1e-5, "{difference}");
    }

    #[test]
    fn different_blocks_after_different_stages_are_one_type() {
        let network = ResNetConfig::resnet18()
            .with_width(4)
            .after(&[2, 3], rga())
            .and_after(&[4], FncSpatialConfig::new().into());
        let device = Device::default();
        let image = reid_core::InputSize::new(64, 32).rgb();
        let built = network.init(image, &fixtures::init(&device));
        assert!(built.after[0].is_none());
        assert!(matches!(built.after[1], Some(Attention::Chain(_))));
        assert!(matches!(built.after[3], Some(Attention::FncSpatial(_))));
    }
}
