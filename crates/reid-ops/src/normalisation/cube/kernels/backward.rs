//! The GPU kernels of the backward pass of batch normalisation.

use burn_cubecl::cubecl::{self, ir::ElemType, prelude::*};

use super::{map, passed, total};
use crate::cube::rows::{AHEAD, position, sum_column};

/// Computes `Σ dy` and `Σ dy·(x - mean)` of each chunk.
#[cube(launch)]
pub(in super::super) fn totals<E: Float, N: Size>(
    input: &Tensor<Vector<E, N>>,
    gradient: &Tensor<Vector<E, N>>,
    partial: &mut Tensor<Vector<f32, N>>,
    gamma: &[Vector<f32, N>],
    bias: &[Vector<f32, N>],
    mean: &[Vector<f32, N>],
    variance: &[Vector<f32, N>],
    epsilon: f32,
    rows: usize,
    width: usize,
    pitch: usize,
    gradient_pitch: usize,
    per_chunk: usize,
    #[comptime] relu: bool,
    #[comptime] units: usize,
    #[define(E)] _dtype: ElemType,
) {
    let position = position(rows, width, per_chunk);
    let map = map::<N>(gamma, bias, mean, variance, position.column, epsilon);
    let mut sum = Vector::<f32, N>::new(0.0f32);
    let mut along = Vector::<f32, N>::new(0.0f32);
    let step = CUBE_DIM_Y as usize;
    let mut row = position.first;
    while row < position.end {
        #[unroll]
        for ahead in 0..AHEAD {
            let row = row + ahead as usize * step;
            if row < position.end {
                let x = Vector::<f32, N>::cast_from(input[row * pitch + position.column]);
                let dy = gradient[row * gradient_pitch + position.column];
                let centred = x - map.mean;
                let dy = passed::<N>(&map, centred, Vector::cast_from(dy), relu);
                sum += dy;
                along += dy * centred;
            }
        }
        row += AHEAD as usize * step;
    }
    let (sum, along) = sum_column::<N>(sum, along, units);
    if position.exists && UNIT_POS_Y == 0 {
        let chunk = 2 * CUBE_POS_Y as usize * width + position.column;
        partial[chunk] = sum;
        partial[chunk + width] = along;
    }
}

/// As [`totals`], for the gradient multiplied by the derivative of the ReLU that gave `output`. That
/// gradient is written to `masked`.
#[cube(launch)]
pub(in super::super) fn relu_totals<E: Float, N: Size>(
    input: &Tensor<Vector<E, N>>,
    output: &Tensor<Vector<E, N>>,
    gradient: &Tensor<Vector<E, N>>,
    masked: &mut Tensor<Vector<E, N>>,
    partial: &mut Tensor<Vector<f32, N>>,
    mean: &[Vector<f32, N>],
    rows: usize,
    width: usize,
    pitch: usize,
    output_pitch: usize,
    gradient_pitch: usize,
    per_chunk: usize,
    #[comptime] units: usize,
    #[define(E)] _dtype: ElemType,
) {
    let position = position(rows, width, per_chunk);
    let mean = mean[position.column];
    let zero = Vector::new(0.0f32);
    let mut sum = Vector::<f32, N>::new(0.0f32);
    let mut along = Vector::<f32, N>::new(0.0f32);
    let step = CUBE_DIM_Y as usize;
    let mut row = position.first;
    while row < position.end {
        #[unroll]
        for ahead in 0..AHEAD {
            let row = row + ahead as usize * step;
            if row < position.end {
                let x = Vector::<f32, N>::cast_from(input[row * pitch + position.column]);
                let y = Vector::<f32, N>::cast_from(output[row * output_pitch + position.column]);
                let dy =
                    Vector::<f32, N>::cast_from(gradient[row * gradient_pitch + position.column]);
                let dy = select_many(y.less_equal(&zero), zero, dy);
                if position.exists {
                    masked[row * width + position.column] = Vector::cast_from(dy);
                }
                sum += dy;
                along += dy * (x - mean);
            }
        }
        row += AHEAD as usize * step;
    }
    let (sum, along) = sum_column::<N>(sum, along, units);
    if position.exists && UNIT_POS_Y == 0 {
        let chunk = 2 * CUBE_POS_Y as usize * width + position.column;
        partial[chunk] = sum;
        partial[chunk + width] = along;
    }
}

/// Computes the gradients with respect to weight and bias.
#[cube(launch)]
pub(in super::super) fn parameters<N: Size>(
    partial: &Tensor<Vector<f32, N>>,
    variance: &Tensor<Vector<f32, N>>,
    by_gamma: &mut Tensor<Vector<f32, N>>,
    by_bias: &mut Tensor<Vector<f32, N>>,
    epsilon: f32,
    chunks: usize,
    width: usize,
    #[comptime] units: usize,
) {
    let position = position(chunks, width, chunks);
    let (sum, along) = total::<N>(partial, &position, width, units);
    if position.exists && UNIT_POS_Y == 0 {
        let deviation = (variance[position.column] + Vector::new(epsilon)).sqrt();
        by_gamma[position.column] = along / deviation;
        by_bias[position.column] = sum;
    }
}

/// Computes `dx = γ/√(σ² + ε) · (dy - dβ/n - x̂·dγ/n)`.
#[cube(launch)]
pub(in super::super) fn input_gradient<E: Float, N: Size>(
    input: &Tensor<Vector<E, N>>,
    gradient: &Tensor<Vector<E, N>>,
    result: &mut Tensor<Vector<E, N>>,
    gamma: &[Vector<f32, N>],
    bias: &[Vector<f32, N>],
    mean: &[Vector<f32, N>],
    variance: &[Vector<f32, N>],
    by_gamma: &[Vector<f32, N>],
    by_bias: &[Vector<f32, N>],
    epsilon: f32,
    count: f32,
    rows: usize,
    width: usize,
    pitch: usize,
    gradient_pitch: usize,
    per_chunk: usize,
    #[comptime] relu: bool,
    #[define(E)] _dtype: ElemType,
) {
    let position = position(rows, width, per_chunk);
    if position.exists {
        let map = map::<N>(gamma, bias, mean, variance, position.column, epsilon);
        let level = by_bias[position.column] / Vector::new(count);
        let slope = by_gamma[position.column] * map.inverse / Vector::new(count);
        let step = CUBE_DIM_Y as usize;
        let mut row = position.first;
        while row < position.end {
            #[unroll]
            for ahead in 0..AHEAD {
                let row = row + ahead as usize * step;
                if row < position.end {
                    let x = Vector::<f32, N>::cast_from(input[row * pitch + position.column]);
                    let dy = gradient[row * gradient_pitch + position.column];
                    let centred = x - map.mean;
                    let dy = passed::<N>(&map, centred, Vector::cast_from(dy), relu);
                    let dx = map.scale * (dy - level - centred * slope);
                    result[row * width + position.column] = Vector::cast_from(dx);
                }
            }
            row += AHEAD as usize * step;
        }
    }
}
