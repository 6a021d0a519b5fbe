//! Any attention block of the library, chosen at run time.

use burn::{module::Module, tensor::Tensor};
use reid_core::{FeatureShape, Problems, strict};
use serde::{Deserialize, Serialize};

use super::{
    CbamChannel, CbamChannelConfig, CbamSpatial, CbamSpatialConfig, FncChannel, FncChannelConfig,
    FncSpatial, FncSpatialConfig, FullyConnectedChannel, FullyConnectedChannelConfig,
    FullyConnectedSpatial, FullyConnectedSpatialConfig, Gate, NonLocal, NonLocalConfig, Parallel,
    ParallelConfig, Resized, ResizedConfig, RgaChannel, RgaChannelConfig, RgaSpatial,
    RgaSpatialConfig, SqueezeExcitation, SqueezeExcitationConfig,
};
use crate::{
    block::{Block, BlockConfig},
    init::Init,
};

macro_rules! any_attention {
    (
        gates { $($(#[doc = $gate_doc:literal])+ $gate:ident($gate_config:ident),)+ }
        blocks { $($(#[doc = $doc:literal])+ $name:ident($config:ty => $block:ty),)+ }
    ) => {
        /// Configuration of any [`Gate`] of the library, for the gates of [`AttentionConfig::Parallel`] and
        /// [`AttentionConfig::Resized`]. As JSON it is an object with one field, as [`AttentionConfig`].
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        #[non_exhaustive]
        pub enum GateConfig {
            $($(#[doc = $gate_doc])+ $gate(#[serde(deserialize_with = "strict")] $gate_config),)+
        }

        /// A gate of the library, chosen at run time by [`GateConfig`]. [`AttentionConfig`] has an example.
        #[derive(Module, Debug)]
        #[non_exhaustive]
        pub enum AnyGate {
            $($(#[doc = $gate_doc])+ $gate($gate),)+
        }

        /// Configuration of an [`Attention`] block: one of the library's, or a chain of them. As JSON it is an
        /// object with one field, the name of the block: `{ "rga-spatial": { "s1": 8, "s2": 8, "terms": "both" } }`.
        ///
        /// Blocks of different kinds after different stages of one network have this type. A custom block needs no
        /// variant here: every generic parameter that takes this type takes any [`BlockConfig`].
        ///
        /// ```
        /// use burn::tensor::{Device, Tensor};
        /// use reid_core::{InputSize, Seed};
        /// use reid_nn::{Block, BlockConfig, Init, backbone::ResNetConfig};
        /// use reid_nn::attention::{AttentionConfig, FncSpatialConfig, ParallelConfig, RgaChannelConfig, RgaSpatialConfig};
        ///
        /// let rga = AttentionConfig::Chain(vec![
        ///     RgaSpatialConfig::new().into(),
        ///     RgaChannelConfig::new().into(),
        /// ]);
        /// let parallel = ParallelConfig::new(RgaSpatialConfig::new().into(), RgaChannelConfig::new().into());
        /// let network = ResNetConfig::resnet18()
        ///     .with_width(8)
        ///     .after(&[2], rga)
        ///     .and_after(&[3], AttentionConfig::Parallel(parallel))
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
            $($(#[doc = $gate_doc])+ $gate(#[serde(deserialize_with = "strict")] $gate_config),)+
            $($(#[doc = $doc])+ $name(#[serde(deserialize_with = "strict")] $config),)+
            /// Several blocks, each applied to the output of the one before.
            Chain(Vec<AttentionConfig>),
        }

        /// An attention block of the library, chosen at run time by [`AttentionConfig`], which has an example.
        ///
        /// In saved weights, the name of the variant comes before the names of its parameters. A network whose
        /// blocks have the type of one variant has other names, so it does not load these weights.
        #[derive(Module, Debug)]
        #[non_exhaustive]
        #[expect(clippy::large_enum_variant, reason = "a network has few blocks and seldom moves them")]
        pub enum Attention {
            $($(#[doc = $gate_doc])+ $gate($gate),)+
            $($(#[doc = $doc])+ $name($block),)+
            /// Several blocks, each applied to the output of the one before.
            Chain(Vec<Attention>),
        }

        $(impl From<$gate_config> for GateConfig {
            fn from(config: $gate_config) -> Self {
                Self::$gate(config)
            }
        }

        impl From<$gate_config> for AttentionConfig {
            fn from(config: $gate_config) -> Self {
                Self::$gate(config)
            }
        })+

        $(impl From<$config> for AttentionConfig {
            fn from(config: $config) -> Self {
                Self::$name(config)
            }
        })+

        impl BlockConfig for GateConfig {
            type Block = AnyGate;

            fn init(&self, input: FeatureShape, init: &Init<'_>) -> AnyGate {
                match self {
                    $(Self::$gate(config) => AnyGate::$gate(config.init(input, init)),)+
                }
            }

            fn validate(&self, input: FeatureShape, problems: &mut Problems) {
                match self {
                    $(Self::$gate(config) => config.validate(input, problems),)+
                }
            }

            fn fits_one_size(&self) -> bool {
                match self {
                    $(Self::$gate(config) => config.fits_one_size(),)+
                }
            }
        }

        impl Gate for AnyGate {
            fn gate(&self, features: Tensor<4>) -> Tensor<4> {
                match self {
                    $(Self::$gate(gate) => gate.gate(features),)+
                }
            }

            fn folded(self) -> Self {
                match self {
                    $(Self::$gate(gate) => Self::$gate(gate.folded()),)+
                }
            }
        }

        impl BlockConfig for AttentionConfig {
            type Block = Attention;

            fn init(&self, input: FeatureShape, init: &Init<'_>) -> Attention {
                match self {
                    $(Self::$gate(config) => Attention::$gate(config.init(input, init)),)+
                    $(Self::$name(config) => Attention::$name(config.init(input, init)),)+
                    Self::Chain(configs) => Attention::Chain(configs.init(input, init)),
                }
            }

            fn output(&self, input: FeatureShape) -> FeatureShape {
                match self {
                    $(Self::$gate(config) => config.output(input),)+
                    $(Self::$name(config) => config.output(input),)+
                    Self::Chain(configs) => configs.output(input),
                }
            }

            fn validate(&self, input: FeatureShape, problems: &mut Problems) {
                match self {
                    $(Self::$gate(config) => config.validate(input, problems),)+
                    $(Self::$name(config) => config.validate(input, problems),)+
                    Self::Chain(configs) => configs.validate(input, problems),
                }
            }

            fn fits_one_size(&self) -> bool {
                match self {
                    $(Self::$gate(config) => config.fits_one_size(),)+
                    $(Self::$name(config) => config.fits_one_size(),)+
                    Self::Chain(configs) => configs.fits_one_size(),
                }
            }
        }

        impl Block for Attention {
            fn forward(&self, features: Tensor<4>) -> Tensor<4> {
                match self {
                    $(Self::$gate(block) => block.forward(features),)+
                    $(Self::$name(block) => block.forward(features),)+
                    Self::Chain(blocks) => blocks.forward(features),
                }
            }

            fn is_identity(&self) -> bool {
                match self {
                    $(Self::$gate(block) => block.is_identity(),)+
                    $(Self::$name(block) => block.is_identity(),)+
                    Self::Chain(blocks) => blocks.is_identity(),
                }
            }

            fn fold_batch_norm(self) -> Self {
                match self {
                    $(Self::$gate(block) => Self::$gate(block.fold_batch_norm()),)+
                    $(Self::$name(block) => Self::$name(block.fold_batch_norm()),)+
                    Self::Chain(blocks) => Self::Chain(blocks.fold_batch_norm()),
                }
            }
        }
    };
}

any_attention! {
    gates {
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
    }
    blocks {
        /// A non-local block.
        NonLocal(NonLocalConfig => NonLocal),
        /// SAB: the spatial attention of FNC.
        FncSpatial(FncSpatialConfig => FncSpatial),
        /// CAB: the channel attention of FNC.
        FncChannel(FncChannelConfig => FncChannel),
        /// Two gates on the same features.
        Parallel(ParallelConfig<GateConfig, GateConfig> => Parallel<AnyGate, AnyGate>),
        /// A gate of one size on feature maps of any size.
        Resized(ResizedConfig<GateConfig> => Resized<AnyGate>),
    }
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
        let shape = FeatureShape::new(16, 4, 2);
        let tuple = (RgaSpatialConfig::new(), RgaChannelConfig::new());
        let tuple = tuple.init(shape, &fixtures::init(&device));
        let chain = rga().init(shape, &fixtures::init(&device));
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

    #[test]
    fn gates_chosen_at_run_time_compute_what_their_types_do() {
        let device = Device::default();
        let shape = FeatureShape::new(16, 4, 2);
        let features = fixtures::tensor([2, 16, 6, 4], -1.0..1.0, &device);
        let one = features.clone().narrow(2, 0, 4).narrow(3, 0, 2);
        let (spatial, channel) = (RgaSpatialConfig::new(), RgaChannelConfig::new());

        let typed = ParallelConfig::new(spatial.clone(), channel.clone());
        let typed = typed
            .init(shape, &fixtures::init(&device))
            .forward(one.clone());
        let any = ParallelConfig::new(spatial.clone().into(), channel.into());
        let any = AttentionConfig::from(any);
        let any = any.init(shape, &fixtures::init(&device)).forward(one);
        assert_eq!(any.to_data(), typed.to_data());

        let typed = ResizedConfig::new([4, 2], spatial.clone());
        let typed = typed
            .init(shape, &fixtures::init(&device))
            .forward(features.clone());
        let any = AttentionConfig::from(ResizedConfig::new([4, 2], spatial.into()));
        let any = any.init(shape, &fixtures::init(&device)).forward(features);
        assert_eq!(any.to_data(), typed.to_data());
    }
}
