//! Endings on GPUs, with numbers of channels added, in one kernel over features as they lie there, with
//! channels innermost.

#![expect(
    clippy::used_underscore_binding,
    reason = "a kernel's types of numbers are arguments of its launch alone"
)]

use burn::backend::{Backend, backend_extension, tensor::FloatTensor};
use burn_cubecl::{
    CubeBackend,
    cubecl::{self, calculate_cube_count_elemwise, ir::ElemType, prelude::*},
    kernel::into_contiguous,
    tensor::CubeTensor,
};

use crate::cube::{Rows, channels_second, rows::floored, values};

/// What is added to features, in their type; without a gradient.
#[backend_extension(
    Cube: cfg(native_cube),
    Fusion: cfg(native_cube),
)]
pub(super) trait Shift: Backend {
    /// A number of each channel; then negative results become 0, or not.
    #[fusion(dtype = features, shape = features)]
    fn shifted(
        features: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        relu: bool,
    ) -> FloatTensor<Self>;

    /// A number of each channel and a shortcut; then negative results become 0.
    #[fusion(dtype = features, shape = features)]
    fn shifted_onto(
        features: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        shortcut: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// Features and a number of each channel.
#[cube(launch)]
fn add_shift<E: Float, N: Size>(
    features: &Tensor<Vector<E, N>>,
    shift: &[Vector<E, N>],
    output: &mut Tensor<Vector<E, N>>,
    total: usize,
    width: usize,
    pitch: usize,
    #[comptime] relu: bool,
    #[define(E)] _numbers: ElemType,
) {
    let at = ABSOLUTE_POS;
    if at < total {
        let (row, column) = (at / width, at % width);
        let x = Vector::<f32, N>::cast_from(features[row * pitch + column]);
        let x = x + Vector::cast_from(shift[column]);
        output[at] = Vector::cast_from(floored::<N>(x, relu));
    }
}

/// Features, a number of each channel and a shortcut, rectified.
#[cube(launch)]
fn add_shift_onto<E: Float, N: Size>(
    features: &Tensor<Vector<E, N>>,
    shift: &[Vector<E, N>],
    shortcut: &Tensor<Vector<E, N>>,
    output: &mut Tensor<Vector<E, N>>,
    total: usize,
    width: usize,
    pitch: usize,
    shortcut_pitch: usize,
    #[define(E)] _numbers: ElemType,
) {
    let at = ABSOLUTE_POS;
    if at < total {
        let (row, column) = (at / width, at % width);
        let x = Vector::<f32, N>::cast_from(features[row * pitch + column]);
        let other = Vector::<f32, N>::cast_from(shortcut[row * shortcut_pitch + column]);
        let x = x + Vector::cast_from(shift[column]) + other;
        output[at] = Vector::cast_from(floored::<N>(x, true));
    }
}

impl Shift for CubeBackend {
    fn shifted(features: CubeTensor, shift: CubeTensor, relu: bool) -> CubeTensor {
        let (rows, shift) = (Rows::new(features), into_contiguous(shift));
        let [vector, width, total] = rows.vectors(&[rows.pitch]);
        let (client, output) = (rows.tensor.client.clone(), rows.empty_like());
        let cube = CubeDim::new(&client, total);
        add_shift::launch(
            &client,
            calculate_cube_count_elemwise(&client, total, cube),
            cube,
            vector,
            rows.tensor.clone().into_tensor_arg(),
            shift.into_buffer_arg(),
            output.clone().into_tensor_arg(),
            total,
            width,
            rows.pitch / vector,
            relu,
            values(rows.tensor.dtype),
        );
        channels_second(output)
    }

    fn shifted_onto(features: CubeTensor, shift: CubeTensor, shortcut: CubeTensor) -> CubeTensor {
        let (rows, shortcut) = (Rows::new(features), Rows::new(shortcut));
        let shift = into_contiguous(shift);
        let [vector, width, total] = rows.vectors(&[rows.pitch, shortcut.pitch]);
        let (client, output) = (rows.tensor.client.clone(), rows.empty_like());
        let cube = CubeDim::new(&client, total);
        add_shift_onto::launch(
            &client,
            calculate_cube_count_elemwise(&client, total, cube),
            cube,
            vector,
            rows.tensor.clone().into_tensor_arg(),
            shift.into_buffer_arg(),
            shortcut.tensor.into_tensor_arg(),
            output.clone().into_tensor_arg(),
            total,
            width,
            rows.pitch / vector,
            shortcut.pitch / vector,
            values(rows.tensor.dtype),
        );
        channels_second(output)
    }
}
