//! The gate that a new attention block starts with: the field `initial_gate` of its configuration.

use std::ops::Bound;

use burn::{module::Param, tensor::Tensor};
use reid_core::Problems;

use crate::init::Init;

/// Defines the configuration of a gate: its fields, each with its setter and its default, and `initial_gate`.
///
/// Burn's derive would write `initial_gate` even if it is absent, because it takes no serde attributes. Recipes
/// without it stay as they are.
macro_rules! gate_config {
    (
        $(#[doc = $doc:literal])+
        $config:ident {
            $($(#[doc = $field_doc:literal])+ $field:ident, $set:ident: $kind:ty = $default:expr;)+
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[non_exhaustive]
        pub struct $config {
            $($(#[doc = $field_doc])+ pub $field: $kind,)+
            /// The gate that a new block starts with, above 0 and below 1. By default it is that of the papers,
            /// around 0.5. At 0.95 a block leaves the features of a pretrained network nearly as they are; see
            /// [gates that start near 1](crate::attention#gates-that-start-near-1).
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub initial_gate: Option<f64>,
        }

        impl $config {
            /// Configures the block with the defaults of the fields.
            #[must_use]
            pub fn new() -> Self {
                Self {
                    $($field: $default,)+
                    initial_gate: None,
                }
            }

            $(
                #[doc = concat!("Sets [`", stringify!($field), "`](Self::", stringify!($field), ").")]
                #[must_use]
                pub fn $set(mut self, $field: $kind) -> Self {
                    self.$field = $field;
                    self
                }
            )+

            /// Sets [`initial_gate`](Self::initial_gate).
            #[must_use]
            pub fn with_initial_gate(mut self, initial_gate: impl Into<Option<f64>>) -> Self {
                self.initial_gate = initial_gate.into();
                self
            }
        }

        impl Default for $config {
            fn default() -> Self {
                Self::new()
            }
        }

        impl burn::config::Config for $config {}

        impl std::fmt::Display for $config {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&burn::config::config_to_json(self))
            }
        }
    };
}

pub(super) use gate_config;

/// Rejects a gate that no sigmoid of a finite number has.
pub(super) fn validate(gate: Option<f64>, problems: &mut Problems) {
    if let Some(gate) = gate {
        let range = (Bound::Excluded(0.0), Bound::Excluded(1.0));
        problems.number("initial_gate", gate, range);
    }
}

/// Computes the x with `σ(x) = gate`.
pub(super) fn logit(gate: f64) -> f64 {
    (gate / (1.0 - gate)).ln()
}

/// A bias with the same value for all channels. It takes no random stream, so that all other weights are those of
/// a block without an initial gate.
pub(super) fn constant_bias(value: f64, channels: usize, init: &Init<'_>) -> Param<Tensor<1>> {
    Param::from_tensor(Tensor::full([channels], value, init.device()))
}

#[cfg(test)]
mod tests {
    use burn::{
        config::Config,
        module::{Module, ModuleVisitor},
        tensor::Device,
    };
    use reid_core::FeatureShape;

    use super::*;
    use crate::{
        attention::{
            AttentionConfig, CbamChannelConfig, CbamSpatialConfig, ChannelGate, Combine,
            FncChannel, FncChannelConfig, FncSpatialConfig, FullyConnectedChannelConfig,
            FullyConnectedSpatialConfig, Gate, ParallelConfig, RgaChannelConfig, RgaSpatialConfig,
            SqueezeExcitationConfig,
        },
        block::BlockConfig,
        fixtures,
    };

    const SHAPE: FeatureShape = FeatureShape::new(32, 8, 4);
    const NEAR: f64 = 0.95;

    #[derive(Default)]
    struct Values {
        path: Vec<String>,
        found: Vec<(String, Vec<f32>)>,
    }

    impl ModuleVisitor for Values {
        fn enter_module(&mut self, name: &str, _container: &str) {
            self.path.push(name.to_owned());
        }

        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.pop();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let values = param.val().into_data().try_to_vec().expect("f32 values");
            self.found.push((self.path.join("."), values));
        }
    }

    fn values<M: Module>(module: &M) -> Vec<(String, Vec<f32>)> {
        let mut values = Values::default();
        module.visit(&mut values);
        values.found
    }

    /// Checks that two blocks have bit-identical values, except that those at the path `last` have the `sigmoid`.
    fn check_values<M: Module>([plain, near]: [&M; 2], last: &str, sigmoid: f64) {
        let [plain, near] = [plain, near].map(values);
        assert!(near.iter().any(|(path, _)| path == last), "no {last}");
        assert_eq!(plain.len(), near.len());
        for ((path, plain), (same, near)) in plain.into_iter().zip(near) {
            assert_eq!(path, same);
            if path == last {
                let off = |value: f32| 1.0 / (1.0 + (-f64::from(value)).exp()) - sigmoid;
                assert!(near.iter().all(|&value| off(value).abs() < 1e-6), "{path}");
            } else {
                let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits);
                assert!(bits(plain).eq(bits(near)), "{path}");
            }
        }
    }

    /// Checks a block that starts at the default gate and one that starts near 1. The `sigmoid` is that of the bias.
    fn check<C: BlockConfig>(
        configs: [C; 2],
        (last, sigmoid): (&str, f64),
        gate: impl Fn(&C::Block, Tensor<4>) -> Tensor<4>,
    ) {
        let device = Device::default();
        let training = device.clone().autodiff();
        let [plain, near] = configs.map(|config| config.init(SHAPE, &fixtures::init(&training)));
        check_values([&plain, &near], last, sigmoid);
        let mean = |block: &C::Block, device: &Device| {
            let features = fixtures::tensor([8, 32, 8, 4], -2.0..2.0, device);
            f64::from(gate(block, features).mean().into_scalar::<f32>())
        };
        let default = mean(&plain, &training);
        assert!((default - 0.5).abs() < 0.15, "{last}: {default}");
        let found = mean(&near, &training);
        assert!((found - NEAR).abs() < 0.05, "{last}: {found}");
        // The running statistics become those of the batch.
        for _ in 0..40 {
            let _ = mean(&near, &training);
        }
        let found = mean(&near.valid(), &device);
        assert!((found - NEAR).abs() < 0.05, "{last}, evaluated: {found}");
    }

    fn check_gate<C: BlockConfig<Block: Gate>>(configs: [C; 2], last: &str) {
        check(configs, (last, NEAR), |block, features| {
            block.gate(features)
        });
    }

    /// A configuration without the setting, and one with it.
    macro_rules! both {
        ($config:expr) => {
            [$config, $config.with_initial_gate(NEAR)]
        };
    }

    #[test]
    fn gates_without_batch_norm_start_near_1() {
        check_gate(
            both!(SqueezeExcitationConfig::new().with_reduction(4)),
            "fc2.bias",
        );
        check_gate(both!(FullyConnectedChannelConfig::new()), "fc.bias");
        check_gate(both!(FullyConnectedSpatialConfig::new()), "fc2.bias");
        let plain = CbamSpatialConfig::new().with_normalised(false);
        // The weights of a large kernel are small, and so is the result from the maximum of 32 channels.
        check_gate(both!(plain.clone().with_kernel(31)), "conv.bias");
        // The bias counts twice, and σ(2b) = 19 / 20 for σ(b) = √19 / (1 + √19).
        let half = 19.0_f64.sqrt() / (1.0 + 19.0_f64.sqrt());
        check(
            both!(CbamChannelConfig::new().with_reduction(4)),
            ("fc2.bias", half),
            Gate::gate,
        );
    }

    #[test]
    fn gates_with_batch_norm_start_near_1() {
        check_gate(both!(CbamSpatialConfig::new()), "norm.bias");
        let (spatial, channel) = (RgaSpatialConfig::new(), RgaChannelConfig::new());
        let (spatial, channel) = (spatial.with_s1(4).with_s2(4), channel.with_s1(4).with_s2(4));
        check_gate(both!(spatial.clone()), "nodes.w2.1.bias");
        check_gate(both!(channel.clone()), "nodes.w2.1.bias");
    }

    #[test]
    fn gates_of_fnc_start_near_1() {
        check(
            both!(FncSpatialConfig::new()),
            ("t.bias", NEAR),
            |block, features| block.gate(&features),
        );
        let channel = |squeeze| {
            let config = FncChannelConfig::new().with_hidden(8).with_groups(4);
            let config = config.with_gate(ChannelGate::Vector);
            config.with_squeeze(squeeze)
        };
        let squeeze = both!(SqueezeExcitationConfig::new().with_reduction(4));
        check(
            squeeze.map(channel),
            ("se.fc2.bias", NEAR),
            FncChannel::gate,
        );
    }

    fn problems(config: impl Into<AttentionConfig>) -> String {
        let mut problems = Problems::new();
        config.into().validate(SHAPE, &mut problems);
        problems.to_string()
    }

    #[test]
    fn gates_that_no_sigmoid_has_are_rejected_by_every_block() {
        for gate in [-1.0, 0.0, 1.0, f64::NAN] {
            let all: [AttentionConfig; 8] = [
                SqueezeExcitationConfig::new()
                    .with_initial_gate(gate)
                    .into(),
                CbamChannelConfig::new().with_initial_gate(gate).into(),
                CbamSpatialConfig::new().with_initial_gate(gate).into(),
                FullyConnectedChannelConfig::new()
                    .with_initial_gate(gate)
                    .into(),
                FullyConnectedSpatialConfig::new()
                    .with_initial_gate(gate)
                    .into(),
                RgaSpatialConfig::new().with_initial_gate(gate).into(),
                RgaChannelConfig::new().with_initial_gate(gate).into(),
                FncSpatialConfig::new().with_initial_gate(gate).into(),
            ];
            let expected = format!("initial_gate: expected above 0 and below 1, found {gate}");
            for config in all {
                assert_eq!(problems(config), expected);
            }
        }
        let gate = RgaSpatialConfig::new();
        let pair = ParallelConfig::new(gate.clone().into(), gate.with_initial_gate(1.0).into());
        assert_eq!(
            problems(AttentionConfig::from(pair)),
            "gates[1].initial_gate: expected above 0 and below 1, found 1"
        );
        assert_eq!(
            problems(RgaSpatialConfig::new().with_initial_gate(NEAR)),
            ""
        );
    }

    #[test]
    fn attention_that_is_no_gate_has_no_initial_gate() {
        let spatial = FncSpatialConfig::new().with_combine(Combine::Add);
        assert_eq!(
            problems(spatial.with_initial_gate(NEAR)),
            "initial_gate: expected none for attention that is added, found 0.95"
        );
        let squeeze = SqueezeExcitationConfig::new().with_initial_gate(NEAR);
        let channel = FncChannelConfig::new().with_squeeze(squeeze);
        for (gate, combine, holds) in [
            (ChannelGate::Map, Combine::Multiply, false),
            (ChannelGate::Vector, Combine::Add, false),
            (ChannelGate::Vector, Combine::Multiply, true),
        ] {
            let expected = "squeeze.initial_gate: expected none unless the attention is a vector that multiplies \
                            the features, found 0.95";
            let config = channel.clone().with_gate(gate).with_combine(combine);
            assert_eq!(problems(config), if holds { "" } else { expected });
        }
    }

    #[test]
    #[should_panic(expected = "RGA-S: initial_gate: expected above 0 and below 1, found 1")]
    fn a_gate_of_1_panics() {
        let config = RgaSpatialConfig::new().with_initial_gate(1.0);
        let _ = config.init(SHAPE, &fixtures::init(&Device::default()));
    }

    #[test]
    fn an_absent_setting_is_not_written() {
        let [plain, near] = both!(SqueezeExcitationConfig::new());
        assert_eq!(plain.to_string(), "{\n  \"reduction\": 16\n}");
        assert_eq!(
            near.to_string(),
            "{\n  \"reduction\": 16,\n  \"initial_gate\": 0.95\n}"
        );
        for config in [plain, near] {
            let read = SqueezeExcitationConfig::load_binary(config.to_string().as_bytes());
            assert_eq!(read.expect("a configuration"), config);
        }
    }
}
