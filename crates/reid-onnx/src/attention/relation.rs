//! Relation-aware global attention in the graph, in its published form with the N x N relations.

use reid_core::FeatureShape;
use reid_nn::attention::{NodeAttention, RgaChannel, RgaSpatial};

use super::pointwise;
use crate::{
    block::{
        Activation::{None, Relu},
        LowerGate,
    },
    error::Error,
    graph::{Scope, Value},
};

impl LowerGate for RgaSpatial {
    fn lower_gate(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<3>, Error> {
        let [channels, height, width] = checked_dims("RGA-S", self.input, features);
        let scope = &mut scope.at("nodes");
        let nodes = scope.reshape(features, [channels, height * width, 1]);
        let attention = node_attention(scope, &self.nodes, &nodes)?;
        Ok(scope.reshape(&attention, [1, height, width]))
    }
}

impl LowerGate for RgaChannel {
    fn lower_gate(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<3>, Error> {
        let [channels, height, width] = checked_dims("RGA-C", self.input, features);
        let scope = &mut scope.at("nodes");
        let rows = scope.reshape(features, [channels, height * width]);
        let columns = scope.transpose(&rows);
        let nodes = scope.reshape(&columns, [height * width, channels, 1]);
        let attention = node_attention(scope, &self.nodes, &nodes)?;
        Ok(scope.reshape(&attention, [channels, 1, 1]))
    }
}

/// Checks that the features have the shape that the block was built for, and returns their dimensions.
fn checked_dims(name: &str, built: FeatureShape, features: &Value<3>) -> [usize; 3] {
    let found = features.dims;
    assert!(
        found == [built.channels, built.height, built.width],
        "{name} was built for features of {built} and got {found:?}"
    );
    found
}

/// Adds the attention of N nodes with D features, `[D, N, 1]`: one factor per node, `[1, N, 1]`.
fn node_attention(
    scope: &mut Scope<'_>,
    layers: &NodeAttention,
    nodes: &Value<3>,
) -> Result<Value<3>, Error> {
    let mut terms = Vec::new();
    if let Some(psi) = &layers.psi {
        let visual = pointwise(scope, "psi", psi, nodes, Relu)?;
        terms.push(scope.mean_channels(&visual));
    }
    if let (Some(theta), Some(phi), Some(varphi)) = (&layers.theta, &layers.phi, &layers.varphi) {
        let count = nodes.dims[1];
        let [theta, phi] =
            [("theta", theta), ("phi", phi)].map(|(name, layer)| -> Result<_, Error> {
                let embedded = pointwise(scope, name, layer, nodes, Relu)?;
                Ok(scope.reshape(&embedded, [embedded.dims[0], count]))
            });
        let theta = scope.transpose(&theta?);
        let relations = scope.matmul(&theta, &phi?);
        let transposed = scope.transpose(&relations);
        let pairs = scope.concat(&[transposed, relations]);
        let pairs = scope.reshape(&pairs, [2 * count, count, 1]);
        terms.push(pointwise(scope, "varphi", varphi, &pairs, Relu)?);
    }
    let terms = scope.concat(&terms);
    let hidden = pointwise(scope, "w1", &layers.w1, &terms, Relu)?;
    let factors = pointwise(scope, "w2", &layers.w2, &hidden, None)?;
    Ok(scope.sigmoid(&factors))
}
