//! Epilogues on GPUs: one kernel adds a value per channel and applies the epilogue, over features with
//! channels innermost.
//!
//! Burn's kernels read one value at a time where they combine such features with a value per channel. This
//! kernel reads vectors.

#![expect(
    clippy::used_underscore_binding,
    reason = "the dtypes of a kernel are arguments of its launch only"
)]

use burn::backend::{Backend, backend_extension, tensor::FloatTensor};
use burn_cubecl::{
    CubeBackend,
    cubecl::{self, calculate_cube_count_elemwise, ir::ElemType, prelude::*},
    kernel::into_contiguous,
    tensor::CubeTensor,
};

use crate::cube::{Rows, channels_second, elem_type, rows::floored};

/// Addition of a value per channel to features, in the dtype of the features. There is no backward pass.
#[backend_extension(
    Cube: cfg(native_cube),
    Fusion: cfg(native_cube),
)]
pub(super) trait Shift: Backend {
    /// Adds a value to each channel, and applies a ReLU if `relu` is true.
    #[fusion(dtype = features, shape = features)]
    fn shifted(
        features: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        relu: bool,
    ) -> FloatTensor<Self>;

    /// Adds a value to each channel and a shortcut, then applies a ReLU.
    #[fusion(dtype = features, shape = features)]
    fn shifted_onto(
        features: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        shortcut: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// Adds a value to each channel, with or without a ReLU.
#[cube(launch)]
fn add_shift<E: Float, N: Size>(
    features: &Tensor<Vector<E, N>>,
    shift: &[Vector<E, N>],
    output: &mut Tensor<Vector<E, N>>,
    total: usize,
    width: usize,
    pitch: usize,
    #[comptime] relu: bool,
    #[define(E)] _dtype: ElemType,
) {
    let at = ABSOLUTE_POS;
    if at < total {
        let (row, column) = (at / width, at % width);
        let x = Vector::<f32, N>::cast_from(features[row * pitch + column]);
        let x = x + Vector::cast_from(shift[column]);
        output[at] = Vector::cast_from(floored::<N>(x, relu));
    }
}

/// Adds a value to each channel and a shortcut, then applies a ReLU.
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
    #[define(E)] _dtype: ElemType,
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
            elem_type(rows.tensor.dtype),
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
            elem_type(rows.tensor.dtype),
        );
        channels_second(output)
    }
}
