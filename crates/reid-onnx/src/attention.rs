//! Attention blocks in the graph.

mod gates;
mod non_local;
mod parallel;
mod relation;

use reid_nn::attention::{AnyGate, Attention, Pointwise};

use crate::{
    block::{Activation, LowerBlock, LowerGate, conv_norm},
    error::Error,
    graph::{Scope, Value},
};

impl LowerGate for AnyGate {
    fn lower_gate(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<3>, Error> {
        match self {
            Self::SqueezeExcitation(gate) => gate.lower_gate(scope, features),
            Self::CbamChannel(gate) => gate.lower_gate(scope, features),
            Self::CbamSpatial(gate) => gate.lower_gate(scope, features),
            Self::FullyConnectedChannel(gate) => gate.lower_gate(scope, features),
            Self::FullyConnectedSpatial(gate) => gate.lower_gate(scope, features),
            Self::RgaSpatial(gate) => gate.lower_gate(scope, features),
            Self::RgaChannel(gate) => gate.lower_gate(scope, features),
            _ => Err(scope.unsupported("a gate that this version knows", "another one")),
        }
    }
}

impl LowerBlock for Attention {
    fn lower_block(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<3>, Error> {
        match self {
            Self::SqueezeExcitation(block) => block.lower_block(scope, features),
            Self::CbamChannel(block) => block.lower_block(scope, features),
            Self::CbamSpatial(block) => block.lower_block(scope, features),
            Self::FullyConnectedChannel(block) => block.lower_block(scope, features),
            Self::FullyConnectedSpatial(block) => block.lower_block(scope, features),
            Self::RgaSpatial(block) => block.lower_block(scope, features),
            Self::RgaChannel(block) => block.lower_block(scope, features),
            Self::NonLocal(block) => block.lower_block(scope, features),
            Self::FncSpatial(block) => block.lower_block(scope, features),
            Self::FncChannel(block) => block.lower_block(scope, features),
            Self::Parallel(block) => block.lower_block(scope, features),
            Self::Resized(block) => block.lower_block(scope, features),
            Self::Chain(blocks) => blocks.lower_block(scope, features),
            _ => {
                Err(scope.unsupported("an attention block that this version knows", "another one"))
            }
        }
    }
}

/// Adds a 1 x 1 convolution with this name, its batch normalisation and an activation.
fn pointwise(
    scope: &mut Scope<'_>,
    name: &str,
    (conv, norm): &Pointwise,
    features: &Value<3>,
    activation: Activation,
) -> Result<Value<3>, Error> {
    let layers = (conv, norm.as_ref());
    conv_norm(
        &mut scope.at(name),
        ["0", "1"],
        layers,
        features,
        activation,
    )
}

/// Adds softmax attention, `z_i = Σⱼ softmaxⱼ(qᵢ · kⱼ) vⱼ`, of matrices with one column per position.
fn softmax_attention(scope: &mut Scope<'_>, [query, key, value]: &[Value<2>; 3]) -> Value<2> {
    let query = scope.transpose(query);
    let similarities = scope.matmul(&query, key);
    let weights = scope.softmax(&similarities);
    let weights = scope.transpose(&weights);
    scope.matmul(value, &weights)
}
