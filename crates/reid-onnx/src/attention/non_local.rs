//! Non-local attention and the two blocks of FNC in the graph.

use burn::nn::conv::Conv2d;
use reid_nn::attention::{ChannelGate, Combine, FncChannel, FncSpatial, NonLocal, Similarity};

use super::{pointwise, softmax_attention};
use crate::{
    block::{
        Activation::{None, Relu},
        LowerBlock, LowerGate, conv_norm,
    },
    error::Error,
    graph::{Scope, Value},
};

impl LowerBlock for NonLocal {
    fn lower_block(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<3>, Error> {
        let [_, height, width] = features.dims;
        let layers = [("theta", &self.theta), ("phi", &self.phi), ("g", &self.g)];
        let embedded = embedded(scope, layers, features)?;
        let sums = match self.similarity {
            Similarity::EmbeddedGaussian => softmax_attention(scope, &embedded),
            Similarity::DotProduct => {
                let [theta, phi, g] = &embedded;
                let phi = scope.transpose(phi);
                let products = scope.matmul(g, &phi);
                let products = scope.matmul(&products, theta);
                scope.scale(&products, 1.0 / (height * width) as f32)
            }
        };
        let sums = scope.reshape(&sums, [sums.dims[0], height, width]);
        let attention = pointwise(scope, "w", &self.w, &sums, None)?;
        Ok(scope.add(&attention, features))
    }
}

impl LowerBlock for FncSpatial {
    fn lower_block(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<3>, Error> {
        let [_, height, width] = features.dims;
        let layers = [("g", &self.g), ("h", &self.h), ("p", &self.p)];
        let embedded = embedded(scope, layers, features)?;
        let sums = softmax_attention(scope, &embedded);
        let sums = scope.reshape(&sums, [sums.dims[0], height, width]);
        let attention = scope.at("t").conv2d(&self.t, &sums)?;
        Ok(combined(scope, self.combine, &attention, features))
    }
}

impl LowerBlock for FncChannel {
    fn lower_block(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<3>, Error> {
        let first = (&self.conv1, self.bn1.as_ref());
        let hidden = conv_norm(scope, ["conv1", "bn1"], first, features, Relu)?;
        let second = (&self.conv2, self.bn2.as_ref());
        let hidden = conv_norm(scope, ["conv2", "bn2"], second, &hidden, Relu)?;
        let result = scope.at("conv3").conv2d(&self.conv3, &hidden)?;
        match self.gate {
            ChannelGate::Map => {
                let attention = self.se.lower_block(&mut scope.at("se"), &result)?;
                Ok(combined(scope, self.combine, &attention, features))
            }
            ChannelGate::Vector => {
                let gate = self.se.lower_gate(&mut scope.at("se"), &result)?;
                Ok(match self.combine {
                    Combine::Multiply => scope.mul(features, &gate),
                    Combine::Add => scope.add(features, &gate),
                })
            }
        }
    }
}

/// Adds the three 1 x 1 convolutions of an attention, as matrices with one column per position.
fn embedded(
    scope: &mut Scope<'_>,
    layers: [(&str, &Conv2d); 3],
    features: &Value<3>,
) -> Result<[Value<2>; 3], Error> {
    let [_, height, width] = features.dims;
    let [query, key, value] = layers.map(|(name, conv)| -> Result<_, Error> {
        let embedded = scope.at(name).conv2d(conv, features)?;
        Ok(scope.reshape(&embedded, [embedded.dims[0], height * width]))
    });
    Ok([query?, key?, value?])
}

/// Adds `σ(a) ⊙ x` or `a + x`.
fn combined(
    scope: &mut Scope<'_>,
    combine: Combine,
    attention: &Value<3>,
    features: &Value<3>,
) -> Value<3> {
    match combine {
        Combine::Multiply => {
            let factors = scope.sigmoid(attention);
            scope.mul(&factors, features)
        }
        Combine::Add => scope.add(attention, features),
    }
}
