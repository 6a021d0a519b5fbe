//! `MobileNetV2`.

use reid_nn::backbone::{InvertedResidual, MobileNetV2};

use super::layer;
use crate::{
    block::{
        Activation::{self, Relu6},
        LowerBlock,
    },
    error::Error,
    graph::{Scope, Value},
};

/// The layers of each of the four stages after the first layer, which belongs to the stem.
const STAGES: [std::ops::Range<usize>; 4] = [1..2, 2..3, 3..5, 5..7];

impl<A: LowerBlock> LowerBlock for MobileNetV2<A> {
    fn lower_block(&self, scope: &mut Scope<'_>, images: &Value<3>) -> Result<Value<3>, Error> {
        let stem = layer(&mut scope.at("stem"), &self.stem, images, Relu6)?;
        let mut features = self.layers[0].lower_block(&mut scope.at("layers").at(0), &stem)?;
        for (stage, layers) in STAGES.into_iter().enumerate() {
            for index in layers {
                let scope = &mut scope.at("layers");
                features = self.layers[index].lower_block(&mut scope.at(index), &features)?;
            }
            if stage == 3 {
                features = layer(&mut scope.at("last"), &self.last, &features, Relu6)?;
            }
            let after = &self.after[stage];
            features = after.lower_block(&mut scope.at("after").at(stage), &features)?;
        }
        Ok(features)
    }
}

impl LowerBlock for InvertedResidual {
    fn lower_block(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<3>, Error> {
        let hidden = match &self.expand {
            Some(expand) => layer(&mut scope.at("expand"), expand, features, Relu6)?,
            None => features.clone(),
        };
        let hidden = layer(&mut scope.at("depthwise"), &self.depthwise, &hidden, Relu6)?;
        let scope_of_last = &mut scope.at("project");
        let output = layer(scope_of_last, &self.project, &hidden, Activation::None)?;
        if self.residual {
            return Ok(scope.add(&output, features));
        }
        Ok(output)
    }
}
