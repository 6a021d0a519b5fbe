//! Parallel and resized gates in the graph.

use reid_nn::{
    attention::{CombineGates, FixedSize, Parallel, Resized},
    resample::{Alignment, RoiAlign},
};

use crate::{
    block::LowerGate,
    error::Error,
    graph::{Scope, Value},
};

impl<A: LowerGate, B: LowerGate> LowerGate for Parallel<A, B> {
    fn lower_gate(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<3>, Error> {
        let (one, other) = &self.gates;
        let one = one.lower_gate(&mut scope.at("gates").at(0), features)?;
        let other = other.lower_gate(&mut scope.at("gates").at(1), features)?;
        Ok(match self.combine {
            CombineGates::Product => scope.mul(&one, &other),
            CombineGates::Mean => {
                let sum = scope.add(&one, &other);
                scope.scale(&sum, 0.5)
            }
        })
    }
}

impl<G: LowerGate> LowerGate for Resized<G> {
    fn lower_gate(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<3>, Error> {
        let [_, height, width] = features.dims;
        if [height, width] == self.size {
            return self.gate.lower_gate(&mut scope.at("gate"), features);
        }
        let pool = &mut scope.at("pool");
        let pooled = match self.pooling {
            FixedSize::Average => pool.adaptive_avg_pool(features, self.size),
            FixedSize::RoiAlign => pool.roi_align(features, &RoiAlign::new(self.size)),
            _ => return Err(pool.unsupported("a pooling that this version knows", "another one")),
        };
        let gate = self.gate.lower_gate(&mut scope.at("gate"), &pooled)?;
        let [_, rows, columns] = gate.dims;
        if [rows, columns] == [1, 1] {
            return Ok(gate); // a gate over channels has one position, which broadcasts to all
        }
        let resize = &mut scope.at("resize");
        Ok(resize.resize(&gate, [height, width], Alignment::Edges))
    }
}
