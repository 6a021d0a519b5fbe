//! Relation-aware global attention over positions and over channels (Zhang et al., CVPR 2020,
//! arXiv:1904.02998; sections, tables and figures are cited from the first arXiv version).

use burn::{module::Module, tensor::Tensor};
use reid_core::{FeatureShape, Problems};

use super::{
    Gate, checked_dims,
    initial_gate::gate_config,
    node_attention::{NodeAttention, NodeAttentionConfig, Nodes, Terms},
};
use crate::block::BlockConfig;
use crate::init::Init;

gate_config! {
    /// Configuration of [`RgaSpatial`], whose documentation has an example.
    RgaSpatialConfig {
        /// s₁, the ratio of channels to embedded channels and of positions to relation features, at least 1;
        /// 8 in the paper for re-identification and by default.
        s1, with_s1: usize = 8;
        /// s₂, the ratio of inputs to hidden units of the last two layers, at least 1; 8 in the paper and by
        /// default.
        s2, with_s2: usize = 8;
        /// The terms that the attention is computed from; both in the paper and by default.
        terms, with_terms: Terms = Terms::Both;
    }
}

gate_config! {
    /// Configuration of [`RgaChannel`], whose documentation has an example.
    RgaChannelConfig {
        /// s₁, the ratio of positions to embedded positions and of channels to relation features, at least 1;
        /// 8 in the paper for re-identification and by default.
        s1, with_s1: usize = 8;
        /// s₂, the ratio of inputs to hidden units of the last two layers, at least 1; 8 in the paper and by
        /// default.
        s2, with_s2: usize = 8;
        /// The terms that the attention is computed from; both in the paper and by default.
        terms, with_terms: Terms = Terms::Both;
    }
}

/// RGA-S: gates each position by its own features and by its relations to all positions.
///
/// The nodes of [`NodeAttention`] are the positions in row-major order; the features of a node are its
/// channels.
///
/// ```text
/// a = attention(x as [batch, channels, height·width])       [batch, 1, height, width]
/// y = x ⊙ a                                                  [batch, channels, height, width]
/// ```
///
/// The weights fit one size of the feature map; [`Resized`](super::Resized) adapts the gate to other sizes. A
/// tuple of this block and [`RgaChannel`] is RGA-SC, the paper's module.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{Block, BlockConfig, Init, attention::{RgaChannelConfig, RgaSpatialConfig}};
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let both = (RgaSpatialConfig::new(), RgaChannelConfig::new()); // RGA-SC
/// let attention = both.init(FeatureShape::new(32, 8, 4), &init);
/// assert_eq!(attention.forward(Tensor::ones([2, 32, 8, 4], &device)).dims(), [2, 32, 8, 4]);
/// ```
#[derive(Module, Debug)]
pub struct RgaSpatial {
    /// Attention over positions.
    pub nodes: NodeAttention,
    /// The shape of the feature maps that the weights fit.
    #[module(skip)]
    pub input: FeatureShape,
}

/// RGA-C: gates each channel by its own values and by its relations to all channels.
///
/// The nodes of [`NodeAttention`] are the channels; the features of a node are its values at all positions in
/// row-major order. The weights therefore fit one size of the feature map; [`Resized`](super::Resized) adapts
/// the gate to other sizes.
///
/// ```text
/// a = attention(x as [batch, height·width, channels])       [batch, channels, 1, 1]
/// y = x ⊙ a                                                  [batch, channels, height, width]
/// ```
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use reid_core::{FeatureShape, Seed};
/// use reid_nn::{BlockConfig, Init, attention::{Gate, RgaChannelConfig}};
///
/// let device = Device::default();
/// let init = Init::new(Seed::new(1), &device);
/// let attention = RgaChannelConfig::new().init(FeatureShape::new(32, 8, 4), &init);
/// assert_eq!(attention.gate(Tensor::ones([2, 32, 8, 4], &device)).dims(), [2, 32, 1, 1]);
/// ```
#[derive(Module, Debug)]
pub struct RgaChannel {
    /// Attention over channels.
    pub nodes: NodeAttention,
    /// The shape of the feature maps that the weights fit.
    #[module(skip)]
    pub input: FeatureShape,
}

/// The gate of an RGA block, and the relations that it was computed from.
#[derive(Clone, Debug)]
pub struct Relations {
    /// The factors of the features: `[batch, 1, height, width]` or `[batch, channels, 1, 1]`.
    pub gate: Tensor<4>,
    /// `rᵢⱼ = θᵢ · ϕⱼ` of all pairs of N nodes, `[batch, N, N]`; absent without the relation term.
    pub relations: Option<Tensor<3>>,
}

impl RgaSpatialConfig {
    fn nodes(&self, input: FeatureShape) -> NodeAttentionConfig {
        NodeAttentionConfig {
            features: input.channels,
            nodes: input.positions(),
            s1: self.s1,
            s2: self.s2,
            terms: self.terms,
            initial_gate: self.initial_gate,
        }
    }
}

impl BlockConfig for RgaSpatialConfig {
    type Block = RgaSpatial;

    fn init(&self, input: FeatureShape, init: &Init<'_>) -> RgaSpatial {
        Problems::refuse("RGA-S", |problems| self.validate(input, problems));
        RgaSpatial {
            nodes: self.nodes(input).init(init),
            input,
        }
    }

    fn fits_one_size(&self) -> bool {
        true
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        self.nodes(input).validate(problems);
    }
}

impl RgaChannelConfig {
    fn nodes(&self, input: FeatureShape) -> NodeAttentionConfig {
        NodeAttentionConfig {
            features: input.positions(),
            nodes: input.channels,
            s1: self.s1,
            s2: self.s2,
            terms: self.terms,
            initial_gate: self.initial_gate,
        }
    }
}

impl BlockConfig for RgaChannelConfig {
    type Block = RgaChannel;

    fn init(&self, input: FeatureShape, init: &Init<'_>) -> RgaChannel {
        Problems::refuse("RGA-C", |problems| self.validate(input, problems));
        RgaChannel {
            nodes: self.nodes(input).init(init),
            input,
        }
    }

    fn fits_one_size(&self) -> bool {
        true
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        self.nodes(input).validate(problems);
    }
}

impl RgaSpatial {
    /// Computes the gate as published, and returns the matrix of the relations of all positions for
    /// visualisation. With many positions this needs far more time and memory than [`Gate::gate`].
    ///
    /// # Shapes
    /// - `features`: `[batch, channels, height, width]`
    ///
    /// # Panics
    /// If the block was built for features of another shape.
    #[must_use]
    pub fn relations(&self, features: Tensor<4>) -> Relations {
        let (attention, relations) = self.nodes.with_relations(&self.as_nodes(features));
        Relations {
            gate: self.as_gate(attention),
            relations,
        }
    }

    fn as_nodes(&self, features: Tensor<4>) -> Nodes {
        checked_dims("RGA-S", self.input, &features);
        Nodes::Positions(features)
    }

    fn as_gate(&self, attention: Tensor<4>) -> Tensor<4> {
        let [batch, _, _, _] = attention.dims();
        attention.reshape([batch, 1, self.input.height, self.input.width])
    }
}

impl RgaChannel {
    /// Computes the gate as published, and returns the matrix of the relations of all channels for
    /// visualisation. With many channels this needs far more time and memory than [`Gate::gate`].
    ///
    /// # Shapes
    /// - `features`: `[batch, channels, height, width]`
    ///
    /// # Panics
    /// If the block was built for features of another shape.
    #[must_use]
    pub fn relations(&self, features: Tensor<4>) -> Relations {
        let (attention, relations) = self.nodes.with_relations(&self.as_nodes(features));
        Relations {
            gate: as_channels(attention),
            relations,
        }
    }

    fn as_nodes(&self, features: Tensor<4>) -> Nodes {
        checked_dims("RGA-C", self.input, &features);
        Nodes::rows(features)
    }
}

fn as_channels(attention: Tensor<4>) -> Tensor<4> {
    let [batch, _, channels, _] = attention.dims();
    attention.reshape([batch, channels, 1, 1])
}

impl Gate for RgaSpatial {
    fn gate(&self, features: Tensor<4>) -> Tensor<4> {
        self.as_gate(self.nodes.forward(&self.as_nodes(features)))
    }

    fn folded(self) -> Self {
        Self {
            nodes: self.nodes.fold_batch_norm(),
            ..self
        }
    }
}

impl Gate for RgaChannel {
    fn gate(&self, features: Tensor<4>) -> Tensor<4> {
        as_channels(self.nodes.forward(&self.as_nodes(features)))
    }

    fn folded(self) -> Self {
        Self {
            nodes: self.nodes.fold_batch_norm(),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::parameters;

    type Both = (RgaSpatialConfig, RgaChannelConfig);

    fn both(s1: usize, s2: usize) -> Both {
        (
            RgaSpatialConfig::new().with_s1(s1).with_s2(s2),
            RgaChannelConfig::new().with_s1(s1).with_s2(s2),
        )
    }

    #[test]
    fn parameter_counts_match_hand_computed_ones() {
        let device = Device::default();
        // Convolutions without bias, weight and bias of each normalisation. The shapes are those of the four
        // stages of a ResNet-50 at 256 x 128, of a CIFAR ResNet after its first stage, and of DenseNet-BC.
        let cases = [
            (both(8, 8), (256, 64, 32), [1_082_178, 1_590_994]),
            (both(8, 8), (512, 32, 16), [164_898, 164_898]),
            (both(8, 8), (1024, 16, 8), [398_154, 270_754]),
            (both(8, 8), (2048, 16, 8), [1_578_570, 1_063_650]),
            (both(4, 4), (16, 32, 32), [541_658, 788_114]),
        ];
        for ((spatial, channel), (channels, height, width), expected) in cases {
            let shape = FeatureShape::new(channels, height, width);
            let found = [
                parameters::count(&spatial.init(shape, &crate::fixtures::init(&device))),
                parameters::count(&channel.init(shape, &crate::fixtures::init(&device))),
            ];
            assert_eq!(found, expected, "{shape}");
        }
        let dense = both(8, 8).init(
            FeatureShape::new(108, 16, 16),
            &crate::fixtures::init(&device),
        );
        assert_eq!(parameters::count(&dense), 48_505);
    }

    #[test]
    fn each_term_adds_its_parameters() {
        let device = Device::default();
        let count = |terms| {
            let config = RgaSpatialConfig::new().with_terms(terms);
            parameters::count(
                &config.init(FeatureShape::new(16, 4, 4), &crate::fixtures::init(&device)),
            )
        };
        // 16 channels → 2, 16 positions → 2 relation features, hidden width 1 (rounded down to 0, at least
        // 1): psi 32 + 4; theta, phi 2·(32 + 4), varphi 2·16·2 + 4; w1 inputs + 2, w2 1 + 2.
        assert_eq!(count(Terms::Visual), 36 + (1 + 2) + 3);
        assert_eq!(count(Terms::Relation), 72 + 68 + (2 + 2) + 3);
        assert_eq!(count(Terms::Both), 36 + 72 + 68 + (3 + 2) + 3);
    }

    #[test]
    fn the_visual_term_alone_has_no_relations() {
        let device = Device::default();
        let config = RgaChannelConfig::new().with_terms(Terms::Visual);
        let attention = config.init(FeatureShape::new(16, 4, 2), &crate::fixtures::init(&device));
        let features = Tensor::ones([1, 16, 4, 2], &device);
        assert!(attention.relations(features).relations.is_none());
    }

    #[test]
    #[should_panic(expected = "RGA-S was built for features of 8x4x2 and got [1, 8, 2, 4]")]
    fn features_of_another_size_panic() {
        let device = Device::default();
        let attention = RgaSpatialConfig::new()
            .init(FeatureShape::new(8, 4, 2), &crate::fixtures::init(&device));
        let _ = attention.gate(Tensor::ones([1, 8, 2, 4], &device));
    }

    #[test]
    #[should_panic(expected = "RGA-S: s1: expected at least 1, found 0")]
    fn a_ratio_of_0_panics() {
        let config = RgaSpatialConfig::new().with_s1(0);
        let _ = config.init(
            FeatureShape::new(8, 4, 2),
            &crate::fixtures::init(&Device::default()),
        );
    }
}
