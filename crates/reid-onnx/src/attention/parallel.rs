//! Parallel and resized gates in the graph.

use reid_core::interpolation::LinearTap;
use reid_nn::{
    attention::{CombineGates, FixedSize, Parallel, Resized},
    resample::RoiAlign,
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

/// Pooling to a fixed size and bilinear resizing are linear, so each is a product with one matrix per axis.
impl<G: LowerGate> LowerGate for Resized<G> {
    fn lower_gate(&self, scope: &mut Scope<'_>, features: &Value<3>) -> Result<Value<3>, Error> {
        let [_, height, width] = features.dims;
        let [rows, columns] = self.size;
        if [height, width] == self.size {
            return self.gate.lower_gate(&mut scope.at("gate"), features);
        }
        let [down, across] = match self.pooling {
            FixedSize::Average => [means(height, rows), means(width, columns)],
            FixedSize::RoiAlign => RoiAlign::new(self.size)
                .matrices([height, width])
                .map(|weights| weights.into_iter().map(narrowed).collect()),
            _ => return Err(scope.unsupported("a pooling that this version knows", "another one")),
        };
        let across = transposed(&across, width);
        let pool = &mut scope.at("pool");
        let pooled = pool.between_matrices(features, (&down, &across), self.size);
        let gate = self.gate.lower_gate(&mut scope.at("gate"), &pooled)?;
        let [_, gate_rows, gate_columns] = gate.dims;
        if [gate_rows, gate_columns] == [1, 1] {
            return Ok(gate); // a gate over channels has one position, which broadcasts to all
        }
        let down = bilinear(gate_rows, height);
        let across = transposed(&bilinear(gate_columns, width), gate_columns);
        let resize = &mut scope.at("resize");
        Ok(resize.between_matrices(&gate, (&down, &across), [height, width]))
    }
}

/// The weight of each of `from` positions in each of `to` means, `[to, from]`. The windows of the means may
/// overlap.
fn means(from: usize, to: usize) -> Vec<f32> {
    let mut weights = vec![0.0; to * from];
    for (index, row) in weights.chunks_mut(from).enumerate() {
        let window = index * from / to..((index + 1) * from).div_ceil(to);
        let weight = 1.0 / window.len() as f32;
        row[window].fill(weight);
    }
    weights
}

/// The weight of each of `from` positions in each of `to` positions, interpolated linearly, `[to, from]`.
fn bilinear(from: usize, to: usize) -> Vec<f32> {
    let mut weights = vec![0.0; to * from];
    let taps = LinearTap::resize(from, to, 0..to);
    for (row, tap) in weights.chunks_mut(from).zip(taps) {
        row[tap.first] += 1.0 - tap.weight;
        row[tap.second] += tap.weight;
    }
    weights
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "ONNX stores it in single precision"
)]
fn narrowed(weight: f64) -> f32 {
    weight as f32
}

/// The transpose of a matrix in row-major order.
fn transposed(matrix: &[f32], columns: usize) -> Vec<f32> {
    let column = |column: usize| matrix.iter().skip(column).step_by(columns).copied();
    (0..columns).flat_map(column).collect()
}
