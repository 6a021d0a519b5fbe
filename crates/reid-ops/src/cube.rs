//! Helpers shared by the GPU kernels.
//!
//! Burn's convolutions write features with channels innermost, and the kernels of this crate keep that
//! order. They see features as rows of channels ([`Rows`]) and read vectors of channels. Kernels are
//! written in `CubeCL` and safe Rust.
//!
//! Operations of a backend extension are not fused with others, and Burn's kernels read one value at a time
//! where they combine such features with a value per channel. Therefore epilogues, gates and average
//! pooling have kernels here.

use burn::tensor::{DType, Shape};
use burn_cubecl::{
    cubecl::ir::{ElemType, FloatKind},
    kernel::into_contiguous,
    ops::{numeric::empty_device_contiguous_dtype, permute},
    tensor::CubeTensor,
};

pub(crate) mod rows;

/// Features as rows of channels.
#[derive(Clone)]
pub(crate) struct Rows {
    pub(crate) tensor: CubeTensor,
    /// The distance from one row to the next, in values.
    pub(crate) pitch: usize,
}

impl Rows {
    /// Views features, `[batch, channels, ...]`, as rows. They are copied if their rows are not equally
    /// spaced.
    pub(crate) fn new(features: CubeTensor) -> Self {
        let rank = features.meta.num_dims();
        let order: Vec<usize> = [0].into_iter().chain(2..rank).chain([1]).collect();
        let rows = permute(features, &order);
        if let Some(pitch) = pitch(rows.meta.shape(), rows.meta.strides()) {
            return Self {
                tensor: rows,
                pitch,
            };
        }
        let tensor = into_contiguous(rows);
        let pitch = tensor.meta.shape()[rank - 1];
        Self { tensor, pitch }
    }

    /// Allocates a contiguous tensor of the same shape and dtype.
    pub(crate) fn empty_like(&self) -> CubeTensor {
        let shape = self.tensor.meta.shape().clone();
        empty(&self.tensor, shape, self.tensor.dtype)
    }

    /// Allocates `lists` values per channel, in single precision.
    pub(crate) fn per_channel(&self, lists: usize) -> CubeTensor {
        empty(&self.tensor, [lists * self.channels()], DType::F32)
    }

    /// The vector size for values of `bytes` bytes in rows at these distances.
    pub(crate) fn vector(&self, pitches: &[usize], bytes: usize) -> usize {
        let channels = self.channels();
        let fits = |vector: &usize| {
            let fits = |size: &usize| size.is_multiple_of(*vector);
            fits(&channels) && pitches.iter().all(fits)
        };
        let sizes = self.tensor.client.io_optimized_vector_sizes(bytes);
        sizes.filter(fits).max().unwrap_or(1)
    }

    /// The vector size in the dtype of the features, the number of vectors per row, and their total number.
    pub(crate) fn vectors(&self, pitches: &[usize]) -> [usize; 3] {
        let vector = self.vector(pitches, self.tensor.dtype.size());
        let width = self.channels() / vector;
        [vector, width, width * self.count()]
    }

    pub(crate) fn channels(&self) -> usize {
        self.tensor.meta.shape()[self.tensor.meta.num_dims() - 1]
    }

    pub(crate) fn count(&self) -> usize {
        self.tensor.meta.num_elements() / self.channels()
    }
}

/// Allocates a contiguous tensor on the device of another one.
pub(crate) fn empty(like: &CubeTensor, shape: impl Into<Shape>, dtype: DType) -> CubeTensor {
    let (client, device) = (like.client.clone(), like.device.clone());
    empty_device_contiguous_dtype(client, device, shape.into(), dtype)
}

/// The distance from one row to the next, if it is constant.
fn pitch(shape: &[usize], strides: &[usize]) -> Option<usize> {
    let last = shape.len() - 1;
    if strides[last] != 1 && shape[last] != 1 {
        return None;
    }
    let (mut pitch, mut rows) = (None, 1);
    for (size, stride) in shape[..last].iter().zip(&strides[..last]).rev() {
        if *size > 1 {
            let pitch = *pitch.get_or_insert(*stride);
            if pitch < shape[last] || *stride != pitch * rows {
                return None;
            }
            rows *= size;
        }
    }
    Some(pitch.unwrap_or(shape[last]))
}

/// Views features `[batch, ..., channels]` as `[batch, channels, ...]`.
pub(crate) fn channels_second(rows: CubeTensor) -> CubeTensor {
    let last = rows.meta.num_dims() - 1;
    let order: Vec<usize> = [0, last].into_iter().chain(1..last).collect();
    permute(rows, &order)
}

/// The element type of a kernel for a dtype.
pub(crate) fn elem_type(dtype: DType) -> ElemType {
    ElemType::Float(match dtype {
        DType::F16 => FloatKind::F16,
        DType::BF16 => FloatKind::BF16,
        _ => FloatKind::F32,
    })
}

/// Rounds a scalar argument of a kernel to single precision.
#[expect(
    clippy::cast_possible_truncation,
    reason = "kernels compute in single precision"
)]
pub(crate) fn single(value: f64) -> f32 {
    value as f32
}
