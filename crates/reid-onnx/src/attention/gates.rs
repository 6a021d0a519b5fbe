//! Squeeze-and-excitation, CBAM and fully connected attention in the graph.

use reid_nn::attention::{
    CbamChannel, CbamSpatial, FullyConnectedChannel, FullyConnectedSpatial, SqueezeExcitation,
};

use super::pointwise;
use crate::{
    block::{
        Activation::{None, Relu},
        LowerGate, conv_norm,
    },
    error::Error,
    graph::{Scope, Value},
};

impl LowerGate for SqueezeExcitation {
    fn lower_gate(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<3>, Error> {
        let pooled = scope.global_avg_pool(features);
        let hidden = scope.at("fc1").conv2d(&self.fc1, &pooled)?;
        let hidden = scope.relu(&hidden);
        let factors = scope.at("fc2").conv2d(&self.fc2, &hidden)?;
        Ok(scope.sigmoid(&factors))
    }
}

impl LowerGate for CbamChannel {
    fn lower_gate(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<3>, Error> {
        let pooled = [
            scope.global_avg_pool(features),
            scope.global_max_pool(features),
        ];
        let mut factors = Vec::with_capacity(pooled.len());
        for pooled in pooled {
            let hidden = scope.at("fc1").conv2d(&self.fc1, &pooled)?;
            let hidden = scope.relu(&hidden);
            factors.push(scope.at("fc2").conv2d(&self.fc2, &hidden)?);
        }
        let sum = scope.add(&factors[0], &factors[1]);
        Ok(scope.sigmoid(&sum))
    }
}

impl LowerGate for CbamSpatial {
    fn lower_gate(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<3>, Error> {
        let pooled = [scope.mean_channels(features), scope.max_channels(features)];
        let pooled = scope.concat(&pooled);
        let layers = (&self.conv, self.norm.as_ref());
        let factors = conv_norm(scope, ["conv", "norm"], layers, &pooled, None)?;
        Ok(scope.sigmoid(&factors))
    }
}

impl LowerGate for FullyConnectedChannel {
    fn lower_gate(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<3>, Error> {
        let embedded = pointwise(scope, "embed", &self.embed, features, Relu)?;
        let pooled = scope.global_avg_pool(&embedded);
        let pooled = scope.flatten(&pooled);
        let factors = scope.at("fc").linear(&self.fc, &pooled);
        let factors = scope.sigmoid(&factors);
        Ok(scope.reshape(&factors, [features.dims[0], 1, 1]))
    }
}

impl LowerGate for FullyConnectedSpatial {
    fn lower_gate(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<3>, Error> {
        let [_, height, width] = features.dims;
        let embedded = pointwise(scope, "embed", &self.embed, features, Relu)?;
        let pooled = scope.mean_channels(&embedded);
        let pooled = scope.reshape(&pooled, [height * width]);
        let hidden = scope.at("fc1").linear(&self.fc1, &pooled);
        let hidden = scope.relu(&hidden);
        let factors = scope.at("fc2").linear(&self.fc2, &hidden);
        let factors = scope.sigmoid(&factors);
        Ok(scope.reshape(&factors, [1, height, width]))
    }
}
