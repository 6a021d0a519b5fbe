//! Of the backward pass.

use burn_cubecl::cubecl::{self, ir::ElemType, prelude::*};

use super::{map, passed, total};
use crate::cube::rows::{AHEAD, place, sum_column};

/// `Σ dy` and `Σ dy·(x - mean)` of each chunk.
#[cube(launch)]
pub(in super::super) fn totals<E: Float, N: Size>(
    input: &Tensor<Vector<E, N>>,
    gradient: &Tensor<Vector<E, N>>,
    partial: &mut Tensor<Vector<f32, N>>,
    gain: &[Vector<f32, N>],
    bias: &[Vector<f32, N>],
    mean: &[Vector<f32, N>],
    variance: &[Vector<f32, N>],
    epsilon: f32,
    rows: usize,
    width: usize,
    pitch: usize,
    gradient_pitch: usize,
    per_chunk: usize,
    #[comptime] rectify: bool,
    #[comptime] units: usize,
    #[define(E)] _numbers: ElemType,
) {
    let place = place(rows, width, per_chunk);
    let map = map::<N>(gain, bias, mean, variance, place.column, epsilon);
    let mut sum = Vector::<f32, N>::new(0.0f32);
    let mut along = Vector::<f32, N>::new(0.0f32);
    let step = CUBE_DIM_Y as usize;
    let mut row = place.first;
    while row < place.end {
        #[unroll]
        for ahead in 0..AHEAD {
            let row = row + ahead as usize * step;
            if row < place.end {
                let x = Vector::<f32, N>::cast_from(input[row * pitch + place.column]);
                let dy = gradient[row * gradient_pitch + place.column];
                let centred = x - map.mean;
                let dy = passed::<N>(&map, centred, Vector::cast_from(dy), rectify);
                sum += dy;
                along += dy * centred;
            }
        }
        row += AHEAD as usize * step;
    }
    let (sum, along) = sum_column::<N>(sum, along, units);
    if place.there && UNIT_POS_Y == 0 {
        let chunk = 2 * CUBE_POS_Y as usize * width + place.column;
        partial[chunk] = sum;
        partial[chunk + width] = along;
    }
}

/// The same of what passes back through a rectifier with this output, which is kept.
#[cube(launch)]
pub(in super::super) fn passed_totals<E: Float, N: Size>(
    input: &Tensor<Vector<E, N>>,
    output: &Tensor<Vector<E, N>>,
    gradient: &Tensor<Vector<E, N>>,
    passed: &mut Tensor<Vector<E, N>>,
    partial: &mut Tensor<Vector<f32, N>>,
    mean: &[Vector<f32, N>],
    rows: usize,
    width: usize,
    pitch: usize,
    output_pitch: usize,
    gradient_pitch: usize,
    per_chunk: usize,
    #[comptime] units: usize,
    #[define(E)] _numbers: ElemType,
) {
    let place = place(rows, width, per_chunk);
    let mean = mean[place.column];
    let zero = Vector::new(0.0f32);
    let mut sum = Vector::<f32, N>::new(0.0f32);
    let mut along = Vector::<f32, N>::new(0.0f32);
    let step = CUBE_DIM_Y as usize;
    let mut row = place.first;
    while row < place.end {
        #[unroll]
        for ahead in 0..AHEAD {
            let row = row + ahead as usize * step;
            if row < place.end {
                let x = Vector::<f32, N>::cast_from(input[row * pitch + place.column]);
                let y = Vector::<f32, N>::cast_from(output[row * output_pitch + place.column]);
                let dy = Vector::<f32, N>::cast_from(gradient[row * gradient_pitch + place.column]);
                let dy = select_many(y.less_equal(&zero), zero, dy);
                if place.there {
                    passed[row * width + place.column] = Vector::cast_from(dy);
                }
                sum += dy;
                along += dy * (x - mean);
            }
        }
        row += AHEAD as usize * step;
    }
    let (sum, along) = sum_column::<N>(sum, along, units);
    if place.there && UNIT_POS_Y == 0 {
        let chunk = 2 * CUBE_POS_Y as usize * width + place.column;
        partial[chunk] = sum;
        partial[chunk + width] = along;
    }
}

/// The gradients by gain and bias.
#[cube(launch)]
pub(in super::super) fn parameters<N: Size>(
    partial: &Tensor<Vector<f32, N>>,
    variance: &Tensor<Vector<f32, N>>,
    by_gain: &mut Tensor<Vector<f32, N>>,
    by_bias: &mut Tensor<Vector<f32, N>>,
    epsilon: f32,
    chunks: usize,
    width: usize,
    #[comptime] units: usize,
) {
    let place = place(chunks, width, chunks);
    let (sum, along) = total::<N>(partial, &place, width, units);
    if place.there && UNIT_POS_Y == 0 {
        let deviation = (variance[place.column] + Vector::new(epsilon)).sqrt();
        by_gain[place.column] = along / deviation;
        by_bias[place.column] = sum;
    }
}

/// `dx = γ/√(σ² + ε) · (dy - dβ/n - x̂·dγ/n)`
#[cube(launch)]
pub(in super::super) fn pull_back<E: Float, N: Size>(
    input: &Tensor<Vector<E, N>>,
    gradient: &Tensor<Vector<E, N>>,
    result: &mut Tensor<Vector<E, N>>,
    gain: &[Vector<f32, N>],
    bias: &[Vector<f32, N>],
    mean: &[Vector<f32, N>],
    variance: &[Vector<f32, N>],
    by_gain: &[Vector<f32, N>],
    by_bias: &[Vector<f32, N>],
    epsilon: f32,
    count: f32,
    rows: usize,
    width: usize,
    pitch: usize,
    gradient_pitch: usize,
    per_chunk: usize,
    #[comptime] rectify: bool,
    #[define(E)] _numbers: ElemType,
) {
    let place = place(rows, width, per_chunk);
    if place.there {
        let map = map::<N>(gain, bias, mean, variance, place.column, epsilon);
        let level = by_bias[place.column] / Vector::new(count);
        let slope = by_gain[place.column] * map.inverse / Vector::new(count);
        let step = CUBE_DIM_Y as usize;
        let mut row = place.first;
        while row < place.end {
            #[unroll]
            for ahead in 0..AHEAD {
                let row = row + ahead as usize * step;
                if row < place.end {
                    let x = Vector::<f32, N>::cast_from(input[row * pitch + place.column]);
                    let dy = gradient[row * gradient_pitch + place.column];
                    let centred = x - map.mean;
                    let dy = passed::<N>(&map, centred, Vector::cast_from(dy), rectify);
                    let dx = map.scale * (dy - level - centred * slope);
                    result[row * width + place.column] = Vector::cast_from(dx);
                }
            }
            row += AHEAD as usize * step;
        }
    }
}
