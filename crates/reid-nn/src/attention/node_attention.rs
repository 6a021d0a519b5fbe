//! Attention over the nodes of a graph, computed from the relations of all pairs (Zhang et al.,
//! Relation-Aware Global Attention, arXiv:1904.02998, §3.1). Spatial and channel attention share it.

use std::ops::Range;

use burn::{
    module::Module,
    tensor::{DType, Tensor, ops::ConvOptions, s},
};
use reid_core::Problems;
use serde::{Deserialize, Serialize};

use super::{
    initial_gate,
    pointwise::{Pointwise, embed, fold_batch_norm, normalised, pointwise, relu_of_norm},
    sigmoid,
};
use crate::init::Init;
use crate::precision::widened;

/// The terms that the attention is computed from (the rows of the paper's Table 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Terms {
    /// The features of the node and its relations: the paper's module.
    Both,
    /// The relations only: "w/o Vis." in the paper.
    Relation,
    /// The features of the node only: "w/o Rel." in the paper.
    Visual,
}

/// Computes one attention value in `[0, 1]` for each of N nodes with D features, from the features of the
/// node and from its relations to all nodes.
///
/// ```text
/// θ, ϕ, ψ = relu(bn(W · x))                      D → D/s₁                   [batch, D/s₁, N]
/// rᵢⱼ = θᵢ · ϕⱼ                                                             N x N relations
/// yₚ = [mean ψₚ, relu(bn(φ · [r(p, :), r(:, p)]))]                          [batch, 1 + N/s₁, N]
/// aₚ = σ(bn(W₂ · relu(bn(W₁ · yₚ))))             (1 + N/s₁) → …/s₂ → 1      [batch, 1, N]
/// ```
///
/// Training and inference never compute the N x N relations. `φ` is linear before its batch normalisation, so
/// with its weights split as `[Wₐ | W_b]`
///
/// ```text
/// φ · [r(p, :), r(:, p)] = (Wₐ Φᵀ) θₚ + (W_b Θᵀ) ϕₚ
/// ```
///
/// This identity is exact. It costs 4 N² D / s₁² multiplications; the published form costs
/// N² D / s₁ + 2 N³ / s₁, which is less only if s₁ and N are small. Besides the embeddings it holds N² / s₁
/// values per image; the published form holds 3 N² more. Widths are rounded down, but at least 1.
///
/// [`RgaSpatial`](super::RgaSpatial) and [`RgaChannel`](super::RgaChannel) build it, and have examples.
#[derive(Module, Debug)]
pub struct NodeAttention {
    /// The embedding of a node as the first of a pair; absent without the relation term.
    pub theta: Option<Pointwise>,
    /// The embedding of a node as the second of a pair; absent without the relation term.
    pub phi: Option<Pointwise>,
    /// The embedding of a node in the visual term; absent without this term.
    pub psi: Option<Pointwise>,
    /// All relations of a node → N/s₁ features; absent without the relation term.
    pub varphi: Option<Pointwise>,
    /// Concatenated terms → hidden.
    pub w1: Pointwise,
    /// Hidden → one value.
    pub w2: Pointwise,
}

/// The sizes and settings of a [`NodeAttention`].
pub(super) struct NodeAttentionConfig {
    pub(super) features: usize,
    pub(super) nodes: usize,
    pub(super) s1: usize,
    pub(super) s2: usize,
    pub(super) terms: Terms,
    pub(super) initial_gate: Option<f64>,
}

impl NodeAttentionConfig {
    pub(super) fn validate(&self, problems: &mut Problems) {
        problems.count("s1", self.s1, 1..=usize::MAX);
        problems.count("s2", self.s2, 1..=usize::MAX);
        if let Some(related) = self.nodes.checked_div(self.s1) {
            let pairs = self.nodes.checked_mul(2);
            let count = pairs.and_then(|pairs| pairs.checked_mul(related.max(1)));
            problems.at("s1", |problems| problems.weights("a layer", count));
        }
        initial_gate::validate(self.initial_gate, problems);
    }

    pub(super) fn init(&self, init: &Init<'_>) -> NodeAttention {
        let (s1, s2) = (self.s1, self.s2);
        let embedded = (self.features / s1).max(1);
        let related = (self.nodes / s1).max(1);
        let relation = self.terms != Terms::Visual;
        let visual = self.terms != Terms::Relation;
        let inputs = usize::from(visual) + if relation { related } else { 0 };
        let hidden = (inputs / s2).max(1);
        let of_node = || pointwise(self.features, embedded, init);
        let mut attention = NodeAttention {
            theta: relation.then(of_node),
            phi: relation.then(of_node),
            psi: visual.then(of_node),
            varphi: relation.then(|| pointwise(2 * self.nodes, related, init)),
            w1: pointwise(inputs, hidden, init),
            w2: pointwise(hidden, 1, init),
        };
        if let (Some(gate), (_, Some(norm))) = (self.initial_gate, &mut attention.w2) {
            norm.bias = initial_gate::constant_bias(initial_gate::logit(gate), 1, init);
        }
        attention
    }
}

/// The three layers of the relation term.
struct RelationLayers<'a> {
    theta: &'a Pointwise,
    phi: &'a Pointwise,
    varphi: &'a Pointwise,
}

/// The features of all nodes in the memory layout of the feature map. Converting one layout into the other
/// would copy the whole feature map. Positions keep their layout until they are embedded, since on GPUs the
/// channels are the innermost dimension.
#[derive(Clone)]
pub(super) enum Nodes {
    /// The nodes are positions: `[batch, D, height, width]`.
    Positions(Tensor<4>),
    /// One row of features per node, `[batch · N, D]`, and the number of images.
    Rows(Tensor<2>, usize),
}

impl Nodes {
    /// Nodes of a tensor whose second dimension is the nodes, `[batch, N, ...]`.
    pub(super) fn rows<const K: usize>(features: Tensor<K>) -> Self {
        let [batch, nodes] = [features.dims()[0], features.dims()[1]];
        let each = features.shape().num_elements() / (batch * nodes);
        Self::Rows(features.reshape([batch * nodes, each]), batch)
    }

    /// Computes `relu(bn(W · x))`, `[batch, outputs, N, 1]`.
    fn embed(&self, layer: &Pointwise) -> Tensor<4> {
        match self {
            Self::Positions(features) => {
                let embedded = embed(layer, features.clone());
                let [batch, outputs, height, width] = embedded.dims();
                embedded.reshape([batch, outputs, height * width, 1])
            }
            Self::Rows(rows, batch) => {
                let ([all, inputs], dtype) = (rows.dims(), rows.dtype());
                let weight = layer.0.weight.val().cast(dtype);
                let [outputs, _, _, _] = weight.dims();
                let weight = weight.reshape([outputs, inputs]).transpose();
                let products = rows.clone().matmul(weight);
                let products = products.reshape([*batch, all / batch, outputs]).transpose();
                relu_of_norm(layer, products.unsqueeze_dim(3))
            }
        }
    }

    fn dtype(&self) -> DType {
        match self {
            Self::Positions(features) => features.dtype(),
            Self::Rows(rows, _) => rows.dtype(),
        }
    }
}

impl NodeAttention {
    /// Computes the attention of every node, `[batch, 1, N, 1]`.
    pub(super) fn forward(&self, nodes: &Nodes) -> Tensor<4> {
        let layers = self.relation_layers();
        let related = layers.map(|layers| layers.factorised(nodes));
        self.attention(nodes, related)
    }

    /// Computes the attention of every node from the N x N relations, and returns the relations too,
    /// `[batch, N, N]`; `None` without the relation term.
    pub(super) fn with_relations(&self, nodes: &Nodes) -> (Tensor<4>, Option<Tensor<3>>) {
        let Some(layers) = self.relation_layers() else {
            return (self.attention(nodes, None), None);
        };
        let relations = layers.relations(nodes);
        let related = layers.published(relations.clone());
        (self.attention(nodes, Some(related)), Some(relations))
    }

    fn relation_layers(&self) -> Option<RelationLayers<'_>> {
        Some(RelationLayers {
            theta: self.theta.as_ref()?,
            phi: self.phi.as_ref()?,
            varphi: self.varphi.as_ref()?,
        })
    }

    fn attention(&self, nodes: &Nodes, related: Option<Tensor<4>>) -> Tensor<4> {
        let dtype = nodes.dtype();
        let visual = |psi| widened(nodes.embed(psi).mean_dim(1));
        let terms = self.psi.as_ref().map(visual).into_iter().chain(related);
        sigmoid(normalised(&self.w2, self.hidden(terms))).cast(dtype)
    }

    /// Computes `relu(bn(W₁ · y))` as a sum over the terms. Concatenating them would copy the larger one.
    fn hidden(&self, terms: impl Iterator<Item = Tensor<4>>) -> Tensor<4> {
        let (conv, _) = &self.w1;
        let mut offset = 0;
        let part = |term: Tensor<4>| {
            let [_, width, _, _] = term.dims();
            let weight = conv.weight.val().cast(term.dtype());
            let weight = weight.slice(s![.., offset..offset + width]);
            offset += width;
            let options = ConvOptions::new([1, 1], [0, 0], [1, 1], 1);
            reid_ops::conv2d(term, weight, None, options)
        };
        let sum = terms.map(part).reduce(Tensor::add);
        let sum = sum.expect("attention has at least one term");
        relu_of_norm(&self.w1, sum)
    }

    /// Folds every batch normalisation into the convolution before it.
    pub(super) fn fold_batch_norm(self) -> Self {
        Self {
            theta: self.theta.map(fold_batch_norm),
            phi: self.phi.map(fold_batch_norm),
            psi: self.psi.map(fold_batch_norm),
            varphi: self.varphi.map(fold_batch_norm),
            w1: fold_batch_norm(self.w1),
            w2: fold_batch_norm(self.w2),
        }
    }
}

impl RelationLayers<'_> {
    /// Computes Θ and Φ, `[batch, D/s₁, N]`, in at least single precision, which all later steps keep.
    /// Products of many features are large before they are normalised, and half precision ends at 65504.
    fn embedded(&self, nodes: &Nodes) -> [Tensor<3>; 2] {
        [self.theta, self.phi].map(|layer| widened(nodes.embed(layer).squeeze_dim(3)))
    }

    /// Computes `relu(bn((Wₐ Φᵀ) Θ + (W_b Θᵀ) Φ))`, `[batch, N/s₁, N, 1]`.
    fn factorised(&self, nodes: &Nodes) -> Tensor<4> {
        let [theta, phi] = self.embedded(nodes);
        let [batch, embedded, count] = theta.dims();
        let weight = self.weight(theta.dtype());
        let [related, pairs] = weight.dims();
        let weight = weight.transpose();
        let product = |features: Tensor<3>, half: Range<usize>| {
            let rows = features.reshape([batch * embedded, count]);
            let product = rows.matmul(weight.clone().slice(s![half, ..]));
            product.reshape([batch, embedded, related])
        };
        let of_row = product(phi.clone(), 0..count);
        let of_column = product(theta.clone(), count..pairs);
        let matrices = Tensor::cat(vec![of_row, of_column], 1);
        let nodes = Tensor::cat(vec![theta, phi], 1);
        self.normalised(matrices.transpose().matmul(nodes))
    }

    /// Computes the relations `rᵢⱼ = θᵢ · ϕⱼ`, `[batch, N, N]`.
    fn relations(&self, nodes: &Nodes) -> Tensor<3> {
        let [theta, phi] = self.embedded(nodes);
        theta.transpose().matmul(phi)
    }

    /// Computes `relu(bn(φ · [r(p, :), r(:, p)]))` as published, `[batch, N/s₁, N, 1]`.
    fn published(&self, relations: Tensor<3>) -> Tensor<4> {
        let pairs = Tensor::cat(vec![relations.clone().transpose(), relations], 1);
        let weight = self.weight(pairs.dtype()).unsqueeze_dim::<3>(0);
        self.normalised(weight.matmul(pairs))
    }

    /// The weights `[Wₐ | W_b]`, `[N/s₁, 2 N]`.
    fn weight(&self, dtype: DType) -> Tensor<2> {
        let weight = self.varphi.0.weight.val().cast(dtype);
        let [related, pairs, _, _] = weight.dims();
        weight.reshape([related, pairs])
    }

    fn normalised(&self, related: Tensor<3>) -> Tensor<4> {
        relu_of_norm(self.varphi, related.unsqueeze_dim(3))
    }
}

#[cfg(test)]
mod tests {
    use burn::{
        module::{ModuleMapper, Param},
        tensor::Distribution,
    };

    use burn::tensor::Device;

    use super::*;
    use crate::fixtures;

    struct ToHalf;

    impl ModuleMapper for ToHalf {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|value| value.detach().cast(DType::F16))
        }
    }

    fn attention(device: &Device) -> NodeAttention {
        let config = NodeAttentionConfig {
            features: 8,
            nodes: 12,
            s1: 2,
            s2: 2,
            terms: Terms::Both,
            initial_gate: None,
        };
        config.init(&fixtures::init(device))
    }

    #[test]
    fn relations_beyond_the_range_of_half_precision_do_not_overflow() {
        let device = Device::default();
        assert!(device.supports_dtype(DType::F16), "Flex has half precision");
        let mut single = fixtures::weights(attention(&device));
        for embedding in [&mut single.theta, &mut single.phi].into_iter().flatten() {
            let (_, norm) = embedding;
            let norm = norm.as_mut().expect("not folded");
            norm.weight = Param::from_tensor(Tensor::full([4], 500.0, &device));
        }
        let features = fixtures::tensor([2, 8, 12], -2.0..2.0, &device);
        let nodes = Nodes::Positions(features.clone().unsqueeze_dim(3));
        let (expected, relations) = single.with_relations(&nodes);
        let largest = relations.expect("relations").max().into_scalar::<f32>();
        assert!(largest > 65504.0, "the largest relation is only {largest}");

        let half = single.map(&mut ToHalf);
        let nodes = Nodes::Positions(features.cast(DType::F16).unsqueeze_dim(3));
        let found = half.forward(&nodes);
        assert_eq!(found.dtype(), DType::F16);
        let difference = (found.cast(DType::F32) - expected).abs().max();
        let difference = difference.into_scalar::<f32>();
        assert!(difference < 1e-2, "{difference}");
    }

    #[test]
    fn both_layouts_and_folded_batch_norm_give_the_same_attention() {
        let device = Device::default();
        let training = device.clone().autodiff();
        let plain = attention(&training);
        let random = |device| Tensor::<3>::random([4, 8, 12], Distribution::Default, device);
        // Updates the running statistics.
        let _ = plain.forward(&Nodes::Positions(random(&training).unsqueeze_dim(3)));
        let (plain, features) = (plain.valid(), random(&device));
        let nodes = Nodes::Positions(features.clone().unsqueeze_dim(3));
        let transposed = Nodes::rows(features.transpose());
        let expected = plain.forward(&nodes);
        let folded = plain.clone().fold_batch_norm();
        for found in [
            plain.forward(&transposed),
            folded.forward(&nodes),
            folded.forward(&transposed),
            folded.with_relations(&nodes).0,
        ] {
            let difference = (found - expected.clone()).abs().max().into_scalar::<f32>();
            assert!(difference < 1e-5, "{difference}");
        }
    }
}
