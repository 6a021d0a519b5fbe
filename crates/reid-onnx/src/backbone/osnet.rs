//! `OSNet` and its IBN and AIN forms, whole or split.

use reid_nn::backbone::{ConvNorm, LightConv, OsBlock, OsNet, OsNetLateStages, OsNetStage};

use super::stem_pool;
use crate::{
    block::{
        Activation::{self, Relu},
        LowerBlock, conv_norm, instance_norm,
    },
    error::Error,
    graph::{Scope, Value},
};

impl<A: LowerBlock> LowerBlock for OsNet<A> {
    fn lower_block(&self, scope: &mut Scope<'_>, images: &Value<3>) -> Result<Value<3>, Error> {
        let stem = layer(
            &mut scope.at("conv1"),
            &self.conv1,
            images,
            Activation::None,
        )?;
        let stem = instance_norm(scope, "in1", self.in1.as_ref(), stem);
        let stem = scope.relu(&stem);
        let mut features = stem_pool(scope, self.stem, stem);
        let stages = [
            ("conv2", &self.conv2, ("", None)),
            ("conv3", &self.conv3, ("pool2", self.pool2.as_ref())),
            ("conv4", &self.conv4, ("pool3", self.pool3.as_ref())),
        ];
        for (index, (name, stage, (pool, conv))) in stages.into_iter().enumerate() {
            features = transition(scope, pool, conv, features)?;
            features = stage.lower_block(&mut scope.at(name), &features)?;
            let after = &self.after[index];
            features = after.lower_block(&mut scope.at("after").at(index), &features)?;
        }
        features = pointwise(scope, "conv5", self.conv5.as_ref(), features)?;
        self.after[3].lower_block(&mut scope.at("after").at(3), &features)
    }
}

impl<A: LowerBlock> LowerBlock for OsNetLateStages<A> {
    fn lower_block(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<3>, Error> {
        let mut features = features.clone();
        for (index, (stage, after)) in self.stages.iter().zip(&self.after).enumerate() {
            features = stage.lower_block(&mut scope.at("stages").at(index), &features)?;
            features = after.lower_block(&mut scope.at("after").at(index), &features)?;
        }
        Ok(features)
    }
}

impl LowerBlock for OsNetStage {
    fn lower_block(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<3>, Error> {
        let conv = self.transition.as_ref();
        let features = transition(scope, "transition", conv, features.clone())?;
        let features = self
            .blocks
            .lower_block(&mut scope.at("blocks"), &features)?;
        pointwise(scope, "last", self.last.as_ref(), features)
    }
}

/// Adds the transition to a stage, if there is one.
fn transition(
    scope: &mut Scope<'_>,
    name: &str,
    conv: Option<&ConvNorm>,
    features: Value<3>,
) -> Result<Value<3>, Error> {
    if conv.is_none() {
        return Ok(features);
    }
    let features = pointwise(scope, name, conv, features)?;
    Ok(scope.at(name).avg_pool(&features, 2, 2))
}

/// Adds a 1 x 1 convolution with `ReLU`, if there is one.
fn pointwise(
    scope: &mut Scope<'_>,
    name: &str,
    conv: Option<&ConvNorm>,
    features: Value<3>,
) -> Result<Value<3>, Error> {
    match conv {
        Some(conv) => layer(&mut scope.at(name), conv, &features, Relu),
        None => Ok(features),
    }
}

impl LowerBlock for OsBlock {
    fn lower_block(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<3>, Error> {
        let shortcut = match &self.downsample {
            Some(conv) => {
                let scope = &mut scope.at("downsample");
                layer(scope, conv, features, Activation::None)?
            }
            None => features.clone(),
        };
        let hidden = layer(&mut scope.at("conv1"), &self.conv1, features, Relu)?;
        let first = self.conv2a.lower_block(&mut scope.at("conv2a"), &hidden)?;
        let mut sum = self.gate.lower_block(&mut scope.at("gate"), &first)?;
        let streams = [
            ("conv2b", &self.conv2b),
            ("conv2c", &self.conv2c),
            ("conv2d", &self.conv2d),
        ];
        for (name, stream) in streams {
            let scales = stream.lower_block(&mut scope.at(name), &hidden)?;
            let gated = self.gate.lower_block(&mut scope.at("gate"), &scales)?;
            sum = scope.add(&sum, &gated);
        }
        let residual = layer(&mut scope.at("conv3"), &self.conv3, &sum, Activation::None)?;
        let residual = instance_norm(scope, "in_residual", self.in_residual.as_ref(), residual);
        let sum = scope.add(&residual, &shortcut);
        let sum = instance_norm(scope, "in_sum", self.in_sum.as_ref(), sum);
        Ok(scope.relu(&sum))
    }
}

impl LowerBlock for LightConv {
    fn lower_block(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<3>, Error> {
        let hidden = scope.at("conv1").conv2d(&self.conv1, features)?;
        let layers = (&self.conv2, self.bn.as_ref());
        conv_norm(scope, ["conv2", "bn"], layers, &hidden, Relu)
    }
}

/// Adds a convolution, its normalisation and an activation.
pub(crate) fn layer(
    scope: &mut Scope<'_>,
    layer: &ConvNorm,
    features: &Value<3>,
    activation: Activation,
) -> Result<Value<3>, Error> {
    let layers = (&layer.conv, layer.bn.as_ref());
    conv_norm(scope, ["conv", "bn"], layers, features, activation)
}
