//! The GPU kernels of batch normalisation in training.

#![expect(
    clippy::used_underscore_binding,
    reason = "the dtypes of a kernel are arguments of its launch only"
)]

use burn_cubecl::cubecl::{self, ir::ElemType, prelude::*};

use crate::cube::rows::{AHEAD, Position, floored, position, sum_column};

mod backward;

pub(super) use backward::{input_gradient, parameters, relu_totals, totals};

/// The affine map of a vector of channels, with the factors of its gradient.
#[derive(CubeType, Clone, Copy)]
struct Map<N: Size> {
    mean: Vector<f32, N>,
    /// `1/√(σ² + ε)`
    inverse: Vector<f32, N>,
    /// `γ/√(σ² + ε)`
    scale: Vector<f32, N>,
    bias: Vector<f32, N>,
}

/// Computes the affine map of the vector of channels at `column`.
#[cube]
fn map<N: Size>(
    gamma: &[Vector<f32, N>],
    bias: &[Vector<f32, N>],
    mean: &[Vector<f32, N>],
    variance: &[Vector<f32, N>],
    column: usize,
    epsilon: f32,
) -> Map<N> {
    let deviation = (variance[column] + Vector::new(epsilon)).sqrt();
    let inverse = Vector::new(1.0f32) / deviation;
    Map::<N> {
        mean: mean[column],
        inverse,
        scale: gamma[column] * inverse,
        bias: bias[column],
    }
}

/// Applies the affine map to centred values, `x - mean`.
#[cube]
fn at<N: Size>(map: &Map<N>, centred: Vector<f32, N>) -> Vector<f32, N> {
    centred * map.scale + map.bias
}

/// The gradient with respect to the value before the ReLU, if there is one: 0 where the ReLU gave 0.
#[cube]
fn passed<N: Size>(
    map: &Map<N>,
    centred: Vector<f32, N>,
    gradient: Vector<f32, N>,
    #[comptime] relu: bool,
) -> Vector<f32, N> {
    if relu {
        let zero = Vector::new(0.0f32);
        select_many(at::<N>(map, centred).less_equal(&zero), zero, gradient)
    } else {
        gradient
    }
}

/// Sums the values of each chunk and their squares, `[chunks, 2, channels]`. The values of the first row
/// are subtracted first, so that no precision is lost where the mean is far from 0.
#[cube(launch)]
pub(super) fn moments<E: Float, N: Size>(
    input: &Tensor<Vector<E, N>>,
    partial: &mut Tensor<Vector<f32, N>>,
    rows: usize,
    width: usize,
    pitch: usize,
    per_chunk: usize,
    #[comptime] units: usize,
    #[define(E)] _dtype: ElemType,
) {
    let position = position(rows, width, per_chunk);
    let pivot = Vector::<f32, N>::cast_from(input[position.column]);
    let mut sum = Vector::<f32, N>::new(0.0f32);
    let mut squares = Vector::<f32, N>::new(0.0f32);
    let step = CUBE_DIM_Y as usize;
    let mut row = position.first;
    while row < position.end {
        #[unroll]
        for ahead in 0..AHEAD {
            let row = row + ahead as usize * step;
            if row < position.end {
                let from =
                    Vector::<f32, N>::cast_from(input[row * pitch + position.column]) - pivot;
                sum += from;
                squares += from * from;
            }
        }
        row += AHEAD as usize * step;
    }
    let (sum, squares) = sum_column::<N>(sum, squares, units);
    if position.exists && UNIT_POS_Y == 0 {
        let chunk = 2 * CUBE_POS_Y as usize * width + position.column;
        partial[chunk] = sum;
        partial[chunk + width] = squares;
    }
}

/// Adds the sums of all chunks, in one row of cubes.
#[cube]
fn total<N: Size>(
    partial: &Tensor<Vector<f32, N>>,
    position: &Position,
    width: usize,
    #[comptime] units: usize,
) -> (Vector<f32, N>, Vector<f32, N>) {
    let mut left = Vector::<f32, N>::new(0.0f32);
    let mut right = Vector::<f32, N>::new(0.0f32);
    let step = CUBE_DIM_Y as usize;
    let mut chunk = position.first;
    while chunk < position.end {
        #[unroll]
        for ahead in 0..AHEAD {
            let chunk = chunk + ahead as usize * step;
            if chunk < position.end {
                let at = 2 * chunk * width + position.column;
                left += partial[at];
                right += partial[at + width];
            }
        }
        chunk += AHEAD as usize * step;
    }
    sum_column::<N>(left, right, units)
}

/// Computes mean and variance of all rows. The result is valid in the unit with `UNIT_POS_Y` 0.
#[cube]
fn moments_of_all<E: Float, N: Size>(
    input: &Tensor<Vector<E, N>>,
    partial: &Tensor<Vector<f32, N>>,
    position: &Position,
    width: usize,
    count: f32,
    #[comptime] units: usize,
) -> (Vector<f32, N>, Vector<f32, N>) {
    let (sum, squares) = total::<N>(partial, position, width, units);
    let pivot = Vector::<f32, N>::cast_from(input[position.column]);
    let from = sum / Vector::new(count);
    let spread = squares / Vector::new(count) - from * from;
    let zero = Vector::new(0.0f32);
    (
        pivot + from,
        select_many(spread.less_than(&zero), zero, spread),
    )
}

/// Computes mean and variance of all rows.
#[cube(launch)]
pub(super) fn statistics<E: Float, N: Size>(
    input: &Tensor<Vector<E, N>>,
    partial: &Tensor<Vector<f32, N>>,
    mean: &mut Tensor<Vector<f32, N>>,
    variance: &mut Tensor<Vector<f32, N>>,
    chunks: usize,
    width: usize,
    count: f32,
    #[comptime] units: usize,
    #[define(E)] _dtype: ElemType,
) {
    let position = position(chunks, width, chunks);
    let (centre, spread) = moments_of_all::<E, N>(input, partial, &position, width, count, units);
    if position.exists && UNIT_POS_Y == 0 {
        mean[position.column] = centre;
        variance[position.column] = spread;
    }
}

/// Computes mean and variance of all rows, and updates running statistics with them.
#[cube(launch)]
pub(super) fn update_statistics<E: Float, N: Size>(
    input: &Tensor<Vector<E, N>>,
    partial: &Tensor<Vector<f32, N>>,
    running_mean: &[Vector<f32, N>],
    running_variance: &[Vector<f32, N>],
    mean: &mut Tensor<Vector<f32, N>>,
    variance: &mut Tensor<Vector<f32, N>>,
    new_mean: &mut Tensor<Vector<f32, N>>,
    new_variance: &mut Tensor<Vector<f32, N>>,
    chunks: usize,
    width: usize,
    count: f32,
    momentum: f32,
    unbiased: f32,
    #[comptime] units: usize,
    #[define(E)] _dtype: ElemType,
) {
    let position = position(chunks, width, chunks);
    let (centre, spread) = moments_of_all::<E, N>(input, partial, &position, width, count, units);
    if position.exists && UNIT_POS_Y == 0 {
        let kept = Vector::new(1.0 - momentum);
        let share = Vector::new(momentum);
        mean[position.column] = centre;
        variance[position.column] = spread;
        new_mean[position.column] = running_mean[position.column] * kept + centre * share;
        let spread = spread * Vector::new(unbiased);
        new_variance[position.column] = running_variance[position.column] * kept + spread * share;
    }
}

/// Computes the normalised features.
#[cube(launch)]
pub(super) fn apply<E: Float, N: Size>(
    input: &Tensor<Vector<E, N>>,
    output: &mut Tensor<Vector<E, N>>,
    gamma: &[Vector<f32, N>],
    bias: &[Vector<f32, N>],
    mean: &[Vector<f32, N>],
    variance: &[Vector<f32, N>],
    epsilon: f32,
    rows: usize,
    width: usize,
    pitch: usize,
    per_chunk: usize,
    #[comptime] relu: bool,
    #[define(E)] _dtype: ElemType,
) {
    let position = position(rows, width, per_chunk);
    if position.exists {
        let map = map::<N>(gamma, bias, mean, variance, position.column, epsilon);
        let step = CUBE_DIM_Y as usize;
        let mut row = position.first;
        while row < position.end {
            #[unroll]
            for ahead in 0..AHEAD {
                let row = row + ahead as usize * step;
                if row < position.end {
                    let x = Vector::<f32, N>::cast_from(input[row * pitch + position.column]);
                    let y = at::<N>(&map, x - map.mean);
                    let y = passed::<N>(&map, x - map.mean, y, relu);
                    output[row * width + position.column] = Vector::cast_from(y);
                }
            }
            row += AHEAD as usize * step;
        }
    }
}

/// Computes the normalised features, adds a shortcut and applies a ReLU.
#[cube(launch)]
pub(super) fn apply_onto<E: Float, N: Size>(
    input: &Tensor<Vector<E, N>>,
    shortcut: &Tensor<Vector<E, N>>,
    output: &mut Tensor<Vector<E, N>>,
    gamma: &[Vector<f32, N>],
    bias: &[Vector<f32, N>],
    mean: &[Vector<f32, N>],
    variance: &[Vector<f32, N>],
    epsilon: f32,
    rows: usize,
    width: usize,
    pitch: usize,
    shortcut_pitch: usize,
    per_chunk: usize,
    #[define(E)] _dtype: ElemType,
) {
    let position = position(rows, width, per_chunk);
    if position.exists {
        let map = map::<N>(gamma, bias, mean, variance, position.column, epsilon);
        let step = CUBE_DIM_Y as usize;
        let mut row = position.first;
        while row < position.end {
            #[unroll]
            for ahead in 0..AHEAD {
                let row = row + ahead as usize * step;
                if row < position.end {
                    let x = Vector::<f32, N>::cast_from(input[row * pitch + position.column]);
                    let other = shortcut[row * shortcut_pitch + position.column];
                    let y = at::<N>(&map, x - map.mean) + Vector::cast_from(other);
                    output[row * width + position.column] =
                        Vector::cast_from(floored::<N>(y, true));
                }
            }
            row += AHEAD as usize * step;
        }
    }
}
