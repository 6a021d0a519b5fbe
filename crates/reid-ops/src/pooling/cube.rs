//! Global average pooling on GPUs, in one pass over features with channels innermost.

#![expect(
    clippy::used_underscore_binding,
    reason = "the dtypes of a kernel are arguments of its launch only"
)]

use burn::tensor::DType;
use burn_cubecl::{
    CubeBackend,
    cubecl::{self, ir::ElemType, prelude::*},
    tensor::CubeTensor,
};

use super::extension::AvgPool;
use crate::cube::{
    Rows, elem_type, empty,
    rows::{AHEAD, Plan, position, sum_column},
};

/// Computes the mean of the rows of each image, for a vector of channels.
#[cube(launch)]
fn means<E: Float, N: Size>(
    input: &Tensor<Vector<E, N>>,
    means: &mut Tensor<Vector<f32, N>>,
    rows: usize,
    width: usize,
    pitch: usize,
    per_image: usize,
    #[comptime] units: usize,
    #[define(E)] _dtype: ElemType,
) {
    let position = position(rows, width, per_image);
    let mut sum = Vector::<f32, N>::new(0.0f32);
    let step = CUBE_DIM_Y as usize;
    let mut row = position.first;
    while row < position.end {
        #[unroll]
        for ahead in 0..AHEAD {
            let row = row + ahead as usize * step;
            if row < position.end {
                sum += Vector::<f32, N>::cast_from(input[row * pitch + position.column]);
            }
        }
        row += AHEAD as usize * step;
    }
    let (sum, _) = sum_column::<N>(sum, sum, units);
    if position.exists && UNIT_POS_Y == 0 {
        let count = Vector::new(per_image as f32);
        means[CUBE_POS_Y as usize * width + position.column] = sum / count;
    }
}

impl AvgPool for CubeBackend {
    fn global_average(maps: CubeTensor) -> CubeTensor {
        let rows = Rows::new(maps);
        let images = rows.tensor.meta.shape()[0];
        let plan = Plan::of_images(&rows, &[rows.pitch], images);
        let output = empty(&rows.tensor, [images, rows.channels()], DType::F32);
        means::launch(
            &output.client,
            plan.cubes(plan.chunks),
            plan.cube(),
            plan.vector,
            rows.tensor.clone().into_tensor_arg(),
            output.clone().into_tensor_arg(),
            plan.rows,
            plan.width,
            rows.pitch / plan.vector,
            plan.per_chunk,
            plan.units(),
            elem_type(rows.tensor.dtype),
        );
        output
    }
}
