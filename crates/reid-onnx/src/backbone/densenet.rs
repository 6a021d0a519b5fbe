//! `DenseNet`.

use reid_nn::backbone::{DenseLayer, DenseNet, Stem, Transition};

use super::stem_pool;
use crate::{
    block::{Activation::Relu, LowerBlock, conv_norm},
    error::Error,
    graph::{Scope, Value},
};

impl<A: LowerBlock> LowerBlock for DenseNet<A> {
    fn lower_block(&self, scope: &mut Scope<'_>, images: &Value<3>) -> Result<Value<3>, Error> {
        let mut features = if self.stem == Stem::Small {
            scope.at("conv0").conv2d(&self.conv0, images)?
        } else {
            let layers = (&self.conv0, self.norm0.as_ref());
            let stem = conv_norm(scope, ["conv0", "norm0"], layers, images, Relu)?;
            stem_pool(scope, self.stem, stem)
        };
        let last = if self.denseblock4.is_empty() { 2 } else { 3 };
        for (index, (layers, transition)) in self.blocks().into_iter().enumerate() {
            let number = index + 1;
            for (layer, dense) in layers.iter().enumerate() {
                let scope = &mut scope.at(format!("denseblock{number}"));
                features = dense.lower_block(&mut scope.at(layer), &features)?;
            }
            if let Some(transition) = transition {
                let scope = &mut scope.at(format!("transition{number}"));
                features = transition.lower_block(scope, &features)?;
            }
            if index == last {
                let normalised = scope.at("norm5").batch_norm(&self.norm5, &features);
                features = scope.relu(&normalised);
            }
            let after = &self.after[index];
            features = after.lower_block(&mut scope.at("after").at(index), &features)?;
        }
        Ok(features)
    }
}

impl LowerBlock for DenseLayer {
    fn lower_block(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<3>, Error> {
        let normalised = scope.at("norm1").batch_norm(&self.norm1, features);
        let hidden = scope.relu(&normalised);
        let new = match &self.conv2 {
            None => scope.at("conv1").conv2d(&self.conv1, &hidden)?,
            Some(conv2) => {
                let layers = (&self.conv1, self.norm2.as_ref());
                let hidden = conv_norm(scope, ["conv1", "norm2"], layers, &hidden, Relu)?;
                scope.at("conv2").conv2d(conv2, &hidden)?
            }
        };
        Ok(scope.concat(&[features.clone(), new]))
    }
}

impl LowerBlock for Transition {
    fn lower_block(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<3>, Error> {
        let normalised = scope.at("norm").batch_norm(&self.norm, features);
        let hidden = scope.relu(&normalised);
        let features = scope.at("conv").conv2d(&self.conv, &hidden)?;
        Ok(scope.avg_pool(&features, 2, 2))
    }
}
