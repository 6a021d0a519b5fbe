//! The GPU kernels of gates.

#![expect(
    clippy::used_underscore_binding,
    reason = "the dtypes of a kernel are arguments of its launch only"
)]

use burn_cubecl::cubecl::{self, ir::ElemType, prelude::*};

use crate::cube::rows::{AHEAD, position, sum_column};

/// Multiplies features by a value per image and channel, `[batch, channels]`.
#[cube(launch)]
pub(super) fn gate_channels<E: Float, N: Size>(
    maps: &Tensor<Vector<E, N>>,
    factors: &[Vector<E, N>],
    output: &mut Tensor<Vector<E, N>>,
    total: usize,
    width: usize,
    per_image: usize,
    pitch: usize,
    #[define(E)] _dtype: ElemType,
) {
    let at = ABSOLUTE_POS;
    if at < total {
        let (row, column) = (at / width, at % width);
        let factor = Vector::<f32, N>::cast_from(factors[row / per_image * width + column]);
        let x = Vector::<f32, N>::cast_from(maps[row * pitch + column]);
        output[at] = Vector::cast_from(x * factor);
    }
}

/// Multiplies features by a value per image and position, `[batch, positions]`.
#[cube(launch)]
pub(super) fn gate_positions<E: Float, N: Size>(
    maps: &Tensor<Vector<E, N>>,
    factors: &[E],
    output: &mut Tensor<Vector<E, N>>,
    total: usize,
    width: usize,
    _per_image: usize,
    pitch: usize,
    #[define(E)] _dtype: ElemType,
) {
    let at = ABSOLUTE_POS;
    if at < total {
        let (row, column) = (at / width, at % width);
        let factor = Vector::<f32, N>::new(f32::cast_from(factors[row]));
        let x = Vector::<f32, N>::cast_from(maps[row * pitch + column]);
        output[at] = Vector::cast_from(x * factor);
    }
}

/// The gradients of [`gate_channels`]. There is one chunk of rows per image.
#[cube(launch)]
pub(super) fn by_channels<E: Float, N: Size>(
    maps: &Tensor<Vector<E, N>>,
    factors: &[Vector<E, N>],
    gradient: &Tensor<Vector<E, N>>,
    by_maps: &mut Tensor<Vector<E, N>>,
    by_factors: &mut [Vector<E, N>],
    rows: usize,
    width: usize,
    per_image: usize,
    pitch: usize,
    gradient_pitch: usize,
    #[comptime] units: usize,
    #[define(E)] _dtype: ElemType,
) {
    let position = position(rows, width, per_image);
    let of_image = CUBE_POS_Y as usize * width + position.column;
    let factor = Vector::<f32, N>::cast_from(factors[of_image]);
    let mut sum = Vector::<f32, N>::new(0.0f32);
    let step = CUBE_DIM_Y as usize;
    let mut row = position.first;
    while row < position.end {
        #[unroll]
        for ahead in 0..AHEAD {
            let row = row + ahead as usize * step;
            if row < position.end {
                let x = Vector::<f32, N>::cast_from(maps[row * pitch + position.column]);
                let dy =
                    Vector::<f32, N>::cast_from(gradient[row * gradient_pitch + position.column]);
                if position.exists {
                    by_maps[row * width + position.column] = Vector::cast_from(dy * factor);
                }
                sum += dy * x;
            }
        }
        row += AHEAD as usize * step;
    }
    let (sum, _) = sum_column::<N>(sum, sum, units);
    if position.exists && UNIT_POS_Y == 0 {
        by_factors[of_image] = Vector::cast_from(sum);
    }
}

/// The gradients of [`gate_positions`]. The units of one row of a cube share the channels of one row of
/// features.
#[cube(launch)]
pub(super) fn by_positions<E: Float, N: Size>(
    maps: &Tensor<Vector<E, N>>,
    factors: &[E],
    gradient: &Tensor<Vector<E, N>>,
    by_maps: &mut Tensor<Vector<E, N>>,
    by_factors: &mut [E],
    rows: usize,
    width: usize,
    _per_image: usize,
    pitch: usize,
    gradient_pitch: usize,
    #[comptime] units: usize,
    #[define(E)] _dtype: ElemType,
) {
    let row = (CUBE_POS_X * CUBE_DIM_Y + UNIT_POS_Y) as usize;
    let mut sums = Shared::<[f32]>::new_slice(units);
    let mut sum = Vector::<f32, N>::new(0.0f32);
    if row < rows {
        let factor = Vector::<f32, N>::new(f32::cast_from(factors[row]));
        let mut column = UNIT_POS_X as usize;
        while column < width {
            let x = Vector::<f32, N>::cast_from(maps[row * pitch + column]);
            let dy = Vector::<f32, N>::cast_from(gradient[row * gradient_pitch + column]);
            by_maps[row * width + column] = Vector::cast_from(dy * factor);
            sum += dy * x;
            column += CUBE_DIM_X as usize;
        }
    }
    let mut all = 0.0f32;
    #[unroll]
    for lane in 0..sum.vector_size() {
        all += sum.extract(lane);
    }
    let at = UNIT_POS as usize;
    sums[at] = all;
    sync_cube();
    let mut half = CUBE_DIM_X / 2;
    while half > 0 {
        if UNIT_POS_X < half {
            let more = sums[at + half as usize];
            sums[at] += more;
        }
        sync_cube();
        half /= 2;
    }
    if row < rows && UNIT_POS_X == 0 {
        by_factors[row] = E::cast_from(sums[at]);
    }
}
