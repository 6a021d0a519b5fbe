//! Relation-aware global attention over places and over channels (Zhang et al., CVPR 2020,
//! arXiv:1904.02998; sections, tables and figures as in its first version).

use burn::{config::Config, module::Module, tensor::Tensor};
use reid_core::{FeatureShape, Problems};

use super::{
    Gate, checked,
    node_attention::{NodeAttention, NodeAttentionConfig, Nodes, Terms},
};
use crate::block::BlockConfig;
use crate::init::Init;

/// Configuration of [`RgaSpatial`].
#[derive(Config, Debug, PartialEq)]
pub struct RgaSpatialConfig {
    /// s₁, channels per embedded channel and places per kept relation, at least 1; 8 in the paper
    /// for re-identification.
    #[config(default = 8)]
    pub s1: usize,
    /// s₂, inputs of the last two layers per hidden unit, at least 1; 8 in the paper.
    #[config(default = 8)]
    pub s2: usize,
    /// What attention looks at; both terms in the paper.
    #[config(default = "Terms::Both")]
    pub terms: Terms,
}

/// Configuration of [`RgaChannel`].
#[derive(Config, Debug, PartialEq)]
pub struct RgaChannelConfig {
    /// s₁, places per embedded place and channels per kept relation, at least 1; 8 in the paper for
    /// re-identification.
    #[config(default = 8)]
    pub s1: usize,
    /// s₂, inputs of the last two layers per hidden unit, at least 1; 8 in the paper.
    #[config(default = 8)]
    pub s2: usize,
    /// What attention looks at; both terms in the paper.
    #[config(default = "Terms::Both")]
    pub terms: Terms,
}

/// RGA-S: a place is weighed by what is there and by how it relates to every place.
///
/// The nodes of [`NodeAttention`] are the places in row-major order, and their features the channels.
///
/// ```text
/// a = attention(x as [batch, channels, height·width])       [batch, 1, height, width]
/// y = x ⊙ a                                                  [batch, channels, height, width]
/// ```
///
/// Its weights belong to one size of map: [`Resized`](super::Resized) lets it take others. In front
/// of [`RgaChannel`] in a tuple it is RGA-SC, the paper's module.
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
    /// Attention over places.
    pub nodes: NodeAttention,
    #[module(skip)]
    place: FeatureShape,
}

/// RGA-C: a channel is weighed by its map and by how it relates to every channel.
///
/// The nodes of [`NodeAttention`] are the channels, and their features the places in row-major order,
/// so its weights belong to one size of map: [`Resized`](super::Resized) lets it take others.
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
    #[module(skip)]
    place: FeatureShape,
}

/// Attention, and the relations it was made from.
#[derive(Clone, Debug)]
pub struct Relations {
    /// What features are multiplied by: `[batch, 1, height, width]` or `[batch, channels, 1, 1]`.
    pub gate: Tensor<4>,
    /// `rᵢⱼ = θᵢ · ϕⱼ` of all N nodes, `[batch, N, N]`; absent without the relation term.
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
        }
    }
}

impl BlockConfig for RgaSpatialConfig {
    type Block = RgaSpatial;

    fn init(&self, input: FeatureShape, init: &Init<'_>) -> RgaSpatial {
        Problems::refuse("RGA-S", |problems| self.validate(input, problems));
        RgaSpatial {
            nodes: self.nodes(input).init(init),
            place: input,
        }
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
        }
    }
}

impl BlockConfig for RgaChannelConfig {
    type Block = RgaChannel;

    fn init(&self, input: FeatureShape, init: &Init<'_>) -> RgaChannel {
        Problems::refuse("RGA-C", |problems| self.validate(input, problems));
        RgaChannel {
            nodes: self.nodes(input).init(init),
            place: input,
        }
    }

    fn validate(&self, input: FeatureShape, problems: &mut Problems) {
        self.nodes(input).validate(problems);
    }
}

impl RgaSpatial {
    /// The gate computed as published, by way of the relations of all places: for pictures of them.
    /// Where places are many, slower and larger by far.
    ///
    /// # Shapes
    /// - `features`: `[batch, channels, height, width]`
    ///
    /// # Panics
    /// If the features have another shape than the block was built for.
    #[must_use]
    pub fn relations(&self, features: Tensor<4>) -> Relations {
        let (attention, relations) = self.nodes.with_relations(&self.as_nodes(features));
        Relations {
            gate: self.as_gate(attention),
            relations,
        }
    }

    fn as_nodes(&self, features: Tensor<4>) -> Nodes {
        checked("RGA-S", self.place, &features);
        Nodes::Positions(features)
    }

    fn as_gate(&self, attention: Tensor<4>) -> Tensor<4> {
        let [batch, _, _, _] = attention.dims();
        attention.reshape([batch, 1, self.place.height, self.place.width])
    }
}

impl RgaChannel {
    /// The gate computed as published, by way of the relations of all channels: for pictures of them.
    /// Where channels are many, slower and larger by far.
    ///
    /// # Shapes
    /// - `features`: `[batch, channels, height, width]`
    ///
    /// # Panics
    /// If the features have another shape than the block was built for.
    #[must_use]
    pub fn relations(&self, features: Tensor<4>) -> Relations {
        let (attention, relations) = self.nodes.with_relations(&self.as_nodes(features));
        Relations {
            gate: as_channels(attention),
            relations,
        }
    }

    fn as_nodes(&self, features: Tensor<4>) -> Nodes {
        checked("RGA-C", self.place, &features);
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
    fn parameters_are_as_many_as_by_hand() {
        let device = Device::default();
        // Convolutions without bias, gain and bias of each normalisation; the four stages of a
        // ResNet-50 at 256 x 128, of CIFAR's ResNet after its first stage, of DenseNet-BC.
        let cases = [
            (both(8, 8), (256, 64, 32), [1_082_178, 1_590_994]),
            (both(8, 8), (512, 32, 16), [164_898, 164_898]),
            (both(8, 8), (1024, 16, 8), [398_154, 270_754]),
            (both(8, 8), (2048, 16, 8), [1_578_570, 1_063_650]),
            (both(4, 4), (16, 32, 32), [541_658, 788_114]),
        ];
        for ((spatial, channel), (channels, height, width), expected) in cases {
            let place = FeatureShape::new(channels, height, width);
            let found = [
                parameters::count(&spatial.init(place, &crate::fixtures::init(&device))),
                parameters::count(&channel.init(place, &crate::fixtures::init(&device))),
            ];
            assert_eq!(found, expected, "{place}");
        }
        let dense = both(8, 8).init(
            FeatureShape::new(108, 16, 16),
            &crate::fixtures::init(&device),
        );
        assert_eq!(parameters::count(&dense), 48_505);
    }

    #[test]
    fn a_part_without_a_term_is_smaller() {
        let device = Device::default();
        let count = |terms| {
            let config = RgaSpatialConfig::new().with_terms(terms);
            parameters::count(
                &config.init(FeatureShape::new(16, 4, 4), &crate::fixtures::init(&device)),
            )
        };
        // 16 channels → 2, 16 places → 2 relations, hidden width 1 (rounded down to 0, at least 1):
        // psi 32 + 4; theta, phi 2·(32 + 4), varphi 2·16·2 + 4; w1 seen + 2, w2 1 + 2.
        assert_eq!(count(Terms::Visual), 36 + (1 + 2) + 3);
        assert_eq!(count(Terms::Relation), 72 + 68 + (2 + 2) + 3);
        assert_eq!(count(Terms::Both), 36 + 72 + 68 + (3 + 2) + 3);
    }

    #[test]
    fn without_relations_there_are_none_to_give() {
        let device = Device::default();
        let config = RgaChannelConfig::new().with_terms(Terms::Visual);
        let attention = config.init(FeatureShape::new(16, 4, 2), &crate::fixtures::init(&device));
        let features = Tensor::ones([1, 16, 4, 2], &device);
        assert!(attention.relations(features).relations.is_none());
    }

    #[test]
    #[should_panic(expected = "RGA-S was built for features of 8x4x2 and got [1, 8, 2, 4]")]
    fn another_size_is_refused() {
        let device = Device::default();
        let attention = RgaSpatialConfig::new()
            .init(FeatureShape::new(8, 4, 2), &crate::fixtures::init(&device));
        let _ = attention.gate(Tensor::ones([1, 8, 2, 4], &device));
    }

    #[test]
    #[should_panic(expected = "RGA-S: s1: expected at least 1, found 0")]
    fn a_ratio_of_zero_is_refused() {
        let config = RgaSpatialConfig::new().with_s1(0);
        let _ = config.init(
            FeatureShape::new(8, 4, 2),
            &crate::fixtures::init(&Device::default()),
        );
    }
}
