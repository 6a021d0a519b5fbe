//! Decode heads of segmentation models, and their context blocks.

use reid_nn::segmentation::{Aspp, DecodeHead, PyramidPooling};

use crate::{
    backbone::layer,
    block::{
        Activation::{None, Relu},
        LowerBlock,
    },
    error::Error,
    graph::{Scope, Value},
};

impl LowerBlock for PyramidPooling {
    fn lower_block(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<3>, Error> {
        let [_, height, width] = features.dims;
        let mut all = vec![features.clone()];
        for (index, (conv, &bins)) in self.features.iter().zip(&self.bins).enumerate() {
            let scope = &mut scope.at(format_args!("features.{index}"));
            let pooled = scope.adaptive_avg_pool(features, [bins, bins]);
            let grid = layer(scope, conv, &pooled, Relu)?;
            all.push(scope.resize(&grid, [height, width], self.alignment));
        }
        Ok(scope.concat(&all))
    }
}

impl LowerBlock for Aspp {
    fn lower_block(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<3>, Error> {
        let [_, height, width] = features.dims;
        let mut all = Vec::with_capacity(self.convs.len());
        for (index, conv) in self.convs.iter().enumerate() {
            let scope = &mut scope.at(format_args!("convs.{index}"));
            all.push(if index + 1 == self.convs.len() {
                let mean = scope.global_avg_pool(features);
                let mean = layer(scope, conv, &mean, Relu)?;
                scope.expand(&mean, [height, width])
            } else {
                layer(scope, conv, features, Relu)?
            });
        }
        let Some(project) = &self.project else {
            all.rotate_right(1); // the mean is first
            return Ok(scope.concat(&all));
        };
        let all = scope.concat(&all);
        layer(&mut scope.at("project"), project, &all, Relu)
    }
}

/// The logits of every position.
impl<C: LowerBlock, A: LowerBlock> LowerBlock for DecodeHead<C, A> {
    fn lower_block(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<3>, Error> {
        let context = self
            .context
            .lower_block(&mut scope.at("context"), features)?;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "ONNX stores it in single precision"
        )]
        let slope = self.negative_slope as f32;
        let activation = if slope == 0.0 { Relu } else { None };
        let mut hidden = layer(&mut scope.at("conv"), &self.conv, &context, activation)?;
        if slope != 0.0 {
            hidden = scope.leaky_relu(&hidden, slope);
        }
        if let Some(attention) = &self.attention {
            let attended = attention.lower_block(&mut scope.at("attention"), &hidden)?;
            hidden = scope.concat(&[hidden, attended]);
        }
        scope.at("classifier").conv2d(&self.classifier, &hidden)
    }
}
